//! The operating system's file system, by positioned reads and writes only: a file has no cursor, so
//! threads share one handle without a lock.
// The lint keeps `std::fs` out of the rest of the engine; this is where it belongs.
#![allow(clippy::disallowed_methods)]

use std::collections::hash_map::RandomState;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;
use std::sync::Arc;

use super::{FileLock, FileMap, Fs, ReadableFile, WritableFile};

/// Who may enter the directories that the engine makes: their owner.
const DIR_MODE: u32 = 0o700;

/// The most of a lock file that is read to name its holder, in bytes. The file may be anybody's.
const HOLDER_LEN_MAX: u64 = 4 << 10;

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFs;

impl Fs for RealFs {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let dir = or_current(dir);
        if dir.is_dir() {
            return Ok(());
        }
        // A path without a parent is the root, which is a directory unless it can't be seen at all.
        let parent = dir.parent().ok_or(io::ErrorKind::NotFound)?;
        self.create_dir_all(parent)?;
        match DirBuilder::new().mode(DIR_MODE).create(dir) {
            // Another process was faster.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            made => made?,
        }
        // A directory is durable once its name in the parent is.
        self.sync_dir(parent)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadableFile>> {
        Ok(Arc::new(RealFile(File::open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(or_current(dir))?.sync_all()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(or_current(dir))? {
            // A name that is not UTF-8 is none of the engine's.
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn random(&self) -> u64 {
        RandomState::new().build_hasher().finish()
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<Box<dyn FileLock>, String>> {
        // Not truncated before the lock is taken: until then the text is the other holder's.
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                file.write_all_at(holder.as_bytes(), 0)?;
                Ok(Ok(Box::new(RealLock { _file: file })))
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = Vec::new();
                file.take(HOLDER_LEN_MAX).read_to_end(&mut text)?;
                Ok(Err(String::from_utf8_lossy(&text).into_owned()))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// The parent of a bare file name is the empty path, which the operating system doesn't take for the
/// current directory.
fn or_current(dir: &Path) -> &Path {
    if dir.as_os_str().is_empty() { Path::new(".") } else { dir }
}

#[derive(Debug)]
struct RealFile(File);

impl WritableFile for RealFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    /// `fdatasync`: it leaves out the times of the file, but not its length, because without that
    /// the data could not be read back.
    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl ReadableFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn map(&self) -> io::Result<FileMap> {
        FileMap::of_file(&self.0)
    }
}

/// The lock belongs to the open file: the kernel releases it when that is closed, also when the
/// process dies.
#[derive(Debug)]
struct RealLock {
    _file: File,
}

impl FileLock for RealLock {}
