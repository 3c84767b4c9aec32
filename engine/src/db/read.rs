//! The floor: the newest version of a key at or before a moment.
//!
//! Sources are the memtables and the runs, ranked newest first (invariant I1). With late data the
//! newest source need not hold the newest version, so the first hit does not end the search; what
//! ends it is that no source left can hold a later one. `docs/architecture.md` has the proof.

use std::cmp::Reverse;

use smallvec::SmallVec;

use super::state::{Core, SuperVersion};
use crate::error::Result;
use crate::iter::Order;
use crate::key::{Entry, KeyHash, SeqNo, Tag, Timestamp, ValueKind};
use crate::lookup::{Lookup, Mode};
use crate::memtable::{Memtable, MemtableVersion};
use crate::table::{TableVersion, Wanted};
use crate::version::{Run, Table};

/// The sources that a read meets without allocating.
const SOURCES_INLINE: usize = 24;

/// So many erases of a key, one behind the other, are passed by a search each.
const ERASES_SEARCHED: u32 = 8;

/// A source that may hold the floor, by its fences.
struct Candidate<'v> {
    /// No version in it that matters is later.
    ts_max: Timestamp,
    /// 0 is the newest.
    age: usize,
    source: Source<'v>,
}

#[derive(Clone, Copy)]
pub(super) enum Source<'v> {
    Memtable(&'v Memtable),
    Table(&'v Table),
}

/// Follows a floor from source to source. A floor without one has `()`, which costs nothing.
pub(super) trait Observer {
    /// No table of the run has the key, by its range of keys, at or before `bound`, by its fences.
    fn run_passed(&mut self, run: &Run, bound: Timestamp);

    /// All records of the source, if it has any, are later than `bound`.
    fn too_late(&mut self, source: Source<'_>, bound: Timestamp);

    /// The source can't hold a version that counts beside the one found before.
    fn beaten(&mut self, source: Source<'_>, bound: Timestamp);

    /// The filter says that the key is not there.
    fn filtered(&mut self, source: Source<'_>, bound: Timestamp);

    /// The source was asked for its floor at `bound`.
    fn asked(
        &mut self,
        source: Source<'_>,
        bound: Timestamp,
        found: Option<&Found<'_>>,
    ) -> Result<()>;
}

impl Observer for () {
    fn run_passed(&mut self, _: &Run, _: Timestamp) {}
    fn too_late(&mut self, _: Source<'_>, _: Timestamp) {}
    fn beaten(&mut self, _: Source<'_>, _: Timestamp) {}
    fn filtered(&mut self, _: Source<'_>, _: Timestamp) {}
    fn asked(&mut self, _: Source<'_>, _: Timestamp, _: Option<&Found<'_>>) -> Result<()> {
        Ok(())
    }
}

/// A version, still where it was found. It lives on the stack for the length of one read, so that the
/// sizes of its variants differ costs nothing, and a box would cost an allocation.
#[allow(clippy::large_enum_variant)]
pub(super) enum Found<'v> {
    Memtable(&'v Memtable, MemtableVersion),
    Table(TableVersion<'v>),
}

impl Found<'_> {
    pub(super) fn ts(&self) -> Timestamp {
        match self {
            Found::Memtable(_, version) => version.ts,
            Found::Table(version) => version.ts,
        }
    }

    pub(super) fn tag(&self) -> Tag {
        match self {
            Found::Memtable(_, version) => version.tag,
            Found::Table(version) => version.tag,
        }
    }

    pub(super) fn into_entry(self) -> Result<Entry> {
        let value = match &self {
            Found::Memtable(memtable, version) => memtable.value(version),
            Found::Table(version) => version.value()?,
        };
        Ok(Entry { ts: self.ts(), value_type: self.tag().value_type(), value })
    }
}

impl Core {
    /// The newest version of `key` at or before `at`; `None` where there is none, or where it is an
    /// end.
    pub(crate) fn floor(&self, key: &[u8], at: Timestamp) -> Result<Option<Entry>> {
        self.check_open()?;
        let (view, visible) = self.view.load();
        view.floor_entry(key, at, visible)
    }

    /// The version that a lookup means.
    pub(crate) fn find(&self, key: &[u8], lookup: Lookup) -> Result<Option<Entry>> {
        self.check_open()?;
        let (view, visible) = self.view.load();
        view.find(key, lookup, visible)
    }
}

impl SuperVersion {
    /// The version that a lookup means.
    pub(super) fn find(&self, key: &[u8], lookup: Lookup, visible: SeqNo) -> Result<Option<Entry>> {
        let at = lookup.at;
        let floor = |at| self.floor_entry(key, at, visible);
        let entry = match lookup.mode {
            Mode::Floor => floor(at)?,
            Mode::Exact => floor(at)?.filter(|entry| entry.ts == at),
            Mode::Before => at.checked_sub(1).map_or(Ok(None), floor)?,
            Mode::Ceiling => self.ceiling(key, at, visible)?,
            Mode::After => match at.checked_add(1) {
                Some(at) => self.ceiling(key, at, visible)?,
                None => None,
            },
            Mode::Nearest => {
                let nearer = |ceiling: &Entry, floor: &Entry| {
                    ceiling.ts.abs_diff(at) < floor.ts.abs_diff(at)
                };
                match (floor(at)?, self.ceiling(key, at, visible)?) {
                    (Some(floor), Some(ceiling)) if nearer(&ceiling, &floor) => Some(ceiling),
                    (floor, ceiling) => floor.or(ceiling),
                }
            }
        };
        Ok(entry.filter(|entry| lookup.allows(entry.ts)))
    }

    /// The oldest version of `key` at or after `at`.
    fn ceiling(&self, key: &[u8], at: Timestamp, visible: SeqNo) -> Result<Option<Entry>> {
        self.check_horizon(at)?;
        let mut history = self.history(key, at, Timestamp::MAX, Order::Ascending, visible)?;
        Ok(history.next()?.map(Entry::from))
    }

    pub(super) fn floor_entry(
        &self,
        key: &[u8],
        at: Timestamp,
        visible: SeqNo,
    ) -> Result<Option<Entry>> {
        self.floor(key, at, visible, &mut ())?.map(Found::into_entry).transpose()
    }

    /// The floor, still where it was found.
    pub(super) fn floor(
        &self,
        key: &[u8],
        at: Timestamp,
        visible: SeqNo,
        observer: &mut impl Observer,
    ) -> Result<Option<Found<'_>>> {
        self.check_horizon(at)?;
        let found = self.newest_standing(key, at, visible, observer)?;
        Ok(found.filter(|found| found.tag().kind() == ValueKind::Put))
    }

    /// The timestamp of the newest version of `key`, a put or an end.
    pub(super) fn newest_ts(&self, key: &[u8], visible: SeqNo) -> Result<Option<Timestamp>> {
        let newest = self.newest_standing(key, Timestamp::MAX, visible, &mut ())?;
        Ok(newest.map(|found| found.ts()))
    }

    /// The newest put or end of `key` at or before `bound` that no erase hides.
    fn newest_standing(
        &self,
        key: &[u8],
        mut bound: Timestamp,
        visible: SeqNo,
        observer: &mut impl Observer,
    ) -> Result<Option<Found<'_>>> {
        for erases in 1.. {
            let found = self.newest_record(key, bound, visible, observer)?;
            let Some(erase) = found.as_ref().filter(|f| f.tag().kind() == ValueKind::Erase) else {
                return Ok(found);
            };
            let before = erase.ts().checked_sub(1);
            let next = match before {
                Some(before) if erases >= ERASES_SEARCHED => {
                    self.standing_ts(key, before, visible)?
                }
                before => before,
            };
            let Some(next) = next else { return Ok(None) };
            bound = next;
        }
        Ok(None)
    }

    /// The timestamp of what a search for [`newest_standing`](Self::newest_standing) would come to. A
    /// key that was erased has an erase for each of its versions, and to walk along them costs far less
    /// than a search for each.
    fn standing_ts(
        &self,
        key: &[u8],
        bound: Timestamp,
        visible: SeqNo,
    ) -> Result<Option<Timestamp>> {
        let (from, order) = (Timestamp::MIN, Order::Descending);
        let wanted = Wanted { key: key.to_vec(), from, to: bound, order };
        self.walk(wanted, visible, true).next_ts()
    }

    /// The newest record of `key` at or before `bound`, of the newest source that holds one there;
    /// tombstones included.
    fn newest_record(
        &self,
        key: &[u8],
        bound: Timestamp,
        visible: SeqNo,
        observer: &mut impl Observer,
    ) -> Result<Option<Found<'_>>> {
        let mut best: Option<(usize, Found<'_>)> = None;
        let hash = KeyHash::of(key);
        let mut candidates = self.candidates(key, bound, observer).into_iter();
        while let Some(candidate) = candidates.next() {
            let is_beaten = best.as_ref().is_some_and(|(best_age, best)| {
                (candidate.ts_max, Reverse(candidate.age)) < (best.ts(), Reverse(*best_age))
            });
            // Those behind it are beaten too.
            if is_beaten {
                observer.beaten(candidate.source, bound);
                candidates.for_each(|candidate| observer.beaten(candidate.source, bound));
                break;
            }
            let found = match candidate.source {
                Source::Memtable(memtable) => memtable
                    .floor(key, hash, bound, visible)
                    .map(|version| Found::Memtable(memtable, version)),
                Source::Table(table) => {
                    if !table.reader.may_contain(hash, bound) {
                        observer.filtered(candidate.source, bound);
                        continue;
                    }
                    table.reader.floor(key, bound)?.map(Found::Table)
                }
            };
            observer.asked(candidate.source, bound, found.as_ref())?;
            let Some(found) = found else { continue };
            let better = best.as_ref().is_none_or(|(age, best)| {
                found.ts() > best.ts() || (found.ts() == best.ts() && candidate.age < *age)
            });
            if better {
                best = Some((candidate.age, found));
            }
        }
        Ok(best.map(|(_, found)| found))
    }

    /// The sources whose fences allow a version of `key` at or before `bound`, the one that may hold
    /// the latest first, and of equals the newest.
    fn candidates(
        &self,
        key: &[u8],
        bound: Timestamp,
        observer: &mut impl Observer,
    ) -> SmallVec<[Candidate<'_>; SOURCES_INLINE]> {
        let mut candidates = SmallVec::new();
        let mut add = |age, ts_max: Timestamp, source| {
            candidates.push(Candidate { ts_max: ts_max.min(bound), age, source });
        };
        let mut age = 0;
        for memtable in self.memtables() {
            match memtable.ts_range() {
                Some((ts_min, ts_max)) if ts_min <= bound => {
                    add(age, ts_max, Source::Memtable(memtable));
                }
                _ => observer.too_late(Source::Memtable(memtable), bound),
            }
            age += 1;
        }
        for run in self.version.runs() {
            match run.table_for(key, bound) {
                Some(table) => add(age, table.meta.properties.max_ts, Source::Table(table)),
                None => observer.run_passed(run, bound),
            }
            age += 1;
        }
        candidates.sort_unstable_by_key(|c: &Candidate<'_>| (Reverse(c.ts_max), c.age));
        candidates
    }
}
