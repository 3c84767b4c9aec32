//! Background work: flushes, merges, and the periodic sync of a buffered log.
//!
//! | thread | wakes up for | does |
//! |---|---|---|
//! | `kvt-write` | the queue of batches | group commits |
//! | `kvt-flush` | a freeze | flushes, oldest memtable first |
//! | `kvt-compact` | a flush | merges while the picker finds any |
//! | `kvt-sync` | time, under `Durability::Buffered` only | syncs the log |
//!
//! A wake-up is a message in a channel that holds one: a second one adds nothing. What there is to do
//! is read from the super-version, never from the message.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use super::state::Core;
use super::write::{QUEUE_BATCHES_MAX, WriteRequest};
use crate::compaction::{CompactionTask, RunSize, pick, pick_all, run_compaction};
use crate::error::{Error, IoContext, Result};
use crate::flush::flush_memtable;
use crate::key::FileId;
use crate::options::{Background, Durability, TABLE_BYTES_MAX, WAL_SYNC_PERIOD_MS};
use crate::record::LogSync;

/// After a full disk, the next try.
const RETRY_PERIOD: Duration = Duration::from_secs(1);

/// How the callers reach the threads.
#[derive(Debug)]
pub(crate) struct Signals {
    pub(crate) writes: Sender<WriteRequest>,
    flush: Sender<()>,
    compact: Sender<()>,
    sync: Sender<()>,
    /// What the periodic sync makes durable: the log's live segment.
    wal: Mutex<Arc<LogSync>>,
}

/// How the threads are reached.
#[derive(Debug)]
pub(crate) struct Receivers {
    writes: Receiver<WriteRequest>,
    flush: Receiver<()>,
    compact: Receiver<()>,
    sync: Receiver<()>,
}

impl Signals {
    pub(crate) fn new(wal: Arc<LogSync>) -> (Signals, Receivers) {
        let (writes_in, writes) = bounded(QUEUE_BATCHES_MAX);
        let (flush_in, flush) = bounded(1);
        let (compact_in, compact) = bounded(1);
        let (sync_in, sync) = bounded(1);
        let signals = Signals {
            writes: writes_in,
            flush: flush_in,
            compact: compact_in,
            sync: sync_in,
            wal: Mutex::new(wal),
        };
        (signals, Receivers { writes, flush, compact, sync })
    }

    /// A memtable was frozen.
    pub(crate) fn wake_flush(&self) {
        let _ = self.flush.try_send(());
    }

    /// A run was added.
    fn wake_compaction(&self) {
        let _ = self.compact.try_send(());
    }

    /// A new segment of the log is live.
    pub(crate) fn wal_changed(&self, wal: Arc<LogSync>) {
        *self.wal.lock() = wal;
    }

    /// Lets every thread see that the database is closing.
    fn wake_all(&self) {
        let _ = self.writes.send(WriteRequest::Stop);
        self.wake_flush();
        self.wake_compaction();
        let _ = self.sync.try_send(());
    }
}

/// The threads of an open database.
#[derive(Debug)]
pub(crate) struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    /// Starts the threads that the options ask for.
    pub(crate) fn start(core: &Arc<Core>, receivers: Receivers) -> Result<Threads> {
        let Receivers { writes, flush, compact, sync } = receivers;
        let mut threads = Threads(Vec::new());
        if core.options.background == Background::Inline {
            return Ok(threads);
        }
        threads.spawn(core, "kvt-write", move |core| core.serve_writes(&writes))?;
        threads.spawn(core, "kvt-flush", move |core| core.serve_flushes(&flush))?;
        threads.spawn(core, "kvt-compact", move |core| core.serve_compactions(&compact))?;
        if core.options.durability == Durability::Buffered {
            threads.spawn(core, "kvt-sync", move |core| core.serve_syncs(&sync))?;
        }
        Ok(threads)
    }

    fn spawn(
        &mut self,
        core: &Arc<Core>,
        name: &str,
        body: impl FnOnce(&Core) + Send + 'static,
    ) -> Result<()> {
        let (core, home) = (Arc::clone(core), core.home.clone());
        let thread = std::thread::Builder::new().name(name.to_owned());
        let handle = thread.spawn(move || body(&core)).at("start a thread for", &home.dir)?;
        self.0.push(handle);
        Ok(())
    }

    /// Waits until all have ended; they have been told to.
    pub(crate) fn join(self, core: &Core) {
        core.signals.wake_all();
        let own = std::thread::current().id();
        // The last handle may be dropped by a callback on the writer thread, which ends by itself.
        for thread in self.0.into_iter().filter(|thread| thread.thread().id() != own) {
            // A thread that panicked has said so on stderr, and there is nothing to take back.
            let _ = thread.join();
        }
    }
}

impl Core {
    fn serve_flushes(&self, wake: &Receiver<()>) {
        let mut retry = false;
        loop {
            let woken = if retry { wake.recv_timeout(RETRY_PERIOD) } else { wait(wake) };
            if woken == Err(RecvTimeoutError::Disconnected) || self.is_closing() {
                return;
            }
            retry = self.flush_all().is_err() && self.poisoned().is_none();
        }
    }

    fn serve_compactions(&self, wake: &Receiver<()>) {
        let mut retry = false;
        loop {
            let woken = if retry { wake.recv_timeout(RETRY_PERIOD) } else { wait(wake) };
            if woken == Err(RecvTimeoutError::Disconnected) || self.is_closing() {
                return;
            }
            retry = match self.compact_while_worthwhile() {
                Err(Error::DiskFull { .. }) => true,
                Ok(()) => false,
                Err(_) if self.is_closing() => return,
                Err(error) => {
                    self.set_compaction_error(error);
                    return;
                }
            };
        }
    }

    fn serve_syncs(&self, stop: &Receiver<()>) {
        let period = Duration::from_millis(WAL_SYNC_PERIOD_MS);
        while stop.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
            let wal = Arc::clone(&self.signals.wal.lock());
            match wal.sync() {
                Ok(()) => self.metrics().wal_syncs.add(1),
                Err(error) => drop(self.poison(error)),
            }
        }
    }

    /// What the threads would do, done by the caller: under [`Background::Inline`].
    pub(crate) fn run_background_work(&self) {
        if self.flush_all().is_ok()
            && let Err(error) = self.compact_while_worthwhile()
            && !matches!(error, Error::DiskFull { .. })
        {
            self.set_compaction_error(error);
        }
    }

    /// Flushes every frozen memtable.
    pub(crate) fn flush_all(&self) -> Result<()> {
        while self.flush_oldest()? {}
        Ok(())
    }

    /// Flushes the oldest frozen memtable; `false` where there is none. The order matters: the log is
    /// given up from its oldest end.
    pub(crate) fn flush_oldest(&self) -> Result<bool> {
        let _flushing = self.flushing.lock();
        let view = self.super_version.load_full();
        let Some(frozen) = view.immutables.last() else { return Ok(false) };
        if let Some(poisoned) = self.poisoned() {
            return Err(poisoned);
        }
        let table =
            flush_memtable(&self.home, &frozen.memtable).map_err(|e| self.install_failed(e))?;
        let mut versions = self.versions.lock();
        let last_seq = frozen.memtable.seq_range().map_or(versions.flushed_seq(), |(_, last)| last);
        let version = versions.install_flush(table.as_ref(), last_seq, frozen.next_wal);
        let version = version.map_err(|error| {
            // Where the manifest may name the file, it must stay.
            if matches!(error, Error::DiskFull { .. }) {
                self.home.remove_tables(table.iter().map(|table| table.meta.id));
            }
            self.install_failed(error)
        })?;
        self.swap(|view| {
            view.immutables.pop();
            view.version = Arc::clone(&version);
        });
        drop(versions);
        // A segment that stays costs space until the next open.
        let _ = self.home.fs.remove(&frozen.wal.wal_path(&self.home.dir));
        self.signals.wake_compaction();
        Ok(true)
    }

    /// Merges runs while the picker finds a merge that is worth its cost.
    pub(crate) fn compact_while_worthwhile(&self) -> Result<()> {
        while self.compact(pick)? {}
        Ok(())
    }

    /// Merges all runs into one.
    pub(crate) fn compact_all(&self) -> Result<()> {
        self.compact(pick_all).map(drop)
    }

    /// Does the merge that `pick` chooses; `false` where it chooses none.
    fn compact(&self, pick: fn(&[RunSize]) -> Option<CompactionTask>) -> Result<bool> {
        let _compacting = self.compacting.lock();
        self.check_writable()?;
        let version = Arc::clone(&self.super_version.load().version);
        let sizes: Vec<RunSize> =
            version.runs().iter().map(|run| RunSize { file_bytes: run.file_bytes() }).collect();
        let Some(task) = pick(&sizes) else { return Ok(false) };
        let oldest = task.runs.end == version.runs().len();
        let inputs = &version.runs()[task.runs];
        let table_bytes_max = self.options.memtable_bytes_max.min(TABLE_BYTES_MAX) as u64;
        let stop = || self.is_closing();
        let outputs = run_compaction(&self.home, inputs, oldest, table_bytes_max, &stop)?;
        // Flushes add runs above the inputs meanwhile; only this thread takes runs away, under
        // `compacting`, so the inputs are still live and still the oldest.
        let mut versions = self.versions.lock();
        let installed = versions.install_compaction(inputs, &outputs).map_err(|error| {
            if matches!(error, Error::DiskFull { .. }) {
                self.home.remove_tables(outputs.iter().map(|table| table.meta.id));
            }
            self.install_failed(error)
        })?;
        self.swap(|view| view.version = Arc::clone(&installed));
        drop(versions);
        let obsolete = inputs.iter().flat_map(|run| run.tables()).map(|table| table.meta.id);
        self.home.remove_tables(obsolete.collect::<Vec<FileId>>());
        Ok(true)
    }

    /// A full disk is tried again; after any other failure the manifest or a table may be there or
    /// not, and only a reopen can tell.
    fn install_failed(&self, error: Error) -> Error {
        match error {
            Error::DiskFull { .. } => error,
            _ => self.poison(error),
        }
    }
}

fn wait(wake: &Receiver<()>) -> Result<(), RecvTimeoutError> {
    wake.recv().map_err(|_| RecvTimeoutError::Disconnected)
}
