//! The next segment of the log: created ahead of need, so that a freeze costs a seal and a swap.
//!
//! To create a segment takes two syncs, of its header and of the directory. The log thread does that
//! once the live segment is under way; a freeze that comes before, and every freeze under
//! [`Background::Inline`](crate::Background::Inline), does it itself. A segment that was created and
//! never used is what `wal.rs` allows to follow the last one; a close removes it.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::state::Core;
use crate::error::Result;
use crate::key::FileId;
use crate::options::{Durability, Options, WAL_SYNC_PERIOD_MS};
use crate::wal::WalWriter;

/// The next segment is created when the live one is as large as this share of a memtable. An operation
/// takes at most some ten times as much in the memtable as in the log, so this comes before the freeze.
const PREPARE_SHARE: u64 = 16;

/// The size of the live segment from which on the next one should be there, in bytes.
pub(crate) fn prepare_bytes(options: &Options) -> u64 {
    options.memtable_bytes_max as u64 / PREPARE_SHARE
}

impl Core {
    /// The log thread: creates segments ahead, and syncs a buffered log when it is woken and once a
    /// period.
    pub(crate) fn serve_log(&self, wake: &Receiver<()>) {
        let buffered = self.options.durability == Durability::Buffered;
        let period = Duration::from_millis(WAL_SYNC_PERIOD_MS);
        loop {
            let woken = if buffered {
                wake.recv_timeout(period)
            } else {
                wake.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            if woken == Err(RecvTimeoutError::Disconnected) || self.is_closing() {
                return;
            }
            if self.signals.wal().appended() >= prepare_bytes(&self.options) {
                self.prepare_segment();
            }
            if buffered {
                // Whoever writes next is told.
                let _ = self.sync_log();
            }
        }
    }

    /// Creates the next segment, unless there is one. Under the lock all the while: ids rise in the
    /// order of use.
    pub(crate) fn prepare_segment(&self) -> bool {
        let mut next = self.next_segment.lock();
        if next.is_some() || self.check_writable().is_err() {
            return false;
        }
        // After a failure that heals, the freeze that needs it tries again, and tells. After any other one
        // it must not: a sync that failed is not to be tried as if nothing had happened.
        *next = self.begin_segment().map_err(|error| self.log_failed(error)).ok();
        next.is_some()
    }

    /// Makes the log durable.
    pub(crate) fn sync_log(&self) -> Result<()> {
        // Read before: what is committed meanwhile may miss the sync. Where the log has gone on in a new
        // segment since, the seal of the old one has made it durable.
        let visible = self.view.visible_seq();
        self.signals.wal().sync().map_err(|error| self.poison(error))?;
        self.feed.synced_up_to(visible);
        self.metrics().wal_syncs.add(1);
        Ok(())
    }

    /// Creates an empty segment, durably. Where that fails nothing of it stays.
    pub(crate) fn begin_segment(&self) -> Result<WalWriter> {
        let home = &self.home;
        let id = home.new_file_id();
        let wal =
            WalWriter::create(&home.fs, &home.dir, home.database, id, self.options.durability);
        let wal = wal.and_then(|wal| home.sync_dir().map(|()| wal));
        wal.inspect_err(|_| drop(home.fs.remove(&id.wal_path(&home.dir))))
    }

    /// Removes segments that neither a recovery nor the change feed needs. One that can't be removed costs
    /// space, and the next open tries again.
    pub(crate) fn remove_segments(&self, ids: impl IntoIterator<Item = FileId>) {
        for id in ids {
            let _ = self.home.fs.remove(&id.wal_path(&self.home.dir));
        }
    }

    /// Removes the segment that was created ahead, unless a seal may name it. After the last write.
    pub(crate) fn discard_next_segment(&self) {
        let next = self.next_segment.lock().take();
        self.remove_segments(next.filter(|_| self.poisoned().is_none()).map(|it| it.file_id()));
    }
}
