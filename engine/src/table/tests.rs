//! A table against the map that it was built from.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::block_builder::{BlockBuilder, BlockFences, ChunkFence};
use super::chunk::ChunkValues;
use super::format::{BlockHandle, CHECKSUM_BYTES};
use super::index::{Index, IndexBuilder};
use super::*;
use crate::codec::ints::PAD_BYTES;
use crate::codec::samples::{json, spelled_number};
use crate::codec::template::Dictionary;
use crate::error::Result;
use crate::fs::{Fs, SimFs};
use crate::iter::{Cursor, Order, Record, Versions};
use crate::key::{DatabaseId, FileId, KeyHash, RunRank, Tag, Timestamp, ValueType};
use crate::metrics::Metrics;

type Records = BTreeMap<(Vec<u8>, Timestamp), (Tag, Vec<u8>)>;

/// Key, timestamp and value.
type Floor = (Vec<u8>, Timestamp, Vec<u8>);

const DATABASE: DatabaseId = DatabaseId(7);
const ID: FileId = FileId(3);

fn context(cache_bytes: usize) -> TableContext {
    let metrics = Arc::new(Metrics::default());
    TableContext { cache: Arc::new(ValueCache::new(cache_bytes)), metrics }
}

fn build(fs: &dyn Fs, records: &Records) -> Result<TableMeta> {
    build_as(fs, ID, records)
}

fn build_as(fs: &dyn Fs, id: FileId, records: &Records) -> Result<TableMeta> {
    let mut builder = TableBuilder::create(fs, Path::new(""), DATABASE, id)?;
    for ((key, ts), (tag, value)) in records {
        builder.add(&Record { key, ts: *ts, tag: *tag, value })?;
    }
    builder.finish(RunRank(3), (1, records.len() as u64))
}

fn open(fs: &dyn Fs, meta: &TableMeta) -> Result<Arc<TableReader>> {
    TableReader::open(fs, Path::new(""), DATABASE, meta, context(1 << 16)).map(Arc::new)
}

fn scan(table: &Arc<TableReader>, key: &[u8], ts: Timestamp) -> Result<Records> {
    let mut cursor = TableCursor::new(Arc::clone(table));
    cursor.seek(key, ts)?;
    let mut found = Records::new();
    while let Some(r) = cursor.record() {
        found.insert((r.key.to_vec(), r.ts), (r.tag, r.value.to_vec()));
        cursor.next()?;
    }
    Ok(found)
}

fn floor(table: &TableReader, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Vec<u8>)>> {
    if !table.may_contain(KeyHash::of(key), at) {
        return Ok(None);
    }
    table.floor(key, at)?.map(|version| Ok((version.ts, version.value()?))).transpose()
}

/// A key's versions in a range of time, tombstones included, in the order asked for.
fn history(
    table: &Arc<TableReader>,
    key: &[u8],
    (from, to): (Timestamp, Timestamp),
    order: Order,
) -> Result<Records> {
    let wanted = Wanted { key: key.to_vec(), from, to, order };
    let (mut history, mut versions) = (TableHistory::new(Arc::clone(table)), Versions::default());
    let mut found = Records::new();
    loop {
        history.read(&wanted, &mut versions)?;
        if versions.left.is_empty() {
            return Ok(found);
        }
        for index in versions.left.clone() {
            let entry = versions.entry(index);
            let record = (versions.tags[index], entry.value.to_vec());
            let again = found.insert((key.to_vec(), entry.ts), record);
            assert_eq!(again, None, "{order:?}: one version twice");
        }
    }
}

/// The floor of every key at one moment, by a walk in this order.
fn walk(table: &TableReader, at: Timestamp, order: Order) -> Result<Vec<Floor>> {
    let mut probe = TableProbe::new(table);
    probe.seek(Bound::Unbounded, order)?;
    let mut found = Vec::new();
    while let Some(key) = probe.key().map(<[u8]>::to_vec) {
        if let Some((ts, _)) = probe.floor(&key, at)? {
            let mut value = Vec::new();
            probe.value_into(&mut value)?;
            found.push((key, ts, value));
        }
        probe.step(order)?;
    }
    Ok(found)
}

fn expected_floor(records: &Records, key: &[u8], at: Timestamp) -> Option<(Timestamp, Vec<u8>)> {
    let range = (key.to_vec(), Timestamp::MIN)..=(key.to_vec(), at);
    records.range(range).next_back().map(|((_, ts), (_, value))| (*ts, value.clone()))
}

fn records() -> impl Strategy<Value = Records> {
    let key = prop_oneof![
        4 => "k[ab]{0,2}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..40),
        1 => vec(prop_oneof![Just(0), Just(0xff)], 0..4),
    ];
    let ts =
        prop_oneof![8 => 0..2000_i64, 1 => any::<i64>(), 1 => Just(i64::MIN), 1 => Just(i64::MAX)];
    let value = prop_oneof![
        6 => (0..100_000_u32).prop_map(|n| format!(r#"{{"n":{n},"s":"ok"}}"#).into_bytes()),
        2 => json().prop_map(String::into_bytes),
        2 => spelled_number().prop_map(String::into_bytes),
        1 => (spelled_number(), json())
            .prop_map(|(n, any)| format!(r#"{{"n":{n},"any":{any}}}"#).into_bytes()),
        1 => Just(Vec::new()),
        1 => vec(any::<u8>(), 0..300),
        1 => (0..20_000_usize).prop_map(|len| vec![b'x'; len]),
    ];
    let put = prop_oneof![Just(ValueType::Json), Just(ValueType::Octets), Just(ValueType::Text)];
    let record = prop_oneof![
        9 => (put, value).prop_map(|(value_type, value)| (Tag::put(value_type), value)),
        1 => Just((Tag::END, Vec::new())),
        1 => Just((Tag::ERASE, Vec::new())),
    ];
    btree_map((key, ts), record, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_answers_what_was_added(records in records(), stranger in vec(any::<u8>(), 0..6)) {
        let fs = SimFs::new(0);
        let meta = build(&fs, &records).unwrap();
        let table = open(&fs, &meta).unwrap();
        prop_assert_eq!(&scan(&table, b"", Timestamp::MIN).unwrap(), &records);
        for (i, (key, ts)) in records.keys().enumerate() {
            for at in [*ts, ts.saturating_sub(1), ts.saturating_add(1)] {
                prop_assert_eq!(floor(&table, key, at).unwrap(), expected_floor(&records, key, at));
            }
            if i % 16 == 0 {
                let rest: Records =
                    records.range((key.clone(), *ts)..).map(|(k, r)| (k.clone(), r.clone())).collect();
                prop_assert_eq!(scan(&table, key, *ts).unwrap(), rest);
            }
        }
        let keys: BTreeSet<_> = records.keys().map(|(key, _)| key.clone()).collect();
        for key in &keys {
            for (from, to) in [(Timestamp::MIN, Timestamp::MAX), (17, 1500)] {
                let range = (key.clone(), from)..=(key.clone(), to);
                let expected: Records =
                    records.range(range).map(|(k, r)| (k.clone(), r.clone())).collect();
                for order in [Order::Ascending, Order::Descending] {
                    let found = history(&table, key, (from, to), order).unwrap();
                    prop_assert_eq!(&found, &expected);
                }
            }
        }
        for at in [Timestamp::MIN, 0, 1000, Timestamp::MAX] {
            let expected = expected_floor(&records, &stranger, at);
            prop_assert_eq!(floor(&table, &stranger, at).unwrap(), expected);
            let floors = keys.iter().filter_map(|key| {
                expected_floor(&records, key, at).map(|(ts, value)| (key.clone(), ts, value))
            });
            let mut expected: Vec<_> = floors.collect();
            prop_assert_eq!(&walk(&table, at, Order::Ascending).unwrap(), &expected);
            expected.reverse();
            prop_assert_eq!(&walk(&table, at, Order::Descending).unwrap(), &expected);
        }
        let p = &meta.properties;
        prop_assert_eq!(p.records, records.len() as u64);
        prop_assert_eq!(Some(p.min_ts), records.keys().map(|(_, ts)| *ts).min());
        prop_assert_eq!(Some(p.max_ts), records.keys().map(|(_, ts)| *ts).max());
    }

    #[test]
    fn a_flipped_bit_is_an_error_or_changes_nothing(
        records in records(),
        flips in vec((any::<prop::sample::Index>(), 0_u8..8), 1..6),
    ) {
        let fs = SimFs::new(0);
        let meta = build(&fs, &records).unwrap();
        for (at, bit) in flips {
            let fs = fs.fork();
            fs.corrupt(ID.table_path(Path::new("")), at.index(meta.file_bytes as usize) as u64, 1 << bit);
            let Ok(table) = open(&fs, &meta) else { continue };
            if let Ok(found) = scan(&table, b"", Timestamp::MIN) {
                prop_assert_eq!(&found, &records);
            }
            for (key, ts) in records.keys() {
                if let Ok(found) = floor(&table, key, *ts) {
                    prop_assert_eq!(found, expected_floor(&records, key, *ts));
                }
            }
        }
    }

    /// Chunks of tables with dictionaries of their own, and records between them, into one table.
    #[test]
    fn copied_chunks_answer_as_their_records(
        lower in records(),
        upper in records(),
        copies in vec(prop::bool::weighted(0.7), 1..9),
    ) {
        let fs = SimFs::new(0);
        let behind = |key: Vec<u8>| [&[0xff; 41][..], &key].concat();
        let upper: Records =
            upper.into_iter().map(|((key, ts), record)| ((behind(key), ts), record)).collect();
        let all: Records = lower.clone().into_iter().chain(upper.clone()).collect();
        let mut builder = TableBuilder::create(&fs, Path::new(""), DATABASE, FileId(9)).unwrap();
        let mut copies = copies.iter().cycle();
        for (id, records) in [(FileId(4), &lower), (FileId(5), &upper)] {
            let table = open(&fs, &build_as(&fs, id, records).unwrap()).unwrap();
            let mut cursor = TableCursor::new(table);
            cursor.seek_place(b"", Timestamp::MIN).unwrap();
            while cursor.place().is_some() {
                match cursor.stored_chunk() {
                    Some(chunk) if *copies.next().unwrap() => {
                        prop_assert!(builder.add_chunk(&chunk).unwrap());
                        cursor.pass_chunk().unwrap();
                    }
                    _ => {
                        builder.add(&cursor.read_record().unwrap()).unwrap();
                        cursor.next_place().unwrap();
                    }
                }
            }
        }
        let meta = builder.finish(RunRank(3), (1, all.len() as u64)).unwrap();
        prop_assert_eq!(&meta.properties, &build(&fs, &all).unwrap().properties);
        let table = open(&fs, &meta).unwrap();
        prop_assert_eq!(&scan(&table, b"", Timestamp::MIN).unwrap(), &all);
        for (key, ts) in all.keys() {
            for at in [*ts, ts.saturating_sub(1)] {
                prop_assert_eq!(floor(&table, key, at).unwrap(), expected_floor(&all, key, at));
            }
        }
    }

    /// Behind the checksums: blocks that verify and make no sense, as a forger would make them.
    #[test]
    fn no_block_makes_it_panic(
        records in records(),
        forged in vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        forge_index: bool,
        at: prop::sample::Index,
        bit in 0_u32..8,
        key: Vec<u8>,
        ts: Timestamp,
    ) {
        let mut builder = BlockBuilder::new().unwrap();
        for ((key, ts), (tag, value)) in &records {
            let _ = builder.should_end_before(key);
            builder.add(&Record { key, ts: *ts, tag: *tag, value });
        }
        let (mut block, fences) = builder.finish().unwrap();
        for (at, byte) in forged {
            // Most of what can be forged lies at the front.
            let at = at.index(block.len()) % (1 + at.index(64));
            block[at] = byte;
        }
        let dictionary = builder.dictionary().map(|bytes| Dictionary::parse(&bytes).unwrap());
        let dictionary = dictionary.unwrap_or_default();
        let mut index = IndexBuilder::default();
        let len = (block.len() + CHECKSUM_BYTES) as u32;
        index.add(fences, BlockHandle { offset: 0, len });
        let mut index = index.finish();
        let contents = &block[1..];
        if forge_index {
            let at = 1 + at.index(index.len() - 1);
            index[at] ^= 1 << bit;
        }
        let Ok(index) = Index::parse(&index[1..], u64::from(len)) else { return Ok(()) };
        if index.row(0).handle.len != len {
            return Ok(());
        }
        let block = index.block(0, contents, &dictionary);
        let _ = block.find(&key, ts);
        for chunk in (0..block.chunks()).filter_map(|index| block.chunk(index).ok()) {
            let (values, ends) = (&mut Vec::new(), &mut Vec::new());
            let _ = (chunk.floor(&key, ts), chunk.decode_rows(0..chunk.rows(), values, ends));
            (0..chunk.keys()).for_each(|key| drop(chunk.rows_of(key)));
            for row in 0..chunk.rows() {
                let _ = chunk.tag(row);
                let _ = chunk.values().by_codec().and_then(|values| match values {
                    ChunkValues::Template(template) => template.value_into(row, &mut Vec::new()),
                    ChunkValues::Run(run) => run.range(row).map(drop),
                });
            }
        }
    }
}

/// Rows that share a long key took a key each in memory, so that a small file with a forged index took
/// gigabytes.
#[test]
fn an_index_does_not_outgrow_its_blocks() {
    let parse = |block_bytes: u32| {
        let (mut builder, mut offset) = (IndexBuilder::default(), 0);
        for number in 0_u32..100 {
            let first_key = [&vec![b'k'; 60_000], &number.to_be_bytes()[..]].concat();
            let shared_len = first_key.len();
            let len = block_bytes + (1 + PAD_BYTES + CHECKSUM_BYTES) as u32;
            let chunks = vec![ChunkFence { number: 0, first_ts: 0, end: block_bytes }];
            let fences = BlockFences { first_key, min_ts: 0, max_ts: 0, shared_len, chunks };
            builder.add(fences, BlockHandle { offset, len });
            offset += u64::from(len);
        }
        Index::parse(&builder.finish()[1..], offset).map(drop)
    };
    assert!(parse(16 << 10).is_ok());
    let error = parse(1).unwrap_err();
    assert_eq!(error.what, "keys that fit their blocks");
}

#[test]
fn a_file_of_another_database_or_place_is_refused() {
    let fs = SimFs::new(0);
    let records = Records::from([((b"k".to_vec(), 1), (Tag::put(ValueType::Json), b"1".to_vec()))]);
    let meta = build(&fs, &records).unwrap();
    let bytes = fs.read_file(ID.table_path(Path::new(""))).unwrap();
    let moved = FileId(4);
    fs.put_file(moved.table_path(Path::new("")), bytes);
    let error = open(&fs, &TableMeta { id: moved, ..meta.clone() }).unwrap_err();
    assert!(error.to_string().contains("000004.sst"), "{error}");
    let other =
        TableReader::open(&fs, Path::new(""), DatabaseId(8), &meta, context(0)).unwrap_err();
    assert!(other.to_string().contains("as the manifest says"), "{other}");
    // Merges are chosen by lengths, which they add up.
    let longer = open(&fs, &TableMeta { file_bytes: u64::MAX, ..meta }).unwrap_err();
    assert!(longer.to_string().contains("bytes, as the manifest says"), "{longer}");
}

/// A merge copies chunks until the dictionary of its table is full; those that it has no room for are
/// decoded, and written without a template where that has no room either.
#[test]
fn chunks_that_a_full_dictionary_has_no_room_for_are_decoded() {
    // Rows that share so long a text that a chunk holds those of one key.
    let letters = |key: usize| -> String {
        let letter = |i: usize| {
            char::from(b'a' + (KeyHash::of(&(key * 6600 + i).to_le_bytes()).0 % 26) as u8)
        };
        (0..6600).map(letter).collect()
    };
    let records_of = |first: usize| -> Records {
        let rows = (first..first + 100).flat_map(|key| {
            let text = letters(key);
            (0..5).map(move |ts| {
                let value = format!("{{\"text\":\"{text}\",\"n\":{}}}", ts * 7 % 4);
                let key = format!("key{key:04}").into_bytes();
                ((key, ts), (Tag::put(ValueType::Json), value.into_bytes()))
            })
        });
        rows.collect()
    };
    let fs = SimFs::new(0);
    let inputs = [records_of(0), records_of(100)];
    let mut builder = TableBuilder::create(&fs, Path::new(""), DATABASE, FileId(9)).unwrap();
    let (mut copied, mut decoded) = (0, 0);
    for (id, records) in (4..).map(FileId).zip(&inputs) {
        let table = open(&fs, &build_as(&fs, id, records).unwrap()).unwrap();
        let mut cursor = TableCursor::new(table);
        cursor.seek_place(b"", Timestamp::MIN).unwrap();
        while let Some(chunk) = cursor.stored_chunk() {
            let taken = builder.add_chunk(&chunk).unwrap();
            (copied, decoded) = (copied + u32::from(taken), decoded + u32::from(!taken));
            cursor.pass_chunk().unwrap();
        }
    }
    assert!(copied > 100 && decoded > 10, "{copied} copied, {decoded} decoded");
    let meta = builder.finish(RunRank(3), (1, 1000)).unwrap();
    let table = open(&fs, &meta).unwrap();
    let all: Records = inputs.into_iter().flatten().collect();
    assert_eq!(meta.properties.records, all.len() as u64);
    assert!(scan(&table, b"", Timestamp::MIN).unwrap() == all);
    for (key, ts) in all.keys().step_by(7) {
        assert!(floor(&table, key, *ts).unwrap() == expected_floor(&all, key, *ts));
    }
}
