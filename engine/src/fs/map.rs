//! A whole file as bytes in memory: the one place of the crate that maps files, and the one that has
//! `unsafe`. Beside maps it has a hint to the processor, [`prefetch`].
//!
//! # Safety
//!
//! A map borrows from the page cache, so its bytes are as steady as the file is. Whoever calls
//! [`ReadableFile::map`](super::ReadableFile::map) keeps to this:
//! - only files that were synced and installed under their final name are mapped, and such files are
//!   never written or truncated again, by anyone;
//! - a file may be removed while it is mapped: its bytes stay until the map is dropped.
//!
//! The lock of the data directory keeps other processes of ours out. Against someone else who
//! truncates a mapped file, or a disk that can't read a page, nothing helps: the kernel raises
//! `SIGBUS`. So whatever must turn such damage into an error (log, manifest, scrub) reads with
//! `pread`, and doesn't map.
#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

use memmap2::Mmap;

/// The most that [`prefetch`] asks for, in bytes.
const PREFETCH_BYTES_MAX: usize = 2048;

/// The part of memory that a processor loads at once, in bytes.
const LINE_BYTES: usize = 64;

/// Asks the processor to load these items into its cache, and does not wait for them. A read that is led
/// from one place of them to the next then waits for memory once, and not at each.
#[inline]
pub(crate) fn prefetch<T>(items: &[T]) {
    let bytes = size_of_val(items).min(PREFETCH_BYTES_MAX);
    let start = items.as_ptr().cast::<i8>();
    for offset in (0..bytes).step_by(LINE_BYTES) {
        let line = start.wrapping_add(offset);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch is a hint, it changes nothing that a program can see, whatever the address;
        // and this one lies within a slice.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(line);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }
}

/// The bytes of an immutable file, as they were when it was mapped.
pub struct FileMap(Bytes);

enum Bytes {
    Mapped(Mmap),
    Owned(Arc<Vec<u8>>),
}

impl FileMap {
    /// Maps the whole of `file`, which keeps to the contract of this module.
    pub(super) fn of_file(file: &File) -> io::Result<FileMap> {
        // `mmap` refuses a length of 0.
        if file.metadata()?.len() == 0 {
            return Ok(FileMap::from(Arc::default()));
        }
        // SAFETY: by the module's contract nobody writes or truncates the file while it is mapped,
        // so the bytes behind the shared slice don't change.
        let map = unsafe { Mmap::map(file)? };
        // Point reads want one block, not the pages that follow it. It is advice: without it reads
        // are as right, so its failure is nobody's concern.
        #[cfg(unix)]
        let _ = map.advise(memmap2::Advice::Random);
        Ok(FileMap(Bytes::Mapped(map)))
    }
}

/// Bytes that are held in memory, for file systems that have no files to map.
impl From<Arc<Vec<u8>>> for FileMap {
    fn from(bytes: Arc<Vec<u8>>) -> Self {
        FileMap(Bytes::Owned(bytes))
    }
}

impl Deref for FileMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

impl fmt::Debug for FileMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Bytes::Mapped(_) => "mapped",
            Bytes::Owned(_) => "owned",
        };
        write!(f, "FileMap({kind}, {} bytes)", self.len())
    }
}
