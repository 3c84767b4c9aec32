//! File operations that fail while the database is in use.
//!
//! What every test here guards: a failure loses nothing that was acknowledged, also when a crash
//! follows it; reads go on; a full disk is waited out; and where the log or the manifest may or may
//! not hold what was written, writes are refused until a reopen.

use std::path::Path;

use kvtimedb_engine::fs::{Fault, FaultKind, FsOp, SimFs, Survival};
use kvtimedb_engine::{Db, Durability, Error, Options, inspect};

use super::{SURVIVALS, files, only, open, small_batches, synced, two_runs_and_a_log, write_all};
use crate::oracle::{DIR, Op, Oracle, batch, noise, options};

/// What a failure of a file operation does to a database that writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// The call fails with `DiskFull` or `TooManyFiles`; when there is room again, all goes on.
    Heals,
    /// The call fails, and writes are refused until a reopen.
    Poisons,
    /// The call fails and a later one may succeed; writes go on.
    Fails,
}

/// What a test does to the database while the fault stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Write,
    Flush,
    Compact,
}

use Call::{Compact, Flush, Write};
use Effect::{Fails, Heals, Poisons};
use FaultKind::{Eio, Emfile, Enospc, Short};

/// Every file operation of a write, a flush and a merge, and what its failure does. Where the log or
/// the manifest may or may not hold a record, writes are over; a full disk is waited out, unless a
/// sync said so: then it is unknown what was lost.
const FAILURES: &[(Call, FsOp, &str, FaultKind, Effect)] = &[
    (Write, FsOp::Write, ".wal", Enospc, Heals),
    (Write, FsOp::Write, ".wal", Eio, Poisons),
    (Write, FsOp::Write, ".wal", Short, Poisons),
    (Write, FsOp::Sync, ".wal", Enospc, Poisons),
    (Write, FsOp::Sync, ".wal", Eio, Poisons),
    (Flush, FsOp::Create, ".wal", Enospc, Heals),
    (Flush, FsOp::Create, ".wal", Emfile, Heals),
    (Flush, FsOp::Create, ".wal", Eio, Poisons),
    (Flush, FsOp::Write, ".wal", Enospc, Heals),
    (Flush, FsOp::Write, ".wal", Eio, Poisons),
    (Flush, FsOp::SyncDir, "", Enospc, Poisons),
    (Flush, FsOp::SyncDir, "", Emfile, Heals),
    (Flush, FsOp::SyncDir, "", Eio, Poisons),
    (Flush, FsOp::Create, ".sst", Enospc, Heals),
    (Flush, FsOp::Create, ".sst", Emfile, Heals),
    (Flush, FsOp::Create, ".sst", Eio, Poisons),
    (Flush, FsOp::Write, ".sst", Enospc, Heals),
    (Flush, FsOp::Write, ".sst", Eio, Poisons),
    (Flush, FsOp::Write, ".sst", Short, Poisons),
    (Flush, FsOp::Sync, ".sst", Enospc, Heals),
    (Flush, FsOp::Sync, ".sst", Eio, Poisons),
    (Flush, FsOp::Open, ".sst", Emfile, Heals),
    (Flush, FsOp::Open, ".sst", Eio, Poisons),
    (Flush, FsOp::Read, ".sst", Eio, Poisons),
    (Flush, FsOp::Write, "MANIFEST", Enospc, Heals),
    (Flush, FsOp::Write, "MANIFEST", Eio, Poisons),
    (Flush, FsOp::Sync, "MANIFEST", Enospc, Poisons),
    (Flush, FsOp::Sync, "MANIFEST", Eio, Poisons),
    (Compact, FsOp::Create, ".sst", Enospc, Heals),
    (Compact, FsOp::Create, ".sst", Emfile, Heals),
    (Compact, FsOp::Create, ".sst", Eio, Fails),
    (Compact, FsOp::Write, ".sst", Enospc, Heals),
    (Compact, FsOp::Write, ".sst", Eio, Fails),
    (Compact, FsOp::Sync, ".sst", Enospc, Heals),
    (Compact, FsOp::Sync, ".sst", Eio, Fails),
    (Compact, FsOp::Read, ".sst", Eio, Fails),
    (Compact, FsOp::SyncDir, "", Enospc, Poisons),
    (Compact, FsOp::SyncDir, "", Emfile, Heals),
    (Compact, FsOp::SyncDir, "", Eio, Poisons),
    (Compact, FsOp::Write, "MANIFEST", Enospc, Heals),
    (Compact, FsOp::Write, "MANIFEST", Eio, Poisons),
    (Compact, FsOp::Sync, "MANIFEST", Eio, Poisons),
];

#[test]
fn failures_lose_nothing_acknowledged_and_heal_or_poison() {
    for &(call, op, pattern, kind, effect) in FAILURES {
        let context = format!("{call:?} with {kind:?} at {op:?} {pattern:?}");
        let fs = SimFs::new(7);
        let (db, oracle) = two_runs_and_a_log(&synced(&fs));
        if call == Compact {
            db.flush().unwrap();
        }
        fs.inject(Fault { op, pattern: pattern.into(), nth: 0, kind });
        let failed = [Op::put("failed", 1, noise(1, 3000)), Op::end("k3", 33)];
        let result = match call {
            Write => db.write(batch(&failed)).map(drop),
            Flush => db.flush(),
            Compact => db.compact(),
        };
        let Err(error) = result else { panic!("{context}: it succeeded") };
        assert_eq!(heals(&error), effect == Heals, "{context}: {error}");
        assert_eq!(db.poisoned().is_some(), effect == Poisons, "{context}: {error}");
        oracle.assert_answers(&db, format_args!("{context}, while it lasts"));
        check_crashes(&fs, &oracle, (call == Write).then_some(&failed), effect, &context);
        fs.clear_faults();
        if effect == Poisons {
            check_poisoned(&db, &oracle, &context);
        } else {
            check_going_on(&fs, db, oracle, &context);
        }
    }
}

/// Whether nothing was written, and a later try may succeed.
fn heals(error: &Error) -> bool {
    matches!(error, Error::DiskFull { .. } | Error::TooManyFiles { .. })
}

/// A crash while the fault stands. The one batch whose write failed may be there only if it was not
/// said that nothing of it was written.
fn check_crashes(
    fs: &SimFs,
    oracle: &Oracle,
    failed: Option<&[Op; 2]>,
    effect: Effect,
    context: &str,
) {
    for survival in SURVIVALS {
        let fs = fs.fork();
        fs.clear_faults();
        fs.crash(survival);
        let context = format!("{context}, a crash that {survival:?} survives");
        let db = Db::open(DIR, options(&fs)).unwrap_or_else(|error| panic!("{context}: {error}"));
        let mut oracle = oracle.clone();
        if let Some(ops) = failed.filter(|_| db.visible_seq() != oracle.last_seq()) {
            assert_eq!(effect, Poisons, "{context}: a batch that was refused is there");
            oracle.apply(ops);
        }
        assert_eq!(db.visible_seq(), oracle.last_seq(), "{context}");
        oracle.assert_answers(&db, &context);
    }
}

/// Reads go on, writes don't, and the reason is told.
fn check_poisoned(db: &Db, oracle: &Oracle, context: &str) {
    let refused = [db.put(b"k", 1, b"v").map(drop), db.flush(), db.compact()];
    for (call, result) in refused.into_iter().enumerate() {
        let poisoned = matches!(result, Err(Error::Poisoned { .. }));
        assert!(poisoned, "{context}: call {call} is {result:?}");
    }
    oracle.assert_answers(db, format_args!("{context}, poisoned"));
}

/// When the fault is gone, the same handle writes, flushes and merges, and a reopen finds it all.
fn check_going_on(fs: &SimFs, db: Db, mut oracle: Oracle, context: &str) {
    let ops = [Op::put("later", 1, noise(2, 500)), Op::erase("k3", 30)];
    db.write(batch(&ops)).unwrap_or_else(|error| panic!("{context}: {error}"));
    oracle.apply(&ops);
    // The batch is acknowledged; a buffered log keeps it over the end of the process only.
    let synced = db.durability() == Durability::Sync;
    for survival in if synced { &SURVIVALS[..] } else { &[Survival::Everything] } {
        let fs = fs.fork();
        fs.crash(*survival);
        oracle.assert_answers(&open(&fs), format_args!("{context}, then a crash"));
    }
    db.compact().unwrap_or_else(|error| panic!("{context}: {error}"));
    oracle.assert_answers(&db, format_args!("{context}, merged"));
    drop(db);
    oracle.assert_answers(&open(fs), format_args!("{context}, reopened"));
    let manifest = inspect::read_current_manifest(fs, Path::new(DIR)).unwrap();
    let live = manifest.state().unwrap().tables;
    assert_eq!(files(fs, ".sst").len(), live.len(), "{context}: {:?}", fs.file_names());
    assert!(live.iter().all(|table| table.rank == live[0].rank), "{context}: one run");
}

/// Of a full disk each write is told anew, and the first one after it succeeds.
#[test]
fn a_full_disk_refuses_writes_until_there_is_space() {
    for durability in [Durability::Sync, Durability::Buffered] {
        let fs = SimFs::new(3);
        let (db, mut oracle) = two_runs_and_a_log(&Options { durability, ..options(&fs) });
        for round in 0..5 {
            fs.inject(Fault { op: FsOp::Write, pattern: String::new(), nth: 0, kind: Enospc });
            for part in 0..3 {
                let error = db.put(b"refused", part, noise(part as u64, 2000).as_slice());
                assert!(matches!(error, Err(Error::DiskFull { .. })), "{error:?}");
                assert_eq!(db.latest(b"refused").unwrap(), None);
            }
            fs.clear_faults();
            let ops = [Op::put("accepted", round, noise(round as u64, 3000))];
            db.write(batch(&ops)).unwrap();
            oracle.apply(&ops);
        }
        let crashed = fs.fork();
        crashed.crash(Survival::Everything);
        oracle.assert_answers(&open(&crashed), format_args!("{durability:?}"));
        assert_eq!(open(&crashed).latest(b"refused").unwrap(), None);
        db.close().unwrap();
        drop(db);
        oracle.assert_answers(&open(&fs), format_args!("{durability:?}, closed"));
    }
}

/// Under a buffered log, writes are acknowledged unsynced; the sync that fails is that of the
/// rotation, and what it was to make durable stays in the memtable, readable.
#[test]
fn a_failed_sync_of_a_buffered_log_poisons_too() {
    let fs = SimFs::new(1);
    let db = open(&fs);
    let oracle = write_all(&db, &small_batches(9)).pop().unwrap();
    fs.inject(Fault { op: FsOp::Sync, pattern: "000001.wal".into(), nth: 1, kind: Eio });
    assert!(matches!(db.flush(), Err(Error::Io { op: "sync", .. })));
    check_poisoned(&db, &oracle, "a failed sync");
    assert!(db.close().is_err(), "a close tells that the log could not be synced");
    drop(db);
    oracle.assert_answers(&open(&fs), "the system still has what it could not write");
}

/// A merge that fails in the background stops merging, and nothing else.
#[test]
fn a_failed_merge_lets_writes_and_reads_go_on() {
    let fs = SimFs::new(1);
    let db = open(&fs);
    let mut oracle = Oracle::default();
    // Each flush creates one table; the fifth one is the first merge's.
    fs.inject(Fault { op: FsOp::Create, pattern: ".sst".into(), nth: 5, kind: Eio });
    for round in 0..12_i64 {
        let ops: Vec<Op> =
            (0..13).map(|i| Op::put([i], round, noise(round as u64, 1000))).collect();
        db.write(batch(&ops)).unwrap();
        oracle.apply(&ops);
        oracle.assert_answers(&db, round);
    }
    assert!(matches!(db.compaction_error(), Some(Error::Io { .. })), "{:?}", db.compaction_error());
    assert!(db.poisoned().is_none());
    drop(db);
    let db = open(&fs);
    oracle.assert_answers(&db, "reopened");
    assert!(db.compaction_error().is_none());
}

/// A manifest that reaches this size is begun anew by the next install, in bytes.
const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// A database whose next flush begins the manifest anew, and what it holds. Keys of 64 KiB make the
/// manifest long in a few dozen flushes.
fn about_to_begin_a_manifest(fs: &SimFs) -> (Db, Oracle) {
    let db = Db::open(DIR, Options { memtable_bytes_max: 1 << 20, ..options(fs) }).unwrap();
    let mut oracle = Oracle::default();
    for round in 0..60_i64 {
        let key = |end: &str| ["k".repeat(65_000).as_str(), end].concat();
        let ops = [Op::put(key("a"), round, "first"), Op::put(key("b"), round, "last")];
        db.write(batch(&ops)).unwrap();
        oracle.apply(&ops);
        if fs.read_file(only(fs, "MANIFEST")).unwrap().len() >= MANIFEST_BYTES_MAX {
            return (db, oracle);
        }
        // So few runs at a time that no write finds a merge to do.
        if round % 3 == 2 { db.compact().unwrap() } else { db.flush().unwrap() }
    }
    panic!("the manifest stays short")
}

#[test]
fn a_long_manifest_is_begun_anew() {
    let fs = SimFs::new(1);
    let (db, oracle) = about_to_begin_a_manifest(&fs);
    let long = only(&fs, "MANIFEST");
    db.flush().unwrap();
    assert_ne!(only(&fs, "MANIFEST"), long);
    oracle.assert_answers(&db, "a new manifest");
    drop(db);
    fs.crash(Survival::Synced);
    oracle.assert_answers(&open(&fs), "reopened");
}

/// The bugs it guards: a directory sync that failed after CURRENT had been renamed was taken for a
/// full disk that left nothing behind, and the table that the new manifest names was removed. And
/// each try on a full disk left a manifest of its own, so that a full disk became fuller.
#[test]
fn a_failure_while_the_manifest_is_begun_anew_loses_nothing() {
    let failures = [
        (FsOp::Write, "MANIFEST", 2, Heals),
        (FsOp::Sync, "MANIFEST", 2, Poisons),
        (FsOp::Sync, "CURRENT", 1, Heals),
        (FsOp::Rename, "CURRENT", 1, Heals),
        // Of the new segment, the new table, the new manifest, and CURRENT: the last two.
        (FsOp::SyncDir, "", 3, Poisons),
        (FsOp::SyncDir, "", 4, Poisons),
    ];
    for (op, pattern, nth, effect) in failures {
        let context = format!("a full disk at {op:?} {pattern:?} {nth}");
        let fs = SimFs::new(1);
        let (db, oracle) = about_to_begin_a_manifest(&fs);
        fs.inject(Fault { op, pattern: pattern.into(), nth, kind: Enospc });
        let error = db.flush().expect_err(&context);
        assert_eq!(heals(&error), effect == Heals, "{context}: {error}");
        oracle.assert_answers(&db, format_args!("{context}, while it lasts"));
        if effect == Heals {
            only(&fs, "MANIFEST");
            assert!(files(&fs, ".tmp").is_empty(), "{context}");
        }
        for survival in SURVIVALS {
            let fs = fs.fork();
            fs.crash(survival);
            let context = format!("{context}, a crash that {survival:?} survives");
            let db = Db::open(DIR, options(&fs));
            let db = db.unwrap_or_else(|error| panic!("{context}: {error}"));
            oracle.assert_answers(&db, context);
        }
        if effect == Poisons {
            check_poisoned(&db, &oracle, &context);
        } else {
            check_going_on(&fs, db, oracle, &context);
        }
    }
}
