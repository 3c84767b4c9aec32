//! The versions of one key: an array for those that come in the order of time, a skiplist for those
//! that come late.
//!
//! ```text
//! roots, one word:  newest chunk u32 | head of the late list u32
//! chunk:            older chunk u32, log2 capacity u5, length u27 | version * capacity
//! late node:        version
//! version:          timestamp | seq u56, tag u8 | value
//! value:            up to 4 bytes: the bytes, padded u32 | length u32
//!                   more:          their index u32       | length u32
//! ```
//! A version is *in order* if its timestamp is above that of every in-order version of the key
//! before it; otherwise, an overwrite of the same timestamp included, it is *late*. Chunks hold 1,
//! 2, 4, ... versions, so a key with one version is small and one with n has log n chunks.
//!
//! # Thread safety
//! One writer (it holds the arena's [`Allocator`]) pushes while readers look. A version is shown by
//! one Release store: of the chunk's length, of the root that leads to a new chunk or list, or of a
//! link. Readers load those with Acquire and drop what has a seq above their own.
//!
//! # Invariants
//! - Over all chunks, oldest first, timestamp and seq both rise strictly. So "at or before a
//!   timestamp, and visible" holds for the versions up to some version and for none after it.
//! - A chunk that a root or a newer chunk leads to holds at least one version; all but the newest
//!   are full.
//! - Late versions are ordered by (timestamp, seq), both ascending. At one timestamp each of them
//!   has a higher seq than the in-order version.
//! - With n in-order versions, the chunks take at most twice `CHUNKED_VERSION_WORDS * n` words: the
//!   chunk of capacity 2^k is taken with version 2^k, so n versions have fewer than 2n slots, in at
//!   most n chunks.

use super::arena::{Allocator, Arena, NULL, WORD_BYTES, word_of, words_for};
use super::skiplist::{HEAD_WORDS, Heights, NewNode, SkipList, TOWER_WORDS_MAX};
use crate::batch::Op;
use crate::key::{SEQ_NO_MAX, SeqNo, Tag, Timestamp};

pub(super) const VERSION_WORDS: u32 = 3;

/// What an in-order version is charged: its slot, and a share of the chunks' headers.
pub(super) const CHUNKED_VERSION_WORDS: u32 = VERSION_WORDS + 1;

/// The most that pushing a version is charged, its value apart: the first late one.
pub(super) const PUSH_WORDS_MAX: u32 = HEAD_WORDS + TOWER_WORDS_MAX + VERSION_WORDS;

const NEWEST_CHUNK: u32 = 0;
const LATE_LIST: u32 = 1;

/// The longest value, in bytes, that is kept in the version itself.
const INLINE_BYTES_MAX: usize = 4;

const LENGTH_BITS: u32 = 27;
const CAPACITY_LOG2_MAX: u32 = LENGTH_BITS - 1;

/// A version of a key, by which its value is found in the same memtable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemtableVersion {
    pub(crate) ts: Timestamp,
    pub(crate) tag: Tag,
    value: u64,
}

impl MemtableVersion {
    pub(super) fn read(arena: &Arena, version: u32) -> MemtableVersion {
        let tag = arena.get(version + 1) as u8;
        MemtableVersion {
            ts: ts(arena, version),
            tag: Tag::from_byte(tag).expect("a version's tag is as it was pushed"),
            value: arena.get(version + 2),
        }
    }

    /// Tells that the value of the version at this index will be read soon.
    pub(super) fn prefetch_value(arena: &Arena, version: u32) {
        let value = arena.get(version + 2);
        let len = value as u32 as usize;
        if len > INLINE_BYTES_MAX {
            arena.prefetch_bytes((value >> 32) as u32, len);
        }
    }

    /// Replaces `out` by the value's bytes.
    pub(super) fn value_into(self, arena: &Arena, out: &mut Vec<u8>) {
        let len = self.value as u32 as usize;
        if len <= INLINE_BYTES_MAX {
            out.clear();
            out.extend_from_slice(&self.value.to_be_bytes()[..len]);
        } else {
            arena.get_bytes((self.value >> 32) as u32, len, out);
        }
    }
}

/// The timestamp of the version at this index.
pub(super) fn ts(arena: &Arena, version: u32) -> Timestamp {
    arena.get(version) as Timestamp
}

/// The seq of the version at this index.
pub(super) fn seq(arena: &Arena, version: u32) -> SeqNo {
    arena.get(version + 1) >> 8
}

/// A chunk's header, as it was at one moment.
#[derive(Clone, Copy)]
pub(super) struct Chunk {
    index: u32,
    header: u64,
}

impl Chunk {
    fn load(arena: &Arena, index: u32) -> Option<Chunk> {
        (index != NULL).then(|| Chunk { index, header: arena.acquire(index) })
    }

    pub(super) fn older(self, arena: &Arena) -> Option<Chunk> {
        Chunk::load(arena, (self.header >> 32) as u32)
    }

    /// How many versions it held.
    pub(super) fn len(self) -> u32 {
        self.header as u32 & ((1 << LENGTH_BITS) - 1)
    }

    fn capacity_log2(self) -> u32 {
        self.header as u32 >> LENGTH_BITS
    }

    /// The index of its `i`-th version. That of `len` is where the next one goes.
    pub(super) fn slot(self, i: u32) -> u32 {
        self.index + 1 + i * VERSION_WORDS
    }

    /// The last of its versions at which `fits` holds; it holds at the first one, and at none after
    /// one at which it doesn't. Mostly that is the last version at or before `at`.
    fn last_fitting(self, arena: &Arena, at: Timestamp, fits: impl Fn(u32) -> bool) -> u32 {
        let (mut fitting, mut unfit) = (0, self.len() - 1);
        // The last one first: it answers whoever asks for the latest.
        if fits(self.slot(unfit)) {
            return unfit;
        }
        // Timestamps mostly rise steadily, so a line through both ends leads close to the place, and
        // fewer cache lines are met than by halving. From there the steps double.
        let (first, last) = (ts(arena, self.slot(0)), ts(arena, self.slot(unfit)));
        let share = at.abs_diff(first) as f64 / last.abs_diff(first) as f64;
        let mut probe = ((share * f64::from(unfit)) as u32).clamp(1, unfit.max(2) - 1);
        let mut step = 1;
        while unfit - fitting > 1 {
            if fits(self.slot(probe)) {
                (fitting, probe) = (probe, probe + step);
            } else {
                (unfit, probe) = (probe, probe.saturating_sub(step));
            }
            step *= 2;
            if probe <= fitting || probe >= unfit {
                probe = fitting.midpoint(unfit);
            }
        }
        fitting
    }

    /// How many of its first `len` versions `holds` holds for; it holds for none after them.
    pub(super) fn partition_point(len: u32, holds: impl Fn(u32) -> bool) -> u32 {
        let (mut from, mut to) = (0, len);
        while from < to {
            let middle = from.midpoint(to);
            if holds(middle) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }
}

/// The versions of one key, by the word of their roots.
#[derive(Clone, Copy)]
pub(super) struct Versions<'a> {
    arena: &'a Arena,
    roots: u32,
}

impl<'a> Versions<'a> {
    pub(super) fn at(arena: &'a Arena, roots: u32) -> Self {
        Versions { arena, roots }
    }

    /// The chunk that holds the newest in-order versions; [`Chunk::older`] leads to the others.
    pub(super) fn newest_chunk(self) -> Option<Chunk> {
        Chunk::load(self.arena, self.arena.acquire_half(self.roots, NEWEST_CHUNK))
    }

    /// The late versions.
    pub(super) fn late(self) -> Option<SkipList<'a>> {
        let head = self.arena.acquire_half(self.roots, LATE_LIST);
        (head != NULL).then(|| SkipList::at(self.arena, head))
    }

    /// The newest version at or before `at` among those with a seq up to `visible`; of two at the
    /// same timestamp the one with the higher seq.
    pub(super) fn floor(self, at: Timestamp, visible: SeqNo) -> Option<MemtableVersion> {
        let in_order = self.floor_in_order(at, visible);
        // A late version counts if it isn't older, and then it is the answer: at the same timestamp
        // it has the higher seq.
        let at_least = in_order.map_or(Timestamp::MIN, |version| ts(self.arena, version));
        let late = self.late().and_then(|list| self.floor_late(list, at_least, at, visible));
        late.or(in_order).map(|version| MemtableVersion::read(self.arena, version))
    }

    fn floor_in_order(self, at: Timestamp, visible: SeqNo) -> Option<u32> {
        let fits = |slot| ts(self.arena, slot) <= at && seq(self.arena, slot) <= visible;
        let mut next = self.newest_chunk();
        while let Some(chunk) = next {
            if fits(chunk.slot(0)) {
                return Some(chunk.slot(chunk.last_fitting(self.arena, at, fits)));
            }
            next = chunk.older(self.arena);
        }
        None
    }

    /// One search, and one more for each timestamp on the way that has no visible version: those of
    /// a batch that is being inserted, or written since a snapshot.
    fn floor_late(
        self,
        list: SkipList<'_>,
        at_least: Timestamp,
        at: Timestamp,
        visible: SeqNo,
    ) -> Option<u32> {
        let mut bound = at;
        loop {
            let found = last_late(self.arena, list, bound, visible)?;
            bound = ts(self.arena, found);
            if bound < at_least {
                return None;
            }
            if seq(self.arena, found) <= visible {
                return Some(found);
            }
        }
    }

    /// Adds a version; its seq is above that of every version of the key. For the writer only.
    pub(super) fn push(
        self,
        allocator: &mut Allocator,
        heights: &mut Heights,
        seq: SeqNo,
        op: &Op<'_>,
    ) {
        let version = [
            op.ts as u64,
            seq << 8 | u64::from(op.tag.to_byte()),
            put_value(self.arena, allocator, op.value),
        ];
        match self.newest_chunk() {
            Some(chunk) if op.ts <= ts(self.arena, chunk.slot(chunk.len() - 1)) => {
                self.push_late(allocator, heights, version);
            }
            newest => self.push_in_order(allocator, newest, version),
        }
    }

    fn push_in_order(
        self,
        allocator: &mut Allocator,
        newest: Option<Chunk>,
        version: [u64; VERSION_WORDS as usize],
    ) {
        allocator.charge(CHUNKED_VERSION_WORDS);
        if let Some(chunk) = newest.filter(|chunk| chunk.len() < 1 << chunk.capacity_log2()) {
            self.write(chunk.slot(chunk.len()), version);
            self.arena.publish(chunk.index, chunk.header + 1);
            return;
        }
        let (older, capacity_log2) = match newest {
            Some(full) => (full.index, (full.capacity_log2() + 1).min(CAPACITY_LOG2_MAX)),
            None => (NULL, 0),
        };
        let index = allocator.take_ahead(self.arena, 1 + VERSION_WORDS * (1 << capacity_log2));
        let header = u64::from(older) << 32 | u64::from(capacity_log2) << LENGTH_BITS | 1;
        self.write(Chunk { index, header }.slot(0), version);
        self.arena.set(index, header);
        self.arena.publish_half(self.roots, NEWEST_CHUNK, index);
    }

    fn push_late(
        self,
        allocator: &mut Allocator,
        heights: &mut Heights,
        version: [u64; VERSION_WORDS as usize],
    ) {
        let list = self.late().unwrap_or_else(|| {
            let head = SkipList::create(self.arena, allocator);
            self.arena.publish_half(self.roots, LATE_LIST, head);
            SkipList::at(self.arena, head)
        });
        let node = NewNode::take(self.arena, allocator, heights, VERSION_WORDS);
        self.write(node.index, version);
        // No other version has its seq, so that "not after it" is "before it".
        let (new_ts, new_seq) = (ts(self.arena, node.index), seq(self.arena, node.index));
        list.insert(node, |other| not_after(self.arena, other, new_ts, new_seq));
    }

    fn write(self, index: u32, version: [u64; VERSION_WORDS as usize]) {
        for (i, word) in (index..).zip(version) {
            self.arena.set(i, word);
        }
    }
}

/// The last late version at or before `(bound, bound_seq)`.
pub(super) fn last_late(
    arena: &Arena,
    list: SkipList<'_>,
    bound: Timestamp,
    bound_seq: SeqNo,
) -> Option<u32> {
    let (found, _) = list.split(|node| not_after(arena, node, bound, bound_seq));
    (found != NULL).then_some(found)
}

fn not_after(arena: &Arena, version: u32, bound: Timestamp, bound_seq: SeqNo) -> bool {
    let ts = ts(arena, version);
    ts < bound || ts == bound && seq(arena, version) <= bound_seq
}

fn put_value(arena: &Arena, allocator: &mut Allocator, value: &[u8]) -> u64 {
    let len = value.len() as u64;
    if value.len() <= INLINE_BYTES_MAX {
        return word_of(value) | len;
    }
    let index = allocator.take(arena, words_for(value.len()));
    arena.set_bytes(index, value);
    u64::from(index) << 32 | len
}

const _: () = assert!(SEQ_NO_MAX << 8 >> 8 == SEQ_NO_MAX && INLINE_BYTES_MAX <= WORD_BYTES - 4);
