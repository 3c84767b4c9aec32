//! Long work that an operator asks for: one worker does one job after the other, and what became of each is
//! remembered for a while.
//!
//! *Thread safety*: any thread may submit and look. The list is locked for no longer than it takes to read or
//! change it, never while a job works.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use kvtimedb_engine::backup::backup;
use kvtimedb_engine::fs::{Fs, RealFs};
use kvtimedb_engine::{Db, Error as EngineError};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::complain;
use crate::error::{Error, Result};

/// Jobs that may wait for the worker.
const QUEUED_MAX: usize = 16;

/// Jobs that are remembered, those included that wait; of more, the oldest are forgotten.
const KNOWN_MAX: usize = 100;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Memtables become SSTables.
    Flush,
    /// All SSTables become one run.
    Compact,
    /// The backup in this directory is brought up to date, or made.
    Backup(PathBuf),
    /// Every SSTable is read again.
    Verify,
}

impl Work {
    fn kind(&self) -> &'static str {
        match self {
            Work::Flush => "flush",
            Work::Compact => "compact",
            Work::Backup(_) => "backup",
            Work::Verify => "verify",
        }
    }
}

/// A job, as it stands.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: u64,
    kind: &'static str,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Queued,
    /// Bytes done, and how many there were to do when it began; `None` where nobody can tell.
    Running(Option<Share>),
    /// What it has to tell.
    Done(Value),
    /// Why; and how far it came.
    Failed(String, Option<Share>),
}

#[derive(Clone, Copy, Debug)]
struct Share {
    done: u64,
    of: u64,
}

impl Job {
    /// As clients see it. A progress is never guessed: `null` where it can't be told.
    pub(crate) fn to_json(&self) -> Value {
        let Job { id, kind, state } = self;
        // More may be done than was there at the start, while others write.
        let part = |share: Option<Share>| {
            share.map(
                |Share { done, of }| if of == 0 { 0.0 } else { (done as f64 / of as f64).min(1.0) },
            )
        };
        let (name, progress, result, error) = match state {
            State::Queued => ("queued", Some(0.0), None, None),
            State::Running(share) => ("running", part(*share), None, None),
            State::Done(result) => ("done", Some(1.0), Some(result), None),
            State::Failed(error, share) => ("failed", part(*share), None, Some(error)),
        };
        json!({
            "id": id, "kind": kind, "state": name, "progress": progress, "result": result, "error": error,
        })
    }
}

/// All jobs of a server.
pub(crate) struct Jobs {
    db: Db,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    last_id: u64,
    /// The oldest first.
    jobs: VecDeque<Job>,
    /// What waits.
    queue: VecDeque<(u64, Work)>,
    /// The worker lives while there is work.
    has_worker: bool,
}

impl Jobs {
    pub(crate) fn new(db: Db) -> Jobs {
        Jobs { db, known: Arc::default() }
    }

    /// Queues `work`, or refuses it with [`Error::TooManyJobs`].
    pub(crate) fn submit(&self, work: Work) -> Result<Job> {
        let mut known = self.known.lock();
        if known.queue.len() == QUEUED_MAX {
            return Err(Error::TooManyJobs);
        }
        if !known.has_worker {
            let worker = Worker { db: self.db.clone(), known: Arc::clone(&self.known) };
            // It is not joined: the engine ends a merge and a scrub when it closes, and a backup that is cut
            // short is the backup that it was before.
            let thread = thread::Builder::new().name("kvt-jobs".to_owned());
            thread.spawn(move || worker.serve()).map_err(Error::Runtime)?;
            known.has_worker = true;
        }
        known.last_id += 1;
        let job = Job { id: known.last_id, kind: work.kind(), state: State::Queued };
        known.queue.push_back((job.id, work));
        known.jobs.push_back(job.clone());
        // They are done in their order, and fewer may wait than are remembered: the oldest is over.
        if known.jobs.len() > KNOWN_MAX {
            known.jobs.pop_front();
        }
        Ok(job)
    }

    /// The job with this id, if it is remembered.
    pub(crate) fn find(&self, id: u64) -> Option<Job> {
        self.known.lock().jobs.iter().find(|job| job.id == id).cloned()
    }

    /// All that are remembered, the newest first.
    pub(crate) fn all(&self) -> Vec<Job> {
        self.known.lock().jobs.iter().rev().cloned().collect()
    }
}

struct Worker {
    db: Db,
    known: Arc<Mutex<Known>>,
}

impl Worker {
    fn serve(&self) {
        while let Some((id, work)) = self.next() {
            self.change(id, |job| job.state = State::Running(None));
            // The engine guards itself, so nothing is half done behind a panic.
            let outcome = catch_unwind(AssertUnwindSafe(|| self.run(id, &work)));
            let error = match outcome {
                Ok(Ok(result)) => {
                    self.change(id, |job| job.state = State::Done(result));
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_panic) => "it panicked".to_owned(),
            };
            complain(&format!("the job {id} ({}) failed: {error}", work.kind()));
            self.change(id, |job| {
                let State::Running(share) = job.state else { return };
                job.state = State::Failed(error, share);
            });
        }
    }

    fn next(&self) -> Option<(u64, Work)> {
        let mut known = self.known.lock();
        let next = known.queue.pop_front();
        known.has_worker = next.is_some();
        next
    }

    fn run(&self, id: u64, work: &Work) -> Result<Value, EngineError> {
        match work {
            Work::Flush => self.db.flush().map(|()| json!({})),
            Work::Compact => self.db.compact().map(|()| json!({})),
            Work::Backup(dir) => {
                let mut tell = self.progress(id);
                let fs: Arc<dyn Fs> = Arc::new(RealFs);
                let copied = backup(&fs, self.db.dir(), dir, &mut |table| tell(table.bytes))?;
                Ok(json!({
                    "seq": copied.seq, "tables": copied.tables, "bytes": copied.table_bytes,
                    "bytes_copied": copied.bytes_copied,
                }))
            }
            Work::Verify => {
                let report = self.db.scrub(&mut self.progress(id))?;
                Ok(json!({
                    "tables": report.tables, "bytes": report.bytes, "damaged_parts": report.damaged,
                }))
            }
        }
    }

    /// What is told of bytes of SSTables that are done, of all that there are now.
    fn progress(&self, id: u64) -> impl FnMut(u64) {
        let of = self.db.tables().iter().map(|table| table.file_bytes).sum();
        let mut share = Share { done: 0, of };
        move |bytes| {
            share.done += bytes;
            self.change(id, |job| job.state = State::Running(Some(share)));
        }
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Job)) {
        let mut known = self.known.lock();
        if let Some(job) = known.jobs.iter_mut().find(|job| job.id == id) {
            change(job);
        }
    }
}

#[cfg(test)]
mod tests {
    use kvtimedb_engine::Options;
    use tempfile::TempDir;

    use super::*;

    fn wait(jobs: &Jobs, id: u64) -> Value {
        loop {
            let job = jobs.find(id).unwrap().to_json();
            if job["state"] == "done" || job["state"] == "failed" {
                return job;
            }
            thread::yield_now();
        }
    }

    #[test]
    fn jobs_are_done_in_their_order_and_told_of() {
        let dir = TempDir::new().unwrap();
        let db = Db::open(dir.path().join("data"), Options::default()).unwrap();
        db.put(b"k", 1, b"v").unwrap();
        let jobs = Jobs::new(db.clone());
        let backup = dir.path().join("backup");
        for work in [Work::Flush, Work::Backup(backup.clone()), Work::Verify, Work::Compact] {
            jobs.submit(work).unwrap();
        }
        for (id, kind) in [(1, "flush"), (2, "backup"), (3, "verify"), (4, "compact")] {
            let job = wait(&jobs, id);
            assert_eq!((&job["kind"], &job["state"]), (&json!(kind), &json!("done")), "{job}");
            assert_eq!((&job["progress"], &job["error"]), (&json!(1.0), &Value::Null), "{job}");
        }
        assert_eq!(jobs.find(2).unwrap().to_json()["result"]["seq"], 1);
        assert_eq!(jobs.find(3).unwrap().to_json()["result"]["damaged_parts"], 0);
        assert_eq!(jobs.all().iter().map(|job| job.id).collect::<Vec<_>>(), [4, 3, 2, 1]);
        assert!(Db::open(backup, Options::default()).unwrap().latest(b"k").unwrap().is_some());

        db.close().unwrap();
        let failed = wait(&jobs, jobs.submit(Work::Verify).unwrap().id);
        assert_eq!((&failed["state"], &failed["result"]), (&json!("failed"), &Value::Null));
        assert_eq!(failed["error"], "the database is closed");
    }

    #[test]
    fn what_waits_and_what_is_remembered_has_a_bound() {
        let dir = TempDir::new().unwrap();
        let jobs = Jobs::new(Db::open(dir.path(), Options::default()).unwrap());
        // As if there were a worker, one that is busy.
        jobs.known.lock().has_worker = true;
        for _ in 0..QUEUED_MAX {
            jobs.submit(Work::Flush).unwrap();
        }
        assert!(matches!(jobs.submit(Work::Flush), Err(Error::TooManyJobs)));
        assert_eq!(jobs.find(1).unwrap().to_json()["state"], "queued");
        Worker { db: jobs.db.clone(), known: Arc::clone(&jobs.known) }.serve();
        let mut submitted = QUEUED_MAX as u64;
        while submitted < 3 * KNOWN_MAX as u64 {
            submitted += u64::from(jobs.submit(Work::Flush).is_ok());
        }
        assert_eq!(wait(&jobs, submitted)["state"], "done");
        assert!(jobs.find(1).is_none());
        assert_eq!(jobs.all().len(), KNOWN_MAX);
    }
}
