//! A data directory before any of its files is opened: its lock, and what the names in it tell.

use std::io;
use std::path::Path;

use super::Manifest;
use crate::error::{Error, IoContext, Result};
use crate::fs::{FileLock, Fs, read_all};
use crate::key::{
    CURRENT_NAME, FILE_ID_MAX, FileId, FileKind, LOCK_NAME, REPAIRING_NAME, UNFINISHED_NAME,
};
use crate::record::HEADER_BYTES;

/// Takes the directory's lock; [`Error::Locked`] if another handle has it.
pub(crate) fn lock(fs: &dyn Fs, dir: &Path) -> Result<Box<dyn FileLock>> {
    let path = dir.join(LOCK_NAME);
    let holder = format!("process {}", std::process::id());
    fs.lock(&path, &holder)
        .at("lock", &path)?
        .map_err(|holder| Error::Locked { dir: dir.to_owned(), holder: holder.trim().to_owned() })
}

/// The engine's files in the directory; others are left alone.
pub(crate) fn list(fs: &dyn Fs, dir: &Path) -> Result<Vec<FileKind>> {
    let names = fs.list(dir).at("list", dir)?;
    Ok(names.iter().filter_map(|name| FileKind::parse(name)).collect())
}

/// How many ids an opened database has at least to give out.
const FILE_IDS_AHEAD: u64 = 1 << 40;

/// Above every id that the manifest gave out, which are those below `least`, and every file that a
/// crash left behind. [`Error::Corruption`] where that leaves too few ids for the files to come.
pub(crate) fn next_file(dir: &Path, files: &[FileKind], least: u64) -> Result<FileId> {
    let used = files.iter().filter_map(|file| match file {
        FileKind::Table(id) | FileKind::Wal(id) | FileKind::Manifest(id) => {
            Some(id.0.saturating_add(1))
        }
        _ => None,
    });
    let next = used.fold(least.max(1), u64::max);
    if next > FILE_ID_MAX - FILE_IDS_AHEAD {
        let what = format!("expected ids of files far below {FILE_ID_MAX}, found {}", next - 1);
        return Err(Error::corruption(dir, 0, what));
    }
    Ok(FileId(next))
}

/// Reads the manifest that `CURRENT` names: [`Error::Io`] where there is no database, and
/// [`Error::Corruption`] where there is one without its `CURRENT`.
pub(crate) fn read_manifest(fs: &dyn Fs, dir: &Path) -> Result<Manifest> {
    if let Some(manifest) = Manifest::read_current(fs, dir)? {
        return Ok(manifest);
    }
    check_no_data(fs, dir, &list(fs, dir)?)?;
    Err(io::Error::from(io::ErrorKind::NotFound)).at("open", &dir.join(CURRENT_NAME))
}

/// [`Error::Corruption`] where a repair was cut short: what is there may be any part of a database.
pub(crate) fn check_repaired(dir: &Path, files: &[FileKind]) -> Result<()> {
    if !files.contains(&FileKind::Repairing) {
        return Ok(());
    }
    let what = "a repair into this directory was cut short, and only a part of the database is here: \
                remove the directory, and repair into a new one";
    Err(Error::corruption(&dir.join(REPAIRING_NAME), 0, what))
}

/// Without a `CURRENT` there is no database, unless it was lost: then nothing is overwritten.
pub(crate) fn check_no_data(fs: &dyn Fs, dir: &Path, files: &[FileKind]) -> Result<()> {
    if files.contains(&FileKind::Unfinished) {
        let what = format!(
            "expected it to name the manifest; a checkpoint, backup or restore into this directory \
             was cut short, as {UNFINISHED_NAME} says: make it again"
        );
        return Err(Error::corruption(&dir.join(CURRENT_NAME), 0, what));
    }
    for file in files {
        let (path, empty_bytes) = match file {
            FileKind::Table(id) => (id.table_path(dir), 0),
            // A database whose creation was cut short has an unused segment.
            FileKind::Wal(id) => (id.wal_path(dir), HEADER_BYTES as u64),
            _ => continue,
        };
        let file = fs.open(&path).at("open", &path)?;
        let bytes = read_all(&*file, u64::MAX).at("read", &path)?;
        if bytes.iter().skip(empty_bytes as usize).any(|&byte| byte != 0) {
            return Err(Error::corruption(
                &dir.join(CURRENT_NAME),
                0,
                format!("expected it to name the manifest, as there is {}", path.display()),
            ));
        }
    }
    Ok(())
}

/// The segments of the log among `files` that are needed, ascending.
pub(crate) fn wal_segments(files: &[FileKind], oldest: FileId) -> Vec<FileId> {
    let mut segments: Vec<FileId> = files
        .iter()
        .filter_map(|file| match file {
            FileKind::Wal(id) if *id >= oldest => Some(*id),
            _ => None,
        })
        .collect();
    segments.sort_unstable();
    segments
}
