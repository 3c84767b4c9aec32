//! The memtable under loom: one thread inserts, others read, in every order that threads and memory
//! allow. Whatever a reader meets half-way, it must answer as of the seq that it loaded.
//!
//! Scenes with one reader are explored to the end; with two of them, up to `PREEMPTIONS_MAX` switches
//! between threads at any place, or as many as `LOOM_MAX_PREEMPTIONS` says.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Count;

use loom::model::Builder;
use loom::thread;

use super::*;
use crate::iter::{Cursor, Order as KeyOrder};
use crate::key::{Tag, ValueType};

const PREEMPTIONS_MAX: usize = 3;

/// A value too long to be kept in its version.
const LONG: &[u8] = b"0123456789";

const PUT: Tag = Tag::put(ValueType::Octets);

fn op(tag: Tag, key: &'static str, ts: Timestamp, value: &'static [u8]) -> Op<'static> {
    Op { tag, key: key.as_bytes(), ts, value }
}

fn put(key: &'static str, ts: Timestamp, value: &'static [u8]) -> Op<'static> {
    op(PUT, key, ts, value)
}

/// What happens beside the readers.
#[derive(Clone)]
struct Scene {
    /// Inserted before the readers begin.
    before: Vec<Op<'static>>,
    /// Inserted and published one group after the other while they read.
    groups: Vec<Vec<Op<'static>>>,
}

/// What one reader asks. It has loaded `visible`, and `shown` is what was inserted up to there.
type Question = Box<dyn Fn(&Arc<Memtable>, SeqNo, &[Op<'static>]) + Send + Sync>;

impl Scene {
    fn all(&self) -> Vec<Op<'static>> {
        self.before.iter().chain(self.groups.iter().flatten()).copied().collect()
    }

    /// Explores the scene with one reader for each of the questions.
    fn explore(&self, questions: Vec<Question>) {
        let executions = Arc::new(Count::new(0));
        let mut model = Builder::new();
        if questions.len() > 1 {
            model.preemption_bound = model.preemption_bound.or(Some(PREEMPTIONS_MAX));
        }
        let (scene, counted) = (self.clone(), Arc::clone(&executions));
        let (all, questions) = (Arc::new(self.all()), Arc::new(questions));
        model.check(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let encoded_bytes = all.iter().map(|op| 11 + op.key.len() + op.value.len()).sum();
            let bytes_max = Memtable::insert_bytes_max(all.len(), encoded_bytes);
            let memtable = Arc::new(Memtable::new(bytes_max));
            let mut next_seq = memtable.writer().insert_all(1, scene.before.iter().copied());
            let visible = Arc::new(AtomicU64::new(next_seq - 1));
            let readers: Vec<_> = (0..questions.len())
                .map(|n| {
                    let (memtable, visible) = (Arc::clone(&memtable), Arc::clone(&visible));
                    let (questions, all) = (Arc::clone(&questions), Arc::clone(&all));
                    thread::spawn(move || {
                        let seen = visible.load(Ordering::Acquire);
                        questions[n](&memtable, seen, &all[..seen as usize]);
                    })
                })
                .collect();
            for group in &scene.groups {
                next_seq = memtable.writer().insert_all(next_seq, group.iter().copied());
                visible.store(next_seq - 1, Ordering::Release);
            }
            for reader in readers {
                reader.join().unwrap();
            }
        });
        println!("{} executions", executions.load(Ordering::Relaxed));
    }

    /// Explores the scene with each kind of question, one reader at a time.
    fn explore_all(&self) {
        let all = self.all();
        let mut places: Vec<_> = all.iter().map(|op| (op.key, op.ts)).collect();
        places.sort_unstable();
        places.dedup();
        for (key, ts) in places {
            self.explore(vec![floor(key, ts)]);
        }
        self.explore(vec![walk()]);
        self.explore(vec![keys()]);
        self.explore(vec![fences()]);
    }
}

/// The newest record of each `(key, ts)`.
type Records = BTreeMap<(Vec<u8>, Timestamp), (Tag, Vec<u8>)>;

fn records(shown: &[Op<'static>]) -> Records {
    shown.iter().map(|op| ((op.key.to_vec(), op.ts), (op.tag, op.value.to_vec()))).collect()
}

fn floor(key: &'static [u8], at: Timestamp) -> Question {
    Box::new(move |memtable, visible, shown| {
        let found = memtable.floor(key, KeyHash::of(key), at, visible);
        let found = found.map(|version| (version.ts, version.tag, memtable.value(&version)));
        let records = records(shown);
        let until = (key.to_vec(), Timestamp::MIN)..=(key.to_vec(), at);
        let expected = records.range(until).next_back();
        assert_eq!(found, expected.map(|((_, ts), (tag, value))| (*ts, *tag, value.clone())));
    })
}

/// Goes through all records.
fn walk() -> Question {
    Box::new(|memtable, visible, shown| {
        let mut cursor = MemtableCursor::new(Arc::clone(memtable), visible);
        cursor.seek(b"", Timestamp::MIN).unwrap();
        let mut found = Records::new();
        while let Some(record) = cursor.record() {
            let place = (record.key.to_vec(), record.ts);
            let earlier = found.insert(place, (record.tag, record.value.to_vec()));
            assert_eq!(earlier, None, "a place is met twice");
            cursor.next().unwrap();
        }
        assert_eq!(found, records(shown));
    })
}

/// Goes through all keys, among which may be some that are too new.
fn keys() -> Question {
    Box::new(|memtable, _, shown| {
        let (mut found, mut key) = (Vec::new(), Vec::new());
        while memtable.first_key_within(
            found.last().map_or(Bound::Unbounded, |last: &Vec<u8>| Bound::Excluded(&last[..])),
            KeyOrder::Ascending,
            &mut key,
        ) {
            found.push(key.clone());
        }
        assert!(found.is_sorted());
        assert!(shown.iter().all(|op| found.iter().any(|key| key == op.key)), "{found:?}");
    })
}

/// The fences hold all that is shown, and what they tell fits together.
fn fences() -> Question {
    Box::new(|memtable, visible, shown| {
        let (ts_range, seq_range) = (memtable.ts_range(), memtable.seq_range());
        for op in shown {
            assert!(ts_range.is_some_and(|(min, max)| min <= op.ts && op.ts <= max));
        }
        if let Some((first, last)) = seq_range {
            assert!(first == 1 && first <= last && visible <= last, "{first} to {last}");
        } else {
            assert!(shown.is_empty());
        }
        assert!(memtable.len() >= shown.len());
    })
}

#[test]
fn loom_the_first_record_of_all() {
    Scene { before: vec![], groups: vec![vec![put("a", -5, LONG)]] }.explore_all();
}

#[test]
fn loom_a_new_key() {
    Scene { before: vec![put("b", 1, b"1")], groups: vec![vec![put("a", 1, LONG)]] }.explore_all();
}

/// The first two versions have chunks of their own, the third one joins the second.
#[test]
fn loom_new_versions_in_the_order_of_time() {
    let before = vec![put("a", 1, b"1")];
    let groups = vec![vec![put("a", 2, LONG)], vec![op(Tag::END, "a", 3, b"")]];
    Scene { before, groups }.explore_all();
}

#[test]
fn loom_late_versions() {
    let before = vec![put("a", 9, b"9")];
    let groups = vec![vec![put("a", 5, LONG)], vec![put("a", 7, b"7")]];
    Scene { before, groups }.explore_all();
}

#[test]
fn loom_a_version_is_replaced_and_erased() {
    let before = vec![put("a", 4, b"4"), put("a", 5, b"5")];
    let groups = vec![vec![put("a", 5, LONG)], vec![op(Tag::ERASE, "a", 5, b"")]];
    Scene { before, groups }.explore_all();
}

/// The first table of the index has room for six keys.
#[test]
fn loom_the_index_doubles() {
    let before: Vec<_> = ["a", "b", "c", "d", "e", "f"].map(|key| put(key, 1, b"1")).into();
    let scene = Scene { before, groups: vec![vec![put("g", 1, LONG)]] };
    for key in [b"a", b"g"] {
        scene.explore(vec![floor(key, 1)]);
    }
}

#[test]
fn loom_a_group_shows_whole_to_two_readers() {
    let scene = Scene { before: vec![], groups: vec![vec![put("a", 1, LONG), put("a", 0, b"0")]] };
    scene.explore(vec![floor(b"a", 1), floor(b"a", 0)]);
}
