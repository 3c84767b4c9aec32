//! Walking a memtable in order, as of one seq.
//!
//! # Thread safety
//! A cursor belongs to one thread and walks while the writer inserts. It shows exactly the records
//! that the memtable had with a seq up to `visible`: whatever comes later has a higher seq and is
//! passed over, wherever it is linked in.
//!
//! # Invariants
//! - While the cursor stands on a record, `key` is the key of `node`, `value` the value of
//!   `current`, and `walk` is at what follows it among the versions of `node`.
//! - `walk.in_order` and `walk.late` hold only visible versions at or after where the walk is.

use std::cmp::Ordering as Order;
use std::ops::Range;
use std::sync::Arc;

use super::Memtable;
use super::arena::{Arena, NULL};
use super::skiplist::SkipList;
use super::versions::{Chunk, MemtableVersion, VERSION_WORDS, Versions, last_late, seq, ts};
use crate::error::Result;
use crate::iter::{Cursor, Record};
use crate::key::{SeqNo, Timestamp};

/// A place among the records of a memtable with a seq up to some `visible`: one record for each
/// `(key, ts)`, that with the highest such seq, tombstones included.
pub(crate) struct MemtableCursor {
    memtable: Arc<Memtable>,
    visible: SeqNo,
    node: u32,
    walk: VersionWalk,
    current: Option<MemtableVersion>,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl MemtableCursor {
    /// Stands nowhere. `visible` is a seq that the caller may read up to, see [`Memtable`].
    pub(crate) fn new(memtable: Arc<Memtable>, visible: SeqNo) -> Self {
        MemtableCursor {
            memtable,
            visible,
            node: NULL,
            walk: VersionWalk::default(),
            current: None,
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Stands on the first version of `node` at or after `from`, or else on the first of a later
    /// key.
    fn enter(&mut self, mut node: u32, mut from: Timestamp) {
        self.current = None;
        while node != NULL {
            let versions = self.memtable.versions(node);
            self.walk.begin(&self.memtable.arena, versions, from, self.visible);
            if self.step(node) {
                self.memtable.key_into(node, &mut self.key);
                self.node = node;
                return;
            }
            node = self.memtable.key_list().next(node);
            from = Timestamp::MIN;
        }
    }

    /// Goes to the following version of `node`, where there is one.
    fn step(&mut self, node: u32) -> bool {
        let arena = &self.memtable.arena;
        let found = self.walk.next(arena, self.memtable.versions(node), self.visible);
        self.current = found.map(|version| MemtableVersion::read(arena, version));
        if let Some(version) = &self.current {
            self.memtable.value_into(version, &mut self.value);
        }
        self.current.is_some()
    }
}

impl Cursor for MemtableCursor {
    fn seek(&mut self, key: &[u8], ts: Timestamp) -> Result<()> {
        let node = self.memtable.first_key(key);
        let same_key = node != NULL && self.memtable.compare_key(node, key) == Order::Equal;
        self.enter(node, if same_key { ts } else { Timestamp::MIN });
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        assert!(self.current.is_some(), "next on a cursor that stands on no record");
        if !self.step(self.node) {
            self.enter(self.memtable.key_list().next(self.node), Timestamp::MIN);
        }
        Ok(())
    }

    fn record(&self) -> Option<Record<'_>> {
        let MemtableVersion { ts, tag, .. } = self.current?;
        Some(Record { key: &self.key, ts, tag, value: &self.value })
    }
}

/// A place among the versions of one key: its in-order and its late versions, merged.
#[derive(Default)]
struct VersionWalk {
    /// What is left of each chunk, as indexes of versions; the oldest chunk is last, none is empty.
    in_order: Vec<Range<u32>>,
    /// The next late version.
    late: Option<u32>,
    /// The first late node with a higher timestamp than `late`, or [`NULL`].
    after_late: u32,
}

impl VersionWalk {
    /// Goes before the first version at or after `from`.
    fn begin(&mut self, arena: &Arena, versions: Versions<'_>, from: Timestamp, visible: SeqNo) {
        self.in_order.clear();
        let mut next = versions.newest_chunk();
        while let Some(chunk) = next {
            let end = Chunk::partition_point(chunk.len(), |i| seq(arena, chunk.slot(i)) <= visible);
            let start = Chunk::partition_point(end, |i| ts(arena, chunk.slot(i)) < from);
            if start < end {
                self.in_order.push(chunk.slot(start)..chunk.slot(end));
            }
            // What lies before `from` here is newer than all that an older chunk holds.
            next = if start == 0 { chunk.older(arena) } else { None };
        }
        self.late = None;
        if let Some(list) = versions.late() {
            let (_, first) = list.split(|node| ts(arena, node) < from);
            self.find_late(arena, list, first, visible);
        }
    }

    /// Goes past the next version and returns it.
    fn next(&mut self, arena: &Arena, versions: Versions<'_>, visible: SeqNo) -> Option<u32> {
        let in_order = self.in_order.last().map(|chunk| chunk.start);
        let order = match (in_order, self.late) {
            (None, None) => return None,
            (Some(_), None) => Order::Less,
            (None, Some(_)) => Order::Greater,
            (Some(in_order), Some(late)) => ts(arena, in_order).cmp(&ts(arena, late)),
        };
        let late = self.late;
        if order.is_le() {
            self.pass_in_order(arena);
        }
        if order.is_ge()
            && let Some(list) = versions.late()
        {
            self.find_late(arena, list, self.after_late, visible);
        }
        // At the same timestamp the late version is the newer one.
        if order.is_lt() { in_order } else { late }
    }

    fn pass_in_order(&mut self, arena: &Arena) {
        // Values of one key lie as far apart as they were written; a walk need not wait for each.
        const VERSIONS_AHEAD: u32 = 8;
        if let Some(chunk) = self.in_order.last_mut() {
            chunk.start += VERSION_WORDS;
            let ahead = chunk.start + VERSIONS_AHEAD * VERSION_WORDS;
            if ahead < chunk.end {
                MemtableVersion::prefetch_value(arena, ahead);
            }
            if chunk.start == chunk.end {
                self.in_order.pop();
            }
        }
    }

    /// Finds the next late version from `node` on, which is the first of its timestamp: of the nodes
    /// of one timestamp the last one visible.
    fn find_late(&mut self, arena: &Arena, list: SkipList<'_>, mut node: u32, visible: SeqNo) {
        self.late = None;
        while node != NULL && self.late.is_none() {
            let at = ts(arena, node);
            let mut found = Some(node);
            let mut after = list.next(node);
            // Overwritten late versions are rare, but may be many: then they aren't walked through.
            if after != NULL && ts(arena, after) == at {
                found = last_late(arena, list, at, visible);
                (_, after) = list.split(|other| ts(arena, other) <= at);
            }
            self.late = found.filter(|&v| ts(arena, v) == at && seq(arena, v) <= visible);
            self.after_late = after;
            node = after;
        }
    }
}
