//! Getting out of a damaged database what can be read, into a new one.
//!
//! Sources are written to the new database from the oldest to the newest, so that of two records of one
//! `(key, timestamp)` the newer one stands: first the tables, in the order of their ranks, then the log.
//! Tombstones are written too. What can't be read is left out and told.
//!
//! *What leaving out means.* A version that is lost may have hidden an older one: its value at the same
//! timestamp, what it ended, or what it erased. The older one shows then. So [`Lost`] tells the range in
//! which answers may be older than they were, not only that something is missing.
//!
//! Ranks are in the manifest. Without one, or where files that it names are gone while others are there
//! that it doesn't name, tables are ordered by their sequence numbers; among them may be such as had been
//! merged, whose erased versions are erased no more in the tables that took their place.
//!
//! The horizon is in the manifest too, and comes last, as older records are written before. Without one it
//! is the highest under which a table was written: nothing that is there lacks what only a later one allows.

mod log;
mod report;
mod tables;

use std::io;
use std::path::Path;

use self::log::LogSource;
pub use self::report::{Lost, Returns, Salvaged};
use self::tables::{TableSource, by_sequence, seq_range};
use super::verify::{Depth, lock, verify_directory};
use crate::batch::{Op, WriteBatch};
use crate::db::Db;
use crate::error::{Error, IoContext, Result};
use crate::fs::Fs;
use crate::key::{
    CURRENT_NAME, DatabaseId, FileId, FileKind, REPAIRING_NAME, SeqNo, Timestamp, ValueKind,
    ValueRef,
};
use crate::options::Options;
use crate::record::{LogKind, RecordReader};
use crate::table::{TableContext, TableMeta, TableReader};
use crate::version::{Manifest, ManifestState, directory};

/// For whoever finds the file.
const REPAIRING_TEXT: &str =
    "A repair into this directory is not finished: only a part of the database is here.\n";

/// The new database is written in batches of about this size, in bytes.
const BATCH_BYTES: usize = 4 << 20;

/// Writes what can be read of the database in `from`, which is not open, to a new one in `to`, which does
/// not exist or is empty; verifies the new one; tells what was lost. Until it is done,
/// `REPAIRING` is in `to`, and no open takes what is there for the database. Without `to` nothing is written, and
/// the same is told. Nothing in `from` is changed.
///
/// `options` are those of the new database; both are on its file system. One table, or one segment of the
/// log, is in memory at a time.
///
/// Errors: [`Error::Locked`] while a database is open, [`Error::InvalidArgument`] where `to` has files,
/// [`Error::Io`] where there is no database in `from`; those of writing. Damage is none.
pub fn salvage(options: &Options, from: &Path, to: Option<&Path>) -> Result<Salvaged> {
    let fs = &*options.fs;
    let files = directory::list(fs, from)?;
    let mut salvaged = Salvaged::default();
    let _lock = lock(fs, from, &files, &mut |checked| {
        let note = |note| format!("{}: {note}", checked.path.display());
        salvaged.notes.extend(checked.note.map(note));
    })?;
    salvaged.notes.extend(directory::check_repaired(from, &files).err().map(|e| e.to_string()));
    let plan = Plan::of(fs, from, &files, &mut salvaged)?;
    let mut sink = Sink::begin(options, to)?;
    for source in &plan.tables(from) {
        source.read(fs, plan.database, &mut salvaged, &mut |record| {
            let (key, ts, tag, value) = (record.key, record.ts, record.tag, record.value);
            sink.take(&Op { tag, key, ts, value })
        })?;
    }
    let (database, next_seq) = (plan.database, plan.flushed_seq.saturating_add(1));
    let segments = directory::wal_segments(&files, plan.oldest_wal.unwrap_or(FileId(0)));
    let mut log = LogSource { fs, dir: from, database, next_seq, damage: None };
    log.read(&segments, plan.oldest_wal, &mut salvaged, &mut |_, op| sink.take(op))?;
    sink.finish(options, to, salvaged.horizon)?;
    Ok(salvaged)
}

/// Which files are read, and in which order.
struct Plan {
    database: DatabaseId,
    /// Of the manifest: descriptions, also of tables that are gone.
    described: Vec<TableMeta>,
    /// Oldest first.
    tables: Vec<FileId>,
    /// Tables hold every operation up to this one.
    flushed_seq: SeqNo,
    /// `None`: any segment may be needed.
    oldest_wal: Option<FileId>,
}

impl Plan {
    fn of(fs: &dyn Fs, dir: &Path, files: &[FileKind], salvaged: &mut Salvaged) -> Result<Plan> {
        let there: Vec<FileId> = files
            .iter()
            .filter_map(|file| if let FileKind::Table(id) = file { Some(*id) } else { None })
            .collect();
        let found = find_manifest(fs, dir, files, &mut salvaged.notes);
        let Some((database, state)) = found else {
            let database = find_database(fs, dir, files).ok_or(io::ErrorKind::NotFound);
            let database = database.map_err(io::Error::from);
            let database = database.at("open", &dir.join(CURRENT_NAME))?;
            return Ok(Plan::without_manifest(fs, dir, database, there, Vec::new(), salvaged));
        };
        salvaged.horizon = state.horizon;
        let mut described = state.tables;
        let is_named = |id: &FileId| described.iter().any(|table| table.id == *id);
        let strangers: Vec<FileId> = there.iter().copied().filter(|id| !is_named(id)).collect();
        let all_there = described.iter().all(|table| there.contains(&table.id));
        if !all_there && !strangers.is_empty() {
            return Ok(Plan::without_manifest(fs, dir, database, there, described, salvaged));
        }
        described.sort_by_key(|table| table.rank);
        let tables = described.iter().map(|table| table.id).collect();
        let (flushed_seq, oldest_wal) = (state.flushed_seq, state.oldest_wal);
        let mut plan = Plan { database, described, tables, flushed_seq, oldest_wal };
        let log_is_there = oldest_wal.is_none_or(|id| files.contains(&FileKind::Wal(id)));
        plan.take_flushed(fs, dir, &strangers, log_is_there, salvaged);
        let left_over = |id: &FileId| format!("{}: left over", id.table_path(dir).display());
        let is_left = |id: &&FileId| !plan.tables.contains(id);
        salvaged.notes.extend(strangers.iter().filter(is_left).map(left_over));
        Ok(plan)
    }

    /// Takes the tables that were flushed after the manifest's last edit that can be read: each holds
    /// every operation of its range, and all that are newer than the manifest's tables. The segments that
    /// they were made of may be gone.
    fn take_flushed(
        &mut self,
        fs: &dyn Fs,
        dir: &Path,
        strangers: &[FileId],
        log_is_there: bool,
        salvaged: &mut Salvaged,
    ) {
        let mut flushed: Vec<(Option<(SeqNo, SeqNo)>, FileId)> = strangers
            .iter()
            .map(|&id| (seq_range(fs, &id.table_path(dir), self.database, id), id))
            .collect();
        flushed.sort_unstable();
        for (seqs, id) in flushed {
            let path = id.table_path(dir);
            let expected = self.flushed_seq.saturating_add(1);
            match seqs {
                Some((first, _)) if first < expected => continue,
                // The log may have what lies between.
                Some((first, _)) if first > expected && log_is_there => continue,
                None if log_is_there => continue,
                Some((first, _)) if first > expected => {
                    salvaged.lose(Lost::of_log(&path, (expected, first - 1)));
                }
                _ => {}
            }
            salvaged.notes.push(format!("{}: no edit names it; it is newer", path.display()));
            self.tables.push(id);
            self.flushed_seq = seqs.map_or(self.flushed_seq, |(_, last)| last);
            if !log_is_there {
                self.oldest_wal = None;
            }
        }
    }

    /// The tables that are there, in the order of their sequence numbers, and those that an older manifest
    /// names.
    fn without_manifest(
        fs: &dyn Fs,
        dir: &Path,
        database: DatabaseId,
        mut ids: Vec<FileId>,
        described: Vec<TableMeta>,
        salvaged: &mut Salvaged,
    ) -> Plan {
        salvaged.notes.push(
            "no manifest tells which tables are live: all that are there are taken, in the order of \
             their sequence numbers; versions that had been erased may be back, and what tables that \
             can't be read held is not known"
                .to_owned(),
        );
        let gone = described.iter().map(|table| table.id).filter(|id| !ids.contains(id));
        let gone: Vec<FileId> = gone.collect();
        ids.extend(gone);
        let (tables, flushed_seq) = by_sequence(fs, dir, ids);
        Plan { database, described, tables, flushed_seq, oldest_wal: None }
    }

    fn tables(&self, dir: &Path) -> Vec<TableSource<'_>> {
        let oldest = self.tables.first().copied();
        let of = |&id: &FileId| TableSource {
            path: id.table_path(dir),
            id,
            described: self.described.iter().find(|table| table.id == id),
            is_oldest: Some(id) == oldest && self.oldest_wal.is_some(),
        };
        self.tables.iter().map(of).collect()
    }
}

/// The manifest that `CURRENT` names; where that can't be read, the newest that can. A manifest that is
/// whole before `CURRENT` names it says the same as the one before.
fn find_manifest(
    fs: &dyn Fs,
    dir: &Path,
    files: &[FileKind],
    notes: &mut Vec<String>,
) -> Option<(DatabaseId, ManifestState)> {
    let with_state = |manifest: Manifest| Ok((manifest.database, manifest.state()?));
    match Manifest::read_current(fs, dir).and_then(|found| found.map(with_state).transpose()) {
        Ok(Some(found)) => return Some(found),
        Ok(None) => notes.push(format!("{}: missing", dir.join(CURRENT_NAME).display())),
        Err(error) => notes.push(error.to_string()),
    }
    let mut ids: Vec<FileId> = files
        .iter()
        .filter_map(|file| if let FileKind::Manifest(id) = file { Some(*id) } else { None })
        .collect();
    ids.sort_unstable();
    ids.into_iter().rev().find_map(|id| {
        let path = id.manifest_path(dir);
        let found = Manifest::read(fs, &path, None).and_then(with_state).ok()?;
        notes.push(format!("{}: taken in its place", path.display()));
        Some(found)
    })
}

/// The database that most files say they belong to.
fn find_database(fs: &dyn Fs, dir: &Path, files: &[FileKind]) -> Option<DatabaseId> {
    let named = files.iter().filter_map(|file| match file {
        FileKind::Table(id) => {
            let path = id.table_path(dir);
            let (table, _) =
                TableReader::salvage(fs, &path, TableContext::unshared(), None).ok()?;
            Some(table.footer().identity.database)
        }
        FileKind::Wal(id) => {
            let segment = RecordReader::open(fs, &id.wal_path(dir), LogKind::Wal, None, *id);
            Some(segment.ok()??.database())
        }
        _ => None,
    });
    let named: Vec<DatabaseId> = named.collect();
    let votes = |&&id: &&DatabaseId| named.iter().filter(|other| **other == id).count();
    named.iter().max_by_key(votes).copied()
}

/// The new database, if there is to be one.
struct Sink {
    db: Option<Db>,
    batch: WriteBatch,
}

impl Sink {
    fn begin(options: &Options, to: Option<&Path>) -> Result<Sink> {
        let open = |to: &Path| {
            match options.fs.list(to) {
                Ok(names) if !names.is_empty() => {
                    let what = format!("{}: a salvage goes to a new directory", to.display());
                    return Err(Error::InvalidArgument(what));
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).at("list", to);
                }
                _ => {}
            }
            mark_repairing(&*options.fs, to)?;
            Db::open_for_repair(to, options.clone())
        };
        Ok(Sink { db: to.map(open).transpose()?, batch: WriteBatch::new() })
    }

    /// Takes an operation, which is newer than all that were taken.
    fn take(&mut self, op: &Op<'_>) -> Result<()> {
        let Some(db) = &self.db else { return Ok(()) };
        let batch = &mut self.batch;
        if !batch.is_empty() && batch.encoded_bytes() + op.encoded_bytes_max() > BATCH_BYTES {
            db.write(std::mem::take(batch))?;
        }
        match op.tag.kind() {
            ValueKind::Put => {
                let value = ValueRef { value_type: op.tag.value_type(), bytes: op.value };
                batch.put(op.key, op.ts, value)
            }
            ValueKind::End => batch.end(op.key, op.ts),
            ValueKind::Erase => batch.erase(op.key, op.ts),
        }
    }

    /// Closes the new database, reads all of it back, and gives it free.
    fn finish(self, options: &Options, to: Option<&Path>, horizon: Timestamp) -> Result<()> {
        let (Some(db), Some(to)) = (self.db, to) else { return Ok(()) };
        if !self.batch.is_empty() {
            db.write(self.batch)?;
        }
        db.set_horizon(horizon)?;
        db.close()?;
        drop(db);
        let (fs, mark, mut error) = (&*options.fs, to.join(REPAIRING_NAME), None);
        verify_directory(fs, to, Depth::Records, &mut |checked| {
            if checked.path != mark {
                error = error.take().or(checked.error);
            }
        })?;
        error.map_or(Ok(()), Err)?;
        fs.remove(&mark).at("remove", &mark)?;
        fs.sync_dir(to).at("sync", to)
    }
}

/// Makes the mark durable, before anything else is there.
fn mark_repairing(fs: &dyn Fs, to: &Path) -> Result<()> {
    fs.create_dir_all(to).at("create", to)?;
    let path = to.join(REPAIRING_NAME);
    let file = fs.create(&path).at("create", &path)?;
    file.write_at(0, REPAIRING_TEXT.as_bytes()).at("write", &path)?;
    file.sync().at("sync", &path)?;
    fs.sync_dir(to).at("sync", to)
}
