//! Flushes and merges, a step at a time, and their installs. Any thread may do the next step: the
//! background threads do, and so does a writer that meets the cap on memory.

use std::sync::Arc;

use super::state::Core;
use crate::compaction::{Compacted, Effort, Picker, RunShape, Sources, run_compaction};
use crate::error::{Error, Result};
use crate::flush::flush_memtable;
use crate::key::RunRank;
use crate::options::TABLE_BYTES_MAX;

impl Core {
    /// What the threads would do, done by the caller: under [`Background::Inline`].
    pub(crate) fn run_background_work(&self) {
        if self.flush_all().is_ok() {
            // What stopped it is told by `compaction_error`.
            let _ = self.compact_while_worthwhile();
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
        let view = self.view.super_version();
        let Some(frozen) = view.immutables.last() else { return Ok(false) };
        self.check_writable()?;
        let table =
            flush_memtable(&self.home, &frozen.memtable).map_err(|e| self.install_failed(e))?;
        let mut versions = self.versions.lock();
        let last_seq = frozen.memtable.seq_range().map_or(versions.flushed_seq(), |(_, last)| last);
        let version = versions.install_flush(table.as_ref(), last_seq, frozen.next_wal);
        let version = version.map_err(|error| {
            // Where the manifest may name the file, it must stay.
            if error.heals() {
                self.home.remove_tables(table.iter().map(|table| table.meta.id));
            }
            self.install_failed(error)
        })?;
        self.view.swap(|view| {
            view.immutables.pop();
            view.version = Arc::clone(&version);
        });
        drop(versions);
        self.remove_segments(self.feed.flushed(frozen.wal));
        self.signals.wake_compaction();
        Ok(true)
    }

    /// Merges runs while the picker finds a merge that is worth its cost.
    pub(crate) fn compact_while_worthwhile(&self) -> Result<()> {
        while self.compact_unasked(Effort::Worthwhile)? {}
        Ok(())
    }

    /// Does one merge that no caller asked for; `false` where there is none. One that fails, but for a
    /// failure that heals, is the last: nobody would see that it fails again and again.
    pub(crate) fn compact_unasked(&self, effort: Effort) -> Result<bool> {
        if let Some(error) = self.compaction_error() {
            return Err(error.clone());
        }
        self.compact(effort).inspect_err(|error| {
            if !error.heals() && !matches!(error, Error::Closed) {
                self.set_compaction_error(error.clone());
            }
        })
    }

    /// Merges all runs into one.
    pub(crate) fn compact_all(&self) -> Result<()> {
        self.compact(Effort::Full).map(drop)
    }

    /// Does the next merge to this extent; `false` where there is none.
    fn compact(&self, effort: Effort) -> Result<bool> {
        let _compacting = self.compacting.lock();
        self.merge_runs(None, effort)
    }

    /// Does the next merge to this extent of the runs newer than `newer_than`, under `compacting`;
    /// `false` where there is none.
    ///
    /// A long merge gives way to shorter ones: while it is under way, the runs that flushes add are
    /// merged among themselves, so that reads meet few of them and writes need not be delayed.
    fn merge_runs(&self, newer_than: Option<RunRank>, effort: Effort) -> Result<bool> {
        self.check_writable()?;
        let sources = self.sources();
        let (runs, horizon) = (sources.version.runs_newer_than(newer_than), sources.horizon);
        let table_bytes_max = self.options.memtable_bytes_max.min(TABLE_BYTES_MAX) as u64;
        let picker = Picker {
            runs: runs.iter().map(|run| RunShape::of(run, horizon)).collect(),
            to_oldest: newer_than.is_none(),
            table_bytes_max,
        };
        let Some(task) = picker.pick(effort) else { return Ok(false) };
        let newest = runs[task.runs.start].rank();
        let give_way = || {
            self.check_open()?;
            while self.merge_runs(Some(newest), Effort::Worthwhile)? {}
            Ok(())
        };
        let compacted = run_compaction(&self.home, &sources, &task, table_bytes_max, &give_way)?;
        self.install_compaction(compacted)?;
        Ok(true)
    }

    /// What a merge is picked from.
    fn sources(&self) -> Sources {
        let (view, visible) = self.view.load();
        Sources::new(view.memtables(), visible, Arc::clone(&view.version), view.horizon)
    }

    /// Flushes have added runs above the inputs meanwhile, and merges of those may have been
    /// installed. Nobody but the holder of `compacting` takes runs away, so the inputs are still live
    /// and still neighbours; the version checks it once more.
    fn install_compaction(&self, compacted: Compacted) -> Result<()> {
        let mut versions = self.versions.lock();
        let Compacted { merged, written, moved } = &compacted;
        let installed = versions.install_compaction(merged, written, moved).map_err(|error| {
            if error.heals() {
                self.home.remove_tables(compacted.written_ids());
            }
            self.install_failed(error)
        })?;
        self.view.swap(|view| view.version = Arc::clone(&installed));
        drop(versions);
        self.home.remove_tables(compacted.merged);
        Ok(())
    }

    /// A full disk is tried again; after any other failure the manifest or a table may be there or
    /// not, and only a reopen can tell.
    pub(super) fn install_failed(&self, error: Error) -> Error {
        if error.heals() { error } else { self.poison(error) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::compaction::Effort;
    use crate::fs::SimFs;
    use crate::{Background, Db, Options, WriteBatch};

    fn open() -> Db {
        let options = Options {
            fs: Arc::new(SimFs::new(0)),
            background: Background::Inline,
            ..Options::default()
        };
        Db::open("db", options).unwrap()
    }

    fn runs(db: &Db) -> usize {
        db.core().view.super_version().version.runs().len()
    }

    /// Bytes that don't compress.
    fn noise(len: u32) -> Vec<u8> {
        (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> (i % 17)) as u8).collect()
    }

    /// A run of a few hundred bytes, about one record.
    fn write_run(db: &Db, at: i64) {
        db.put(b"k", at, b"value").unwrap();
        db.flush().unwrap();
    }

    #[test]
    fn a_merge_that_gives_way_leaves_its_inputs_and_what_erases_hide_in_them() {
        let db = open();
        db.put(b"k", 1, noise(9000).as_slice()).unwrap();
        db.put(b"k", 2, noise(9001).as_slice()).unwrap();
        db.flush().unwrap();
        let input = db.core().view.super_version().version.runs()[0].rank();
        for at in 3..6 {
            write_run(&db, at);
        }
        let mut batch = WriteBatch::new();
        batch.erase(b"k", 2).unwrap();
        db.write(batch).unwrap();
        db.flush().unwrap();
        assert_eq!(runs(&db), 5);
        let merged = db.core().merge_runs(Some(input), Effort::Worthwhile).unwrap();
        assert!(merged);
        assert_eq!(runs(&db), 2);
        assert_eq!(db.core().view.super_version().version.runs()[1].rank(), input);
        assert_eq!(db.floor(b"k", 2).unwrap().unwrap().ts, 1);
        assert!(!db.core().merge_runs(Some(input), Effort::Worthwhile).unwrap());
    }

    #[test]
    fn an_idle_database_is_merged_as_far_as_is_proportionate() {
        let db = open();
        db.put(b"k", 1, noise(90_000).as_slice()).unwrap();
        db.flush().unwrap();
        for at in 2..5 {
            write_run(&db, at);
        }
        assert_eq!(runs(&db), 4);
        assert!(db.core().compact_unasked(Effort::Idle).unwrap());
        assert_eq!(runs(&db), 2, "the large one is left alone");
        assert!(!db.core().compact_unasked(Effort::Idle).unwrap());
    }
}
