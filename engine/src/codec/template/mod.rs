//! A run of similar values as skeletons plus bits, any value of which is rendered without the others.
//!
//! Values such as `{"temp":21.53,"status":"ok"}` differ in a few places only. What they have in common
//! is their *skeleton*, stored once a table, in its [dictionary]; what differs are its *holes*. Values
//! are bytes, not JSON: a bare number, a word or a CSV line has a skeleton too.
//!
//! ```text
//! head:      parts u8, 1 to 16 | row list * (parts - 1) | part head * parts
//! row list:  rows varint | row numbers column, ascending
//!            the rows of the second, third ... part; the first one has all rows that remain
//! part head: data length varint (of all but the last part) | skeleton varint | row bits varint
//!            | specs length varint | spec * holes
//! data:      part data * parts
//! part data: rows, packed | texts
//! spec:      NUMBER | scale u8 | with SPELLED: decimals min u8, digits min u8
//!                   | with WORD: word varint, its element zigzag | affixes | model
//!            ENUM   | words varint | word varint * words
//!            TEXT   | affixes | model
//! affixes:   with AFFIXES: prefix word varint, suffix word varint
//! ```
//! What a read has to know first stands in the head, which lies with other heads of its chunk. All holes
//! of a part have a number a row. The residuals of one row's numbers stand together, so that a read of one
//! value touches one more place; `row bits` are what a row takes.
//!
//! An element `e` of a NUMBER is `e / 10^scale`, written with `scale` decimals less the trailing zeros
//! beyond `decimals min`, and with leading zeros up to `digits min` digits before the point; without
//! SPELLED those are `scale` and 1. Where it equals the word's element, the word (`null`, say) is
//! written instead. An element of an ENUM is one of its words. Those of a TEXT are the ends of its texts,
//! which lie behind the packed rows, one hole's after the other's. The affixes stand around the text of
//! every row.
//!
//! [`PAD_BYTES`] readable bytes follow head and data, as they do a column.
//!
//! The encoder never trusts itself: what it wrote it renders again, and gives up where a byte differs.
//! What it needs of memory is a small multiple of the values and of rows times holes.

mod dictionary;
mod hole;
mod number;
mod part;
mod reader;
mod renumber;
mod rows;
mod shape;
#[cfg(test)]
mod tests;

pub(crate) use dictionary::Dictionary;
pub(crate) use reader::{RowReader, Template};

use self::dictionary::{DictionaryBuilder, Mark};
use self::hole::Field;
use self::shape::{SHAPES_MAX, Shape, Shapes};
use super::ints::{self, BitWriter, PAD_BYTES};
use crate::coding::put_varint;
use crate::error::Malformed;

/// How a hole is stored: a kind in two bits, and what a spec has more. Do not change these values: they
/// are on disk.
const KIND: u8 = 3;
const NUMBER: u8 = 1;
const ENUM: u8 = 2;
const TEXT: u8 = 3;
const SPELLED: u8 = 4;
const WORD: u8 = 8;
const AFFIXES: u8 = 16;

/// A run of values, encoded.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    pub(crate) head: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

impl Payload {
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.data.len()
    }

    fn clear(&mut self) {
        self.head.clear();
        self.data.clear();
    }
}

/// Encodes the runs of values of one table.
#[derive(Debug, Default)]
pub(crate) struct TemplateEncoder {
    shapes: Shapes,
    dictionary: DictionaryBuilder,
    /// As it was before the last run.
    before: Option<Mark>,
    rendered: Vec<u8>,
    rendered_ends: Vec<i64>,
}

impl TemplateEncoder {
    /// Makes `out` the payload of `values`, of which value `i` ends at `ends[i]` and begins where the one
    /// before it ends. `None`, with `out` empty, where the values are too unlike each other or their
    /// payload would exceed `bytes_max`; otherwise what the dictionary has grown by, in bytes.
    pub(crate) fn encode(
        &mut self,
        out: &mut Payload,
        values: &[u8],
        ends: &[i64],
        bytes_max: usize,
    ) -> Option<usize> {
        let before = self.dictionary.mark();
        self.before = Some(before);
        out.clear();
        let fits = self.write(out, values, ends, bytes_max).is_some()
            && self.renders_back(out, values, ends);
        if !fits {
            out.clear();
            self.undo();
            return None;
        }
        Some(self.dictionary.bytes_since(before))
    }

    /// Takes over the payload of another table, whose dictionary is `from`: appends to `out` the head
    /// that it has in this one, its data being the same in both. `false`, with nothing taken, where the
    /// dictionary is full; `out` has no meaning then.
    pub(crate) fn take_over(
        &mut self,
        out: &mut Vec<u8>,
        padded_head: &[u8],
        from: &Dictionary,
    ) -> Result<bool, Malformed> {
        let before = self.dictionary.mark();
        let taken = renumber::renumber(out, padded_head, from, &mut self.dictionary);
        if !matches!(taken, Ok(true)) {
            self.dictionary.undo_to(before);
        }
        taken
    }

    /// Forgets the last run, whose payload is not used.
    pub(crate) fn undo(&mut self) {
        if let Some(before) = self.before.take() {
            self.dictionary.undo_to(before);
            self.shapes.undo();
        }
    }

    /// The bytes of the dictionary for a [`Dictionary`] to be read from; `None` where no payload needs
    /// it.
    pub(crate) fn dictionary(&self) -> Option<Vec<u8>> {
        (self.dictionary.as_read().counts().1 > 0).then(|| self.dictionary.encode())
    }

    fn write(
        &mut self,
        out: &mut Payload,
        values: &[u8],
        ends: &[i64],
        bytes_max: usize,
    ) -> Option<()> {
        if !self.shapes.read(values, ends) {
            return None;
        }
        // The part of most rows needs no row list.
        let shapes: Vec<&mut Shape> = self.shapes.of_run().collect();
        out.head.push(shapes.len() as u8);
        for shape in &shapes[1..] {
            put_varint(&mut out.head, shape.rows.len() as u64);
            ints::encode(&mut out.head, &shape.rows);
        }
        for (index, shape) in shapes.iter().enumerate() {
            let is_last = index + 1 == shapes.len();
            write_part(out, values, shape, &mut self.dictionary, is_last)?;
            if out.len() > bytes_max {
                return None;
            }
        }
        Some(())
    }

    /// Whether the payload renders to exactly these values.
    fn renders_back(&mut self, out: &mut Payload, values: &[u8], ends: &[i64]) -> bool {
        let Payload { head, data } = out;
        let (head_len, data_len) = (head.len(), data.len());
        head.extend_from_slice(&[0; PAD_BYTES]);
        data.extend_from_slice(&[0; PAD_BYTES]);
        self.rendered_ends.clear();
        let (rendered, rendered_ends) = (&mut self.rendered, &mut self.rendered_ends);
        let dictionary = self.dictionary.as_read();
        let same = Template::parse(head, data, ends.len(), values.len(), dictionary)
            .and_then(|template| template.values_into(0..ends.len(), rendered, rendered_ends))
            .is_ok_and(|()| rendered_ends == ends && rendered.starts_with(values));
        head.truncate(head_len);
        data.truncate(data_len);
        same
    }
}

/// Appends the part of a shape; `None` where the dictionary is full.
fn write_part(
    out: &mut Payload,
    values: &[u8],
    shape: &Shape,
    dictionary: &mut DictionaryBuilder,
    is_last: bool,
) -> Option<()> {
    let literals = (0..=shape.holes.len()).map(|hole| shape.literal(hole));
    let skeleton = dictionary.skeleton(literals)?;
    let fields: Option<Vec<Field>> =
        shape.holes.iter().map(|hole| hole::encode(values, &hole.spans, dictionary)).collect();
    let fields = fields?;
    let row_bits: usize = fields.iter().map(|field| field.model.width()).sum();
    let specs_len: usize = fields.iter().map(|field| field.spec.len()).sum();
    let Payload { head, data } = out;
    let start = data.len();
    data.reserve((shape.rows.len() * row_bits).div_ceil(8));
    let mut bits = BitWriter::new(data);
    for row in 0..shape.rows.len() {
        for field in &fields {
            bits.push(field.model.residual(row, field.elements[row]), field.model.width());
        }
    }
    bits.finish();
    for field in &fields {
        data.extend_from_slice(&field.texts);
    }
    if !is_last {
        put_varint(head, (data.len() - start) as u64);
    }
    put_varint(head, skeleton);
    put_varint(head, row_bits as u64);
    put_varint(head, specs_len as u64);
    for field in &fields {
        head.extend_from_slice(&field.spec);
    }
    Some(())
}
