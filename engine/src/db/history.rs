//! A key's history: its versions in a range of time, in order.
//!
//! Each source decodes some versions at a time into columns of its own, a table a chunk's. What is
//! shown next is found by comparing timestamps, and with one source not even those.

use std::sync::Arc;

use smallvec::SmallVec;

use super::state::SuperVersion;
use crate::error::Result;
use crate::iter::{Cursor as _, Order, Versions};
use crate::key::{EntryRef, KeyHash, SeqNo, Timestamp, ValueKind, ValueRef};
use crate::memtable::{Memtable, MemtableCursor, MemtableVersion};
use crate::table::{TableHistory, Wanted};

/// How many versions a memtable decodes at a time.
const MEMTABLE_VERSIONS: usize = 64;

/// The versions of a key in a range of time; see [`Snapshot::history`](crate::Snapshot::history). It
/// shows the database as it was when it was made.
pub struct History {
    wanted: Wanted,
    /// Newest first.
    sources: SmallVec<[Source; 1]>,
    shows_ends: bool,
}

/// The versions of a key and its ends in a range of time; see
/// [`Snapshot::timeline`](crate::Snapshot::timeline). It shows the database as it was when it was made.
#[derive(Debug)]
pub struct Timeline {
    history: History,
}

/// A source, and what it has decoded.
struct Source {
    origin: Origin,
    versions: Versions,
}

enum Origin {
    Memtable(MemtableHistory),
    Table(TableHistory),
}

struct MemtableHistory {
    memtable: Arc<Memtable>,
    visible: SeqNo,
    /// What is not yet decoded; `None` once all of it is.
    rest: Option<(Timestamp, Timestamp)>,
    value: Vec<u8>,
}

impl SuperVersion {
    /// The history of `key`; [`Timestamp::MIN`] begins with what is kept.
    pub(super) fn history(
        &self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        order: Order,
        visible: SeqNo,
    ) -> Result<History> {
        let from = if from == Timestamp::MIN { self.horizon } else { from };
        self.check_horizon(from.min(to))?;
        let wanted = Wanted { key: key.to_vec(), from, to, order };
        Ok(self.walk(wanted, visible, false))
    }

    /// What is there of the versions, also before the horizon.
    pub(super) fn walk(&self, wanted: Wanted, visible: SeqNo, shows_ends: bool) -> History {
        let mut sources = SmallVec::new();
        if wanted.from <= wanted.to {
            self.origins(&wanted, visible, |origin| {
                sources.push(Source { origin, versions: Versions::default() });
            });
        }
        History { wanted, sources, shows_ends }
    }

    /// As [`history`](Self::history), with the ends.
    pub(super) fn timeline(
        &self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        order: Order,
        visible: SeqNo,
    ) -> Result<Timeline> {
        let history = self.history(key, from, to, order, visible)?;
        Ok(Timeline { history: History { shows_ends: true, ..history } })
    }

    /// The sources that fences and filters allow to hold what is wanted, newest first.
    fn origins(&self, wanted: &Wanted, visible: SeqNo, mut add: impl FnMut(Origin)) {
        let meets = |(min, max): (Timestamp, Timestamp)| min <= wanted.to && wanted.from <= max;
        for memtable in self.memtables() {
            if memtable.ts_range().is_some_and(meets) {
                add(Origin::Memtable(MemtableHistory {
                    memtable: Arc::clone(memtable),
                    visible,
                    rest: Some((wanted.from, wanted.to)),
                    value: Vec::new(),
                }));
            }
        }
        let hash = KeyHash::of(&wanted.key);
        for run in self.version.runs() {
            // No version is in two tables of a run: any order of them will do.
            for table in run.tables_with(&wanted.key) {
                let p = &table.meta.properties;
                if meets((p.min_ts, p.max_ts)) && table.reader.may_contain(hash, wanted.to) {
                    add(Origin::Table(TableHistory::new(Arc::clone(&table.reader))));
                }
            }
        }
    }
}

impl History {
    /// The next version. After an error it may lack some, so there should be no further call.
    #[expect(clippy::should_implement_trait, reason = "an iterator can't lend")]
    #[inline]
    pub fn next(&mut self) -> Result<Option<EntryRef<'_>>> {
        let next = self.next_shown()?;
        Ok(next.map(|(source, index)| self.sources[source].versions.entry(index)))
    }

    /// The timestamp of the next version.
    pub(super) fn next_ts(&mut self) -> Result<Option<Timestamp>> {
        let next = self.next_shown()?;
        Ok(next.map(|(source, index)| self.sources[source].versions.ts[index]))
    }

    /// The source that has the next version to be shown, and its index there.
    #[inline]
    fn next_shown(&mut self) -> Result<Option<(usize, usize)>> {
        match &mut self.sources[..] {
            [] => Ok(None),
            [source] => {
                let index = source.next_shown(&self.wanted, self.shows_ends)?;
                Ok(index.map(|index| (0, index)))
            }
            _ => self.next_merged(),
        }
    }

    /// As [`next_shown`](Self::next_shown), of several sources.
    fn next_merged(&mut self) -> Result<Option<(usize, usize)>> {
        let order = self.wanted.order;
        loop {
            let mut first: Option<(usize, Timestamp)> = None;
            for (number, source) in self.sources.iter_mut().enumerate() {
                if !source.has_next(&self.wanted)? {
                    continue;
                }
                let ts = source.versions.ts[source.next_index(order)];
                let comes_first = first.is_none_or(|(_, first)| match order {
                    Order::Ascending => ts < first,
                    Order::Descending => ts > first,
                });
                if comes_first {
                    first = Some((number, ts));
                }
            }
            let Some((number, ts)) = first else { return Ok(None) };
            let index = self.sources[number].take(order);
            // What older sources have at the same timestamp is hidden, and goes along.
            for older in &mut self.sources[number + 1..] {
                if !older.versions.left.is_empty()
                    && older.versions.ts[older.next_index(order)] == ts
                {
                    older.take(order);
                }
            }
            if self.sources[number].is_shown(index, self.shows_ends) {
                return Ok(Some((number, index)));
            }
        }
    }
}

impl Timeline {
    /// The timestamp of the next version and its value; no value is an end: from then on the key has
    /// none. After an error it may lack some, so there should be no further call.
    #[expect(clippy::should_implement_trait, reason = "an iterator can't lend")]
    pub fn next(&mut self) -> Result<Option<(Timestamp, Option<ValueRef<'_>>)>> {
        let next = self.history.next_shown()?;
        Ok(next.map(|(source, index)| {
            let versions = &self.history.sources[source].versions;
            let EntryRef { ts, value_type, value } = versions.entry(index);
            let is_put = versions.tags[index].kind() == ValueKind::Put;
            (ts, is_put.then_some(ValueRef { value_type, bytes: value }))
        }))
    }
}

impl Source {
    /// The index of the next version to be shown, where this is the only source.
    #[inline]
    fn next_shown(&mut self, wanted: &Wanted, shows_ends: bool) -> Result<Option<usize>> {
        loop {
            if !self.has_next(wanted)? {
                return Ok(None);
            }
            let index = self.take(wanted.order);
            if self.is_shown(index, shows_ends) {
                return Ok(Some(index));
            }
        }
    }

    /// Whether there is a next version; it is decoded then.
    #[inline]
    fn has_next(&mut self, wanted: &Wanted) -> Result<bool> {
        if self.versions.left.is_empty() {
            match &mut self.origin {
                Origin::Memtable(memtable) => memtable.read(wanted, &mut self.versions)?,
                Origin::Table(table) => table.read(wanted, &mut self.versions)?,
            }
        }
        Ok(!self.versions.left.is_empty())
    }

    /// The index of the next version, which there must be.
    #[inline]
    fn next_index(&self, order: Order) -> usize {
        match order {
            Order::Ascending => self.versions.left.start,
            Order::Descending => self.versions.left.end - 1,
        }
    }

    /// Goes past the next version.
    #[inline]
    fn take(&mut self, order: Order) -> usize {
        let index = self.next_index(order);
        match order {
            Order::Ascending => self.versions.left.start += 1,
            Order::Descending => self.versions.left.end -= 1,
        }
        index
    }

    #[inline]
    fn is_shown(&self, index: usize, shows_ends: bool) -> bool {
        match self.versions.tags[index].kind() {
            ValueKind::Put => true,
            ValueKind::End => shows_ends,
            ValueKind::Erase => false,
        }
    }
}

impl MemtableHistory {
    /// Replaces `versions` by the next ones that are wanted, tombstones included; by none, where no
    /// more are left.
    fn read(&mut self, wanted: &Wanted, versions: &mut Versions) -> Result<()> {
        versions.clear();
        versions.values.clear();
        if let Some((from, to)) = self.rest.take() {
            match wanted.order {
                Order::Ascending => self.read_ascending(&wanted.key, from, to, versions)?,
                Order::Descending => self.read_descending(&wanted.key, from, to, versions),
            }
        }
        versions.show_all();
        Ok(())
    }

    fn read_ascending(
        &mut self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        versions: &mut Versions,
    ) -> Result<()> {
        let mut cursor = MemtableCursor::new(Arc::clone(&self.memtable), self.visible);
        cursor.seek(key, from)?;
        while let Some(record) = cursor.record().filter(|r| r.key == key && r.ts <= to) {
            if versions.ts.len() == MEMTABLE_VERSIONS {
                self.rest = Some((record.ts, to));
                return Ok(());
            }
            versions.values.extend_from_slice(record.value);
            versions.push(record.ts, record.tag);
            cursor.next()?;
        }
        Ok(())
    }

    /// Shown from the last to the first, as those of a table are.
    fn read_descending(
        &mut self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        versions: &mut Versions,
    ) {
        let mut found: SmallVec<[MemtableVersion; MEMTABLE_VERSIONS]> = SmallVec::new();
        let hash = KeyHash::of(key);
        let mut bound = to;
        loop {
            let version = self.memtable.floor(key, hash, bound, self.visible);
            let Some(version) = version.filter(|version| version.ts >= from) else { break };
            found.push(version);
            if version.ts == from {
                break;
            }
            bound = version.ts - 1;
            if found.len() == MEMTABLE_VERSIONS {
                self.rest = Some((from, bound));
                break;
            }
        }
        for version in found.iter().rev() {
            self.memtable.value_into(version, &mut self.value);
            versions.values.extend_from_slice(&self.value);
            versions.push(version.ts, version.tag);
        }
    }
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}
