//! The ends of a database, in order and not, and what it is when it is opened anew.

use std::sync::Arc;

use fastrand::Rng;
use kvtimedb_engine::Db;
use kvtimedb_engine::fs::{Fs, Survival};

use super::World;
use crate::crash::Judge;
use crate::feed::FeedJudge;
use crate::oracle::DIR;
use crate::run::Tally;

impl World {
    /// Opens the database anew, after its last handle is gone.
    pub(super) fn reopen(self: &Arc<Self>) {
        self.let_go();
        self.open(false);
    }

    fn let_go(&self) {
        let (db, readers) = {
            let state = &mut *self.state.lock();
            state.unreadable = false;
            (state.db.take(), std::mem::take(&mut state.readers))
        };
        drop(readers);
        drop(db);
    }

    /// The process dies, and the power fails, if `survival` says so.
    pub(super) fn crash(self: &Arc<Self>, survival: Survival, rng: &mut Rng) {
        let old = self.state.lock().fs.clone();
        let fs = old.fork();
        fs.reseed(rng.u64(..));
        fs.crash(survival);
        old.unwatch();
        // The old handle is not to do anything any more.
        old.stop_after(0);
        self.let_go();
        self.state.lock().fs = fs;
        self.state.lock().power_cuts += u32::from(survival != Survival::Everything);
        self.watch();
        self.open(survival != Survival::Everything);
    }

    /// Opens the database, which recovers it. What fails by a fault goes well without it.
    pub(super) fn open(self: &Arc<Self>, power_failed: bool) {
        if !self.foresee(power_failed) {
            return;
        }
        let first = Db::open(DIR, self.options());
        let opened = match first {
            Err(error) if !self.state.lock().troubled => {
                return self.fail(format!("an open failed without a cause: {error}"));
            }
            Err(error) => {
                let fs = self.state.lock().fs.clone();
                fs.clear_faults();
                if fs.lock(format!("{DIR}/LOCK").as_ref(), "sim").is_ok_and(|lock| lock.is_err()) {
                    return self.fail(format!("an open that failed keeps the lock: {error}"));
                }
                Db::open(DIR, self.options())
            }
            opened => opened,
        };
        let mut failure = None;
        {
            let state = &mut *self.state.lock();
            match opened {
                Ok(db) => {
                    let (found, expected) = (db.visible_seq(), state.ledger.last_seq());
                    let lost = state.lied.is_some();
                    match state.ledger.batches_at(found) {
                        Some(batches) if lost || found == expected => {
                            state.ledger.recovered(batches, true);
                            state.ledger.set_horizon(db.horizon());
                            state.db = Some(db);
                            state.troubled = state.fs.has_faults();
                        }
                        _ => failure = Some(format!("up to {found}, expected {expected}")),
                    }
                }
                Err(_) if state.lied.is_some() => {
                    state.tally.refused += 1;
                    state.ended = true;
                }
                Err(error) => failure = Some(error.to_string()),
            }
        }
        if let Some(what) = failure {
            self.fail(format!("the reopen: {what}"));
        }
    }

    /// Learns from a copy which prefix a recovery will find, and holds every moment of it to that;
    /// `false`: the scenario is over.
    fn foresee(&self, power_failed: bool) -> bool {
        let (fs, bounds, lied) = {
            let state = self.state.lock();
            let bounds = state.ledger.bounds(power_failed).after_lies(state.lied);
            (state.fs.fork(), bounds, state.lied.is_some())
        };
        fs.clear_faults();
        let options = self.options();
        let oracle_at = |seq| self.oracle_at(seq);
        let may_trim = self.may_trim(power_failed);
        let feed = FeedJudge { op_at: &|seq| self.op_at(seq), may_trim };
        let judge =
            Judge { options: &options, bounds, may_refuse: lied, oracle_at: &oracle_at, feed };
        let mut tally = Tally::default();
        let found = judge.recover(&fs, &mut Rng::with_seed(0), &mut tally);
        let state = &mut *self.state.lock();
        state.tally += tally;
        match found {
            Ok(Some(batches)) => {
                state.ledger.recovered(batches, power_failed);
                true
            }
            Ok(None) => {
                state.ended = true;
                false
            }
            Err(what) => {
                state.failure.get_or_insert(format!("the reopen: {what}"));
                false
            }
        }
    }
}
