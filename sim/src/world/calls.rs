//! What happens at each call that changes the file system.

use std::sync::{Arc, Weak};

use fastrand::Rng;
use kvtimedb_engine::Db;
use kvtimedb_engine::fs::Survival;

use super::World;
use crate::crash::{Judge, SURVIVALS};
use crate::feed::FeedJudge;
use crate::run::Tally;
use crate::scenario::Action;

impl World {
    pub(super) fn watch(self: &Arc<Self>) {
        let world: Weak<World> = Arc::downgrade(self);
        let fs = self.state.lock().fs.clone();
        fs.watch(move |call| {
            if let Some(world) = world.upgrade() {
                world.at_call(call);
            }
        });
    }

    /// Before a call that changes the file system: reads, a crash of a copy, and what the step says is
    /// done in its midst.
    fn at_call(self: &Arc<Self>, call: &str) {
        let Some((mut rng, nested)) = self.note_call(call) else { return };
        if let Some(db) = self.db() {
            self.read_live(&db, &mut rng, call);
        }
        if rng.u64(..self.settings.visit_every) == 0 {
            self.visit(&mut rng, call);
        }
        if let Some(action) = nested {
            self.state.lock().under_way.nested = true;
            self.state.lock().tally.nested += 1;
            self.act(&action, &mut rng);
            self.state.lock().under_way.nested = false;
        }
    }

    /// What is to be done at this call; `None` where nothing is.
    fn note_call(&self, call: &str) -> Option<(Rng, Option<Action>)> {
        let state = &mut *self.state.lock();
        if state.failure.is_some() || state.ended {
            return None;
        }
        state.tally.calls += 1;
        let under_way = &mut state.under_way;
        under_way.calls += 1;
        let rng = Rng::with_seed(under_way.seed ^ under_way.calls.wrapping_mul(0x9E37_79B9));
        // Where tables are written, no lock is held but the one for flushes, or for merges.
        if under_way.nested || !call.contains(".sst") || call.starts_with("remove") {
            return Some((rng, None));
        }
        under_way.table_calls += 1;
        let due = under_way.within.iter().position(|(at, _)| *at < under_way.table_calls);
        let action = due.map(|index| under_way.within.remove(index).1);
        Some((rng, action))
    }

    /// A read beside whatever is under way.
    fn read_live(&self, db: &Db, rng: &mut Rng, call: &str) {
        let seq = db.visible_seq();
        let bounds = self.state.lock().ledger.bounds(false);
        let Some((batches, oracle)) = self.oracle_at(seq) else {
            return self.fail(format!("before {call}: {seq} is in the middle of a batch"));
        };
        if !(bounds.least..=bounds.tried).contains(&batches) {
            return self.fail(format!("before {call}: {batches} batches show, of {bounds:?}"));
        }
        let comparison = oracle.compare_some(db, rng);
        self.state.lock().tally.checks += 1;
        if let Some(error) = comparison.refused.first() {
            self.refused(error);
        }
        if !comparison.wrong.is_empty() {
            self.fail(format!("before {call}: {comparison}"));
        }
    }

    /// Crashes copies of the disk.
    fn visit(&self, rng: &mut Rng, call: &str) {
        for survival in SURVIVALS {
            let (fs, bounds, may_refuse) = {
                let state = self.state.lock();
                let bounds = state.ledger.bounds(survival != Survival::Everything);
                (state.fs.fork(), bounds.after_lies(state.lied), state.lied.is_some())
            };
            let (options, oracle_at) = (self.options(), |seq| self.oracle_at(seq));
            let may_trim = self.may_trim(survival != Survival::Everything);
            let feed = FeedJudge { op_at: &|seq| self.op_at(seq), may_trim };
            let judge =
                Judge { options: &options, bounds, may_refuse, oracle_at: &oracle_at, feed };
            let mut tally = Tally::default();
            let judged = judge.crash(&fs, survival, rng, &mut tally);
            self.state.lock().tally += tally;
            if let Err(what) = judged {
                self.fail(format!("a crash before {call}, {survival:?} survives: {what}"));
            }
        }
    }
}
