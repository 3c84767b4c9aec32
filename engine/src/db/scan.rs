//! A key's history: its versions in a range of time, in order.

use std::sync::Arc;

use super::state::{Core, SuperVersion};
use crate::error::Result;
use crate::iter::{Cursor, MergeCursor};
use crate::key::{Entry, SeqNo, Timestamp, ValueKind};
use crate::memtable::MemtableCursor;
use crate::version::RunCursor;

impl SuperVersion {
    /// All records up to `visible`, of all sources as one.
    fn cursor(&self, visible: SeqNo) -> MergeCursor<'static> {
        let memtables = self
            .memtables()
            .map(|memtable| Box::new(MemtableCursor::new(Arc::clone(memtable), visible)) as _);
        let runs = self.version.runs().iter();
        let runs = runs.map(|run| Box::new(RunCursor::new(Arc::clone(run))) as Box<dyn Cursor>);
        MergeCursor::new(memtables.chain(runs).collect())
    }
}

/// The versions of a key in a range of time, ascending; see [`Db::history`](crate::Db::history). It
/// shows the database as it was when it was made.
pub struct History {
    cursor: MergeCursor<'static>,
    key: Vec<u8>,
    to: Timestamp,
    ended: bool,
}

impl Core {
    pub(crate) fn history(&self, key: &[u8], from: Timestamp, to: Timestamp) -> Result<History> {
        self.check_open()?;
        let (view, visible) = self.view();
        let mut cursor = view.cursor(visible);
        cursor.seek(key, from)?;
        Ok(History { cursor, key: key.to_vec(), to, ended: false })
    }
}

impl History {
    fn next_entry(&mut self) -> Result<Option<Entry>> {
        loop {
            let Some(record) = self.cursor.record() else { return Ok(None) };
            if record.key != self.key || record.ts > self.to {
                return Ok(None);
            }
            let entry = (record.tag.kind() == ValueKind::Put).then(|| Entry {
                ts: record.ts,
                value_type: record.tag.value_type(),
                value: record.value.to_vec(),
            });
            self.cursor.next()?;
            if entry.is_some() {
                return Ok(entry);
            }
        }
    }
}

impl Iterator for History {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        if self.ended {
            return None;
        }
        let next = self.next_entry().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("to", &self.to).finish_non_exhaustive()
    }
}
