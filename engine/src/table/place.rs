//! A chunk in its place among the chunks of a table.

use super::block::Block;
use super::chunk::Chunk;
use super::reader::TableReader;
use crate::codec::Codec;
use crate::error::{Error, Malformed, Result};
use crate::key::Timestamp;

/// A chunk, and the block that holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkPlace<'t> {
    pub(super) table: &'t TableReader,
    block_no: usize,
    block: Block<'t>,
    chunk_no: usize,
    pub(super) chunk: Chunk<'t>,
}

impl<'t> ChunkPlace<'t> {
    /// The chunk that holds the last record at or before `(key, ts)`; `None` where there is no record
    /// so early.
    pub(super) fn find(
        table: &'t TableReader,
        key: &[u8],
        ts: Timestamp,
    ) -> Result<Option<ChunkPlace<'t>>> {
        let Some(block_no) = table.index().find(key, ts) else { return Ok(None) };
        let block = table.block(block_no)?;
        // The block's first record is not after (key, ts), as the index says.
        let chunk_no = block.find(key, ts).map_err(|m| malformed(table, block_no, &m))?;
        Self::of(table, block_no, block, chunk_no.unwrap_or(0)).map(Some)
    }

    /// The chunk that holds the floor of `(key, at)`, if the table has one; `None` where the index tells
    /// that it has none.
    pub(crate) fn find_floor(
        table: &'t TableReader,
        key: &[u8],
        at: Timestamp,
    ) -> Result<Option<ChunkPlace<'t>>> {
        let index = table.index();
        // A fence may tell without a look into the block that it holds later versions only.
        if index.find(key, at).is_none_or(|block| index.row(block).min_ts > at) {
            return Ok(None);
        }
        Self::find(table, key, at)
    }

    pub(super) fn first(table: &'t TableReader) -> Result<Self> {
        Self::at(table, 0, 0)
    }

    pub(super) fn last(table: &'t TableReader) -> Result<Self> {
        Self::at_end_of(table, table.index().len() - 1)
    }

    /// Chunk `chunk_no` of block `block_no`, which has it.
    pub(super) fn at(table: &'t TableReader, block_no: usize, chunk_no: usize) -> Result<Self> {
        Self::of(table, block_no, table.block(block_no)?, chunk_no)
    }

    fn at_end_of(table: &'t TableReader, block_no: usize) -> Result<Self> {
        let block = table.block(block_no)?;
        Self::of(table, block_no, block, block.chunks() - 1)
    }

    fn of(
        table: &'t TableReader,
        block_no: usize,
        block: Block<'t>,
        chunk_no: usize,
    ) -> Result<Self> {
        let chunk = block.chunk(chunk_no).map_err(|m| malformed(table, block_no, &m))?;
        Ok(ChunkPlace { table, block_no, block, chunk_no, chunk })
    }

    /// The numbers of the block in the table, and of the chunk in the block: places are ordered as they
    /// are.
    pub(super) fn number(&self) -> (usize, usize) {
        (self.block_no, self.chunk_no)
    }

    /// The place behind this one.
    pub(super) fn next(&self) -> Result<Option<Self>> {
        if self.chunk_no + 1 < self.block.chunks() {
            return Self::of(self.table, self.block_no, self.block, self.chunk_no + 1).map(Some);
        }
        let is_last = self.block_no + 1 == self.table.index().len();
        (!is_last).then(|| Self::at(self.table, self.block_no + 1, 0)).transpose()
    }

    /// The place before this one.
    pub(super) fn prev(&self) -> Result<Option<Self>> {
        if let Some(chunk_no) = self.chunk_no.checked_sub(1) {
            return Self::of(self.table, self.block_no, self.block, chunk_no).map(Some);
        }
        let before = self.block_no.checked_sub(1);
        before.map(|block_no| Self::at_end_of(self.table, block_no)).transpose()
    }

    /// Where the chunk behind this one begins with `key`: its first timestamp. A block is not looked
    /// into for that, the index knows.
    pub(super) fn next_ts_of(&self, key: &[u8]) -> Result<Option<Timestamp>> {
        if self.chunk_no + 1 < self.block.chunks() {
            let next = self.block.first_ts_of(self.chunk_no + 1, key);
            return next.map_err(|m| self.malformed(&m));
        }
        let (index, next) = (self.table.index(), self.block_no + 1);
        let goes_on = next < index.len() && index.first_key(next) == key;
        Ok(goes_on.then(|| index.first_ts(next)))
    }

    /// Offset of the block in its file, in bytes.
    pub(crate) fn block_offset(&self) -> u64 {
        self.table.index().row(self.block_no).handle.offset
    }

    /// The chunk's number in its block, from 0.
    pub(crate) fn chunk_no(&self) -> usize {
        self.chunk_no
    }

    pub(crate) fn codec(&self) -> Codec {
        self.chunk.codec()
    }

    pub(super) fn malformed(&self, m: &Malformed) -> Error {
        malformed(self.table, self.block_no, m)
    }

    pub(super) fn corruption(&self, what: impl Into<String>) -> Error {
        self.table.corruption(self.block_offset(), what)
    }
}

fn malformed(table: &TableReader, block_no: usize, m: &Malformed) -> Error {
    table.corruption(table.index().row(block_no).handle.offset, m.to_string())
}
