//! A data block in place: finding a chunk.
//!
//! Nothing here trusts a length that it has not checked, because a checksum only says that the bytes
//! are the ones that were written.

use std::ops::Range;

use super::chunk::Chunk;
use crate::codec::Codec;
use crate::codec::ints::PAD_BYTES;
use crate::coding::Decoder;
use crate::error::Malformed;
use crate::key::Timestamp;

/// Length of a directory row in bytes.
pub(crate) const DIRECTORY_ROW_BYTES: usize = 17;

/// A data block's contents, without type and checksum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    directory: &'a [u8],
    first_keys: &'a [u8],
    /// The chunk bodies and the pad behind them.
    bodies: &'a [u8],
}

#[derive(Clone, Debug)]
struct DirectoryRow {
    first_ts: Timestamp,
    key: Range<usize>,
    body: Range<usize>,
    codec: Codec,
}

fn malformed(what: &'static str) -> Malformed {
    Malformed { pos: 0, what }
}

impl<'a> Block<'a> {
    /// Reads the header of a block's contents.
    pub(crate) fn parse(contents: &'a [u8]) -> Result<Self, Malformed> {
        let mut input = Decoder::new(contents);
        if input.u8("a zero byte")? != 0 {
            return Err(input.malformed("a zero byte"));
        }
        let chunks = usize::from(input.u16("a count of chunks")?);
        let directory = input.take(chunks * DIRECTORY_ROW_BYTES, "a directory of chunks")?;
        let rest = input.position();
        let last = directory.last_chunk::<DIRECTORY_ROW_BYTES>();
        let keys_len = match last {
            Some(row) => parse_row(row)?.0,
            None => return Err(input.malformed("at least one chunk")),
        };
        let first_keys = input.take(keys_len, "the first keys of the chunks")?;
        Ok(Block { directory, first_keys, bodies: &contents[rest + keys_len..] })
    }

    /// How many chunks it has; at least one.
    pub(crate) fn chunks(&self) -> usize {
        self.directory.len() / DIRECTORY_ROW_BYTES
    }

    fn row(&self, chunk: usize) -> Result<DirectoryRow, Malformed> {
        let rows = self.directory.as_chunks::<DIRECTORY_ROW_BYTES>().0;
        let (key_end, body_end, first_ts, codec) = parse_row(&rows[chunk])?;
        let before = chunk.checked_sub(1).map(|before| parse_row(&rows[before])).transpose()?;
        let (key_start, body_start) = before.map_or((0, 0), |(key, body, ..)| (key, body));
        if key_start > key_end || key_end > self.first_keys.len() {
            return Err(malformed("first keys within the block"));
        }
        if body_start > body_end || body_end + PAD_BYTES > self.bodies.len() {
            return Err(malformed("chunk bodies within the block"));
        }
        Ok(DirectoryRow { first_ts, key: key_start..key_end, body: body_start..body_end, codec })
    }

    /// The chunk that holds the last record at or before `(key, ts)`, if that record is in this block:
    /// the last chunk whose first record is not after it.
    pub(crate) fn find(&self, key: &[u8], ts: Timestamp) -> Result<Option<usize>, Malformed> {
        let (mut low, mut high) = (0, self.chunks());
        while low < high {
            let middle = usize::midpoint(low, high);
            let row = self.row(middle)?;
            let first = (&self.first_keys[row.key], row.first_ts);
            if first <= (key, ts) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low.checked_sub(1))
    }

    /// Chunk `index`, one of [`chunks`](Self::chunks).
    pub(crate) fn chunk(&self, index: usize) -> Result<Chunk<'a>, Malformed> {
        let row = self.row(index)?;
        let padded = &self.bodies[row.body.start..row.body.end + PAD_BYTES];
        Chunk::parse(&self.first_keys[row.key], padded, row.codec)
    }

    /// Where chunk `index` begins, counted from the first body: names a chunk within its block.
    pub(crate) fn chunk_offset(&self, index: usize) -> Result<usize, Malformed> {
        Ok(self.row(index)?.body.start)
    }
}

/// Key end, body end, first timestamp and codec of a directory row.
fn parse_row(
    row: &[u8; DIRECTORY_ROW_BYTES],
) -> Result<(usize, usize, Timestamp, Codec), Malformed> {
    let mut input = Decoder::new(row);
    let first_ts = input.i64("a timestamp")?;
    let key_end = input.u32("the end of a key")? as usize;
    let body_end = input.u32("the end of a chunk")? as usize;
    let codec = Codec::from_byte(input.u8("a codec")?).ok_or(malformed("a known codec"))?;
    Ok((key_end, body_end, first_ts, codec))
}
