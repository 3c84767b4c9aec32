//! The manifest: which version is live, across restarts.
//!
//! `CURRENT` names the live manifest; a manifest is a log of [`VersionEdit`]s, the first of which is
//! the whole state. An edit is installed in this order, and a failure at any step leaves the state
//! before it: new tables durable → directory synced → edit appended and synced → version swapped in
//! memory → files that no version needs removed.
//!
//! A manifest is never appended to by another process than the one that began it: each open writes a
//! new one, so that no record ever follows a torn one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Version;
use super::edit::VersionEdit;
use super::run::Table;
use crate::error::{Error, IoContext, Result};
use crate::fs::{Fs, read_all};
use crate::key::{
    CURRENT_NAME, CURRENT_TEMPORARY_NAME, DatabaseId, FileId, FileKind, SeqNo, Timestamp,
};
use crate::record::{LogKind, RecordReader, RecordType, RecordWriter};
use crate::table::{TableContext, TableMeta, TableReader};

/// A manifest that reaches this size is begun anew, in bytes.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// `CURRENT` is one line of text, far shorter than this.
const CURRENT_BYTES_MAX: u64 = 256;

/// Where a database lives and what its files share.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) database: DatabaseId,
    pub(crate) tables: TableContext,
    /// Gives out file ids; any thread may take one.
    next_file: Arc<AtomicU64>,
    /// The failure of a sync of the directory. Under the lock they happen one at a time: an operating
    /// system tells of a failure once, and of two the other one would take for durable what was lost.
    names_lost: Arc<Mutex<Option<Arc<Error>>>>,
}

impl Home {
    /// Ids below `next_file` are taken.
    pub(crate) fn new(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        database: DatabaseId,
        tables: TableContext,
        next_file: FileId,
    ) -> Self {
        let next_file = Arc::new(AtomicU64::new(next_file.0));
        Home { fs, dir, database, tables, next_file, names_lost: Arc::default() }
    }

    /// An id that no file of this database ever had.
    pub(crate) fn new_file_id(&self) -> FileId {
        FileId(self.next_file.fetch_add(1, Ordering::Relaxed))
    }

    /// Gives out no id below `next` any more.
    pub(crate) fn skip_file_ids(&self, next: FileId) {
        self.next_file.fetch_max(next.0, Ordering::Relaxed);
    }

    /// Makes the names of the directory durable. A failure is final, also one of a full disk, because
    /// it is unknown what was lost: [`Error::Io`], and [`Error::Poisoned`] from then on. Unless the
    /// directory could not be opened: [`Error::TooManyFiles`].
    pub(crate) fn sync_dir(&self) -> Result<()> {
        let mut names_lost = self.names_lost.lock();
        if let Some(cause) = &*names_lost {
            return Err(Error::Poisoned { cause: Arc::clone(cause) });
        }
        self.fs.sync_dir(&self.dir).at("sync", &self.dir).map_err(|error| {
            let error = match error {
                Error::DiskFull { path, source } => Error::Io { op: "sync", path, source },
                error => error,
            };
            if !error.heals() {
                *names_lost = Some(Arc::new(error.clone()));
            }
            error
        })
    }

    /// Opens a table that a manifest describes.
    pub(crate) fn open_table(&self, meta: TableMeta) -> Result<Arc<Table>> {
        let context = self.tables.clone();
        let reader = TableReader::open(&*self.fs, &self.dir, self.database, &meta, context)
            .map_err(|error| error.damage_if_missing("the manifest names it"))?;
        Ok(Arc::new(Table { meta, reader: Arc::new(reader) }))
    }

    /// Opens the live tables of a manifest.
    pub(crate) fn open_tables(&self, state: &ManifestState) -> Result<Vec<Arc<Table>>> {
        state.tables.iter().map(|meta| self.open_table(meta.clone())).collect()
    }

    /// Removes files that no version needs. A file that can't be removed costs space until the next
    /// open, and nothing else, so it is no error.
    pub(crate) fn remove_tables(&self, ids: impl IntoIterator<Item = FileId>) {
        for id in ids {
            let _ = self.fs.remove(&id.table_path(&self.dir));
        }
    }
}

/// What a manifest says beside the live tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marks {
    /// The tables hold every operation up to this one.
    pub(crate) flushed_seq: SeqNo,
    /// The first segment of the log whose operations are not all in tables.
    pub(crate) oldest_wal: FileId,
    /// Merges may have dropped what only reads before this moment would show; the least timestamp where nobody
    /// has allowed them to.
    pub(crate) horizon: Timestamp,
}

/// What a manifest says.
#[derive(Clone, Debug)]
pub struct ManifestState {
    /// The live tables, in the order in which they were added.
    pub tables: Vec<TableMeta>,
    /// The tables hold every operation up to this sequence number.
    pub flushed_seq: SeqNo,
    /// The first segment of the log whose operations are not all in tables.
    pub oldest_wal: Option<FileId>,
    /// What was before this moment can't be read any more; the least timestamp where everything can.
    pub horizon: Timestamp,
    /// Every file id given out so far is below this.
    pub next_file: u64,
}

impl Default for ManifestState {
    fn default() -> Self {
        ManifestState {
            tables: Vec::new(),
            flushed_seq: 0,
            oldest_wal: None,
            horizon: Timestamp::MIN,
            next_file: 0,
        }
    }
}

impl ManifestState {
    /// The live tables: the newest run first, and in order of their keys within a run.
    pub fn tables_by_run(&self) -> Vec<&TableMeta> {
        let mut tables: Vec<_> = self.tables.iter().collect();
        tables.sort_by(|a, b| {
            let (pa, pb) = (&a.properties, &b.properties);
            let in_run = (&pa.first_key, pa.first_ts).cmp(&(&pb.first_key, pb.first_ts));
            b.rank.cmp(&a.rank).then(in_run)
        });
        tables
    }

    /// Numbers go on from these: what lies beyond them would be given out once more, or rank above all
    /// that is to come.
    fn check_bounds(&self) -> Result<(), String> {
        let (next_file, flushed_seq) = (self.next_file, self.flushed_seq);
        let oldest_wal = self.oldest_wal.map_or(0, |id| id.0);
        let ids = self.tables.iter().flat_map(|table| [table.id.0, table.rank.0]);
        if let Some(id) = ids.chain([oldest_wal]).find(|&id| id >= next_file) {
            return Err(format!("expected ids and ranks below {next_file}, found {id}"));
        }
        let late = self.tables.iter().find(|table| table.properties.max_seq > flushed_seq);
        late.map_or(Ok(()), |table| {
            let (id, last) = (table.id.0, table.properties.max_seq);
            let expected = format!("expected tables up to sequence number {flushed_seq}");
            Err(format!("{expected}; table {id} goes to {last}"))
        })
    }
}

/// A manifest, read.
#[derive(Debug)]
pub struct Manifest {
    /// The file.
    pub path: PathBuf,
    /// The database that it belongs to.
    pub database: DatabaseId,
    /// Each edit with its offset.
    pub edits: Vec<(u64, VersionEdit)>,
    /// Where a record begins that was cut short, and so never took effect.
    pub torn_at: Option<u64>,
}

impl Manifest {
    /// Reads the manifest that `CURRENT` names; `None` where there is no `CURRENT`.
    pub(crate) fn read_current(fs: &dyn Fs, dir: &Path) -> Result<Option<Manifest>> {
        let path = dir.join(CURRENT_NAME);
        let file = match fs.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).at("open", &path),
        };
        let text = read_all(&*file, CURRENT_BYTES_MAX).at("read", &path)?;
        let (file_id, database) = parse_current(&text).ok_or_else(|| {
            Error::corruption(&path, 0, "expected the name of a manifest and its checksum")
        })?;
        Manifest::read(fs, &file_id.manifest_path(dir), Some(database))
            .map(Some)
            .map_err(|error| error.damage_if_missing("CURRENT names it"))
    }

    /// Reads any manifest; without `database`, one of any database.
    pub(crate) fn read(fs: &dyn Fs, path: &Path, database: Option<DatabaseId>) -> Result<Manifest> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(FileKind::Manifest(file_id)) = FileKind::parse(name) else {
            let what = format!("{}: a manifest is named MANIFEST-NNNNNN", path.display());
            return Err(Error::InvalidArgument(what));
        };
        let reader = RecordReader::open(fs, path, LogKind::Manifest, database, file_id)?;
        let reader = reader.ok_or_else(|| Error::corruption(path, 0, "expected a header"))?;
        Manifest::of_records(reader, path)
    }

    /// Reads the edits of an opened file.
    pub(crate) fn of_records(mut reader: RecordReader, path: &Path) -> Result<Manifest> {
        let mut edits = Vec::new();
        while let Some(record) = reader.next()? {
            if record.record_type != RecordType::Edit {
                let what = format!("expected a version edit, found {:?}", record.record_type);
                return Err(Error::corruption(path, record.offset, what));
            }
            let edit = VersionEdit::decode(record.payload)
                .map_err(|m| m.in_file(path, record.payload_offset()))?;
            edits.push((record.offset, edit));
        }
        let end = reader.end();
        if edits.is_empty() {
            return Err(Error::corruption(path, end.offset, "expected at least one version edit"));
        }
        Ok(Manifest {
            path: path.to_owned(),
            database: reader.database(),
            edits,
            torn_at: end.torn.then_some(end.offset),
        })
    }

    /// The state after the last edit. [`Error::Corruption`] where an edit does not fit the ones before,
    /// or the state not itself.
    pub fn state(&self) -> Result<ManifestState> {
        let mut state = ManifestState::default();
        for (offset, edit) in &self.edits {
            for id in &edit.removed {
                let live = state.tables.iter().position(|table| table.id == *id);
                let Some(live) = live else {
                    let what = format!("expected to remove a live table, found {}", id.0);
                    return Err(Error::corruption(&self.path, *offset, what));
                };
                state.tables.remove(live);
            }
            for table in &edit.added {
                if state.tables.iter().any(|live| live.id == table.id) {
                    let what = format!("expected to add a new table, found {} again", table.id.0);
                    return Err(Error::corruption(&self.path, *offset, what));
                }
                state.tables.push(table.clone());
            }
            if edit.horizon < state.horizon {
                let (horizon, found) = (state.horizon, edit.horizon);
                let what = format!("expected a horizon of at least {horizon}, found {found}");
                return Err(Error::corruption(&self.path, *offset, what));
            }
            state.horizon = edit.horizon;
            state.flushed_seq = edit.flushed_seq;
            state.oldest_wal = Some(edit.oldest_wal);
            state.next_file = edit.next_file.0;
        }
        let last = self.edits.last().map_or(0, |&(offset, _)| offset);
        state.check_bounds().map_err(|what| Error::corruption(&self.path, last, what))?;
        Ok(state)
    }
}

/// `MANIFEST-000001 0123456789abcdef 89abcdef\n`: the name, the database's id, and the crc32c of what
/// stands before it.
fn current_text(manifest: FileId, database: DatabaseId) -> String {
    let name = manifest.manifest_path(Path::new(""));
    let text = format!("{} {:016x}", name.display(), database.0);
    format!("{text} {:08x}\n", crc32c::crc32c(text.as_bytes()))
}

pub(crate) fn parse_current(text: &[u8]) -> Option<(FileId, DatabaseId)> {
    let text = std::str::from_utf8(text).ok()?;
    let mut words = text.split_ascii_whitespace();
    let FileKind::Manifest(manifest) = FileKind::parse(words.next()?)? else { return None };
    let database = DatabaseId(u64::from_str_radix(words.next()?, 16).ok()?);
    (current_text(manifest, database) == text).then_some((manifest, database))
}

/// The live version and its manifest. One thread at a time changes it: it is kept under a lock.
#[derive(Debug)]
pub(crate) struct VersionSet {
    home: Home,
    version: Arc<Version>,
    marks: Marks,
    manifest: RecordWriter,
    manifest_id: FileId,
}

impl VersionSet {
    /// Begins a new manifest with this state and makes it the live one. For a new database, and for
    /// each open of an old one.
    pub(crate) fn begin(home: Home, version: Version, marks: Marks) -> Result<Self> {
        let version = Arc::new(version);
        let (manifest_id, manifest) = begin_manifest(&home, &version, marks)?;
        Ok(VersionSet { home, version, marks, manifest, manifest_id })
    }

    /// The live version.
    pub(crate) fn version(&self) -> &Arc<Version> {
        &self.version
    }

    /// The tables hold every operation up to this one.
    pub(crate) fn flushed_seq(&self) -> SeqNo {
        self.marks.flushed_seq
    }

    /// What was before this moment can't be read any more; the least timestamp where everything can.
    pub(crate) fn horizon(&self) -> Timestamp {
        self.marks.horizon
    }

    /// Makes durable that a flushed memtable is now this table, and that the log is needed from
    /// `oldest_wal` on only. After an error the old state stands.
    pub(crate) fn install_flush(
        &mut self,
        table: Option<&Arc<Table>>,
        flushed_seq: SeqNo,
        oldest_wal: FileId,
    ) -> Result<Arc<Version>> {
        assert!(flushed_seq >= self.marks.flushed_seq && oldest_wal >= self.marks.oldest_wal);
        let added: Vec<_> = table.into_iter().cloned().collect();
        self.install(&[], &added, Marks { flushed_seq, oldest_wal, ..self.marks })
    }

    /// Makes durable that nothing before `horizon` is read any more, which is above the one so far. After
    /// an error the old state stands.
    pub(crate) fn install_horizon(&mut self, horizon: Timestamp) -> Result<()> {
        assert!(horizon > self.marks.horizon);
        self.install(&[], &[], Marks { horizon, ..self.marks }).map(drop)
    }

    /// Makes durable that the records of the `merged` tables are in the `written` ones, and that the
    /// `moved` tables, which are live, have the rank that they have here. After an error the old state
    /// stands.
    pub(crate) fn install_compaction(
        &mut self,
        merged: &[FileId],
        written: &[Arc<Table>],
        moved: &[Arc<Table>],
    ) -> Result<Arc<Version>> {
        let moved_ids = moved.iter().map(|table| table.meta.id);
        let removed: Vec<FileId> = merged.iter().copied().chain(moved_ids).collect();
        let added: Vec<Arc<Table>> = written.iter().chain(moved).cloned().collect();
        self.install(&removed, &added, self.marks)
    }

    fn install(
        &mut self,
        removed: &[FileId],
        added: &[Arc<Table>],
        marks: Marks,
    ) -> Result<Arc<Version>> {
        let version = self.version.with(removed, added).map_err(|what| {
            Error::corruption(&self.manifest_id.manifest_path(&self.home.dir), 0, what)
        })?;
        self.home.sync_dir()?;
        if self.manifest.offset() >= MANIFEST_BYTES_MAX {
            let begun = begin_manifest(&self.home, &version, marks)?;
            let old = std::mem::replace(&mut self.manifest_id, begun.0);
            self.manifest = begun.1;
            let _ = self.home.fs.remove(&old.manifest_path(&self.home.dir));
        } else {
            let edit = VersionEdit {
                next_file: FileId(self.home.next_file.load(Ordering::Relaxed)),
                flushed_seq: marks.flushed_seq,
                oldest_wal: marks.oldest_wal,
                horizon: marks.horizon,
                removed: removed.to_vec(),
                added: added.iter().map(|table| table.meta.clone()).collect(),
            };
            self.manifest.append(RecordType::Edit, &[&edit.encode()])?;
            self.manifest.sync()?;
        }
        self.version = Arc::new(version);
        self.marks = marks;
        Ok(Arc::clone(&self.version))
    }
}

/// Writes a manifest that holds the whole state, and makes `CURRENT` name it: file, directory,
/// temporary `CURRENT`, rename, directory. Nothing stays of what fails before the rename, so that a
/// full disk does not become fuller with each try.
fn begin_manifest(home: &Home, version: &Version, marks: Marks) -> Result<(FileId, RecordWriter)> {
    let id = home.new_file_id();
    let path = id.manifest_path(&home.dir);
    let current = home.dir.join(CURRENT_NAME);
    let temporary = home.dir.join(CURRENT_TEMPORARY_NAME);
    let edit = VersionEdit {
        next_file: FileId(home.next_file.load(Ordering::Relaxed)),
        flushed_seq: marks.flushed_seq,
        oldest_wal: marks.oldest_wal,
        horizon: marks.horizon,
        removed: Vec::new(),
        added: version.tables().map(|table| table.meta.clone()).collect(),
    };
    let clear = || {
        let _ = home.fs.remove(&temporary);
        let _ = home.fs.remove(&path);
    };
    let written = write_manifest(home, id, &path, &edit)
        .and_then(|manifest| write_current(home, id, &temporary).map(|()| manifest));
    let manifest = written.inspect_err(|_| clear())?;
    home.fs.rename(&temporary, &current).at("rename", &temporary).inspect_err(|error| {
        // After any other failure `CURRENT` may name it.
        if error.heals() {
            clear();
        }
    })?;
    // None that heals, whatever the cause: that would promise that nothing was written, while
    // `CURRENT` may name the new manifest already.
    home.sync_dir().map_err(|error| match error {
        Error::TooManyFiles { path, source } => Error::Io { op: "sync", path, source },
        error => error,
    })?;
    Ok((id, manifest))
}

/// Makes a manifest durable that holds this one edit.
fn write_manifest(
    home: &Home,
    id: FileId,
    path: &Path,
    edit: &VersionEdit,
) -> Result<RecordWriter> {
    let (fs, database) = (&home.fs, home.database);
    let mut manifest = RecordWriter::create(fs, path, LogKind::Manifest, database, id, false)?;
    manifest.append(RecordType::Edit, &[&edit.encode()])?;
    manifest.sync()?;
    home.sync_dir()?;
    Ok(manifest)
}

/// Makes a file durable that is to become `CURRENT`.
fn write_current(home: &Home, manifest: FileId, temporary: &Path) -> Result<()> {
    match home.fs.remove(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).at("remove", temporary);
        }
        _ => {}
    }
    let file = home.fs.create(temporary).at("create", temporary)?;
    let text = current_text(manifest, home.database);
    file.write_at(0, text.as_bytes()).at("write", temporary)?;
    file.sync().at("sync", temporary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn current_is_read_back_and_nothing_like_it_is() {
        let text = current_text(FileId(12), DatabaseId(u64::MAX));
        assert_eq!(parse_current(text.as_bytes()), Some((FileId(12), DatabaseId(u64::MAX))));
        for at in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] ^= 1;
            assert_eq!(parse_current(&damaged), None, "{at}");
            assert_eq!(parse_current(&text.as_bytes()[..at]), None, "{at}");
        }
    }
}
