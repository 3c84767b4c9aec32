//! The handles that a simulated file system gives out: open files, and locks. A crash makes them
//! dead.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use parking_lot::MutexGuard;

use super::disk::InodeNo;
use super::fault::{FaultKind, FsOp};
use super::{SimFs, State, name_of};
use crate::fs::{FileLock, FileMap, ReadableFile, WritableFile};

/// An open file, for reading and writing.
pub(super) struct SimFile {
    fs: SimFs,
    inode: InodeNo,
    name: String,
    /// How many crashes there had been when it was opened.
    opened: u64,
}

impl SimFile {
    pub(super) fn open(fs: &SimFs, state: &mut State, inode: InodeNo, path: &Path) -> SimFile {
        state.inode(inode).handles += 1;
        SimFile { fs: fs.clone(), inode, name: name_of(path), opened: state.crashes }
    }

    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.fs.state.lock();
        if state.crashes == self.opened {
            Ok(state)
        } else {
            Err(io::Error::other("the file was opened before the simulated crash"))
        }
    }

    /// The content as a reader gets it.
    fn read(&self) -> io::Result<(MutexGuard<'_, State>, Option<FaultKind>)> {
        let mut state = self.state()?;
        match state.fault(FsOp::Read, &[&self.name]) {
            Some(kind @ (FaultKind::Eio | FaultKind::Enospc)) => Err(kind.error()),
            fault => Ok((state, fault)),
        }
    }
}

impl WritableFile for SimFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let call = format!("write {} {offset}+{}", self.name, data.len());
        self.fs.announce(&call);
        let state = &mut *self.state()?;
        let fault = state.begin(FsOp::Write, &[&self.name], call)?;
        let offset = offset as usize;
        let mut data = data.to_vec();
        let mut result = Ok(());
        match fault {
            None => {}
            Some(kind @ (FaultKind::Eio | FaultKind::Emfile)) => return Err(kind.error()),
            Some(kind @ (FaultKind::Short | FaultKind::Enospc)) => {
                data.truncate(state.rng.below(data.len().max(1)));
                // A stop shows as what it is, not as the fault that it is acted out by.
                result = state.check_running().and(Err(kind.error()));
            }
            Some(FaultKind::BitFlip) => state.rng.flip_bit(&mut data),
            Some(kind @ (FaultKind::Stale | FaultKind::Misdirected)) => {
                let content = state.inode(self.inode).content();
                let len = content.len();
                let old = content.iter().skip(offset).copied().chain(std::iter::repeat(0));
                let old = old.take(data.len()).collect();
                if kind == FaultKind::Misdirected {
                    let elsewhere = state.rng.sector(len);
                    data.truncate(len - elsewhere);
                    state.inode(self.inode).write(elsewhere, &data);
                }
                data = old;
            }
        }
        state.inode(self.inode).write(offset, &data);
        result
    }

    fn sync(&self) -> io::Result<()> {
        let call = format!("sync {}", self.name);
        self.fs.announce(&call);
        let mut state = self.state()?;
        let fault = state.begin(FsOp::Sync, &[&self.name], call)?;
        let inode = state.inode(self.inode);
        match fault {
            None => {
                inode.sync();
                Ok(())
            }
            Some(FaultKind::Stale) => Ok(()),
            Some(kind) => {
                inode.fail_sync();
                Err(kind.error())
            }
        }
    }
}

impl ReadableFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.inode(self.inode).content().len() as u64)
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let (mut state, fault) = self.read()?;
        let content = state.inode(self.inode).content();
        let bytes = content.get(offset as usize..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        if let Some(kind) = fault {
            let content = Arc::clone(state.inode(self.inode).content());
            state.rng.lie(kind, &content, buf);
        }
        Ok(())
    }

    fn map(&self) -> io::Result<FileMap> {
        let (mut state, fault) = self.read()?;
        let mut bytes = Arc::clone(state.inode(self.inode).content());
        if let Some(kind) = fault {
            let content = Arc::clone(&bytes);
            state.rng.lie(kind, &content, Arc::make_mut(&mut bytes).as_mut_slice());
        }
        Ok(FileMap::from(bytes))
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state() {
            state.inode(self.inode).handles -= 1;
        }
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimFile").field(&self.name).finish()
    }
}

#[derive(Debug)]
pub(super) struct SimLock {
    fs: SimFs,
    path: PathBuf,
    /// How many crashes there had been when it was taken; a crash releases it.
    opened: u64,
}

impl SimLock {
    pub(super) fn new(fs: &SimFs, state: &State, path: PathBuf) -> SimLock {
        SimLock { fs: fs.clone(), path, opened: state.crashes }
    }
}

impl FileLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.fs.state.lock();
        if state.crashes == self.opened {
            state.locks.remove(&self.path);
        }
    }
}
