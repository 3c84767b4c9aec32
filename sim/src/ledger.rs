//! What was written, in the order of commits, and how much of it was acknowledged and is durable.

use std::collections::VecDeque;
use std::sync::Arc;

use kvtimedb_engine::{Committed, SeqNo, Timestamp};

use crate::oracle::{Change, Op, Oracle};

/// So many oracles are kept, those of the latest prefixes.
const ORACLES_MAX: usize = 4;

/// The batches of one database, those that were refused left out.
#[derive(Default)]
pub(crate) struct Ledger {
    batches: Vec<Batch>,
    /// The first so many were acknowledged.
    acknowledged: usize,
    /// The first so many survive a power loss, whatever survives of what was not synced.
    durable: usize,
    /// The first so many are in tables, or in records of which a later one says that they were durable.
    /// Damage to others can't be told from a write that was torn, or never made.
    witnessed: usize,
    /// How many there were before the group that was begun last.
    last_group: usize,
    /// Batches that wait for their commit.
    queued: VecDeque<Vec<Op>>,
    oracles: Vec<(usize, Arc<Oracle>)>,
    /// The horizon that was acknowledged, and the highest that was tried.
    horizon: Option<Timestamp>,
    horizon_tried: Option<Timestamp>,
}

struct Batch {
    /// As they go to the log.
    ops: Vec<Op>,
    committed: Committed,
}

/// How many batches must and may be there after a crash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) least: usize,
    /// As `least`, if a power failure follows before the recovery has come to its end.
    pub(crate) durable: usize,
    pub(crate) tried: usize,
    /// The least and the greatest horizon.
    pub(crate) horizons: (Option<Timestamp>, Option<Timestamp>),
}

impl Bounds {
    /// Of a disk that has begun to lie, or was damaged, when so many batches were witnessed.
    pub(crate) fn after_lies(self, witnessed: Option<usize>) -> Bounds {
        let Some(most) = witnessed else { return self };
        // The edit that raised it may be taken for one that was being written; then no merge after it is
        // there either.
        let horizons = (None, self.horizons.1);
        Bounds { least: self.least.min(most), durable: self.durable.min(most), horizons, ..self }
    }
}

impl Ledger {
    /// A group of batches is handed to the engine.
    pub(crate) fn begin(&mut self, group: impl IntoIterator<Item = Vec<Op>>) {
        self.last_group = self.batches.len();
        for ops in group {
            let batch = self.foretell(ops);
            self.batches.push(batch);
        }
    }

    /// What a commit of these operations must come to.
    fn foretell(&mut self, ops: Vec<Op>) -> Batch {
        let depends = |op: &Op| matches!(op.change, Change::Rising(..) | Change::EraseTo(_));
        if ops.iter().any(depends) {
            let mut oracle = Oracle::clone(&self.oracle(self.batches.len()));
            let (committed, ops) = oracle.apply_and_log(&ops);
            return Batch { ops, committed };
        }
        let seq = self.last_seq() + ops.len() as u64;
        Batch { ops, committed: Committed { seq, ..Committed::default() } }
    }

    /// What the commits of the group that was begun last must say.
    pub(crate) fn expected(&self) -> impl Iterator<Item = &Committed> {
        self.batches[self.last_group..].iter().map(|batch| &batch.committed)
    }

    /// The group was acknowledged.
    pub(crate) fn acknowledge(&mut self, durable: bool) {
        self.acknowledged = self.batches.len();
        self.witnessed = self.durable;
        if durable {
            self.durable = self.acknowledged;
        }
    }

    /// The group was refused: nothing of it was written.
    pub(crate) fn withdraw(&mut self) {
        self.batches.truncate(self.last_group);
        self.forget_oracles();
    }

    /// Everything acknowledged was made durable in the log.
    pub(crate) fn synced(&mut self) {
        self.durable = self.acknowledged;
    }

    /// Everything acknowledged is in tables.
    pub(crate) fn flushed(&mut self) {
        self.durable = self.acknowledged;
        self.witnessed = self.acknowledged;
    }

    /// The database was opened anew and holds this prefix, durably or not.
    pub(crate) fn recovered(&mut self, batches: usize, durable: bool) {
        self.batches.truncate(batches);
        self.acknowledged = batches;
        self.durable = if durable { batches } else { self.durable.min(batches) };
        self.witnessed = self.durable;
        self.queued.clear();
        self.forget_oracles();
    }

    pub(crate) fn queue(&mut self, ops: Vec<Op>) {
        self.queued.push_back(ops);
    }

    /// The horizon is to go up to `horizon`.
    pub(crate) fn begin_horizon(&mut self, horizon: Timestamp) {
        self.horizon_tried = self.horizon_tried.max(Some(horizon));
    }

    /// The horizon is this one.
    pub(crate) fn set_horizon(&mut self, horizon: Option<Timestamp>) {
        (self.horizon, self.horizon_tried) = (horizon, horizon);
    }

    /// How many batches wait for their commit.
    pub(crate) fn queued(&self) -> usize {
        self.queued.len()
    }

    pub(crate) fn take_queued(&mut self) -> Vec<Vec<Op>> {
        self.queued.drain(..).collect()
    }

    pub(crate) fn last_seq(&self) -> SeqNo {
        self.batches.last().map_or(0, |batch| batch.committed.seq)
    }

    pub(crate) fn ops(&self) -> u64 {
        self.last_seq()
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// What must and may be there if now the process dies, or the power fails.
    pub(crate) fn bounds(&self, power_fails: bool) -> Bounds {
        let least = if power_fails { self.durable } else { self.acknowledged };
        let horizons = (self.horizon, self.horizon_tried);
        Bounds { least, durable: self.durable, tried: self.batches.len(), horizons }
    }

    /// What damage to the log can't take away without a trace.
    pub(crate) fn witnessed(&self) -> usize {
        self.witnessed
    }

    /// The operation with this sequence number.
    pub(crate) fn op(&self, seq: SeqNo) -> Option<Op> {
        let at = self.batches.partition_point(|batch| batch.committed.seq < seq);
        let batch = self.batches.get(at)?;
        let from_last = (batch.committed.seq - seq) as usize;
        batch.ops.iter().rev().nth(from_last).cloned()
    }

    /// The last operation that survives a power loss for sure.
    pub(crate) fn durable_seq(&self) -> SeqNo {
        self.durable.checked_sub(1).map_or(0, |last| self.batches[last].committed.seq)
    }

    /// How many batches are there at this sequence number; `None` in the middle of one.
    pub(crate) fn batches_at(&self, seq: SeqNo) -> Option<usize> {
        // All that end there: an erase of a range may erase nothing.
        let batches = self.batches.partition_point(|batch| batch.committed.seq <= seq);
        let last_seq = batches.checked_sub(1).map_or(0, |last| self.batches[last].committed.seq);
        (last_seq == seq).then_some(batches)
    }

    /// What the first so many batches amount to.
    pub(crate) fn oracle(&mut self, batches: usize) -> Arc<Oracle> {
        let known = self.oracles.iter().filter(|(n, _)| *n <= batches).max_by_key(|(n, _)| *n);
        let (from, mut oracle) = match known {
            Some((n, oracle)) if *n == batches => return Arc::clone(oracle),
            Some((n, oracle)) => (*n, Oracle::clone(oracle)),
            None => (0, Oracle::default()),
        };
        for batch in &self.batches[from..batches] {
            oracle.apply(&batch.ops);
        }
        let oracle = Arc::new(oracle);
        self.oracles.push((batches, Arc::clone(&oracle)));
        if self.oracles.len() > ORACLES_MAX {
            self.oracles.remove(0);
        }
        oracle
    }

    fn forget_oracles(&mut self) {
        let len = self.batches.len();
        self.oracles.retain(|(batches, _)| *batches <= len);
    }
}
