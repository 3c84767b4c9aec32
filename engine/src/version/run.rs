//! A run: tables one behind the other, read as one source.

use std::sync::Arc;

use crate::error::Result;
use crate::iter::Record;
use crate::key::{RunRank, SeqNo, Timestamp, ValueKind};
use crate::table::{StoredChunk, TableCursor, TableMeta, TableReader};

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

/// A walk over a run, one table after the other. The values of a chunk are
/// decoded when the first of its records is asked for. After an error it stands nowhere.
pub(crate) struct RunCursor {
    run: Arc<Run>,
    table: usize,
    /// `None`: it stands nowhere.
    cursor: Option<TableCursor>,
}

impl RunCursor {
    /// Stands on the first record.
    pub(crate) fn new(run: Arc<Run>) -> Result<Self> {
        RunCursor::at(run, b"", Timestamp::MIN)
    }

    /// Stands on the first record at or after `(key, ts)`.
    pub(crate) fn at(run: Arc<Run>, key: &[u8], ts: Timestamp) -> Result<Self> {
        let table = run.tables.partition_point(|table| last(table) < (key, ts));
        let mut cursor = RunCursor { run, table, cursor: None };
        cursor.open_table(key, ts)?;
        Ok(cursor)
    }

    /// Key and timestamp of the record it stands on; `None` past the end.
    pub(crate) fn place(&self) -> Option<(&[u8], Timestamp)> {
        self.cursor.as_ref()?.place()
    }

    /// The kind of the record it stands on; `None` past the end.
    pub(crate) fn kind(&self) -> Option<ValueKind> {
        self.cursor.as_ref()?.kind()
    }

    /// The record it stands on. It must stand on one.
    pub(crate) fn read_record(&mut self) -> Result<Record<'_>> {
        self.standing().read_record()
    }

    /// The chunk that begins with the record it stands on, if one does.
    pub(crate) fn stored_chunk(&self) -> Option<StoredChunk<'_>> {
        self.cursor.as_ref()?.stored_chunk()
    }

    /// Goes to the following record. It must stand on one.
    pub(crate) fn next_place(&mut self) -> Result<()> {
        self.standing().next_place()?;
        self.leave_finished_table()
    }

    /// Goes behind the chunk in which it stands. It must stand in one.
    pub(crate) fn pass_chunk(&mut self) -> Result<()> {
        self.standing().pass_chunk()?;
        self.leave_finished_table()
    }

    fn standing(&mut self) -> &mut TableCursor {
        self.cursor.as_mut().expect("a cursor that stands on a record")
    }

    fn leave_finished_table(&mut self) -> Result<()> {
        if self.place().is_none() {
            self.table += 1;
            self.open_table(b"", Timestamp::MIN)?;
        }
        Ok(())
    }

    fn open_table(&mut self, key: &[u8], ts: Timestamp) -> Result<()> {
        self.cursor = None;
        if let Some(table) = self.run.tables.get(self.table) {
            let mut cursor = TableCursor::new(Arc::clone(&table.reader));
            cursor.seek_place(key, ts)?;
            self.cursor = Some(cursor);
        }
        Ok(())
    }
}
