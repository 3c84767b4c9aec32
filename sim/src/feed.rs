//! The change feed, held against the operations in the order of their commits.

use kvtimedb_engine::{Change, Db, Error, SeqNo, ValueKind, ValueRef};

use crate::oracle::{self, Op};

/// What the feed of a database must show.
#[derive(Clone, Copy)]
pub(crate) struct FeedJudge<'a> {
    /// The operation of a sequence number.
    pub(crate) op_at: &'a dyn Fn(SeqNo) -> Option<Op>,
    /// Operations may be missing in its midst, where a disk that failed or lost power took or kept what
    /// it liked; and then it must say so.
    pub(crate) may_trim: bool,
}

impl FeedJudge<'_> {
    /// Reads all that the feed has. It must reach the operation `least`, and go on where it said that it
    /// would. Returns what it refused to tell.
    pub(crate) fn read(&self, db: &Db, least: SeqNo) -> Result<Option<Error>, String> {
        let mut since = db.oldest_change_seq().saturating_sub(1);
        loop {
            let trimmed = match self.read_from(db, since, least)? {
                Some(Error::Trimmed { oldest, .. }) if self.may_trim && oldest > since + 1 => {
                    oldest
                }
                told => return Ok(told),
            };
            since = trimmed - 1;
        }
    }

    fn read_from(&self, db: &Db, since: SeqNo, least: SeqNo) -> Result<Option<Error>, String> {
        let mut changes = match db.changes(since) {
            Ok(changes) => changes,
            Err(error) => return Ok(Some(error)),
        };
        loop {
            let seq = changes.seq() + 1;
            match changes.next() {
                Ok(Some(change)) if change.seq == seq && self.is_right(&change) => {}
                Ok(Some(change)) => return Err(format!("the feed shows at {seq}: {change:?}")),
                Ok(None) if seq > least => return Ok(None),
                Ok(None) => return Err(format!("the feed ends before {seq}, not after {least}")),
                Err(error) => return Ok(Some(error)),
            }
        }
    }

    fn is_right(&self, change: &Change<'_>) -> bool {
        let expected = (self.op_at)(change.seq);
        expected.is_some_and(|Op { key, ts, change: expected }| {
            let (kind, value) = match &expected {
                oracle::Change::Put(value_type, bytes) => {
                    (ValueKind::Put, Some(ValueRef { value_type: *value_type, bytes }))
                }
                oracle::Change::End => (ValueKind::End, None),
                oracle::Change::Erase => (ValueKind::Erase, None),
                // What depends on the state is resolved before it is logged.
                oracle::Change::Rising(..) | oracle::Change::EraseTo(_) => return false,
            };
            (change.key, change.ts, change.kind, change.value) == (&key, ts, kind, value)
        })
    }
}
