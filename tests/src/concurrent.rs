//! Many threads on one database: writers, readers, flushes, merges, and an end at any moment.
//!
//! The promise it guards: *threads change nothing of what a single one is promised*. A read shows whole
//! batches, among them all that were acknowledged before it began; of a `(key, timestamp)` that is
//! written again and again it shows the newest (invariant I1), whatever is flushed and merged meanwhile.
//! After a close, or a crash at any moment, each writer's batches are there up to one of them and
//! without a hole, and among them every one that was acknowledged.
//!
//! `KVTIMEDB_CONCURRENT_ROUNDS` raises the number of rounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use kvtimedb_engine::fs::{SimFs, Survival};
use kvtimedb_engine::{
    Background, Committed, Db, Durability, Error, Options, Order, Result, WriteBatch,
};

use crate::common::setting;
use crate::oracle::{DIR, noise, options, versions};

const WRITERS: usize = 4;

/// A batch erases what the batch so many before it had put.
const ERASE_AFTER: i64 = 8;

/// How many batches a writer that does not wait has under way.
const UNDER_WAY_MAX: i64 = 64;

/// One writer's batches have the numbers 1, 2, 3 and so on, and are committed in this order.
#[derive(Default)]
struct Progress {
    tried: AtomicI64,
    acknowledged: AtomicI64,
}

/// The keys of one writer.
struct Keys {
    /// A version for each batch, in order.
    log: String,
    /// A version for each of the last batches, out of order; the others are erased.
    recent: String,
    /// One version, written anew by each batch.
    cell: String,
}

impl Keys {
    fn of(writer: usize) -> Keys {
        let key = |name: &str| format!("{name}{writer}");
        Keys { log: key("log"), recent: key("recent"), cell: key("cell") }
    }

    fn batch(&self, number: i64) -> WriteBatch {
        let mut value = number.to_le_bytes().to_vec();
        value.extend(noise(number as u64, 100 + number as usize % 400));
        let mut batch = WriteBatch::new();
        batch.put(self.log.as_bytes(), number, value.as_slice()).unwrap();
        batch.put(self.recent.as_bytes(), shuffled(number), value.as_slice()).unwrap();
        batch.put(self.cell.as_bytes(), 0, value.as_slice()).unwrap();
        if number > ERASE_AFTER {
            batch.erase(self.recent.as_bytes(), shuffled(number - ERASE_AFTER)).unwrap();
        }
        batch
    }

    /// The number of the last batch that the database shows.
    fn last(&self, db: &Db) -> Result<i64> {
        Ok(db.latest(self.log.as_bytes())?.map_or(0, |entry| entry.ts))
    }

    /// The number of the batch that wrote the cell last.
    fn cell(&self, db: &Db) -> Result<i64> {
        let entry = db.exact(self.cell.as_bytes(), 0)?;
        Ok(entry.map_or(0, |entry| i64::from_le_bytes(entry.value[..8].try_into().unwrap())))
    }

    /// Holds everything that is there against the batches up to `last`.
    fn check(&self, db: &Db, last: i64, context: &str) {
        let all = |key: &str| -> Vec<i64> {
            let all = db.history(key.as_bytes(), i64::MIN, i64::MAX, Order::Ascending);
            versions(all.unwrap()).unwrap().into_iter().map(|version| version.ts).collect()
        };
        let log = all(&self.log);
        assert!(log.into_iter().eq(1..=last), "{context}: {} has a hole or too much", self.log);
        let mut expected: Vec<i64> = (1.max(last - ERASE_AFTER + 1)..=last).map(shuffled).collect();
        expected.sort_unstable();
        assert_eq!(all(&self.recent), expected, "{context}: {} after {last} batches", self.recent);
        assert_eq!(self.cell(db).unwrap(), last, "{context}: {}", self.cell);
    }
}

/// Numbers in another order, so that about half of them come late.
fn shuffled(number: i64) -> i64 {
    number ^ 0b10_1010
}

/// What the threads of a round share.
struct Round {
    db: Db,
    durability: Durability,
    writers: [Arc<Progress>; WRITERS],
    over: AtomicBool,
}

impl Round {
    fn new(fs: &SimFs, durability: Durability) -> Round {
        let background = Background::Threads;
        let db = Db::open(DIR, Options { durability, background, ..options(fs) }).unwrap();
        Round { db, durability, writers: Default::default(), over: AtomicBool::new(false) }
    }

    /// The batches that are acknowledged now, by writer.
    fn acknowledged(&self) -> [i64; WRITERS] {
        self.writers.each_ref().map(|writer| writer.acknowledged.load(Ordering::SeqCst))
    }

    /// Writes until the database is closed; every other writer doesn't wait for its commits.
    fn write(&self, writer: usize) {
        let (keys, progress) = (Keys::of(writer), &self.writers[writer]);
        for number in 1.. {
            progress.tried.store(number, Ordering::SeqCst);
            let batch = keys.batch(number);
            let acknowledge = {
                let progress = Arc::clone(progress);
                move |result: Result<Committed>| match result {
                    Ok(_) => progress.acknowledged.store(number, Ordering::SeqCst),
                    Err(error) => assert!(matches!(error, Error::Closed), "{error}"),
                }
            };
            let result = if writer.is_multiple_of(2) {
                self.db.write(batch).map(|committed| acknowledge(Ok(committed)))
            } else {
                self.db.submit(batch, acknowledge)
            };
            match result {
                Ok(()) => {}
                Err(Error::Closed) => return,
                Err(error) => panic!("writer {writer}: {error}"),
            }
            let under_way = || number - progress.acknowledged.load(Ordering::SeqCst);
            while under_way() > UNDER_WAY_MAX && !self.over.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        }
    }

    /// Reads until the database is closed. Each question shows at least what the one before it did.
    fn read(&self, mut rng: Rng) -> Result<()> {
        loop {
            let writer = rng.usize(..WRITERS);
            let (keys, progress) = (Keys::of(writer), &self.writers[writer]);
            let acknowledged = progress.acknowledged.load(Ordering::SeqCst);
            let last = keys.last(&self.db)?;
            let cell = keys.cell(&self.db)?;
            let recent = self.db.exact(keys.recent.as_bytes(), shuffled(last))?;
            let later = keys.last(&self.db)?;
            let tried = progress.tried.load(Ordering::SeqCst);
            let seen = [acknowledged, last, cell, later, tried];
            assert!(seen.is_sorted(), "writer {writer}: {seen:?}");
            let erased = later >= last + ERASE_AFTER;
            assert!(last == 0 || recent.is_some() || erased, "writer {writer}: half of {last}");
        }
    }

    /// Calls `work` now and then, until the database is closed.
    fn repeat(&self, mut rng: Rng, work: impl Fn(&Db) -> Result<()>) {
        loop {
            match work(&self.db) {
                Ok(()) => thread::sleep(Duration::from_micros(rng.u64(..3000))),
                Err(Error::Closed) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Runs the threads for a while, then closes the database under them; in between it takes the
    /// power from a copy.
    fn run(&self, fs: &SimFs, rng: &mut Rng) {
        thread::scope(|scope| {
            let _end = End(self);
            for writer in 0..WRITERS {
                scope.spawn(move || self.write(writer));
            }
            for _ in 0..2 {
                let rng = rng.fork();
                scope.spawn(move || assert!(matches!(self.read(rng), Err(Error::Closed))));
            }
            let (flushes, merges) = (rng.fork(), rng.fork());
            scope.spawn(move || self.repeat(flushes, Db::flush));
            scope.spawn(move || self.repeat(merges, Db::compact));
            for _ in 0..2 {
                thread::sleep(Duration::from_micros(rng.u64(..40_000)));
                self.crash_a_copy(fs, rng);
            }
            thread::sleep(Duration::from_micros(rng.u64(..20_000)));
            self.db.close().unwrap();
        });
    }

    fn crash_a_copy(&self, fs: &SimFs, rng: &mut Rng) {
        let acknowledged = self.acknowledged();
        let copy = fs.fork();
        let survivals = match self.durability {
            Durability::Sync => &[Survival::Synced, Survival::Everything, Survival::Random][..],
            Durability::Buffered => &[Survival::Everything],
        };
        let survival = survivals[rng.usize(..survivals.len())];
        copy.crash(survival);
        self.check(&copy, &acknowledged, &format!("{:?}, {survival:?} survives", self.durability));
    }

    /// Opens what is left and asks it everything.
    fn check(&self, fs: &SimFs, acknowledged: &[i64; WRITERS], context: &str) {
        let db = Db::open(DIR, options(fs)).unwrap_or_else(|error| panic!("{context}: {error}"));
        for (writer, acknowledged) in acknowledged.iter().enumerate() {
            let keys = Keys::of(writer);
            let last = keys.last(&db).unwrap();
            let tried = self.writers[writer].tried.load(Ordering::SeqCst);
            let range = [*acknowledged, last, tried];
            assert!(range.is_sorted(), "{context}: writer {writer}: {range:?}");
            keys.check(&db, last, context);
        }
    }
}

/// Ends the threads of a round, also where the test fails, so that it fails and doesn't hang.
struct End<'r>(&'r Round);

impl Drop for End<'_> {
    fn drop(&mut self) {
        // Whether it went well, the round has asked.
        let _ = self.0.db.close();
        self.0.over.store(true, Ordering::SeqCst);
    }
}

#[test]
fn threads_lose_nothing_and_see_no_half_batches() {
    let rounds = setting("KVTIMEDB_CONCURRENT_ROUNDS", 16);
    let mut committed = 0;
    for seed in 0..rounds {
        let mut rng = Rng::with_seed(seed);
        let fs = SimFs::new(seed);
        let durability = [Durability::Sync, Durability::Buffered][seed as usize % 2];
        let round = Round::new(&fs, durability);
        round.run(&fs, &mut rng);
        let acknowledged = round.acknowledged();
        // What was acknowledged before the close is durable after it, also where the log is buffered.
        fs.crash(Survival::Synced);
        round.check(&fs, &acknowledged, &format!("round {seed}, closed"));
        committed += acknowledged.iter().sum::<i64>();
    }
    assert!(committed > 0, "the writers had no time");
}
