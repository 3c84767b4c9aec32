//! The state of many keys as of one moment: a floor per key, in the order of the keys.
//!
//! A scan decodes some keys at a time into one buffer. Between two fills it holds no place in a
//! source but the last key, so that it borrows from nothing but the sources that it keeps alive.

use std::sync::Arc;

use super::probe::{self, SourceProbe};
use super::state::SuperVersion;
use crate::error::Result;
use crate::iter::{KeyRange, Order, Versions};
use crate::key::{EntryRef, SeqNo, Timestamp};
use crate::memtable::Memtable;
use crate::version::Run;

/// How many keys are decoded first: a caller may want no more than the first few.
const FIRST_KEYS: usize = 8;

/// A fill ends with this many keys, or this many bytes of values.
const FILL_KEYS_MAX: usize = 1024;
const FILL_BYTES_MAX: usize = 256 * 1024;

/// Keys with their values as of a moment; see [`Snapshot::scan`](crate::Snapshot::scan). It shows the database
/// as it was when it was made.
pub struct Scan {
    /// Newest first.
    memtables: Vec<Arc<Memtable>>,
    runs: Vec<Arc<Run>>,
    visible: SeqNo,
    at: Timestamp,
    order: Order,
    /// What is not yet decoded; `None` once all of it is.
    rest: Option<KeyRange>,
    fill_keys: usize,
    keys: Vec<u8>,
    key_ends: Vec<usize>,
    versions: Versions,
    /// Which of them it stands on.
    current: Option<usize>,
}

impl SuperVersion {
    pub(super) fn scan(
        &self,
        keys: KeyRange,
        at: Timestamp,
        order: Order,
        visible: SeqNo,
    ) -> Result<Scan> {
        self.check_horizon(at)?;
        let may_answer =
            |memtable: &&Arc<Memtable>| memtable.ts_range().is_some_and(|(ts_min, _)| ts_min <= at);
        Ok(Scan {
            memtables: self.memtables().filter(may_answer).cloned().collect(),
            runs: self.version.runs().iter().filter(|run| run.min_ts() <= at).cloned().collect(),
            visible,
            at,
            order,
            rest: Some(keys),
            fill_keys: FIRST_KEYS,
            keys: Vec::new(),
            key_ends: Vec::new(),
            versions: Versions::default(),
            current: None,
        })
    }
}

impl Scan {
    /// The next key that has a value, and its newest version at or before the moment. After an error
    /// there is none.
    #[expect(clippy::should_implement_trait, reason = "an iterator can't lend")]
    pub fn next(&mut self) -> Result<Option<(&[u8], EntryRef<'_>)>> {
        self.step()?;
        Ok(self.current())
    }

    /// Goes to the next key that has a value, or past the end.
    pub(super) fn step(&mut self) -> Result<()> {
        self.current = None;
        if self.versions.left.is_empty()
            && let Some(rest) = self.rest.take()
        {
            self.fill(rest)?;
        }
        self.current = self.versions.left.next();
        Ok(())
    }

    /// The key that it stands on, and its version.
    pub(super) fn current(&self) -> Option<(&[u8], EntryRef<'_>)> {
        let index = self.current?;
        let start = index.checked_sub(1).map_or(0, |before| self.key_ends[before]);
        Some((&self.keys[start..self.key_ends[index]], self.versions.entry(index)))
    }

    /// Decodes the next keys of `rest`, of which there may be none.
    fn fill(&mut self, mut rest: KeyRange) -> Result<()> {
        self.keys.clear();
        self.key_ends.clear();
        self.versions.clear();
        self.versions.values.clear();
        let memtables = self.memtables.iter().map(|memtable| &**memtable);
        let runs = self.runs.iter().map(|run| &**run);
        let mut probes = probe::probes(memtables, runs, self.visible);
        for probe in &mut probes {
            probe.seek(rest.first(self.order), self.order)?;
        }
        let mut key = Vec::new();
        let mut standing = Vec::new();
        while self.key_ends.len() < self.fill_keys && self.versions.values.len() < FILL_BYTES_MAX {
            if !first_key(&probes, self.order, &mut key, &mut standing)
                || rest.ends_before(&key, self.order)
            {
                self.versions.show_all();
                return Ok(());
            }
            if let Some(hit) = probe::floor(&mut probes, &standing, &key, self.at)? {
                probes[hit.source].value_into(&mut self.versions.values)?;
                self.versions.push(hit.ts, hit.tag);
                self.keys.extend_from_slice(&key);
                self.key_ends.push(self.keys.len());
            }
            for &source in &standing {
                probes[source].step(self.order)?;
            }
        }
        rest.begin_behind(&key, self.order);
        self.rest = Some(rest);
        self.fill_keys = FILL_KEYS_MAX.min(2 * self.fill_keys);
        self.versions.show_all();
        Ok(())
    }
}

/// Replaces `key` by the first one in this order, and `standing` by the sources that stand on it;
/// `false`: all walks have ended.
fn first_key(
    probes: &[SourceProbe<'_>],
    order: Order,
    key: &mut Vec<u8>,
    standing: &mut Vec<usize>,
) -> bool {
    standing.clear();
    let mut first: Option<&[u8]> = None;
    for (source, probe) in probes.iter().enumerate() {
        let Some(other) = probe.key() else { continue };
        let comes = first.map(|first| match order {
            Order::Ascending => other.cmp(first),
            Order::Descending => first.cmp(other),
        });
        match comes {
            Some(std::cmp::Ordering::Greater) => continue,
            Some(std::cmp::Ordering::Equal) => {}
            _ => standing.clear(),
        }
        first = Some(other);
        standing.push(source);
    }
    if let Some(first) = first {
        key.clear();
        key.extend_from_slice(first);
    }
    first.is_some()
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan")
            .field("rest", &self.rest)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}
