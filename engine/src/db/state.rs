//! What the handles and threads of an open database share.
//!
//! # Locks
//! Taken in this order, and none is held while one before it is waited for:
//! 1. `writer`: one group commit at a time; freezes the active memtable.
//! 2. `flushing`: one flush at a time, of the oldest frozen memtable.
//! 3. `compacting`: one merge at a time.
//! 4. `versions`: installs in the manifest, for as long as its sync takes; the links of a checkpoint.
//! 5. `next_segment`: the creation of the log's next segment; a freeze, under `writer`, takes it.
//!
//! Readers take none: they load the [`ReadView`]. Its super-version is swapped by three: a freeze
//! (under `writer`) adds a memtable, an install (under `versions`) takes one away or changes the
//! version, and a new horizon (under both) changes what may be asked for. Each swap is a
//! compare-and-swap loop that starts from what is there, so a freeze and an install may meet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::feed::Feed;
use super::signals::Signals;
use super::throttle::Throttle;
use super::view::ReadView;
use crate::error::{Error, Result};
use crate::key::{FileId, SeqNo, Timestamp};
use crate::memtable::Memtable;
use crate::metrics::Metrics;
use crate::options::{Background, Options};
use crate::table::Damage;
use crate::version::{Home, Version, VersionSet};
use crate::wal::WalWriter;

/// A memtable that nobody writes to any more, and where its operations lie in the log.
#[derive(Debug)]
pub(crate) struct ImmutableMemtable {
    pub(crate) memtable: Arc<Memtable>,
    /// The segment that holds its operations, and nothing else.
    pub(crate) wal: FileId,
    /// The segment that follows.
    pub(crate) next_wal: FileId,
}

/// Everything that a read looks into, as one immutable view.
#[derive(Clone, Debug)]
pub(crate) struct SuperVersion {
    pub(crate) active: Arc<Memtable>,
    /// Newest first.
    pub(crate) immutables: Vec<Arc<ImmutableMemtable>>,
    pub(crate) version: Arc<Version>,
    /// What lay before it may be gone from the tables of `version`; [`Timestamp::MIN`]: nothing is.
    pub(crate) horizon: Timestamp,
}

impl SuperVersion {
    /// An error if what was at `ts` may be gone.
    pub(crate) fn check_horizon(&self, ts: Timestamp) -> Result<()> {
        let horizon = self.horizon;
        if ts < horizon { Err(Error::BelowHorizon { ts, horizon }) } else { Ok(()) }
    }

    /// The memtables, newest first.
    pub(crate) fn memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        std::iter::once(&self.active).chain(self.immutables.iter().map(|frozen| &frozen.memtable))
    }
}

/// The state of the one who commits, under the lock `writer`.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) wal: WalWriter,
    pub(crate) next_seq: SeqNo,
    /// How many callers write at once, as the last durable commit saw it: the batches of its group and
    /// those that had come when it ended.
    pub(crate) crowd: usize,
}

/// An open database.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) home: Home,
    pub(crate) options: Options,
    pub(crate) view: ReadView<SuperVersion>,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) flushing: Mutex<()>,
    pub(crate) compacting: Mutex<()>,
    pub(crate) versions: Mutex<VersionSet>,
    /// A segment of the log that nothing was written to yet, if there is one.
    pub(crate) next_segment: Mutex<Option<WalWriter>>,
    /// The segments of the log that the change feed reads.
    pub(crate) feed: Feed,
    pub(crate) throttle: Throttle,
    pub(crate) signals: Signals,
    /// The first failure that left the log or the manifest in a state unknown.
    poison: OnceLock<Arc<Error>>,
    /// The failure that ended background compaction; reads and writes go on.
    compaction_error: OnceLock<Error>,
    /// What scrubs have found, by table. Held for no longer than it takes to change the list.
    pub(super) damage: Mutex<Vec<(FileId, Damage)>>,
    closing: AtomicBool,
    /// Among how many threads many lookups are shared out. Asked for once: the answer takes reading files.
    pub(super) asof_threads_max: usize,
}

impl Core {
    pub(crate) fn new(
        home: Home,
        options: Options,
        super_version: SuperVersion,
        versions: VersionSet,
        writer: Writer,
        signals: Signals,
        feed: Feed,
    ) -> Self {
        let asof_threads_max = match options.background {
            Background::Threads => std::thread::available_parallelism().map_or(1, usize::from),
            Background::Inline | Background::Stepped => 1,
        };
        Core {
            home,
            options,
            asof_threads_max,
            view: ReadView::new(super_version, versions.flushed_seq()),
            writer: Mutex::new(writer),
            flushing: Mutex::new(()),
            compacting: Mutex::new(()),
            versions: Mutex::new(versions),
            next_segment: Mutex::new(None),
            feed,
            throttle: Throttle::default(),
            signals,
            poison: OnceLock::new(),
            compaction_error: OnceLock::new(),
            damage: Mutex::new(Vec::new()),
            closing: AtomicBool::new(false),
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.home.tables.metrics
    }

    /// Refuses writes from now on. Returns the error, for the caller of the failed operation.
    pub(crate) fn poison(&self, error: Error) -> Error {
        self.poison.get_or_init(|| Arc::new(error.clone()));
        error
    }

    /// Why writes are refused, if they are.
    pub(crate) fn poisoned(&self) -> Option<Error> {
        self.poison.get().map(|cause| Error::Poisoned { cause: Arc::clone(cause) })
    }

    pub(crate) fn set_compaction_error(&self, error: Error) {
        self.compaction_error.get_or_init(|| error);
    }

    pub(crate) fn compaction_error(&self) -> Option<&Error> {
        self.compaction_error.get()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Begins the end: later calls are refused.
    pub(crate) fn begin_closing(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// An error unless reads are served.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_closing() { Err(Error::Closed) } else { Ok(()) }
    }

    /// An error unless writes are served.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        self.poisoned().map_or(Ok(()), Err)
    }
}
