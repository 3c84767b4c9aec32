//! A payload in place: rendering one value, or all.
//!
//! Nothing here trusts a length or a number of the payload. What is rendered can't outgrow the payload
//! by much: each step of a skeleton writes bytes of its own literal and column, or a number.

#![expect(
    clippy::inline_always,
    reason = "a step that is passed by value through several results takes half the time of a read"
)]

use super::number::Spelling;
use super::{ENUM, NUMBER, SKELETONS_MAX, TEXT};
use crate::codec::ints::{Column, PAD_BYTES};
use crate::coding::Decoder;
use crate::error::Malformed;
use crate::key::VALUE_BYTES_MAX;

/// A run of values in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Template<'a> {
    rows: usize,
    skeletons: usize,
    /// The payload and [`PAD_BYTES`] behind it.
    padded: &'a [u8],
}

/// Which skeleton renders a row.
struct Place<'a> {
    skeleton: Skeleton<'a>,
    /// The row's number among those of its skeleton.
    rank: usize,
}

#[derive(Clone, Copy)]
struct Skeleton<'a> {
    rows: usize,
    /// The skeleton and [`PAD_BYTES`] behind it.
    padded: &'a [u8],
}

/// The holes of a skeleton with the literals before them, then the last literal.
struct Steps<'a> {
    input: Decoder<'a>,
    rows: usize,
    holes: u64,
}

struct Step<'a> {
    literal: &'a [u8],
    hole: Hole<'a>,
}

struct Hole<'a> {
    /// Which entry each row has; where there is none, the entries are those of the rows.
    ids: Option<Column<'a>>,
    entries: Plain<'a>,
}

enum Plain<'a> {
    Number { spelling: Spelling, word: Option<(&'a [u8], i64)>, elements: Column<'a> },
    Text(Texts<'a>),
}

struct Texts<'a> {
    ends: Column<'a>,
    bytes: &'a [u8],
}

fn malformed(what: &'static str) -> Malformed {
    Malformed { pos: 0, what }
}

impl<'a> Template<'a> {
    /// Reads the head of a payload of `rows` values; `padded` is the payload and [`PAD_BYTES`] more.
    pub(crate) fn parse(padded: &'a [u8], rows: usize) -> Result<Self, Malformed> {
        let skeletons = usize::from(Decoder::new(padded).u8("a count of skeletons")?);
        if skeletons == 0 || skeletons > SKELETONS_MAX || padded.len() < PAD_BYTES {
            return Err(malformed("a count of skeletons within its limit"));
        }
        Ok(Template { rows, skeletons, padded })
    }

    /// Appends the value of `row`, one of its rows, to `out`; after an error, a part of it.
    pub(crate) fn value_into(&self, row: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        let start = out.len();
        let Place { skeleton, rank } = self.find(row)?;
        let mut steps = skeleton.steps()?;
        while let Some(step) = steps.next()? {
            out.extend_from_slice(step.literal);
            step.hole.render(rank, out)?;
        }
        out.extend_from_slice(steps.last_literal()?);
        if out.len() - start > VALUE_BYTES_MAX {
            return Err(malformed("a value within its limit"));
        }
        Ok(())
    }

    /// Appends all values, one after the other, and where each ends, counted from the first one's start.
    /// More than `bytes_max` bytes are malformed. A value takes half the time that
    /// [`value_into`](Self::value_into) takes, because the skeletons are read once.
    pub(crate) fn values_into(
        &self,
        out: &mut Vec<u8>,
        ends: &mut Vec<i64>,
        bytes_max: usize,
    ) -> Result<(), Malformed> {
        let start = out.len();
        let (lists, mut input) = self.row_lists()?;
        let listed = lists.iter().flatten().map(Column::len).sum();
        let mut parts = Vec::with_capacity(self.skeletons);
        for index in 0..self.skeletons {
            let rows = match index.checked_sub(1).and_then(|list| lists[list]) {
                None => {
                    self.rows.checked_sub(listed).ok_or(malformed("row lists within the rows"))?
                }
                Some(list) => list.len(),
            };
            parts.push(Part::parse(self.skeleton(&mut input, index, rows)?)?);
        }
        for row in 0..self.rows {
            let has_row = |(part, list): (&Part<'a>, &Option<Column<'a>>)| {
                list.is_some_and(|list| part.next < list.len() && list.get(part.next) == row as i64)
            };
            let listed = parts.iter().skip(1).zip(&lists).position(has_row);
            parts[listed.map_or(0, |list| list + 1)].render_next(out)?;
            if out.len() - start > bytes_max {
                return Err(malformed("values within their length"));
            }
            ends.push((out.len() - start) as i64);
        }
        Ok(())
    }

    /// The row lists, and the decoder behind them.
    fn row_lists(&self) -> Result<([Option<Column<'a>>; SKELETONS_MAX], Decoder<'a>), Malformed> {
        let mut input = Decoder::new(&self.padded[1..]);
        let mut lists = [None; SKELETONS_MAX];
        for list in &mut lists[..self.skeletons - 1] {
            *list = Some(self.row_list(&mut input)?);
        }
        Ok((lists, input))
    }

    fn row_list(&self, input: &mut Decoder<'a>) -> Result<Column<'a>, Malformed> {
        let rows = input.varint("a count of rows")? as usize;
        if rows == 0 || rows >= self.rows {
            return Err(input.malformed("a row list of some rows"));
        }
        Column::parse(input, rows)
    }

    /// The skeleton of `row`: that of the row list that has it, or else the first one.
    fn find(&self, row: usize) -> Result<Place<'a>, Malformed> {
        let mut input = Decoder::new(&self.padded[1..]);
        let (mut index, mut rank, mut rows) = (0, row, self.rows);
        let (mut first_rank, mut first_rows) = (Some(row), Some(self.rows));
        for list_index in 1..self.skeletons {
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
        for before in 0..index {
            self.skeleton(&mut input, before, 0)?;
        }
        Ok(Place { skeleton: self.skeleton(&mut input, index, rows)?, rank })
    }

    /// Skeleton `index`, at the decoder's place.
    fn skeleton(
        &self,
        input: &mut Decoder<'a>,
        index: usize,
        rows: usize,
    ) -> Result<Skeleton<'a>, Malformed> {
        let rest = self.padded.len() - 1 - input.position();
        let len = if index + 1 < self.skeletons {
            input.varint("a length of a skeleton")? as usize
        } else {
            rest.checked_sub(PAD_BYTES).ok_or_else(|| input.malformed("a skeleton"))?
        };
        let padded = input.take_padded(len, PAD_BYTES, "a skeleton")?;
        Ok(Skeleton { rows, padded })
    }
}

/// A skeleton whose columns are parsed, for rendering many rows.
struct Part<'a> {
    steps: Vec<Step<'a>>,
    last_literal: &'a [u8],
    rows: usize,
    /// The next row to render.
    next: usize,
}

impl<'a> Part<'a> {
    fn parse(skeleton: Skeleton<'a>) -> Result<Self, Malformed> {
        let mut input = skeleton.steps()?;
        let mut steps = Vec::new();
        while let Some(step) = input.next()? {
            steps.push(step);
        }
        Ok(Part { steps, last_literal: input.last_literal()?, rows: skeleton.rows, next: 0 })
    }

    fn render_next(&mut self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        if self.next == self.rows {
            return Err(malformed("row lists of ascending rows"));
        }
        for step in &self.steps {
            out.extend_from_slice(step.literal);
            step.hole.render(self.next, out)?;
        }
        out.extend_from_slice(self.last_literal);
        self.next += 1;
        Ok(())
    }
}

impl<'a> Skeleton<'a> {
    fn steps(&self) -> Result<Steps<'a>, Malformed> {
        let mut input = Decoder::new(self.padded);
        let holes = input.varint("a count of holes")?;
        Ok(Steps { input, rows: self.rows, holes })
    }
}

impl<'a> Steps<'a> {
    #[inline(always)]
    fn next(&mut self) -> Result<Option<Step<'a>>, Malformed> {
        if self.holes == 0 {
            return Ok(None);
        }
        self.holes -= 1;
        let literal = self.input.bytes(VALUE_BYTES_MAX, "a literal")?;
        Ok(Some(Step { literal, hole: Hole::parse(&mut self.input, self.rows)? }))
    }

    fn last_literal(&mut self) -> Result<&'a [u8], Malformed> {
        let literal = self.input.bytes(VALUE_BYTES_MAX, "a literal")?;
        self.input.clone().take(PAD_BYTES, "a pad")?;
        Ok(literal)
    }
}

impl<'a> Hole<'a> {
    #[inline(always)]
    fn parse(input: &mut Decoder<'a>, rows: usize) -> Result<Self, Malformed> {
        let mut kind = input.u8("a kind of hole")?;
        let (mut ids, mut entries) = (None, rows);
        if kind == ENUM {
            entries = input.varint("a count of entries")? as usize;
            ids = Some(Column::parse(input, rows)?);
            kind = input.u8("a kind of entries")?;
        }
        Ok(Hole { ids, entries: Plain::parse(input, kind, entries)? })
    }

    #[inline]
    fn render(&self, rank: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let index = match &self.ids {
            None => rank,
            Some(ids) => usize::try_from(ids.get(rank))
                .ok()
                .filter(|&id| id < self.entries.len())
                .ok_or(malformed("a known entry"))?,
        };
        self.entries.render(index, out)
    }
}

impl<'a> Plain<'a> {
    #[inline(always)]
    fn parse(input: &mut Decoder<'a>, kind: u8, rows: usize) -> Result<Self, Malformed> {
        match kind {
            NUMBER => {
                let parts = input.take(3, "a spelling of numbers")?;
                let spelling = Spelling::new(parts[0], parts[1], parts[2])
                    .ok_or_else(|| input.malformed("a spelling of numbers within its limits"))?;
                let word = match input.varint("a length of a word")?.checked_sub(1) {
                    None => None,
                    Some(len) => {
                        let word = input.take(len as usize, "a word")?;
                        Some((word, input.zigzag("a word's element")?))
                    }
                };
                Ok(Plain::Number { spelling, word, elements: Column::parse(input, rows)? })
            }
            TEXT => Ok(Plain::Text(Texts::parse(input, rows)?)),
            _ => Err(input.malformed("numbers or texts")),
        }
    }

    #[inline]
    fn len(&self) -> usize {
        match self {
            Plain::Number { elements, .. } => elements.len(),
            Plain::Text(texts) => texts.ends.len(),
        }
    }

    /// Appends entry `index`, which must be one of them.
    #[inline]
    fn render(&self, index: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            Plain::Number { spelling, word, elements } => match (elements.get(index), word) {
                (element, Some((word, at))) if element == *at => out.extend_from_slice(word),
                (element, _) => spelling.write(element, out),
            },
            Plain::Text(texts) => out.extend_from_slice(texts.get(index)?),
        }
        Ok(())
    }
}

impl<'a> Texts<'a> {
    #[inline]
    fn parse(input: &mut Decoder<'a>, count: usize) -> Result<Self, Malformed> {
        let ends = Column::parse(input, count)?;
        let len = count.checked_sub(1).map_or(0, |last| ends.get(last));
        let len = usize::try_from(len).map_err(|_| input.malformed("an end of texts"))?;
        Ok(Texts { ends, bytes: input.take(len, "texts")? })
    }

    /// Text `index`, which must be one of them.
    #[inline]
    fn get(&self, index: usize) -> Result<&'a [u8], Malformed> {
        let start = index.checked_sub(1).map_or(0, |before| self.ends.get(before));
        let range = start as usize..self.ends.get(index) as usize;
        self.bytes.get(range).ok_or(malformed("ordered ends of texts"))
    }
}
