//! How the callers reach the threads of a database: bounded channels.
//!
//! A wake-up is a message in a channel that holds one: a second one adds nothing. What there is to do
//! is read from the super-version, never from the message.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Mutex, RwLock};

use super::write::Committed;
use crate::batch::WriteBatch;
use crate::error::Result;
use crate::record::LogSync;

/// The most batches that wait for the writer thread; more are refused with [`Error::Busy`] where the
/// caller may not block.
pub(crate) const QUEUE_BATCHES_MAX: usize = 4096;

/// What to do when a batch is committed, or can't be.
pub(crate) type OnCommit = Box<dyn FnOnce(Result<Committed>) + Send>;

/// A batch that waits for the writer thread, and who waits for its commit.
pub(crate) type WriteRequest = (WriteBatch, OnCommit);

/// How the callers reach the threads.
#[derive(Debug)]
pub(crate) struct Signals {
    /// `None` once the database is closing. The writer thread ends when the last sender is gone and
    /// all that is queued has been answered: what is left in a channel from which nobody receives any
    /// more is dropped with its last sender only, and who waits for it would wait for ever.
    writes: RwLock<Option<Sender<WriteRequest>>>,
    flush: Sender<()>,
    compact: Sender<()>,
    log: Sender<()>,
    scrub: Sender<()>,
    /// What the log thread makes durable: the log's live segment.
    wal: Mutex<Arc<LogSync>>,
}

/// How the threads are reached.
#[derive(Debug)]
pub(crate) struct Receivers {
    pub(crate) writes: Receiver<WriteRequest>,
    pub(crate) flush: Receiver<()>,
    pub(crate) compact: Receiver<()>,
    pub(crate) log: Receiver<()>,
    /// Only the end is told.
    pub(crate) scrub: Receiver<()>,
}

impl Signals {
    pub(crate) fn new(wal: Arc<LogSync>) -> (Signals, Receivers) {
        let (writes_in, writes) = bounded(QUEUE_BATCHES_MAX);
        let (flush_in, flush) = bounded(1);
        let (compact_in, compact) = bounded(1);
        let (log_in, log) = bounded(1);
        let (scrub_in, scrub) = bounded(1);
        let signals = Signals {
            writes: RwLock::new(Some(writes_in)),
            flush: flush_in,
            compact: compact_in,
            log: log_in,
            scrub: scrub_in,
            wal: Mutex::new(wal),
        };
        (signals, Receivers { writes, flush, compact, log, scrub })
    }

    /// The queue of the writer thread; `None` once the database is closing.
    pub(crate) fn writes(&self) -> Option<Sender<WriteRequest>> {
        self.writes.read().clone()
    }

    /// A memtable was frozen.
    pub(crate) fn wake_flush(&self) {
        let _ = self.flush.try_send(());
    }

    /// A run was added.
    pub(crate) fn wake_compaction(&self) {
        let _ = self.compact.try_send(());
    }

    /// The log has grown past a mark.
    pub(crate) fn wake_log(&self) {
        let _ = self.log.try_send(());
    }

    /// A new segment of the log is live.
    pub(crate) fn wal_changed(&self, wal: Arc<LogSync>) {
        *self.wal.lock() = wal;
    }

    /// The live segment of the log.
    pub(crate) fn wal(&self) -> Arc<LogSync> {
        Arc::clone(&self.wal.lock())
    }

    /// Lets every thread see that the database is closing.
    pub(crate) fn wake_all(&self) {
        drop(self.writes.write().take());
        self.wake_flush();
        self.wake_compaction();
        self.wake_log();
        let _ = self.scrub.try_send(());
    }
}
