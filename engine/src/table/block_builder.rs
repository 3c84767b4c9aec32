//! Chunks into a data block.

use std::io;

use super::chunk_builder::{ChunkBuilder, ChunkSink, FinishedChunk};
use super::format::BlockType;
use super::stored::StoredChunk;
use crate::codec::ints::PAD_BYTES;
use crate::coding::put_bytes;
use crate::error::Malformed;
use crate::iter::Record;
use crate::key::{Timestamp, key_number, shared_len};

/// A block is closed when its encoded chunks reach this size, in bytes.
pub(super) const BLOCK_BYTES: usize = 16 * 1024;

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
    pub(crate) min_ts: Timestamp,
    pub(crate) max_ts: Timestamp,
    /// How many bytes the first keys of all chunks share.
    pub(crate) shared_len: usize,
    pub(crate) chunks: Vec<ChunkFence>,
}

/// What the index keeps of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkFence {
    /// Of the first key, behind what all first keys share, see [`key_number`].
    pub(crate) number: u64,
    pub(crate) first_ts: Timestamp,
    /// Where it ends in the block's contents.
    pub(crate) end: u32,
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
        self.sink.bytes.len() >= BLOCK_BYTES
    }

    /// Takes a record, which comes after all that it has taken, and for which
    /// [`should_end_before`](Self::should_end_before) was asked.
    pub(crate) fn add(&mut self, record: &Record<'_>) {
        self.chunk.push(record);
        self.widen_fences(record.key, &[record.ts]);
    }

    /// Whether a chunk that is copied should begin a new block. It ends the chunk that is being filled.
    pub(crate) fn should_end_before_chunk(&mut self) -> bool {
        self.chunk.finish(&mut self.sink);
        self.sink.bytes.len() >= BLOCK_BYTES
    }

    /// Takes a chunk as it is stored, which comes after all that it has taken, and for which
    /// [`should_end_before_chunk`](Self::should_end_before_chunk) was asked. `false`, with nothing taken,
    /// where the dictionary has no room for it.
    pub(crate) fn add_chunk(&mut self, chunk: &StoredChunk<'_>) -> Result<bool, Malformed> {
        let (first_key, _) = chunk.places.first();
        let copied = self.chunk.copy(chunk, &mut self.sink)?;
        if copied {
            self.widen_fences(first_key, chunk.places.timestamps());
        }
        Ok(copied)
    }

    /// Takes the timestamps of records of which the first one is of `key`.
    fn widen_fences(&mut self, key: &[u8], ts: &[Timestamp]) {
        let fences = self.fences.get_or_insert_with(|| BlockFences {
            first_key: key.to_vec(),
            min_ts: ts[0],
            max_ts: ts[0],
            shared_len: 0,
            chunks: Vec::new(),
        });
        for &ts in ts {
            fences.min_ts = fences.min_ts.min(ts);
            fences.max_ts = fences.max_ts.max(ts);
        }
    }

    /// The block, up to its checksum, and its fences; `None` where nothing was added. It is then
    /// empty again.
    pub(crate) fn finish(&mut self) -> Option<(Vec<u8>, BlockFences)> {
        let mut fences = self.fences.take()?;
        self.chunk.finish(&mut self.sink);
        let ChunkSink { chunks, bytes } = &mut self.sink;
        let mut block = Vec::with_capacity(bytes.len() + bytes.len() / 8);
        block.push(BlockType::Data as u8);
        // First keys are sorted, so what the first and the last share, all share.
        let last = chunks.last().map_or(&[][..], |chunk| &chunk.first_key);
        fences.shared_len = shared_len(&fences.first_key, last);
        let mut start = 0;
        for FinishedChunk { first_key, first_ts, end } in chunks.drain(..) {
            let suffix = &first_key[fences.shared_len..];
            put_bytes(&mut block, suffix);
            block.extend_from_slice(&bytes[start..end]);
            start = end;
            let (number, end) = (key_number(suffix), block.len() as u32 - 1);
            fences.chunks.push(ChunkFence { number, first_ts, end });
        }
        bytes.clear();
        block.extend_from_slice(&[0; PAD_BYTES]);
        Some((block, fences))
    }

    /// The bytes of the dictionary that the blocks need; `None` where they need none.
    pub(crate) fn dictionary(&self) -> Option<Vec<u8>> {
        self.chunk.dictionary()
    }
}
