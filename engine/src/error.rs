//! The one error type of the engine.
//!
//! One type, not one per module: a caller of [`Db`](crate::Db) can only do five things with an
//! error (mend the call, wait and try again, free some disk, reopen, restore from a copy), and the
//! variants say which. Errors are cheap to clone, because a group commit tells every caller of the
//! group the same one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use crate::key::{SeqNo, Timestamp};

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, with the place where it did.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The call itself can't be served: mend it. Nothing was written.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),

    /// The write queue or the write buffers are full. Nothing was written: try again later.
    #[error("the database is busy: its write buffers are full; try again")]
    Busy,

    /// The disk is full, or a quota or the limit on the size of files is reached. Nothing of this call
    /// was written; writes resume when there is space.
    #[error(
        "{} cannot grow: {source}: free some space; nothing of this call was written",
        path.display()
    )]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },

    /// The process, or the system, has no file descriptor left. Nothing of this call was written;
    /// writes resume when files or connections are closed.
    #[error(
        "cannot open {}: {source}: raise the limit on open files; nothing of this call was written",
        path.display()
    )]
    TooManyFiles {
        /// The file or directory that could not be opened.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },

    /// The operating system refused a file operation.
    #[error("{op} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `write`, `sync`, `rename`, ...
        op: &'static str,
        /// The file or directory it was tried on.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },

    /// A file does not hold what was written to it. Nothing is guessed from it.
    #[error("corruption in {} at offset {offset}: {what}", file.display())]
    Corruption {
        /// The damaged file.
        file: PathBuf,
        /// Where in the file the damaged part starts, in bytes.
        offset: u64,
        /// What was expected, and what was found.
        what: String,
    },

    /// A file was written by a build that this one does not know.
    #[error(
        "{} has {what} format version {found}; this build reads version {supported}: open it with \
         the build that wrote it",
        file.display()
    )]
    UnsupportedFormat {
        /// The file.
        file: PathBuf,
        /// Which format: `SSTable`, `WAL`, ...
        what: &'static str,
        /// The version that the file names.
        found: u32,
        /// The version that this build reads.
        supported: u32,
    },

    /// Another handle, in this process or another one, has the directory open.
    #[error(
        "{} is in use by {holder}; a data directory is opened by one process at a time",
        dir.display()
    )]
    Locked {
        /// The data directory.
        dir: PathBuf,
        /// What the lock file says of its holder.
        holder: String,
    },

    /// An earlier failure left the state of the log or manifest unknown. Reads go on; writes are
    /// refused until the database is opened anew.
    #[error(
        "writes are refused until the database is reopened, because an earlier one failed: {cause}"
    )]
    Poisoned {
        /// The first failure.
        cause: Arc<Error>,
    },

    /// The call asks for, or would write to, a moment that lies before the retention horizon. What was
    /// there is no longer kept whole, so there is no answer. Nothing was written.
    #[error("{ts} lies before the retention horizon {horizon}: what was then is no longer kept")]
    BelowHorizon {
        /// The moment.
        ts: Timestamp,
        /// The earliest moment that can be asked for.
        horizon: Timestamp,
    },

    /// A condition of the batch does not hold. Nothing was written.
    #[error("condition {condition} of the batch does not hold: nothing was written")]
    ConditionFailed {
        /// Its number among the batch's conditions, from 0.
        condition: usize,
    },

    /// The operations that follow this sequence number are no longer kept for the change feed. What its
    /// reader has missed can't be told any more: it reads the state anew, and goes on from there.
    #[error(
        "the changes after {since} are no longer kept: the oldest that is kept has number {oldest}; \
         read the state anew, and go on from there"
    )]
    Trimmed {
        /// The sequence number after which the feed was to go on.
        since: SeqNo,
        /// The oldest operation that is kept.
        oldest: SeqNo,
    },

    /// The change feed was to go on behind an operation that there is not: one of another database, or one
    /// that was acknowledged before it was durable, and a power loss took it.
    #[error(
        "there is no change with number {since}: the last one has {last}; read the state anew, and go on \
         from there"
    )]
    Unwritten {
        /// The sequence number after which the feed was to go on.
        since: SeqNo,
        /// The last operation of this database.
        last: SeqNo,
    },

    /// An aggregate met a version that is not a number.
    #[error("the value at {ts} is not a number: an aggregate takes JSON numbers")]
    NotNumeric {
        /// The timestamp of the version.
        ts: Timestamp,
    },

    /// The database was closed.
    #[error("the database is closed")]
    Closed,
}

impl Error {
    /// Whether it is known that nothing of the call was written, and a later try may succeed.
    pub(crate) fn heals(&self) -> bool {
        matches!(self, Error::DiskFull { .. } | Error::TooManyFiles { .. })
    }

    /// A [`Error::Corruption`] found in `file` at `offset`.
    pub(crate) fn corruption(file: &Path, offset: u64, what: impl Into<String>) -> Error {
        Error::Corruption { file: file.to_owned(), offset, what: what.into() }
    }

    /// A file that must be there and isn't is damage, whatever the operating system calls it.
    pub(crate) fn damage_if_missing(self, why: &str) -> Error {
        match self {
            Error::Io { source, path, .. } if source.kind() == io::ErrorKind::NotFound => {
                Error::corruption(&path, 0, format!("the file is missing: {why}"))
            }
            error => error,
        }
    }
}

/// Gives an [`io::Result`] the operation and the path it belongs to.
pub(crate) trait IoContext<T> {
    /// `op` is a verb: `write`, `sync`, `rename`, ...
    fn at(self, op: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, op: &'static str, path: &Path) -> Result<T> {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        self.map_err(|source| {
            let (path, source) = (path.to_owned(), Arc::new(source));
            match (source.kind(), source.raw_os_error().map(Errno::from_raw_os_error)) {
                (StorageFull | QuotaExceeded | FileTooLarge, _) => Error::DiskFull { path, source },
                (_, Some(Errno::MFILE | Errno::NFILE)) => Error::TooManyFiles { path, source },
                _ => Error::Io { op, path, source },
            }
        })
    }
}

/// Bytes that do not decode: what was expected at which position of the buffer. It becomes an
/// [`Error::Corruption`] where the file and the buffer's place in it are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Position in the buffer, in bytes.
    pub(crate) pos: usize,
    /// What was expected.
    pub(crate) what: &'static str,
}

impl Malformed {
    /// The buffer began at `base` of `file`.
    pub(crate) fn in_file(self, file: &Path, base: u64) -> Error {
        Error::corruption(file, base + self.pos as u64, self.to_string())
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed: expected {}", self.what)
    }
}
