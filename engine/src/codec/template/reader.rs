//! A payload in place: rendering one value, or many.

use std::ops::Range;

use super::SHAPES_MAX;
use super::dictionary::Dictionary;
use super::part::Part;
use super::rows::PartReader;
use crate::codec::ints::{Column, PAD_BYTES};
use crate::coding::Decoder;
use crate::error::Malformed;

/// A run of values in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Template<'a> {
    rows: usize,
    /// What all values take at most, in bytes.
    bytes_max: usize,
    parts: usize,
    /// With [`PAD_BYTES`] behind each.
    padded_head: &'a [u8],
    padded_data: &'a [u8],
    dictionary: &'a Dictionary,
}

/// A run of values whose front was read once and for all.
pub(crate) struct RowReader<'a> {
    part: PartReader<'a>,
}

impl RowReader<'_> {
    /// Appends the value of `row`, one of its rows, to `out`; nothing, after an error.
    #[inline]
    pub(crate) fn value_into(&self, row: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        self.part.value_into(row, out)
    }
}

fn malformed(what: &'static str) -> Malformed {
    Malformed { pos: 0, what }
}

impl<'a> Template<'a> {
    /// Reads the front of a payload of `rows` values, which take up to `bytes_max` bytes in all; head and
    /// data have [`PAD_BYTES`] behind them.
    #[inline]
    pub(crate) fn parse(
        padded_head: &'a [u8],
        padded_data: &'a [u8],
        rows: usize,
        bytes_max: usize,
        dictionary: &'a Dictionary,
    ) -> Result<Self, Malformed> {
        let parts = usize::from(Decoder::new(padded_head).u8("a count of parts")?);
        if parts == 0 || parts > SHAPES_MAX || padded_data.len() < PAD_BYTES {
            return Err(malformed("a count of parts within its limit"));
        }
        Ok(Template { rows, bytes_max, parts, padded_head, padded_data, dictionary })
    }

    /// The head behind the count of parts.
    #[inline]
    fn head(&self) -> Decoder<'a> {
        Decoder::new(&self.padded_head[1..])
    }

    /// Appends the value of `row`, one of its rows, to `out`; after an error, a part of it.
    pub(crate) fn value_into(&self, row: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        let end_max = out.len() + self.bytes_max;
        if self.parts == 1 {
            let part = Part::parse(&mut self.head(), self.padded_data, self.rows, self.dictionary)?;
            part.value_into(row, out, end_max)
        } else {
            let (part, rank) = self.find(row)?;
            part.value_into(rank, out, end_max)
        }
    }

    /// Writes the values of some of its rows one after the other, from the start of `out` on, and appends
    /// to `ends` where each ends; what `out` has behind the last one is of no meaning, so that it can be
    /// used again without being cleared. A value takes a part of the time that
    /// [`value_into`](Self::value_into) takes, because the specs are read once.
    pub(crate) fn values_into(
        &self,
        rows: Range<usize>,
        out: &mut Vec<u8>,
        ends: &mut Vec<i64>,
    ) -> Result<(), Malformed> {
        assert!(rows.end <= self.rows, "rows to {} of {}", rows.end, self.rows);
        let mut end_row = |end: usize| {
            ends.push(end as i64);
            if end > self.bytes_max {
                Err(malformed("values within their length"))
            } else {
                Ok(end)
            }
        };
        let mut at = 0;
        if self.parts == 1 {
            let part = Part::parse(&mut self.head(), self.padded_data, self.rows, self.dictionary)?;
            let part = PartReader::new(part, self.bytes_max)?;
            for row in rows {
                at = end_row(part.render(row, out, at)?)?;
            }
            return Ok(());
        }
        let rows_end = rows.end;
        let (lists, mut parts) = self.part_readers(rows.start)?;
        for row in rows {
            let has_row = |((next, _), list): (&(usize, PartReader<'a>), &Option<Column<'a>>)| {
                list.is_some_and(|list| *next < list.len() && list.get(*next) == row as i64)
            };
            let listed = parts.iter().skip(1).zip(&lists).position(has_row);
            let (next, part) = &mut parts[listed.map_or(0, |list| list + 1)];
            at = end_row(part.render(*next, out, at)?)?;
            *next += 1;
        }
        // A row that was passed is in two lists, or its list does not rise.
        let is_passed = |((next, _), list): (&(usize, PartReader<'a>), &Option<Column<'a>>)| {
            list.is_some_and(|list| *next < list.len() && list.get(*next) < rows_end as i64)
        };
        if parts.iter().skip(1).zip(&lists).any(is_passed) {
            return Err(malformed("row lists of ascending rows"));
        }
        Ok(())
    }

    /// For taking many values one by one; `None` where they have several parts.
    pub(crate) fn row_reader(&self) -> Result<Option<RowReader<'a>>, Malformed> {
        if self.parts > 1 {
            return Ok(None);
        }
        let part = Part::parse(&mut self.head(), self.padded_data, self.rows, self.dictionary)?;
        Ok(Some(RowReader { part: PartReader::new(part, self.bytes_max)? }))
    }

    /// The row lists, and all parts, each with the number of its first row from `row` on.
    #[expect(clippy::type_complexity, reason = "a pair of lists that belong together")]
    fn part_readers(
        &self,
        row: usize,
    ) -> Result<([Option<Column<'a>>; SHAPES_MAX], Vec<(usize, PartReader<'a>)>), Malformed> {
        let mut input = self.head();
        let mut lists = [None; SHAPES_MAX];
        let (mut ranks, mut others, mut listed) = ([0; SHAPES_MAX], 0, 0);
        for index in 1..self.parts {
            let list = self.row_list(&mut input)?;
            ranks[index] = list.partition_point(0..list.len(), |other| other < row as i64);
            others += ranks[index];
            listed += list.len();
            lists[index - 1] = Some(list);
        }
        let unordered = || malformed("row lists within the rows");
        ranks[0] = row.checked_sub(others).ok_or_else(unordered)?;
        let first_rows = self.rows.checked_sub(listed).ok_or_else(unordered)?;
        let mut parts = Vec::with_capacity(self.parts);
        let mut padded_data = self.padded_data;
        for (index, &rank) in ranks[..self.parts].iter().enumerate() {
            let list = index.checked_sub(1).and_then(|list| lists[list]);
            let rows = list.map_or(first_rows, |list: Column<'a>| list.len());
            let part = self.part(&mut input, &mut padded_data, index, rows)?;
            parts.push((rank, PartReader::new(part, self.bytes_max)?));
        }
        Ok((lists, parts))
    }

    fn row_list(&self, input: &mut Decoder<'a>) -> Result<Column<'a>, Malformed> {
        let rows = input.varint("a count of rows")? as usize;
        if rows == 0 || rows >= self.rows {
            return Err(input.malformed("a row list of some rows"));
        }
        Column::parse(input, rows)
    }

    /// The part of `row`: that of the row list that has it, or else the first one; and the row's number
    /// among those of the part.
    fn find(&self, row: usize) -> Result<(Part<'a>, usize), Malformed> {
        let mut input = self.head();
        let (mut index, mut rank, mut rows) = (0, row, self.rows);
        let (mut first_rank, mut first_rows) = (Some(row), Some(self.rows));
        for list_index in 1..self.parts {
            let list = self.row_list(&mut input)?;
            let before = list.partition_point(0..list.len(), |other| other < row as i64);
            if before < list.len() && list.get(before) == row as i64 {
                (index, rank, rows) = (list_index, before, list.len());
            }
            first_rank = first_rank.and_then(|rank| rank.checked_sub(before));
            first_rows = first_rows.and_then(|rows| rows.checked_sub(list.len()));
        }
        if index == 0 {
            match (first_rank, first_rows) {
                (Some(first_rank), Some(first_rows)) if first_rank < first_rows => {
                    (rank, rows) = (first_rank, first_rows);
                }
                _ => return Err(malformed("row lists within the rows")),
            }
        }
        let mut padded_data = self.padded_data;
        for before in 0..index {
            self.part(&mut input, &mut padded_data, before, 0)?;
        }
        Ok((self.part(&mut input, &mut padded_data, index, rows)?, rank))
    }

    /// Part `index`, of so many rows: its head at the decoder's place, its data at the front of what is
    /// left, which it takes.
    fn part(
        &self,
        input: &mut Decoder<'a>,
        padded_data: &mut &'a [u8],
        index: usize,
        rows: usize,
    ) -> Result<Part<'a>, Malformed> {
        let mut padded = *padded_data;
        if index + 1 < self.parts {
            let len = input.varint("a length of a part's data")? as usize;
            padded = Decoder::new(padded).take_padded(len, PAD_BYTES, "a part's data")?;
            *padded_data = &padded_data[len..];
        }
        Part::parse(input, padded, rows, self.dictionary)
    }
}
