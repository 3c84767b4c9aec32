//! Flushes and merges, a step at a time, and their installs. Any thread may do the next step: the
//! background threads do, and so does a writer that meets the cap on memory.

use std::sync::Arc;

use super::state::Core;
use crate::compaction::{CompactionTask, RunSize, pick, pick_all, run_compaction};
use crate::error::{Error, Result};
use crate::flush::flush_memtable;
use crate::key::FileId;
use crate::options::TABLE_BYTES_MAX;

impl Core {
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
        self.check_writable()?;
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
