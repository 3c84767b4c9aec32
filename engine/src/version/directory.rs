//! A data directory before any of its files is opened: its lock, and what the names in it tell.

use std::path::Path;

use crate::error::{Error, IoContext, Result};
use crate::fs::{FileLock, Fs, read_all};
use crate::key::{CURRENT_NAME, FileId, FileKind, LOCK_NAME};
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

/// Without a `CURRENT` there is no database, unless it was lost: then nothing is overwritten.
pub(crate) fn check_no_data(fs: &dyn Fs, dir: &Path, files: &[FileKind]) -> Result<()> {
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
