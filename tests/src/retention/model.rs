//! Random writes, late ones too, ends, erases, flushes, merges, reopens and crashes beside a horizon that
//! rises: floors at and after it are those of the oracle, earlier ones are refused, and in the end there is
//! nothing in the tables but what a read can show.

use fastrand::Rng;
use kvtimedb_engine::fs::{SimFs, Survival};
use kvtimedb_engine::{BackgroundStep, Db, Timestamp};

use super::{merge_on, open, records};
use crate::oracle::{Op, Oracle, batch, noise, taken};

struct Model {
    fs: SimFs,
    db: Option<Db>,
    oracle: Oracle,
    rng: Rng,
    now: Timestamp,
}

impl Model {
    fn new(seed: u64) -> Model {
        let fs = SimFs::new(seed);
        let db = Some(open(&fs));
        Model { fs, db, oracle: Oracle::default(), rng: Rng::with_seed(seed), now: 0 }
    }

    fn db(&self) -> Db {
        self.db.clone().unwrap()
    }

    fn op(&mut self) -> Op {
        let rng = &mut self.rng;
        let key = format!("key{}", rng.u8(..6));
        let ts = if rng.u8(..4) == 0 { rng.i64(0..=self.now) } else { self.now + rng.i64(-5..5) };
        match rng.u8(..10) {
            0 => Op::end(key, ts),
            1 | 2 => Op::erase(key, ts),
            _ => Op::put(key, ts, noise(rng.u64(..), rng.usize(..60))),
        }
    }

    fn write(&mut self) {
        self.now += 3;
        let ops: Vec<Op> = (0..self.rng.usize(1..40)).map(|_| self.op()).collect();
        let mut ops = taken(&ops, self.db().horizon());
        if self.rng.u8(..8) == 0 {
            // From the beginning on, also below the horizon.
            let (key, to) = (format!("key{}", self.rng.u8(..6)), self.rng.i64(0..self.now));
            ops.push(Op::erase_between(key, Timestamp::MIN, to));
        }
        self.db().write(batch(&ops)).unwrap();
        self.oracle.apply(&ops);
    }

    fn step(&mut self) {
        match self.rng.u8(..20) {
            0..7 => self.write(),
            7..11 => self.db().flush().unwrap(),
            11..13 => drop(self.db().step(BackgroundStep::Compact).unwrap()),
            13 => drop(self.db().step(BackgroundStep::CompactIdle).unwrap()),
            14 => self.db().compact().unwrap(),
            15..18 => {
                let horizon = self.now - self.rng.i64(0..60);
                self.db().set_horizon(horizon).unwrap();
            }
            18 => self.reopen(None),
            _ => {
                // What is in tables outlives the crash, and nothing else is needed.
                self.db().flush().unwrap();
                self.reopen(Some(Survival::Synced));
            }
        }
    }

    fn reopen(&mut self, crash: Option<Survival>) {
        let horizon = self.db().horizon();
        self.db = None;
        if let Some(survival) = crash {
            self.fs.crash(survival);
        }
        self.db = Some(open(&self.fs));
        assert_eq!(self.db().horizon(), horizon);
    }

    fn check(&self, what: &str) {
        let comparison = self.oracle.compare(&self.db());
        assert!(comparison.is_right(), "{what}: {comparison}");
    }

    /// With a horizon behind everything, of each key that has not ended one record is left.
    fn end(&self) {
        let db = self.db();
        merge_on(&db, BackgroundStep::Compact);
        self.check("merged in the background");
        let horizon = self.now + 100;
        db.set_horizon(horizon).unwrap();
        db.compact().unwrap();
        self.check("at the end");
        assert_eq!(records(&self.fs), self.oracle.scan(horizon).len() as u64);
    }
}

#[test]
fn a_database_with_a_rising_horizon_answers_as_the_model() {
    for seed in 0..12 {
        let mut model = Model::new(seed);
        for step in 0..60 {
            model.step();
            if step % 4 == 0 {
                model.check(&format!("seed {seed}, step {step}"));
            }
        }
        model.end();
    }
}
