//! A run of similar values as skeletons plus columns, any value of which is rendered without the
//! others.
//!
//! Values such as `{"temp":21.53,"status":"ok"}` differ in a few places only. What they have in common
//! is their *skeleton*, stored once; what differs are its *holes*, each a column over the skeleton's
//! rows. Values are bytes, not JSON: a bare number, a word or a CSV line has a skeleton too.
//!
//! ```text
//! payload:   skeletons u8, 1 to 16 | row list * (skeletons - 1) | skeleton * skeletons
//! row list:  rows varint | row numbers column, ascending
//!            the rows of the second, third ... skeleton; the first one has all rows that remain
//! skeleton:  length varint (of all but the last skeleton) | holes varint | (literal | hole) * | literal
//! literal:   length varint | bytes
//! hole:      plain, of the rows
//!            ENUM u8 | entries varint | ids column, one a row | plain, of the entries
//! plain:     NUMBER u8 | scale u8 | decimals min u8 | digits min u8 | word | elements column
//!            TEXT u8 | ends column | the texts, one after the other
//! word:      0 varint, or: length + 1 varint | bytes | element zigzag varint
//! ```
//! An element `e` of a NUMBER is `e / 10^scale`,
//! written with `scale` decimals less the trailing zeros beyond `decimals min`, and with leading zeros
//! up to `digits min` digits before the point. Where it equals the word's element, the word (`null`,
//! say) is written instead.
//!
//! [`PAD_BYTES`] readable bytes follow the payload, as they do a column.
//!
//! The encoder never trusts itself: what it wrote it renders again, and gives up where a byte differs.
//! What it needs of memory is a small multiple of the values and of rows times holes.

mod hole;
mod number;
mod reader;
mod shape;
#[cfg(test)]
mod tests;

pub(crate) use reader::Template;

use self::shape::{Shape, Shapes};
use super::ints::{self, PAD_BYTES};
use crate::coding::{put_bytes, put_varint};

/// The most skeletons of a payload: finding a row's skeleton searches a row list each.
const SKELETONS_MAX: usize = 16;

/// How a hole is stored. Do not change these values: they are on disk.
const NUMBER: u8 = 1;
const ENUM: u8 = 2;
const TEXT: u8 = 3;

/// Appends the payload of `values`, of which value `i` ends at `ends[i]` and begins where the one
/// before it ends. False, with `out` as it was, where the values are too unlike each other or their
/// payload would exceed `bytes_max`.
pub(crate) fn encode(out: &mut Vec<u8>, values: &[u8], ends: &[i64], bytes_max: usize) -> bool {
    let start = out.len();
    let fits = write(out, values, ends, start.saturating_add(bytes_max))
        && renders_back(out, start, values, ends);
    if !fits {
        out.truncate(start);
    }
    fits
}

fn write(out: &mut Vec<u8>, values: &[u8], ends: &[i64], len_max: usize) -> bool {
    let Some(mut shapes) = Shapes::of(values, ends) else { return false };
    // The skeleton of most rows needs no row list.
    shapes.sort_by_key(|shape| std::cmp::Reverse(shape.rows.len()));
    out.push(shapes.len() as u8);
    for shape in &shapes[1..] {
        put_varint(out, shape.rows.len() as u64);
        ints::encode(out, &shape.rows);
    }
    let last = shapes.len() - 1;
    let mut skeleton = Vec::new();
    for (index, shape) in shapes.iter_mut().enumerate() {
        skeleton.clear();
        if !write_skeleton(&mut skeleton, values, shape, len_max) {
            return false;
        }
        if index < last {
            put_varint(out, skeleton.len() as u64);
        }
        out.extend_from_slice(&skeleton);
        if out.len() > len_max {
            return false;
        }
    }
    true
}

fn write_skeleton(out: &mut Vec<u8>, values: &[u8], shape: &mut Shape, len_max: usize) -> bool {
    put_varint(out, shape.holes.len() as u64);
    // The literals are those of the shape's first value, between its holes.
    let mut literal_start = shape.first.start;
    let mut column = Vec::new();
    for hole in &mut shape.holes {
        column.clear();
        hole::encode(&mut column, values, &mut hole.spans);
        let first = hole.spans[0];
        put_bytes(out, &values[literal_start as usize..first.start as usize]);
        out.extend_from_slice(&column);
        literal_start = first.end;
        if out.len() > len_max {
            return false;
        }
    }
    put_bytes(out, &values[literal_start as usize..shape.first.end as usize]);
    true
}

/// Whether the payload that begins at `start` renders to exactly these values.
fn renders_back(out: &mut Vec<u8>, start: usize, values: &[u8], ends: &[i64]) -> bool {
    let end = out.len();
    out.extend_from_slice(&[0; PAD_BYTES]);
    let mut rendered = (Vec::with_capacity(values.len()), Vec::with_capacity(ends.len()));
    let same = Template::parse(&out[start..], ends.len())
        .and_then(|template| template.values_into(&mut rendered.0, &mut rendered.1, values.len()))
        .is_ok_and(|()| rendered.0 == values && rendered.1 == ends);
    out.truncate(end);
    same
}
