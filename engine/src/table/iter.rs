//! Walking a table's records in order, a chunk decoded at a time.

use std::ops::Range;
use std::sync::Arc;

use super::chunk::{CHUNK_KEY_BYTES_MAX, Chunk};
use super::reader::TableReader;
use super::stored::StoredChunk;
use crate::error::{Error, Result};
use crate::iter::{Cursor, Record};
use crate::key::{Tag, Timestamp, ValueKind};

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
///
/// What it shows may be written to another table, under a new checksum, where damage would never be
/// noticed again. So it verifies each block when it comes to it, also one that was verified before, and
/// that places rise, within the first and the last one that the properties tell.
///
/// Beside the walk over records it offers one over places: by that one, the values of a chunk are decoded
/// when the first of its records is asked for.
pub(crate) struct TableCursor {
    table: Arc<TableReader>,
    /// The block and the chunk in it that `decoded` has the rows of.
    chunk: (usize, usize),
    /// The chunk behind that one.
    next: (usize, usize),
    /// Whether `decoded` has the rows of the chunk before `next`.
    follows: bool,
    decoded: DecodedChunk,
    has_values: bool,
    key: usize,
    /// `None`: it stands nowhere.
    row: Option<usize>,
}

impl TableCursor {
    pub(crate) fn new(table: Arc<TableReader>) -> Self {
        TableCursor {
            table,
            chunk: (0, 0),
            next: (0, 0),
            follows: false,
            decoded: DecodedChunk::default(),
            has_values: false,
            key: 0,
            row: None,
        }
    }

    /// Like [`seek`](Cursor::seek), for a walk over places.
    pub(crate) fn seek_place(&mut self, key: &[u8], ts: Timestamp) -> Result<()> {
        self.row = None;
        let block_no = self.table.index().find(key, ts).unwrap_or(0);
        let chunk = self.table.block(block_no)?.find(key, ts);
        let chunk = chunk.map_err(|m| self.corruption(block_no, m.to_string()))?;
        self.next = (block_no, chunk.unwrap_or(0));
        self.follows = false;
        self.pass_chunk()?;
        while self.place().is_some_and(|place| place < (key, ts)) {
            self.next_place()?;
        }
        Ok(())
    }

    /// Like [`next`](Cursor::next), for a walk over places.
    pub(crate) fn next_place(&mut self) -> Result<()> {
        let row = self.row.expect("a cursor that stands on a record") + 1;
        if row == self.decoded.ts.len() {
            return self.pass_chunk();
        }
        if row == self.decoded.key_rows[self.key].1.end {
            self.key += 1;
        }
        self.row = Some(row);
        Ok(())
    }

    /// Goes behind the chunk in which it stands; past the last one it stands nowhere.
    pub(crate) fn pass_chunk(&mut self) -> Result<()> {
        self.row = None;
        self.has_values = false;
        let (block_no, chunk_no) = self.next;
        if block_no == self.table.index().len() {
            return Ok(());
        }
        if !self.follows || chunk_no == 0 {
            self.table.distrust(block_no);
        }
        let before = self.follows.then(|| {
            let (key, ts) = self.decoded.last();
            (key.to_vec(), ts)
        });
        self.follows = false;
        let block = self.table.block(block_no)?;
        let chunk = block.chunk(chunk_no);
        let chunk = chunk.map_err(|m| self.corruption(block_no, m.to_string()))?;
        let decoded = self.decoded.decode_places(&chunk);
        decoded.map_err(|what| self.corruption(block_no, what))?;
        let (properties, first) = (self.table.properties(), self.decoded.first());
        let rises = before.is_none_or(|(key, ts)| (key.as_slice(), ts) < first)
            && (properties.first_key.as_slice(), properties.first_ts) <= first
            && self.decoded.last() <= (properties.last_key.as_slice(), properties.last_ts);
        if !rises {
            let what =
                "expected records in rising order, within the range that the properties tell";
            return Err(self.corruption(block_no, what.to_owned()));
        }
        self.follows = true;
        self.chunk = self.next;
        let is_last = chunk_no + 1 == block.chunks();
        self.next = if is_last { (block_no + 1, 0) } else { (block_no, chunk_no + 1) };
        self.key = 0;
        self.row = Some(0);
        Ok(())
    }

    /// Key and timestamp of the record it stands on; `None` past the end.
    pub(crate) fn place(&self) -> Option<(&[u8], Timestamp)> {
        let row = self.row?;
        Some((self.decoded.key(self.key), self.decoded.ts[row]))
    }

    /// The kind of the record it stands on; `None` past the end.
    pub(crate) fn kind(&self) -> Option<ValueKind> {
        self.row.map(|row| self.decoded.tags[row].kind())
    }

    /// The record it stands on, in a walk over places. It must stand on one.
    pub(crate) fn read_record(&mut self) -> Result<Record<'_>> {
        self.read_values()?;
        Ok(self.record().expect("a cursor that stands on a record"))
    }

    /// The chunk it stands in, if it stands on the first of its records.
    pub(crate) fn stored_chunk(&self) -> Option<StoredChunk<'_>> {
        if self.row != Some(0) {
            return None;
        }
        let (block_no, chunk_no) = self.chunk;
        // What can't be read now could be a moment ago: whoever reads the records is told.
        let block = self.table.block(block_no).ok()?;
        let chunk = block.chunk(chunk_no).ok()?;
        let bytes = block.bytes_of(chunk_no, &chunk).ok()?;
        Some(StoredChunk { table: &self.table, block_no, chunk, bytes, places: &self.decoded })
    }

    /// Reads the values of the chunk it stands in, unless it has them.
    fn read_values(&mut self) -> Result<()> {
        if self.row.is_none() || self.has_values {
            return Ok(());
        }
        let row = self.row.take();
        let (block_no, chunk_no) = self.chunk;
        let chunk = self.table.block(block_no)?.chunk(chunk_no);
        let chunk = chunk.map_err(|m| self.corruption(block_no, m.to_string()))?;
        let decoded = self.decoded.decode_values(&chunk);
        decoded.map_err(|what| self.corruption(block_no, what))?;
        (self.row, self.has_values) = (row, true);
        Ok(())
    }

    fn corruption(&self, block_no: usize, what: String) -> Error {
        self.table.corruption(self.table.index().row(block_no).handle.offset, what)
    }
}

impl Cursor for TableCursor {
    fn seek(&mut self, key: &[u8], ts: Timestamp) -> Result<()> {
        self.seek_place(key, ts)?;
        self.read_values()
    }

    fn next(&mut self) -> Result<()> {
        self.next_place()?;
        self.read_values()
    }

    fn record(&self) -> Option<Record<'_>> {
        Some(self.decoded.record(self.key, self.row?))
    }
}

impl DecodedChunk {
    /// Takes the rows of `chunk`; tells what in it was not as expected.
    pub(crate) fn decode(&mut self, chunk: &Chunk<'_>) -> Result<(), String> {
        self.decode_places(chunk)?;
        self.decode_values(chunk)
    }

    /// Takes the rows of `chunk` without their values.
    fn decode_places(&mut self, chunk: &Chunk<'_>) -> Result<(), String> {
        self.keys.clear();
        self.key_rows.clear();
        let mut row = 0;
        for key in 0..chunk.keys() {
            let start = self.keys.len();
            chunk.key_into(key, &mut self.keys).map_err(|m| m.to_string())?;
            if self.keys.len() > CHUNK_KEY_BYTES_MAX {
                return Err("expected keys within their length in all".to_owned());
            }
            let last = self.key_rows.last().map(|(last, _)| &self.keys[last.clone()]);
            if last.is_some_and(|last| last >= &self.keys[start..]) {
                return Err("expected keys in rising order".to_owned());
            }
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
        if !self.has_rising_times() {
            return Err("expected records in rising order".to_owned());
        }
        self.tags.clear();
        chunk.tags_into(0..row, &mut self.tags).map_err(|m| m.to_string())
    }

    /// Takes the values of `chunk`, of which it has the rows.
    fn decode_values(&mut self, chunk: &Chunk<'_>) -> Result<(), String> {
        chunk.decode_rows(0..chunk.rows(), &mut self.values, &mut self.value_ends)
    }

    fn has_rising_times(&self) -> bool {
        let mut rows = self.key_rows.iter().map(|(_, rows)| &self.ts[rows.clone()]);
        rows.all(|times| times.is_sorted_by(|a, b| a < b))
    }

    fn key(&self, key: usize) -> &[u8] {
        &self.keys[self.key_rows[key].0.clone()]
    }

    /// Each key with the timestamps and tags of its rows.
    pub(super) fn by_key(&self) -> impl Iterator<Item = (&[u8], &[Timestamp], &[Tag])> {
        let keys = self.key_rows.iter();
        keys.map(|(key, rows)| {
            (&self.keys[key.clone()], &self.ts[rows.clone()], &self.tags[rows.clone()])
        })
    }

    /// Where its first record stands.
    pub(super) fn first(&self) -> (&[u8], Timestamp) {
        (self.key(0), self.ts[0])
    }

    /// Where its last record stands.
    pub(super) fn last(&self) -> (&[u8], Timestamp) {
        (self.key(self.key_rows.len() - 1), self.ts[self.ts.len() - 1])
    }

    pub(super) fn timestamps(&self) -> &[Timestamp] {
        &self.ts
    }

    pub(super) fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// The length of its keys, each counted once, in bytes.
    pub(super) fn keys_bytes(&self) -> usize {
        self.keys.len()
    }

    /// Its records, in their order.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let keys = self.key_rows.iter().enumerate();
        keys.flat_map(move |(key, (_, rows))| rows.clone().map(move |row| self.record(key, row)))
    }

    fn record(&self, key: usize, row: usize) -> Record<'_> {
        let value_start = row.checked_sub(1).map_or(0, |before| self.value_ends[before]) as usize;
        Record {
            key: self.key(key),
            ts: self.ts[row],
            tag: self.tags[row],
            value: &self.values[value_start..self.value_ends[row] as usize],
        }
    }
}
