//! A chunk as it is stored, for a merge that copies it instead of making it anew.

use super::chunk::{Chunk, ChunkBytes};
use super::iter::DecodedChunk;
use super::reader::TableReader;
use crate::error::{Error, Malformed, Result};
use crate::key::{Tag, Timestamp, ValueKind};

/// A chunk in place, of which keys, timestamps and tags are decoded, and values are not.
pub(crate) struct StoredChunk<'t> {
    pub(super) table: &'t TableReader,
    pub(super) block_no: usize,
    pub(super) chunk: Chunk<'t>,
    pub(super) bytes: ChunkBytes<'t>,
    /// Without values.
    pub(super) places: &'t DecodedChunk,
}

impl<'t> StoredChunk<'t> {
    /// Where its last record stands.
    pub(crate) fn last(&self) -> (&'t [u8], Timestamp) {
        self.places.last()
    }

    /// How many records it has; at least one.
    pub(crate) fn rows(&self) -> usize {
        self.chunk.rows()
    }

    /// Its keys, each counted once, and its values before encoding, in bytes.
    pub(crate) fn raw_bytes(&self) -> usize {
        self.places.keys_bytes() + self.value_bytes()
    }

    /// Its values before encoding, in bytes.
    pub(super) fn value_bytes(&self) -> usize {
        self.chunk.values_bytes().0
    }

    pub(crate) fn has_erases(&self) -> bool {
        self.places.tags().iter().any(|tag| tag.kind() == ValueKind::Erase)
    }

    /// What its first record is.
    pub(crate) fn first_tag(&self) -> Tag {
        self.places.tags()[0]
    }

    /// Whether this horizon makes any record garbage, as far as the chunk tells: what its last record is
    /// depends on what follows.
    pub(crate) fn may_be_stale(&self, horizon: Timestamp) -> bool {
        let stands = |tag: &Tag| tag.kind() != ValueKind::Erase;
        let mut is_stale = self.places.by_key().map(|(_, ts, tags)| {
            let early = ts.partition_point(|&ts| ts <= horizon);
            let (ts, tags) = (&ts[..early], &tags[..early]);
            let ended =
                |(&ts, tag): (&Timestamp, &Tag)| tag.kind() == ValueKind::End && ts < horizon;
            tags.windows(2).any(|pair| pair.iter().all(stands)) || ts.iter().zip(tags).any(ended)
        });
        let is_last = self.last().1 <= horizon && self.places.tags().last().is_some_and(stands);
        is_last || is_stale.any(|is_stale| is_stale)
    }

    /// Its rows, decoded.
    pub(super) fn decode(&self) -> Result<DecodedChunk> {
        let mut decoded = DecodedChunk::default();
        decoded.decode(&self.chunk).map_err(|what| self.corruption(what))?;
        Ok(decoded)
    }

    /// What is wrong with it.
    pub(super) fn malformed(&self, malformed: &Malformed) -> Error {
        self.corruption(malformed.to_string())
    }

    fn corruption(&self, what: String) -> Error {
        self.table.corruption(self.table.index().row(self.block_no).handle.offset, what)
    }
}
