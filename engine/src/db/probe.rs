//! Many floors in one view: every source remembers its place from one question to the next.
//!
//! The floor rule is that of `read.rs`, over sources that are asked from newest to oldest.

use std::ops::Bound;

use crate::error::Result;
use crate::iter::Order;
use crate::key::{KeyHash, SeqNo, Tag, Timestamp, ValueKind};
use crate::memtable::{Memtable, MemtableVersion};
use crate::version::{Run, RunProbe};

/// A place in a source, see [`TableProbe`](crate::table::TableProbe).
#[expect(clippy::large_enum_variant, reason = "one a source and read, in one allocation")]
pub(super) enum SourceProbe<'v> {
    Memtable(MemtableProbe<'v>),
    Run(RunProbe<'v>),
}

/// A place among the keys of a memtable.
pub(super) struct MemtableProbe<'v> {
    memtable: &'v Memtable,
    visible: SeqNo,
    ts_min: Timestamp,
    ts_max: Timestamp,
    found: Option<MemtableVersion>,
    /// Of a walk, where it has not ended.
    key: Vec<u8>,
    has_key: bool,
    next_key: Vec<u8>,
    value: Vec<u8>,
}

/// The version that a floor rests on: which source has it, and what it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    pub(super) source: usize,
    pub(super) ts: Timestamp,
    pub(super) tag: Tag,
}

/// Of a probe for each of these sources that has a record, in the same order: newest first.
pub(super) fn probes<'v>(
    memtables: impl Iterator<Item = &'v Memtable>,
    runs: impl Iterator<Item = &'v Run>,
    visible: SeqNo,
) -> Vec<SourceProbe<'v>> {
    let memtables = memtables.filter_map(|memtable| {
        let (ts_min, ts_max) = memtable.ts_range()?;
        Some(SourceProbe::Memtable(MemtableProbe {
            memtable,
            visible,
            ts_min,
            ts_max,
            found: None,
            key: Vec::new(),
            has_key: false,
            next_key: Vec::new(),
            value: Vec::new(),
        }))
    });
    memtables.chain(runs.map(|run| SourceProbe::Run(RunProbe::new(run)))).collect()
}

/// The newest version of `key` at or before `at` that is not erased, if it is a put. `among` are the
/// sources that may have the key, newest first.
pub(super) fn floor(
    probes: &mut [SourceProbe<'_>],
    among: &[usize],
    key: &[u8],
    at: Timestamp,
) -> Result<Option<Hit>> {
    let mut bound = at;
    loop {
        let mut best: Option<Hit> = None;
        for &source in among {
            let probe = &mut probes[source];
            let (ts_min, ts_max) = probe.ts_range();
            // At the same timestamp the newer source holds the record that counts.
            if ts_min > bound || best.is_some_and(|best| ts_max.min(bound) <= best.ts) {
                continue;
            }
            if let Some((ts, tag)) = probe.floor(key, bound)?
                && best.is_none_or(|best| ts > best.ts)
            {
                best = Some(Hit { source, ts, tag });
            }
        }
        match best.map(|best| (best.tag.kind(), best.ts)) {
            Some((ValueKind::Put, _)) => return Ok(best),
            Some((ValueKind::Erase, ts)) if ts > Timestamp::MIN => bound = ts - 1,
            _ => return Ok(None),
        }
    }
}

impl SourceProbe<'_> {
    fn ts_range(&self) -> (Timestamp, Timestamp) {
        match self {
            SourceProbe::Memtable(probe) => (probe.ts_min, probe.ts_max),
            SourceProbe::Run(probe) => (probe.ts_min, probe.ts_max),
        }
    }

    /// The floors that follow are those of `key` up to `at`; `false`: the source has no version of it so
    /// early.
    pub(super) fn begin(&mut self, key: &[u8], hash: KeyHash, at: Timestamp) -> bool {
        match self {
            SourceProbe::Memtable(_) => true,
            SourceProbe::Run(probe) => probe.begin(key, hash, at),
        }
    }

    /// Timestamp and tag of the newest version of `key` at or before `at`, tombstones included.
    fn floor(&mut self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Tag)>> {
        match self {
            SourceProbe::Memtable(probe) => {
                let hash = KeyHash::of(key);
                probe.found = probe.memtable.floor(key, hash, at, probe.visible);
                Ok(probe.found.map(|version| (version.ts, version.tag)))
            }
            SourceProbe::Run(probe) => probe.floor(key, at),
        }
    }

    /// Appends the value of the last floor.
    pub(super) fn value_into(&mut self, out: &mut Vec<u8>) -> Result<()> {
        match self {
            SourceProbe::Memtable(probe) => {
                let version = probe.found.as_ref().expect("a value of a floor");
                probe.memtable.value_into(version, &mut probe.value);
                out.extend_from_slice(&probe.value);
                Ok(())
            }
            SourceProbe::Run(probe) => probe.value_into(out),
        }
    }

    /// The key that a walk stands on; `None` past its end.
    pub(super) fn key(&self) -> Option<&[u8]> {
        match self {
            SourceProbe::Memtable(probe) => probe.has_key.then_some(&probe.key),
            SourceProbe::Run(probe) => probe.key(),
        }
    }

    /// Begins a walk at the first key in this order that lies within `bound`.
    pub(super) fn seek(&mut self, bound: Bound<&[u8]>, order: Order) -> Result<()> {
        match self {
            SourceProbe::Memtable(probe) => {
                let MemtableProbe { memtable, key, has_key, .. } = probe;
                *has_key = memtable.first_key_within(bound, order, key);
                Ok(())
            }
            SourceProbe::Run(probe) => probe.seek(bound, order),
        }
    }

    /// Goes to the next key in this order. It must stand on one.
    pub(super) fn step(&mut self, order: Order) -> Result<()> {
        match self {
            SourceProbe::Memtable(probe) => {
                let MemtableProbe { memtable, key, has_key, next_key, .. } = probe;
                *has_key = memtable.first_key_within(Bound::Excluded(key), order, next_key);
                std::mem::swap(key, next_key);
                Ok(())
            }
            SourceProbe::Run(probe) => probe.step(order),
        }
    }
}
