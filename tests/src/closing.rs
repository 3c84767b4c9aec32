//! Ends that come at a bad moment: a close beside a merge, a failed seal, a full disk, a callback that
//! drops the last handle.
//!
//! Each test is the bug that it guards against.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use kvtimedb_engine::fs::{
    Fault, FaultKind, FileLock, Fs, FsOp, ReadableFile, SimFs, Survival, WritableFile,
};
use kvtimedb_engine::{
    Background, Db, Durability, Entry, Error, Options, Order, Timestamp, WriteBatch,
};

use crate::oracle::{self, DIR, noise, options};

/// All versions of the one key.
fn versions(db: &Db) -> Vec<Entry> {
    let all = db.history(b"k", Timestamp::MIN, Timestamp::MAX, Order::Ascending);
    oracle::versions(all.unwrap()).unwrap()
}

/// Longer than anything here takes; reached by a hang only.
const PATIENCE: Duration = Duration::from_secs(30);

/// A file system whose next matching call waits until it is released.
#[derive(Clone, Debug)]
struct Gate {
    fs: SimFs,
    state: Arc<(Mutex<GateState>, Condvar)>,
}

#[derive(Debug, Default)]
struct GateState {
    /// The call that waits: its name, and a part of its path.
    armed: Option<(&'static str, &'static str)>,
    reached: bool,
}

impl Gate {
    fn new(fs: &SimFs) -> Gate {
        Gate { fs: fs.clone(), state: Arc::default() }
    }

    fn arm(&self, call: &'static str, part: &'static str) {
        *self.state.0.lock().unwrap() = GateState { armed: Some((call, part)), reached: false };
    }

    fn wait_until_reached(&self) {
        let state = self.state.0.lock().unwrap();
        drop(self.state.1.wait_while(state, |state| !state.reached).unwrap());
    }

    fn release(&self) {
        *self.state.0.lock().unwrap() = GateState::default();
        self.state.1.notify_all();
    }

    fn pass(&self, call: &str, path: &Path) {
        let mut state = self.state.0.lock().unwrap();
        let is_armed = |(armed, part)| armed == call && path.to_str().unwrap().contains(part);
        if state.reached || !state.armed.is_some_and(is_armed) {
            return;
        }
        state.reached = true;
        self.state.1.notify_all();
        drop(self.state.1.wait_while(state, |state| state.armed.is_some()).unwrap());
    }
}

#[derive(Debug)]
struct GateFile {
    gate: Gate,
    path: std::path::PathBuf,
    file: Arc<dyn WritableFile>,
}

impl WritableFile for GateFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, data)
    }

    fn sync(&self) -> io::Result<()> {
        self.gate.pass("sync", &self.path);
        self.file.sync()
    }
}

impl Fs for Gate {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.fs.create_dir_all(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>> {
        self.pass("create", path);
        let file = self.fs.create(path)?;
        Ok(Arc::new(GateFile { gate: self.clone(), path: path.to_owned(), file }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadableFile>> {
        self.fs.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fs.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fs.link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.fs.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.fs.sync_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.fs.list(dir)
    }

    fn random(&self) -> u64 {
        self.fs.random()
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<Box<dyn FileLock>, String>> {
        self.fs.lock(path, holder)
    }
}

fn threads(fs: Arc<dyn Fs>, durability: Durability) -> Options {
    Options { durability, background: Background::Threads, fs, ..Options::default() }
}

fn tables(fs: &SimFs) -> usize {
    fs.file_names().iter().filter(|file| file.extension().is_some_and(|e| e == "sst")).count()
}

/// The directory was given up while a merge of another caller went on, which then removed the tables
/// that the next process had opened.
#[test]
fn a_close_waits_for_the_merge_of_another_caller() {
    let fs = SimFs::new(1);
    let gate = Gate::new(&fs);
    let db = Db::open(DIR, threads(Arc::new(gate.clone()), Durability::Buffered)).unwrap();
    for ts in 0..3 {
        db.put(b"k", ts, b"v").unwrap();
        db.flush().unwrap();
    }
    gate.arm("create", ".sst");
    let merge = thread::spawn({
        let db = db.clone();
        move || db.compact()
    });
    gate.wait_until_reached();
    let closed = Arc::new(AtomicBool::new(false));
    let close = thread::spawn({
        let (db, closed) = (db.clone(), Arc::clone(&closed));
        move || {
            db.close().unwrap();
            closed.store(true, Ordering::SeqCst);
        }
    });
    assert!(matches!(Db::open(DIR, options(&fs)), Err(Error::Locked { .. })));
    assert!(!closed.load(Ordering::SeqCst), "closed while a merge was at work");
    gate.release();
    close.join().unwrap();
    // It came to its end, or was told of the close: either is right.
    let _ = merge.join().unwrap();
    let db = Db::open(DIR, options(&fs)).unwrap();
    assert_eq!(versions(&db).len(), 3);
}

/// The segment that a SEAL names was removed after the seal's sync had failed, so that the next open
/// missed it and refused everything.
#[test]
fn after_a_failed_seal_the_database_opens() {
    for durability in [Durability::Buffered, Durability::Sync] {
        for nth in 1..=2 {
            let fs = SimFs::new(1);
            let db = Db::open(DIR, Options { durability, ..options(&fs) }).unwrap();
            db.put(b"k", 1, b"v").unwrap();
            let (op, pattern) = (FsOp::Sync, "000001.wal".to_owned());
            fs.inject(Fault { op, pattern, nth, kind: FaultKind::Eio });
            let flushed = db.flush();
            if flushed.is_err() {
                assert!(matches!(db.flush(), Err(Error::Poisoned { .. })), "{flushed:?}");
            }
            drop(db);
            fs.clear_faults();
            fs.crash(Survival::Everything);
            let db = Db::open(DIR, options(&fs)).unwrap();
            assert!(db.latest(b"k").unwrap().is_some(), "{durability:?}, sync {nth}");
        }
    }
}

fn segments(fs: &SimFs) -> usize {
    fs.file_names().iter().filter(|file| file.extension().is_some_and(|e| e == "wal")).count()
}

/// Writes until the log thread has made the log's next segment.
fn write_until_the_next_segment_is_there(db: &Db, fs: &SimFs) -> i64 {
    let value = noise(1, 4000);
    let begun = Instant::now();
    for ts in 0.. {
        if segments(fs) == 2 {
            return ts;
        }
        assert!(begun.elapsed() < PATIENCE, "no segment was made ahead");
        let key = if ts % 2 == 0 { "even" } else { "odd" };
        db.put(key.as_bytes(), ts, value.as_slice()).unwrap();
        thread::yield_now();
    }
    unreachable!("the loop above has no end");
}

/// A segment is made before it is needed: a crash leaves it unused behind the last one, a freeze goes
/// on in it, and a close takes it away.
#[test]
fn a_segment_made_ahead_is_ignored_used_or_removed() {
    for durability in [Durability::Buffered, Durability::Sync] {
        let fs = SimFs::new(1);
        let live =
            Options { memtable_bytes_max: 512 << 10, ..threads(Arc::new(fs.clone()), durability) };
        let db = Db::open(DIR, live).unwrap();
        let written = write_until_the_next_segment_is_there(&db, &fs);
        let check = |fs: &SimFs, what: &str| {
            let reopened = Options { memtable_bytes_max: 16 << 20, ..options(fs) };
            let db = Db::open(DIR, reopened).unwrap();
            assert_eq!(db.visible_seq(), written as u64, "{durability:?}, {what}");
            for ts in 0..written {
                let key = if ts % 2 == 0 { "even" } else { "odd" };
                let found = db.floor(key.as_bytes(), ts).unwrap().map(|entry| entry.ts);
                assert_eq!(found, Some(ts), "{durability:?}, {what}");
            }
        };
        let crashed = fs.fork();
        crashed.crash(Survival::Everything);
        check(&crashed, "a crash with the segment unused");
        db.flush().unwrap();
        let crashed = fs.fork();
        crashed.crash(Survival::Synced);
        check(&crashed, "a crash with the segment in use");
        assert_eq!(segments(&fs), 1, "{durability:?}: the segment made ahead is the live one");
        db.close().unwrap();
        check(&fs, "a close");
        let db = Db::open(DIR, threads(Arc::new(fs.clone()), durability)).unwrap();
        drop(db);
        assert_eq!(segments(&fs), 1, "{durability:?}");
    }
}

/// What a close that had nothing to flush left of the segment that was made ahead.
#[test]
fn a_close_leaves_no_segment_that_was_made_ahead() {
    let fs = SimFs::new(1);
    let options = Options {
        memtable_bytes_max: 16 << 20,
        ..threads(Arc::new(fs.clone()), Durability::Buffered)
    };
    let db = Db::open(DIR, options).unwrap();
    write_until_the_next_segment_is_there(&db, &fs);
    // Without the flush of a close: the live segment stays, to be replayed.
    drop(db);
    assert_eq!(segments(&fs), 1);
}

/// The callback waited for room in the queue that its own thread should have emptied.
#[test]
fn a_callback_may_drop_the_last_handle_while_the_queue_is_full() {
    let fs = SimFs::new(1);
    let gate = Gate::new(&fs);
    let db = Db::open(DIR, threads(Arc::new(gate.clone()), Durability::Sync)).unwrap();
    let batch = || {
        let mut batch = WriteBatch::new();
        batch.put(b"k", 1, b"v").unwrap();
        batch
    };
    gate.arm("sync", ".wal");
    let (done, ended) = std::sync::mpsc::channel();
    let last = db.clone();
    db.submit(batch(), move |_| {
        drop(last);
        done.send(()).unwrap();
    })
    .unwrap();
    gate.wait_until_reached();
    while db.submit(batch(), |_| ()).is_ok() {}
    drop(db);
    gate.release();
    ended.recv_timeout(PATIENCE).expect("the callback ends");
}

/// A buffered log was left unsynced by a close whose flush had failed.
#[test]
fn a_close_on_a_full_disk_syncs_the_log() {
    let fs = SimFs::new(1);
    let db = Db::open(DIR, Options { durability: Durability::Buffered, ..options(&fs) }).unwrap();
    db.put(b"k", 1, b"v").unwrap();
    let (op, pattern) = (FsOp::Create, ".wal".to_owned());
    fs.inject(Fault { op, pattern, nth: 0, kind: FaultKind::Enospc });
    assert!(matches!(db.close(), Err(Error::DiskFull { .. })));
    drop(db);
    fs.clear_faults();
    fs.crash(Survival::Synced);
    let db = Db::open(DIR, options(&fs)).unwrap();
    assert!(db.latest(b"k").unwrap().is_some());
}

/// Each open that failed on a full disk left the tables it had written, and so made it fuller.
#[test]
fn failed_opens_leave_nothing() {
    let fs = SimFs::new(1);
    let db = Db::open(DIR, Options { memtable_bytes_max: 1 << 20, ..options(&fs) }).unwrap();
    for ts in 0..50 {
        db.put(b"k", ts, noise(ts as u64, 4000).as_slice()).unwrap();
    }
    drop(db);
    for _ in 0..3 {
        let (op, pattern) = (FsOp::Create, ".sst".to_owned());
        fs.inject(Fault { op, pattern, nth: 8, kind: FaultKind::Enospc });
        assert!(matches!(Db::open(DIR, options(&fs)), Err(Error::DiskFull { .. })));
        fs.clear_faults();
        assert_eq!(tables(&fs), 0);
    }
    let before = fs.file_names();
    for (op, pattern, nth) in [
        (FsOp::Create, ".wal", 1),
        (FsOp::Write, ".wal", 1),
        (FsOp::Create, "MANIFEST", 1),
        (FsOp::Write, "MANIFEST", 2),
        (FsOp::Create, "CURRENT", 1),
        (FsOp::Write, "CURRENT", 1),
        (FsOp::Rename, "CURRENT", 1),
    ] {
        fs.inject(Fault { op, pattern: pattern.to_owned(), nth, kind: FaultKind::Enospc });
        let context = format!("a full disk at {op:?} {pattern:?} {nth}");
        let error = Db::open(DIR, options(&fs)).expect_err(&context);
        assert!(matches!(error, Error::DiskFull { .. }), "{context}: {error}");
        fs.clear_faults();
        let mut left = fs.file_names();
        left.retain(|path| path.extension().is_none_or(|ending| ending != "sst"));
        assert_eq!(left, before, "{context}");
    }
    let db = Db::open(DIR, options(&fs)).unwrap();
    assert_eq!(versions(&db).len(), 50);
}

/// Sessions too short for a merge of their own left runs that nobody merged, and writes were slowed
/// down for them.
#[test]
fn an_open_merges_what_short_sessions_left() {
    let fs = SimFs::new(1);
    let open = || Db::open(DIR, threads(Arc::new(fs.clone()), Durability::Buffered)).unwrap();
    for ts in 0..12 {
        let db = open();
        db.put(b"k", ts, b"v").unwrap();
        db.close().unwrap();
    }
    let db = open();
    let start = Instant::now();
    while tables(&fs) > 4 {
        assert!(start.elapsed() < PATIENCE, "{} tables are left", tables(&fs));
        thread::yield_now();
    }
    assert_eq!(versions(&db).len(), 12);
}
