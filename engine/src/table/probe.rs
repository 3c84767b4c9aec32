//! Many questions to one table: floors in the order of keys and times, and a walk over its keys.
//!
//! A probe remembers the chunk in which it found the last answer, and for which times the chunk
//! answers for the key, so that what follows in order costs a search in a column of timestamps.

use std::borrow::Cow;
use std::ops::{Bound, Range};

use super::chunk::{Chunk, ChunkValues};
use super::place::ChunkPlace;
use super::reader::TableReader;
use crate::codec::Codec;
use crate::codec::template::RowReader;
use crate::error::Result;
use crate::iter::Order;
use crate::key::{Tag, Timestamp};

/// A place among the keys of a table. It belongs to one thread.
///
/// Two uses, of which one probe serves one. *Floors of any keys*: [`begin`](Self::begin), then
/// [`floor`](Self::floor) at some times, ascending where it shall be fast. *A walk*:
/// [`seek`](Self::seek), floors of [`key`](Self::key), [`step`](Self::step).
pub(crate) struct TableProbe<'t> {
    table: &'t TableReader,
    place: Option<ChunkPlace<'t>>,
    /// The key's number in the chunk of `place`, where it is known.
    index: Option<usize>,
    stretch: Option<Stretch>,
    /// The row of the last floor.
    row: usize,
    /// Of a walk.
    key: Vec<u8>,
    walks: bool,
    /// The chunk of which a value was taken last, by its block's number and its own; and what makes
    /// further ones cheaper.
    rendered: Option<((usize, usize), Option<RowReader<'t>>)>,
    /// The values of `decoded`, which is a chunk too.
    decoded: Option<(usize, usize)>,
    values: Vec<u8>,
    ends: Vec<i64>,
}

/// What a walk must not meet, as it would never end.
const UNORDERED: &str = "expected the chunks of a key to follow one another";

/// A chunk, and the number of a key there.
type KeyPlace<'t> = (ChunkPlace<'t>, usize);

/// The versions of the key in the chunk: the floors from `from` to `to` are among them, or, where they
/// begin after it, nowhere in the table.
struct Stretch {
    rows: Range<usize>,
    from: Timestamp,
    to: Timestamp,
    /// The first row after the last floor.
    after: usize,
}

impl<'t> TableProbe<'t> {
    pub(crate) fn new(table: &'t TableReader) -> Self {
        TableProbe {
            table,
            place: None,
            index: None,
            stretch: None,
            row: 0,
            key: Vec::new(),
            walks: false,
            rendered: None,
            decoded: None,
            values: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// The floors that follow are those of another key.
    pub(crate) fn begin(&mut self) {
        (self.index, self.stretch) = (None, None);
    }

    /// Timestamp and tag of the newest version of `key` at or before `at`, tombstones included.
    /// Without it the probe stands where it stood.
    pub(crate) fn floor(&mut self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Tag)>> {
        if !self.stretch.as_ref().is_some_and(|s| s.from <= at && at <= s.to)
            && !self.locate(key, at)?
        {
            return Ok(None);
        }
        let (Some(place), Some(stretch)) = (&self.place, &mut self.stretch) else {
            return Ok(None);
        };
        stretch.after = first_after(&place.chunk, &stretch.rows, stretch.after, at);
        if stretch.after == stretch.rows.start {
            return Ok(None);
        }
        self.row = stretch.after - 1;
        let tag = place.chunk.tag(self.row).map_err(|m| place.malformed(&m))?;
        Ok(Some((place.chunk.ts(self.row), tag)))
    }

    /// Comes to the stretch that has the floor of `(key, at)`; `false`: there is none.
    fn locate(&mut self, key: &[u8], at: Timestamp) -> Result<bool> {
        if let Some(place) = self.place {
            let index = match self.index {
                None => place.chunk.find_key(key).map_err(|m| place.malformed(&m))?,
                known => known,
            };
            if let Some(index) = index {
                let stretch = stretch(&place, index, key, at)?;
                if stretch.from <= at && at <= stretch.to {
                    (self.index, self.stretch) = (Some(index), Some(stretch));
                    return Ok(true);
                }
            }
        }
        let Some(place) = ChunkPlace::find_floor(self.table, key, at)? else { return Ok(false) };
        let Some(index) = place.chunk.find_key(key).map_err(|m| place.malformed(&m))? else {
            return Ok(false);
        };
        self.stretch = Some(stretch(&place, index, key, at)?);
        (self.place, self.index) = (Some(place), Some(index));
        Ok(true)
    }

    /// Appends the value of the last floor.
    pub(crate) fn value_into(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let place = self.place.as_ref().expect("a value of a floor");
        let chunk = &place.chunk;
        let name = place.number();
        if let Some((of, Some(reader))) = &self.rendered
            && *of == name
        {
            return reader.value_into(self.row, out).map_err(|m| place.malformed(&m));
        }
        match chunk.values().by_codec().map_err(|m| place.malformed(&m))? {
            // A walk over keys of few versions takes most of the values: then all are rendered.
            ChunkValues::Template(template) if !self.walks || chunk.rows() > 2 * chunk.keys() => {
                // The first value of a chunk is often the last one too.
                let is_first = self.rendered.as_ref().is_none_or(|(of, _)| *of != name);
                let reader = if is_first { Ok(None) } else { template.row_reader() };
                self.rendered = Some((name, reader.map_err(|m| place.malformed(&m))?));
                return template.value_into(self.row, out).map_err(|m| place.malformed(&m));
            }
            ChunkValues::Run(run) if chunk.codec() == Codec::Raw => {
                let range = run.range(self.row).map_err(|m| place.malformed(&m))?;
                let bytes = run.bytes().map_err(|what| place.corruption(what))?;
                if let Cow::Borrowed(bytes) = bytes {
                    out.extend_from_slice(&bytes[range]);
                    return Ok(());
                }
            }
            _ => {}
        }
        if self.decoded != Some(name) {
            self.decoded = None;
            let decoded = chunk.decode_rows(0..chunk.rows(), &mut self.values, &mut self.ends);
            decoded.map_err(|what| place.corruption(what))?;
            self.decoded = Some(name);
        }
        let start = self.row.checked_sub(1).map_or(0, |before| self.ends[before]);
        out.extend_from_slice(&self.values[start as usize..self.ends[self.row] as usize]);
        Ok(())
    }

    /// The key that a walk stands on; `None` past its end.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        (self.walks && self.place.is_some()).then_some(&self.key)
    }

    /// Begins a walk at the first key in this order that lies within `bound`.
    pub(crate) fn seek(&mut self, bound: Bound<&[u8]>, order: Order) -> Result<()> {
        self.walks = true;
        self.begin();
        let (place, keys_before) = match (bound, order) {
            (Bound::Unbounded, Order::Ascending) => {
                return self.stand(Some(&(ChunkPlace::first(self.table)?, 0)));
            }
            (Bound::Unbounded, Order::Descending) => {
                let place = ChunkPlace::last(self.table)?;
                return self.stand(Some(&(place, place.chunk.keys() - 1)));
            }
            (Bound::Included(key), Order::Ascending)
            | (Bound::Excluded(key), Order::Descending) => {
                let place = ChunkPlace::find(self.table, key, Timestamp::MIN)?;
                (place, place.map(|p| self.keys_before(&p, |other| other < key)).transpose()?)
            }
            (Bound::Excluded(key), Order::Ascending)
            | (Bound::Included(key), Order::Descending) => {
                let place = ChunkPlace::find(self.table, key, Timestamp::MAX)?;
                (place, place.map(|p| self.keys_before(&p, |other| other <= key)).transpose()?)
            }
        };
        let target = match (place.zip(keys_before), order) {
            (None, Order::Ascending) => Some((ChunkPlace::first(self.table)?, 0)),
            (None, Order::Descending) => None,
            (Some((place, before)), Order::Ascending) if before < place.chunk.keys() => {
                Some((place, before))
            }
            (Some((place, _)), Order::Ascending) => place.next()?.map(|place| (place, 0)),
            (Some((place, 0)), Order::Descending) => last_key(place.prev()?.as_ref()),
            (Some((place, before)), Order::Descending) => Some((place, before - 1)),
        };
        self.stand(target.as_ref())
    }

    /// Lets the probe, which has found a floor of `key`, go on with a walk that stands on `key`.
    pub(crate) fn walk_on(&mut self, key: &[u8]) {
        self.walks = true;
        self.key.extend_from_slice(key);
    }

    /// Goes to the next key in this order. It must stand on one, which is returned if it was the last.
    pub(crate) fn step(&mut self, order: Order) -> Result<Option<Vec<u8>>> {
        let (place, index) = self.place.zip(self.index).expect("a walk that stands on a key");
        self.begin();
        let target = match order {
            Order::Ascending if index + 1 < place.chunk.keys() => Some((place, index + 1)),
            Order::Ascending => self.behind_key(&place)?,
            Order::Descending if index > 0 => Some((place, index - 1)),
            Order::Descending => self.before_key(&place)?,
        };
        self.stand(target.as_ref())?;
        Ok(target.is_none().then(|| std::mem::take(&mut self.key)))
    }

    /// The key behind the current one, whose last row in `place` is the chunk's last.
    fn behind_key(&mut self, place: &ChunkPlace<'t>) -> Result<Option<KeyPlace<'t>>> {
        let Some(next) = place.next()? else { return Ok(None) };
        if !self.is_key(&next, 0)? {
            return Ok(Some((next, 0)));
        }
        if next.chunk.keys() > 1 {
            return Ok(Some((next, 1)));
        }
        // A key of many chunks: its last one is found by a search.
        match ChunkPlace::find(self.table, &self.key, Timestamp::MAX)? {
            Some(last) if last.number() < next.number() => Err(next.corruption(UNORDERED)),
            Some(last) if last.chunk.keys() > 1 => Ok(Some((last, 1))),
            Some(last) => Ok(last.next()?.map(|place| (place, 0))),
            None => Err(next.corruption(UNORDERED)),
        }
    }

    /// The key before the current one, whose first row in `place` is the chunk's first.
    fn before_key(&mut self, place: &ChunkPlace<'t>) -> Result<Option<KeyPlace<'t>>> {
        let Some((prev, last)) = last_key(place.prev()?.as_ref()) else { return Ok(None) };
        if !self.is_key(&prev, last)? {
            return Ok(Some((prev, last)));
        }
        if last > 0 {
            return Ok(Some((prev, last - 1)));
        }
        let Some(first) = ChunkPlace::find(self.table, &self.key, Timestamp::MIN)? else {
            // It begins with the table.
            return Ok(None);
        };
        if first.number() > prev.number() {
            return Err(prev.corruption(UNORDERED));
        }
        if self.is_key(&first, 0)? {
            return Ok(last_key(first.prev()?.as_ref()));
        }
        let last = first.chunk.keys() - 1;
        let before = if self.is_key(&first, last)? { last.checked_sub(1) } else { Some(last) };
        Ok(before.map(|before| (first, before)))
    }

    fn stand(&mut self, target: Option<&KeyPlace<'t>>) -> Result<()> {
        (self.place, self.index) = target.copied().unzip();
        if let Some((place, index)) = target {
            self.key.clear();
            let key = place.chunk.key_into(*index, &mut self.key);
            key.map_err(|m| place.malformed(&m))?;
        }
        Ok(())
    }

    /// Whether key `index` of a chunk is the current one.
    fn is_key(&mut self, place: &ChunkPlace<'t>, index: usize) -> Result<bool> {
        let found = place.chunk.find_key(&self.key).map_err(|m| place.malformed(&m))?;
        Ok(found == Some(index))
    }

    /// How many keys of the chunk `before` holds for; it must hold for the first of them.
    fn keys_before(
        &mut self,
        place: &ChunkPlace<'t>,
        before: impl Fn(&[u8]) -> bool,
    ) -> Result<usize> {
        let (mut low, mut high) = (0, place.chunk.keys());
        while low < high {
            let middle = usize::midpoint(low, high);
            self.key.clear();
            place.chunk.key_into(middle, &mut self.key).map_err(|m| place.malformed(&m))?;
            if before(&self.key) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

fn last_key<'t>(place: Option<&ChunkPlace<'t>>) -> Option<KeyPlace<'t>> {
    place.map(|place| (*place, place.chunk.keys() - 1))
}

/// The stretch of key `index` of the chunk, as far as it has to be known for `at`.
fn stretch(place: &ChunkPlace<'_>, index: usize, key: &[u8], at: Timestamp) -> Result<Stretch> {
    let chunk = &place.chunk;
    let rows = chunk.rows_of(index).map_err(|m| place.malformed(&m))?;
    let from = if index == 0 { chunk.ts(rows.start) } else { Timestamp::MIN };
    let last = chunk.ts(rows.end - 1);
    let to = if index + 1 < chunk.keys() {
        Timestamp::MAX
    } else if at <= last {
        last
    } else {
        place.next_ts_of(key)?.map_or(Timestamp::MAX, |next| next.saturating_sub(1))
    };
    Ok(Stretch { after: rows.start, rows, from, to })
}

/// The first row after `at`, looked for from `hint` on where that may be.
fn first_after(chunk: &Chunk<'_>, rows: &Range<usize>, hint: usize, at: Timestamp) -> usize {
    let goes_on = hint == rows.start || chunk.ts(hint - 1) <= at;
    chunk.rows_upto(if goes_on { hint } else { rows.start }..rows.end, at)
}
