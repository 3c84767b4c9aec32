//! The head of a payload for another dictionary: the payload of one table is taken over by another.

use super::dictionary::{Dictionary, DictionaryBuilder};
use super::{AFFIXES, ENUM, KIND, NUMBER, SHAPES_MAX, SPELLED, TEXT, WORD};
use crate::codec::ints::{Column, Model};
use crate::coding::{Decoder, put_bytes, put_varint};
use crate::error::Malformed;

/// Appends to `out` the head whose numbers name the same entries in `to` as those of `padded_head` do in
/// `from`. `false` where `to` has no room for one of them: what was added to it is to be undone, and `out`
/// has no meaning.
pub(super) fn renumber(
    out: &mut Vec<u8>,
    padded_head: &[u8],
    from: &Dictionary,
    to: &mut DictionaryBuilder,
) -> Result<bool, Malformed> {
    let mut input = Decoder::new(padded_head);
    let parts = usize::from(input.u8("a count of parts")?);
    if parts == 0 || parts > SHAPES_MAX {
        return Err(input.malformed("a count of parts within its limit"));
    }
    for _ in 1..parts {
        let rows = input.varint("a count of rows")? as usize;
        Column::parse(&mut input, rows)?;
    }
    out.extend_from_slice(&padded_head[..input.position()]);
    let mut numbers = Numbers { from, to, is_full: false };
    for part in 1..=parts {
        if part < parts {
            put_varint(out, input.varint("a length of a part's data")?);
        }
        let holes = numbers.skeleton(&mut input, out)?;
        put_varint(out, input.varint("the bits of a row")?);
        let specs_len = input.varint("a length of specs")? as usize;
        let specs = input.take(specs_len, "the specs of holes")?;
        let mut renumbered = Vec::with_capacity(specs.len() + holes);
        let mut specs_input = Decoder::new(specs);
        for _ in 0..holes {
            numbers.spec(&mut specs_input, specs, &mut renumbered)?;
        }
        put_bytes(out, &renumbered);
    }
    Ok(!numbers.is_full)
}

/// Reads numbers of entries, and writes those that the same entries have elsewhere.
struct Numbers<'d> {
    from: &'d Dictionary,
    to: &'d mut DictionaryBuilder,
    is_full: bool,
}

impl Numbers<'_> {
    /// Returns how many holes the skeleton has.
    fn skeleton(&mut self, input: &mut Decoder<'_>, out: &mut Vec<u8>) -> Result<usize, Malformed> {
        let skeleton = self.from.skeleton(input.varint("the number of a skeleton")?)?;
        let number = self.to.skeleton(skeleton.literals());
        self.put(number, out);
        Ok(skeleton.holes)
    }

    fn word(&mut self, input: &mut Decoder<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let word = self.from.word(input.varint("the number of a word")?)?;
        let number = self.to.word(word.bytes());
        self.put(number, out);
        Ok(())
    }

    fn put(&mut self, number: Option<u64>, out: &mut Vec<u8>) {
        self.is_full |= number.is_none();
        put_varint(out, number.unwrap_or(0));
    }

    /// The next of `specs`, which are what `input` reads.
    fn spec(
        &mut self,
        input: &mut Decoder<'_>,
        specs: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        let start = input.position();
        let shape = input.u8("a kind of hole")?;
        match shape & KIND {
            NUMBER => {
                input.take(if shape & SPELLED == 0 { 1 } else { 3 }, "a spelling of numbers")?;
                out.extend_from_slice(&specs[start..input.position()]);
                if shape & WORD != 0 {
                    self.word(input, out)?;
                    let element = input.position();
                    input.zigzag("a word's element")?;
                    out.extend_from_slice(&specs[element..input.position()]);
                }
            }
            ENUM => {
                let words = input.varint("a count of words")?;
                out.extend_from_slice(&specs[start..input.position()]);
                // What an enumeration has beside its words is in their count.
                return (0..words).try_for_each(|_| self.word(input, out));
            }
            TEXT => out.push(shape),
            _ => return Err(input.malformed("numbers, words or texts")),
        }
        if shape & AFFIXES != 0 {
            self.word(input, out)?;
            self.word(input, out)?;
        }
        let model = input.position();
        Model::parse(input)?;
        out.extend_from_slice(&specs[model..input.position()]);
        Ok(())
    }
}
