//! Checkpoints: each is a whole database as of its sequence number, or none at all, and whatever
//! happens while one is made costs the database nothing.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use kvtimedb_engine::fs::{Fault, FaultKind, Fs, FsOp, RealFs, SimFs, Survival};
use kvtimedb_engine::inspect::{Depth, read_current_manifest, verify_directory};
use kvtimedb_engine::{Background, Checkpoint, Db, Durability, Error, Options, ValueRef};

use crate::backup::meddled::Meddled;
use crate::oracle::{DIR, Op, Oracle, batch, noise, options};

/// Where the copies go.
pub(crate) const COPY: &str = "/copy";

pub(crate) const SURVIVALS: [Survival; 3] =
    [Survival::Synced, Survival::Everything, Survival::Random];

/// So many batches: tables, merges, late and erased versions, and keys that are written again.
pub(crate) fn batches(count: i64) -> Vec<Vec<Op>> {
    let batch = |i: i64| {
        vec![
            Op::put(format!("key/{}", i % 7), i, noise(i as u64, 300)),
            Op::json("shared", i, format!("{{\"i\":{i}}}")),
            Op::end(format!("key/{}", i % 5), i - 3),
            Op::erase("shared", i - 4),
            Op::put("late", -i, [i as u8]),
        ]
    };
    (0..count).map(batch).collect()
}

/// Opens a database and writes these batches, with a flush now and then.
pub(crate) fn written(options: &Options, batches: &[Vec<Op>]) -> (Db, Oracle) {
    let (db, mut oracle) = (Db::open(DIR, options.clone()).unwrap(), Oracle::default());
    for (i, ops) in batches.iter().enumerate() {
        db.write(batch(ops)).unwrap();
        oracle.apply(ops);
        if i % 9 == 8 {
            db.flush().unwrap();
        }
    }
    (db, oracle)
}

/// Opens what is in `dir` and holds it against the oracle.
#[track_caller]
pub(crate) fn assert_holds(fs: &SimFs, dir: &str, oracle: &Oracle, context: &str) {
    let db = Db::open(dir, options(fs)).unwrap_or_else(|error| panic!("{context}: {dir}: {error}"));
    assert_eq!(db.visible_seq(), oracle.last_seq(), "{context}: {dir}");
    oracle.assert_answers(&db, context);
}

#[track_caller]
pub(crate) fn assert_sound(fs: &dyn Fs, dir: impl AsRef<Path>) {
    verify_directory(fs, dir.as_ref(), Depth::Records, &mut |file| {
        assert!(file.error.is_none() && file.note.is_none(), "{file:?}");
    })
    .unwrap();
}

/// The names in a directory of a simulated file system.
pub(crate) fn names(fs: &SimFs, dir: &str) -> Vec<String> {
    fs.list(Path::new(dir)).unwrap_or_default()
}

/// Tables are shared by both, and neither may ever write to one.
#[test]
fn a_checkpoint_and_its_database_go_their_own_ways() {
    let fs = SimFs::new(1);
    let all = batches(60);
    let (db, mut oracle) = written(&options(&fs), &all[..40]);
    let checkpoint = db.checkpoint(COPY).unwrap();
    assert_eq!((checkpoint.seq, checkpoint.copied), (oracle.last_seq(), 0));
    assert!(checkpoint.linked == checkpoint.tables && checkpoint.tables > 1, "{checkpoint:?}");
    assert_sound(&fs, COPY);

    let mut of_copy = oracle.clone();
    for ops in &all[40..] {
        db.write(batch(ops)).unwrap();
        oracle.apply(ops);
    }
    db.compact().unwrap();
    oracle.assert_answers(&db, "the database");
    db.close().unwrap();
    assert_holds(&fs, COPY, &of_copy, "the checkpoint");

    let copy = Db::open(COPY, options(&fs)).unwrap();
    let ops = [Op::put("shared", 7, "of the copy"), Op::erase("late", -3), Op::end("key/1", 2)];
    copy.write(batch(&ops)).unwrap();
    of_copy.apply(&ops);
    copy.compact().unwrap();
    of_copy.assert_answers(&copy, "the checkpoint, written to");
    copy.close().unwrap();
    for (dir, oracle) in [(DIR, &oracle), (COPY, &of_copy)] {
        assert_sound(&fs, dir);
        assert_holds(&fs, dir, oracle, "in the end");
    }
}

/// A power loss right after it: all of it is durable, the directory included.
#[test]
fn a_checkpoint_is_durable_when_it_is_told() {
    let fs = SimFs::new(1);
    let (db, oracle) = written(&options(&fs), &batches(20));
    db.checkpoint(COPY).unwrap();
    drop(db);
    fs.crash(Survival::Synced);
    assert_holds(&fs, COPY, &oracle, "after a power loss");
}

#[test]
fn what_can_not_be_linked_is_copied() {
    let fs = SimFs::new(1);
    let meddled = Meddled::new(&fs, |call| match call {
        "link" => Err(std::io::ErrorKind::CrossesDevices.into()),
        _ => Ok(()),
    });
    let (db, oracle) = written(&Options { fs: Arc::new(meddled), ..options(&fs) }, &batches(40));
    let checkpoint = db.checkpoint(COPY).unwrap();
    let expected = Checkpoint { linked: 0, copied: checkpoint.tables, ..checkpoint };
    assert!(checkpoint == expected && checkpoint.tables > 0, "{checkpoint:?}");
    drop(db);
    fs.crash(Survival::Synced);
    assert_sound(&fs, COPY);
    assert_holds(&fs, COPY, &oracle, "copied");
}

/// A block's checksum was verified once, when it was first read, and its bytes were copied out of the map
/// without another look: what had rotted since then came into the copy.
#[test]
fn what_rots_after_it_was_read_is_not_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    let meddled = Meddled::new(&RealFs, |call| match call {
        "link" => Err(std::io::ErrorKind::CrossesDevices.into()),
        _ => Ok(()),
    });
    let options = Options { fs: Arc::new(meddled), ..Options::default() };
    let db = Db::open(&data, options).unwrap();
    db.put(b"k", 1, noise(1, 1000).as_slice()).unwrap();
    db.flush().unwrap();
    assert!(db.latest(b"k").unwrap().is_some());
    let names = RealFs.list(&data).unwrap();
    let table = data.join(names.iter().find(|name| name.contains(".sst")).unwrap());
    let mut file = std::fs::File::options().write(true).open(table).unwrap();
    file.seek(SeekFrom::Start(100)).unwrap();
    file.write_all(b"rot").unwrap();
    let error = db.checkpoint(&copy).unwrap_err();
    assert!(matches!(error, Error::Corruption { .. }), "{error}");
    assert_eq!(RealFs.list(&copy).unwrap(), ["LOCK"]);
}

#[test]
fn a_directory_that_holds_anything_is_refused_and_left_alone() {
    let fs = SimFs::new(1);
    let (db, oracle) = written(&options(&fs), &batches(10));
    fs.put_file("/other/notes.txt", "mine");
    db.checkpoint(COPY).unwrap();
    for dir in ["/other", COPY, DIR] {
        let before = fs.file_names();
        let error = db.checkpoint(dir).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{dir}: {error}");
        assert_eq!(fs.file_names(), before, "{dir}");
    }
    oracle.assert_answers(&db, "after refusals");
    let open_copy = Db::open(COPY, options(&fs)).unwrap();
    oracle.assert_answers(&open_copy, "the first one");
}

/// What is in memory only can't be flushed, so it would be missing.
#[test]
fn there_is_no_checkpoint_of_a_database_whose_writes_are_refused() {
    let fs = SimFs::new(1);
    let (db, oracle) = written(&options(&fs), &batches(10));
    fs.inject(Fault { op: FsOp::Write, pattern: ".wal".into(), nth: 1, kind: FaultKind::Eio });
    db.put(b"k", 1, b"v").unwrap_err();
    let error = db.checkpoint(COPY).unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    assert!(names(&fs, COPY).is_empty());
    oracle.assert_answers(&db, "poisoned");
}

/// A crash after and within each call: the directory is no database, which the next checkpoint into it
/// mends, or the whole one; and the source has lost nothing.
#[test]
fn a_crash_leaves_a_whole_checkpoint_or_none() {
    let all = batches(22);
    let prepare = |fs: &SimFs| {
        let (db, oracle) = written(&options(fs), &all);
        // What is only in the log is flushed by the checkpoint.
        (db, oracle)
    };
    let whole = SimFs::new(0);
    let (db, oracle) = prepare(&whole);
    let first = whole.mutations() + 1;
    db.checkpoint(COPY).unwrap();
    let (mut none, mut made) = (0, 0);
    for call in first..=whole.mutations() {
        for within in [false, true] {
            let fs = SimFs::new(call);
            let (db, _) = prepare(&fs);
            if within {
                fs.stop_within(call);
            } else {
                fs.stop_after(call);
            }
            let told = db.checkpoint(COPY);
            drop(db);
            for survival in SURVIVALS {
                let fs = fs.fork();
                fs.crash(survival);
                let point = format!("call {call}, within: {within}, {survival:?}");
                if read_current_manifest(&fs, Path::new(COPY)).is_ok() {
                    made += 1;
                    assert_holds(&fs, COPY, &oracle, &point);
                } else {
                    none += 1;
                    assert!(told.is_err(), "{point}: it was told, and is not there");
                }
                let db = Db::open(DIR, options(&fs)).unwrap();
                if db.visible_seq() == oracle.last_seq() {
                    oracle.assert_answers(&db, &point);
                } else {
                    // Buffered, and not flushed yet when the power was lost.
                    assert!(survival != Survival::Everything && db.visible_seq() >= 18 * 5);
                    continue;
                }
                if read_current_manifest(&fs, Path::new(COPY)).is_err() {
                    db.checkpoint(COPY).unwrap_or_else(|error| panic!("{point}: {error}"));
                    fs.crash(Survival::Synced);
                    assert_holds(&fs, COPY, &oracle, &point);
                }
            }
        }
    }
    assert!(none > 50 && made > 10, "{none} {made}");
}

/// Any call fails once: the database goes on, and what was put into the directory is taken back, so that
/// the next checkpoint finds it empty.
#[test]
fn a_failure_costs_the_checkpoint_and_nothing_else() {
    use FsOp::{
        Create, CreateDir, Link, List, Lock, Open, Read, Remove, Rename, Sync, SyncDir, Write,
    };
    let image = SimFs::new(3);
    let (db, oracle) = written(&options(&image), &batches(18));
    db.close().unwrap();
    let mut failed = 0;
    let ops =
        [CreateDir, Create, Open, Read, Write, Sync, Rename, Link, Remove, SyncDir, List, Lock];
    for op in ops {
        for kind in [FaultKind::Eio, FaultKind::Enospc] {
            for nth in 1..=10 {
                let fs = image.fork();
                let db = Db::open(DIR, options(&fs)).unwrap();
                fs.inject(Fault { op, pattern: String::new(), nth, kind });
                let made = db.checkpoint(COPY);
                fs.clear_faults();
                let point = format!("{op:?} {nth} {kind:?}");
                failed += u32::from(made.is_err());
                let is_there = read_current_manifest(&fs, Path::new(COPY)).is_ok();
                if let Err(error) = &made {
                    let full = matches!(error, Error::DiskFull { .. });
                    // A sync that fails is no full disk, and a directory's may be one of `CURRENT`.
                    let may_be_io = matches!(op, Sync | SyncDir);
                    assert!(full == (kind == FaultKind::Enospc) || may_be_io, "{point}: {error}");
                    // Where the directory can't be listed, or the mark made durable, it stays.
                    let left = names(&fs, COPY);
                    let is_empty = left.iter().all(|name| name == "LOCK");
                    let may_be_marked =
                        matches!(op, List | SyncDir) && left == ["LOCK", "UNFINISHED"];
                    assert!(is_there || is_empty || may_be_marked, "{point}: {left:?}");
                }
                db.put(b"after", 1, b"the failure").unwrap();
                db.flush().unwrap();
                if is_there {
                    assert_holds(&fs, COPY, &oracle, &point);
                } else {
                    db.checkpoint(COPY).unwrap_or_else(|error| panic!("{point}: {error}"));
                    let copy = Db::open(COPY, options(&fs)).unwrap();
                    assert!(copy.latest(b"after").unwrap().is_some(), "{point}");
                }
            }
        }
    }
    assert!(failed > 60, "only {failed} of them failed");
}

/// Writers, flushes, merges and checkpoints at once: every checkpoint holds a prefix of each writer's
/// writes, all that were acknowledged when it was begun among them, and as many operations as it says.
#[test]
fn checkpoints_are_consistent_while_others_write() {
    const WRITERS: usize = 3;
    const CHECKPOINTS: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        memtable_bytes_max: 16 << 10,
        durability: Durability::Buffered,
        background: Background::Threads,
        ..Options::default()
    };
    let db = Db::open(dir.path().join("data"), options.clone()).unwrap();
    let acknowledged: [AtomicI64; WRITERS] = Default::default();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for (writer, acknowledged) in acknowledged.iter().enumerate() {
            let (db, done) = (&db, &done);
            scope.spawn(move || {
                let key = format!("writer/{writer}");
                for ts in 0.. {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    let value = noise(ts as u64, 100);
                    db.put(key.as_bytes(), ts, ValueRef::octets(&value)).unwrap();
                    acknowledged.store(ts + 1, Ordering::Release);
                    // So that there is less to be looked up.
                    thread::sleep(Duration::from_micros(200));
                }
            });
        }
        for number in 0..CHECKPOINTS {
            let copy = dir.path().join(format!("checkpoint-{number}"));
            let least: Vec<i64> = acknowledged
                .iter()
                .map(|acknowledged| acknowledged.load(Ordering::Acquire))
                .collect();
            let checkpoint = db.checkpoint(&copy).unwrap();
            let copy = Db::open(&copy, options.clone()).unwrap();
            assert_eq!(copy.visible_seq(), checkpoint.seq);
            let mut ops = 0;
            for (writer, least) in least.into_iter().enumerate() {
                let writes = prefix_of(&copy, format!("writer/{writer}").as_bytes());
                assert!(writes >= least, "writer {writer}: {writes} of {least} acknowledged");
                ops += writes as u64;
            }
            assert_eq!(ops, checkpoint.seq);
        }
        done.store(true, Ordering::Relaxed);
    });
    let merged = db.metrics().compactions.get();
    assert!(merged > 0, "nothing was merged beside the checkpoints");
    db.close().unwrap();
    for number in 0..CHECKPOINTS {
        let copy =
            Db::open(dir.path().join(format!("checkpoint-{number}")), options.clone()).unwrap();
        for writer in 0..WRITERS {
            prefix_of(&copy, format!("writer/{writer}").as_bytes());
        }
    }
}

/// How many of a writer's writes are there; they must be the first ones.
pub(crate) fn prefix_of(db: &Db, key: &[u8]) -> i64 {
    let writes = db.latest(key).unwrap().map_or(0, |entry| entry.ts + 1);
    for ts in 0..writes {
        let entry = db.exact(key, ts).unwrap();
        let entry = entry.unwrap_or_else(|| panic!("{} of {writes} writes is missing", ts + 1));
        assert_eq!(entry.value, noise(ts as u64, 100));
    }
    writes
}
