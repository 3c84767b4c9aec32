//! Batches whose outcome depends on the state before them: conditions, erases of ranges, rising puts.
//! `model.rs` and the simulator write them one at a time; here they meet, in one group and from many
//! threads.
//!
//! Guards against: a batch that is resolved against a state that lacks what the same group writes before
//! it, or has what was refused; a refused batch that takes its group along; a sync for each batch;
//! conditions that two clients pass at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use fastrand::Rng;
use kvtimedb_engine::fs::{SimFs, Survival};
use kvtimedb_engine::{
    BATCH_BYTES_MAX, Background, BackgroundStep, Committed, Condition, Db, Durability, Error,
    Expect, KEY_BYTES_MAX, Lookup, Options, Result, Timestamp, WriteBatch,
};

use crate::oracle::{DIR, Op, Oracle, batch, options};

const EVER: (Timestamp, Timestamp) = (Timestamp::MIN, Timestamp::MAX);

fn latest_is(key: &[u8], entry: Option<u64>) -> Condition {
    let expect = entry.map_or(Expect::Absent, Expect::Etag);
    Condition { key: key.to_vec(), lookup: Lookup::floor(Timestamp::MAX), expect }
}

fn conditional(conditions: &[Condition], ops: &[Op]) -> WriteBatch {
    let mut batch = batch(ops);
    for condition in conditions {
        batch.require(condition.clone()).unwrap();
    }
    batch
}

/// A database whose commits the test makes.
fn stepped(fs: &SimFs) -> Db {
    let (background, durability) = (Background::Stepped, Durability::Sync);
    Db::open(DIR, Options { background, durability, ..options(fs) }).unwrap()
}

/// What a group of these batches comes to.
fn commit_as_a_group(db: &Db, batches: Vec<WriteBatch>) -> Vec<Result<Committed>> {
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    for batch in batches {
        let outcomes = Arc::clone(&outcomes);
        db.submit(batch, move |outcome| outcomes.lock().unwrap().push(outcome)).unwrap();
    }
    assert!(db.step(BackgroundStep::Commit).unwrap());
    std::mem::take(&mut *outcomes.lock().unwrap())
}

#[test]
fn a_batch_erases_what_it_wrote_before_and_keeps_what_it_writes_after() {
    let db = Db::open(DIR, options(&SimFs::new(1))).unwrap();
    let mut oracle = Oracle::default();
    let batches = [
        vec![Op::put("k", 5, "a"), Op::put("k", 7, "b"), Op::end("k", 9), Op::put("l", 5, "c")],
        vec![
            Op::put("k", 6, "d"),
            Op::put("k", 20, "e"),
            Op::erase_between("k", 6, 10),
            Op::put("k", 6, "f"),
            Op::put("k", 6, "g"),
            Op::erase_between("k", 100, 200),
            Op::rising("k", 3, "h"),
            Op::rising("k", 30, "i"),
            Op::rising("new", -5, "j"),
        ],
    ];
    for ops in &batches {
        assert_eq!(db.write(batch(ops)).unwrap(), oracle.apply(ops));
    }
    let ts =
        |key: &[u8]| oracle.history(key, EVER.0, EVER.1).iter().map(|it| it.ts).collect::<Vec<_>>();
    assert_eq!((ts(b"k"), ts(b"new")), (vec![5, 6, 20, 21, 30], vec![-5]));
    oracle.assert_answers(&db, "after the batches");
    let all = [Op::erase_between("k", EVER.0, EVER.1)];
    assert_eq!(db.write(batch(&all)).unwrap().erased, 5);
    let seq = db.visible_seq();
    assert_eq!(db.write(batch(&all)).unwrap(), Committed { seq, ..Committed::default() });
    oracle.apply(&all);
    oracle.assert_answers(&db, "after the erase of a key");
}

#[test]
fn a_refused_batch_fails_alone_and_leaves_nothing_to_the_next() {
    let db = stepped(&SimFs::new(1));
    db.put(b"end", i64::MAX, b"last").unwrap();
    let syncs = db.metrics().wal_syncs.get();
    let outcomes = commit_as_a_group(
        &db,
        vec![
            conditional(&[latest_is(b"a", None)], &[Op::put("a", 1, "first")]),
            // Not absent any more.
            conditional(&[latest_is(b"a", None)], &[Op::put("b", 1, "refused")]),
            // Has come far when it fails.
            batch(&[
                Op::put("c", 1, "refused"),
                Op::rising("c", 1, "refused"),
                Op::erase_between("a", 0, 5),
                Op::rising("end", 0, "refused"),
            ]),
            conditional(
                &[latest_is(b"b", None), latest_is(b"c", None)],
                &[Op::rising("a", 1, "second")],
            ),
            batch(&[Op::put("d", 1, "plain")]),
        ],
    );
    let assigned =
        [0, 3, 4].map(|number: usize| outcomes[number].as_ref().unwrap().assigned.clone());
    assert_eq!(assigned, [vec![], vec![2], vec![]]);
    assert!(matches!(outcomes[1], Err(Error::ConditionFailed { condition: 0 })), "{outcomes:?}");
    assert!(matches!(outcomes[2], Err(Error::InvalidArgument(_))), "{outcomes:?}");
    assert_eq!(db.metrics().wal_syncs.get() - syncs, 1, "one group, one sync");
    let ops =
        [Op::put("end", i64::MAX, "last"), Op::put("a", 1, "first"), Op::rising("a", 1, "second")];
    Oracle::of(&[&ops[..], &[Op::put("d", 1, "plain")]].concat()).assert_answers(&db, "the group");
}

/// Batches of all kinds in one group are what they would be one after the other.
#[test]
fn a_group_is_its_batches_in_a_row() {
    let mut rng = Rng::with_seed(17);
    let db = stepped(&SimFs::new(17));
    let mut oracle = Oracle::default();
    let keys = ["a", "b", "c"];
    for round in 0..150 {
        let (mut batches, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..rng.usize(1..8) {
            let key = keys[rng.usize(..3)];
            let op = |rng: &mut Rng| match rng.u8(..8) {
                0 => Op::erase_between(keys[rng.usize(..3)], rng.i64(-5..20), rng.i64(20..60)),
                1 => Op::end(keys[rng.usize(..3)], rng.i64(-5..60)),
                2 | 3 => Op::rising(keys[rng.usize(..3)], rng.i64(0..40), [round]),
                _ => Op::put(keys[rng.usize(..3)], rng.i64(-5..60), vec![round; rng.usize(..300)]),
            };
            let ops: Vec<_> = (0..rng.usize(0..6)).map(|_| op(&mut rng)).collect();
            let mut conditions = Vec::new();
            if rng.bool() {
                // Of the state in the midst of the group, or a guess.
                let found = oracle.latest(key.as_bytes()).filter(|_| rng.u8(..4) > 0);
                conditions.push(latest_is(key.as_bytes(), found.map(|entry| entry.etag())));
            }
            batches.push(conditional(&conditions, &ops));
            let holds = conditions.iter().all(|condition| oracle.holds(condition));
            expected.push(holds.then(|| oracle.apply(&ops)));
        }
        let outcomes: Vec<_> =
            commit_as_a_group(&db, batches).into_iter().map(Result::ok).collect();
        assert_eq!(outcomes, expected, "round {round}");
        if round % 20 == 0 {
            db.step(BackgroundStep::Flush).unwrap();
            oracle.assert_answers(&db, format!("round {round}"));
        }
    }
}

#[test]
fn of_many_clients_that_count_together_none_loses_a_count() {
    const CLIENTS: usize = 6;
    const COUNTS: u64 = 60;
    for durability in [Durability::Sync, Durability::Buffered] {
        let background = Background::Threads;
        let db =
            Db::open(DIR, Options { durability, background, ..options(&SimFs::new(3)) }).unwrap();
        let refused = AtomicU64::new(0);
        let count = || {
            let before = db.latest(b"counter").unwrap();
            let sum = before
                .as_ref()
                .map_or(0, |it| u64::from_le_bytes(it.value[..].try_into().unwrap()));
            let ops =
                [Op::rising("counter", 0, (sum + 1).to_le_bytes()), Op::rising("log", 0, [1])];
            db.write(conditional(&[latest_is(b"counter", before.map(|it| it.etag()))], &ops))
        };
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut left = COUNTS;
                    while left > 0 {
                        match count() {
                            Ok(_) => left -= 1,
                            Err(Error::ConditionFailed { .. }) => {
                                refused.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
        });
        let sum = CLIENTS as u64 * COUNTS;
        let last = db.latest(b"counter").unwrap().unwrap();
        assert_eq!((last.ts, last.value), (sum as i64 - 1, sum.to_le_bytes().to_vec()));
        assert_eq!(db.latest(b"log").unwrap().unwrap().ts, sum as i64 - 1);
        assert_eq!(db.visible_seq(), 2 * sum, "{refused:?} were refused");
    }
}

/// The power fails at each call of a commit, and of the flushes that it brings: of the batch there is all
/// or nothing.
#[test]
fn an_erase_of_a_range_survives_a_crash_whole_or_not_at_all() {
    let fs = SimFs::new(5);
    let before: Vec<_> = (0..200).map(|ts| Op::put("k", ts, format!("{ts}"))).collect();
    let ops = [
        Op::put("k", 1000, "x"),
        Op::erase_between("k", 20, Timestamp::MAX),
        Op::rising("k", 0, "last"),
        Op::erase_between("none", EVER.0, EVER.1),
    ];
    let with = |fs: &SimFs| {
        let db = Db::open(DIR, Options { durability: Durability::Sync, ..options(fs) })?;
        let condition = latest_is(b"k", db.latest(b"k")?.map(|entry| entry.etag()));
        let erased = db.write(conditional(&[condition], &ops)).map(|committed| committed.erased);
        db.flush()?;
        erased
    };
    let db = Db::open(DIR, Options { durability: Durability::Sync, ..options(&fs) }).unwrap();
    db.write(batch(&before)).unwrap();
    drop(db);
    let whole = fs.fork();
    assert_eq!(with(&whole).unwrap(), 181);
    let mut oracles = [Oracle::of(&before), Oracle::of(&before)];
    oracles[1].apply(&ops);
    let mut seen = [0, 0];
    for stop in fs.mutations()..whole.mutations() {
        for survival in [Survival::Synced, Survival::Random] {
            let fs = fs.fork();
            fs.reseed(stop);
            fs.stop_within(stop);
            let acknowledged = with(&fs).is_ok();
            fs.crash(survival);
            let db = Db::open(DIR, options(&fs)).unwrap();
            let after = usize::from(db.visible_seq() != oracles[0].last_seq());
            assert!(after == 1 || !acknowledged, "an acknowledged erase is gone, at call {stop}");
            let comparison = oracles[after].compare_every(&db, 40);
            assert!(comparison.is_right(), "crashed at call {stop}: {comparison}");
            seen[after] += 1;
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}

#[test]
fn an_erase_of_more_than_a_batch_holds_says_what_to_do() {
    let options = Options { memtable_bytes_max: 256 << 20, ..options(&SimFs::new(1)) };
    let db = Db::open(DIR, options).unwrap();
    let key = vec![b'k'; KEY_BYTES_MAX];
    let versions = (BATCH_BYTES_MAX / KEY_BYTES_MAX) as i64 + 1;
    for from in [0, versions / 2] {
        let ops: Vec<_> = (from..=from + versions / 2).map(|ts| Op::put(&key, ts, "")).collect();
        db.write(batch(&ops)).unwrap();
    }
    let erase = |from, to| db.write(batch(&[Op::erase_between(&key, from, to)]));
    let refused = erase(EVER.0, EVER.1).unwrap_err();
    assert!(matches!(refused, Error::InvalidArgument(_)), "{refused}");
    assert!(refused.to_string().contains("in several ranges"), "{refused}");
    let erased = [erase(EVER.0, 700).unwrap().erased, erase(700, EVER.1).unwrap().erased];
    assert_eq!((erased[0], db.latest(&key).unwrap()), (701, None));
}

#[test]
fn what_can_be_told_before_the_commit_is_refused_when_it_is_asked_for() {
    let mut batch = WriteBatch::new();
    batch.put(b"k", 1, b"v").unwrap();
    let backwards = batch.erase_between(b"k", 2, 1).unwrap_err();
    assert!(backwards.to_string().contains("ends before it begins"), "{backwards}");
    let long = vec![0; KEY_BYTES_MAX + 1];
    assert!(batch.put_rising(&long, 0, b"v").is_err());
    assert!(batch.erase_between(&long, 0, 1).is_err());
    assert!(batch.require(latest_is(&long, None)).is_err());
    let db = Db::open(DIR, options(&SimFs::new(1))).unwrap();
    // What was refused left nothing behind.
    assert_eq!(db.write(batch).unwrap(), Committed { seq: 1, ..Committed::default() });
    assert_eq!(db.write(conditional(&[latest_is(b"none", None)], &[])).unwrap().seq, 1);
    let refused = db.write(conditional(&[latest_is(b"k", None)], &[])).unwrap_err();
    assert!(matches!(refused, Error::ConditionFailed { condition: 0 }), "{refused}");
}

/// Each erase was passed by a search through all sources: a key of a million versions that was erased took
/// seconds to look up.
#[test]
fn a_key_that_was_erased_is_not_searched_once_for_each_of_its_versions() {
    let db = Db::open(DIR, options(&SimFs::new(3))).unwrap();
    let key = b"k";
    for ts in 0..500 {
        db.put(key, ts, b"v").unwrap();
    }
    db.flush().unwrap();
    let mut batch = WriteBatch::new();
    batch.erase_between(key, 1, 499).unwrap();
    assert_eq!(db.write(batch).unwrap().erased, 499);
    let explained = db.explain(key, Timestamp::MAX).unwrap();
    assert_eq!(explained.answer.map(|entry| entry.ts), Some(0));
    assert!(explained.steps.len() < 50, "{} steps", explained.steps.len());
    let mut rest = WriteBatch::new();
    rest.erase_between(key, Timestamp::MIN, 0).unwrap();
    rest.put_rising(key, -7, b"v").unwrap();
    assert_eq!(db.write(rest).unwrap().assigned, [-7]);
    db.compact().unwrap();
    assert_eq!(db.floor(key, Timestamp::MAX).unwrap().map(|entry| entry.ts), Some(-7));
}
