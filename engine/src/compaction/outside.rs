//! What the sources may hold that a merge does not read.

use std::sync::Arc;

use super::retention::Outside;
use crate::key::{FileId, KeyHash, SeqNo, Tag, Timestamp, ValueKind};
use crate::memtable::Memtable;
use crate::table::{TableProperties, TableVersion};
use crate::version::{Run, Table, Version};

/// What a read of one moment looks into, and the horizon of that moment: a merge is picked from it, and
/// goes by it.
#[derive(Debug)]
pub(crate) struct Sources {
    /// Those with records at or before the horizon: others forbid nothing.
    memtables: Vec<Arc<Memtable>>,
    /// All operations up to this one, of which every one is that the horizon did not refuse.
    visible: SeqNo,
    pub(crate) version: Arc<Version>,
    pub(crate) horizon: Timestamp,
}

impl Sources {
    /// `visible` was loaded after the super-version that the others are of.
    pub(crate) fn new<'m>(
        memtables: impl Iterator<Item = &'m Arc<Memtable>>,
        visible: SeqNo,
        version: Arc<Version>,
        horizon: Timestamp,
    ) -> Self {
        let is_early = |memtable: &&Arc<Memtable>| {
            memtable.ts_range().is_some_and(|(ts_min, _)| ts_min <= horizon)
        };
        let memtables = if horizon == Timestamp::MIN {
            Vec::new()
        } else {
            memtables.filter(is_early).cloned().collect()
        };
        Sources { memtables, visible, version, horizon }
    }

    /// All but the tables `read`, of the runs down to the one before `oldest_end`, newest first.
    pub(super) fn outside<'a>(&'a self, read: &[&Arc<Table>], oldest_end: usize) -> OutsideOf<'a> {
        let mut read: Vec<FileId> = read.iter().map(|table| table.meta.id).collect();
        read.sort_unstable();
        OutsideOf { sources: self, read, oldest_end }
    }
}

/// The sources without the tables that a merge reads.
pub(super) struct OutsideOf<'a> {
    sources: &'a Sources,
    /// Ascending.
    read: Vec<FileId>,
    /// The runs before this one are not older than the merge.
    oldest_end: usize,
}

impl OutsideOf<'_> {
    /// Whether the newest record of the key at or before `ts` in any table of these runs `is_meant`. A table
    /// is read only where neither its fences nor its filters say that there is none; one that can't be read
    /// may hold anything.
    fn any_table(
        &self,
        runs: &[Arc<Run>],
        (key, ts): (&[u8], Timestamp),
        may_be_meant: impl Fn(&TableProperties) -> bool,
        is_meant: impl Fn(&TableVersion<'_>) -> bool,
    ) -> bool {
        let hash = KeyHash::of(key);
        let tables = runs.iter().flat_map(|run| run.tables_with(key));
        tables.filter(|table| self.read.binary_search(&table.meta.id).is_err()).any(|table| {
            let p = &table.meta.properties;
            (p.first_key.as_slice(), p.first_ts) <= (key, ts)
                && p.min_ts <= ts
                && may_be_meant(p)
                && table.reader.may_contain(hash, ts)
                && table
                    .reader
                    .floor(key, ts)
                    .map_or(true, |found| found.is_some_and(|v| is_meant(&v)))
        })
    }
}

impl Outside for OutsideOf<'_> {
    fn may_erase(&self, key: &[u8], ts: Timestamp) -> bool {
        let hash = KeyHash::of(key);
        let Sources { memtables, visible, version, .. } = self.sources;
        let is_erase = |at: Timestamp, tag: Tag| at == ts && tag.kind() == ValueKind::Erase;
        let erases = |memtable: &Arc<Memtable>| {
            let found = memtable.floor(key, hash, ts, *visible);
            found.is_some_and(|found| is_erase(found.ts, found.tag))
        };
        let newer = &version.runs()[..self.oldest_end];
        let may_be_meant = |p: &TableProperties| p.erases > 0 && p.max_ts >= ts;
        memtables.iter().any(erases)
            || self.any_table(newer, (key, ts), may_be_meant, |found| is_erase(found.ts, found.tag))
    }

    fn may_hold(&self, key: &[u8], ts: Timestamp) -> bool {
        let hash = KeyHash::of(key);
        let Sources { memtables, visible, version, .. } = self.sources;
        memtables.iter().any(|memtable| memtable.floor(key, hash, ts, *visible).is_some())
            || self.any_table(version.runs(), (key, ts), |_| true, |_| true)
    }
}
