//! What a horizon takes away: moments that can be asked for, and writes that are taken.

use std::collections::BTreeSet;

use kvtimedb_engine::{Db, Error, Snapshot, Timestamp};

use super::{Change, Comparison, Op, Oracle, shown};

/// The earliest moment that the database can be asked for.
pub(super) fn since(db: &Db) -> Timestamp {
    db.horizon().unwrap_or(Timestamp::MIN)
}

/// As [`since`], of a snapshot.
pub(super) fn since_of(snapshot: &Snapshot) -> Timestamp {
    snapshot.horizon().unwrap_or(Timestamp::MIN)
}

/// Those of the operations that a database with this horizon takes, without an erase of everything up to
/// some moment: it is taken, but how much is left of that depends on the merges.
pub fn taken(ops: &[Op], horizon: Option<Timestamp>) -> Vec<Op> {
    let Some(horizon) = horizon else { return ops.to_vec() };
    let taken = |op: &Op| match &op.change {
        Change::Erase | Change::EraseTo(_) => (op.ts > horizon).then(|| op.clone()),
        Change::Put(..) | Change::End => (op.ts >= horizon).then(|| op.clone()),
        Change::Rising(..) => Some(Op { ts: op.ts.max(horizon), ..op.clone() }),
    };
    ops.iter().filter_map(taken).collect()
}

impl Oracle {
    /// As [`moments`](Self::moments), those that can be asked for.
    pub(super) fn moments_since(&self, key: &[u8], since: Timestamp) -> BTreeSet<Timestamp> {
        self.moments(key).into_iter().map(|at| at.max(since)).collect()
    }
}

/// What is earlier is refused, and never answered wrongly.
pub(super) fn compare_earlier(db: &Db, key: &[u8], comparison: &mut Comparison) {
    let Some(horizon) = db.horizon() else { return };
    for at in [Timestamp::MIN, horizon - 1] {
        match db.floor(key, at) {
            Err(Error::BelowHorizon { ts, horizon: found }) if (ts, found) == (at, horizon) => {}
            found => comparison.wrong.push(format!(
                "floor {} {at} below the horizon {horizon} is {found:?}",
                shown(key)
            )),
        }
    }
}
