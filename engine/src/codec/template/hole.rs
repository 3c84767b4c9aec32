//! A hole's texts as a column: numbers, a dictionary or the texts themselves, whichever is smallest.

use xxhash_rust::xxh3::xxh3_64;

use super::number::{Decimal, Spelling};
use super::shape::Span;
use super::{ENUM, NUMBER, TEXT};
use crate::codec::ints;
use crate::coding::{put_varint, put_zigzag};

/// The most entries of a dictionary.
const ENTRIES_MAX: usize = 256;

/// Appends the column of these texts, of which there is one at least. Where they are not numbers, what
/// all begin or end with is cut off their spans: it belongs to the literals around the hole.
pub(super) fn encode(out: &mut Vec<u8>, values: &[u8], spans: &mut [Span]) {
    let start = out.len();
    if !encode_numbers(out, values, spans) {
        cut_common(values, spans);
        encode_plain(out, values, spans);
    }
    let plain_end = out.len();
    if encode_dictionary(out, values, spans, plain_end - start) {
        if out.len() - plain_end < plain_end - start {
            out.drain(start..plain_end);
        } else {
            out.truncate(plain_end);
        }
    }
}

fn encode_plain(out: &mut Vec<u8>, values: &[u8], spans: &[Span]) {
    if !encode_numbers(out, values, spans) {
        out.push(TEXT);
        encode_texts(out, values, spans);
    }
}

/// False, with nothing appended, where they are not all numbers of one spelling, one word aside.
fn encode_numbers(out: &mut Vec<u8>, values: &[u8], spans: &[Span]) -> bool {
    let mut word = None;
    let mut numbers = Vec::with_capacity(spans.len());
    for span in spans {
        let text = span.of(values);
        let number = Decimal::parse(text);
        if number.is_none() && *word.get_or_insert(text) != text {
            return false;
        }
        numbers.push(number);
    }
    let spelling = Spelling::of(numbers.iter().filter_map(|&number| number));
    let mut elements = Vec::with_capacity(spans.len());
    let mut least = None;
    for number in numbers {
        let element = match number.map(|number| spelling.element(number)) {
            Some(None) => return false,
            Some(element) => element,
            None => None,
        };
        least = element.map(|e| least.map_or(e, |l: i64| l.min(e))).or(least);
        elements.push(element);
    }
    let Some(least) = least else { return false };
    out.extend_from_slice(&[NUMBER, spelling.scale, spelling.decimals_min, spelling.digits_min]);
    match word {
        None => out.push(0),
        Some(word) => {
            put_varint(out, word.len() as u64 + 1);
            out.extend_from_slice(word);
            put_zigzag(out, least - 1);
        }
    }
    let elements: Vec<_> = elements.into_iter().map(|e| e.unwrap_or(least - 1)).collect();
    ints::encode(out, &elements);
    true
}

/// Cuts off what all texts begin and end with, but no part of a number.
fn cut_common(values: &[u8], spans: &mut [Span]) {
    let is_numeric = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let first = spans[0].of(values);
    let (mut prefix, mut suffix) = (first, first);
    for span in &spans[1..] {
        let text = span.of(values);
        prefix = &prefix[..prefix.iter().zip(text).take_while(|(a, b)| a == b).count()];
        let same = suffix.iter().rev().zip(text.iter().rev()).take_while(|(a, b)| a == b).count();
        suffix = &suffix[suffix.len() - same..];
    }
    let front = prefix.iter().rposition(|b| !is_numeric(b)).map_or(0, |last| last + 1);
    // In the shortest text the two may overlap.
    let shortest = spans.iter().map(|span| span.of(values).len()).min().unwrap_or(0);
    let suffix = &suffix[suffix.len() - suffix.len().min(shortest - front)..];
    let back = suffix.len() - suffix.iter().position(|b| !is_numeric(b)).unwrap_or(suffix.len());
    for span in spans {
        span.start += front as u32;
        span.end -= back as u32;
    }
}

/// False, with nothing appended, where so many texts differ that it would be no smaller than `plain_len`
/// bytes, what the column costs without a dictionary.
fn encode_dictionary(out: &mut Vec<u8>, values: &[u8], spans: &[Span], plain_len: usize) -> bool {
    const SLOTS: usize = 4 * ENTRIES_MAX;
    let rows = spans.len();
    // Entry number + 1 by hash, zero where a slot is free.
    let mut slots = [0_u16; SLOTS];
    let mut entries: Vec<Span> = Vec::new();
    let mut ids = Vec::with_capacity(rows);
    for &span in spans {
        let text = span.of(values);
        let mut slot = xxh3_64(text) as usize % SLOTS;
        while slots[slot] > 0 && entries[usize::from(slots[slot]) - 1].of(values) != text {
            slot = (slot + 1) % SLOTS;
        }
        if slots[slot] == 0 {
            let id_bits = (usize::BITS - entries.len().leading_zeros()) as usize;
            entries.push(span);
            slots[slot] = entries.len() as u16;
            let len = entries.len() * plain_len / rows + rows * id_bits / 8;
            if len >= plain_len || entries.len() == ENTRIES_MAX {
                return false;
            }
        }
        ids.push(i64::from(slots[slot]) - 1);
    }
    out.push(ENUM);
    put_varint(out, entries.len() as u64);
    ints::encode(out, &ids);
    encode_plain(out, values, &entries);
    true
}

fn encode_texts(out: &mut Vec<u8>, values: &[u8], spans: &[Span]) {
    let mut end = 0;
    let ends: Vec<_> = spans
        .iter()
        .map(|span| {
            end += i64::from(span.end - span.start);
            end
        })
        .collect();
    ints::encode(out, &ends);
    for span in spans {
        out.extend_from_slice(span.of(values));
    }
}
