//! The index: which chunk of which data block may hold the floor of a key at a moment. Held in memory.
//!
//! ```text
//! index block contents: blocks u32 | row*
//! row:   shared varint | suffix length varint | suffix    (of the first key; shared with the row before)
//!        min ts i64 | max ts i64 | offset varint | length varint
//!        | shared length varint | chunks varint | chunk * chunks
//! chunk: number u64 | first ts i64 | end u32
//! ```
//! The shared length is that of what the first keys of all chunks of the block begin with; a chunk's
//! number is made of what follows in its own, see [`key_number`]. Chunks end in the block's contents, each
//! begins where the one before ends, and [`PAD_BYTES`] stand behind the last.

use std::convert::Infallible;

use super::block::Block;
use super::block_builder::{BlockFences, ChunkFence};
use super::format::{BlockHandle, BlockType, CHECKSUM_BYTES};
use super::search::{FirstRecords, find_last};
use crate::codec::ints::PAD_BYTES;
use crate::codec::template::Dictionary;
use crate::coding::{Decoder, put_bytes, put_varint};
use crate::error::Malformed;
use crate::key::{KEY_BYTES_MAX, Timestamp, key_number, shared_len};

/// The first keys of all blocks take at most so many bytes for each byte of data, beside one key: a block
/// but the last has 16 KiB of chunks at least, and its first key at most 64 KiB. Stored, a key may share
/// nearly all of its bytes with the one before, so that the length of the index block is no bound.
const KEY_BYTES_A_BYTE_MAX: u64 = 4;

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
        let shared = shared_len(&key, &self.last_key);
        put_varint(&mut self.rows, shared as u64);
        put_bytes(&mut self.rows, &key[shared..]);
        for ts in [fences.min_ts, fences.max_ts] {
            self.rows.extend_from_slice(&ts.to_le_bytes());
        }
        put_varint(&mut self.rows, handle.offset);
        put_varint(&mut self.rows, u64::from(handle.len));
        put_varint(&mut self.rows, fences.shared_len as u64);
        put_varint(&mut self.rows, fences.chunks.len() as u64);
        for ChunkFence { number, first_ts, end } in fences.chunks {
            self.rows.extend_from_slice(&number.to_le_bytes());
            self.rows.extend_from_slice(&first_ts.to_le_bytes());
            self.rows.extend_from_slice(&end.to_le_bytes());
        }
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

/// What the index knows of a block, beside its first key and its chunks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexRow {
    pub(crate) min_ts: Timestamp,
    pub(crate) max_ts: Timestamp,
    pub(crate) handle: BlockHandle,
    /// How many bytes the first keys of all chunks share.
    shared_len: u32,
    /// Which chunks of the table are those of the block.
    first_chunk: u32,
    end_chunk: u32,
}

/// A table's index. What a search compares first lies side by side, so that it touches few lines of the
/// processor's cache.
#[derive(Debug, Default)]
pub(crate) struct Index {
    rows: Vec<IndexRow>,
    key_ends: Vec<u32>,
    keys: Vec<u8>,
    /// What the first keys of all blocks begin with, in bytes.
    shared_len: usize,
    /// Of the rest of each, see [`key_number`].
    numbers: Vec<u64>,
    /// Of all chunks of the table: the numbers of their first keys, their first timestamps, and where
    /// they end in their blocks.
    chunk_numbers: Vec<u64>,
    chunk_first_ts: Vec<Timestamp>,
    chunk_ends: Vec<u32>,
}

impl Index {
    /// Reads an index block's contents. Blocks must lie before `data_end`, in order.
    pub(crate) fn parse(contents: &[u8], data_end: u64) -> Result<Self, Malformed> {
        let mut input = Decoder::new(contents);
        let blocks = input.u32("a count of blocks")?;
        let mut index = Index::default();
        let mut key = Vec::new();
        for _ in 0..blocks {
            let shared = input.varint("a shared length")? as usize;
            if shared > key.len() {
                return Err(input.malformed("a shared length within the key before"));
            }
            key.truncate(shared);
            key.extend_from_slice(input.bytes(KEY_BYTES_MAX - shared, "a key's suffix")?);
            let row = index.parse_row(&mut input, key.len())?;
            let end = row.handle.offset.checked_add(u64::from(row.handle.len));
            let start = index.rows.last().map_or(0, |r| r.handle.offset + u64::from(r.handle.len));
            if row.handle.offset != start || end.is_none_or(|end| end > data_end) {
                return Err(input.malformed("blocks that follow one another up to the filter"));
            }
            index.keys.extend_from_slice(&key);
            let bytes_max = KEY_BYTES_A_BYTE_MAX.saturating_mul(data_end);
            let bytes_max = bytes_max.saturating_add(KEY_BYTES_MAX as u64);
            let key_end = u32::try_from(index.keys.len());
            let key_end = key_end.ok().filter(|&end| u64::from(end) <= bytes_max);
            let key_end = key_end.ok_or_else(|| input.malformed("keys that fit their blocks"))?;
            index.key_ends.push(key_end);
            index.rows.push(row);
            if let Some(last) = index.len().checked_sub(2)
                && (index.first_key(last), index.first_ts(last)) >= (&key, index.first_ts(last + 1))
            {
                return Err(input.malformed("blocks in rising order of key and timestamp"));
            }
        }
        if index.rows.is_empty() || !input.is_empty() {
            return Err(input.malformed("the told number of blocks, at least one"));
        }
        index.shared_len = shared_len(index.first_key(0), index.first_key(index.len() - 1));
        index.numbers = (0..index.len())
            .map(|block| key_number(&index.first_key(block)[index.shared_len..]))
            .collect();
        Ok(index)
    }

    /// Reads a row behind its key, and takes its chunks.
    fn parse_row(
        &mut self,
        input: &mut Decoder<'_>,
        first_key_len: usize,
    ) -> Result<IndexRow, Malformed> {
        let min_ts = input.i64("a block's least timestamp")?;
        let max_ts = input.i64("a block's greatest timestamp")?;
        let offset = input.varint("a block's offset")?;
        let len = input.varint("a block's length")?;
        let len = u32::try_from(len).map_err(|_| input.malformed("a block's length"))?;
        let shared_len = input.varint("a shared length of keys")?;
        if shared_len > first_key_len as u64 {
            return Err(input.malformed("a shared length within the first key"));
        }
        let chunks = input.varint("a count of chunks")?;
        let first_chunk = self.chunk_ends.len();
        let mut last_end = 0;
        for _ in 0..chunks {
            self.chunk_numbers.push(input.u64("the number of a chunk's key")?);
            self.chunk_first_ts.push(input.i64("a chunk's first timestamp")?);
            let end = input.u32("the end of a chunk")?;
            if end <= last_end {
                return Err(input.malformed("chunks that follow one another"));
            }
            self.chunk_ends.push(end);
            last_end = end;
        }
        let around = (1 + PAD_BYTES + CHECKSUM_BYTES) as u64;
        if chunks == 0 || u64::from(last_end) + around != u64::from(len) {
            return Err(input.malformed("chunks that fill their block"));
        }
        let end_chunk = u32::try_from(self.chunk_ends.len())
            .map_err(|_| input.malformed("fewer than 4 Gi chunks"))?;
        Ok(IndexRow {
            min_ts,
            max_ts,
            handle: BlockHandle { offset, len },
            shared_len: shared_len as u32,
            first_chunk: first_chunk as u32,
            end_chunk,
        })
    }

    /// Block `block`, whose contents, without type and checksum, are these.
    #[inline]
    pub(crate) fn block<'a>(
        &'a self,
        block: usize,
        contents: &'a [u8],
        dictionary: &'a Dictionary,
    ) -> Block<'a> {
        let IndexRow { shared_len, first_chunk, end_chunk, .. } = self.rows[block];
        let chunks = first_chunk as usize..end_chunk as usize;
        Block::new(
            &self.first_key(block)[..shared_len as usize],
            &self.chunk_numbers[chunks.clone()],
            &self.chunk_first_ts[chunks.clone()],
            &self.chunk_ends[chunks],
            contents,
            dictionary,
        )
    }

    /// The timestamp of a block's first record.
    #[inline]
    pub(crate) fn first_ts(&self, block: usize) -> Timestamp {
        self.chunk_first_ts[self.rows[block].first_chunk as usize]
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
    #[inline]
    pub(crate) fn find(&self, key: &[u8], ts: Timestamp) -> Option<usize> {
        let Ok(found) = find_last(self, key, ts);
        found
    }
}

impl FirstRecords for Index {
    type Error = Infallible;

    #[inline]
    fn len(&self) -> usize {
        self.rows.len()
    }

    #[inline]
    fn shared(&self) -> &[u8] {
        &self.keys[..self.shared_len]
    }

    #[inline]
    fn number(&self, index: usize) -> u64 {
        self.numbers[index]
    }

    #[inline]
    fn ts(&self, index: usize) -> Timestamp {
        self.first_ts(index)
    }

    #[inline]
    fn suffix(&self, index: usize) -> Result<&[u8], Infallible> {
        Ok(&self.first_key(index)[self.shared_len..])
    }
}
