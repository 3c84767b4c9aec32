//! Reopening: after a crash, after a failure, and with files that are not as they were left.
//!
//! What every test here guards: a reopen finds what was acknowledged, as whole batches in the order of
//! their commits, or it says which file keeps it from doing so.

mod failures;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use kvtimedb_engine::fs::{Fault, FaultKind, FsOp, SimFs, Survival};
use kvtimedb_engine::{Db, Durability, Error, KeyRange, Options, Order, WriteBatch};

use crate::oracle::{DIR, Op, Oracle, batch, noise, options, state, versions};

const SURVIVALS: [Survival; 3] = [Survival::Synced, Survival::Everything, Survival::Random];

fn open(fs: &SimFs) -> Db {
    Db::open(DIR, options(fs)).unwrap()
}

fn refusal(fs: &SimFs) -> Error {
    Db::open(DIR, options(fs)).expect_err("a database that can't be opened")
}

fn synced(fs: &SimFs) -> Options {
    Options { durability: Durability::Sync, ..options(fs) }
}

/// The files with this in their name, in order.
fn files(fs: &SimFs, part: &str) -> Vec<PathBuf> {
    let name =
        |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().contains(part));
    fs.file_names().into_iter().filter(name).collect()
}

fn only(fs: &SimFs, part: &str) -> PathBuf {
    let mut files = files(fs, part);
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Writes each of the batches, and returns the oracle after each number of them.
fn write_all(db: &Db, batches: &[Vec<Op>]) -> Vec<Oracle> {
    let mut oracles = vec![Oracle::default()];
    for ops in batches {
        db.write(batch(ops)).unwrap();
        let mut oracle = oracles[oracles.len() - 1].clone();
        oracle.apply(ops);
        oracles.push(oracle);
    }
    oracles
}

/// Small batches of one to three operations.
fn small_batches(count: i64) -> Vec<Vec<Op>> {
    let op = |i: i64, part: i64| match (i + part) % 4 {
        0 => Op::end("k", i),
        1 => Op::erase("k", i - 3),
        _ => Op::put(format!("k{part}"), i, noise(i as u64, 5 + 20 * (i as usize % 3))),
    };
    (0..count).map(|i| (0..=i % 3).map(|part| op(i, part)).collect()).collect()
}

/// A database of two runs, with some writes in the log, not closed; and what it holds.
fn two_runs_and_a_log(options: &Options) -> (Db, Oracle) {
    let db = Db::open(DIR, options.clone()).unwrap();
    let mut oracle = Oracle::default();
    for round in 0..3 {
        let ops: Vec<Op> = (0..20)
            .map(|i| Op::put(format!("k{}", i % 7), i * 10 + round, noise(i as u64, 100)))
            .chain([Op::end("k1", 55 + round), Op::erase("k2", 20)])
            .collect();
        db.write(batch(&ops)).unwrap();
        oracle.apply(&ops);
        if round < 2 {
            db.flush().unwrap();
        }
    }
    (db, oracle)
}

// The log.

/// The last segment may end anywhere: a crash of the machine leaves any part of what was not synced.
#[test]
fn a_log_cut_at_any_byte_holds_a_prefix() {
    for durability in [Durability::Sync, Durability::Buffered] {
        let fs = SimFs::new(1);
        let db = Db::open(DIR, Options { durability, ..options(&fs) }).unwrap();
        let prefixes = write_all(&db, &small_batches(12));
        drop(db);
        let wal = only(&fs, ".wal");
        let bytes = fs.read_file(&wal).unwrap();
        // The last record may itself end in zeros.
        let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1 + 16;
        let end = end.min(bytes.len());
        let mut seen = Vec::new();
        for len in 0..=end {
            let fs = fs.fork();
            fs.truncate(&wal, len as u64);
            match Db::open(DIR, options(&fs)) {
                Ok(db) => {
                    let seq = db.visible_seq();
                    let batches = prefixes.iter().position(|prefix| prefix.last_seq() == seq);
                    let batches = batches.unwrap_or_else(|| panic!("{len}: seq {seq}"));
                    prefixes[batches].assert_answers(&db, len);
                    seen.push(batches);
                }
                // The header was durable before the segment was used.
                Err(error) => {
                    assert!(seen.is_empty(), "{len}: {error}");
                    assert!(error.to_string().contains(&name(&wal)), "{error}");
                }
            }
        }
        assert!(seen.is_sorted(), "{seen:?}");
        seen.dedup();
        assert_eq!(seen, (0..prefixes.len()).collect::<Vec<_>>(), "{durability:?}");
    }
}

#[test]
fn a_log_longer_than_a_memtable_is_recovered_into_several_tables() {
    let fs = SimFs::new(1);
    let large = Options { memtable_bytes_max: 1 << 20, ..options(&fs) };
    let db = Db::open(DIR, large).unwrap();
    let batches: Vec<Vec<Op>> = (0..40_i64)
        .map(|i| (0..10).map(|k| Op::put([k], i, noise(i as u64, 300))).collect())
        .chain([vec![Op::put("huge", 1, noise(1, 40_000))]])
        .collect();
    let oracle = write_all(&db, &batches).pop().unwrap();
    assert_eq!(db.metrics().flushes.get(), 0);
    drop(db);
    let db = open(&fs);
    oracle.assert_answers(&db, "after the replay");
    assert!(files(&fs, ".sst").len() > 4, "{:?}", fs.file_names());
}

#[test]
fn a_reopen_of_a_reopen_finds_the_same_and_leaves_no_files_behind() {
    let fs = SimFs::new(1);
    let (db, oracle) = two_runs_and_a_log(&options(&fs));
    drop(db);
    for close in [false, true, false, false, true, true, false] {
        let db = open(&fs);
        oracle.assert_answers(&db, "reopened");
        assert_eq!(db.visible_seq(), oracle.last_seq());
        if close {
            db.close().unwrap();
        }
        drop(db);
        assert_eq!(files(&fs, ".sst").len(), 3, "{:?}", fs.file_names());
        assert_eq!(fs.file_names().len(), 3 + "CURRENT LOCK MANIFEST wal".split(' ').count());
    }
}

/// Sequence numbers go on after a reopen, or recency would turn round.
#[test]
fn sequence_numbers_go_on() {
    let fs = SimFs::new(1);
    for seq in 1..6 {
        let db = open(&fs);
        assert_eq!(db.put(b"k", 1, &[seq as u8]).unwrap(), seq);
        if seq % 2 == 0 {
            db.close().unwrap();
        }
        drop(db);
        assert_eq!(open(&fs).latest(b"k").unwrap().unwrap().value, [seq as u8]);
    }
}

// Files that are not as they were left. `corruption.rs` damages each byte; here are the messages.

#[test]
fn a_missing_or_empty_file_is_named() {
    let fs = SimFs::new(1);
    drop(two_runs_and_a_log(&options(&fs)));
    for path in fs.file_names().into_iter().filter(|path| !path.ends_with("LOCK")) {
        let (missing, empty) = (fs.fork(), fs.fork());
        missing.remove_file(&path);
        empty.truncate(&path, 0);
        for (how, fs) in [("missing", missing), ("empty", empty)] {
            let error = refusal(&fs).to_string();
            assert!(error.contains(&name(&path)), "{how}: {error}");
        }
    }
}

#[test]
fn the_errors_of_a_missing_file_say_what_is_wrong() {
    let fs = SimFs::new(1);
    drop(two_runs_and_a_log(&options(&fs)));
    let without = |part| {
        let fs = fs.fork();
        fs.remove_file(&files(&fs, part)[0]);
        refusal(&fs).to_string()
    };
    assert!(without("CURRENT").contains("CURRENT at offset 0: expected it to name the manifest"));
    assert!(without(".wal").contains("a WAL segment is missing: the MANIFEST needs it"));
    assert!(without("MANIFEST").contains("the file is missing: CURRENT names it"));
    assert!(without(".sst").contains("the file is missing: the manifest names it"));
}

/// A lost CURRENT is not the sign of a new database, also where all data is still in the log.
#[test]
fn without_current_nothing_is_begun_over_data() {
    let fs = SimFs::new(1);
    let db = open(&fs);
    db.put(b"k", 1, b"v").unwrap();
    drop(db);
    let current = fs.read_file("/db/CURRENT").unwrap();
    fs.remove_file("/db/CURRENT");
    let before = fs.file_names();
    for _ in 0..2 {
        assert!(matches!(refusal(&fs), Error::Corruption { .. }));
    }
    assert_eq!(fs.file_names(), before, "a refused open changes nothing");
    fs.put_file("/db/CURRENT", current);
    assert_eq!(open(&fs).latest(b"k").unwrap().unwrap().value, b"v");
}

#[test]
fn strangers_are_left_alone_and_orphans_are_removed() {
    let fs = SimFs::new(1);
    let (db, oracle) = two_runs_and_a_log(&options(&fs));
    drop(db);
    let orphans = ["000900.sst", "000901.wal", "MANIFEST-000902", "CURRENT.tmp"];
    let strangers = ["notes.txt", "1.sst", "x.sst", "000001.sst.bak", "lost+found/file"];
    for name in orphans.into_iter().chain(strangers) {
        // A segment is empty until the one before it is sealed.
        let garbage = if name == "000901.wal" { Vec::new() } else { noise(1, 100) };
        fs.put_file(Path::new(DIR).join(name), garbage);
    }
    let db = open(&fs);
    oracle.assert_answers(&db, "with strangers");
    db.put(b"new", 1, b"v").unwrap();
    db.flush().unwrap();
    let there: Vec<PathBuf> = fs.file_names();
    for name in orphans {
        assert!(!there.contains(&Path::new(DIR).join(name)), "{name} is still there");
    }
    for name in strangers {
        assert!(there.contains(&Path::new(DIR).join(name)), "{name} is gone");
    }
    let newest = files(&fs, ".sst").pop().unwrap();
    assert!(name(&newest).as_str() > "000902.sst", "{newest:?} has a number that was taken");
}

/// A manifest that was left behind is not mistaken for the live one.
#[test]
fn an_old_manifest_beside_the_live_one_is_removed() {
    let fs = SimFs::new(1);
    drop(two_runs_and_a_log(&options(&fs)));
    let old = only(&fs, "MANIFEST");
    let bytes = fs.read_file(&old).unwrap();
    let db = open(&fs);
    db.compact().unwrap();
    drop(db);
    fs.put_file(&old, bytes);
    drop(open(&fs));
    assert_ne!(only(&fs, "MANIFEST"), old);
}

#[test]
fn a_second_open_is_told_who_holds_the_directory() {
    let fs = SimFs::new(1);
    let db = open(&fs);
    let Error::Locked { dir, holder } = refusal(&fs) else { panic!("not locked") };
    assert_eq!((dir.to_str(), holder), (Some(DIR), format!("process {}", std::process::id())));
    // A refused open must not take the lock of the first one away.
    assert!(matches!(refusal(&fs), Error::Locked { .. }));
    db.put(b"k", 1, b"v").unwrap();
    db.close().unwrap();
    let second = open(&fs);
    drop(db);
    assert!(matches!(refusal(&fs), Error::Locked { .. }), "a closed handle holds no lock to drop");
    drop(second);
    drop(open(&fs));
}

#[test]
fn an_open_that_fails_gives_the_lock_back() {
    let fs = SimFs::new(1);
    drop(two_runs_and_a_log(&options(&fs)));
    let fault = Fault { op: FsOp::Create, pattern: ".wal".into(), nth: 1, kind: FaultKind::Eio };
    fs.inject(fault);
    assert!(matches!(refusal(&fs), Error::Io { op: "create", .. }));
    drop(open(&fs));
}

#[test]
fn after_a_close_every_call_is_refused() {
    let fs = SimFs::new(1);
    let (db, oracle) = two_runs_and_a_log(&options(&fs));
    let history = db.history(b"k1", i64::MIN, i64::MAX, Order::Ascending).unwrap();
    let scan = db.scan(KeyRange::all(), i64::MAX, Order::Ascending).unwrap();
    db.close().unwrap();
    db.close().unwrap();
    let mut one = WriteBatch::new();
    one.put(b"k", 1, b"v").unwrap();
    let refused = [
        db.put(b"k", 1, b"v").map(drop),
        db.write(one.clone()).map(drop),
        db.submit(one, |_| panic!("a refused batch is not committed")),
        db.floor(b"k", 1).map(drop),
        db.exact(b"k", 1).map(drop),
        db.latest(b"k").map(drop),
        db.history(b"k", 0, 1, Order::Ascending).map(drop),
        db.scan(KeyRange::all(), 1, Order::Ascending).map(drop),
        db.asof(&[(b"k", 1)]).map(drop),
        db.flush(),
        db.compact(),
    ];
    for (call, result) in refused.into_iter().enumerate() {
        assert!(matches!(result, Err(Error::Closed)), "call {call}: {result:?}");
    }
    let scanned = state(scan).unwrap();
    assert_eq!(scanned, oracle.scan(i64::MAX), "a scan outlives its handle");
    let shown = versions(history).unwrap();
    assert_eq!(shown, oracle.history(b"k1", i64::MIN, i64::MAX), "a history outlives its handle");
    drop(db);
    oracle.assert_answers(&open(&fs), "after a close");
}

/// A close flushes, so that the next open has no log to replay.
#[test]
fn a_close_leaves_nothing_to_replay() {
    let fs = SimFs::new(1);
    let (db, oracle) = two_runs_and_a_log(&options(&fs));
    db.close().unwrap();
    drop(db);
    fs.crash(Survival::Synced);
    let tables = files(&fs, ".sst").len();
    let db = open(&fs);
    oracle.assert_answers(&db, "after a close");
    assert_eq!(files(&fs, ".sst").len(), tables);
}

// The order of calls.

/// The calls of creating, putting, flushing, merging, closing and reopening, in their order: no name
/// is relied on before its directory is synced, no file is removed before what stands for it is
/// durable. `testdata/trace.txt` has them to be read.
#[test]
fn the_order_of_syncs_and_renames_is_pinned() {
    let fs = SimFs::new(1);
    let mut found = String::new();
    let mut step = |name: &str| {
        writeln!(found, "{name}").unwrap();
        for call in fs.take_trace() {
            writeln!(found, "  {}", without_lengths(&call)).unwrap();
        }
    };
    let db = Db::open(DIR, synced(&fs)).unwrap();
    step("open a new database");
    db.put(b"k", 1, b"v").unwrap();
    step("put");
    db.flush().unwrap();
    step("flush");
    db.put(b"k", 2, b"w").unwrap();
    db.flush().unwrap();
    fs.take_trace();
    db.compact().unwrap();
    step("compact");
    db.put(b"k", 3, b"x").unwrap();
    fs.take_trace();
    db.close().unwrap();
    drop(db);
    step("close, with one put to flush");
    let db = Db::open(DIR, synced(&fs)).unwrap();
    step("open after a close");
    db.put(b"k", 4, b"y").unwrap();
    drop(db);
    fs.take_trace();
    drop(Db::open(DIR, synced(&fs)).unwrap());
    step("open with one put to replay");
    let expected = include_str!("../testdata/trace.txt").lines();
    let expected: Vec<&str> =
        expected.filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert_eq!(found.lines().collect::<Vec<_>>(), expected, "it was:\n{found}");
}

/// `write 000001.wal 52+100` without its offset and length, which the formats decide.
fn without_lengths(call: &str) -> String {
    call.split(' ')
        .take(if call.starts_with("write") { 2 } else { 3 })
        .collect::<Vec<_>>()
        .join(" ")
}
