//! A chunk in place: finding a key, a row of that key, and its value.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

use crate::codec::ints::{Column, PAD_BYTES};
use crate::codec::template::Template;
use crate::codec::{Codec, values};
use crate::coding::Decoder;
use crate::error::Malformed;
use crate::key::{KEY_BYTES_MAX, Tag, Timestamp, VALUE_BYTES_MAX};

/// The most rows of a chunk.
pub(crate) const CHUNK_ROWS_MAX: usize = 512;

/// A chunk is closed when its values reach this size, in bytes, so a chunk holds less than this and
/// one value of any size.
pub(crate) const CHUNK_VALUE_BYTES: usize = 32 * 1024;

fn malformed(what: &'static str) -> Malformed {
    Malformed { pos: 0, what }
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
    values_len: usize,
    stored_len: usize,
    values: ChunkValues<'a>,
}

/// The values of a chunk in place, as its codec stores them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ChunkValues<'a> {
    /// Each is rendered by itself.
    Template(Template<'a>),
    /// They lie one after the other.
    Run(ValueRun<'a>),
}

/// Values one after the other, perhaps compressed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ValueRun<'a> {
    compressed: bool,
    ends: Column<'a>,
    len: usize,
    stored: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Reads the chunk at the head of `padded`, its body and [`PAD_BYTES`] behind it.
    pub(crate) fn parse(
        first_key: &'a [u8],
        padded: &'a [u8],
        codec: Codec,
    ) -> Result<Self, Malformed> {
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
        let ends = match codec {
            Codec::Template => None,
            Codec::Raw | Codec::Zstd => Some(Column::parse(&mut input, rows)?),
        };
        let padded_values = &padded[input.position()..];
        let stored_len = padded_values
            .len()
            .checked_sub(PAD_BYTES)
            .ok_or_else(|| input.malformed("columns that end in their chunk"))?;
        let values = match ends {
            None => ChunkValues::Template(Template::parse(padded_values, rows)?),
            Some(ends) => {
                let (compressed, stored) = (codec == Codec::Zstd, &padded_values[..stored_len]);
                if !compressed && stored_len != values_len {
                    return Err(input.malformed("raw values of the length told"));
                }
                ChunkValues::Run(ValueRun { compressed, ends, len: values_len, stored })
            }
        };
        Ok(Chunk { first_key, more_keys, rows, ts, tags, values_len, stored_len, values })
    }

    pub(crate) fn codec(&self) -> Codec {
        match self.values {
            ChunkValues::Template(_) => Codec::Template,
            ChunkValues::Run(ValueRun { compressed: true, .. }) => Codec::Zstd,
            ChunkValues::Run(_) => Codec::Raw,
        }
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
        (self.values_len, self.stored_len)
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

    /// Its values, still as they are stored.
    pub(crate) fn values(&self) -> &ChunkValues<'a> {
        &self.values
    }

    /// Replaces `values` by all of them, one after the other, and `ends` by where each ends.
    pub(crate) fn decode_values(
        &self,
        values: &mut Vec<u8>,
        ends: &mut Vec<i64>,
    ) -> Result<(), String> {
        values.clear();
        ends.clear();
        match &self.values {
            ChunkValues::Template(template) => {
                let decoded = template.values_into(values, ends, self.values_len);
                decoded.map_err(|m| m.to_string())?;
            }
            ChunkValues::Run(run) => {
                values.extend_from_slice(&run.bytes()?);
                ends.extend(run.ends.iter());
            }
        }
        let mut start = 0;
        for &end in ends.iter() {
            if end < start || end as usize > values.len() {
                return Err("expected ordered ends of the values".to_owned());
            }
            start = end;
        }
        Ok(())
    }
}

impl<'a> ValueRun<'a> {
    /// Where the value of `row` lies.
    pub(crate) fn range(&self, row: usize) -> Result<Range<usize>, Malformed> {
        let start = if row == 0 { 0 } else { self.ends.get(row - 1) };
        let range = start as usize..self.ends.get(row) as usize;
        if range.start > range.end || range.end > self.len {
            return Err(malformed("ordered ends of the values"));
        }
        Ok(range)
    }

    /// All of it: borrowed where it is stored raw.
    pub(crate) fn bytes(&self) -> Result<Cow<'a, [u8]>, String> {
        if self.compressed {
            values::decompress(self.stored, self.len).map(Cow::Owned)
        } else {
            Ok(Cow::Borrowed(self.stored))
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
