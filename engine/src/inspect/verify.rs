//! Whether files hold what was written to them: one file, or a data directory as a whole.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::check::{check_records, check_sections};
use super::wal::{WalEnd, WalView};
use super::{kind_of, read_current_manifest};
use crate::error::{Error, IoContext, Result};
use crate::fs::{FileLock, Fs};
use crate::key::{DatabaseId, FileId, FileKind, LOCK_NAME, REPAIRING_NAME};
use crate::table::{Damage, TableContext, TableMeta, TableReader};
use crate::version::{Manifest, ManifestState, Table, Version, directory};
use crate::wal::{self, WalContent};

/// How deep to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// Every checksum, and what the files say of each other.
    #[default]
    Checksums,
    /// Also every record: that it decodes, lies in order, and is what index, filter and properties
    /// say of it.
    Records,
}

/// What was found in one file.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The file.
    pub path: PathBuf,
    /// What of it was read without an error.
    pub counts: Counts,
    /// What is worth to know and is no damage.
    pub note: Option<String>,
    /// What is wrong with it; the first of what is.
    pub error: Option<Error>,
    /// Of an SSTable: everything that is wrong with it, and which keys it concerns, as far as that is known.
    pub damage: Vec<Damage>,
}

/// How much a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Its length.
    pub bytes: u64,
    /// Data blocks of an SSTable, or records of a log.
    pub blocks: u64,
    /// Records of an SSTable, operations of a segment of the log, live tables of a manifest.
    pub records: u64,
}

impl Checked {
    fn of(path: PathBuf, result: Result<(Counts, Option<String>)>) -> Checked {
        match result {
            Ok((counts, note)) => Checked { path, counts, note, error: None, damage: Vec::new() },
            Err(error) => Checked {
                path,
                counts: Counts::default(),
                note: None,
                error: Some(error),
                damage: Vec::new(),
            },
        }
    }

    fn note(path: PathBuf, note: impl Into<String>) -> Checked {
        Checked::of(path, Ok((Counts::default(), Some(note.into()))))
    }
}

/// Checks one file by itself; what it is, its name tells.
pub fn verify_file(fs: &dyn Fs, path: &Path, depth: Depth) -> Checked {
    let mut damage = Vec::new();
    let result = match kind_of(path) {
        Some(FileKind::Table(id)) => verify_table(fs, path, id, None, depth, &mut damage),
        Some(FileKind::Wal(_)) => verify_segment(fs, path),
        Some(FileKind::Manifest(_)) => {
            Manifest::read(fs, path, None).and_then(|manifest| verify_manifest(fs, &manifest))
        }
        Some(FileKind::Current) => {
            let dir = path.parent().unwrap_or(Path::new(""));
            read_current_manifest(fs, dir).map(|_| (Counts::default(), None))
        }
        _ => Err(Error::InvalidArgument(format!(
            "{}: not the name of a file that can be verified: NNNNNN.sst, NNNNNN.wal, \
             MANIFEST-NNNNNN, CURRENT",
            path.display()
        ))),
    };
    Checked { damage, ..Checked::of(path.to_owned(), result) }
}

/// Checks a data directory as the next open will find it, without opening it, and hands each file to
/// `found` as soon as it is known: the live tables, the manifest, the log, what is left over.
///
/// Tables are read whole into memory, one at a time, and not mapped: a disk that can't read is an
/// error here.
///
/// Errors: [`Error::Locked`] while the database is open anywhere, [`Error::Io`] where there is none.
/// What is wrong with a file is no error of this function.
pub fn verify_directory(
    fs: &dyn Fs,
    dir: &Path,
    depth: Depth,
    found: &mut dyn FnMut(Checked),
) -> Result<()> {
    let files = directory::list(fs, dir)?;
    let _lock = lock(fs, dir, &files, found)?;
    if let Err(error) = directory::check_repaired(dir, &files) {
        found(Checked::of(dir.join(REPAIRING_NAME), Err(error)));
    }
    let mut check = DirectoryCheck { fs, dir, depth, files, found };
    match read_current_manifest(fs, dir) {
        Ok(manifest) => check.run(&manifest),
        Err(error @ (Error::Corruption { .. } | Error::UnsupportedFormat { .. })) => {
            check.without_manifest(error);
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// A directory without a lock file is open nowhere, so that none is made in it.
pub(super) fn lock(
    fs: &dyn Fs,
    dir: &Path,
    files: &[FileKind],
    found: &mut dyn FnMut(Checked),
) -> Result<Option<Box<dyn FileLock>>> {
    if !files.contains(&FileKind::Lock) {
        return Ok(None);
    }
    match directory::lock(fs, dir) {
        Ok(lock) => Ok(Some(lock)),
        Err(Error::Io { source, .. }) if is_read_only(source.kind()) => {
            let note = "could not be taken, being read-only: should the database be open, it \
                        changes while it is read";
            found(Checked::note(dir.join(LOCK_NAME), note));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn is_read_only(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

struct DirectoryCheck<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    depth: Depth,
    files: Vec<FileKind>,
    found: &'a mut dyn FnMut(Checked),
}

impl DirectoryCheck<'_> {
    fn run(&mut self, manifest: &Manifest) {
        match manifest.state() {
            Ok(state) => {
                let tables = self.tables(manifest, &state);
                self.manifest(manifest, tables);
                self.log(manifest.database, &state);
                self.leftovers(manifest, &state);
            }
            Err(error) => self.without_manifest(error),
        }
    }

    /// Which files are needed is unknown: each is checked by itself.
    fn without_manifest(&mut self, error: Error) {
        (self.found)(Checked::of(file_of(&error).unwrap_or(self.dir).to_owned(), Err(error)));
        for file in &self.files {
            let path = match file {
                FileKind::Table(id) => id.table_path(self.dir),
                FileKind::Wal(id) => id.wal_path(self.dir),
                _ => continue,
            };
            (self.found)(verify_file(self.fs, &path, self.depth));
        }
    }

    /// Checks the live tables; returns those that are sound, open.
    fn tables(&mut self, manifest: &Manifest, state: &ManifestState) -> Vec<Arc<Table>> {
        let mut tables = Vec::new();
        for meta in state.tables_by_run() {
            let path = meta.id.table_path(self.dir);
            let described = Some((manifest.database, meta));
            let mut damage = Vec::new();
            let (fs, depth) = (self.fs, self.depth);
            let checked = verify_table(fs, &path, meta.id, described, depth, &mut damage);
            let opened = checked.and_then(|checked| {
                let (fs, database) = (self.fs, manifest.database);
                let reader =
                    TableReader::open(fs, self.dir, database, meta, TableContext::unshared())?;
                tables.push(Arc::new(Table { meta: meta.clone(), reader: Arc::new(reader) }));
                Ok(checked)
            });
            let opened = opened.map_err(|error| error.damage_if_missing("the manifest names it"));
            // Of a table that can't be opened the manifest knows the keys.
            if let Some(error) = opened.as_ref().err().filter(|_| damage.is_empty()) {
                damage.push(Damage::of_table(&meta.properties, 0, error.clone()));
            }
            (self.found)(Checked { damage, ..Checked::of(path, opened) });
        }
        tables
    }

    /// What the manifest says of its tables as a whole.
    fn manifest(&mut self, manifest: &Manifest, tables: Vec<Arc<Table>>) {
        let checked = verify_manifest(self.fs, manifest).and_then(|checked| {
            let corrupt = |what| Error::corruption(&manifest.path, 0, what);
            Version::new(tables).map_err(corrupt)?;
            Ok(checked)
        });
        (self.found)(Checked::of(manifest.path.clone(), checked));
    }

    /// Replays the log, dry.
    fn log(&mut self, database: DatabaseId, state: &ManifestState) {
        let oldest = state.oldest_wal.unwrap_or(FileId(0));
        let segments = directory::wal_segments(&self.files, oldest);
        let (fs, dir) = (self.fs, self.dir);
        let next_seq = state.flushed_seq + 1;
        let mut apply = |_, _: crate::batch::Op<'_>| Ok(());
        let mut broken =
            wal::replay(fs, dir, database, &segments, oldest, next_seq, &mut apply).err();
        for segment in segments {
            let path = segment.wal_path(dir);
            let is_here = |error: &mut Error| matches!(error, Error::Corruption { file, .. } if *file == path);
            let result = match broken.take_if(is_here) {
                Some(error) => Err(error),
                None => verify_segment(fs, &path),
            };
            (self.found)(Checked::of(path, result));
        }
        if let Some(error) = broken {
            (self.found)(Checked::of(file_of(&error).unwrap_or(dir).to_owned(), Err(error)));
        }
    }

    /// Files that no read of the database needs: the next open removes them, but for segments that it keeps
    /// for the change feed.
    fn leftovers(&mut self, manifest: &Manifest, state: &ManifestState) {
        let (dir, oldest) = (self.dir, state.oldest_wal.unwrap_or(FileId(0)));
        for file in &self.files {
            let path = match file {
                FileKind::Table(id) if !state.tables.iter().any(|live| live.id == *id) => {
                    id.table_path(dir)
                }
                FileKind::Wal(id) if *id < oldest => {
                    (self.found)(verify_kept_segment(self.fs, id.wal_path(dir)));
                    continue;
                }
                FileKind::Manifest(id) if id.manifest_path(dir) != manifest.path => {
                    id.manifest_path(dir)
                }
                _ => continue,
            };
            let note = "left over: the manifest does not need it, and the next open removes it";
            (self.found)(Checked::note(path, note));
        }
    }
}

/// The file that an error is about.
fn file_of(error: &Error) -> Option<&Path> {
    match error {
        Error::Corruption { file, .. } | Error::UnsupportedFormat { file, .. } => Some(file),
        Error::Io { path, .. } => Some(path),
        _ => None,
    }
}

fn verify_table(
    fs: &dyn Fs,
    path: &Path,
    id: FileId,
    described: Option<(DatabaseId, &TableMeta)>,
    depth: Depth,
    damage: &mut Vec<Damage>,
) -> Result<(Counts, Option<String>)> {
    let reader =
        TableReader::load(fs, path, TableContext::unshared(), described.map(|(_, meta)| meta))?;
    let footer = reader.footer();
    if let Some((database, meta)) = described {
        reader.check_described(database, meta)?;
    }
    if footer.identity.file != id {
        let found = footer.identity.file.0;
        let what = format!("expected file id {}, as the file's name says; found {found}", id.0);
        return Err(reader.corruption(footer.file_bytes - crate::table::FOOTER_BYTES as u64, what));
    }
    check_sections(&reader)?;
    let mut found = |block, error| damage.push(reader.block_damage(block, error));
    if depth == Depth::Records {
        check_records(&reader, &mut found)?;
    } else {
        for block in 0..reader.index().len() {
            reader.block(block).map_or_else(|error| found(block, error), drop);
        }
    }
    if let Some(first) = damage.first() {
        return Err(first.error.clone());
    }
    let blocks = reader.index().len() as u64;
    let records = reader.properties().records;
    Ok((Counts { bytes: footer.file_bytes, blocks, records }, None))
}

fn verify_segment(fs: &dyn Fs, path: &Path) -> Result<(Counts, Option<String>)> {
    let mut segment = WalView::open(fs, path, false)?;
    let mut counts = Counts { bytes: file_bytes(fs, path)?, ..Counts::default() };
    for record in segment.by_ref() {
        counts.blocks += 1;
        if let WalContent::Batch { count, .. } = record?.content {
            counts.records += u64::from(count);
        }
    }
    let note = match segment.end() {
        Some((WalEnd::Torn, offset)) => Some(torn_note(offset)),
        Some((WalEnd::Unfinished, _)) => Some("its creation was cut short".to_owned()),
        _ => None,
    };
    Ok((counts, note))
}

/// A segment whose operations are all in tables.
fn verify_kept_segment(fs: &dyn Fs, path: PathBuf) -> Checked {
    let checked = verify_segment(fs, &path).map(|(counts, note)| {
        let kept = "flushed: kept for the change feed, or left over";
        (counts, Some(note.map_or(kept.to_owned(), |note| format!("{kept}; {note}"))))
    });
    Checked::of(path, checked)
}

fn verify_manifest(fs: &dyn Fs, manifest: &Manifest) -> Result<(Counts, Option<String>)> {
    let records = manifest.state()?.tables.len() as u64;
    let bytes = file_bytes(fs, &manifest.path)?;
    let counts = Counts { bytes, blocks: manifest.edits.len() as u64, records };
    Ok((counts, manifest.torn_at.map(torn_note)))
}

fn torn_note(offset: u64) -> String {
    format!("torn at offset {offset}: what follows was never durable, and is cut off")
}

fn file_bytes(fs: &dyn Fs, path: &Path) -> Result<u64> {
    fs.open(path).and_then(|file| file.len()).at("open", path)
}
