//! Rendering many rows of a part: what its specs say is read once, and each row is written into room that
//! was made before.

use super::dictionary::{SHORT_BYTES, Text};
use super::number::{Spelling, TEXT_BYTES_MAX};
use super::part::{Body, Part, Spec, TOO_LONG, malformed};
use crate::codec::ints::{LOAD_BITS, Model, read_bits};
use crate::coding::Decoder;
use crate::error::Malformed;

/// Room is made for so many bytes of further rows at a time.
const AHEAD_BYTES: usize = 4096;

/// A part whose specs are parsed.
pub(super) struct PartReader<'a> {
    part: Part<'a>,
    steps: Vec<Step<'a>>,
    last_literal: Text<'a>,
    /// No row takes more, in bytes, its texts apart; with room for what is written beyond its end.
    row_bytes_max: usize,
}

struct Step<'a> {
    literal: Text<'a>,
    affixes: Option<(Text<'a>, Text<'a>)>,
    body: StepBody<'a>,
    model: Model,
    bit: usize,
}

enum StepBody<'a> {
    Number(Spelling),
    NumberOrWord(Spelling, Text<'a>, i64),
    Enum(Vec<Text<'a>>),
    Text(&'a [u8]),
}

impl StepBody<'_> {
    fn bytes_max(&self) -> usize {
        match self {
            StepBody::Number(_) => TEXT_BYTES_MAX,
            StepBody::NumberOrWord(_, word, _) => TEXT_BYTES_MAX.max(word.len()),
            StepBody::Enum(words) => words.iter().map(|word| word.len()).max().unwrap_or(0),
            StepBody::Text(_) => 0,
        }
    }
}

impl<'a> PartReader<'a> {
    /// All values of the payload take up to `bytes_max` bytes.
    pub(super) fn new(part: Part<'a>, bytes_max: usize) -> Result<Self, Malformed> {
        let (mut input, mut texts, mut bit) = (Decoder::new(part.specs), part.texts(), 0);
        let mut steps = Vec::with_capacity(part.skeleton.holes);
        let last_literal = part.skeleton.literal(part.skeleton.holes);
        let mut row_bytes_max = last_literal.len() + SHORT_BYTES;
        for hole in 0..part.skeleton.holes {
            let Spec { body, affixes, model } = Spec::parse(&mut input, part.dictionary)?;
            if bit + model.width() > part.row_bits {
                return Err(malformed("holes within the bits of a row"));
            }
            let body = match body {
                Body::Number { spelling, word: None } => StepBody::Number(spelling),
                Body::Number { spelling, word: Some((word, element)) } => {
                    StepBody::NumberOrWord(spelling, word, element)
                }
                Body::Enum(words) => StepBody::Enum(part.words(words, &input)?),
                Body::Text => StepBody::Text(part.text_column(&model, bit, &mut texts)?),
            };
            let literal = part.skeleton.literal(hole);
            let around = affixes.map_or(0, |(prefix, suffix)| prefix.len() + suffix.len());
            row_bytes_max += literal.len() + around + body.bytes_max();
            steps.push(Step { literal, affixes, body, model, bit });
            bit += model.width();
            // Each hole's longest text stands in some row, and each literal in every row: together they
            // are no longer than all values. Numbers are given more room than they take.
            if row_bytes_max > bytes_max.saturating_add(SHORT_BYTES + (hole + 1) * TEXT_BYTES_MAX) {
                return Err(malformed(TOO_LONG));
            }
        }
        Ok(PartReader { part, steps, last_literal, row_bytes_max })
    }

    /// Appends the value of the row that is the `rank`-th of the part.
    pub(super) fn value_into(&self, rank: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let at = out.len();
        out.resize(at + self.row_bytes_max, 0);
        let rendered = self.render(rank, out, at);
        out.truncate(*rendered.as_ref().unwrap_or(&at));
        rendered.map(drop)
    }

    /// Writes the value of the row that is the `rank`-th of the part at `at`, and returns where it ends;
    /// `out` grows as need be, and what it has behind the value is of no meaning.
    #[inline]
    pub(super) fn render(
        &self,
        rank: usize,
        out: &mut Vec<u8>,
        mut at: usize,
    ) -> Result<usize, Malformed> {
        let part = &self.part;
        if rank >= part.rows {
            return Err(malformed("row lists of ascending rows"));
        }
        if out.len() - at < self.row_bytes_max {
            out.resize(at + self.row_bytes_max + AHEAD_BYTES, 0);
        }
        let row_bit = rank * part.row_bits;
        // Most rows fit a word, which is then read once.
        let word =
            (part.row_bits <= LOAD_BITS).then(|| read_bits(part.packed, row_bit, part.row_bits));
        for step in &self.steps {
            at = step.literal.write_at(out, at);
            if let Some((prefix, _)) = step.affixes {
                at = prefix.write_at(out, at);
            }
            let residual = match word {
                Some(word) => word >> step.bit & step.model.mask(),
                None => read_bits(part.packed, row_bit + step.bit, step.model.width()),
            };
            let element = step.model.element(rank, residual);
            at = match &step.body {
                StepBody::NumberOrWord(_, word, of_word) if element == *of_word => {
                    word.write_at(out, at)
                }
                StepBody::Number(spelling) | StepBody::NumberOrWord(spelling, ..) => {
                    spelling.write_at(element, out, at)
                }
                StepBody::Enum(words) => {
                    let word = words.get(element as usize).ok_or(malformed("a known word"))?;
                    word.write_at(out, at)
                }
                StepBody::Text(column) => {
                    let text = part.text(&step.model, step.bit, column, rank)?;
                    self.write_text(text, out, at)
                }
            };
            if let Some((_, suffix)) = step.affixes {
                at = suffix.write_at(out, at);
            }
        }
        Ok(self.last_literal.write_at(out, at))
    }

    /// Texts are of any length: whatever follows in the row needs its room too.
    fn write_text(&self, text: &[u8], out: &mut Vec<u8>, at: usize) -> usize {
        let end = at + text.len();
        if out.len() - at < text.len() + self.row_bytes_max {
            out.resize(end + self.row_bytes_max + AHEAD_BYTES, 0);
        }
        out[at..end].copy_from_slice(text);
        end
    }
}
