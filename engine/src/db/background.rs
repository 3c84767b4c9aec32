//! The threads of a database, and when they do what.
//!
//! | thread | wakes up for | does |
//! |---|---|---|
//! | `kvt-write` | the queue of batches | group commits |
//! | `kvt-flush` | a freeze | flushes, oldest memtable first |
//! | `kvt-compact` | the open, a flush, a new horizon | merges while the picker finds any that is worth its cost |
//! | | time without writes | merges further |
//! | `kvt-log` | the growth of the log; time | creates its next segment; syncs it if it is buffered |
//! | `kvt-scrub` | time | reads all tables again, slowly |

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::signals::{Receivers, WriteRequest};
use super::state::Core;
use crate::compaction::Effort;
use crate::error::{IoContext, Result};
use crate::options::{Background, BackgroundStep};

/// After a failure that may heal, such as a full disk, the next try.
const RETRY_PERIOD: Duration = Duration::from_secs(1);

/// After so long without a write, merges go further than they do beside writes.
const IDLE_PERIOD: Duration = Duration::from_secs(5);

/// The threads of an open database.
#[derive(Debug)]
pub(crate) struct Threads {
    running: Vec<JoinHandle<()>>,
    /// What the writer thread would serve, where the steps of a simulation do.
    queue: Option<Receiver<WriteRequest>>,
}

impl Threads {
    /// Starts the threads that the options ask for: all of them, or none.
    pub(crate) fn start(core: &Arc<Core>, receivers: Receivers) -> Result<Threads> {
        let mut threads = Threads { running: Vec::new(), queue: None };
        match core.options.background {
            Background::Inline => {}
            Background::Stepped => threads.queue = Some(receivers.writes),
            Background::Threads => {
                if let Err(error) = threads.spawn_all(core, receivers) {
                    core.begin_closing();
                    threads.join(core);
                    return Err(error);
                }
            }
        }
        Ok(threads)
    }

    /// The queue of batches, where no thread serves it.
    pub(crate) fn queue(&self) -> Option<Receiver<WriteRequest>> {
        self.queue.clone()
    }

    fn spawn_all(&mut self, core: &Arc<Core>, receivers: Receivers) -> Result<()> {
        let Receivers { writes, flush, compact, log, scrub } = receivers;
        self.spawn(core, "kvt-write", move |core| core.serve_writes(&writes))?;
        self.spawn(core, "kvt-flush", move |core| core.serve_flushes(&flush))?;
        self.spawn(core, "kvt-compact", move |core| core.serve_compactions(&compact))?;
        self.spawn(core, "kvt-log", move |core| core.serve_log(&log))?;
        self.spawn(core, "kvt-scrub", move |core| core.serve_scrubs(&scrub))
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
        self.running.push(handle);
        Ok(())
    }

    /// Waits until all have ended; they have been told to.
    pub(crate) fn join(self, core: &Core) {
        core.signals.wake_all();
        // Nobody else tells those who wait in it that the database is closed.
        if let Some(queue) = &self.queue {
            core.serve_writes(queue);
        }
        let own = std::thread::current().id();
        // The last handle may be dropped by a callback on the writer thread, which ends by itself.
        for thread in self.running.into_iter().filter(|thread| thread.thread().id() != own) {
            // A thread that panicked has said so on stderr, and there is nothing to take back.
            let _ = thread.join();
        }
    }
}

impl Core {
    /// Does one piece of what the threads do beside commits, to the same effect.
    pub(crate) fn step(&self, step: BackgroundStep) -> Result<bool> {
        match step {
            BackgroundStep::Commit => Ok(false),
            BackgroundStep::PrepareSegment => Ok(self.prepare_segment()),
            BackgroundStep::SyncLog => self.sync_log().map(|()| true),
            BackgroundStep::Flush => self.flush_oldest(),
            BackgroundStep::Compact => self.compact_unasked(Effort::Worthwhile),
            BackgroundStep::CompactIdle => self.compact_unasked(Effort::Idle),
        }
    }

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
        let mut idle = false;
        loop {
            // At once, too: short sessions leave runs that no later one would merge.
            let merged = if idle {
                self.compact_unasked(Effort::Idle)
            } else {
                self.compact_while_worthwhile().map(|()| true)
            };
            let period = match merged {
                Ok(true) => Some(IDLE_PERIOD),
                // Until something is flushed, there is nothing more to do.
                Ok(false) => None,
                Err(error) if error.heals() => Some(RETRY_PERIOD),
                // Also where the disk could not read: that does not heal, and to try again would read the
                // same inputs over and over. A reopen tries again.
                Err(_) => return,
            };
            let written = self.view.visible_seq();
            let woken = period.map_or_else(|| wait(wake), |period| wake.recv_timeout(period));
            if woken == Err(RecvTimeoutError::Disconnected) || self.is_closing() {
                return;
            }
            let quiet = self.view.visible_seq() == written;
            idle = quiet && woken.is_err() && period == Some(IDLE_PERIOD);
        }
    }
}

fn wait(wake: &Receiver<()>) -> Result<(), RecvTimeoutError> {
    wake.recv().map_err(|_| RecvTimeoutError::Disconnected)
}
