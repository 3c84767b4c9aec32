//! A column of 64-bit integers, bit-packed, any element of which is read without the others.
//!
//! ```text
//! column: encoding u8 | width u8 | base i64 | slope i64 (LINEAR only) | packed
//! packed: the elements' residuals, `width` bits each, least significant bit first,
//!         ceil(rows * width / 8) bytes
//! element i = base + residual(i)                FRAME_OF_REFERENCE (a constant has width 0)
//!           = base + slope * i + residual(i)    LINEAR
//! ```
//! Arithmetic wraps, so every sequence of `i64` is encodable. A residual is read with one unaligned
//! load of eight bytes, which may reach up to [`PAD_BYTES`] past the column: whoever holds a column
//! keeps that many bytes behind it. Widths above 56 bits would not fit such a load and are stored as
//! 64. The linear model follows `LeCo` (Liu et al., SIGMOD 2024), with an integer slope.

use crate::coding::Decoder;
use crate::error::Malformed;

/// Readable bytes that must follow a column.
pub(crate) const PAD_BYTES: usize = 8;

/// Do not change these values: they are on disk.
const FRAME_OF_REFERENCE: u8 = 0;
const LINEAR: u8 = 1;

/// Appends `values` as a column, in the smaller of the two encodings.
pub(crate) fn encode(out: &mut Vec<u8>, values: &[i64]) {
    let frame = frame_of_reference(values);
    match linear(values) {
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

fn frame_of_reference(values: &[i64]) -> Model {
    let base = values.iter().copied().min().unwrap_or(0);
    let range = values.iter().map(|v| v.wrapping_sub(base) as u64).max().unwrap_or(0);
    Model { base, slope: 0, width: width_of(range) }
}

fn linear(values: &[i64]) -> Option<Model> {
    let (first, last) = (i128::from(*values.first()?), i128::from(*values.last()?));
    let steps = i128::try_from(values.len()).ok()? - 1;
    if steps < 1 {
        return None;
    }
    let slope = i64::try_from((last - first) / steps).ok()?;
    let residuals =
        || values.iter().enumerate().map(|(i, &v)| i128::from(v) - i128::from(slope) * i as i128);
    let (min, max) = (residuals().min()?, residuals().max()?);
    let range = u64::try_from(max - min).ok()?;
    Some(Model { base: i64::try_from(min).ok()?, slope, width: width_of(range) })
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

    fn predict(&self, row: usize) -> i64 {
        self.base.wrapping_add(self.slope.wrapping_mul(row as i64))
    }

    fn write(&self, out: &mut Vec<u8>, values: &[i64]) {
        out.push(if self.slope == 0 { FRAME_OF_REFERENCE } else { LINEAR });
        out.push(self.width);
        out.extend_from_slice(&self.base.to_le_bytes());
        if self.slope != 0 {
            out.extend_from_slice(&self.slope.to_le_bytes());
        }
        let end = out.len() + self.packed_bytes(values.len());
        let (mut pending, mut bits) = (0_u128, 0_u32);
        for (row, value) in values.iter().enumerate() {
            let residual = value.wrapping_sub(self.predict(row)) as u64;
            pending |= u128::from(residual) << bits;
            bits += u32::from(self.width);
            while bits >= 8 {
                out.push(pending as u8);
                pending >>= 8;
                bits -= 8;
            }
        }
        if bits > 0 {
            out.push(pending as u8);
        }
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
    pub(crate) fn parse(input: &mut Decoder<'a>, rows: usize) -> Result<Self, Malformed> {
        let encoding = input.u8("a column's encoding")?;
        let width = input.u8("a column's width")?;
        if encoding > LINEAR || (width > 56 && width != 64) {
            return Err(input.malformed("a known column encoding and width"));
        }
        let base = input.i64("a column's base")?;
        let slope = if encoding == LINEAR { input.i64("a column's slope")? } else { 0 };
        let bits = rows.checked_mul(usize::from(width));
        let bytes = bits.ok_or_else(|| input.malformed("a column that fits memory"))?.div_ceil(8);
        let padded = input.clone().take(bytes.saturating_add(PAD_BYTES), "a column's residuals")?;
        input.take(bytes, "a column's residuals")?;
        Ok(Column { model_base: base, slope, width, rows, packed: padded })
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

    fn elements(column: &Column<'_>) -> Vec<i64> {
        (0..column.len()).map(|row| column.get(row)).collect()
    }

    fn round_trip(values: &[i64]) -> usize {
        let mut bytes = Vec::new();
        encode(&mut bytes, values);
        let encoded = bytes.len();
        bytes.extend_from_slice(&[0xa5; PAD_BYTES]);
        let mut input = Decoder::new(&bytes);
        let column = Column::parse(&mut input, values.len()).unwrap();
        assert_eq!(input.position(), encoded);
        assert_eq!(elements(&column), values);
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
        fn no_bytes_make_it_panic(bytes: Vec<u8>, rows in 0_usize..100) {
            if let Ok(column) = Column::parse(&mut Decoder::new(&bytes), rows) {
                prop_assert_eq!(elements(&column).len(), rows);
            }
        }
    }

    #[test]
    fn regular_timestamps_cost_next_to_nothing() {
        let regular: Vec<i64> = (0..1000).map(|i| 1_673_524_092_123_456 + i * 1_000_000).collect();
        assert_eq!(round_trip(&regular), 18);
        assert_eq!(round_trip(&vec![-7; 1000]), 10);
        assert_eq!(round_trip(&[i64::MIN, i64::MAX]), 10 + 16);
    }
}
