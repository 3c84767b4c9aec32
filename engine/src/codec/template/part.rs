//! A part of a payload in place: the rows of one skeleton.
//!
//! Nothing here trusts a length or a number of the payload. What is rendered can't outgrow payload and
//! dictionary by much: each row writes its skeleton, and for each hole a number or a text that is there.

#![expect(
    clippy::inline_always,
    reason = "a spec that is passed by value through several results takes half the time of a read"
)]

use super::dictionary::{Dictionary, Skeleton, Text};
use super::number::Spelling;
use super::{AFFIXES, ENUM, KIND, NUMBER, SPELLED, TEXT, WORD};
use crate::codec::ints::{Model, PAD_BYTES, read_bits};
use crate::coding::Decoder;
use crate::error::Malformed;

/// The rows of one skeleton.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) dictionary: &'a Dictionary,
    pub(super) skeleton: Skeleton<'a>,
    pub(super) rows: usize,
    pub(super) row_bits: usize,
    pub(super) specs: &'a [u8],
    /// The packed rows, the texts, and at least [`PAD_BYTES`] more.
    pub(super) packed: &'a [u8],
}

/// What is to be known of a hole before a row is read.
#[derive(Clone)]
pub(super) struct Spec<'a> {
    pub(super) body: Body<'a>,
    pub(super) affixes: Option<(Text<'a>, Text<'a>)>,
    pub(super) model: Model,
}

#[derive(Clone)]
pub(super) enum Body<'a> {
    Number {
        spelling: Spelling,
        word: Option<(Text<'a>, i64)>,
    },
    /// The numbers of its words.
    Enum(Decoder<'a>),
    Text,
}

/// What is expected of values that a dictionary's texts could make longer than any file.
pub(super) const TOO_LONG: &str = "values within their length";

pub(super) fn malformed(what: &'static str) -> Malformed {
    Malformed { pos: 0, what }
}

impl<'a> Part<'a> {
    /// Reads the head of a part of so many rows at the decoder's place; `padded_data` is the part's data
    /// and [`PAD_BYTES`] more.
    #[inline]
    pub(super) fn parse(
        input: &mut Decoder<'a>,
        padded_data: &'a [u8],
        rows: usize,
        dictionary: &'a Dictionary,
    ) -> Result<Self, Malformed> {
        let skeleton = dictionary.skeleton(input.varint("the number of a skeleton")?)?;
        let row_bits = input.varint("the bits of a row")? as usize;
        if row_bits > skeleton.holes * u64::BITS as usize {
            return Err(input.malformed("the bits of a row within their limit"));
        }
        let specs_len = input.varint("a length of specs")? as usize;
        let specs = input.take(specs_len, "the specs of holes")?;
        if (rows * row_bits).div_ceil(8) + PAD_BYTES > padded_data.len() {
            return Err(input.malformed("packed rows within the part"));
        }
        Ok(Part { dictionary, skeleton, rows, row_bits, specs, packed: padded_data })
    }

    /// Appends the value of the row that is the `rank`-th of the part. Values that let `out` grow beyond
    /// `end_max` are malformed, and no more is appended than one hole's.
    #[inline]
    pub(super) fn value_into(
        &self,
        rank: usize,
        out: &mut Vec<u8>,
        end_max: usize,
    ) -> Result<(), Malformed> {
        assert!(rank < self.rows, "row {rank} of {}", self.rows);
        let (mut specs, mut bit) = (Decoder::new(self.specs), 0);
        let mut texts = self.texts();
        for hole in 0..self.skeleton.holes {
            self.skeleton.literal(hole).push_to(out);
            let spec = Spec::parse(&mut specs, self.dictionary)?;
            let element = self.element(&spec.model, rank, bit)?;
            if let Some((prefix, _)) = spec.affixes {
                prefix.push_to(out);
            }
            match spec.body {
                Body::Number { word: Some((word, at)), .. } if element == at => word.push_to(out),
                Body::Number { spelling, .. } => spelling.write(element, out),
                Body::Enum(words) => self.word(words, element)?.push_to(out),
                Body::Text => {
                    let column = self.text_column(&spec.model, bit, &mut texts)?;
                    out.extend_from_slice(self.text(&spec.model, bit, column, rank)?);
                }
            }
            if let Some((_, suffix)) = spec.affixes {
                suffix.push_to(out);
            }
            bit += spec.model.width();
            if out.len() > end_max {
                return Err(malformed(TOO_LONG));
            }
        }
        self.skeleton.literal(self.skeleton.holes).push_to(out);
        if out.len() > end_max { Err(malformed(TOO_LONG)) } else { Ok(()) }
    }

    /// The element of a hole whose residuals stand at this bit of each row.
    #[inline]
    fn element(&self, model: &Model, rank: usize, bit: usize) -> Result<i64, Malformed> {
        if bit + model.width() > self.row_bits {
            return Err(malformed("holes within the bits of a row"));
        }
        let at = rank * self.row_bits + bit;
        Ok(model.element(rank, read_bits(self.packed, at, model.width())))
    }

    fn word(&self, mut words: Decoder<'a>, element: i64) -> Result<Text<'a>, Malformed> {
        for _ in 0..element {
            words.varint("the number of a word")?;
        }
        self.dictionary.word(words.varint("the number of a word")?)
    }

    /// The texts of all holes that have some.
    #[inline]
    pub(super) fn texts(&self) -> &'a [u8] {
        let start = (self.rows * self.row_bits).div_ceil(8);
        &self.packed[start..self.packed.len() - PAD_BYTES]
    }

    /// Takes the texts of a hole off the front of those that are left.
    pub(super) fn text_column(
        &self,
        model: &Model,
        bit: usize,
        texts: &mut &'a [u8],
    ) -> Result<&'a [u8], Malformed> {
        let len = self.rows.checked_sub(1).map_or(Ok(0), |last| self.element(model, last, bit))?;
        let len = usize::try_from(len).map_err(|_| malformed("an end of texts"))?;
        let (column, rest) =
            texts.split_at_checked(len).ok_or_else(|| malformed("texts within the part"))?;
        *texts = rest;
        Ok(column)
    }

    #[inline]
    pub(super) fn text(
        &self,
        model: &Model,
        bit: usize,
        column: &'a [u8],
        rank: usize,
    ) -> Result<&'a [u8], Malformed> {
        let start = match rank {
            0 => 0,
            _ => self.element(model, rank - 1, bit)?,
        };
        let range = start as usize..self.element(model, rank, bit)? as usize;
        column.get(range).ok_or(malformed("ordered ends of texts"))
    }
}

impl<'a> Spec<'a> {
    #[inline(always)]
    pub(super) fn parse(
        input: &mut Decoder<'a>,
        dictionary: &'a Dictionary,
    ) -> Result<Self, Malformed> {
        let shape = input.u8("a kind of hole")?;
        let body = match shape & KIND {
            NUMBER => {
                let scale = input.u8("a scale")?;
                let (mut decimals_min, mut digits_min) = (scale, 1);
                if shape & SPELLED != 0 {
                    decimals_min = input.u8("the least decimals")?;
                    digits_min = input.u8("the least digits")?;
                }
                let spelling = Spelling::new(scale, decimals_min, digits_min)
                    .ok_or_else(|| input.malformed("a spelling of numbers within its limits"))?;
                let word = if shape & WORD == 0 {
                    None
                } else {
                    let word = dictionary.word(input.varint("the number of a word")?)?;
                    Some((word, input.zigzag("a word's element")?))
                };
                Body::Number { spelling, word }
            }
            ENUM => {
                let count = input.varint("a count of words")? as usize;
                let words = input.clone();
                for _ in 0..count {
                    input.varint("the number of a word")?;
                }
                let model = Model::below(count);
                return Ok(Spec { body: Body::Enum(words), affixes: None, model });
            }
            TEXT => Body::Text,
            _ => return Err(input.malformed("numbers, words or texts")),
        };
        let affixes = if shape & AFFIXES == 0 {
            None
        } else {
            let prefix = dictionary.word(input.varint("the number of a prefix")?)?;
            Some((prefix, dictionary.word(input.varint("the number of a suffix")?)?))
        };
        Ok(Spec { body, affixes, model: Model::parse(input)? })
    }
}

impl<'a> Part<'a> {
    /// All the words that stand from `words` on up to where `end` is.
    pub(super) fn words(
        &self,
        mut words: Decoder<'a>,
        end: &Decoder<'a>,
    ) -> Result<Vec<Text<'a>>, Malformed> {
        let mut all = Vec::new();
        while words.position() < end.position() {
            all.push(self.dictionary.word(words.varint("the number of a word")?)?);
        }
        Ok(all)
    }
}
