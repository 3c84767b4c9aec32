//! The floor: the newest version of a key at or before a moment.
//!
//! Sources are the memtables and the runs, ranked newest first (invariant I1). With late data the
//! newest source need not hold the newest version, so the first hit does not end the search; what
//! ends it is that no source left can hold a later one. `docs/architecture.md` has the proof.

use std::cmp::Reverse;

use smallvec::SmallVec;

use super::state::{Core, SuperVersion};
use crate::error::Result;
use crate::key::{Entry, KeyHash, SeqNo, Tag, Timestamp, ValueKind};
use crate::memtable::{Memtable, MemtableVersion};
use crate::table::TableVersion;
use crate::version::Table;

/// The sources that a read meets without allocating.
const SOURCES_INLINE: usize = 24;

/// A source that may hold the floor, by its fences.
struct Candidate<'v> {
    /// No version in it that matters is later.
    ts_max: Timestamp,
    /// 0 is the newest.
    age: usize,
    source: Source<'v>,
}

#[derive(Clone, Copy)]
enum Source<'v> {
    Memtable(&'v Memtable),
    Table(&'v Table),
}

/// A version, still where it was found. It lives on the stack for the length of one read, so that the
/// sizes of its variants differ costs nothing, and a box would cost an allocation.
#[allow(clippy::large_enum_variant)]
enum Found<'v> {
    Memtable(&'v Memtable, MemtableVersion),
    Table(TableVersion<'v>),
}

impl Found<'_> {
    fn ts(&self) -> Timestamp {
        match self {
            Found::Memtable(_, version) => version.ts,
            Found::Table(version) => version.ts,
        }
    }

    fn tag(&self) -> Tag {
        match self {
            Found::Memtable(_, version) => version.tag,
            Found::Table(version) => version.tag,
        }
    }

    fn into_entry(self) -> Result<Entry> {
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
        let (view, visible) = self.view();
        let mut bound = at;
        loop {
            let Some(found) = view.newest_record(key, bound, visible)? else {
                return Ok(None);
            };
            match found.tag().kind() {
                ValueKind::Put => return found.into_entry().map(Some),
                ValueKind::End => return Ok(None),
                ValueKind::Erase if found.ts() == Timestamp::MIN => return Ok(None),
                ValueKind::Erase => bound = found.ts() - 1,
            }
        }
    }
}

impl SuperVersion {
    /// The newest record of `key` at or before `bound`, of the newest source that holds one there;
    /// tombstones included.
    fn newest_record(
        &self,
        key: &[u8],
        bound: Timestamp,
        visible: SeqNo,
    ) -> Result<Option<Found<'_>>> {
        let mut best: Option<(usize, Found<'_>)> = None;
        let hash = KeyHash::of(key);
        for candidate in self.candidates(key, bound) {
            if let Some((best_age, best)) = &best {
                if candidate.ts_max < best.ts() {
                    break;
                }
                if candidate.ts_max == best.ts() && candidate.age > *best_age {
                    continue;
                }
            }
            let found = match candidate.source {
                Source::Memtable(memtable) => memtable
                    .floor(key, hash, bound, visible)
                    .map(|version| Found::Memtable(memtable, version)),
                Source::Table(table) => {
                    if !table.reader.may_contain(hash) {
                        continue;
                    }
                    table.reader.floor(key, bound)?.map(Found::Table)
                }
            };
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
    ) -> SmallVec<[Candidate<'_>; SOURCES_INLINE]> {
        let mut candidates = SmallVec::new();
        let mut add = |age, (ts_min, ts_max): (Timestamp, Timestamp), source| {
            if ts_min <= bound {
                candidates.push(Candidate { ts_max: ts_max.min(bound), age, source });
            }
        };
        let mut age = 0;
        for memtable in self.memtables() {
            if let Some(range) = memtable.ts_range() {
                add(age, range, Source::Memtable(memtable));
            }
            age += 1;
        }
        for run in self.version.runs() {
            if let Some(table) = run.table_for(key, bound) {
                let p = &table.meta.properties;
                add(age, (p.min_ts, p.max_ts), Source::Table(table));
            }
            age += 1;
        }
        candidates.sort_unstable_by_key(|c: &Candidate<'_>| (Reverse(c.ts_max), c.age));
        candidates
    }
}
