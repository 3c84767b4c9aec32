//! How a database is opened.

use std::sync::Arc;

use crate::fs::{Fs, RealFs};

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After the log holds it durably: what was acknowledged survives a power loss. Concurrent
    /// writers share one sync (group commit).
    #[default]
    Sync,
    /// After the log was handed to the operating system: what was acknowledged survives the death of
    /// the process. A power loss may take the writes since the last sync of the log, which is made
    /// every [`WAL_SYNC_PERIOD_MS`] milliseconds.
    Buffered,
}

/// How often the log is made durable under [`Durability::Buffered`], in milliseconds: the loss
/// window of a power failure.
pub const WAL_SYNC_PERIOD_MS: u64 = 1000;

/// Who flushes and compacts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Background {
    /// Threads of the database, beside the callers.
    #[default]
    Threads,
    /// The caller's own thread, inside [`Db::write`](crate::Db::write),
    /// [`Db::flush`](crate::Db::flush) and [`Db::compact`](crate::Db::compact), and nobody else: the
    /// same calls make the same file operations in the same order, so that a simulation can stop at
    /// each of them.
    Inline,
    /// Nobody, until the caller says so: see [`Db::step`](crate::Db::step). For a simulation that
    /// decides what happens when.
    Stepped,
}

/// A piece of what the threads of a database do: see [`Db::step`](crate::Db::step).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackgroundStep {
    /// Commits what [`Db::submit`](crate::Db::submit) has queued, as one group.
    Commit,
    /// Creates the next segment of the log ahead of need.
    PrepareSegment,
    /// Makes the log durable, as a period of [`WAL_SYNC_PERIOD_MS`] does under
    /// [`Durability::Buffered`].
    SyncLog,
    /// Flushes the oldest frozen memtable.
    Flush,
    /// Does a merge that is worth its cost.
    Compact,
    /// Does a merge that is proportionate while nobody writes.
    CompactIdle,
}

/// How a database is opened. The defaults serve; what isn't here is a named constant beside the code
/// that it governs.
#[derive(Clone, Debug)]
pub struct Options {
    /// When a write is acknowledged.
    pub durability: Durability,
    /// The size at which a memtable is frozen and flushed, in bytes, from 16 KiB to 1 GiB; up to four
    /// frozen ones may wait, then writes stop. Also the size of an SSTable at which compaction begins
    /// a new one, where it is less than 64 MiB.
    pub memtable_bytes_max: usize,
    /// The most memory for decompressed values, in bytes. 0 keeps none.
    pub cache_bytes_max: usize,
    /// The most of the log that is kept for [`Db::changes`](crate::Db::changes) beside what a recovery
    /// needs, in bytes: whole segments, each up to twice as large as a memtable. 0 keeps none, so that a
    /// reader that is not there when a memtable is flushed has missed it.
    pub feed_bytes_max: u64,
    /// Who flushes and compacts.
    pub background: Background,
    /// Where the files are.
    pub fs: Arc<dyn Fs>,
}

/// The most frozen memtables that may wait for their flush.
pub(crate) const IMMUTABLE_MEMTABLES_MAX: usize = 4;

/// The size of an SSTable at which compaction begins a new one, in bytes.
pub(crate) const TABLE_BYTES_MAX: usize = 64 << 20;

/// The smallest [`Options::memtable_bytes_max`] that is accepted, in bytes.
pub(crate) const MEMTABLE_BYTES_MIN: usize = 16 << 10;

/// The largest one: its segment of the log, which may be twice as large, stays below the 4 GiB that a
/// log file may have.
pub(crate) const MEMTABLE_BYTES_MAX: usize = 1 << 30;

impl Default for Options {
    fn default() -> Self {
        Options {
            durability: Durability::Sync,
            memtable_bytes_max: 64 << 20,
            cache_bytes_max: 64 << 20,
            feed_bytes_max: 0,
            background: Background::Threads,
            fs: Arc::new(RealFs),
        }
    }
}
