//! Merging runs, so that reads meet few of them: choose ([`Picker`]), describe (a `CompactionTask`),
//! do ([`run_compaction`]).
//!
//! Tiered: runs of similar size are merged into one of the next size, so that a record is written
//! about log4(data / memtable) times. Only neighbours in rank are merged, so that the merged run has
//! one place in the order of recency. A table that lies between no records of the other inputs is not
//! rewritten: it moves to the merged run as it is.

mod job;
mod merge;
mod picker;

pub(crate) use job::{Compacted, run_compaction};
pub(crate) use picker::{Effort, Picker, RunShape};
