//! A column of 64-bit integers, bit-packed, any element of which is read without the others.
//!
//! ```text
//! column: encoding u8 | width u8 | base zigzag varint | slope zigzag varint (LINEAR only) | packed
//! packed: the elements' residuals, `width` bits each, least significant bit first,
//!         ceil(rows * width / 8) bytes
//! element i = base + residual(i)                FRAME_OF_REFERENCE (a constant has width 0)
//!           = base + slope * i + residual(i)    LINEAR
//! ```
//! Arithmetic wraps, so every sequence of `i64` is encodable. A residual is read with one unaligned
//! load of eight bytes, which may reach up to [`PAD_BYTES`] past the column: whoever holds a column
//! keeps that many bytes behind it. Widths above 56 bits would not fit such a load and are stored as
//! 64. The linear model follows `LeCo` (Liu et al., SIGMOD 2024), with an integer slope.

use crate::coding::{Decoder, put_zigzag};
use crate::error::Malformed;

/// Readable bytes that must follow a column.
pub(crate) const PAD_BYTES: usize = 8;

/// Do not change these values: they are on disk.
const FRAME_OF_REFERENCE: u8 = 0;
const LINEAR: u8 = 1;

/// Appends `values` as a column, in the smaller of the two encodings.
pub(crate) fn encode(out: &mut Vec<u8>, values: &[i64]) {
    let first = values.first().copied().unwrap_or(0);
    let (min, max) =
        values.iter().fold((first, first), |(min, max), &value| (min.min(value), max.max(value)));
    let frame = Model { base: min, slope: 0, width: width_of(max.wrapping_sub(min) as u64) };
    match linear(values, min, max) {
        Some(model) if model.packed_bytes(values.len()) + 8 < frame.packed_bytes(values.len()) => {
            model.write(out, values);
        }
        _ => frame.write(out, values),
    }
}

/// What predicts an element; the residual is what it gets wrong, never negative.
struct Model {
    base: i64,
    slope: i64,
    width: u8,
}

/// `None` where there is no line to speak of, or where a residual might overflow.
fn linear(values: &[i64], min: i64, max: i64) -> Option<Model> {
    const FAR: i64 = i64::MAX / 4;
    let steps = i64::try_from(values.len()).ok()? - 1;
    if steps < 1 || min < -FAR || max > FAR {
        return None;
    }
    let slope = (values[values.len() - 1] - values[0]) / steps;
    if slope == 0 {
        return None;
    }
    // Whatever the values, the line rises by at most four times FAR, one step beyond the last included,
    // and a residual is at most three times FAR.
    let (mut low, mut high, mut rise) = (i64::MAX, i64::MIN, 0);
    for value in values {
        low = low.min(value - rise);
        high = high.max(value - rise);
        rise += slope;
    }
    Some(Model { base: low, slope, width: width_of(high.wrapping_sub(low) as u64) })
}

fn width_of(range: u64) -> u8 {
    match 64 - range.leading_zeros() as u8 {
        width @ 0..=56 => width,
        _ => 64,
    }
}

impl Model {
    fn packed_bytes(&self, rows: usize) -> usize {
        (rows * usize::from(self.width)).div_ceil(8)
    }

    fn write(&self, out: &mut Vec<u8>, values: &[i64]) {
        out.push(if self.slope == 0 { FRAME_OF_REFERENCE } else { LINEAR });
        out.push(self.width);
        put_zigzag(out, self.base);
        if self.slope != 0 {
            put_zigzag(out, self.slope);
        }
        let end = out.len() + self.packed_bytes(values.len());
        out.reserve(end - out.len());
        let (mut pending, mut bits, mut predicted) = (0_u128, 0_u32, self.base);
        for value in values {
            pending |= u128::from(value.wrapping_sub(predicted) as u64) << bits;
            bits += u32::from(self.width);
            predicted = predicted.wrapping_add(self.slope);
            if bits >= 64 {
                out.extend_from_slice(&(pending as u64).to_le_bytes());
                pending >>= 64;
                bits -= 64;
            }
        }
        out.extend_from_slice(&(pending as u64).to_le_bytes()[..bits.div_ceil(8) as usize]);
        debug_assert_eq!(out.len(), end);
    }
}

/// A column in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column<'a> {
    model_base: i64,
    slope: i64,
    width: u8,
    rows: usize,
    /// The residuals and [`PAD_BYTES`] behind them.
    packed: &'a [u8],
}

impl<'a> Column<'a> {
    /// Reads a column of `rows` elements at the decoder's place.
    #[expect(
        clippy::inline_always,
        reason = "moving a column out of a result costs more than reading it"
    )]
    #[inline(always)]
    pub(crate) fn parse(input: &mut Decoder<'a>, rows: usize) -> Result<Self, Malformed> {
        let encoding = input.u8("a column's encoding")?;
        let width = input.u8("a column's width")?;
        if encoding > LINEAR || (width > 56 && width != 64) {
            return Err(input.malformed("a known column encoding and width"));
        }
        let base = input.zigzag("a column's base")?;
        let slope = if encoding == LINEAR { input.zigzag("a column's slope")? } else { 0 };
        let bytes = rows.saturating_mul(usize::from(width)).div_ceil(8);
        let packed = input.take_padded(bytes, PAD_BYTES, "a column's residuals")?;
        Ok(Column { model_base: base, slope, width, rows, packed })
    }

    /// How many elements it has.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// Element `row`, which must be one of its rows.
    #[inline]
    pub(crate) fn get(&self, row: usize) -> i64 {
        assert!(row < self.rows, "row {row} of a column of {}", self.rows);
        let bit = row * usize::from(self.width);
        let mut word = [0; 8];
        word.copy_from_slice(&self.packed[bit / 8..bit / 8 + 8]);
        let shifted = u64::from_le_bytes(word) >> (bit % 8);
        let residual = match self.width {
            64 => shifted,
            width => shifted & ((1 << width) - 1),
        };
        self.model_base
            .wrapping_add(self.slope.wrapping_mul(row as i64))
            .wrapping_add(residual as i64)
    }

    /// All elements, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        (0..self.rows).map(|row| self.get(row))
    }

    /// The number of leading rows in `rows` for which `before` holds; it must hold for a prefix.
    pub(crate) fn partition_point(
        &self,
        rows: std::ops::Range<usize>,
        before: impl Fn(i64) -> bool,
    ) -> usize {
        let (mut low, mut high) = (rows.start, rows.end);
        while low < high {
            let middle = usize::midpoint(low, high);
            if before(self.get(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(values: &[i64]) -> usize {
        let mut bytes = Vec::new();
        encode(&mut bytes, values);
        let encoded = bytes.len();
        bytes.extend_from_slice(&[0xa5; PAD_BYTES]);
        let mut input = Decoder::new(&bytes);
        let column = Column::parse(&mut input, values.len()).unwrap();
        assert_eq!(input.position(), encoded);
        assert_eq!(column.iter().collect::<Vec<_>>(), values);
        encoded
    }

    proptest! {
        #[test]
        fn any_column_comes_back(values: Vec<i64>) {
            round_trip(&values);
        }

        #[test]
        fn any_width_comes_back(base: i64, width in 0_u32..=64, seeds: Vec<u64>) {
            let mask = 1_u64.checked_shl(width).map_or(u64::MAX, |bit| bit - 1);
            let values: Vec<_> =
                seeds.iter().map(|s| base.wrapping_add((s & mask) as i64)).collect();
            round_trip(&values);
        }

        #[test]
        fn any_line_comes_back(first: i64, shift in 0_u32..64, slope: i64, jitter: Vec<u8>) {
            let rise = |i: usize| (slope >> shift).wrapping_mul(i as i64);
            let on_line = |(i, &j): (usize, &u8)| {
                (first >> (shift % 4)).wrapping_add(rise(i)).wrapping_add(i64::from(j))
            };
            round_trip(&jitter.iter().enumerate().map(on_line).collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, rows in 0_usize..100) {
            if let Ok(column) = Column::parse(&mut Decoder::new(&bytes), rows) {
                prop_assert_eq!(column.iter().count(), rows);
            }
        }
    }

    #[test]
    fn regular_timestamps_cost_next_to_nothing() {
        let regular: Vec<i64> = (0..1000).map(|i| 1_673_524_092_123_456 + i * 1_000_000).collect();
        assert_eq!(round_trip(&regular), 13);
        assert_eq!(round_trip(&vec![-7; 1000]), 3);
        assert_eq!(round_trip(&[i64::MIN, i64::MAX]), 12 + 16);
    }
}
