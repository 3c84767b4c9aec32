//! The horizon: what it refuses, what it keeps, and that space comes back. Each trap that a store with
//! retention has fallen into, here or elsewhere, has its test.

mod copies;
mod model;

use std::path::Path;

use kvtimedb_engine::fs::{Fault, FaultKind, FsOp, SimFs, Survival};
use kvtimedb_engine::inspect::{TableMeta, read_current_manifest};
use kvtimedb_engine::{Background, BackgroundStep, Db, Error, Options, Order, Timestamp};

use crate::oracle::{self, DIR, Op, Oracle, batch, noise};

/// Nothing is done in the background but what a test asks for.
fn stepped(fs: &SimFs) -> Options {
    let memtable_bytes_max = 1 << 20;
    Options { background: Background::Stepped, memtable_bytes_max, ..oracle::options(fs) }
}

fn open(fs: &SimFs) -> Db {
    Db::open(DIR, stepped(fs)).unwrap()
}

fn write(db: &Db, ops: &[Op]) {
    db.write(batch(ops)).unwrap();
}

/// The same as one run.
fn write_run(db: &Db, ops: &[Op]) {
    write(db, ops);
    db.flush().unwrap();
}

fn tables(fs: &SimFs) -> Vec<TableMeta> {
    read_current_manifest(fs, Path::new(DIR)).unwrap().state().unwrap().tables
}

fn records(fs: &SimFs) -> u64 {
    tables(fs).iter().map(|table| table.properties.records).sum()
}

/// Takes steps of background merges until there is none; tells how many there were.
fn merge_on(db: &Db, step: BackgroundStep) -> usize {
    const STEPS_MAX: usize = 50;
    let steps = (0..STEPS_MAX).take_while(|_| db.step(step).unwrap()).count();
    assert!(steps < STEPS_MAX, "merges without end");
    steps
}

#[track_caller]
fn assert_right(oracle: &Oracle, db: &Db) {
    let comparison = oracle.compare_every(db, 7);
    assert!(comparison.is_right(), "{comparison}");
}

fn ts_at(db: &Db, key: &str, at: Timestamp) -> Option<Timestamp> {
    db.floor(key.as_bytes(), at).unwrap().map(|entry| entry.ts)
}

fn versions(key: &str, ts: impl IntoIterator<Item = Timestamp>) -> Vec<Op> {
    ts.into_iter().map(|ts| Op::put(key, ts, noise(ts as u64, 40))).collect()
}

/// `RocksDB` #9106, #9116: the newest version before the bound went with those before it.
#[test]
fn the_newest_at_or_before_the_horizon_stays() {
    let fs = SimFs::new(1);
    let db = open(&fs);
    write_run(&db, &[versions("a", 1..=100), versions("b", [7]), versions("c", [90])].concat());
    db.set_horizon(50).unwrap();
    db.compact().unwrap();
    assert_eq!(records(&fs), 51 + 1 + 1);
    let check = |db: &Db| {
        for at in 50..=100 {
            assert_eq!(ts_at(db, "a", at), Some(at));
        }
        let others = (ts_at(db, "b", 50), ts_at(db, "c", 89), ts_at(db, "c", 90));
        assert_eq!(others, (Some(7), None, Some(90)));
        assert_eq!(db.horizon(), Some(50));
        for at in [49, 7, Timestamp::MIN] {
            let error = db.floor(b"a", at).unwrap_err();
            assert!(
                matches!(error, Error::BelowHorizon { ts, horizon: 50 } if ts == at),
                "{error}"
            );
        }
        let all = db.history(b"a", Timestamp::MIN, 60, Order::Ascending).unwrap();
        assert_eq!(oracle::versions(all).unwrap().len(), 11, "from the horizon on");
    };
    check(&db);
    drop(db);
    check(&open(&fs));
}

/// A newer source holds an erase of the base. What was before the base is what a read shows then.
#[test]
fn what_an_erase_in_a_newer_source_uncovers_is_still_there() {
    for erased_in_table in [false, true] {
        let fs = SimFs::new(1);
        let db = open(&fs);
        write_run(&db, &[versions("a", [1, 2]), versions("b", 1..=40)].concat());
        write(&db, &[Op::erase("a", 2)]);
        if erased_in_table {
            db.flush().unwrap();
        }
        db.set_horizon(100).unwrap();
        assert_eq!(merge_on(&db, BackgroundStep::Compact), 1);
        assert_eq!(ts_at(&db, "a", 100), Some(1), "erased in a table: {erased_in_table}");
        db.compact().unwrap();
        assert_eq!(ts_at(&db, "a", 100), Some(1));
        assert_eq!(records(&fs), 2);
    }
}

/// A late put, which a newer source holds, is before an end that a merge could think needless.
#[test]
fn an_end_stays_while_a_late_put_before_it_is_anywhere() {
    for put_in_table in [false, true] {
        let fs = SimFs::new(1);
        let db = open(&fs);
        write_run(
            &db,
            &[versions("a", [8]), vec![Op::end("a", 9)], versions("b", 1..=40)].concat(),
        );
        write(&db, &versions("a", [3]));
        if put_in_table {
            db.flush().unwrap();
        }
        db.set_horizon(100).unwrap();
        assert_eq!(merge_on(&db, BackgroundStep::Compact), 1);
        assert_eq!(ts_at(&db, "a", 100), None, "put in a table: {put_in_table}");
        db.compact().unwrap();
        assert_eq!(ts_at(&db, "a", 100), None);
        assert_eq!(records(&fs), 1, "of `a` nothing is left");
    }
}

/// An end hides what an older source holds at its very timestamp.
#[test]
fn an_end_stays_while_an_older_source_has_a_value_at_its_timestamp() {
    let fs = SimFs::new(1);
    let db = open(&fs);
    // Too large to be merged with what is newer.
    write_run(&db, &[versions("a", [9]), vec![Op::put("z", 1, noise(1, 60_000))]].concat());
    write_run(&db, &[vec![Op::end("a", 9)], versions("b", 1..=40)].concat());
    db.set_horizon(100).unwrap();
    assert_eq!(merge_on(&db, BackgroundStep::Compact), 1);
    assert_eq!(ts_at(&db, "a", 100), None);
}

/// `ScyllaDB` #6928: a few late records kept whole files from expiring.
#[test]
fn late_data_blocks_the_expiry_of_no_other_key() {
    let fs = SimFs::new(1);
    let db = open(&fs);
    let keys = || (0..60).map(|i| format!("key{i:02}"));
    let old = keys().flat_map(|key| versions(&key, (0..20).map(|i| i * 10)));
    let ended = keys().map(|key| Op::end(format!("{key}/gone"), 100));
    write_run(&db, &old.chain(ended).collect::<Vec<_>>());
    let before = records(&fs);
    let new = keys().flat_map(|key| versions(&key, (0..4).map(|i| 10_000 + i)));
    let late =
        [Op::put("key07", 3, "late"), Op::erase("key08", 190), Op::put("key09/gone", 5, "late")];
    write_run(&db, &new.chain(late).collect::<Vec<_>>());
    let newer = records(&fs) - before;
    db.set_horizon(5000).unwrap();
    merge_on(&db, BackgroundStep::Compact);
    // A base each, one more where the base is erased, and the end that hides a late put.
    assert_eq!(records(&fs) - newer, 60 + 1 + 1, "of {before} records");
    assert_eq!(ts_at(&db, "key08", 5000), Some(180));
    assert_eq!(ts_at(&db, "key09/gone", 5000), None);
}

/// `RocksDB` #14228: files were marked for a merge that could drop nothing of them, again and again.
#[test]
fn a_merge_for_the_sake_of_garbage_is_never_done_in_vain_twice() {
    let fs = SimFs::new(1);
    let db = open(&fs);
    let keys = || (0..100).map(|i| format!("key{i:02}"));
    write_run(&db, &keys().flat_map(|key| versions(&key, [1, 2])).collect::<Vec<_>>());
    // Every base is erased above: nothing may be dropped before the two are merged.
    write_run(&db, &keys().map(|key| Op::erase(key, 2)).collect::<Vec<_>>());
    db.set_horizon(10).unwrap();
    let written = |db: &Db| db.metrics().compactions.get();
    merge_on(&db, BackgroundStep::Compact);
    assert!(written(&db) <= 1, "{} merges", written(&db));
    assert_eq!(ts_at(&db, "key42", 10), Some(1));
    for horizon in 11..30 {
        let before = written(&db);
        db.set_horizon(horizon).unwrap();
        merge_on(&db, BackgroundStep::Compact);
        assert_eq!(written(&db), before, "nothing has become garbage");
    }
    db.compact().unwrap();
    assert_eq!(records(&fs), 100);
    let before = written(&db);
    db.compact().unwrap();
    assert_eq!(written(&db), before, "nor is there anything left to do on demand");
}

/// Badger #1995 and others: space must come back by itself.
#[test]
fn space_comes_back_without_a_call() {
    for step in [BackgroundStep::Compact, BackgroundStep::CompactIdle] {
        let fs = SimFs::new(1);
        let db = open(&fs);
        for round in 0..3 {
            let ops: Vec<Op> = (0..30)
                .flat_map(|i| versions(&format!("key{i:02}"), (0..20).map(|j| round * 20 + j)))
                .collect();
            write_run(&db, &ops);
        }
        db.compact().unwrap();
        let bytes = |fs: &SimFs| tables(fs).iter().map(|table| table.file_bytes).sum::<u64>();
        let before = bytes(&fs);
        db.set_horizon(3).unwrap();
        assert_eq!(merge_on(&db, step), 0, "a little garbage is left for the next merge");
        for horizon in [30, 59] {
            db.set_horizon(horizon).unwrap();
            assert_eq!(merge_on(&db, step), 1);
        }
        assert_eq!(records(&fs), 30);
        assert!(bytes(&fs) * 10 < before, "{} of {before} bytes", bytes(&fs));
        // Of each a base, and then there is none: keys that have ended leave nothing at all.
        let ends: Vec<Op> = (0..30).map(|i| Op::end(format!("key{i:02}"), 70)).collect();
        write_run(&db, &ends);
        db.set_horizon(71).unwrap();
        db.compact().unwrap();
        assert!(tables(&fs).is_empty());
    }
}

#[test]
fn a_snapshot_keeps_the_horizon_that_it_was_made_under() {
    let fs = SimFs::new(1);
    let db = open(&fs);
    write_run(&db, &versions("a", 1..=20));
    let before = db.snapshot().unwrap();
    db.set_horizon(10).unwrap();
    db.compact().unwrap();
    assert_eq!(records(&fs), 11);
    assert_eq!(before.horizon(), None);
    assert_eq!(before.floor(b"a", 5).unwrap().unwrap().ts, 5);
    let after = db.snapshot().unwrap();
    assert_eq!(after.horizon(), Some(10));
    assert!(matches!(after.floor(b"a", 9), Err(Error::BelowHorizon { ts: 9, horizon: 10 })));
}

#[test]
fn the_horizon_only_goes_up_and_outlives_a_crash() {
    let fs = SimFs::new(1);
    let db = open(&fs);
    write(&db, &versions("a", 1..=20));
    for (asked, expected) in [(10, 10), (9, 10), (10, 10), (Timestamp::MIN, 10), (11, 11)] {
        db.set_horizon(asked).unwrap();
        assert_eq!(db.horizon(), Some(expected));
    }
    drop(db);
    fs.crash(Survival::Synced);
    let db = open(&fs);
    assert_eq!(db.horizon(), Some(11));
    // The log is replayed, whatever is in it: it was written before.
    write(&db, &versions("a", [30]));
    db.close().unwrap();
    assert_eq!(open(&fs).horizon(), Some(11));
    assert!(matches!(db.set_horizon(12), Err(Error::Closed)));
}

/// Where it is unknown whether the horizon is on disk, nothing may go by it, nor against it.
#[test]
fn a_horizon_that_may_be_lost_poisons() {
    let fs = SimFs::new(1);
    let db = open(&fs);
    write_run(&db, &versions("a", 1..=20));
    let pattern = "MANIFEST".to_owned();
    fs.inject(Fault { op: FsOp::Write, pattern: pattern.clone(), nth: 1, kind: FaultKind::Enospc });
    assert!(matches!(db.set_horizon(10), Err(Error::DiskFull { .. })));
    assert_eq!((db.horizon(), db.poisoned().is_some()), (None, false), "a full disk heals");
    fs.clear_faults();
    fs.inject(Fault { op: FsOp::Sync, pattern, nth: 1, kind: FaultKind::Eio });
    assert!(matches!(db.set_horizon(10), Err(Error::Io { .. })));
    assert_eq!((db.horizon(), ts_at(&db, "a", 5)), (None, Some(5)));
    assert!(matches!(db.set_horizon(10), Err(Error::Poisoned { .. })));
    assert!(matches!(db.put(b"a", 21, b"x"), Err(Error::Poisoned { .. })));
}

/// All questions, with chunks of many keys and of one, and with a horizon in the midst of them.
#[test]
fn every_question_at_or_after_the_horizon_is_answered_as_before() {
    let fs = SimFs::new(1);
    let db = open(&fs);
    let mut oracle = Oracle::default();
    let mut write = |ops: &[Op]| {
        write_run(&db, ops);
        oracle.apply(ops);
    };
    write(&versions("long", 0..2000));
    write(
        &(0..300).map(|i| Op::json(format!("key{:03}", i / 3), 700 + i, "1.5")).collect::<Vec<_>>(),
    );
    write(&[versions("long", (0..90).map(|i| i * 22 + 1)), vec![Op::end("key007", 725)]].concat());
    for horizon in [1, 700, 725, 726, 1999, 5000] {
        db.set_horizon(horizon).unwrap();
        assert_right(&oracle, &db);
        merge_on(&db, BackgroundStep::Compact);
        assert_right(&oracle, &db);
        db.compact().unwrap();
        assert_right(&oracle, &db);
    }
    assert_eq!(records(&fs), 1 + 99, "a base each");
}
