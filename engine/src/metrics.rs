//! Counters of the engine: plain relaxed atomics, written where things happen, read by anyone.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Its value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// What the engine has done since it was opened.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($(#[doc = $doc])* pub $name: Counter,)*
        }

        impl Metrics {
            /// Every counter with its name and its meaning, in the order of this page.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($doc),*).trim(), self.$name.get()),)*].into_iter()
            }
        }
    };
}

impl Metrics {
    /// How many bytes of SSTables were written for each byte that flushes wrote: 1 where nothing was
    /// merged, `None` before the first flush. The log is not counted, and neither are tables that
    /// moved. It is the ratio of the counters, so it starts anew at each open, and merges of what was
    /// flushed before the open raise it.
    pub fn write_amplification(&self) -> Option<f64> {
        let flushed = self.flush_bytes_written.get();
        let written = flushed + self.compaction_bytes_written.get();
        (flushed > 0).then(|| written as f64 / flushed as f64)
    }
}

metrics! {
    /// Operations committed.
    ops_committed,
    /// Groups of batches committed with one log record.
    groups_committed,
    /// Bytes appended to the log, framing included.
    wal_bytes_written,
    /// Times the log was made durable.
    wal_syncs,
    /// Writes that were delayed or stopped because flush or compaction lagged.
    write_stalls,
    /// Memtables written out as SSTables.
    flushes,
    /// Bytes of SSTables written by flushes.
    flush_bytes_written,
    /// Compactions done, those included that only moved tables.
    compactions,
    /// Bytes of SSTables read by compactions.
    compaction_bytes_read,
    /// Bytes of SSTables written by compactions.
    compaction_bytes_written,
    /// Bytes of SSTables that took part in a compaction and were not rewritten.
    compaction_bytes_moved,
    /// Chunks that compactions took over as they were stored, without decoding their values.
    chunks_copied,
    /// Bytes of SSTables that scrubs have read.
    scrub_bytes_read,
    /// Scrubs of all SSTables that came to their end.
    scrub_passes,
    /// Damaged parts of SSTables that those found, each as often as it was found.
    scrub_damage_found,
    /// Filter checks that said the key is not in the file.
    filter_misses,
    /// Data blocks looked into by reads of single versions.
    blocks_read,
    /// Chunks of values that had to be decompressed, because the cache did not hold them.
    chunks_decompressed,
}
