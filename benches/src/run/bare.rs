//! A bare group-commit loop: what the disk and the threads allow, without a database.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Result;
use crate::machine::write_back;

pub(super) const NAME: &str = "bare loop";

pub(super) const SETTINGS: &str = "callers hand 128 bytes each to one thread, which writes all that \
    wait into a file of zeros that was synced before, calls fdatasync, and wakes them";

/// About what a put of the telemetry takes in a log.
const RECORD: [u8; 128] = [0x5a; 128];

/// The length of the file of zeros, in bytes; then the loop begins at its start again.
const FILE_BYTES: usize = 32 << 20;

/// What callers and the thread that writes tell each other.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Something waits, or nothing will any more.
    work: Condvar,
    /// A group is on disk.
    done: Condvar,
}

#[derive(Default)]
struct State {
    /// Records that wait.
    waiting: Vec<u8>,
    /// The number of the group that those will be.
    group: u64,
    /// How many groups are on disk.
    durable: u64,
    ended: bool,
    failed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(on: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        on.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the record is on disk.
    fn put(&self, record: &[u8]) -> bool {
        let mut state = self.lock();
        state.waiting.extend_from_slice(record);
        let group = state.group;
        self.work.notify_one();
        while state.durable <= group && !state.failed {
            state = Self::wait(&self.done, state);
        }
        !state.failed
    }

    fn write_groups(&self, file: &File) -> std::io::Result<()> {
        let (mut group, mut offset) = (Vec::new(), 0);
        loop {
            let mut state = self.lock();
            while state.waiting.is_empty() {
                if state.ended {
                    return Ok(());
                }
                state = Self::wait(&self.work, state);
            }
            group.clear();
            std::mem::swap(&mut group, &mut state.waiting);
            state.group += 1;
            drop(state);
            if offset + group.len() > FILE_BYTES {
                offset = 0;
            }
            file.write_all_at(&group, offset as u64)?;
            file.sync_data()?;
            offset += group.len();
            self.lock().durable += 1;
            self.done.notify_all();
        }
    }
}

/// How many records of `callers` become durable in a second.
pub(super) fn puts_a_second(dir: &Path, callers: usize, time: Duration) -> Result<f64> {
    let path = dir.join("bare");
    std::fs::write(&path, vec![0; FILE_BYTES])?;
    let file = File::options().write(true).open(&path)?;
    file.sync_all()?;
    write_back();
    let shared = Shared::default();
    let began = Instant::now();
    let call = || {
        let mut puts = 0;
        while began.elapsed() < time && shared.put(&RECORD) {
            puts += 1;
        }
        puts
    };
    let (puts, written) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let written = shared.write_groups(&file);
            shared.lock().failed = written.is_err();
            shared.done.notify_all();
            written
        });
        let callers: Vec<_> = (0..callers).map(|_| scope.spawn(call)).collect();
        let puts: u64 = callers.into_iter().map(|c| c.join().expect("a caller that ends")).sum();
        shared.lock().ended = true;
        shared.work.notify_all();
        (puts, writer.join().expect("a writer that ends"))
    });
    let rate = puts as f64 / began.elapsed().as_secs_f64();
    written?;
    std::fs::remove_file(path)?;
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_caller_is_woken() {
        let dir = tempfile::tempdir().unwrap();
        assert!(puts_a_second(dir.path(), 4, Duration::from_millis(50)).unwrap() > 0.0);
    }
}
