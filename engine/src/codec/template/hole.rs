//! A hole's texts as numbers of few bits: scaled numbers, words of the dictionary, or ends of texts,
//! whichever is smallest.

use xxhash_rust::xxh3::xxh3_64;

use super::dictionary::DictionaryBuilder;
use super::number::{Decimal, Spelling};
use super::shape::Span;
use super::{AFFIXES, ENUM, NUMBER, SPELLED, TEXT, WORD};
use crate::codec::ints::Model;
use crate::coding::{put_varint, put_zigzag};

/// The most words of an enumeration.
const WORDS_MAX: usize = 256;

/// What a number of a dictionary takes, about, in bytes.
const NUMBER_BYTES: usize = 2;

/// A hole of a run of values, encoded.
pub(super) struct Field {
    /// What a reader has to know before it reads a row.
    pub(super) spec: Vec<u8>,
    pub(super) model: Model,
    /// One a row.
    pub(super) elements: Vec<i64>,
    /// What the elements are the ends of; empty but for texts.
    pub(super) texts: Vec<u8>,
}

impl Field {
    fn bytes(&self) -> usize {
        self.spec.len() + (self.elements.len() * self.model.width()).div_ceil(8) + self.texts.len()
    }
}

/// The field of these texts, of which there is one at least; `None` where the dictionary is full.
pub(super) fn encode(
    values: &[u8],
    spans: &[Span],
    dictionary: &mut DictionaryBuilder,
) -> Option<Field> {
    let plain = match numbers(values, spans) {
        Some(numbers) => numbers.field((&[], &[]), dictionary),
        None => without_common(values, spans, dictionary),
    };
    // Where plain texts find no room in the dictionary, words may.
    let plain_bytes = plain.as_ref().map_or(usize::MAX, Field::bytes);
    enumeration(values, spans, dictionary, plain_bytes).or(plain)
}

/// As numbers or texts between what all begin and end with.
fn without_common(
    values: &[u8],
    spans: &[Span],
    dictionary: &mut DictionaryBuilder,
) -> Option<Field> {
    let (front, back) = common(values, spans);
    let cut = |span: &Span| Span { start: span.start + front as u32, end: span.end - back as u32 };
    let inner: Vec<Span> = spans.iter().map(cut).collect();
    let first = spans[0].of(values);
    let affixes = (&first[..front], &first[first.len() - back..]);
    match numbers(values, &inner) {
        Some(numbers) => numbers.field(affixes, dictionary),
        None => texts(values, &inner, affixes, dictionary),
    }
}

struct Numbers<'v> {
    spelling: Spelling,
    word: Option<(&'v [u8], i64)>,
    elements: Vec<i64>,
}

/// `None` where they are not all numbers of one spelling, one word aside.
fn numbers<'v>(values: &'v [u8], spans: &[Span]) -> Option<Numbers<'v>> {
    let mut word = None;
    let mut numbers = Vec::with_capacity(spans.len());
    for span in spans {
        let text = span.of(values);
        let number = Decimal::parse(text);
        if number.is_none() && *word.get_or_insert(text) != text {
            return None;
        }
        numbers.push(number);
    }
    let spelling = Spelling::of(numbers.iter().filter_map(|&number| number));
    let mut elements = Vec::with_capacity(spans.len());
    let mut least = None;
    for number in numbers {
        let element = match number.map(|number| spelling.element(number)) {
            Some(None) => return None,
            Some(element) => element,
            None => None,
        };
        least = element.map(|e| least.map_or(e, |l: i64| l.min(e))).or(least);
        elements.push(element);
    }
    let of_word = least? - 1;
    let elements = elements.into_iter().map(|element| element.unwrap_or(of_word)).collect();
    Some(Numbers { spelling, word: word.map(|word| (word, of_word)), elements })
}

impl Numbers<'_> {
    fn field(self, affixes: (&[u8], &[u8]), dictionary: &mut DictionaryBuilder) -> Option<Field> {
        let Spelling { scale, decimals_min, digits_min } = self.spelling;
        let spelled = if self.spelling.is_usual() { 0 } else { SPELLED };
        let word = if self.word.is_some() { WORD } else { 0 };
        let mut spec = vec![NUMBER | spelled | word, scale];
        if spelled > 0 {
            spec.extend_from_slice(&[decimals_min, digits_min]);
        }
        if let Some((word, element)) = self.word {
            put_varint(&mut spec, dictionary.word(word)?);
            put_zigzag(&mut spec, element);
        }
        put_affixes(&mut spec, affixes, dictionary)?;
        let model = Model::fit(&self.elements);
        model.write(&mut spec);
        Some(Field { spec, model, elements: self.elements, texts: Vec::new() })
    }
}

fn texts(
    values: &[u8],
    spans: &[Span],
    affixes: (&[u8], &[u8]),
    dictionary: &mut DictionaryBuilder,
) -> Option<Field> {
    let (mut texts, mut elements) = (Vec::new(), Vec::with_capacity(spans.len()));
    for span in spans {
        texts.extend_from_slice(span.of(values));
        elements.push(texts.len() as i64);
    }
    let mut spec = vec![TEXT];
    put_affixes(&mut spec, affixes, dictionary)?;
    let model = Model::fit(&elements);
    model.write(&mut spec);
    Some(Field { spec, model, elements, texts })
}

fn put_affixes(
    spec: &mut Vec<u8>,
    (prefix, suffix): (&[u8], &[u8]),
    dictionary: &mut DictionaryBuilder,
) -> Option<()> {
    if !prefix.is_empty() || !suffix.is_empty() {
        spec[0] |= AFFIXES;
        put_varint(spec, dictionary.word(prefix)?);
        put_varint(spec, dictionary.word(suffix)?);
    }
    Some(())
}

/// The lengths of what all texts begin and end with, no part of a number included.
fn common(values: &[u8], spans: &[Span]) -> (usize, usize) {
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
    (front, back)
}

/// `None` where so many texts differ that it would take `bytes_max` bytes or more, new words of the
/// dictionary included, or where the dictionary is full.
fn enumeration(
    values: &[u8],
    spans: &[Span],
    dictionary: &mut DictionaryBuilder,
    bytes_max: usize,
) -> Option<Field> {
    let (words, elements) = distinct(values, spans, bytes_max)?;
    let model = Model::below(words.len());
    let is_new = |word: &&&[u8]| dictionary.known_word(word).is_none();
    let new_bytes: usize = words.iter().filter(is_new).map(|word| word.len() + 1).sum();
    let bytes = 2 + NUMBER_BYTES * words.len() + new_bytes + spans.len() * model.width() / 8;
    if bytes >= bytes_max {
        return None;
    }
    let mut spec = vec![ENUM];
    put_varint(&mut spec, words.len() as u64);
    for word in &words {
        put_varint(&mut spec, dictionary.word(word)?);
    }
    Some(Field { spec, model, elements, texts: Vec::new() })
}

/// The texts that differ, in the order in which they are met, and which of them each row has; `None`
/// where they are so many that an enumeration of known words would take `bytes_max` bytes or more.
fn distinct<'v>(
    values: &'v [u8],
    spans: &[Span],
    bytes_max: usize,
) -> Option<(Vec<&'v [u8]>, Vec<i64>)> {
    const SLOTS: usize = 4 * WORDS_MAX;
    // Word's place + 1 by hash, zero where a slot is free.
    let mut slots = [0_u16; SLOTS];
    let mut words: Vec<&[u8]> = Vec::new();
    let mut elements = Vec::with_capacity(spans.len());
    for span in spans {
        let text = span.of(values);
        let mut slot = xxh3_64(text) as usize % SLOTS;
        while slots[slot] > 0 && words[usize::from(slots[slot]) - 1] != text {
            slot = (slot + 1) % SLOTS;
        }
        if slots[slot] == 0 {
            words.push(text);
            let bits = spans.len() * Model::below(words.len()).width();
            if words.len() > WORDS_MAX || NUMBER_BYTES * words.len() + bits / 8 >= bytes_max {
                return None;
            }
            slots[slot] = words.len() as u16;
        }
        elements.push(i64::from(slots[slot]) - 1);
    }
    Some((words, elements))
}
