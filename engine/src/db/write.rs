//! The write path: resolve → order → make durable → apply → publish.
//!
//! Whoever finds the queue empty and the writer free commits its own batch, on its own thread: a
//! hand-over to another thread costs several microseconds, which a lone writer need not pay. The
//! others queue up, and the writer thread commits all that wait as one group, with one log record and
//! one sync. Front ends that may not block use [`Core::submit`], which always queues.

use std::sync::Arc;

use crossbeam_channel::{Receiver, TrySendError, bounded};
use smallvec::SmallVec;

use super::resolve::resolve;
use super::segments::prepare_bytes;
use super::signals::{OnCommit, WriteRequest};
use super::state::{Core, ImmutableMemtable, Writer};
use crate::batch::WriteBatch;
use crate::error::{Error, Result};
use crate::key::{SEQ_NO_MAX, SeqNo, Timestamp};
use crate::memtable::Memtable;
use crate::options::{Background, Durability, IMMUTABLE_MEMTABLES_MAX};
use crate::wal::WalWriter;

/// A group is closed when it holds so many encoded bytes: what waits behind it waits no longer than
/// these take.
const GROUP_BYTES_MAX: usize = 1 << 20;

/// How often a group that is smaller than the crowd lets other threads go first: some tens of
/// microseconds where there are no others, a part of what the sync takes.
const GATHER_YIELDS_MAX: usize = 64;

/// A segment of the log that is so many times as large as a memtable is ended, also if its memtable
/// is not full: it bounds what a replay reads.
const SEGMENT_MEMTABLES: u64 = 2;

/// Under [`Durability::Buffered`] the log is synced in the background each time that it has grown by
/// so many bytes, so that the seal of a segment, for which a writer waits, has little left to sync.
const SYNC_AHEAD_BYTES: u64 = 16 << 20;

/// The place of an operation is noted each time that the segment has grown by so many bytes: what a reader
/// of the change feed has at most to pass over, where it begins in the midst of one.
const FEED_MARK_BYTES: u64 = 1 << 20;

/// What a batch has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The sequence number of its last operation; where nothing was to be written, that of the last one
    /// before it.
    pub seq: SeqNo,
    /// The timestamps of its rising puts, in their order.
    pub assigned: Vec<Timestamp>,
    /// How many versions [`erase_between`](WriteBatch::erase_between) has met and erased. Below the
    /// retention horizon, those that were still there.
    pub erased: u64,
}

/// What has become of the batches of a group.
struct Outcomes {
    /// One for each, in their order.
    committed: SmallVec<[Result<Committed>; 1]>,
    /// What they took in the log.
    encoded_bytes: usize,
}

impl Core {
    /// Commits a batch.
    pub(crate) fn write(&self, batch: WriteBatch) -> Result<Committed> {
        self.check_writable()?;
        if batch.is_empty() && batch.unresolved().is_none() {
            return Ok(Committed { seq: self.view.visible_seq(), ..Committed::default() });
        }
        if self.options.background != Background::Threads {
            let (committed, _) = self.commit_one(&mut self.writer.lock(), &batch);
            if self.options.background == Background::Inline {
                self.run_background_work();
            }
            return committed;
        }
        let queue = self.signals.writes().ok_or(Error::Closed)?;
        if queue.is_empty()
            && let Some(mut writer) = self.writer.try_lock()
            && writer.crowd <= 1
        {
            let (committed, bytes) = self.commit_one(&mut writer, &batch);
            self.count_crowd(&mut writer, 1 + queue.len());
            drop(writer);
            self.slow_down(bytes);
            return committed;
        }
        let (done, committed) = bounded(1);
        let on_commit = Box::new(move |result| drop(done.send(result)));
        queue.send((batch, on_commit)).map_err(|_| Error::Closed)?;
        drop(queue);
        committed.recv().unwrap_or(Err(Error::Closed))
    }

    /// Queues a batch, or refuses it at once. `on_commit` is called on the writer thread, with
    /// [`Error::Closed`] if the database is closed before.
    pub(crate) fn submit(&self, batch: WriteBatch, on_commit: OnCommit) -> Result<()> {
        self.check_writable()?;
        if self.options.background == Background::Inline {
            on_commit(self.write(batch));
            return Ok(());
        }
        let queue = self.signals.writes().ok_or(Error::Closed)?;
        queue.try_send((batch, on_commit)).map_err(|refused| match refused {
            TrySendError::Full(_) => Error::Busy,
            TrySendError::Disconnected(_) => Error::Closed,
        })
    }

    /// The writer thread: commits what waits, until nobody can queue any more.
    pub(crate) fn serve_writes(&self, requests: &Receiver<WriteRequest>) {
        let mut group = Vec::new();
        while let Ok(first) = requests.recv() {
            let bytes = self.commit_group(first, requests, &mut group);
            self.slow_down(bytes);
        }
    }

    /// Commits what waits as one group; `false` where nothing does.
    pub(crate) fn commit_queued(&self, requests: &Receiver<WriteRequest>) -> bool {
        let Ok(first) = requests.try_recv() else { return false };
        self.commit_group(first, requests, &mut Vec::new());
        true
    }

    /// Commits one group, which begins with `first`, and tells its callers. Returns what it took in the log.
    /// `group` is empty before and after.
    fn commit_group(
        &self,
        first: WriteRequest,
        requests: &Receiver<WriteRequest>,
        group: &mut Vec<WriteRequest>,
    ) -> usize {
        // Taken before the queue is emptied: what arrives while another one commits joins in.
        let mut writer = self.writer.lock();
        gather(requests, writer.crowd);
        let mut bytes = first.0.encoded_bytes();
        group.push(first);
        while bytes < GROUP_BYTES_MAX
            && let Ok((batch, on_commit)) = requests.try_recv()
        {
            bytes += batch.encoded_bytes();
            group.push((batch, on_commit));
        }
        let batches: Vec<&WriteBatch> = group.iter().map(|(batch, _)| batch).collect();
        let Outcomes { committed, encoded_bytes } = self.commit(&mut writer, &batches);
        self.count_crowd(&mut writer, batches.len() + requests.len());
        drop(writer);
        group.drain(..).zip(committed).for_each(|((_, on_commit), outcome)| on_commit(outcome));
        encoded_bytes
    }

    /// A buffered commit takes less than to wait for others would.
    fn count_crowd(&self, writer: &mut Writer, callers: usize) {
        if self.options.durability == Durability::Sync {
            writer.crowd = callers;
        }
    }

    /// Commits a batch alone. Returns also what it took in the log.
    fn commit_one(&self, writer: &mut Writer, batch: &WriteBatch) -> (Result<Committed>, usize) {
        let Outcomes { mut committed, encoded_bytes } = self.commit(writer, &[batch]);
        (committed.pop().unwrap_or(Err(Error::Closed)), encoded_bytes)
    }

    /// Commits a group. A batch that is refused fails alone.
    fn commit(&self, writer: &mut Writer, group: &[&WriteBatch]) -> Outcomes {
        let mut outcomes = Outcomes { committed: SmallVec::new(), encoded_bytes: 0 };
        let horizon = self.view.super_version().horizon;
        let is_plain =
            |batch: &&WriteBatch| batch.unresolved().is_none() && batch.ts_below(horizon).is_none();
        if !group.iter().all(is_plain) {
            self.commit_resolved(writer, group, &mut outcomes);
            return outcomes;
        }
        let mut seq = writer.next_seq - 1;
        let done = self.commit_plain(writer, group);
        for batch in group {
            seq += batch.len() as u64;
            outcomes.encoded_bytes += batch.encoded_bytes();
            let committed = Committed { seq, ..Committed::default() };
            outcomes.committed.push(done.clone().map(|()| committed));
        }
        outcomes
    }

    /// Resolves the batches of a group and commits what they come to: as one group, too, unless that is
    /// much larger.
    fn commit_resolved(&self, writer: &mut Writer, group: &[&WriteBatch], outcomes: &mut Outcomes) {
        while let rest @ [_, ..] = &group[outcomes.committed.len()..] {
            let before = Arc::clone(&self.view.super_version());
            let resolved = resolve(&before, rest, GROUP_BYTES_MAX);
            drop(before);
            let batches: Vec<&WriteBatch> =
                resolved.iter().flatten().map(|one| &*one.batch).collect();
            let mut seq = writer.next_seq - 1;
            let done = self.commit_plain(writer, &batches);
            for outcome in resolved {
                // Where the log fails, all fail: none was refused for what was never written.
                outcomes.committed.push(done.clone().and(outcome).map(|one| {
                    seq += one.batch.len() as u64;
                    outcomes.encoded_bytes += one.batch.encoded_bytes();
                    Committed { seq, assigned: one.assigned, erased: one.erased }
                }));
            }
        }
    }

    /// Commits plain batches as one: all of them or none.
    fn commit_plain(&self, writer: &mut Writer, group: &[&WriteBatch]) -> Result<()> {
        self.check_writable()?;
        let ops = group.iter().map(|batch| batch.len()).sum();
        let encoded_bytes = group.iter().map(|batch| batch.encoded_bytes()).sum();
        if ops == 0 {
            return Ok(());
        }
        let first_seq = writer.next_seq;
        if first_seq + ops as u64 > SEQ_NO_MAX {
            let what = format!("the sequence numbers are used up: the next one is {first_seq}");
            return Err(Error::InvalidArgument(what));
        }
        self.make_room(writer, ops, encoded_bytes)?;

        self.make_durable(&mut writer.wal, first_seq, ops, group)?;

        let last_seq = self.apply(first_seq, group);
        writer.next_seq = last_seq + 1;
        self.view.publish(last_seq);

        let metrics = self.metrics();
        metrics.ops_committed.add(ops as u64);
        metrics.groups_committed.add(1);
        Ok(())
    }

    fn make_durable(
        &self,
        wal: &mut WalWriter,
        first_seq: SeqNo,
        ops: usize,
        group: &[&WriteBatch],
    ) -> Result<()> {
        let before = wal.bytes_appended();
        let encoded = group.iter().map(|batch| batch.encoded());
        wal.append_group(first_seq, ops, encoded).map_err(|error| self.log_failed(error))?;
        let after = wal.bytes_appended();
        self.metrics().wal_bytes_written.add(after - before);
        if self.options.durability == Durability::Sync {
            wal.sync().map_err(|error| self.log_failed(error))?;
            self.metrics().wal_syncs.add(1);
        }
        self.look_ahead(before, after);
        if before / FEED_MARK_BYTES != after / FEED_MARK_BYTES {
            self.feed.mark(first_seq + ops as u64, wal.place());
        }
        Ok(())
    }

    /// Wakes the log thread where the segment has grown past a mark, from `before` to `after`.
    fn look_ahead(&self, before: u64, after: u64) {
        let prepare = prepare_bytes(&self.options);
        let passed = |step: u64| before / step != after / step;
        if (before < prepare && after >= prepare) || passed(SYNC_AHEAD_BYTES) {
            self.signals.wake_log();
        }
    }

    /// Inserts the operations, which readers don't see before they are published.
    fn apply(&self, first_seq: SeqNo, group: &[&WriteBatch]) -> SeqNo {
        let active = Arc::clone(&self.view.super_version().active);
        let mut memtable = active.writer();
        let mut seq = first_seq;
        for batch in group {
            seq = memtable.insert_all(seq, batch.ops());
        }
        seq - 1
    }

    /// A full disk leaves the log as it was; after any other failure its state is unknown.
    pub(super) fn log_failed(&self, error: Error) -> Error {
        match error {
            Error::InvalidArgument(_) => error,
            _ if error.heals() => error,
            _ => self.poison(error),
        }
    }

    /// Freezes the active memtable unless the operations fit it, and its segment of the log. The
    /// segment repeats a key at each of its versions, and may be the first to be full.
    fn make_room(&self, writer: &mut Writer, ops: usize, encoded_bytes: usize) -> Result<()> {
        let segment_bytes_max = SEGMENT_MEMTABLES * self.options.memtable_bytes_max as u64;
        let segment_is_full = writer.wal.bytes_appended() >= segment_bytes_max;
        if !segment_is_full && self.view.super_version().active.has_room_for(ops, encoded_bytes) {
            return Ok(());
        }
        let needed = Memtable::insert_bytes_max(ops, encoded_bytes);
        self.freeze(writer, self.options.memtable_bytes_max.max(needed))
    }

    /// Makes what is in the active memtable immutable.
    pub(crate) fn freeze_active(&self, writer: &mut Writer) -> Result<()> {
        // Under the lock: whoever had it before may have closed or poisoned the database.
        self.check_writable()?;
        if self.view.super_version().active.is_empty() {
            return Ok(());
        }
        self.freeze(writer, self.options.memtable_bytes_max)
    }

    /// Makes the active memtable immutable and begins a new one with a log segment of its own. Where
    /// too many wait for their flush, the caller does the oldest one's, or waits for who is at it.
    fn freeze(&self, writer: &mut Writer, capacity_bytes: usize) -> Result<()> {
        while self.view.super_version().immutables.len() >= IMMUTABLE_MEMTABLES_MAX {
            self.metrics().write_stalls.add(1);
            // The one thread of a simulation can't wait for itself.
            if self.options.background == Background::Stepped && self.flushing.is_locked() {
                return Err(Error::Busy);
            }
            self.flush_oldest()?;
        }
        let mut next = self.next_segment.lock();
        let wal = match next.take() {
            Some(prepared) => prepared,
            None => self.begin_segment().map_err(|error| self.log_failed(error))?,
        };
        let next_wal = wal.file_id();
        if let Err(error) = writer.wal.seal(writer.next_seq - 1, Some(next_wal)) {
            // The next freeze seals with it; or the seal that names it is on disk, and it must stay.
            *next = Some(wal);
            return Err(self.log_failed(error));
        }
        drop(next);
        // Before anything in it can be published.
        self.feed.begin_segment(next_wal, writer.next_seq, writer.wal.file_bytes());
        let frozen = std::mem::replace(&mut writer.wal, wal).file_id();
        let active = Arc::new(Memtable::new(capacity_bytes));
        self.view.swap(|view| {
            let memtable = std::mem::replace(&mut view.active, Arc::clone(&active));
            let immutable = ImmutableMemtable { memtable, wal: frozen, next_wal };
            view.immutables.insert(0, Arc::new(immutable));
        });
        self.signals.wal_changed(writer.wal.sync_handle());
        self.signals.wake_flush();
        Ok(())
    }

    /// Delays whoever has written so many bytes where flush or compaction lag. Holds no lock.
    fn slow_down(&self, bytes: usize) {
        let view = self.view.super_version();
        let memtables = view.immutables.len() as f64 + view.active.fill();
        let sleep = self.throttle.sleep_after(memtables, view.version.runs().len(), bytes);
        drop(view);
        if !sleep.is_zero() {
            self.metrics().write_stalls.add(1);
            std::thread::sleep(sleep);
        }
    }
}

/// Lets the callers of the last group come back with their next batches, so that one sync serves them
/// all: a sync takes as long as waking all of them. Waits for no more than were there before, and
/// not for long: see `docs/decisions/0007-groups-wait-for-their-callers.md`.
fn gather(requests: &Receiver<WriteRequest>, crowd: usize) {
    for _ in 0..GATHER_YIELDS_MAX {
        if requests.len() + 1 >= crowd {
            return;
        }
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::SimFs;
    use crate::{Db, Options};

    /// A log stops at 4 GiB; one that fills before its memtable once refused every further write.
    #[test]
    fn a_segment_full_of_repeated_keys_ends_before_its_memtable_is_full() {
        let options = Options {
            fs: Arc::new(SimFs::new(0)),
            memtable_bytes_max: 16 << 10,
            background: Background::Inline,
            ..Options::default()
        };
        let db = Db::open("db", options).unwrap();
        let key = [b'k'; 4096];
        for ts in 0..20 {
            db.put(&key, ts, b"v").unwrap();
        }
        let flushes = db.metrics().flushes.get();
        assert_eq!(flushes, 2, "a flush for every eight keys of 4 KiB in a segment of 32 KiB");
    }
}
