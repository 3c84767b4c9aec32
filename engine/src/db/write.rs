//! The write path: order → make durable → apply → publish.
//!
//! Whoever finds the queue empty and the writer free commits its own batch, on its own thread: a
//! hand-over to another thread costs several microseconds, which a lone writer need not pay. The
//! others queue up, and the writer thread commits all that wait as one group, with one log record and
//! one sync. Front ends that may not block use [`Core::submit`], which always queues.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, TrySendError, bounded};

use super::signals::{OnCommit, WriteRequest};
use super::state::{Core, ImmutableMemtable, Writer};
use crate::batch::WriteBatch;
use crate::error::{Error, Result};
use crate::key::SeqNo;
use crate::memtable::Memtable;
use crate::options::{Background, Durability, IMMUTABLE_MEMTABLES_MAX};
use crate::wal::WalWriter;

/// A group is closed when it holds so many encoded bytes: what waits behind it waits no longer than
/// these take.
const GROUP_BYTES_MAX: usize = 1 << 20;

/// A segment of the log that is so many times as large as a memtable is ended, also if its memtable
/// is not full: it bounds what a replay reads.
const SEGMENT_MEMTABLES: u64 = 2;

impl Core {
    /// Commits a batch and returns the sequence number of its last operation.
    pub(crate) fn write(&self, batch: WriteBatch) -> Result<SeqNo> {
        self.check_writable()?;
        if batch.is_empty() {
            return Ok(self.visible_seq.load(Ordering::Acquire));
        }
        if self.options.background == Background::Inline {
            let committed = self.commit(&mut self.writer.lock(), &[&batch]);
            self.run_background_work();
            return committed;
        }
        self.slow_down();
        let queue = self.signals.writes().ok_or(Error::Closed)?;
        if queue.is_empty()
            && let Some(mut writer) = self.writer.try_lock()
        {
            return self.commit(&mut writer, &[&batch]);
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
        let mut group: Vec<(WriteBatch, OnCommit)> = Vec::new();
        while let Ok((batch, on_commit)) = requests.recv() {
            self.slow_down();
            // Taken before the queue is emptied: what arrives while another one commits joins in.
            let mut writer = self.writer.lock();
            let mut bytes = batch.encoded_bytes();
            group.push((batch, on_commit));
            while bytes < GROUP_BYTES_MAX
                && let Ok((batch, on_commit)) = requests.try_recv()
            {
                bytes += batch.encoded_bytes();
                group.push((batch, on_commit));
            }
            let batches: Vec<&WriteBatch> = group.iter().map(|(batch, _)| batch).collect();
            let committed = self.commit(&mut writer, &batches);
            drop(writer);
            acknowledge(&mut group, &committed);
        }
    }

    /// Commits batches as one group: all of them or none. Returns the last sequence number.
    fn commit(&self, writer: &mut Writer, group: &[&WriteBatch]) -> Result<SeqNo> {
        self.check_writable()?;
        let ops = group.iter().map(|batch| batch.len()).sum();
        let encoded_bytes = group.iter().map(|batch| batch.encoded_bytes()).sum();
        if ops == 0 {
            return Ok(writer.next_seq - 1);
        }
        self.make_room(writer, ops, encoded_bytes)?;

        let first_seq = writer.next_seq;
        self.make_durable(&mut writer.wal, first_seq, ops, group)?;

        let last_seq = self.apply(first_seq, group);
        writer.next_seq = last_seq + 1;
        self.visible_seq.store(last_seq, Ordering::Release);

        let metrics = self.metrics();
        metrics.ops_committed.add(ops as u64);
        metrics.groups_committed.add(1);
        Ok(last_seq)
    }

    fn make_durable(
        &self,
        wal: &mut WalWriter,
        first_seq: SeqNo,
        ops: usize,
        group: &[&WriteBatch],
    ) -> Result<()> {
        let encoded: Vec<&[u8]> = group.iter().map(|batch| batch.encoded()).collect();
        let before = wal.bytes_appended();
        wal.append_group(first_seq, ops, &encoded).map_err(|error| self.log_failed(error))?;
        self.metrics().wal_bytes_written.add(wal.bytes_appended() - before);
        if self.options.durability == Durability::Sync {
            wal.sync().map_err(|error| self.log_failed(error))?;
            self.metrics().wal_syncs.add(1);
        }
        Ok(())
    }

    /// Inserts the operations, which readers don't see before they are published.
    fn apply(&self, first_seq: SeqNo, group: &[&WriteBatch]) -> SeqNo {
        let active = Arc::clone(&self.super_version.load().active);
        let mut memtable = active.writer();
        let mut seq = first_seq;
        for batch in group {
            for op in batch.ops() {
                memtable.insert(seq, &op);
                seq += 1;
            }
        }
        seq - 1
    }

    /// A full disk leaves the log as it was; after any other failure its state is unknown.
    fn log_failed(&self, error: Error) -> Error {
        match error {
            Error::DiskFull { .. } | Error::InvalidArgument(_) => error,
            _ => self.poison(error),
        }
    }

    /// Freezes the active memtable unless the operations fit it, and its segment of the log. The
    /// segment repeats a key at each of its versions, and may be the first to be full.
    fn make_room(&self, writer: &mut Writer, ops: usize, encoded_bytes: usize) -> Result<()> {
        let segment_bytes_max = SEGMENT_MEMTABLES * self.options.memtable_bytes_max as u64;
        let segment_is_full = writer.wal.bytes_appended() >= segment_bytes_max;
        if !segment_is_full && self.super_version.load().active.has_room_for(ops, encoded_bytes) {
            return Ok(());
        }
        let needed = Memtable::insert_bytes_max(ops, encoded_bytes);
        self.freeze(writer, self.options.memtable_bytes_max.max(needed))
    }

    /// Makes what is in the active memtable immutable.
    pub(crate) fn freeze_active(&self, writer: &mut Writer) -> Result<()> {
        // Under the lock: whoever had it before may have closed or poisoned the database.
        self.check_writable()?;
        if self.super_version.load().active.is_empty() {
            return Ok(());
        }
        self.freeze(writer, self.options.memtable_bytes_max)
    }

    /// Makes the active memtable immutable and begins a new one with a log segment of its own. Where
    /// too many wait for their flush, the caller does the oldest one's, or waits for who is at it.
    fn freeze(&self, writer: &mut Writer, capacity_bytes: usize) -> Result<()> {
        while self.super_version.load().immutables.len() >= IMMUTABLE_MEMTABLES_MAX {
            self.metrics().write_stalls.add(1);
            self.flush_oldest()?;
        }
        let next_wal = self.home.new_file_id();
        let wal = self.begin_segment(next_wal);
        let sealed =
            wal.and_then(|wal| writer.wal.seal(writer.next_seq - 1, Some(next_wal)).map(|()| wal));
        let wal = sealed.map_err(|error| {
            // After any other failure the seal, which names the new segment, may be on disk.
            if matches!(error, Error::DiskFull { .. }) {
                let _ = self.home.fs.remove(&next_wal.wal_path(&self.home.dir));
            }
            self.log_failed(error)
        })?;
        let frozen = std::mem::replace(&mut writer.wal, wal).file_id();
        let active = Arc::new(Memtable::new(capacity_bytes));
        self.swap(|view| {
            let memtable = std::mem::replace(&mut view.active, Arc::clone(&active));
            let immutable = ImmutableMemtable { memtable, wal: frozen, next_wal };
            view.immutables.insert(0, Arc::new(immutable));
        });
        self.signals.wal_changed(writer.wal.sync_handle());
        self.signals.wake_flush();
        Ok(())
    }

    fn begin_segment(&self, id: crate::key::FileId) -> Result<WalWriter> {
        let home = &self.home;
        let durability = self.options.durability;
        let wal = WalWriter::create(&home.fs, &home.dir, home.database, id, durability)?;
        home.sync_dir()?;
        Ok(wal)
    }

    /// Delays the caller where flush or compaction lag, before it takes any lock.
    fn slow_down(&self) {
        let view = self.super_version.load();
        let delay = write_delay(view.immutables.len(), view.version.runs().len());
        drop(view);
        if !delay.is_zero() {
            self.metrics().write_stalls.add(1);
            std::thread::sleep(delay);
        }
    }
}

fn acknowledge(group: &mut Vec<(WriteBatch, OnCommit)>, committed: &Result<SeqNo>) {
    let mut ops_after: u64 = group.iter().map(|(batch, _)| batch.len() as u64).sum();
    for (batch, on_commit) in group.drain(..) {
        ops_after -= batch.len() as u64;
        on_commit(committed.clone().map(|last| last - ops_after));
    }
}

/// How long a write waits: nothing up to a low mark of debt, then rising with its square, so that
/// ingest slows smoothly to what flush and compaction can bear (see the issues 1966 and 9423 of `RocksDB` for
/// what a cliff does instead).
fn write_delay(immutables: usize, runs: usize) -> Duration {
    const DELAY_MAX: Duration = Duration::from_millis(5);
    const RUNS_LOW: usize = 16;
    const RUNS_HIGH: usize = 32;
    let debt = |amount: usize, low: usize, high: usize| {
        (amount.saturating_sub(low) as f64 / (high - low) as f64).min(1.0)
    };
    let memory = debt(immutables, 1, IMMUTABLE_MEMTABLES_MAX);
    let debt = memory.max(debt(runs, RUNS_LOW, RUNS_HIGH));
    DELAY_MAX.mul_f64(debt * debt)
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

    #[test]
    fn delays_ramp_and_are_bounded() {
        assert_eq!(write_delay(0, 0), Duration::ZERO);
        assert_eq!(write_delay(1, 16), Duration::ZERO);
        let delays: Vec<_> = (16..=40).map(|runs| write_delay(0, runs)).collect();
        assert!(delays.is_sorted());
        assert_eq!(delays.last(), Some(&Duration::from_millis(5)));
        assert!(write_delay(2, 0) < write_delay(3, 0));
    }
}
