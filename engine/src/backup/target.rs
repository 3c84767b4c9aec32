//! A directory in which a copy of a database is made: what may be there before, how a table comes into
//! it, and in which order the copy becomes the database that is there.
//!
//! 1. `UNFINISHED` marks a directory without a `CURRENT`, durably, before anything else is put there.
//! 2. Tables get their names once they are whole: copied under a temporary name, synced, read back,
//!    renamed; or linked.
//! 3. An empty segment of the log is begun, the directory is synced, the manifest written, and `CURRENT`
//!    made to name it, as at any open.
//! 4. What the new manifest does not need is removed, `UNFINISHED` last.
//!
//! Up to 3 an older state stays whole: tables that it needs are replaced only by the same table, and what
//! is made here has ids that no file here has.
//!
//! **Ids.** A backup has tables with the source's ids, and makes files of its own: tables of what was in
//! the log, segments, manifests. So that the source never comes to an id of these, they are drawn far
//! ahead of it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Outcome;
use crate::error::{Error, IoContext, Result};
use crate::fs::{FileLock, Fs, read_all};
use crate::key::{
    CURRENT_NAME, CURRENT_TEMPORARY_NAME, DatabaseId, FileId, FileKind, LOCK_NAME, SeqNo,
    Timestamp, UNFINISHED_NAME,
};
use crate::options::Durability;
use crate::record::HEADER_BYTES;
use crate::table::{TableContext, TableMeta, TableReader};
use crate::version::{Home, Manifest, ManifestState, Marks, Version, VersionSet, directory};
use crate::wal::WalWriter;

/// For whoever finds the file.
const UNFINISHED_TEXT: &str =
    "A checkpoint, backup or restore into this directory was begun and is not finished.\n";

/// What a new directory may hold: `LOCK` stays when a process has ended, and some file systems are born
/// with a directory of their own.
const EMPTY_BUT_FOR: [&str; 2] = [LOCK_NAME, "lost+found"];

/// How far ahead of the source's ids a backup draws its own.
const IDS_AHEAD: u64 = 1 << 32;

/// A directory in which a copy of a database is made, locked against others that would do the same.
#[derive(Debug)]
pub(crate) struct Target {
    home: Home,
    /// Its own ids are so far ahead of the source's.
    ids_ahead: u64,
    /// The database that is there already.
    before: Option<Before>,
    _lock: Box<dyn FileLock>,
}

/// An earlier state of the database.
#[derive(Debug)]
struct Before {
    state: ManifestState,
}

impl Target {
    /// A directory that is new, empty, or marked as unfinished.
    pub(crate) fn create(fs: &Arc<dyn Fs>, dir: &Path, database: DatabaseId) -> Result<Target> {
        Target::claim(fs, dir, database, 0)
    }

    /// As [`create`](Self::create), or one that holds an earlier state of the database.
    pub(super) fn update(fs: &Arc<dyn Fs>, dir: &Path, database: DatabaseId) -> Result<Target> {
        Target::claim(fs, dir, database, IDS_AHEAD)
    }

    fn claim(fs: &Arc<dyn Fs>, dir: &Path, database: DatabaseId, ids_ahead: u64) -> Result<Target> {
        let may_hold_one = ids_ahead > 0;
        fs.create_dir_all(dir).at("create", dir)?;
        check_takes_copy(&**fs, dir, may_hold_one)?;
        let lock = directory::lock(&**fs, dir)?;
        // Whoever had the lock may have made one meanwhile.
        check_takes_copy(&**fs, dir, may_hold_one)?;
        let before = match Manifest::read_current(&**fs, dir)? {
            Some(manifest) => Some(Before::read(&**fs, dir, database, &manifest)?),
            None => None,
        };
        let files = directory::list(&**fs, dir)?;
        if before.is_none() {
            mark_unfinished(&**fs, dir, &files)?;
        }
        let next_file = directory::next_file(dir, &files, 1)?;
        let home = Home::new(
            Arc::clone(fs),
            dir.to_owned(),
            database,
            TableContext::unshared(),
            next_file,
        );
        let target = Target { home, ids_ahead, before, _lock: lock };
        target.remove_temporary_tables()?;
        Ok(target)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.home.dir
    }

    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    /// The source has given out the ids below this one.
    pub(crate) fn skip_file_ids(&self, next_file: u64) {
        self.home.skip_file_ids(FileId(next_file.saturating_add(self.ids_ahead)));
    }

    /// An error if what is here already has operations behind `seq`.
    pub(super) fn check_not_newer_than(&self, seq: SeqNo) -> Result<()> {
        let Some(before) = self.before.as_ref().filter(|before| before.state.flushed_seq > seq)
        else {
            return Ok(());
        };
        Err(Error::InvalidArgument(format!(
            "{} holds a newer state, up to sequence number {}; the source goes to {seq}: back up into \
             another directory",
            self.dir().display(),
            before.state.flushed_seq
        )))
    }

    /// Gives a table of an open database a name here too; `false` where the file system can't.
    pub(crate) fn link_table(&self, from: &Path, id: FileId) -> Result<bool> {
        use io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
        let path = id.table_path(self.dir());
        match self.home.fs.link(from, &path) {
            Ok(()) => Ok(true),
            Err(error)
                if matches!(
                    error.kind(),
                    CrossesDevices | PermissionDenied | TooManyLinks | Unsupported
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error).at("link", &path),
        }
    }

    /// Sees to it that the table with these bytes is here.
    pub(super) fn put_table(&self, id: FileId, bytes: &[u8]) -> Result<Outcome> {
        let path = id.table_path(self.dir());
        let outcome = match self.home.fs.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Outcome::Copied,
            Err(error) => return Err(error).at("open", &path),
            // One that can't be read is replaced as well.
            Ok(file) => match read_all(&*file, bytes.len() as u64) {
                Ok(found) if found == bytes => return Ok(Outcome::AlreadyThere),
                _ => Outcome::Replaced,
            },
        };
        if outcome == Outcome::Replaced {
            self.check_replaceable(id)?;
        }
        self.write_table(id, bytes)?;
        Ok(outcome)
    }

    /// Ids are given out once. So what is here under one, sound and needed, and is another table, is of a
    /// database that has gone its own way since the two were one.
    fn check_replaceable(&self, id: FileId) -> Result<()> {
        let tables = self.before.iter().flat_map(|before| &before.state.tables);
        let Some(meta) = tables.into_iter().find(|meta| meta.id == id) else { return Ok(()) };
        if self.verify_table(meta).is_err() {
            return Ok(());
        }
        let path = id.table_path(self.dir());
        Err(Error::InvalidArgument(format!(
            "{} is sound and is not the source's: {} holds another state than one of the source's \
             past; back up into another directory",
            path.display(),
            self.dir().display()
        )))
    }

    /// Reads a table that is here, and verifies all of it.
    pub(crate) fn verify_table(&self, meta: &TableMeta) -> Result<()> {
        let path = meta.id.table_path(self.dir());
        let table = TableReader::load(&*self.home.fs, &path, TableContext::unshared(), Some(meta))?;
        table.check_described(self.home.database, meta)?;
        table.verify_blocks()
    }

    /// Writes a table, and reads it back before it gets its name.
    pub(crate) fn write_table(&self, id: FileId, bytes: &[u8]) -> Result<()> {
        let path = id.table_path(self.dir());
        let temporary = temporary_path(&path);
        let written = self
            .write_file(&temporary, bytes)
            .and_then(|()| self.home.fs.rename(&temporary, &path).at("rename", &temporary));
        written.inspect_err(|_| drop(self.home.fs.remove(&temporary)))
    }

    fn write_file(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let fs = &self.home.fs;
        let file = fs.create(path).at("create", path)?;
        file.write_at(0, bytes).at("write", path)?;
        file.sync().at("sync", path)?;
        let file = fs.open(path).at("open", path)?;
        let found = read_all(&*file, bytes.len() as u64).at("read", path)?;
        if found == bytes {
            return Ok(());
        }
        let same = found.iter().zip(bytes).take_while(|(found, written)| found == written);
        Err(Error::corruption(path, same.count() as u64, "expected what was just written"))
    }

    /// Makes this the state of the directory. The tables are here, and hold every operation up to `seq`.
    pub(crate) fn install(&self, version: Version, seq: SeqNo, horizon: Timestamp) -> Result<()> {
        let Home { fs, dir, database, .. } = &self.home;
        let files = directory::list(&**fs, dir)?;
        let wal = self.home.new_file_id();
        // Without zeros ahead, because nothing is appended.
        WalWriter::create(fs, dir, *database, wal, Durability::Buffered)
            .inspect_err(|_| drop(fs.remove(&wal.wal_path(dir))))?;
        let marks = Marks { flushed_seq: seq, oldest_wal: wal, horizon };
        VersionSet::begin(self.home.clone(), version, marks)?;
        // Read back before anything is removed: until then the older state can be had by hand.
        let state = directory::read_manifest(&**fs, dir)?.state()?;
        for file in files {
            let path = match file {
                FileKind::Table(id) if !state.tables.iter().any(|live| live.id == id) => {
                    id.table_path(dir)
                }
                FileKind::Wal(id) => id.wal_path(dir),
                FileKind::Manifest(id) => id.manifest_path(dir),
                _ => continue,
            };
            // One that stays costs space until the next time.
            let _ = fs.remove(&path);
        }
        let _ = fs.remove(&dir.join(UNFINISHED_NAME));
        Ok(())
    }

    /// Empties an unfinished directory: for a copy that can't use what an earlier one left.
    pub(crate) fn clear(&self) -> Result<()> {
        let (fs, dir) = (&*self.home.fs, self.dir());
        for file in directory::list(fs, dir)? {
            let path = match file {
                FileKind::Table(id) => id.table_path(dir),
                FileKind::Wal(id) => id.wal_path(dir),
                FileKind::Manifest(id) => id.manifest_path(dir),
                _ => continue,
            };
            fs.remove(&path).at("remove", &path)?;
        }
        Ok(())
    }

    /// Takes back what was made in a directory that held nothing, unless it is a database by now.
    pub(crate) fn abandon(&self) {
        let (fs, dir) = (&*self.home.fs, self.dir());
        let has_current = directory::list(fs, dir).map(|files| files.contains(&FileKind::Current));
        let emptied = match has_current {
            Ok(false) => self.clear().and_then(|()| self.home.sync_dir()),
            _ => return,
        };
        // The mark goes last, and stays where anything else does.
        if emptied.is_ok() {
            let _ = fs.remove(&dir.join(CURRENT_TEMPORARY_NAME));
            let _ = fs.remove(&dir.join(UNFINISHED_NAME));
        }
    }

    /// A copy that was cut short may have left one, which would be in the way.
    fn remove_temporary_tables(&self) -> Result<()> {
        let (fs, dir) = (&*self.home.fs, self.dir());
        for name in fs.list(dir).at("list", dir)? {
            if name.ends_with(".sst.tmp") {
                let path = dir.join(name);
                fs.remove(&path).at("remove", &path)?;
            }
        }
        Ok(())
    }
}

impl Before {
    fn read(fs: &dyn Fs, dir: &Path, database: DatabaseId, manifest: &Manifest) -> Result<Before> {
        if manifest.database != database {
            return Err(Error::InvalidArgument(format!(
                "{} holds the database {:016x}; the source is {:016x}: back up into another directory",
                dir.display(),
                manifest.database.0,
                database.0
            )));
        }
        let state = manifest.state()?;
        let oldest = state.oldest_wal.unwrap_or(FileId(0));
        let segments = directory::wal_segments(&directory::list(fs, dir)?, oldest);
        // A copy has one edit and an unused segment, whose header is not needed and may be damaged.
        let mut was_opened = manifest.edits.len() > 1;
        for segment in segments {
            let path = segment.wal_path(dir);
            let bytes = fs.open(&path).and_then(|file| file.len()).at("open", &path)?;
            was_opened |= bytes > HEADER_BYTES as u64;
        }
        if was_opened {
            return Err(Error::InvalidArgument(format!(
                "{} was opened as a database since it was made, and what was written to it would be \
                 lost: back up into another directory, or remove this one",
                dir.display()
            )));
        }
        Ok(Before { state })
    }
}

/// `000003.sst.tmp`: the engine takes it for a file in the making, and leaves it alone.
fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

/// An error if the directory holds what a copy must not touch.
fn check_takes_copy(fs: &dyn Fs, dir: &Path, may_hold_one: bool) -> Result<()> {
    let names = fs.list(dir).at("list", dir)?;
    let has = |name: &str| names.iter().any(|found| found == name);
    if has(CURRENT_NAME) {
        return if may_hold_one {
            Ok(())
        } else {
            let what = format!("{} holds a database: expected an empty directory", dir.display());
            Err(Error::InvalidArgument(what))
        };
    }
    match names.iter().find(|name| !EMPTY_BUT_FOR.contains(&name.as_str())) {
        Some(name) if !has(UNFINISHED_NAME) => {
            let what = format!("{} holds {name}: expected an empty directory", dir.display());
            Err(Error::InvalidArgument(what))
        }
        _ => Ok(()),
    }
}

/// Makes the mark durable. One that is there may be of a process that died before it was.
fn mark_unfinished(fs: &dyn Fs, dir: &Path, files: &[FileKind]) -> Result<()> {
    if !files.contains(&FileKind::Unfinished) {
        let path = dir.join(UNFINISHED_NAME);
        let file = fs.create(&path).at("create", &path)?;
        let written = file.write_at(0, UNFINISHED_TEXT.as_bytes()).at("write", &path);
        let written = written.and_then(|()| file.sync().at("sync", &path));
        written.inspect_err(|_| drop(fs.remove(&path)))?;
    }
    fs.sync_dir(dir).at("sync", dir)
}
