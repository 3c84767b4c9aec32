//! One view for one question: a scan or an asof of many keys shows the database after one of its
//! batches, whole, whatever is written, flushed and merged meanwhile, and however long the answer is
//! read for. That batch is not before the last one that was acknowledged when the question was asked,
//! and not after the last one that readers saw once it had been.
//!
//! Guards against: a view put together of two moments (memtables of one, `visible_seq` of another), a
//! memtable or run that is let go under a scan, records above `visible` that a flush shows, and fences
//! that leave out a source for what came into it just before.
//!
//! `KVTIMEDB_VIEWS_ROUNDS` raises the number of rounds.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use kvtimedb_engine::fs::SimFs;
use kvtimedb_engine::{
    Background, Db, Durability, Entry, KeyRange, Options, Order, Result, SeqNo, Timestamp,
    ValueType,
};

use crate::common::setting;
use crate::oracle::{Change, DIR, Op, Oracle, batch, noise, options, state};

const WRITERS: usize = 3;
const READERS: usize = 2;
const BATCHES_A_WRITER: usize = 1000;

/// More than a scan decodes at once.
const KEYS: u64 = 30;

/// So few that values are replaced, ended and erased all the time.
const TIMESTAMPS: Timestamp = 5;

/// A batch, and the sequence number of its last operation.
type Committed = (SeqNo, Vec<Op>);

/// What a question showed: the floors of all keys at one timestamp.
struct Answer {
    at: Timestamp,
    /// The last operations that were visible before and after it was asked.
    visible: (SeqNo, SeqNo),
    floors: Vec<(Vec<u8>, Entry)>,
    /// Whether others wrote while it was read.
    outdated: bool,
}

fn key(number: u64) -> Vec<u8> {
    format!("key-{number:02}").into_bytes()
}

fn some_ops(rng: &mut Rng) -> Vec<Op> {
    let some_op = |rng: &mut Rng| {
        let change = match rng.u8(..10) {
            0 => Change::End,
            1..3 => Change::Erase,
            _ => Change::Put(ValueType::Octets, noise(rng.u64(..), rng.usize(..120))),
        };
        Op { key: key(rng.u64(..KEYS)), ts: rng.i64(0..TIMESTAMPS), change }
    };
    (0..rng.usize(1..6)).map(|_| some_op(rng)).collect()
}

/// What the threads of a round share.
struct Round {
    db: Db,
    acknowledged: AtomicU64,
    over: AtomicBool,
}

impl Round {
    fn write(&self, rng: &mut Rng) -> Vec<Committed> {
        let commit = |_| {
            let ops = some_ops(rng);
            let seq = self.db.write(batch(&ops)).unwrap().seq;
            self.acknowledged.fetch_max(seq, Ordering::SeqCst);
            (seq, ops)
        };
        (0..BATCHES_A_WRITER).map(commit).collect()
    }

    fn read(&self, rng: &mut Rng) -> Vec<Answer> {
        let mut answers = Vec::new();
        while !self.over.load(Ordering::SeqCst) {
            answers.push(self.ask(rng).unwrap());
        }
        answers
    }

    fn ask(&self, rng: &mut Rng) -> Result<Answer> {
        let db = &self.db;
        let at = rng.i64(-1..=TIMESTAMPS);
        let acknowledged = self.acknowledged.load(Ordering::SeqCst);
        let before = db.visible_seq();
        assert!(acknowledged <= before, "{acknowledged} is acknowledged, {before} visible");
        if rng.u8(..3) == 0 {
            let keys: Vec<_> = (0..KEYS).map(key).collect();
            let lookups: Vec<_> = keys.iter().map(|key| (key.as_slice(), at)).collect();
            let found = db.asof(&lookups)?;
            let visible = (before, db.visible_seq());
            let floor = |(n, key): (usize, Vec<u8>)| Some((key, found.get(n)?.into()));
            let floors = keys.into_iter().enumerate().filter_map(floor).collect();
            return Ok(Answer { at, visible, floors, outdated: visible.0 < db.visible_seq() });
        }
        let order = if rng.bool() { Order::Ascending } else { Order::Descending };
        let scan = db.scan(KeyRange::all(), at, order)?;
        let visible = (before, db.visible_seq());
        if rng.u8(..4) == 0 {
            thread::sleep(Duration::from_micros(rng.u64(..5000)));
        }
        let mut floors = state(scan)?;
        if order == Order::Descending {
            floors.reverse();
        }
        Ok(Answer { at, visible, floors, outdated: visible.0 < db.visible_seq() })
    }

    /// Calls `work` now and then.
    fn repeat(&self, rng: &mut Rng, work: impl Fn(&Db) -> Result<()>) {
        while !self.over.load(Ordering::SeqCst) {
            work(&self.db).unwrap();
            thread::sleep(Duration::from_micros(rng.u64(..3000)));
        }
    }

    /// Runs the threads until all is written.
    fn run(&self, rng: &mut Rng) -> (Vec<Committed>, Vec<Answer>) {
        thread::scope(|scope| {
            let _end = End(&self.over);
            let mut fork = || rng.fork();
            let writers: [_; WRITERS] = std::array::from_fn(|_| {
                let mut rng = fork();
                scope.spawn(move || self.write(&mut rng))
            });
            let readers: [_; READERS] = std::array::from_fn(|_| {
                let mut rng = fork();
                scope.spawn(move || self.read(&mut rng))
            });
            let (mut flushes, mut merges) = (fork(), fork());
            scope.spawn(move || self.repeat(&mut flushes, Db::flush));
            scope.spawn(move || self.repeat(&mut merges, Db::compact));
            let committed = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
            self.over.store(true, Ordering::SeqCst);
            (committed, readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect())
        })
    }
}

/// Ends the threads of a round, also where the test fails, so that it fails and doesn't hang.
struct End<'r>(&'r AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Goes through the states of the database, one batch after the other, and takes the answers away that
/// show them. Returns the last state, and the answers that are left.
fn explained(mut committed: Vec<Committed>, mut answers: Vec<Answer>) -> (Oracle, Vec<Answer>) {
    committed.sort_unstable_by_key(|(seq, _)| *seq);
    let mut oracle = Oracle::default();
    let states = std::iter::once((0, Vec::new())).chain(committed);
    for (seq, ops) in states {
        oracle.apply(&ops);
        assert_eq!(oracle.last_seq(), seq, "batches take the numbers in their order, each its own");
        answers.retain(|answer| {
            let (before, after) = answer.visible;
            let may_be = before <= seq && seq <= after;
            !(may_be && oracle.scan(answer.at) == answer.floors)
        });
    }
    (oracle, answers)
}

#[test]
fn each_view_shows_the_database_after_one_of_its_batches() {
    let mut outdated_in_all = 0;
    for seed in 0..setting("KVTIMEDB_VIEWS_ROUNDS", 8) {
        let mut rng = Rng::with_seed(seed);
        let fs = SimFs::new(seed);
        let durability = [Durability::Sync, Durability::Buffered][seed as usize % 2];
        let background = Background::Threads;
        let db = Db::open(DIR, Options { durability, background, ..options(&fs) }).unwrap();
        let round = Round { db, acknowledged: AtomicU64::new(0), over: AtomicBool::new(false) };
        let (committed, answers) = round.run(&mut rng);
        let asked = answers.len();
        let outdated = answers.iter().filter(|answer| answer.outdated).count();
        outdated_in_all += outdated;
        let (oracle, left) = explained(committed, answers);
        let first = left.first().map(|answer| (answer.at, answer.visible, answer.floors.len()));
        assert_eq!(first, None, "round {seed}: {} of {asked} show no state at all", left.len());
        println!("round {seed}: {asked} views, {outdated} of them read while others wrote");
        oracle.assert_answers(&round.db, format!("round {seed}, at the end"));
    }
    assert!(outdated_in_all > 0, "nobody wrote while others read");
}
