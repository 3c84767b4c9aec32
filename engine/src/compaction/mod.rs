//! Merging runs, so that reads meet few of them: choose ([`Picker`]), describe (a `CompactionTask`),
//! do ([`run_compaction`]).
//!
//! Tiered: runs of similar size are merged into one of the next size, so that a record is written
//! about log4(data / memtable) times. Only neighbours in rank are merged, so that the merged run has
//! one place in the order of recency. A table that lies between no records of the other inputs is not
//! rewritten: it moves to the merged run as it is. What lies before the horizon and is never read again
//! is left away, and tables in which much is are rewritten for its sake.

mod job;
mod merge;
mod outside;
mod picker;
mod retention;

pub(crate) use job::{Compacted, run_compaction};
pub(crate) use outside::Sources;
pub(crate) use picker::{Effort, Picker, RunShape};
