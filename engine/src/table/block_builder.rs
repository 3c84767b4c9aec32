//! Rows into chunks, chunks into a data block.

use std::io;

use super::block::{CHUNK_ROWS_MAX, CHUNK_VALUE_BYTES};
use super::format::BlockType;
use crate::codec::ints::{self, PAD_BYTES};
use crate::codec::values::ValueEncoder;
use crate::coding::put_varint;
use crate::iter::Record;
use crate::key::Timestamp;

/// A block is closed when its encoded chunks reach this size, in bytes.
const BLOCK_BYTES: usize = 16 * 1024;

/// From so many versions on, a key has its chunks for itself, whose timestamp columns are then
/// cheaper; below, keys share a chunk, whose own cost is then shared too.
const OWN_CHUNK_ROWS: usize = 16;

/// The rows of the chunk that is being filled.
#[derive(Default)]
struct PendingChunk {
    keys: Vec<Vec<u8>>,
    row_starts: Vec<usize>,
    ts: Vec<i64>,
    tags: Vec<i64>,
    value_ends: Vec<i64>,
    values: Vec<u8>,
}

impl PendingChunk {
    fn push(&mut self, record: &Record<'_>) {
        if self.keys.last().is_none_or(|key| key != record.key) {
            self.keys.push(record.key.to_vec());
            self.row_starts.push(self.ts.len());
        }
        self.ts.push(record.ts);
        self.tags.push(i64::from(record.tag.to_byte()));
        self.values.extend_from_slice(record.value);
        self.value_ends.push(self.values.len() as i64);
    }

    fn is_full(&self) -> bool {
        self.ts.len() == CHUNK_ROWS_MAX || self.values.len() >= CHUNK_VALUE_BYTES
    }

    /// Whether the next record, which has another key, should begin a new chunk.
    fn should_end_before_new_key(&self) -> bool {
        self.row_starts.last().is_some_and(|start| self.ts.len() - start >= OWN_CHUNK_ROWS)
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.row_starts.clear();
        self.ts.clear();
        self.tags.clear();
        self.value_ends.clear();
        self.values.clear();
    }
}

/// A data block that is being filled, and the fences that the index keeps of it.
pub(crate) struct BlockBuilder {
    encoder: ValueEncoder,
    pending: PendingChunk,
    directory: Vec<u8>,
    first_keys: Vec<u8>,
    bodies: Vec<u8>,
    chunks: u16,
    fences: Option<BlockFences>,
}

/// What the index keeps of a block beside its handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockFences {
    pub(crate) first_key: Vec<u8>,
    pub(crate) first_ts: Timestamp,
    pub(crate) min_ts: Timestamp,
    pub(crate) max_ts: Timestamp,
}

impl BlockBuilder {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(BlockBuilder {
            encoder: ValueEncoder::new()?,
            pending: PendingChunk::default(),
            directory: Vec::new(),
            first_keys: Vec::new(),
            bodies: Vec::new(),
            chunks: 0,
            fences: None,
        })
    }

    /// Takes a record, which comes after all that it has taken.
    pub(crate) fn add(&mut self, record: &Record<'_>) {
        let new_key = self.pending.keys.last().is_some_and(|key| key != record.key);
        if self.pending.is_full() || (new_key && self.pending.should_end_before_new_key()) {
            self.end_chunk();
        }
        self.pending.push(record);
        let fences = self.fences.get_or_insert_with(|| BlockFences {
            first_key: record.key.to_vec(),
            first_ts: record.ts,
            min_ts: record.ts,
            max_ts: record.ts,
        });
        fences.min_ts = fences.min_ts.min(record.ts);
        fences.max_ts = fences.max_ts.max(record.ts);
    }

    /// Whether the next record should begin a new block.
    pub(crate) fn is_full(&self) -> bool {
        let pending = if self.pending.is_full() { CHUNK_VALUE_BYTES / 4 } else { 0 };
        self.bodies.len() + self.first_keys.len() + pending >= BLOCK_BYTES
            || self.chunks == u16::MAX - 1
    }

    /// The block, up to its checksum, and its fences; `None` where nothing was added. It is then
    /// empty again.
    pub(crate) fn finish(&mut self) -> Option<(Vec<u8>, BlockFences)> {
        let fences = self.fences.take()?;
        self.end_chunk();
        let mut block = vec![BlockType::Data as u8, 0];
        block.extend_from_slice(&self.chunks.to_le_bytes());
        block.append(&mut self.directory);
        block.append(&mut self.first_keys);
        block.append(&mut self.bodies);
        block.extend_from_slice(&[0; PAD_BYTES]);
        self.chunks = 0;
        Some((block, fences))
    }

    fn end_chunk(&mut self) {
        let pending = &mut self.pending;
        let (Some(first_key), Some(&first_ts)) = (pending.keys.first(), pending.ts.first()) else {
            return;
        };
        self.first_keys.extend_from_slice(first_key);
        let (codec, stored) = self.encoder.encode(&pending.values);
        let out = &mut self.bodies;
        put_varint(out, pending.ts.len() as u64);
        put_varint(out, pending.keys.len() as u64);
        put_varint(out, pending.values.len() as u64);
        if pending.keys.len() > 1 {
            encode_more_keys(out, &pending.keys, &pending.row_starts);
        }
        ints::encode(out, &pending.ts);
        ints::encode(out, &pending.tags);
        ints::encode(out, &pending.value_ends);
        out.extend_from_slice(stored);
        self.directory.extend_from_slice(&first_ts.to_le_bytes());
        self.directory.extend_from_slice(&(self.first_keys.len() as u32).to_le_bytes());
        self.directory.extend_from_slice(&(self.bodies.len() as u32).to_le_bytes());
        self.directory.push(codec as u8);
        self.chunks += 1;
        pending.clear();
    }
}

fn encode_more_keys(out: &mut Vec<u8>, keys: &[Vec<u8>], row_starts: &[usize]) {
    let (first, more) = (&keys[0], &keys[1..]);
    // Keys are sorted, so what the first and the last share, all share.
    let last = &keys[keys.len() - 1];
    let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    put_varint(out, shared as u64);
    let mut end = 0;
    let suffix_ends: Vec<i64> = more
        .iter()
        .map(|key| {
            end += (key.len() - shared) as i64;
            end
        })
        .collect();
    ints::encode(out, &suffix_ends);
    for key in more {
        out.extend_from_slice(&key[shared..]);
    }
    let row_starts: Vec<i64> = row_starts[1..].iter().map(|&start| start as i64).collect();
    ints::encode(out, &row_starts);
}
