//! Probes of a run against a `BTreeMap`, its records cut into tables anywhere, within a key too.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::{Home, Run, RunProbe, Table};
use crate::fs::SimFs;
use crate::iter::{Order, Record};
use crate::key::{DatabaseId, FileId, KeyHash, RunRank, Tag, Timestamp, ValueType};
use crate::table::{TableBuilder, TableContext, ValueCache};

type Records = BTreeMap<(Vec<u8>, Timestamp), (Tag, Vec<u8>)>;

fn records() -> impl Strategy<Value = Records> {
    let key = prop_oneof![
        6 => "[ab]{0,2}".prop_map(String::into_bytes),
        2 => "sparse/[a-z]{2}".prop_map(String::into_bytes),
        1 => vec(prop_oneof![Just(0), Just(0xff)], 0..3),
    ];
    let ts = prop_oneof![9 => 0..300_i64, 1 => prop::sample::select(vec![i64::MIN, i64::MAX])];
    let put = Tag::put(ValueType::Json);
    let record = prop_oneof![
        8 => (0..9999_u32).prop_map(move |n| (put, format!("{{\"n\":{n}}}").into_bytes())),
        2 => vec(any::<u8>(), 0..2000).prop_map(move |noise| (put, noise)),
        1 => Just((Tag::END, Vec::new())),
        1 => Just((Tag::ERASE, Vec::new())),
    ];
    btree_map((key, ts), record, 1..400)
}

/// A run of these records, a table for each part between two cuts.
fn run(records: &Records, cuts: &BTreeSet<usize>) -> Run {
    let (dir, database) = (PathBuf::from("/db"), DatabaseId(7));
    let fs = Arc::new(SimFs::new(1));
    let context = TableContext { cache: Arc::new(ValueCache::new(0)), metrics: Arc::default() };
    let home = Home::new(fs, dir, database, context, FileId(1));
    home.fs.create_dir_all(&home.dir).unwrap();
    let mut tables: Vec<Arc<Table>> = Vec::new();
    let mut builder = None;
    let finish = |builder: TableBuilder| {
        home.open_table(builder.finish(RunRank(1), (1, 2)).unwrap()).unwrap()
    };
    for (at, ((key, ts), (tag, value))) in records.iter().enumerate() {
        if cuts.contains(&at) {
            tables.extend(builder.take().map(finish));
        }
        let create = || TableBuilder::create(&*home.fs, &home.dir, database, home.new_file_id());
        let builder = builder.get_or_insert_with(|| create().unwrap());
        builder.add(&Record { key, ts: *ts, tag: *tag, value }).unwrap();
    }
    tables.extend(builder.map(finish));
    Run::new(tables).unwrap()
}

fn expected(records: &Records, key: &[u8], at: Timestamp) -> Option<(Timestamp, Tag, Vec<u8>)> {
    let range = (key.to_vec(), Timestamp::MIN)..=(key.to_vec(), at);
    let ((_, ts), (tag, value)) = records.range(range).next_back()?;
    Some((*ts, *tag, value.clone()))
}

fn floor(probe: &mut RunProbe<'_>, key: &[u8], at: Timestamp) -> Option<(Timestamp, Tag, Vec<u8>)> {
    let (ts, tag) = probe.floor(key, at).unwrap()?;
    let mut value = b"kept".to_vec();
    probe.value_into(&mut value).unwrap();
    Some((ts, tag, value.split_off(4)))
}

/// Walks from `bound` on, with floors at some moments of each key, in no order.
fn check_walk(
    run: &Run,
    records: &Records,
    bound: Bound<&[u8]>,
    order: Order,
    moments: &[Timestamp],
) {
    let keys: BTreeSet<_> = records.keys().map(|(key, _)| key.as_slice()).collect();
    let mut keys: Vec<_> = match order {
        Order::Ascending => keys.range::<[u8], _>((bound, Bound::Unbounded)).copied().collect(),
        Order::Descending => keys.range::<[u8], _>((Bound::Unbounded, bound)).copied().collect(),
    };
    if order == Order::Descending {
        keys.reverse();
    }
    let mut probe = RunProbe::new(run);
    probe.seek(bound, order).unwrap();
    for (number, key) in keys.into_iter().enumerate() {
        assert_eq!(probe.key(), Some(key));
        // Of some keys nothing is asked.
        for &at in moments.iter().skip(number % 3).take(number % 4) {
            assert_eq!(floor(&mut probe, key, at), expected(records, key, at), "{key:?} {at}");
        }
        assert_eq!(probe.key(), Some(key));
        probe.step(order).unwrap();
    }
    assert_eq!(probe.key(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_run_answers_as_its_records(
        records in records(),
        cuts in prop::collection::btree_set(1_usize..400, 0..5),
        moments in vec(prop_oneof![-5_i64..310, Just(i64::MIN), Just(i64::MAX)], 6),
        strangers in vec("[ab]{0,3}|sparse/[a-z]{2}|z", 3),
    ) {
        let run = run(&records, &cuts);
        let own = records.keys().map(|(key, _)| key.as_slice()).step_by(7);
        let bounds: Vec<_> = strangers.iter().map(String::as_bytes).chain(own).collect();
        for order in [Order::Ascending, Order::Descending] {
            check_walk(&run, &records, Bound::Unbounded, order, &moments);
            for key in &bounds {
                check_walk(&run, &records, Bound::Included(key), order, &moments);
                check_walk(&run, &records, Bound::Excluded(key), order, &moments);
            }
        }
        // Questions about any keys, in any order of key and time.
        let mut probe = RunProbe::new(&run);
        for key in bounds.iter().rev().chain(&bounds) {
            let begun = probe.begin(key, KeyHash::of(key), i64::MAX);
            for &at in &moments {
                let expected = expected(&records, key, at);
                prop_assert!(begun || expected.is_none());
                if begun {
                    prop_assert_eq!(floor(&mut probe, key, at), expected, "{:?} {}", key, at);
                }
            }
        }
    }
}
