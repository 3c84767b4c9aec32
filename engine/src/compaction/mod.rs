//! Merging runs, so that reads meet few of them: choose ([`pick`]), describe ([`CompactionTask`]),
//! do ([`run_compaction`]).
//!
//! Tiered: runs of similar size are merged into one of the next size, so that a record is written
//! about log4(data / memtable) times. Only neighbours in rank are merged, so that the merged run has
//! one place in the order of recency.

mod job;
mod picker;

pub(crate) use job::run_compaction;
pub(crate) use picker::{CompactionTask, RunSize, pick, pick_all};
