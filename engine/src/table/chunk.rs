//! A chunk in place: finding a key, a row of that key, and its value.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

use crate::codec::ints::{Column, Model, PAD_BYTES};
use crate::codec::template::{Dictionary, Template};
use crate::codec::{Codec, values};
use crate::coding::Decoder;
use crate::error::Malformed;
use crate::key::{KEY_BYTES_MAX, Tag, Timestamp, VALUE_BYTES_MAX};

/// The most rows of a chunk.
pub(crate) const CHUNK_ROWS_MAX: usize = 512;

/// A chunk is closed when its values reach this size, in bytes, so a chunk holds less than this and
/// one value of any size.
pub(crate) const CHUNK_VALUE_BYTES: usize = 32 * 1024;

/// A chunk is closed as well when its keys and values together reach that size, so its keys take less
/// than this and one key of any length.
pub(crate) const CHUNK_KEY_BYTES_MAX: usize = CHUNK_VALUE_BYTES + KEY_BYTES_MAX;

/// What a chunk says of the length of its values is believed up to here before they are there, in bytes.
const RESERVED_BYTES_MAX: usize = 1 << 20;

/// Room behind decoded values, in bytes, so that the last ones are appended without growth too.
const CHUNK_SLACK_BYTES: usize = 64;

fn malformed(what: &'static str) -> Malformed {
    Malformed { pos: 0, what }
}

/// A chunk in place: rows in order of `(key, ts)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk<'a> {
    /// The first key: what it shares with all of the block, and the rest.
    shared: &'a [u8],
    first_suffix: &'a [u8],
    rows: usize,
    keys: usize,
    /// Of the keys after the first one.
    more_keys: &'a [u8],
    ts: Column<'a>,
    tags: Column<'a>,
    values: StoredValues<'a>,
}

/// The values of a chunk in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredValues<'a> {
    codec: Codec,
    rows: u32,
    /// Their length in all, before they were encoded.
    len: usize,
    /// What is to be known first, and the rest, with [`PAD_BYTES`] behind each.
    head: &'a [u8],
    data: &'a [u8],
    dictionary: &'a Dictionary,
}

/// The values of a chunk by their codec.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ChunkValues<'a> {
    /// Each is rendered by itself.
    Template(Template<'a>),
    /// They lie one after the other.
    Run(ValueRun<'a>),
}

/// The bytes of a chunk behind its first key, as a copy needs them.
#[derive(Clone, Copy)]
pub(super) struct ChunkBytes<'a> {
    pub(super) codec: Codec,
    /// From the codec up to the values' head.
    pub(super) front: &'a [u8],
    /// The values' head, with [`PAD_BYTES`] behind it.
    pub(super) padded_head: &'a [u8],
    /// What the head refers to.
    pub(super) dictionary: &'a Dictionary,
    /// The rest of the chunk.
    pub(super) data: &'a [u8],
}

/// Values one after the other, perhaps compressed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ValueRun<'a> {
    compressed: bool,
    ends: Column<'a>,
    len: usize,
    stored: &'a [u8],
}

/// The keys of a chunk after its first one.
struct MoreKeys<'a> {
    /// How many bytes every key of the chunk shares with the first one.
    shared: usize,
    suffix_ends: Column<'a>,
    suffixes: &'a [u8],
    row_starts: Column<'a>,
}

impl<'a> Chunk<'a> {
    /// Reads the chunk at the head of `padded`, its bytes and [`PAD_BYTES`] behind it. All keys of its
    /// block begin with `shared`.
    #[inline]
    pub(crate) fn parse(
        shared: &'a [u8],
        padded: &'a [u8],
        dictionary: &'a Dictionary,
    ) -> Result<Self, Malformed> {
        let mut input = Decoder::new(padded);
        let first_suffix = input.bytes(KEY_BYTES_MAX, "a first key")?;
        let codec = Codec::from_byte(input.u8("a codec")?)
            .ok_or_else(|| input.malformed("a known codec"))?;
        let rows = input.varint("a count of rows")? as usize;
        let keys = input.varint("a count of keys")? as usize;
        let len = input.varint("a length of values")? as usize;
        if rows == 0 || rows > CHUNK_ROWS_MAX || keys == 0 || keys > rows {
            return Err(input.malformed("a chunk's counts of rows and keys within their limits"));
        }
        if len > VALUE_BYTES_MAX + CHUNK_VALUE_BYTES {
            return Err(input.malformed("a length of values within its limit"));
        }
        let keys_len = if keys == 1 { 0 } else { input.varint("a length of keys")? as usize };
        let (ts, tags) = (Model::parse(&mut input)?, Model::parse(&mut input)?);
        let head_len = input.varint("a length of what tells of values")? as usize;
        let head = input.take_padded(head_len, PAD_BYTES, "what tells of values")?;
        let more_keys = input.take_padded(keys_len, PAD_BYTES, "keys")?;
        let ts = Column::of_residuals(&mut input, ts, rows)?;
        let tags = Column::of_residuals(&mut input, tags, rows)?;
        let data = &padded[input.position()..];
        let values = StoredValues { codec, rows: rows as u32, len, head, data, dictionary };
        Ok(Chunk { shared, first_suffix, rows, keys, more_keys, ts, tags, values })
    }

    /// The first key of the chunk at the head of these bytes, without what all of its block share.
    #[inline]
    pub(super) fn first_suffix(bytes: &[u8]) -> Result<&[u8], Malformed> {
        Decoder::new(bytes).bytes(KEY_BYTES_MAX, "a first key")
    }

    /// The bytes of the chunk that was read from `padded`.
    pub(super) fn bytes(&self, padded: &'a [u8]) -> Result<ChunkBytes<'a>, Malformed> {
        let mut input = Decoder::new(padded);
        input.bytes(KEY_BYTES_MAX, "a first key")?;
        let start = input.position();
        input.u8("a codec")?;
        let numbers = if self.keys == 1 { 3 } else { 4 };
        for _ in 0..numbers {
            input.varint("a count or a length")?;
        }
        for _ in ["timestamps", "tags"] {
            Model::parse(&mut input)?;
        }
        let front = &padded[start..input.position()];
        let head_len = input.varint("a length of what tells of values")? as usize;
        let padded_head = input.take_padded(head_len, PAD_BYTES, "what tells of values")?;
        let data = &padded[input.position()..padded.len() - PAD_BYTES];
        let StoredValues { codec, dictionary, .. } = self.values;
        Ok(ChunkBytes { codec, front, padded_head, dictionary, data })
    }

    pub(crate) fn codec(&self) -> Codec {
        self.values.codec
    }

    /// How many rows it has; at least one.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// How many keys it has; at least one.
    pub(crate) fn keys(&self) -> usize {
        self.keys
    }

    /// The length of its values, as written and as stored.
    pub(crate) fn values_bytes(&self) -> (usize, usize) {
        (self.values.len, self.values.head.len() + self.values.data.len() - 2 * PAD_BYTES)
    }

    /// The keys after the first one, of which there is one at least.
    fn more_keys(&self) -> Result<MoreKeys<'a>, Malformed> {
        let first_key_len = self.shared.len() + self.first_suffix.len();
        MoreKeys::parse(self.more_keys, self.keys - 1, first_key_len)
    }

    /// The first `len` bytes of the first key, in two parts.
    fn first_key(&self, len: usize) -> (&'a [u8], &'a [u8]) {
        let of_shared = len.min(self.shared.len());
        (&self.shared[..of_shared], &self.first_suffix[..len - of_shared])
    }

    /// Appends key `index`, one of [`keys`](Self::keys), to `out`.
    pub(crate) fn key_into(&self, index: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let start = out.len();
        let more = if index == 0 { None } else { Some(self.more_keys()?) };
        let first_key_len = self.shared.len() + self.first_suffix.len();
        let (front, back) = self.first_key(more.as_ref().map_or(first_key_len, |m| m.shared));
        out.extend_from_slice(front);
        out.extend_from_slice(back);
        if let Some(more) = more {
            out.extend_from_slice(more.suffix(index - 1)?);
        }
        if out.len() - start > KEY_BYTES_MAX {
            return Err(malformed("a key within its limit"));
        }
        Ok(())
    }

    /// The rows of key `index`, one of [`keys`](Self::keys).
    pub(crate) fn rows_of(&self, index: usize) -> Result<Range<usize>, Malformed> {
        if self.keys == 1 {
            return Ok(0..self.rows);
        }
        let starts = self.more_keys()?.row_starts;
        let start_of = |index: usize| match index {
            0 => 0,
            _ if index > starts.len() => self.rows,
            _ => starts.get(index - 1) as usize,
        };
        let rows = start_of(index)..start_of(index + 1);
        if rows.start >= rows.end || rows.end > self.rows {
            return Err(malformed("ordered starts of the keys' rows"));
        }
        Ok(rows)
    }

    /// The place of `key` among the keys.
    #[inline]
    pub(crate) fn find_key(&self, key: &[u8]) -> Result<Option<usize>, Malformed> {
        if key.strip_prefix(self.shared) == Some(self.first_suffix) {
            return Ok(Some(0));
        }
        if self.keys == 1 {
            return Ok(None);
        }
        let more = self.more_keys()?;
        let (front, back) = self.first_key(more.shared);
        let suffix = key.strip_prefix(front).and_then(|rest| rest.strip_prefix(back));
        let Some(suffix) = suffix else { return Ok(None) };
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
        let after = self.rows_upto(rows.clone(), at);
        Ok((after > rows.start).then(|| after - 1))
    }

    /// The timestamp of `row`.
    pub(crate) fn ts(&self, row: usize) -> Timestamp {
        self.ts.get(row)
    }

    /// The timestamps of some rows.
    pub(crate) fn timestamps(&self, rows: Range<usize>) -> impl Iterator<Item = Timestamp> + '_ {
        self.ts.elements(rows)
    }

    /// The end of the leading rows in `rows`, which are of one key, that are at or before `at`.
    #[inline]
    pub(crate) fn rows_upto(&self, rows: Range<usize>, at: Timestamp) -> usize {
        self.ts.upper_bound(rows, at)
    }

    /// Appends kind and type of some rows.
    pub(crate) fn tags_into(
        &self,
        rows: Range<usize>,
        out: &mut Vec<Tag>,
    ) -> Result<(), Malformed> {
        if self.tags.is_constant() && !rows.is_empty() {
            let tag = self.tag(rows.start)?;
            out.resize(out.len() + rows.len(), tag);
            return Ok(());
        }
        for row in rows {
            out.push(self.tag(row)?);
        }
        Ok(())
    }

    /// Kind and type of `row`.
    pub(crate) fn tag(&self, row: usize) -> Result<Tag, Malformed> {
        u8::try_from(self.tags.get(row))
            .ok()
            .and_then(Tag::from_byte)
            .ok_or(malformed("a known kind and type of record"))
    }

    /// Its values, still as they are stored.
    #[inline]
    pub(crate) fn values(&self) -> StoredValues<'a> {
        self.values
    }

    /// Writes the values of some rows one after the other, from the start of `values` on, and makes `ends`
    /// where each of them ends. What `values` has behind the last one is of no meaning.
    pub(crate) fn decode_rows(
        &self,
        rows: Range<usize>,
        values: &mut Vec<u8>,
        ends: &mut Vec<i64>,
    ) -> Result<(), String> {
        ends.clear();
        let len = match self.values.by_codec().map_err(|m| m.to_string())? {
            ChunkValues::Template(template) => {
                let len_about = rows.len() * self.values.value_bytes_about();
                let reserved = len_about.min(RESERVED_BYTES_MAX);
                values.reserve(reserved.saturating_sub(values.len()));
                ends.reserve(rows.len());
                let decoded = template.values_into(rows, values, ends);
                decoded.map_err(|m| m.to_string())?;
                values.len()
            }
            ChunkValues::Run(run) => {
                let start = if rows.start == 0 { 0 } else { run.ends.get(rows.start - 1) };
                let stored = run.bytes()?;
                let stored = usize::try_from(start).ok().and_then(|start| stored.get(start..));
                let stored = stored.ok_or("expected ordered ends of the values")?;
                values.clear();
                values.extend_from_slice(stored);
                ends.extend(run.ends.elements(rows).map(|end| end.wrapping_sub(start)));
                stored.len()
            }
        };
        let mut start = 0;
        for &end in ends.iter() {
            if end < start || end as usize > len {
                return Err("expected ordered ends of the values".to_owned());
            }
            start = end;
        }
        Ok(())
    }
}

impl<'a> StoredValues<'a> {
    /// Room for one of them, by their mean, in bytes: an allocation that seldom has to grow.
    pub(crate) fn value_bytes_about(&self) -> usize {
        (self.len / self.rows as usize).min(RESERVED_BYTES_MAX) + CHUNK_SLACK_BYTES
    }

    /// By their codec, still as they are stored.
    #[inline]
    pub(crate) fn by_codec(&self) -> Result<ChunkValues<'a>, Malformed> {
        if self.codec == Codec::Template {
            let (head, data, rows) = (self.head, self.data, self.rows as usize);
            let template = Template::parse(head, data, rows, self.len, self.dictionary)?;
            return Ok(ChunkValues::Template(template));
        }
        let model = Model::parse(&mut Decoder::new(self.head))?;
        let mut input = Decoder::new(self.data);
        let ends = Column::of_residuals(&mut input, model, self.rows as usize)?;
        let stored = &self.data[input.position()..self.data.len() - PAD_BYTES];
        let compressed = self.codec == Codec::Zstd;
        if !compressed && stored.len() != self.len {
            return Err(input.malformed("raw values of the length told"));
        }
        Ok(ChunkValues::Run(ValueRun { compressed, ends, len: self.len, stored }))
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
    /// Reads the keys at the head of `padded`; [`PAD_BYTES`] stand behind them.
    fn parse(padded: &'a [u8], count: usize, first_key_len: usize) -> Result<Self, Malformed> {
        let mut input = Decoder::new(padded);
        let shared = input.varint("a shared length of keys")? as usize;
        if shared > first_key_len {
            return Err(input.malformed("a shared length within the first key"));
        }
        let suffix_ends = Column::parse(&mut input, count)?;
        let suffixes_len = suffix_ends.get(count - 1);
        let suffixes_len =
            usize::try_from(suffixes_len).map_err(|_| input.malformed("an end of suffixes"))?;
        let suffixes = input.take(suffixes_len, "the suffixes of keys")?;
        let row_starts = Column::parse(&mut input, count)?;
        Ok(MoreKeys { shared, suffix_ends, suffixes, row_starts })
    }

    fn suffix(&self, index: usize) -> Result<&'a [u8], Malformed> {
        let start = if index == 0 { 0 } else { self.suffix_ends.get(index - 1) as usize };
        let end = self.suffix_ends.get(index) as usize;
        self.suffixes.get(start..end).ok_or(malformed("ordered ends of the suffixes"))
    }
}
