//! The set of live tables, as runs from newest to oldest.
//!
//! A *run* is a sequence of tables in order of `(key, ts)`, none of which overlaps the next. A run is
//! one source of a read: it holds one record per `(key, ts)`.
//!
//! *Invariant I1, recency*: where two runs hold the same `(key, ts)`, the run with the higher rank
//! holds the record with the higher sequence number. It is checked whenever a version is made,
//! because a read that trusts a broken order answers with an old value and nobody notices.

pub(crate) mod directory;
mod edit;
mod probe;
#[cfg(test)]
mod probe_tests;
mod run;
mod set;

pub use edit::VersionEdit;
pub(crate) use probe::RunProbe;
pub(crate) use run::{Run, RunCursor, Table};
#[cfg(any(test, fuzzing))]
pub(crate) use set::parse_current;
pub(crate) use set::{Home, Marks, VersionSet};
pub use set::{Manifest, ManifestState};

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::key::{FileId, RunRank};

/// An immutable set of live tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Version {
    /// Newest first.
    runs: Vec<Arc<Run>>,
}

impl Version {
    /// Arranges tables into runs and checks the invariants; tells which one is broken.
    pub(crate) fn new(tables: impl IntoIterator<Item = Arc<Table>>) -> Result<Self, String> {
        let mut by_rank: BTreeMap<RunRank, Vec<Arc<Table>>> = BTreeMap::new();
        for table in tables {
            by_rank.entry(table.meta.rank).or_default().push(table);
        }
        let runs: Result<Vec<_>, _> = by_rank.into_values().map(Run::new).collect();
        let mut runs: Vec<_> = runs?.into_iter().map(Arc::new).collect();
        runs.reverse();
        let version = Version { runs };
        version.check_recency()?;
        Ok(version)
    }

    /// The runs, newest first.
    pub(crate) fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    /// The runs of a higher rank than `rank`, newest first; all of them for `None`.
    pub(crate) fn runs_newer_than(&self, rank: Option<RunRank>) -> &[Arc<Run>] {
        &self.runs[..self.runs.partition_point(|run| Some(run.rank()) > rank)]
    }

    /// All tables, in no particular order.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.runs.iter().flat_map(|run| run.tables())
    }

    /// This version without some tables and with some others. One that is in both lists moves to
    /// another run.
    pub(crate) fn with(&self, removed: &[FileId], added: &[Arc<Table>]) -> Result<Self, String> {
        for id in removed {
            if !self.tables().any(|table| table.meta.id == *id) {
                return Err(format!("table {} is removed but was not live", id.0));
            }
        }
        let kept = self.tables().filter(|table| !removed.contains(&table.meta.id));
        Version::new(kept.chain(added).cloned())
    }

    fn check_recency(&self) -> Result<(), String> {
        for (i, newer) in self.runs.iter().enumerate() {
            for older in &self.runs[i + 1..] {
                if newer.min_seq() <= older.max_seq() {
                    check_disjoint(newer, older)?;
                }
            }
        }
        Ok(())
    }
}

/// Two runs whose sequence numbers overlap may hold no `(key, ts)` in common.
fn check_disjoint(newer: &Run, older: &Run) -> Result<(), String> {
    for a in newer.tables() {
        for b in older.tables() {
            let (pa, pb) = (&a.meta.properties, &b.meta.properties);
            let keys_meet = pa.first_key <= pb.last_key && pb.first_key <= pa.last_key;
            let times_meet = pa.min_ts <= pb.max_ts && pb.min_ts <= pa.max_ts;
            if keys_meet && times_meet && pa.min_seq <= pb.max_seq {
                return Err(format!(
                    "table {} (run {}, sequence numbers {}..={}) ranks above table {} (run {}, \
                     {}..={}), meets it in keys and times, and is not newer",
                    a.meta.id.0,
                    a.meta.rank.0,
                    pa.min_seq,
                    pa.max_seq,
                    b.meta.id.0,
                    b.meta.rank.0,
                    pb.min_seq,
                    pb.max_seq,
                ));
            }
        }
    }
    Ok(())
}
