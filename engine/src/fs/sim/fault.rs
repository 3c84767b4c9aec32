//! Failures as data: which call is struck, and how that shows.

use std::io;

use rustix::io::Errno;

/// What a [`Fault`] strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsOp {
    /// `Fs::create_dir_all`.
    CreateDir,
    /// `Fs::create`.
    Create,
    /// `Fs::open`.
    Open,
    /// `ReadableFile::read_exact_at` and `map`.
    Read,
    /// `WritableFile::write_at`.
    Write,
    /// `WritableFile::sync`.
    Sync,
    /// `Fs::rename`.
    Rename,
    /// `Fs::link`.
    Link,
    /// `Fs::remove`.
    Remove,
    /// `Fs::sync_dir`.
    SyncDir,
    /// `Fs::list`.
    List,
    /// `Fs::lock`.
    Lock,
}

/// How a [`Fault`] shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The call fails with `EIO` and does nothing. A sync also forgets what was to be written, as
    /// Linux may do: readers go on seeing it, but no later sync makes it durable.
    Eio,
    /// As [`FaultKind::Eio`], with `ENOSPC`; a write may leave a part of its data.
    Enospc,
    /// As [`FaultKind::Eio`], with `EMFILE`, for what opens a file.
    Emfile,
    /// A write leaves a part of its data, then fails with `EIO`.
    Short,
    /// One bit of what is read or written is flipped, and the call succeeds.
    BitFlip,
    /// A write succeeds, but the bytes stay as they were: zeros, if it made the file longer. A sync
    /// succeeds, and makes nothing durable.
    Stale,
    /// As [`FaultKind::Stale`], and what was to be written lands in other sectors of the file. A read
    /// succeeds, and one sector of what it gives is another one's.
    Misdirected,
}

impl FaultKind {
    pub(super) fn error(self) -> io::Error {
        let errno = match self {
            FaultKind::Enospc => Errno::NOSPC,
            FaultKind::Emfile => Errno::MFILE,
            _ => Errno::IO,
        };
        errno.into()
    }
}

/// A failure to come.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The operation it strikes.
    pub op: FsOp,
    /// A part of the file's name (the directory's, for operations on those); a rename or link matches
    /// by either name, and an open file by the name it was opened under. Empty matches all.
    pub pattern: String,
    /// Which of the matching calls: 1 is the next one; 0 is every one until
    /// [`SimFs::clear_faults`](super::SimFs::clear_faults).
    pub nth: u64,
    /// What happens.
    pub kind: FaultKind,
}

impl Fault {
    /// Whether calls of this operation can fail in this way.
    pub(super) fn is_possible(&self) -> bool {
        match self.kind {
            FaultKind::Eio | FaultKind::Enospc => true,
            FaultKind::Emfile => matches!(self.op, FsOp::Create | FsOp::Open | FsOp::SyncDir),
            FaultKind::Short => self.op == FsOp::Write,
            FaultKind::Stale => matches!(self.op, FsOp::Write | FsOp::Sync),
            FaultKind::BitFlip | FaultKind::Misdirected => {
                matches!(self.op, FsOp::Read | FsOp::Write)
            }
        }
    }

    /// Whether a call now made is the one; counts it if it matches.
    pub(super) fn strikes(&mut self, op: FsOp, names: &[&str]) -> bool {
        if self.op != op || !names.iter().any(|name| name.contains(&self.pattern)) {
            return false;
        }
        let every = self.nth == 0;
        self.nth = self.nth.saturating_sub(1);
        every || self.nth == 0
    }
}
