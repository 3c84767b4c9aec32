//! The fault seam: every file operation of the engine goes through [`Fs`].
//!
//! Two backends: [`RealFs`], and [`SimFs`], which lives in memory, keeps what is durable apart from
//! what is only written, and fails where a test tells it to. A lint keeps `std::fs` out of every
//! other module.
//!
//! What the engine may rely on, and no more:
//! - data is durable after [`WritableFile::sync`] has returned `Ok`, and only up to what was written
//!   before it was called;
//! - a created, linked, renamed or removed name is durable after [`Fs::sync_dir`] has returned `Ok`;
//! - after a failed sync nothing is known of the data written since the last good one.

mod map;
mod real;
mod sim;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use map::FileMap;
pub(crate) use map::prefetch;
pub use real::RealFs;
pub use sim::{Fault, FaultKind, FsOp, SimFs, Survival};

/// A file system, as far as the engine uses one. Paths are taken as they are given.
pub trait Fs: Debug + Send + Sync {
    /// Creates a directory, and its parents, readable by their owner only; existing ones are left as
    /// they are. What it made is durable when it returns.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Creates a file that must not exist.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>>;

    /// Opens an existing file for reading.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadableFile>>;

    /// Gives a file a new name, replacing what bore it, at once for all who look.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name, which must not be taken: a hard link. The names are equals, and the
    /// file is there until the last of them is removed. Across file systems it is
    /// [`io::ErrorKind::CrossesDevices`].
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Who has it open or mapped keeps it.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// The names in a directory, sorted; those that are not UTF-8 are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// A number that nobody can guess: for the id of a new database, the one random choice of the
    /// engine.
    fn random(&self) -> u64;

    /// Takes the lock of a file, creating it if need be, and writes `holder` into it. The lock goes
    /// with the returned guard, or with the process. `Ok(Err(text))` gives the text that the present
    /// holder wrote.
    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<Box<dyn FileLock>, String>>;
}

/// A file that is being written. Shared, so that one thread may sync what another one writes.
pub trait WritableFile: Debug + Send + Sync {
    /// Writes all of `data` at `offset`, growing the file if need be. On an error any part of it may
    /// have been written.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Makes all that was written before the call durable, the file's length included.
    fn sync(&self) -> io::Result<()>;
}

/// A file that is being read.
// A length that has to be asked for, and may fail, needs no `is_empty` beside it.
#[allow(clippy::len_without_is_empty)]
pub trait ReadableFile: Debug + Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Fills `buf` from `offset`; a file that ends sooner is [`io::ErrorKind::UnexpectedEof`].
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Maps the whole file. Only for files that are never written again: those that were synced and
    /// installed.
    fn map(&self) -> io::Result<FileMap>;
}

/// Holds a lock until it is dropped.
pub trait FileLock: Debug + Send + Sync {}

/// What is read at once where a disk may fail to, in bytes: a page.
pub(crate) const AROUND_BYTES: usize = 4096;

/// What a disk can't read of a file.
#[derive(Debug)]
pub(crate) struct Unreadable {
    /// Where the pages begin, ascending.
    pub(crate) pages: Vec<u64>,
    /// What the operating system said first.
    pub(crate) error: io::Error,
}

/// Like [`read_all`], for whoever looks for damage: what the disk can't read is zeros, and told.
pub(crate) fn read_around(
    file: &dyn ReadableFile,
    len_max: u64,
) -> io::Result<(Vec<u8>, Option<Unreadable>)> {
    match read_all(file, len_max) {
        Ok(bytes) => Ok((bytes, None)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::OutOfMemory) =>
        {
            Err(error)
        }
        Err(error) => {
            let mut bytes = zeros(file.len()?)?;
            let mut pages = Vec::new();
            for (page, bytes) in (0..).zip(bytes.chunks_mut(AROUND_BYTES)) {
                let offset = page * AROUND_BYTES as u64;
                if file.read_exact_at(offset, bytes).is_err() {
                    bytes.fill(0);
                    pages.push(offset);
                }
            }
            Ok((bytes, (!pages.is_empty()).then_some(Unreadable { pages, error })))
        }
    }
}

/// Reads a whole file of at most `len_max` bytes: [`io::ErrorKind::InvalidData`] where it is longer, and
/// [`io::ErrorKind::OutOfMemory`] where there is no memory for it.
pub(crate) fn read_all(file: &dyn ReadableFile, len_max: u64) -> io::Result<Vec<u8>> {
    let len = file.len()?;
    if len > len_max {
        let what = format!("{len} bytes long; expected at most {len_max}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut bytes = zeros(len)?;
    file.read_exact_at(0, &mut bytes)?;
    Ok(bytes)
}

/// A damaged file may have any length: more than there is memory for is an error.
fn zeros(len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if usize::try_from(len).is_err() || bytes.try_reserve_exact(len as usize).is_err() {
        let what = format!("{len} bytes long, for which there is not enough memory");
        return Err(io::Error::new(io::ErrorKind::OutOfMemory, what));
    }
    bytes.resize(len as usize, 0);
    Ok(bytes)
}
