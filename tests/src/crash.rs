//! The crash walk: a workload is stopped after and within every call that changes the file system,
//! the machine crashes in one of three ways, and what a reopen finds is held against what was
//! acknowledged.
//!
//! The promise it guards: *acknowledged means durable, and recovery is a prefix*. After any crash the
//! database holds whole batches, in the order of their commits, without a hole, and among them every
//! one that was acknowledged durably; it answers rightly about them; it can be written to, and
//! reopened; and a crash in the middle of its recovery changes nothing of that.
//!
//! `KVTIMEDB_CRASH_SEEDS` raises the number of walks, each with other choices of what survives.
//!
//! The names of bugs of this kind elsewhere: a recovery hole from a race of log rotation and sync
//! (`RocksDB` 10560), a directory that wasn't synced (`RocksDB` 10573), CURRENT renamed after the
//! files that it needs were removed (leveldb 195), a crash during recovery that loses data (sled 851).

use kvtimedb_engine::fs::{SimFs, Survival};
use kvtimedb_engine::{Db, Durability, Options, Result};

use crate::common::setting;
use crate::oracle::{DIR, Op, Oracle, batch, noise, options};

const SURVIVALS: [Survival; 3] = [Survival::Synced, Survival::Everything, Survival::Random];

/// A recovery is crashed too at one of so many crash points, chosen by their number, at this many
/// points of its own.
const RECOVERY_CRASHES_EVERY: u64 = 5;
const RECOVERY_POINTS: u64 = 4;

#[derive(Clone)]
enum Step {
    Write(Vec<Op>),
    Flush,
    Compact,
    Close,
    /// A reopen without a close: the log is replayed.
    Drop,
}

/// So many rounds of every kind of operation: late data, rewrites across tables, batches that rotate
/// the log, flushes. After each round one of the given steps, in turn.
fn workload(rounds: i64, between: &[Step]) -> Vec<Step> {
    let mut steps = Vec::new();
    for (round, then) in (0..rounds).zip(between.iter().cycle()) {
        let at = round * 10;
        steps.extend([
            Step::Write(vec![Op::json("a", at, format!("{{\"round\":{round}}}"))]),
            Step::Write(vec![
                Op::put("a", at + 1, noise(round as u64, 600)),
                Op::put("ab", 5, [round as u8]),
                Op::end("b", at + 3),
                Op::put("", i64::MIN, "least"),
            ]),
            Step::Write(vec![Op::erase("a", at - 10), Op::put("late", -at, "late")]),
            Step::Flush,
            Step::Write(vec![Op::put("ab", 5, "rewritten"), Op::erase("b", at - 7)]),
            Step::Write((0..8).map(|i| Op::put("hot", at + i, noise(i as u64, 700))).collect()),
            // More than is left of the memtable: the log is rotated within the write.
            Step::Write(vec![Op::put("large", at, noise(0, 9000)), Op::end("late", -at)]),
            Step::Write(vec![Op::put("large", at + 1, noise(1, 9000)), Op::erase("late", -at)]),
            then.clone(),
            Step::Write(vec![Op::put("a", i64::MAX, [round as u8])]),
        ]);
    }
    steps
}

/// How far a workload came.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// Batches that were handed to the database.
    tried: usize,
    /// Batches that were acknowledged.
    acknowledged: usize,
    /// Batches that were acknowledged before a flush or close that succeeded.
    flushed: usize,
}

/// Runs the steps until one fails.
fn run(options: &Options, steps: &[Step]) -> Progress {
    let mut progress = Progress::default();
    // Where it failed is in the progress; why is the simulation's doing.
    let _ = run_to_failure(options, steps, &mut progress);
    progress
}

fn run_to_failure(options: &Options, steps: &[Step], progress: &mut Progress) -> Result<()> {
    let mut db = Db::open(DIR, options.clone())?;
    for step in steps {
        match step {
            Step::Write(ops) => {
                progress.tried += 1;
                db.write(batch(ops))?;
                progress.acknowledged += 1;
                continue;
            }
            Step::Flush => db.flush()?,
            Step::Compact => db.compact()?,
            Step::Close => db.close()?,
            Step::Drop => {}
        }
        if !matches!(step, Step::Drop) {
            progress.flushed = progress.acknowledged;
        }
        if matches!(step, Step::Close | Step::Drop) {
            drop(db);
            db = Db::open(DIR, options.clone())?;
        }
    }
    Ok(())
}

/// What the database holds after each number of batches.
fn prefixes(steps: &[Step]) -> Vec<Oracle> {
    let mut oracle = Oracle::default();
    let mut prefixes = vec![oracle.clone()];
    for step in steps {
        if let Step::Write(ops) = step {
            oracle.apply(ops);
            prefixes.push(oracle.clone());
        }
    }
    prefixes
}

/// The walk over one workload.
struct Walk {
    steps: Vec<Step>,
    prefixes: Vec<Oracle>,
    durability: Durability,
    /// Crash points seen.
    points: u64,
}

impl Walk {
    fn workload_options(&self, fs: &SimFs) -> Options {
        Options { durability: self.durability, ..options(fs) }
    }

    /// Visits the crash points from an empty file system to the end of the workload. What a crash
    /// leaves by chance follows from `seed`.
    fn walk(&mut self, seed: u64) {
        let whole = SimFs::new(0);
        let progress = run(&self.workload_options(&whole), &self.steps);
        assert_eq!(progress.acknowledged + 1, self.prefixes.len(), "the workload runs to its end");
        for call in 1..=whole.mutations() {
            for within in [false, true] {
                let fs = SimFs::new(seed << 32 | call);
                if within {
                    fs.stop_within(call);
                } else {
                    fs.stop_after(call);
                }
                let progress = run(&self.workload_options(&fs), &self.steps);
                for survival in SURVIVALS {
                    let stop = if within { "within" } else { "after" };
                    let point = format!("a crash {stop} call {call}, {survival:?} survives");
                    self.crash(&fs.fork(), call, survival, progress, &point);
                }
            }
        }
    }

    fn crash(
        &mut self,
        fs: &SimFs,
        call: u64,
        survival: Survival,
        progress: Progress,
        point: &str,
    ) {
        self.points += 1;
        fs.crash(survival);
        let all_acknowledged =
            self.durability == Durability::Sync || survival == Survival::Everything;
        let least = if all_acknowledged { progress.acknowledged } else { progress.flushed };
        let image = fs.fork();
        let before = fs.mutations();
        let recovered = self.recover(fs, point);
        assert!(
            (least..=progress.tried).contains(&recovered),
            "{point}: {recovered} batches; {least} were durable, {} tried",
            progress.tried
        );
        if call.is_multiple_of(RECOVERY_CRASHES_EVERY) {
            let calls = fs.mutations() - before;
            for part in 0..RECOVERY_POINTS {
                let stop = 1 + (calls * part / RECOVERY_POINTS + call) % calls;
                self.crash_recovery(&image.fork(), before + stop, survival, recovered, point);
            }
        }
        self.go_on(fs, recovered, point);
    }

    /// Opens the database and returns how many batches it holds. It is opened buffered, in both walks:
    /// what a log must hold doesn't depend on how it is gone on with.
    fn recover(&self, fs: &SimFs, point: &str) -> usize {
        let db = Db::open(DIR, options(fs)).unwrap_or_else(|error| panic!("{point}: {error}"));
        let seq = db.visible_seq();
        let whole = self.prefixes.iter().position(|prefix| prefix.last_seq() == seq);
        let recovered =
            whole.unwrap_or_else(|| panic!("{point}: seq {seq} is in the middle of a batch"));
        self.prefixes[recovered].assert_answers(&db, point);
        recovered
    }

    /// A crash during the recovery: the next one finds the same.
    fn crash_recovery(
        &mut self,
        fs: &SimFs,
        stop: u64,
        survival: Survival,
        recovered: usize,
        point: &str,
    ) {
        self.points += 1;
        fs.stop_within(stop);
        // It may come to its end without that call, and then it has done more, not less.
        drop(Db::open(DIR, self.workload_options(fs)));
        fs.crash(survival);
        let point = format!("{point}, and again within call {stop}");
        assert_eq!(self.recover(fs, &point), recovered, "{point}");
    }

    /// The recovered database takes writes, and keeps them.
    fn go_on(&self, fs: &SimFs, recovered: usize, point: &str) {
        let point = format!("{point}, and writes after it");
        let mut oracle = self.prefixes[recovered].clone();
        let db = Db::open(DIR, options(fs)).unwrap_or_else(|error| panic!("{point}: {error}"));
        let ops = [Op::put("a", 7, "after the crash"), Op::erase("hot", 3), Op::end("new", 0)];
        let written = db.write(batch(&ops)).and_then(|_| db.flush());
        written.unwrap_or_else(|error| panic!("{point}: {error}"));
        oracle.apply(&ops);
        drop(db);
        fs.crash(Survival::Synced);
        let db = Db::open(DIR, options(fs)).unwrap_or_else(|error| panic!("{point}: {error}"));
        oracle.assert_answers(&db, &point);
    }
}

fn walk(durability: Durability, steps: Vec<Step>, points_min: u64) {
    let seeds = setting("KVTIMEDB_CRASH_SEEDS", 1);
    let mut walk = Walk { prefixes: prefixes(&steps), steps, durability, points: 0 };
    for seed in 0..seeds {
        walk.walk(seed);
    }
    assert!(walk.points >= points_min * seeds, "only {} crash points", walk.points);
}

/// One round, because each segment of a synced log is a megabyte of zeros.
#[test]
fn a_synced_database_loses_nothing_acknowledged() {
    walk(Durability::Sync, workload(1, &[Step::Drop]), 800);
}

/// Tables of keys of their own, which move; then a change to all of them, late and erased versions
/// included, which rewrites them.
fn workload_of_moves(between: &[Step]) -> Vec<Step> {
    let mut steps = Vec::new();
    let key = |round: u64, name: &str| format!("own/{round}/{name}");
    for (round, then) in (0..4).zip(between.iter().cycle()) {
        let value = |i: u64| noise(round << 8 | i, 700);
        steps.extend([
            Step::Write((0..8).map(|i| Op::put(key(round, "a"), i as i64, value(i))).collect()),
            Step::Write(vec![Op::put(key(round, "b"), 1, [1]), Op::put(key(round, "b"), 2, [2])]),
            Step::Flush,
            then.clone(),
        ]);
    }
    let change = |round| [Op::put(key(round, "a"), -1, "late"), Op::erase(key(round, "b"), 2)];
    steps.push(Step::Write((0..4).flat_map(change).collect()));
    steps.extend([Step::Compact, Step::Write(vec![Op::put("own", 0, "last")])]);
    steps
}

#[test]
fn tables_that_move_are_in_one_run_or_the_other() {
    let fs = SimFs::new(0);
    let db = Db::open(DIR, options(&fs)).unwrap();
    for step in workload_of_moves(&[Step::Flush]) {
        match step {
            Step::Write(ops) => db.write(batch(&ops)).map(drop),
            Step::Compact => db.compact(),
            _ => db.flush(),
        }
        .unwrap();
    }
    assert!(db.metrics().compaction_bytes_moved.get() > 0 && db.metrics().compactions.get() >= 4);
    let steps = workload_of_moves(&[Step::Flush, Step::Drop, Step::Compact, Step::Close]);
    walk(Durability::Buffered, steps, 500);
}

#[test]
fn a_buffered_database_keeps_a_prefix() {
    let steps = workload(6, &[Step::Drop, Step::Compact, Step::Close]);
    walk(Durability::Buffered, steps, 4200);
}

/// The process dies between the append of a merge's edit to the manifest and its sync. The next open
/// reads the edit all the same, from the page cache. It once removed the merge's inputs then, which the
/// edit says nobody needs, before it had made anything durable; where the power failed next, the disk
/// could hold the manifest without the edit, and the directory without the inputs.
#[test]
fn an_edit_that_only_the_page_cache_holds_removes_nothing() {
    let fs = SimFs::new(0);
    let db = Db::open(DIR, options(&fs)).unwrap();
    let mut oracle = Oracle::default();
    for round in 0..2 {
        let ops = [Op::put("a", round, [round as u8]), Op::end("b", round)];
        db.write(batch(&ops)).unwrap();
        oracle.apply(&ops);
        db.flush().unwrap();
    }
    let whole = fs.fork();
    let db_of_whole = Db::open(DIR, options(&whole)).unwrap();
    whole.take_trace();
    let before = whole.mutations();
    db_of_whole.compact().unwrap();
    let is_edit = |call: &String| call.starts_with("write MANIFEST");
    let edit = whole.trace().iter().position(is_edit).expect("a merge that is installed") as u64;

    let killed = fs.fork();
    let db = Db::open(DIR, options(&killed)).unwrap();
    assert_eq!(killed.mutations(), before);
    killed.stop_after(before + edit + 1);
    db.compact().unwrap_err();
    drop(db);
    killed.crash(Survival::Everything);
    let calls = {
        let recovered = killed.fork();
        drop(Db::open(DIR, options(&recovered)).unwrap());
        recovered.mutations() - killed.mutations()
    };
    for call in 1..=calls {
        for seed in 0..40 {
            let fs = killed.fork();
            fs.reseed(seed);
            fs.stop_after(fs.mutations() + call);
            drop(Db::open(DIR, options(&fs)));
            fs.crash(Survival::Random);
            let point = format!("a power failure after call {call} of the recovery, seed {seed}");
            let db = Db::open(DIR, options(&fs)).unwrap_or_else(|e| panic!("{point}: {e}"));
            oracle.assert_answers(&db, point);
        }
    }
}
