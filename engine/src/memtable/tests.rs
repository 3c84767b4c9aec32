//! The memtable against a map of everything that was inserted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::iter::Cursor;
use crate::key::{KEY_BYTES_MAX, Tag, ValueKind, ValueType};

const TAGS: [Tag; 4] =
    [Tag::put(ValueType::Octets), Tag::put(ValueType::Json), Tag::END, Tag::ERASE];

#[derive(Clone, Debug)]
struct Record {
    key: Vec<u8>,
    ts: Timestamp,
    tag: Tag,
    value: Vec<u8>,
}

impl Record {
    fn put(key: &[u8], ts: Timestamp, value: &[u8]) -> Record {
        Record { key: key.to_vec(), ts, tag: TAGS[0], value: value.to_vec() }
    }

    fn op(&self) -> Op<'_> {
        Op { tag: self.tag, key: &self.key, ts: self.ts, value: &self.value }
    }

    fn encoded_bytes(&self) -> usize {
        let varint = |len: usize| len.max(1).ilog2() as usize / 7 + 1;
        let lengths = varint(self.key.len()) + varint(self.value.len());
        1 + size_of::<Timestamp>() + lengths + self.key.len() + self.value.len()
    }
}

type Found = (Timestamp, Tag, Vec<u8>);

/// The oracle: what was inserted up to some seq.
#[derive(Default)]
struct Model(BTreeMap<(Vec<u8>, Timestamp), (Tag, Vec<u8>)>);

impl Model {
    fn insert(&mut self, records: &[Record]) {
        for Record { key, ts, tag, value } in records.iter().cloned() {
            self.0.insert((key, ts), (tag, value));
        }
    }

    fn floor(&self, key: &[u8], at: Timestamp) -> Option<Found> {
        let range = (key.to_vec(), Timestamp::MIN)..=(key.to_vec(), at);
        let (&(_, ts), (tag, value)) = self.0.range(range).next_back()?;
        Some((ts, *tag, value.clone()))
    }

    fn from(&self, key: &[u8], ts: Timestamp) -> impl Iterator<Item = Record> {
        self.0.range((key.to_vec(), ts)..).map(|((key, ts), (tag, value))| Record {
            key: key.clone(),
            ts: *ts,
            tag: *tag,
            value: value.clone(),
        })
    }
}

fn bytes_max(records: &[Record]) -> usize {
    Memtable::insert_bytes_max(records.len(), records.iter().map(Record::encoded_bytes).sum())
}

/// A memtable of just the size, with seqs from 1.
fn filled(records: &[Record]) -> Arc<Memtable> {
    let memtable = Arc::new(Memtable::new(bytes_max(records)));
    let next_seq = memtable.writer().insert_all(1, records.iter().map(Record::op));
    assert_eq!(next_seq, records.len() as SeqNo + 1);
    memtable
}

fn floor(memtable: &Memtable, key: &[u8], at: Timestamp, visible: SeqNo) -> Option<Found> {
    let version = memtable.floor(key, KeyHash::of(key), at, visible)?;
    Some((version.ts, version.tag, memtable.value(&version)))
}

/// Seeks, and checks that the cursor shows these records, and up to `limit` of them.
fn check_cursor(
    cursor: &mut MemtableCursor,
    key: &[u8],
    ts: Timestamp,
    model: &Model,
    limit: usize,
) {
    cursor.seek(key, ts).unwrap();
    for expected in model.from(key, ts).take(limit) {
        let found = cursor.record().expect("a record, where the model has one");
        let found = (found.key, found.ts, found.tag, found.value);
        assert_eq!(found, (&expected.key[..], expected.ts, expected.tag, &expected.value[..]));
        cursor.next().unwrap();
    }
    if model.from(key, ts).count() <= limit {
        assert_eq!(cursor.record(), None);
    }
}

/// Keys that are prefixes of each other, with the bytes at both ends, around the size of a word.
fn some_key() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0x00), Just(0x01), Just(0xff), any::<u8>()];
    prop_oneof![
        6 => (prop_oneof![Just(0x00), Just(0xff)], 0_usize..18).prop_map(|(b, len)| vec![b; len]),
        2 => vec(byte, 0..20),
    ]
}

fn some_ts() -> impl Strategy<Value = Timestamp> {
    prop_oneof![8 => -5_i64..20, 1 => Just(i64::MIN), 1 => Just(i64::MAX), 1 => any::<i64>()]
}

/// Writes to a few keys: mostly in the order of time, some late, some to a timestamp written before.
fn some_records(len_max: usize) -> impl Strategy<Value = Vec<Record>> {
    let ts = prop_oneof![6 => Just(None), 4 => some_ts().prop_map(Some)];
    let value = prop_oneof![9 => vec(any::<u8>(), 0..12), 1 => vec(any::<u8>(), 0..300)];
    let write = (any::<prop::sample::Index>(), ts, 0..TAGS.len(), value);
    (vec(some_key(), 1..6), vec(write, 0..len_max)).prop_map(|(keys, writes)| {
        let write = |(now, (key, ts, tag, value)): (i64, (prop::sample::Index, _, usize, _))| {
            let tag = TAGS[tag];
            let value = if tag.kind() == ValueKind::Put { value } else { Vec::new() };
            Record { key: key.get(&keys).clone(), ts: Option::unwrap_or(ts, now), tag, value }
        };
        (0..).zip(writes).map(write).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_prefix_answers_as_the_model(
        records in some_records(80),
        probes in vec((some_key(), some_ts()), 8),
    ) {
        let memtable = filled(&records);
        let mut model = Model::default();
        for visible in 0..=records.len() {
            model.insert(&records[visible.saturating_sub(1)..visible]);
            let seq = visible as SeqNo;
            let mut cursor = MemtableCursor::new(Arc::clone(&memtable), seq);
            check_cursor(&mut cursor, b"", Timestamp::MIN, &model, usize::MAX);
            let written = records.iter().skip(visible.saturating_sub(4)).take(8);
            let written = written.map(|record| (&record.key, record.ts));
            for (key, ts) in written.chain(probes.iter().map(|(key, ts)| (key, *ts))) {
                for at in [ts.saturating_sub(1), ts, ts.saturating_add(1), i64::MIN, i64::MAX] {
                    prop_assert_eq!(floor(&memtable, key, at, seq), model.floor(key, at));
                }
                check_cursor(&mut cursor, key, ts, &model, 3);
            }
        }
        prop_assert_eq!(memtable.len(), records.len());
        let keys: BTreeSet<_> = records.iter().map(|r| &r.key).collect();
        prop_assert_eq!(memtable.key_count(), keys.len());
    }

    #[test]
    fn what_is_said_to_fit_does_and_takes_no_more_than_said(
        batches in vec(some_records(30), 1..12),
        hot in any::<bool>(),
        fresh in any::<bool>(),
        spare in 0_usize..4000,
    ) {
        let mut batches = batches;
        for (ts, record) in (0_i64..).zip(batches.iter_mut().flatten()) {
            if hot {
                (record.key, record.ts) = (b"hot".to_vec(), ts);
            } else if fresh {
                record.key = ts.to_be_bytes().to_vec();
            }
        }
        let encoded_bytes = |batch: &[Record]| batch.iter().map(Record::encoded_bytes).sum();
        let memtable = Memtable::new(bytes_max(&batches[0]) + spare);
        prop_assert!(memtable.has_room_for(batches[0].len(), encoded_bytes(&batches[0])));
        let mut writer = memtable.writer();
        let mut seq = 0;
        for batch in batches.iter().chain(&batches).chain(&batches) {
            if !memtable.has_room_for(batch.len(), encoded_bytes(batch)) {
                continue;
            }
            let used = memtable.used_bytes();
            for record in batch {
                seq += 1;
                writer.insert(seq, &record.op());
            }
            prop_assert!(memtable.used_bytes() - used <= bytes_max(batch));
        }
    }
}

#[test]
fn keys_of_all_lengths_are_ordered_as_their_bytes() {
    let mut keys = Vec::new();
    for len in [0, 1, 7, 8, 9, 15, 16, 17, 255, 4096, KEY_BYTES_MAX - 1, KEY_BYTES_MAX] {
        for byte in [0x00, 0x7f, 0xff] {
            let mut last_differs = vec![byte; len];
            keys.push(last_differs.clone());
            if let Some(last) = last_differs.last_mut() {
                *last ^= 0x80;
                keys.push(last_differs);
            }
        }
    }
    let records: Vec<_> = keys.iter().map(|key| Record::put(key, 1, key)).collect();
    let memtable = filled(&records);
    let mut model = Model::default();
    model.insert(&records);
    let visible = records.len() as SeqNo;
    let mut cursor = MemtableCursor::new(Arc::clone(&memtable), visible);
    check_cursor(&mut cursor, b"", Timestamp::MIN, &model, usize::MAX);
    for key in &keys {
        assert_eq!(floor(&memtable, key, 1, visible), model.floor(key, 1));
        assert_eq!(floor(&memtable, key, 0, visible), None);
        check_cursor(&mut cursor, key, 2, &model, 1);
    }
}

#[test]
fn a_hot_key_keeps_every_version_in_order_late_and_overwritten() {
    const VERSIONS: i64 = 2000;
    let mut records: Vec<_> =
        (0..VERSIONS).map(|i| Record::put(b"hot", i * 10, &i.to_le_bytes())).collect();
    records.extend((0..VERSIONS).rev().map(|i| Record::put(b"hot", i * 10 + 5, b"late")));
    records.extend((0..VERSIONS).map(|i| Record::put(b"hot", 777, &i.to_le_bytes())));
    let memtable = filled(&records);
    let mut model = Model::default();
    for (third, batch) in (1..).zip(records.chunks(VERSIONS as usize)) {
        model.insert(batch);
        let visible = third * VERSIONS as SeqNo;
        for at in (-10..VERSIONS * 10 + 20).step_by(17) {
            assert_eq!(floor(&memtable, b"hot", at, visible), model.floor(b"hot", at));
        }
        let mut cursor = MemtableCursor::new(Arc::clone(&memtable), visible);
        check_cursor(&mut cursor, b"", Timestamp::MIN, &model, usize::MAX);
        for ts in [776, 777, 778, 15_000, VERSIONS * 10 - 20] {
            check_cursor(&mut cursor, b"hot", ts, &model, 4);
        }
    }
    for overwrite in [0, 1, VERSIONS / 2] {
        let visible = (2 * VERSIONS + overwrite + 1) as SeqNo;
        let expected = Some((777, TAGS[0], overwrite.to_le_bytes().to_vec()));
        assert_eq!(floor(&memtable, b"hot", 779, visible), expected);
    }
}

#[test]
fn fences_cover_the_extremes_and_an_empty_memtable_has_none() {
    let memtable = Memtable::new(4096);
    assert_eq!((memtable.ts_range(), memtable.seq_range()), (None, None));
    assert!(memtable.is_empty() && floor(&memtable, b"", i64::MAX, SEQ_NO_MAX).is_none());
    memtable.writer().insert(7, &Record::put(b"", i64::MAX, b"").op());
    assert_eq!(memtable.ts_range(), Some((i64::MAX, i64::MAX)));
    assert_eq!(memtable.seq_range(), Some((7, 7)));
    memtable.writer().insert(SEQ_NO_MAX, &Record::put(b"", i64::MIN, b"").op());
    assert_eq!(memtable.ts_range(), Some((i64::MIN, i64::MAX)));
    assert_eq!(memtable.seq_range(), Some((7, SEQ_NO_MAX)));
}

/// The tables of the index take room ahead, and most of it just after they are doubled.
#[test]
fn a_memtable_of_any_size_is_filled_with_new_keys() {
    for capacity in (0..120).map(|i| 512 + i * i * 16) {
        let memtable = Memtable::new(capacity);
        let mut keys = 0;
        while memtable.has_room_for(1, OP_ENCODED_BYTES_MIN + 4) {
            let key = (keys * 7 + 1_u32).to_be_bytes();
            keys += 1;
            memtable.writer().insert(keys.into(), &Record::put(&key, 0, b"").op());
        }
        assert_eq!(memtable.key_count(), keys as usize);
        assert!(keys as usize * 200 > capacity - 512, "{keys} keys in {capacity} bytes");
        for i in 0..keys {
            let found = floor(&memtable, &(i * 7 + 1).to_be_bytes(), 0, keys.into());
            assert!(found.is_some(), "{i} of {keys}");
            assert_eq!(floor(&memtable, &(i * 7).to_be_bytes(), 0, keys.into()), None);
        }
    }
}

/// The index of the keys grows twelve times under readers, who miss no key that was published.
#[test]
fn readers_find_every_published_key_while_the_index_grows() {
    const KEYS: u64 = 20_000;
    // Stretches of ascending keys, in no order themselves.
    let key = |i: u64| ((i / 50 * 7919 % 400) << 32 | i).to_be_bytes();
    let memtable = Memtable::new(Memtable::insert_bytes_max(KEYS as usize, KEYS as usize * 40));
    let published = AtomicU64::new(0);
    let read = |reader: u64| {
        let mut probe = reader;
        loop {
            let visible = published.load(Ordering::Acquire);
            for i in (0..20).map(|i| (probe + i) % KEYS).chain(visible.checked_sub(1)) {
                let found = floor(&memtable, &key(i), 0, visible);
                assert_eq!(found.is_some(), i < visible, "key {i} of {visible}");
            }
            if visible == KEYS {
                return;
            }
            probe += 997;
        }
    };
    thread::scope(|scope| {
        let readers = [0, 1, 2].map(|reader| scope.spawn(move || read(reader)));
        for i in 0..KEYS {
            memtable.writer().insert(i + 1, &Record::put(&key(i), 0, b"value").op());
            published.store(i + 1, Ordering::Release);
        }
        for reader in readers {
            reader.join().unwrap();
        }
    });
    for i in 0..KEYS {
        assert!(floor(&memtable, &key(i), 0, KEYS).is_some(), "{i}");
    }
}

#[test]
#[should_panic(expected = "full memtable")]
fn an_insert_without_room_is_refused() {
    Memtable::new(64).writer().insert(1, &Record::put(b"key", 0, &[0; 100]).op());
}

#[test]
#[should_panic(expected = "seq 1 after seq 1")]
fn a_seq_that_does_not_rise_is_refused() {
    let memtable = Memtable::new(4096);
    let mut writer = memtable.writer();
    writer.insert(1, &Record::put(b"key", 0, b"").op());
    writer.insert(1, &Record::put(b"key", 1, b"").op());
}

/// Readers that race the writer see exactly what was published: all of it, and nothing more.
#[test]
fn readers_beside_the_writer_see_what_was_published() {
    const RECORDS: usize = 4000;
    let key = |i: usize| [b'k', (i * 7 % 23) as u8];
    let records: Vec<_> = (0..RECORDS)
        .map(|i| {
            let late = i % 3 == 0;
            let ts = if late { i * 31 % 500 } else { i } as Timestamp;
            Record::put(&key(i), ts, &i.to_le_bytes())
        })
        .collect();
    let memtable = Arc::new(Memtable::new(bytes_max(&records)));
    let published = AtomicU64::new(0);

    let read = |reader: usize| {
        for round in (reader..).step_by(3) {
            let visible = published.load(Ordering::Acquire);
            let covered = &records[..visible as usize];
            let (probe, at) = (key(round), (round * 97 % RECORDS) as Timestamp);
            let newest = covered.iter().filter(|r| r.key == probe && r.ts <= at);
            let expected = newest.max_by_key(|r| r.ts).map(|r| (r.ts, r.tag, r.value.clone()));
            assert_eq!(floor(&memtable, &probe, at, visible), expected);
            if let Some((ts_min, ts_max)) = memtable.ts_range() {
                assert!(covered.iter().all(|r| ts_min <= r.ts && r.ts <= ts_max));
            } else {
                assert!(covered.is_empty());
            }
            let done = covered.len() == RECORDS;
            if round % 64 == reader || done {
                let mut model = Model::default();
                model.insert(covered);
                let mut cursor = MemtableCursor::new(Arc::clone(&memtable), visible);
                check_cursor(&mut cursor, b"", Timestamp::MIN, &model, usize::MAX);
            }
            if done {
                return;
            }
        }
    };
    thread::scope(|scope| {
        let readers = [0, 1, 2].map(|reader| scope.spawn(move || read(reader)));
        for (seq, record) in (1..).zip(&records) {
            memtable.writer().insert(seq, &record.op());
            published.store(seq, Ordering::Release);
            if seq % 16 == 0 {
                thread::yield_now();
            }
        }
        for reader in readers {
            reader.join().unwrap();
        }
    });
}
