//! A data block in place: finding a chunk, a key in it, and a row of that key.
//!
//! Nothing here trusts a length that it has not checked, because a checksum only says that the bytes
//! are the ones that were written.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

use crate::codec::ints::{Column, PAD_BYTES};
use crate::codec::values::{self, Codec};
use crate::coding::Decoder;
use crate::error::Malformed;
use crate::key::{KEY_BYTES_MAX, Tag, Timestamp, VALUE_BYTES_MAX};

/// The most rows of a chunk.
pub(crate) const CHUNK_ROWS_MAX: usize = 1024;

/// A chunk is closed when its values reach this size, in bytes, so a chunk holds less than this and
/// one value of any size.
pub(crate) const CHUNK_VALUE_BYTES: usize = 4096;

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

/// The keys of a chunk after its first one.
#[derive(Clone, Copy, Debug)]
struct MoreKeys<'a> {
    /// How many bytes every key of the chunk shares with the first one.
    shared: usize,
    suffix_ends: Column<'a>,
    suffixes: &'a [u8],
    row_starts: Column<'a>,
}

/// A chunk in place: rows in order of `(key, ts)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk<'a> {
    first_key: &'a [u8],
    more_keys: Option<MoreKeys<'a>>,
    rows: usize,
    ts: Column<'a>,
    tags: Column<'a>,
    value_ends: Column<'a>,
    values_len: usize,
    codec: Codec,
    /// The values as stored.
    stored: &'a [u8],
}

impl<'a> Chunk<'a> {
    fn parse(first_key: &'a [u8], padded: &'a [u8], codec: Codec) -> Result<Self, Malformed> {
        let body_len = padded.len() - PAD_BYTES;
        let mut input = Decoder::new(padded);
        let rows = input.varint("a count of rows")? as usize;
        let keys = input.varint("a count of keys")? as usize;
        let values_len = input.varint("a length of values")? as usize;
        if rows == 0 || rows > CHUNK_ROWS_MAX || keys == 0 || keys > rows {
            return Err(input.malformed("a chunk's counts of rows and keys within their limits"));
        }
        if values_len > VALUE_BYTES_MAX + CHUNK_VALUE_BYTES {
            return Err(input.malformed("a length of values within its limit"));
        }
        let more_keys = match keys {
            1 => None,
            _ => Some(MoreKeys::parse(&mut input, keys - 1, first_key.len())?),
        };
        let ts = Column::parse(&mut input, rows)?;
        let tags = Column::parse(&mut input, rows)?;
        let value_ends = Column::parse(&mut input, rows)?;
        let stored = padded[..body_len]
            .get(input.position()..)
            .ok_or_else(|| input.malformed("columns that end in their chunk"))?;
        if codec == Codec::Raw && stored.len() != values_len {
            return Err(input.malformed("raw values of the length told"));
        }
        Ok(Chunk { first_key, more_keys, rows, ts, tags, value_ends, values_len, codec, stored })
    }

    pub(crate) fn codec(&self) -> Codec {
        self.codec
    }

    /// How many rows it has; at least one.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// How many keys it has; at least one.
    pub(crate) fn keys(&self) -> usize {
        1 + self.more_keys.map_or(0, |more| more.suffix_ends.len())
    }

    /// The length of its values, as written and as stored.
    pub(crate) fn values_bytes(&self) -> (usize, usize) {
        (self.values_len, self.stored.len())
    }

    /// Appends key `index`, one of [`keys`](Self::keys), to `out`.
    pub(crate) fn key_into(&self, index: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let start = out.len();
        match (index, &self.more_keys) {
            (0, _) | (_, None) => out.extend_from_slice(self.first_key),
            (_, Some(more)) => {
                out.extend_from_slice(&self.first_key[..more.shared]);
                out.extend_from_slice(more.suffix(index - 1)?);
            }
        }
        if out.len() - start > KEY_BYTES_MAX {
            return Err(malformed("a key within its limit"));
        }
        Ok(())
    }

    /// The rows of key `index`, one of [`keys`](Self::keys).
    pub(crate) fn rows_of(&self, index: usize) -> Result<Range<usize>, Malformed> {
        let Some(more) = &self.more_keys else { return Ok(0..self.rows) };
        let start_of = |index: usize| match index {
            0 => 0,
            _ if index > more.row_starts.len() => self.rows,
            _ => more.row_starts.get(index - 1) as usize,
        };
        let rows = start_of(index)..start_of(index + 1);
        if rows.start >= rows.end || rows.end > self.rows {
            return Err(malformed("ordered starts of the keys' rows"));
        }
        Ok(rows)
    }

    /// The place of `key` among the keys.
    pub(crate) fn find_key(&self, key: &[u8]) -> Result<Option<usize>, Malformed> {
        if key == self.first_key {
            return Ok(Some(0));
        }
        let Some(more) = &self.more_keys else { return Ok(None) };
        let Some(suffix) = key.strip_prefix(&self.first_key[..more.shared]) else {
            return Ok(None);
        };
        let (mut low, mut high) = (0, more.suffix_ends.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match more.suffix(middle)?.cmp(suffix) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(Some(middle + 1)),
            }
        }
        Ok(None)
    }

    /// The row of the newest version of `key` at or before `at`.
    pub(crate) fn floor(&self, key: &[u8], at: Timestamp) -> Result<Option<usize>, Malformed> {
        let Some(index) = self.find_key(key)? else { return Ok(None) };
        let rows = self.rows_of(index)?;
        let after = self.ts.partition_point(rows.clone(), |ts| ts <= at);
        Ok((after > rows.start).then(|| after - 1))
    }

    /// The timestamp of `row`.
    pub(crate) fn ts(&self, row: usize) -> Timestamp {
        self.ts.get(row)
    }

    /// Kind and type of `row`.
    pub(crate) fn tag(&self, row: usize) -> Result<Tag, Malformed> {
        u8::try_from(self.tags.get(row))
            .ok()
            .and_then(Tag::from_byte)
            .ok_or(malformed("a known kind and type of record"))
    }

    /// Where the value of `row` lies among the chunk's values.
    pub(crate) fn value_range(&self, row: usize) -> Result<Range<usize>, Malformed> {
        let start = if row == 0 { 0 } else { self.value_ends.get(row - 1) };
        let range = start as usize..self.value_ends.get(row) as usize;
        if range.start > range.end || range.end > self.values_len {
            return Err(malformed("ordered ends of the values"));
        }
        Ok(range)
    }

    /// All values, one after the other: borrowed where they are stored raw.
    pub(crate) fn values(&self) -> Result<Cow<'a, [u8]>, String> {
        match self.codec {
            Codec::Raw => Ok(Cow::Borrowed(self.stored)),
            Codec::Zstd => values::decompress(self.stored, self.values_len).map(Cow::Owned),
        }
    }
}

impl<'a> MoreKeys<'a> {
    fn parse(
        input: &mut Decoder<'a>,
        count: usize,
        first_key_len: usize,
    ) -> Result<Self, Malformed> {
        let shared = input.varint("a shared length of keys")? as usize;
        if shared > first_key_len {
            return Err(input.malformed("a shared length within the first key"));
        }
        let suffix_ends = Column::parse(input, count)?;
        let suffixes_len = suffix_ends.get(count - 1);
        let suffixes_len =
            usize::try_from(suffixes_len).map_err(|_| input.malformed("an end of suffixes"))?;
        let suffixes = input.take(suffixes_len, "the suffixes of keys")?;
        let row_starts = Column::parse(input, count)?;
        Ok(MoreKeys { shared, suffix_ends, suffixes, row_starts })
    }

    fn suffix(&self, index: usize) -> Result<&'a [u8], Malformed> {
        let start = if index == 0 { 0 } else { self.suffix_ends.get(index - 1) as usize };
        let end = self.suffix_ends.get(index) as usize;
        self.suffixes.get(start..end).ok_or(malformed("ordered ends of the suffixes"))
    }
}
