//! The write buffer: the newest records of the database, in memory, ordered and readable at once.
//!
//! Two levels. A skiplist orders the keys and a hash index finds them; each key leads to its versions
//! (`versions.rs`), which mostly come in the order of time and are then appended to an array. A put to
//! a known key costs one probe of the index and no memory for links; so does a floor.
//!
//! ```text
//! key node, behind its tower:  key length | roots of its versions | key, big-endian words
//! ```
//!
//! # Thread safety
//! One writer and any number of readers at a time. [`Memtable::writer`] is a lock that only writers
//! take; readers never wait. The writer shows each record with one Release store, and stores to the
//! fences before that. A reader brings a seq, `visible`, which it loaded with Acquire from where it
//! was stored with Release after the insert of that record: then it meets every record up to
//! `visible`, and answers with none above it. It loads the fences *after* `visible`.
//!
//! # Invariants
//! - Records are never changed or removed; seqs rise strictly from record to record.
//! - Keys are ordered as their bytes; one node a key, linked and indexed when it has its first version.
//! - Fences and counts may run ahead of what is visible, never behind: `ts_min` only falls, all
//!   others only rise, so each mixture of old and new that a reader may load covers all that was
//!   published before.
//! - What is taken from the arena is at most twice what is charged, and what is charged is at most
//!   the capacity. Only the chunks of in-order versions and the tables of the index take more than
//!   they charge: they double ahead of their use. The arena is twice the capacity for that, in address
//!   space; memory that is never stored to is never committed.

mod arena;
mod cursor;
mod index;
mod keys;
#[cfg(all(test, loom))]
mod loom_tests;
mod skiplist;
#[cfg(test)]
mod tests;
mod versions;

pub(crate) use cursor::MemtableCursor;
pub(crate) use versions::MemtableVersion;

use std::cmp::Ordering as Order;
use std::fmt;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use self::arena::{Allocator, Arena, NULL, WORD_BYTES, word_of, words_for};
use self::index::{EMPTY_INDEX_WORDS, INDEXED_KEY_WORDS, KeyIndex};
use self::skiplist::{HEAD_WORDS, Heights, NewNode, SkipList, TOWER_WORDS_MAX};
use self::versions::{CHUNKED_VERSION_WORDS, PUSH_WORDS_MAX, Versions};
use crate::batch::Op;
use crate::key::{KeyHash, SEQ_NO_MAX, SeqNo, Timestamp};
use crate::sync::{AtomicI64, AtomicU64, AtomicUsize, Mutex, MutexGuard};

/// What a key node holds, by offset from the node's index.
const KEY_LENGTH: u32 = 0;
const VERSION_ROOTS: u32 = 1;
const KEY: u32 = 2;

/// The least that an operation takes in a batch, its key and value apart: tag, timestamp and two
/// lengths.
const OP_ENCODED_BYTES_MIN: usize = 1 + size_of::<Timestamp>() + 2;

/// The most that an operation is charged, in bytes, beyond the bytes of its key and value: words for
/// its structure, and what rounding key and value up to words adds.
const OP_BYTES_MAX: usize = PUSH_WORDS_MAX as usize * WORD_BYTES + 2 * (WORD_BYTES - 1);

// A new key takes a tower and its own words, but then its first version isn't a late one.
const _: () =
    assert!(PUSH_WORDS_MAX >= TOWER_WORDS_MAX + KEY + CHUNKED_VERSION_WORDS + INDEXED_KEY_WORDS);

/// What an empty memtable takes.
const EMPTY_WORDS: u32 = HEAD_WORDS + EMPTY_INDEX_WORDS;

/// The most records whose keys are looked for before the first of them is inserted.
const LOOKED_FOR_TOGETHER: usize = 16;

/// The newest records of the database.
pub(crate) struct Memtable {
    arena: Arena,
    keys_head: u32,
    index_root: u32,
    capacity_words: u64,
    writer: Mutex<WriterState>,
    charged_words: AtomicU64,
    records: AtomicUsize,
    keys: AtomicUsize,
    ts_min: AtomicI64,
    ts_max: AtomicI64,
    /// 0 before the first record.
    seq_first: AtomicU64,
    seq_last: AtomicU64,
}

impl fmt::Debug for Memtable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memtable")
            .field("records", &self.len())
            .field("used_bytes", &self.used_bytes())
            .finish_non_exhaustive()
    }
}

struct WriterState {
    allocator: Allocator,
    heights: Heights,
}

impl Memtable {
    /// A memtable for `capacity_bytes` of records, as [`Memtable::used_bytes`] counts them; up to
    /// about 16 GiB. One of [`Memtable::insert_bytes_max`] has room for those operations.
    pub(crate) fn new(capacity_bytes: usize) -> Memtable {
        let capacity_words = capacity_bytes.div_ceil(WORD_BYTES) as u64;
        let arena = Arena::new(2 * capacity_words + u64::from(EMPTY_WORDS));
        let mut allocator = Allocator::new();
        let keys_head = SkipList::create(&arena, &mut allocator);
        let index_root = KeyIndex::create(&arena, &mut allocator);
        Memtable {
            arena,
            keys_head,
            index_root,
            capacity_words: capacity_words + u64::from(EMPTY_WORDS),
            charged_words: AtomicU64::new(u64::from(EMPTY_WORDS)),
            writer: Mutex::new(WriterState { allocator, heights: Heights::new() }),
            records: AtomicUsize::new(0),
            keys: AtomicUsize::new(0),
            ts_min: AtomicI64::new(Timestamp::MAX),
            ts_max: AtomicI64::new(Timestamp::MIN),
            seq_first: AtomicU64::new(0),
            seq_last: AtomicU64::new(0),
        }
    }

    /// The most, in bytes, by which inserting `ops` operations raises [`Memtable::used_bytes`];
    /// `encoded_bytes` is their size in a batch.
    pub(crate) fn insert_bytes_max(ops: usize, encoded_bytes: usize) -> usize {
        encoded_bytes + ops * (OP_BYTES_MAX - OP_ENCODED_BYTES_MIN)
    }

    /// Whether these operations can be inserted for sure. It stays true until another insert.
    pub(crate) fn has_room_for(&self, ops: usize, encoded_bytes: usize) -> bool {
        let words = Self::insert_bytes_max(ops, encoded_bytes).div_ceil(WORD_BYTES) as u64;
        self.charged_words.load(Ordering::Relaxed) + words <= self.capacity_words
    }

    /// What the records take, in bytes, their order included.
    pub(crate) fn used_bytes(&self) -> usize {
        self.charged_words.load(Ordering::Relaxed) as usize * WORD_BYTES
    }

    /// The share of its capacity that is used, from 0 to 1.
    pub(crate) fn fill(&self) -> f64 {
        self.charged_words.load(Ordering::Relaxed) as f64 / self.capacity_words as f64
    }

    /// Whether nothing was inserted yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many records were inserted, overwritten ones and tombstones included.
    pub(crate) fn len(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }

    /// How many keys they have.
    pub(crate) fn key_count(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    /// The least and the greatest timestamp of all records. It covers every record up to a `visible`
    /// that was loaded before this call. `None` if there is none.
    pub(crate) fn ts_range(&self) -> Option<(Timestamp, Timestamp)> {
        let range = (self.ts_min.load(Ordering::Relaxed), self.ts_max.load(Ordering::Relaxed));
        (range.0 <= range.1).then_some(range)
    }

    /// The lowest and the highest seq of all records. `None` if there is none.
    pub(crate) fn seq_range(&self) -> Option<(SeqNo, SeqNo)> {
        // Acquire: whoever sees the first seq sees a last one that isn't below it.
        let first = self.seq_first.load(Ordering::Acquire);
        (first != 0).then(|| (first, self.seq_last.load(Ordering::Relaxed)))
    }

    /// Becomes the writer; waits while there is another one.
    pub(crate) fn writer(&self) -> MemtableWriter<'_> {
        MemtableWriter { memtable: self, state: self.writer.lock() }
    }

    /// The newest version of `key` at or before `at`, tombstones included, among the records with a
    /// seq up to `visible`; of two at one timestamp the one with the higher seq. `hash` is that of the
    /// key.
    pub(crate) fn floor(
        &self,
        key: &[u8],
        hash: KeyHash,
        at: Timestamp,
        visible: SeqNo,
    ) -> Option<MemtableVersion> {
        let node = self.find_key(key, hash);
        if node == NULL { None } else { self.versions(node).floor(at, visible) }
    }

    /// The value of a version that this memtable answered; empty for a tombstone.
    pub(crate) fn value(&self, version: &MemtableVersion) -> Vec<u8> {
        let mut value = Vec::new();
        self.value_into(version, &mut value);
        value
    }

    /// Like [`Memtable::value`]; replaces what `out` holds.
    pub(crate) fn value_into(&self, version: &MemtableVersion, out: &mut Vec<u8>) {
        version.value_into(&self.arena, out);
    }

    fn key_list(&self) -> SkipList<'_> {
        SkipList::at(&self.arena, self.keys_head)
    }

    fn key_index(&self) -> KeyIndex<'_> {
        KeyIndex::at(&self.arena, self.index_root)
    }

    /// The node of `key`, or [`NULL`].
    fn find_key(&self, key: &[u8], hash: KeyHash) -> u32 {
        self.key_index().find(hash, |node| {
            self.arena.get(node + KEY_LENGTH) == key.len() as u64
                && self.arena.holds_bytes(node + KEY, key)
        })
    }

    /// The node of the first key at or after `key`, or [`NULL`].
    fn first_key(&self, key: &[u8]) -> u32 {
        self.key_list().split(|node| self.compare_key(node, key) == Order::Less).1
    }

    fn versions(&self, node: u32) -> Versions<'_> {
        Versions::at(&self.arena, node + VERSION_ROOTS)
    }

    fn key_into(&self, node: u32, out: &mut Vec<u8>) {
        self.arena.get_bytes(node + KEY, self.arena.get(node + KEY_LENGTH) as usize, out);
    }

    /// Compares the key of a node with `key`. Where the words of the shorter one, padded with zeros,
    /// are those of the longer one, the shorter one is its prefix.
    fn compare_key(&self, node: u32, key: &[u8]) -> Order {
        let len = self.arena.get(node + KEY_LENGTH) as usize;
        let common = &key[..key.len().min(len.next_multiple_of(WORD_BYTES))];
        for (index, ours) in (node + KEY..).zip(common.chunks(WORD_BYTES)) {
            let order = self.arena.get(index).cmp(&word_of(ours));
            if order != Order::Equal {
                return order;
            }
        }
        len.cmp(&key.len())
    }
}

/// The one who may insert, for as long as it lives.
pub(crate) struct MemtableWriter<'m> {
    memtable: &'m Memtable,
    state: MutexGuard<'m, WriterState>,
}

impl MemtableWriter<'_> {
    /// Inserts one record, which readers see when they ask with `seq` or above. `seq` is above that
    /// of every record before, and the caller made sure of room ([`Memtable::has_room_for`]).
    pub(crate) fn insert(&mut self, seq: SeqNo, op: &Op<'_>) {
        let hash = KeyHash::of(op.key);
        let node = self.memtable.find_key(op.key, hash);
        self.insert_at(seq, op, hash, node);
    }

    /// Inserts these records as [`insert`](Self::insert) does, with seqs from `first_seq` on, and
    /// returns the seq that comes next. The keys of several records are looked for before the first of
    /// them is inserted: then the memory that they lie in is waited for together.
    pub(crate) fn insert_all<'o>(
        &mut self,
        first_seq: SeqNo,
        mut ops: impl Iterator<Item = Op<'o>>,
    ) -> SeqNo {
        let mut seq = first_seq;
        let mut found = SmallVec::<[(Op<'o>, KeyHash, u32); LOOKED_FOR_TOGETHER]>::new();
        loop {
            found.clear();
            found.extend(ops.by_ref().take(LOOKED_FOR_TOGETHER).map(|op| {
                let hash = KeyHash::of(op.key);
                (op, hash, self.memtable.find_key(op.key, hash))
            }));
            if found.is_empty() {
                return seq;
            }
            for &(op, hash, mut node) in &found {
                // A record before it may have brought the key.
                if node == NULL {
                    node = self.memtable.find_key(op.key, hash);
                }
                self.insert_at(seq, &op, hash, node);
                seq += 1;
            }
        }
    }

    /// Inserts a record whose key has this node, or [`NULL`] where it has none.
    fn insert_at(&mut self, seq: SeqNo, op: &Op<'_>, hash: KeyHash, node: u32) {
        let memtable = self.memtable;
        let WriterState { allocator, heights } = &mut *self.state;
        let encoded_bytes_min = OP_ENCODED_BYTES_MIN + op.key.len() + op.value.len();
        assert!(memtable.has_room_for(1, encoded_bytes_min), "an insert into a full memtable");
        memtable.widen_fences(seq, op.ts);

        if node == NULL {
            memtable.insert_key(allocator, heights, seq, op, hash);
        } else {
            memtable.versions(node).push(allocator, heights, seq, op);
        }
        memtable.charged_words.store(allocator.charged_words(), Ordering::Relaxed);
    }
}

/// The writer's own steps.
impl Memtable {
    /// Comes before the record is shown. Only the writer stores, so a load and a store suffice.
    fn widen_fences(&self, seq: SeqNo, ts: Timestamp) {
        let last = self.seq_last.load(Ordering::Relaxed);
        assert!(last < seq && seq <= SEQ_NO_MAX, "seq {seq} after seq {last}");
        self.seq_last.store(seq, Ordering::Relaxed);
        if last == 0 {
            self.seq_first.store(seq, Ordering::Release);
        }
        let (ts_min, ts_max) = (&self.ts_min, &self.ts_max);
        ts_min.store(ts_min.load(Ordering::Relaxed).min(ts), Ordering::Relaxed);
        ts_max.store(ts_max.load(Ordering::Relaxed).max(ts), Ordering::Relaxed);
        self.records.store(self.len() + 1, Ordering::Relaxed);
    }

    fn insert_key(
        &self,
        allocator: &mut Allocator,
        heights: &mut Heights,
        seq: SeqNo,
        op: &Op<'_>,
        hash: KeyHash,
    ) {
        let keys = self.key_count();
        self.keys.store(keys + 1, Ordering::Relaxed);
        let node = NewNode::take(&self.arena, allocator, heights, KEY + words_for(op.key.len()));
        self.arena.set(node.index + KEY_LENGTH, op.key.len() as u64);
        self.arena.set_bytes(node.index + KEY, op.key);
        self.versions(node.index).push(allocator, heights, seq, op);
        self.key_list().insert(node, |other| self.compare_key(other, op.key) == Order::Less);
        self.key_index().insert(allocator, keys, hash, node.index);
    }
}
