//! The index: which data block may hold the floor of a key at a moment. Held in memory.
//!
//! ```text
//! index block contents: blocks u32 | row*
//! row: shared varint | suffix length varint | suffix    (of the first key; shared with the row before)
//!      first ts i64 | min ts i64 | max ts i64 | offset varint | length varint
//! ```

use super::block_builder::BlockFences;
use super::format::{BlockHandle, BlockType};
use crate::coding::{Decoder, put_bytes, put_varint};
use crate::error::Malformed;
use crate::key::{KEY_BYTES_MAX, Timestamp};

/// Collects the rows of an index.
#[derive(Default)]
pub(crate) struct IndexBuilder {
    rows: Vec<u8>,
    blocks: u32,
    last_key: Vec<u8>,
}

impl IndexBuilder {
    /// Takes the next block, in file order.
    pub(crate) fn add(&mut self, fences: BlockFences, handle: BlockHandle) {
        let key = fences.first_key;
        let shared = key.iter().zip(&self.last_key).take_while(|(a, b)| a == b).count();
        put_varint(&mut self.rows, shared as u64);
        put_bytes(&mut self.rows, &key[shared..]);
        for ts in [fences.first_ts, fences.min_ts, fences.max_ts] {
            self.rows.extend_from_slice(&ts.to_le_bytes());
        }
        put_varint(&mut self.rows, handle.offset);
        put_varint(&mut self.rows, u64::from(handle.len));
        self.blocks += 1;
        self.last_key = key;
    }

    /// The index block, up to its checksum.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut block = vec![BlockType::Index as u8];
        block.extend_from_slice(&self.blocks.to_le_bytes());
        block.extend_from_slice(&self.rows);
        block
    }
}

/// What the index knows of a block, beside its first key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexRow {
    pub(crate) first_ts: Timestamp,
    pub(crate) min_ts: Timestamp,
    pub(crate) max_ts: Timestamp,
    pub(crate) handle: BlockHandle,
}

/// A table's index. The first keys lie one behind the other, so that a search touches few lines of
/// the processor's cache.
#[derive(Debug)]
pub(crate) struct Index {
    rows: Vec<IndexRow>,
    key_ends: Vec<u32>,
    keys: Vec<u8>,
}

impl Index {
    /// Reads an index block's contents. Blocks must lie before `data_end`, in order.
    pub(crate) fn parse(contents: &[u8], data_end: u64) -> Result<Self, Malformed> {
        let mut input = Decoder::new(contents);
        let blocks = input.u32("a count of blocks")?;
        let mut index = Index { rows: Vec::new(), key_ends: Vec::new(), keys: Vec::new() };
        let mut key = Vec::new();
        for _ in 0..blocks {
            let shared = input.varint("a shared length")? as usize;
            if shared > key.len() {
                return Err(input.malformed("a shared length within the key before"));
            }
            key.truncate(shared);
            key.extend_from_slice(input.bytes(KEY_BYTES_MAX - shared, "a key's suffix")?);
            let row = Self::parse_row(&mut input)?;
            let end = row.handle.offset.checked_add(u64::from(row.handle.len));
            let start = index.rows.last().map_or(0, |r| r.handle.offset + u64::from(r.handle.len));
            if row.handle.offset != start || end.is_none_or(|end| end > data_end) {
                return Err(input.malformed("blocks that follow one another up to the filter"));
            }
            if let Some(last) = index.rows.len().checked_sub(1)
                && (index.first_key(last), index.rows[last].first_ts) >= (&key, row.first_ts)
            {
                return Err(input.malformed("blocks in rising order of key and timestamp"));
            }
            index.keys.extend_from_slice(&key);
            let key_end = u32::try_from(index.keys.len());
            index.key_ends.push(key_end.map_err(|_| input.malformed("keys of less than 4 GiB"))?);
            index.rows.push(row);
        }
        if index.rows.is_empty() || !input.is_empty() {
            return Err(input.malformed("the told number of blocks, at least one"));
        }
        Ok(index)
    }

    fn parse_row(input: &mut Decoder<'_>) -> Result<IndexRow, Malformed> {
        let first_ts = input.i64("a block's first timestamp")?;
        let min_ts = input.i64("a block's least timestamp")?;
        let max_ts = input.i64("a block's greatest timestamp")?;
        let offset = input.varint("a block's offset")?;
        let len = input.varint("a block's length")?;
        let len = u32::try_from(len).map_err(|_| input.malformed("a block's length"))?;
        Ok(IndexRow { first_ts, min_ts, max_ts, handle: BlockHandle { offset, len } })
    }

    /// How many blocks there are; at least one.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn row(&self, block: usize) -> &IndexRow {
        &self.rows[block]
    }

    pub(crate) fn first_key(&self, block: usize) -> &[u8] {
        let start = if block == 0 { 0 } else { self.key_ends[block - 1] };
        &self.keys[start as usize..self.key_ends[block] as usize]
    }

    /// The block that holds the last record at or before `(key, ts)`: the last one whose first record
    /// is not after it. If its floor is of another key, the table has no version of `key` so early.
    pub(crate) fn find(&self, key: &[u8], ts: Timestamp) -> Option<usize> {
        let (mut low, mut high) = (0, self.rows.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if (self.first_key(middle), self.rows[middle].first_ts) <= (key, ts) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1)
    }
}
