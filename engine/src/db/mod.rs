//! The database: its public methods, and nothing else.

mod aggregate;
mod asof;
mod background;
mod changes;
mod checkpoint;
mod closed;
mod diff;
mod explain;
mod export;
mod feed;
mod history;
mod horizon;
mod maintenance;
mod open;
mod probe;
mod questions;
mod read;
mod resolve;
mod scan;
mod scrub;
mod segments;
mod signals;
mod snapshot;
mod state;
mod throttle;
mod view;
mod write;

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

pub use self::aggregate::{Aggregate, Window};
pub use self::asof::AsOf;
use self::background::Threads;
pub use self::changes::{Change, Changes};
pub use self::checkpoint::Checkpoint;
pub(crate) use self::closed::explain_closed;
pub use self::diff::{Changed, Diff};
pub use self::explain::{
    ExplainedOutcome, ExplainedPlace, ExplainedSource, ExplainedStep, Explanation,
};
pub use self::export::{Export, Exported};
pub use self::history::{History, Timeline};
use self::open::Opened;
pub use self::scan::Scan;
pub use self::scrub::ScrubReport;
pub use self::snapshot::Snapshot;
use self::state::Core;
pub use self::write::Committed;
use crate::batch::WriteBatch;
use crate::error::{Error, Result};
use crate::fs::FileLock;
use crate::iter::{KeyRange, Order};
use crate::key::{Entry, SeqNo, Timestamp, ValueRef};
use crate::lookup::Lookup;
use crate::metrics::Metrics;
use crate::options::{Background, BackgroundStep, Durability, Options};
use crate::table::{Damage, TableMeta};

/// An open database. Clones are handles of the same one and may be used by any thread; when the last
/// one is dropped, the database is closed without the flush that [`close`](Db::close) makes.
///
/// ```
/// use kvtimedb_engine::{Db, Options, ValueRef};
///
/// let dir = tempfile::tempdir()?;
/// let db = Db::open(dir.path(), Options::default())?;
/// db.put(b"item1", 100, ValueRef::json(b"\"iPhone 16\""))?;
/// db.put(b"item1", 101, ValueRef::json(b"\"iPhone 17\""))?;
///
/// assert_eq!(db.floor(b"item1", 99)?, None);
/// assert_eq!(db.floor(b"item1", 102)?.unwrap().value, b"\"iPhone 17\"");
/// db.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Db {
    handle: Arc<Handle>,
}

/// What the last handle ends.
#[derive(Debug)]
struct Handle {
    core: Arc<Core>,
    threads: Mutex<Option<Threads>>,
    lock: Mutex<Option<Box<dyn FileLock>>>,
}

impl Db {
    /// Opens the database in `dir`, or creates one there. What was acknowledged before is there, also
    /// after a crash.
    ///
    /// Errors: [`Error::Locked`] while another handle has it open, [`Error::Corruption`] if a file
    /// does not hold what was written to it, [`Error::UnsupportedFormat`] if another build wrote it.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Db> {
        Db::start(open::open(dir.as_ref(), options, false)?)
    }

    /// As [`open`](Db::open), of a directory that is closed to all others as long as its mark is there.
    pub(crate) fn open_for_repair(dir: &Path, options: Options) -> Result<Db> {
        Db::start(open::open(dir, options, true)?)
    }

    fn start(opened: Opened) -> Result<Db> {
        let Opened { core, receivers, lock } = opened;
        let threads = Threads::start(&core, receivers)?;
        let threads = Mutex::new(Some(threads));
        Ok(Db { handle: Arc::new(Handle { core, threads, lock: Mutex::new(Some(lock)) }) })
    }

    /// From `ts` on, `key` has `value`; a value already there at `ts` is replaced. Returns when the
    /// write is as durable as [`Options::durability`] says, with its sequence number.
    pub fn put<'v>(
        &self,
        key: &[u8],
        ts: Timestamp,
        value: impl Into<ValueRef<'v>>,
    ) -> Result<SeqNo> {
        let mut batch = WriteBatch::new();
        batch.put(key, ts, value)?;
        Ok(self.write(batch)?.seq)
    }

    /// Commits a batch: all of it or nothing, also after a crash. May wait while flush or compaction lag.
    ///
    /// Errors: [`Error::ConditionFailed`], [`Error::BelowHorizon`] and [`Error::InvalidArgument`] refuse
    /// the batch, and so does what may befall the reads that its conditions, erases of ranges and rising
    /// puts take, [`Error::Corruption`] among others: nothing was written. [`Error::DiskFull`],
    /// [`Error::TooManyFiles`] and [`Error::Busy`] mean that nothing was written and a later try may
    /// succeed. Where it is unknown whether a reopen will show the batch, [`poisoned`](Db::poisoned) says
    /// so, and writes are refused until then with [`Error::Poisoned`].
    pub fn write(&self, batch: WriteBatch) -> Result<Committed> {
        self.core().write(batch)
    }

    /// Like [`write`](Db::write) for callers that may not block: queues the batch, or refuses it at
    /// once with [`Error::Busy`]. `on_commit` is called on the writer thread, so it should do little,
    /// and may neither write nor close: that would wait for itself.
    pub fn submit(
        &self,
        batch: WriteBatch,
        on_commit: impl FnOnce(Result<Committed>) + Send + 'static,
    ) -> Result<()> {
        self.core().submit(batch, Box::new(on_commit))
    }

    /// The newest version of `key` at or before `at`; `None` if there is none, or if the key had
    /// ended by then.
    pub fn floor(&self, key: &[u8], at: Timestamp) -> Result<Option<Entry>> {
        self.core().floor(key, at)
    }

    /// The version of `key` at exactly `ts`.
    pub fn exact(&self, key: &[u8], ts: Timestamp) -> Result<Option<Entry>> {
        Ok(self.floor(key, ts)?.filter(|entry| entry.ts == ts))
    }

    /// The newest version of `key`.
    pub fn latest(&self, key: &[u8]) -> Result<Option<Entry>> {
        self.floor(key, Timestamp::MAX)
    }

    /// The version of `key` that `lookup` means.
    pub fn find(&self, key: &[u8], lookup: Lookup) -> Result<Option<Entry>> {
        self.core().find(key, lookup)
    }

    /// The database as it is now, for several questions about one moment.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.core().snapshot()
    }

    /// [`Snapshot::history`] of the database as it is now.
    pub fn history(
        &self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        order: Order,
    ) -> Result<History> {
        self.snapshot()?.history(key, from, to, order)
    }

    /// [`Snapshot::scan`] of the database as it is now.
    pub fn scan(&self, keys: KeyRange, at: Timestamp, order: Order) -> Result<Scan> {
        self.snapshot()?.scan(keys, at, order)
    }

    /// [`Snapshot::asof`] of the database as it is now.
    pub fn asof(&self, lookups: &[(&[u8], Timestamp)]) -> Result<AsOf> {
        self.snapshot()?.asof(lookups)
    }

    /// The change feed: every operation after the sequence number `since`, in the order of the commits,
    /// those to come included; 0 begins at the first one ever. Who remembers the last one that it has seen
    /// goes on behind it later, also after the database was opened anew. Needs segments of the log to be
    /// kept: [`Options::feed_bytes_max`]. Takes no lock that a write waits for.
    ///
    /// Errors: [`Error::Trimmed`] if the next operation is not kept any more, [`Error::Unwritten`] if there
    /// never was a `since` here.
    ///
    /// ```
    /// # use kvtimedb_engine::{Db, Options, ValueKind};
    /// # let dir = tempfile::tempdir()?;
    /// # let db = Db::open(dir.path(), Options::default())?;
    /// db.put(b"sensor/7", 100, b"19.0")?;
    /// let mut changes = db.changes(0)?;
    /// let change = changes.next()?.unwrap();
    /// assert_eq!((change.seq, change.key, change.ts), (1, b"sensor/7".as_slice(), 100));
    /// assert_eq!(change.kind, ValueKind::Put);
    ///
    /// assert_eq!(changes.next()?, None);
    /// db.put(b"sensor/7", 200, b"21.5")?;
    /// assert_eq!(changes.next()?.unwrap().seq, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn changes(&self, since: SeqNo) -> Result<Changes> {
        self.handle.core.changes(since)
    }

    /// The sequence number of the oldest operation that [`changes`](Self::changes) can still show; of the
    /// next one to come, where it can show none.
    pub fn oldest_change_seq(&self) -> SeqNo {
        self.core().feed.oldest_seq()
    }

    /// [`Snapshot::explain`] of the database as it is now.
    pub fn explain(&self, key: &[u8], at: Timestamp) -> Result<Explanation> {
        self.snapshot()?.explain(key, at)
    }

    /// Gives up what was before `horizon`: from now on, reads and writes of earlier moments are refused with
    /// [`Error::BelowHorizon`], and merges drop what only those could show. Of each key the newest version
    /// at or before the horizon stays, so that a floor at any later moment answers as it did. It holds for
    /// ever, also after a crash, and only goes up: to one that is reached already nothing is done.
    ///
    /// Errors: those of [`write`](Db::write); after [`Error::DiskFull`] and [`Error::TooManyFiles`] the
    /// horizon is the one that it was.
    ///
    /// ```
    /// # use kvtimedb_engine::{Db, Error, Options};
    /// # let dir = tempfile::tempdir()?;
    /// # let db = Db::open(dir.path(), Options::default())?;
    /// db.put(b"sensor/7", 100, b"19.0")?;
    /// db.put(b"sensor/7", 200, b"21.5")?;
    /// db.set_horizon(250)?;
    /// assert_eq!(db.floor(b"sensor/7", 250)?.unwrap().value, b"21.5");
    /// assert!(matches!(db.floor(b"sensor/7", 249), Err(Error::BelowHorizon { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_horizon(&self, horizon: Timestamp) -> Result<()> {
        self.core().set_horizon(horizon)
    }

    /// The earliest moment that can be read; `None`: any can.
    pub fn horizon(&self) -> Option<Timestamp> {
        let horizon = self.core().view.super_version().horizon;
        (horizon > Timestamp::MIN).then_some(horizon)
    }

    /// Writes what is in memory to SSTables. Nothing is lost without it; it shortens the next open.
    pub fn flush(&self) -> Result<()> {
        let core = self.core();
        core.freeze_active(&mut core.writer.lock())?;
        core.flush_all()
    }

    /// Flushes, and merges all SSTables into one run: the quickest to read and the smallest.
    pub fn compact(&self) -> Result<()> {
        self.flush()?;
        self.core().compact_all()
    }

    /// Does one piece of background work on the caller's thread, as its own thread would; `false` where
    /// there is nothing of it to do. Only under [`Background::Stepped`].
    pub fn step(&self, step: BackgroundStep) -> Result<bool> {
        let core = self.core();
        assert!(core.options.background == Background::Stepped, "this database is not stepped");
        if step != BackgroundStep::Commit {
            return core.step(step);
        }
        // Not under the lock: what is called on a commit may take the next step.
        let queue = self.handle.threads.lock().as_ref().and_then(Threads::queue);
        Ok(queue.is_some_and(|queue| core.commit_queued(&queue)))
    }

    /// Flushes, and makes a copy of the database in `dir`, a new or empty directory, while reads and
    /// writes go on: every operation that was committed when it was called is in it. Its SSTables are
    /// hard links where the file system has them, so that it takes little time and no space until the
    /// database has merged them into others. SSTables are never written again: the copy is a database
    /// of its own, and neither sees what is written to the other. But damage to a linked file is damage
    /// to both: for a copy that shares nothing there is [`backup`](crate::backup::backup).
    ///
    /// Errors: [`Error::InvalidArgument`] if `dir` is not empty, [`Error::DiskFull`], [`Error::Io`]; those of
    /// [`flush`](Self::flush), so that there is none of a database whose writes are refused. After any
    /// of them the database is as it was, and what was put into `dir` is taken back; where that can't
    /// be, an open of `dir` is refused, and the next checkpoint into it begins anew. If only the last
    /// steps fail, the checkpoint may stay: it is whole, and the next one into `dir` is refused; a power
    /// loss may still take it.
    ///
    /// ```
    /// # use kvtimedb_engine::{Db, Options};
    /// # let dir = tempfile::tempdir()?;
    /// # let db = Db::open(dir.path().join("data"), Options::default())?;
    /// db.put(b"sensor/7", 100, b"19.0")?;
    /// let checkpoint = db.checkpoint(dir.path().join("monday"))?;
    /// assert_eq!(checkpoint.seq, 1);
    /// db.put(b"sensor/7", 100, b"21.5")?;
    ///
    /// let monday = Db::open(dir.path().join("monday"), Options::default())?;
    /// assert_eq!(monday.latest(b"sensor/7")?.unwrap().value, b"19.0");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn checkpoint(&self, dir: impl AsRef<Path>) -> Result<Checkpoint> {
        self.flush()?;
        self.core().checkpoint(dir.as_ref())
    }

    /// Flushes, ends the log and the background threads, and gives up the directory. Every later call
    /// but a second close is [`Error::Closed`]. Nothing acknowledged is lost without it, or if it fails.
    pub fn close(&self) -> Result<()> {
        self.handle.close(true)
    }

    /// When writes are acknowledged.
    pub fn durability(&self) -> Durability {
        self.core().options.durability
    }

    /// Why writes are refused, if an earlier failure poisoned them: [`Error::Poisoned`].
    pub fn poisoned(&self) -> Option<Error> {
        self.core().poisoned()
    }

    /// Why compaction has stopped, if it has. Reads and writes go on and get slower.
    pub fn compaction_error(&self) -> Option<Error> {
        self.core().compaction_error().cloned()
    }

    /// Reads every SSTable from the disk once more, at full speed, and verifies all of it. Under
    /// [`Background::Threads`](crate::Background::Threads), a thread does so slowly, a minute after the open
    /// and once a week. What is damaged is no error of this function: see [`damage`](Db::damage). `told` hears
    /// of all bytes read, in small portions.
    pub fn scrub(&self, told: &mut dyn FnMut(u64)) -> Result<ScrubReport> {
        self.core().scrub(&mut |bytes| {
            told(bytes);
            Ok(())
        })
    }

    /// What scrubs have found damaged in live SSTables: file, offset and keys; of many, a thousand. Reads
    /// go on, and those that need a damaged block are refused.
    pub fn damage(&self) -> Vec<Damage> {
        self.core().damage()
    }

    /// How many parts [`damage`](Db::damage) would tell of.
    pub fn damaged_parts(&self) -> usize {
        self.core().damaged_parts()
    }

    /// The live SSTables as the manifest describes them, run by run, the newest first, and in a run in the
    /// order of their keys.
    pub fn tables(&self) -> Vec<TableMeta> {
        let version = Arc::clone(&self.core().view.super_version().version);
        version.tables().map(|table| table.meta.clone()).collect()
    }

    /// What each memtable uses, in bytes: first the active one, then those that wait for their flush, the
    /// newest first.
    pub fn memtable_bytes(&self) -> Vec<usize> {
        let view = self.core().view.super_version();
        view.memtables().map(|memtable| memtable.used_bytes()).collect()
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.core().home.dir
    }

    /// What it has done since it was opened.
    pub fn metrics(&self) -> &Metrics {
        self.core().metrics()
    }

    /// The sequence number of the last operation that reads show.
    pub fn visible_seq(&self) -> SeqNo {
        self.core().view.visible_seq()
    }

    fn core(&self) -> &Core {
        &self.handle.core
    }
}

impl Handle {
    /// Only the first call does anything; a second one waits for it and finds nothing left.
    fn close(&self, flush: bool) -> Result<()> {
        let mut threads = self.threads.lock();
        let Some(running) = threads.take() else { return Ok(()) };
        let core = &*self.core;
        let flushed = if flush { self.flush_and_seal() } else { Ok(()) };
        core.begin_closing();
        // Where there is no seal the log will be replayed: it is made as durable as it can be.
        let synced = core.writer.lock().wal.sync();
        running.join(core);
        // A flush, a merge or the links of a checkpoint that another caller is at end before the
        // directory is given up.
        drop(core.flushing.lock());
        drop(core.compacting.lock());
        drop(core.versions.lock());
        core.discard_next_segment();
        self.lock.lock().take();
        flushed.and(synced)
    }

    /// Under the writer's lock to the end, so that no write comes after the seal.
    fn flush_and_seal(&self) -> Result<()> {
        let core = &*self.core;
        let mut writer = core.writer.lock();
        core.freeze_active(&mut writer)?;
        core.flush_all()?;
        core.begin_closing();
        let last_seq = writer.next_seq - 1;
        writer.wal.seal(last_seq, None)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Whoever wants to know whether the end went well calls `close`.
        let _ = self.close(false);
    }
}
