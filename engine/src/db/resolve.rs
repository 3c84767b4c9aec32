//! What a batch comes to, where that depends on the state before it: conditions are checked, rising puts
//! get their timestamps, and erases of ranges become erases of the versions that are there. What goes to
//! the log is a plain batch.
//!
//! All of it happens under the lock `writer`, so that nothing is committed in between. The state before a
//! batch is the view and, above it, an *overlay*: memtables of what comes before in the same group, and in
//! the same batch. So it is read as every other state is. The overlay goes with the group.
//!
//! See `docs/decisions/0017-erases-of-ranges-are-resolved.md`.

use std::borrow::Cow;
use std::sync::Arc;

use super::state::{ImmutableMemtable, SuperVersion};
use crate::batch::{Mark, Op, Ops, WriteBatch};
use crate::error::{Error, Result};
use crate::iter::Order;
use crate::key::{FileId, SEQ_NO_MAX, SeqNo, Tag, Timestamp};
use crate::lookup::{Condition, Expect};
use crate::memtable::Memtable;

/// The capacity of the first memtable of an overlay; each one above it has twice as much.
const OVERLAY_BYTES_MIN: usize = 16 << 10;

/// Under the lock `writer`, everything that the memtables hold is published.
const ALL_VISIBLE: SeqNo = SEQ_NO_MAX;

/// A batch that can be logged.
#[derive(Debug)]
pub(super) struct Resolved<'b> {
    pub(super) batch: Cow<'b, WriteBatch>,
    /// The timestamps of its rising puts.
    pub(super) assigned: Vec<Timestamp>,
    /// How many versions its ranges have erased.
    pub(super) erased: u64,
}

/// Resolves batches of a group, one after the other, until those that can be logged have `bytes_max`
/// together: one at least. One that is refused leaves no trace.
pub(super) fn resolve<'b>(
    before: &Arc<SuperVersion>,
    group: &[&'b WriteBatch],
    bytes_max: usize,
) -> Vec<Result<Resolved<'b>>> {
    let mut state = State::new(Arc::clone(before));
    let mut resolved: Vec<Result<Resolved<'b>>> = Vec::with_capacity(group.len());
    let mut bytes = 0;
    // Behind it nobody looks.
    let last_look = group.iter().rposition(|batch| batch.unresolved().is_some());
    for (number, batch) in group.iter().enumerate() {
        if bytes >= bytes_max {
            break;
        }
        let outcome = state.resolve(batch);
        match &outcome {
            Ok(one) => {
                bytes += one.batch.encoded_bytes();
                if last_look.is_some_and(|last| number < last) {
                    state.take(&one.batch);
                }
            }
            Err(_) if state.has_part() => {
                state = State::new(Arc::clone(before));
                resolved.iter().flatten().for_each(|one| state.take(&one.batch));
            }
            Err(_) => {}
        }
        resolved.push(outcome);
    }
    resolved
}

/// What a batch meets.
struct State {
    /// The view before the group, with the overlay's memtables above its own.
    view: Arc<SuperVersion>,
    /// Of the overlay's newest memtable; 0 without one.
    capacity_bytes: usize,
    /// What comes next in the overlay. Which of two memtables is newer is told by their places.
    next_seq: SeqNo,
    /// How much of the batch that is being resolved is in the overlay.
    part_ops: usize,
    part_bytes: usize,
}

impl State {
    fn new(view: Arc<SuperVersion>) -> State {
        State { view, capacity_bytes: 0, next_seq: 1, part_ops: 0, part_bytes: 0 }
    }

    fn resolve<'b>(&mut self, batch: &'b WriteBatch) -> Result<Resolved<'b>> {
        let horizon = self.view.horizon;
        if let Some(ts) = batch.ts_below(horizon) {
            return Err(Error::BelowHorizon { ts, horizon });
        }
        let mut plain = Resolved { batch: Cow::Borrowed(batch), assigned: Vec::new(), erased: 0 };
        let Some(unresolved) = batch.unresolved() else { return Ok(plain) };
        for (number, condition) in unresolved.conditions.iter().enumerate() {
            if !self.holds(condition)? {
                return Err(Error::ConditionFailed { condition: number });
            }
        }
        if unresolved.marks.is_empty() {
            return Ok(plain);
        }
        let mut made = WriteBatch::new();
        let mut marks = unresolved.marks.iter().copied().peekable();
        for (index, op) in batch.ops().enumerate() {
            match marks.next_if(|(marked, _)| *marked == index) {
                None => made.push_op(&op)?,
                Some((_, Mark::Rising)) => {
                    self.show(&made);
                    let ts = self.rising_ts(&op)?;
                    plain.assigned.push(ts);
                    made.push_op(&Op { ts, ..op })?;
                }
                Some((_, Mark::EraseTo(to))) => {
                    self.show(&made);
                    plain.erased += self.erase(&op, to, &mut made)?;
                }
            }
        }
        Ok(Resolved { batch: Cow::Owned(made), ..plain })
    }

    fn holds(&self, condition: &Condition) -> Result<bool> {
        let found = self.view.find(&condition.key, condition.lookup, ALL_VISIBLE)?;
        Ok(match condition.expect {
            Expect::Absent => found.is_none(),
            Expect::Etag(etag) => found.is_some_and(|entry| entry.etag() == etag),
        })
    }

    /// The timestamp of a rising put.
    fn rising_ts(&self, op: &Op<'_>) -> Result<Timestamp> {
        let ts_min = op.ts.max(self.view.horizon);
        match self.view.newest_ts(op.key, ALL_VISIBLE)? {
            None => Ok(ts_min),
            Some(Timestamp::MAX) => Err(Error::InvalidArgument(
                "the key has a version at the greatest timestamp, behind which no other can be: \
                 erase it, or put at a timestamp"
                    .to_owned(),
            )),
            Some(newest) => Ok(ts_min.max(newest + 1)),
        }
    }

    /// Adds an erase of each version from that of `op` up to `to`, and counts them.
    fn erase(&self, op: &Op<'_>, to: Timestamp, made: &mut WriteBatch) -> Result<u64> {
        let mut view = Cow::Borrowed(&*self.view);
        if op.ts == Timestamp::MIN && view.horizon > Timestamp::MIN {
            // Also what retention has not yet taken: it would come to light without what hides it.
            view.to_mut().horizon = Timestamp::MIN;
        }
        let mut versions = view.timeline(op.key, op.ts, to, Order::Ascending, ALL_VISIBLE)?;
        let mut erased = 0;
        while let Some((ts, _)) = versions.next()? {
            made.push_op(&Op { tag: Tag::ERASE, ts, ..*op }).map_err(|error| {
                Error::InvalidArgument(format!(
                    "an erase of more versions than fit a batch, before {ts}: erase them in several \
                     ranges ({error})"
                ))
            })?;
            erased += 1;
        }
        Ok(erased)
    }

    /// Whether the batch that is being resolved has left something in the overlay.
    fn has_part(&self) -> bool {
        self.part_ops > 0
    }

    /// What comes next meets the whole of this batch, which may be there in part.
    fn take(&mut self, batch: &WriteBatch) {
        self.show(batch);
        (self.part_ops, self.part_bytes) = (0, 0);
    }

    /// Brings what was added to this batch into the overlay.
    fn show(&mut self, batch: &WriteBatch) {
        let ops = batch.len() - self.part_ops;
        let encoded = &batch.encoded()[self.part_bytes..];
        if ops == 0 {
            return;
        }
        let has_overlay = self.capacity_bytes > 0;
        if !has_overlay || !self.view.active.has_room_for(ops, encoded.len()) {
            let needed = Memtable::insert_bytes_max(ops, encoded.len());
            self.capacity_bytes = OVERLAY_BYTES_MIN.max(2 * self.capacity_bytes).max(2 * needed);
            self.put_above(Arc::new(Memtable::new(self.capacity_bytes)));
        }
        let ops = Ops::new(encoded).map(|op| op.expect("a batch holds what it encoded"));
        self.next_seq = self.view.active.writer().insert_all(self.next_seq, ops);
        (self.part_ops, self.part_bytes) = (batch.len(), batch.encoded_bytes());
    }

    fn put_above(&mut self, memtable: Arc<Memtable>) {
        let view = Arc::make_mut(&mut self.view);
        let below = std::mem::replace(&mut view.active, memtable);
        // Nobody flushes what is in this view only.
        let (wal, next_wal) = (FileId(0), FileId(0));
        let below = ImmutableMemtable { memtable: below, wal, next_wal };
        view.immutables.insert(0, Arc::new(below));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::SimFs;
    use crate::lookup::Lookup;
    use crate::{Background, Db, Options};

    const HORIZON: Timestamp = 100;

    /// With versions of `k` below, at and above the horizon.
    fn open() -> Db {
        let fs = Arc::new(SimFs::new(1));
        let db =
            Db::open("db", Options { fs, background: Background::Inline, ..Options::default() });
        let db = db.unwrap();
        for ts in [50, 90, 150] {
            db.put(b"k", ts, b"v").unwrap();
        }
        db.core().view.swap(|view| view.horizon = HORIZON);
        db
    }

    fn refused_at(outcome: Result<crate::Committed>) -> Option<Timestamp> {
        match outcome {
            Err(Error::BelowHorizon { ts, horizon: HORIZON }) => Some(ts),
            Err(error) => panic!("{error}"),
            Ok(_) => None,
        }
    }

    #[test]
    fn writes_below_the_horizon_are_refused_and_those_at_it_are_not() {
        let db = open();
        let write = |fill: &dyn Fn(&mut WriteBatch) -> Result<()>| {
            let mut batch = WriteBatch::new();
            fill(&mut batch).unwrap();
            refused_at(db.write(batch))
        };
        assert_eq!(write(&|batch| batch.put(b"l", 99, b"v")), Some(99));
        assert_eq!(write(&|batch| batch.put(b"l", 100, b"v")), None);
        assert_eq!(write(&|batch| batch.end(b"l", i64::MIN)), Some(i64::MIN));
        assert_eq!(write(&|batch| batch.end(b"l", 100)), None);
        // The version that the horizon keeps is not erased alone, also where others come with it.
        assert_eq!(write(&|batch| batch.erase(b"l", 100)), Some(100));
        assert_eq!(write(&|batch| batch.erase(b"l", 101)), None);
        assert_eq!(write(&|batch| batch.erase_between(b"l", 100, 200)), Some(100));
        assert_eq!(write(&|batch| batch.erase_between(b"l", 101, 200)), None);
        let both = |batch: &mut WriteBatch| {
            batch.put(b"l", 300, b"v")?;
            batch.put_rising(b"l", 0, b"v")?;
            batch.put(b"l", -7, b"v")
        };
        assert_eq!(write(&both), Some(-7));
        assert_eq!(db.latest(b"l").unwrap(), None);
    }

    #[test]
    fn what_is_erased_from_the_beginning_is_erased_below_the_horizon_too() {
        let db = open();
        let mut batch = WriteBatch::new();
        batch.erase_between(b"k", Timestamp::MIN, 120).unwrap();
        assert_eq!(db.write(batch).unwrap().erased, 2);
        // Had only the newest one gone, the other would answer now.
        assert_eq!(db.floor(b"k", HORIZON).unwrap(), None);
        assert_eq!(db.floor(b"k", 150).unwrap().unwrap().ts, 150);
    }

    #[test]
    fn a_rising_put_comes_at_the_horizon_or_later() {
        let db = open();
        let mut batch = WriteBatch::new();
        batch.put_rising(b"new", 7, b"v").unwrap();
        batch.put_rising(b"new", 7, b"v").unwrap();
        batch.put_rising(b"k", 7, b"v").unwrap();
        assert_eq!(db.write(batch).unwrap().assigned, [HORIZON, HORIZON + 1, 151]);
    }

    #[test]
    fn a_condition_on_what_lies_below_the_horizon_is_refused() {
        let db = open();
        let mut batch = WriteBatch::new();
        let (key, lookup) = (b"k".to_vec(), Lookup::floor(99));
        batch.require(Condition { key, lookup, expect: Expect::Absent }).unwrap();
        batch.put(b"k", 200, b"v").unwrap();
        assert_eq!(refused_at(db.write(batch)), Some(99));
    }
}
