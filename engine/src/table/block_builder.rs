//! Chunks into a data block.

use std::io;

use super::chunk_builder::{ChunkBuilder, ChunkSink};
use super::format::BlockType;
use crate::codec::ints::PAD_BYTES;
use crate::iter::Record;
use crate::key::Timestamp;

/// A block is closed when its encoded chunks reach this size, in bytes.
const BLOCK_BYTES: usize = 16 * 1024;

/// And when it has so many chunks; rows that are cut into runs add some dozens at once.
const CHUNKS_MAX: u16 = u16::MAX / 2;

/// A data block that is being filled, and the fences that the index keeps of it.
pub(crate) struct BlockBuilder {
    chunk: ChunkBuilder,
    sink: ChunkSink,
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
        let (chunk, sink) = (ChunkBuilder::new()?, ChunkSink::default());
        Ok(BlockBuilder { chunk, sink, fences: None })
    }

    /// Whether a record of `key` should begin a new block. It ends the chunk that is being filled,
    /// where that should not go on with the record either: so that the block's size is known.
    pub(crate) fn should_end_before(&mut self, key: &[u8]) -> bool {
        if self.chunk.should_end_before(key) {
            self.chunk.finish(&mut self.sink);
        }
        self.sink.bodies.len() + self.sink.first_keys.len() >= BLOCK_BYTES
            || self.sink.chunks >= CHUNKS_MAX
    }

    /// Takes a record, which comes after all that it has taken, and for which
    /// [`should_end_before`](Self::should_end_before) was asked.
    pub(crate) fn add(&mut self, record: &Record<'_>) {
        self.chunk.push(record);
        let fences = self.fences.get_or_insert_with(|| BlockFences {
            first_key: record.key.to_vec(),
            first_ts: record.ts,
            min_ts: record.ts,
            max_ts: record.ts,
        });
        fences.min_ts = fences.min_ts.min(record.ts);
        fences.max_ts = fences.max_ts.max(record.ts);
    }

    /// The block, up to its checksum, and its fences; `None` where nothing was added. It is then
    /// empty again.
    pub(crate) fn finish(&mut self) -> Option<(Vec<u8>, BlockFences)> {
        let fences = self.fences.take()?;
        self.chunk.finish(&mut self.sink);
        let ChunkSink { directory, first_keys, bodies, chunks } = &mut self.sink;
        let mut block = vec![BlockType::Data as u8, 0];
        block.extend_from_slice(&chunks.to_le_bytes());
        block.append(directory);
        block.append(first_keys);
        block.append(bodies);
        block.extend_from_slice(&[0; PAD_BYTES]);
        *chunks = 0;
        Some((block, fences))
    }
}
