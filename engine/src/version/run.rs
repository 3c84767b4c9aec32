//! A run: tables one behind the other, read as one source.

use std::sync::Arc;

use crate::error::Result;
use crate::iter::{Cursor, Record};
use crate::key::{RunRank, SeqNo, Timestamp};
use crate::table::{TableCursor, TableMeta, TableReader};

/// A live table: what the manifest says of it, and its open file.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) meta: TableMeta,
    pub(crate) reader: Arc<TableReader>,
}

/// Tables in order of `(key, ts)`, none of which overlaps the next; at least one.
#[derive(Debug)]
pub(crate) struct Run {
    tables: Vec<Arc<Table>>,
}

impl Run {
    /// Puts tables of one rank in order; tells which ones overlap.
    pub(crate) fn new(mut tables: Vec<Arc<Table>>) -> Result<Self, String> {
        assert!(!tables.is_empty(), "a run of no tables");
        tables.sort_by(|a, b| first(a).cmp(&first(b)));
        for pair in tables.windows(2) {
            let (a, b) = (&pair[0], &pair[1]);
            if last(a) >= first(b) {
                return Err(format!(
                    "tables {} and {} of run {} overlap",
                    a.meta.id.0, b.meta.id.0, a.meta.rank.0
                ));
            }
        }
        Ok(Run { tables })
    }

    pub(crate) fn rank(&self) -> RunRank {
        self.tables[0].meta.rank
    }

    pub(crate) fn tables(&self) -> &[Arc<Table>] {
        &self.tables
    }

    pub(crate) fn min_seq(&self) -> SeqNo {
        self.tables.iter().map(|t| t.meta.properties.min_seq).min().unwrap_or(SeqNo::MAX)
    }

    pub(crate) fn max_seq(&self) -> SeqNo {
        self.tables.iter().map(|t| t.meta.properties.max_seq).max().unwrap_or(0)
    }

    /// The least timestamp of all records.
    pub(crate) fn min_ts(&self) -> Timestamp {
        self.tables.iter().map(|t| t.meta.properties.min_ts).min().unwrap_or(Timestamp::MAX)
    }

    /// The greatest timestamp of all records.
    pub(crate) fn max_ts(&self) -> Timestamp {
        self.tables.iter().map(|t| t.meta.properties.max_ts).max().unwrap_or(Timestamp::MIN)
    }

    /// The table that holds the run's last record at or before `(key, ts)`, where that record can be
    /// of `key` at all.
    pub(crate) fn table_for(&self, key: &[u8], ts: Timestamp) -> Option<&Table> {
        self.table_no_for(key, ts).map(|table_no| &*self.tables[table_no])
    }

    pub(super) fn table_no_for(&self, key: &[u8], ts: Timestamp) -> Option<usize> {
        let after = self.tables.partition_point(|table| first(table) <= (key, ts));
        let table_no = after.checked_sub(1)?;
        let p = &self.tables[table_no].meta.properties;
        (key <= p.last_key.as_slice() && p.min_ts <= ts).then_some(table_no)
    }

    /// The tables that may have versions of `key`, by their keys: mostly one.
    pub(crate) fn tables_with(&self, key: &[u8]) -> &[Arc<Table>] {
        let start = self.tables.partition_point(|table| last(table).0 < key);
        let behind = &self.tables[start..];
        &behind[..behind.partition_point(|table| first(table).0 <= key)]
    }
}

pub(super) fn first(table: &Table) -> (&[u8], Timestamp) {
    (&table.meta.properties.first_key, table.meta.properties.first_ts)
}

pub(super) fn last(table: &Table) -> (&[u8], Timestamp) {
    (&table.meta.properties.last_key, table.meta.properties.last_ts)
}

/// A cursor over a run, one table after the other.
pub(crate) struct RunCursor {
    run: Arc<Run>,
    table: usize,
    /// `None`: it stands nowhere.
    cursor: Option<TableCursor>,
}

impl RunCursor {
    pub(crate) fn new(run: Arc<Run>) -> Self {
        RunCursor { run, table: 0, cursor: None }
    }

    /// Stands on the first record at or after `(key, ts)` of `self.table` and those behind it.
    fn settle(&mut self, key: &[u8], ts: Timestamp) -> Result<()> {
        while let Some(table) = self.run.tables.get(self.table) {
            let mut cursor = TableCursor::new(Arc::clone(&table.reader));
            cursor.seek(key, ts)?;
            if cursor.record().is_some() {
                self.cursor = Some(cursor);
                return Ok(());
            }
            self.table += 1;
        }
        Ok(())
    }
}

impl Cursor for RunCursor {
    fn seek(&mut self, key: &[u8], ts: Timestamp) -> Result<()> {
        self.cursor = None;
        self.table = self.run.tables.partition_point(|table| last(table) < (key, ts));
        self.settle(key, ts)
    }

    fn next(&mut self) -> Result<()> {
        let cursor = self.cursor.as_mut().expect("a cursor that stands on a record");
        cursor.next()?;
        if cursor.record().is_none() {
            self.cursor = None;
            self.table += 1;
            self.settle(b"", Timestamp::MIN)?;
        }
        Ok(())
    }

    fn record(&self) -> Option<Record<'_>> {
        self.cursor.as_ref()?.record()
    }
}
