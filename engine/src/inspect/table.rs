//! One SSTable.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Malformed, Result};
use crate::fs::Fs;
use crate::iter::{Cursor, Record};
use crate::key::{DatabaseId, FileId, Timestamp, ValueKind, ValueType};
use crate::table::{
    FOOTER_BYTES, FORMAT_VERSION, TableContext, TableCursor, TableProperties, TableReader,
};

/// An SSTable, opened through a map of its file. It is believed what it says of its own identity.
///
/// Opening reads everything but the data blocks; those are read, and their checksums verified, when
/// they are asked for.
#[derive(Debug)]
pub struct TableView {
    reader: Arc<TableReader>,
}

/// A part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// `data`, `filter`, `late filter`, `dictionary`, `index`, `properties` or `footer`.
    pub name: &'static str,
    /// Where it begins in the file.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
}

/// What the index says of a data block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexRow {
    /// The first record's key.
    pub first_key: Vec<u8>,
    /// The first record's timestamp.
    pub first_ts: Timestamp,
    /// The least timestamp in the block.
    pub min_ts: Timestamp,
    /// The greatest timestamp in the block.
    pub max_ts: Timestamp,
    /// Where the block begins in the file.
    pub offset: u64,
    /// Its length, type and checksum included.
    pub bytes: u64,
}

/// A data block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What the index says of it.
    pub row: IndexRow,
    /// What is compressed as one, in order.
    pub chunks: Vec<Chunk>,
}

/// A chunk of a block: versions of one key, or of several keys that have few.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The first record's key.
    pub first_key: Vec<u8>,
    /// The first record's timestamp.
    pub first_ts: Timestamp,
    /// How many keys it has.
    pub keys: usize,
    /// How many records.
    pub records: usize,
    /// How its values are stored: `raw`, `zstd` or `template`.
    pub codec: &'static str,
    /// The length of its values as they were written, in bytes.
    pub value_bytes: usize,
    /// The length of its values as they are stored, in bytes.
    pub stored_bytes: usize,
}

/// The shape of the bloom filter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FilterShape {
    /// Its size.
    pub bits: u64,
    /// How many of its bits a key sets.
    pub hash_functions: u32,
    /// The share of its bits that are set.
    pub fill: f64,
    /// The share of absent keys that it lets pass, as the fill tells.
    pub false_positive_rate: f64,
}

/// A record, tombstones included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRecord {
    /// Its key.
    pub key: Vec<u8>,
    /// Its timestamp.
    pub ts: Timestamp,
    /// What it says.
    pub kind: ValueKind,
    /// How its value is to be read.
    pub value_type: ValueType,
    /// Its value; empty for a tombstone.
    pub value: Vec<u8>,
}

/// The parts of a table's file.
pub(super) fn sections(reader: &TableReader) -> [Section; 7] {
    let footer = reader.footer();
    let section = |name, offset, bytes: u32| Section { name, offset, bytes: u64::from(bytes) };
    let last = reader.index().row(reader.index().len() - 1).handle;
    let (filter, index, properties) = (footer.filter, footer.index, footer.properties);
    let (late_filter, dictionary) = (footer.late_filter, footer.dictionary);
    [
        Section { name: "data", offset: 0, bytes: last.offset + u64::from(last.len) },
        section("filter", filter.offset, filter.len),
        section("late filter", late_filter.offset, late_filter.len),
        section("dictionary", dictionary.offset, dictionary.len),
        section("index", index.offset, index.len),
        section("properties", properties.offset, properties.len),
        section("footer", footer.file_bytes - FOOTER_BYTES as u64, FOOTER_BYTES as u32),
    ]
}

impl TableView {
    /// Opens a table under any name.
    pub fn open(fs: &dyn Fs, path: &Path) -> Result<TableView> {
        Ok(TableView {
            reader: Arc::new(TableReader::inspect(fs, path, TableContext::unshared())?),
        })
    }

    /// The database that it says it belongs to.
    pub fn database(&self) -> DatabaseId {
        self.reader.footer().identity.database
    }

    /// The id that it says it has.
    pub fn id(&self) -> FileId {
        self.reader.footer().identity.file
    }

    /// The format that it is in.
    // A footer that names another one is refused.
    #[allow(clippy::unused_self)]
    pub fn format_version(&self) -> u32 {
        FORMAT_VERSION
    }

    /// Its length in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.reader.footer().file_bytes
    }

    /// The footer's checksum, by which the manifest knows it.
    pub fn checksum(&self) -> u64 {
        self.reader.footer_checksum()
    }

    /// What it holds.
    pub fn properties(&self) -> &TableProperties {
        self.reader.properties()
    }

    /// The parts of the file, in their order.
    pub fn sections(&self) -> [Section; 7] {
        sections(&self.reader)
    }

    /// The bloom filter.
    pub fn filter(&self) -> FilterShape {
        let (bits, hash_functions) = self.reader.filter().shape();
        let fill = self.reader.filter().fill();
        let false_positive_rate = fill.powi(hash_functions as i32);
        FilterShape { bits, hash_functions, fill, false_positive_rate }
    }

    /// How many data blocks it has; at least one.
    pub fn blocks(&self) -> usize {
        self.reader.index().len()
    }

    /// What the index says of data block `block`, one of [`blocks`](Self::blocks).
    pub fn index_row(&self, block: usize) -> IndexRow {
        let index = self.reader.index();
        let row = index.row(block);
        IndexRow {
            first_key: index.first_key(block).to_vec(),
            first_ts: index.first_ts(block),
            min_ts: row.min_ts,
            max_ts: row.max_ts,
            offset: row.handle.offset,
            bytes: u64::from(row.handle.len),
        }
    }

    /// Data block `block`, one of [`blocks`](Self::blocks).
    pub fn block(&self, block: usize) -> Result<Block> {
        let row = self.index_row(block);
        let contents = self.reader.block(block)?;
        let chunks: Result<Vec<_>, Malformed> = (0..contents.chunks())
            .map(|chunk| {
                let chunk = contents.chunk(chunk)?;
                let mut first_key = Vec::new();
                chunk.key_into(0, &mut first_key)?;
                let (value_bytes, stored_bytes) = chunk.values_bytes();
                Ok(Chunk {
                    first_key,
                    first_ts: chunk.ts(0),
                    keys: chunk.keys(),
                    records: chunk.rows(),
                    codec: chunk.codec().name(),
                    value_bytes,
                    stored_bytes,
                })
            })
            .collect();
        let chunks = chunks.map_err(|m| m.in_file(self.reader.path(), row.offset))?;
        Ok(Block { row, chunks })
    }

    /// The records at or after `(key, ts)`, in order. `(b"", Timestamp::MIN)` is the very first.
    pub fn records(&self, key: &[u8], ts: Timestamp) -> TableRecords {
        let cursor = TableCursor::new(Arc::clone(&self.reader));
        TableRecords { cursor, state: State::Seek(key.to_vec(), ts) }
    }
}

/// Walks the records of a table; it ends after the first error.
pub struct TableRecords {
    cursor: TableCursor,
    state: State,
}

enum State {
    Seek(Vec<u8>, Timestamp),
    Next,
    Ended,
}

impl std::fmt::Debug for TableRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableRecords").finish_non_exhaustive()
    }
}

impl Iterator for TableRecords {
    type Item = Result<TableRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let moved = match std::mem::replace(&mut self.state, State::Ended) {
            State::Seek(key, ts) => self.cursor.seek(&key, ts),
            State::Next => self.cursor.next(),
            State::Ended => return None,
        };
        if let Err(error) = moved {
            return Some(Err(error));
        }
        let record = self.cursor.record()?;
        self.state = State::Next;
        Some(Ok(owned(&record)))
    }
}

fn owned(record: &Record<'_>) -> TableRecord {
    TableRecord {
        key: record.key.to_vec(),
        ts: record.ts,
        kind: record.tag.kind(),
        value_type: record.tag.value_type(),
        value: record.value.to_vec(),
    }
}
