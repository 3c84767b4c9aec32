//! A data block in place: finding a chunk.

use super::chunk::{Chunk, ChunkBytes};
use super::search::{FirstRecords, find_last};
use crate::codec::ints::PAD_BYTES;
use crate::codec::template::Dictionary;
use crate::error::Malformed;
use crate::fs::prefetch;
use crate::key::{Timestamp, key_number};

/// A data block: what the index tells of its chunks, and its contents, without type and checksum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    /// What the first keys of all chunks begin with.
    shared: &'a [u8],
    /// Of each chunk. Ends rise, and [`PAD_BYTES`] stand behind the last one.
    numbers: &'a [u64],
    first_ts: &'a [Timestamp],
    ends: &'a [u32],
    contents: &'a [u8],
    dictionary: &'a Dictionary,
}

impl<'a> Block<'a> {
    /// A block of one chunk at least. The index has checked that the ends fit the contents.
    #[inline]
    pub(super) fn new(
        shared: &'a [u8],
        numbers: &'a [u64],
        first_ts: &'a [Timestamp],
        ends: &'a [u32],
        contents: &'a [u8],
        dictionary: &'a Dictionary,
    ) -> Self {
        Block { shared, numbers, first_ts, ends, contents, dictionary }
    }

    /// How many chunks it has; at least one.
    pub(crate) fn chunks(&self) -> usize {
        self.ends.len()
    }

    /// Where chunk `index` begins in the contents: names a chunk within its block.
    #[inline]
    pub(crate) fn chunk_offset(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }

    /// The bytes of a chunk and [`PAD_BYTES`] behind them.
    #[inline]
    pub(super) fn padded(&self, chunk: usize) -> &'a [u8] {
        &self.contents[self.chunk_offset(chunk)..self.ends[chunk] as usize + PAD_BYTES]
    }

    /// The chunk that holds the last record at or before `(key, ts)`, if that record is in this block:
    /// the last chunk whose first record is not after it.
    #[inline]
    pub(crate) fn find(&self, key: &[u8], ts: Timestamp) -> Result<Option<usize>, Malformed> {
        find_last(self, key, ts)
    }

    /// Whether the index tells this of the first record of a chunk, one of [`chunks`](Self::chunks).
    pub(crate) fn has_first(&self, chunk: usize, key: &[u8], ts: Timestamp) -> bool {
        let number = key.strip_prefix(self.shared).map(key_number);
        number == Some(self.numbers[chunk]) && ts == self.first_ts[chunk]
    }

    /// The timestamp of the first record of a chunk, one of [`chunks`](Self::chunks), if that is one of
    /// `key`.
    pub(super) fn first_ts_of(
        &self,
        chunk: usize,
        key: &[u8],
    ) -> Result<Option<Timestamp>, Malformed> {
        let suffix = Chunk::first_suffix(self.padded(chunk))?;
        let is_key = key.strip_prefix(self.shared) == Some(suffix);
        Ok(is_key.then(|| self.first_ts[chunk]))
    }

    /// The bytes of `chunk`, which is chunk `index`.
    pub(super) fn bytes_of(
        &self,
        index: usize,
        chunk: &Chunk<'a>,
    ) -> Result<ChunkBytes<'a>, Malformed> {
        chunk.bytes(self.padded(index))
    }

    /// Chunk `index`, one of [`chunks`](Self::chunks).
    #[inline]
    pub(crate) fn chunk(&self, index: usize) -> Result<Chunk<'a>, Malformed> {
        Chunk::parse(self.shared, self.padded(index), self.dictionary)
    }
}

impl FirstRecords for Block<'_> {
    type Error = Malformed;

    #[inline]
    fn len(&self) -> usize {
        self.chunks()
    }

    #[inline]
    fn shared(&self) -> &[u8] {
        self.shared
    }

    #[inline]
    fn number(&self, index: usize) -> u64 {
        self.numbers[index]
    }

    #[inline]
    fn ts(&self, index: usize) -> Timestamp {
        self.first_ts[index]
    }

    #[inline]
    fn prefetch(&self, index: usize) {
        prefetch(self.padded(index));
    }

    #[inline]
    fn suffix(&self, index: usize) -> Result<&[u8], Malformed> {
        Chunk::first_suffix(self.padded(index))
    }
}
