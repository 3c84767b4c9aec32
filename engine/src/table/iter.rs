//! Walking a table's records in order, a chunk decoded at a time.

use std::ops::Range;
use std::sync::Arc;

use super::chunk::Chunk;
use super::reader::TableReader;
use crate::error::Result;
use crate::iter::{Cursor, Record};
use crate::key::{Tag, Timestamp};

/// A chunk's rows, decoded. Reused from chunk to chunk.
#[derive(Default)]
pub(crate) struct DecodedChunk {
    keys: Vec<u8>,
    /// For each key: where it lies in `keys`, and its rows.
    key_rows: Vec<(Range<usize>, Range<usize>)>,
    ts: Vec<Timestamp>,
    tags: Vec<Tag>,
    value_ends: Vec<i64>,
    values: Vec<u8>,
}

/// A cursor over one table. It goes past the cache, which it would fill with what is read once.
pub(crate) struct TableCursor {
    table: Arc<TableReader>,
    block: usize,
    /// The next chunk of `block` to decode.
    next_chunk: usize,
    decoded: DecodedChunk,
    key: usize,
    /// `None`: it stands nowhere.
    row: Option<usize>,
}

impl TableCursor {
    pub(crate) fn new(table: Arc<TableReader>) -> Self {
        TableCursor {
            table,
            block: 0,
            next_chunk: 0,
            decoded: DecodedChunk::default(),
            key: 0,
            row: None,
        }
    }

    /// Decodes the next chunk and stands on its first row; past the last one it stands nowhere.
    fn next_chunk(&mut self) -> Result<()> {
        self.row = None;
        if self.block == self.table.index().len() {
            return Ok(());
        }
        let offset = self.table.index().row(self.block).handle.offset;
        let block = self.table.block(self.block)?;
        let chunk = block
            .chunk(self.next_chunk)
            .map_err(|m| self.table.corruption(offset, m.to_string()))?;
        self.decoded.decode(&chunk).map_err(|what| self.table.corruption(offset, what))?;
        self.next_chunk += 1;
        if self.next_chunk == block.chunks() {
            self.block += 1;
            self.next_chunk = 0;
        }
        self.key = 0;
        self.row = Some(0);
        Ok(())
    }
}

impl Cursor for TableCursor {
    fn seek(&mut self, key: &[u8], ts: Timestamp) -> Result<()> {
        self.row = None;
        self.block = self.table.index().find(key, ts).unwrap_or(0);
        let offset = self.table.index().row(self.block).handle.offset;
        let block = self.table.block(self.block)?;
        let chunk = block.find(key, ts);
        let chunk = chunk.map_err(|m| self.table.corruption(offset, m.to_string()))?;
        self.next_chunk = chunk.unwrap_or(0);
        self.next_chunk()?;
        while self.record().is_some_and(|record| (record.key, record.ts) < (key, ts)) {
            self.next()?;
        }
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        let row = self.row.expect("a cursor that stands on a record") + 1;
        if row == self.decoded.ts.len() {
            return self.next_chunk();
        }
        if row == self.decoded.key_rows[self.key].1.end {
            self.key += 1;
        }
        self.row = Some(row);
        Ok(())
    }

    fn record(&self) -> Option<Record<'_>> {
        Some(self.decoded.record(self.key, self.row?))
    }
}

impl DecodedChunk {
    /// Takes the rows of `chunk`; tells what in it was not as expected.
    pub(crate) fn decode(&mut self, chunk: &Chunk<'_>) -> Result<(), String> {
        self.keys.clear();
        self.key_rows.clear();
        let mut row = 0;
        for key in 0..chunk.keys() {
            let start = self.keys.len();
            chunk.key_into(key, &mut self.keys).map_err(|m| m.to_string())?;
            let rows = chunk.rows_of(key).map_err(|m| m.to_string())?;
            if rows.start != row {
                return Err("expected keys whose rows follow one another".to_owned());
            }
            row = rows.end;
            self.key_rows.push((start..self.keys.len(), rows));
        }
        if row != chunk.rows() {
            return Err("expected a key for every row".to_owned());
        }
        self.ts.clear();
        self.ts.extend(chunk.timestamps(0..row));
        self.tags.clear();
        chunk.tags_into(0..row, &mut self.tags).map_err(|m| m.to_string())?;
        chunk.decode_rows(0..row, &mut self.values, &mut self.value_ends)
    }

    /// Its records, in their order.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let keys = self.key_rows.iter().enumerate();
        keys.flat_map(move |(key, (_, rows))| rows.clone().map(move |row| self.record(key, row)))
    }

    fn record(&self, key: usize, row: usize) -> Record<'_> {
        let value_start = row.checked_sub(1).map_or(0, |before| self.value_ends[before]) as usize;
        Record {
            key: &self.keys[self.key_rows[key].0.clone()],
            ts: self.ts[row],
            tag: self.tags[row],
            value: &self.values[value_start..self.value_ends[row] as usize],
        }
    }
}
