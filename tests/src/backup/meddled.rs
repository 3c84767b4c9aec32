//! A file system through which one user goes while another one changes the same files: before each of
//! the calls of the first, a test is called.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use kvtimedb_engine::fs::{FileLock, FileMap, Fs, ReadableFile, WritableFile};

type Before = dyn FnMut(&str) -> io::Result<()> + Send;

/// A handle of a file system; what a test does by way of another one is not told.
#[derive(Clone)]
pub(crate) struct Meddled {
    fs: Arc<dyn Fs>,
    before: Arc<Mutex<Before>>,
}

impl Meddled {
    /// `before` hears each call by its name, and may make it fail.
    pub(crate) fn new(
        fs: &(impl Fs + Clone + 'static),
        before: impl FnMut(&str) -> io::Result<()> + Send + 'static,
    ) -> Meddled {
        Meddled { fs: Arc::new(fs.clone()), before: Arc::new(Mutex::new(before)) }
    }

    fn before(&self, call: &str) -> io::Result<()> {
        (self.before.lock().unwrap())(call)
    }
}

impl fmt::Debug for Meddled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meddled").field(&self.fs).finish()
    }
}

#[derive(Debug)]
struct MeddledFile {
    fs: Meddled,
    file: Arc<dyn ReadableFile>,
}

impl ReadableFile for MeddledFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.fs.before("read")?;
        self.file.read_exact_at(offset, buf)
    }

    fn map(&self) -> io::Result<FileMap> {
        self.fs.before("map")?;
        self.file.map()
    }
}

impl Fs for Meddled {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.fs.create_dir_all(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>> {
        self.before("create")?;
        self.fs.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadableFile>> {
        self.before("open")?;
        let file = self.fs.open(path)?;
        Ok(Arc::new(MeddledFile { fs: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.before("rename")?;
        self.fs.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.before("link")?;
        self.fs.link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.before("remove")?;
        self.fs.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.before("sync_dir")?;
        self.fs.sync_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.before("list")?;
        self.fs.list(dir)
    }

    fn random(&self) -> u64 {
        self.fs.random()
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<Box<dyn FileLock>, String>> {
        self.fs.lock(path, holder)
    }
}
