//! What holds of columns, dictionaries and templates, whatever their bytes are.

use super::ints::{self, Column, PAD_BYTES};
use super::template::{Dictionary, Payload, Template, TemplateEncoder};
use crate::coding::{Decoder, put_bytes, put_varint};

/// Rows that a forged column or payload is asked for.
const ROWS_MAX: usize = 512;

/// What a forged payload may say that its values take, in bytes.
const VALUES_BYTES_MAX: usize = 1 << 16;

/// A byte string and the bytes that a reader relies on behind it.
pub(crate) fn padded(bytes: &[u8]) -> Vec<u8> {
    [bytes, &[0; PAD_BYTES]].concat()
}

/// The number of rows that two bytes stand for; at least one.
fn rows(input: &mut Decoder<'_>) -> Option<usize> {
    let [low, high] = [input.u8("").ok()?, input.u8("").ok()?];
    Some(1 + usize::from(u16::from_le_bytes([low, high])) % ROWS_MAX)
}

/// A column as it is stored, or numbers to be stored as one.
pub(crate) fn column(data: &[u8]) {
    let mut input = Decoder::new(data);
    let Ok(is_stored) = input.u8("") else { return };
    if is_stored & 1 == 0 {
        let mut values = Vec::new();
        while let Ok(value) = input.zigzag("") {
            // Steps, so that few bytes make a line.
            values.push(values.last().map_or(value, |last: &i64| last.wrapping_add(value)));
        }
        column_comes_back(&values);
        return;
    }
    let Some(rows) = rows(&mut input) else { return };
    let stored = padded(&data[input.position()..]);
    let mut input = Decoder::new(&stored);
    let Ok(column) = Column::parse(&mut input, rows) else { return };
    let values: Vec<i64> = column.elements(0..rows).collect();
    assert_eq!(values.len(), column.len());
    for (row, &value) in values.iter().enumerate() {
        assert_eq!(column.get(row), value);
        assert!(!column.is_constant() || value == values[0]);
    }
    finds_bounds(&column, &values);
    column_comes_back(&values);
}

fn column_comes_back(values: &[i64]) {
    let mut stored = Vec::new();
    ints::encode(&mut stored, values);
    let len = stored.len();
    let stored = padded(&stored);
    let mut input = Decoder::new(&stored);
    let column = Column::parse(&mut input, values.len()).expect("what was encoded");
    assert_eq!(input.position(), len);
    assert!(column.elements(0..values.len()).eq(values.iter().copied()));
    finds_bounds(&column, values);
}

fn finds_bounds(column: &Column<'_>, values: &[i64]) {
    if !values.is_sorted() {
        return;
    }
    for value in values.iter().step_by(1 + values.len() / 16) {
        for bound in [value.saturating_sub(1), *value, value.saturating_add(1)] {
            let expected = values.partition_point(|&value| value <= bound);
            assert_eq!(column.upper_bound(0..values.len(), bound), expected);
        }
    }
}

/// A dictionary as it is stored.
pub(crate) fn dictionary(data: &[u8]) {
    let Ok(dictionary) = Dictionary::parse(data) else { return };
    let (words, skeletons) = dictionary.counts();
    assert!(words + skeletons <= data.len());
    // Each skeleton with a word in every hole, as many as it turns out to have.
    for skeleton in 0..skeletons.min(16) {
        for holes in 0..=8_usize {
            let mut specs = Vec::new();
            for hole in 0..holes {
                // One word: an enumeration that takes no bits.
                specs.extend_from_slice(&[2, 1]);
                put_varint(&mut specs, ((skeleton + hole) % words.max(1)) as u64);
            }
            let mut head = vec![1];
            put_varint(&mut head, skeleton as u64);
            put_varint(&mut head, 0);
            put_bytes(&mut head, &specs);
            payload(&padded(&head), &padded(&[]), 1, &dictionary);
        }
    }
}

/// A template's payload as it is stored, or values to be stored as one.
pub(crate) fn template(data: &[u8]) {
    let mut input = Decoder::new(data);
    let Ok(is_stored) = input.u8("") else { return };
    if is_stored & 1 == 0 {
        values_come_back(&data[1..]);
        return;
    }
    let Some(rows) = rows(&mut input) else { return };
    let (Ok(dictionary), Ok(head)) =
        (input.bytes(data.len(), ""), input.bytes(data.len(), "").map(padded))
    else {
        return;
    };
    let Ok(dictionary) = Dictionary::parse(dictionary) else { return };
    payload(&head, &padded(&data[input.position()..]), rows, &dictionary);
}

/// Reads all values in every way there is. What can be read at once is what is read one by one, and stays
/// the same in another table.
fn payload(head: &[u8], data: &[u8], rows: usize, dictionary: &Dictionary) {
    let bytes_max = VALUES_BYTES_MAX;
    let Ok(template) = Template::parse(head, data, rows, bytes_max, dictionary) else { return };
    let mut singly = Vec::new();
    let Some((values, ends)) = values_of(&template, rows) else {
        for row in (0..rows).step_by(1 + rows / 16) {
            singly.clear();
            let _ = template.value_into(row, &mut singly);
        }
        return;
    };
    for row in (0..rows).rev() {
        singly.clear();
        template.value_into(row, &mut singly).expect("a value that was read with others");
        assert_eq!(singly, value(&values, &ends, row));
    }
    if let Some(reader) = template.row_reader().expect("what was read before") {
        for row in (0..rows).step_by(1 + rows / 16) {
            singly.clear();
            reader.value_into(row, &mut singly).expect("a value that was read with others");
            assert_eq!(singly, value(&values, &ends, row));
        }
    }
    let mut other = TemplateEncoder::default();
    let mut taken = Vec::new();
    if other.take_over(&mut taken, head, dictionary).expect("a head that was read") {
        let dictionary = other.dictionary().expect("the dictionary of a payload");
        let dictionary = Dictionary::parse(&dictionary).expect("what was encoded");
        let taken = padded(&taken);
        let template = Template::parse(&taken, data, rows, bytes_max, &dictionary);
        let template = template.expect("what was taken");
        assert_eq!(values_of(&template, rows), Some((values, ends)));
    }
}

/// All values one after the other, and where each ends.
fn values_of(template: &Template<'_>, rows: usize) -> Option<(Vec<u8>, Vec<i64>)> {
    let (mut values, mut ends) = (Vec::new(), Vec::new());
    template.values_into(0..rows, &mut values, &mut ends).ok()?;
    values.truncate(*ends.last()? as usize);
    Some((values, ends))
}

pub(crate) fn value<'v>(values: &'v [u8], ends: &[i64], row: usize) -> &'v [u8] {
    let start = row.checked_sub(1).map_or(0, |before| ends[before]);
    &values[start as usize..ends[row] as usize]
}

/// The lines of a text as values of one run.
fn values_come_back(text: &[u8]) {
    let (mut values, mut ends) = (Vec::new(), Vec::new());
    for line in text.split(|&byte| byte == b'\n').take(ROWS_MAX) {
        values.extend_from_slice(line);
        ends.push(values.len() as i64);
    }
    let (mut encoder, mut payload) = (TemplateEncoder::default(), Payload::default());
    if encoder.encode(&mut payload, &values, &ends, usize::MAX).is_none() {
        return;
    }
    let dictionary = encoder.dictionary().expect("the dictionary of a payload");
    let dictionary = Dictionary::parse(&dictionary).expect("what was encoded");
    let (head, data) = (padded(&payload.head), padded(&payload.data));
    let template = Template::parse(&head, &data, ends.len(), values.len(), &dictionary);
    let template = template.expect("what was encoded");
    assert_eq!(values_of(&template, ends.len()), Some((values, ends)));
}
