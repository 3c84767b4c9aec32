//! Sequences of 64-bit integers, bit-packed, any element of which is read without the others.
//!
//! ```text
//! model:  shape u8: width of a residual in bits, 0-56, or 57 for 64; and 64 where a unit follows,
//!         128 where a slope does | base zigzag varint | unit varint? | slope zigzag varint?
//! column: model | the elements' residuals, `width` bits each, least significant bit first,
//!         ceil(rows * width / 8) bytes
//! element i = base + slope * i + unit * residual(i); without them the slope is 0 and the unit 1
//! ```
//! Arithmetic wraps, so every sequence of `i64` is encodable. A residual is read with one unaligned
//! load of eight bytes, which may reach up to [`PAD_BYTES`] past the residuals: whoever holds them
//! keeps that many bytes behind them. Widths above 56 bits would not fit such a load and are stored as
//! 64. The linear model follows `LeCo` (Liu et al., SIGMOD 2024), with an integer slope.
//!
//! A [`Column`] is a sequence by itself. Several sequences over the same rows may share one bit string,
//! row by row: they have a [`Model`] each and are written by a [`BitWriter`].

use std::ops::Range;

use crate::coding::{Decoder, put_varint, put_zigzag};
use crate::error::Malformed;

/// Readable bytes that must follow residuals.
pub(crate) const PAD_BYTES: usize = 8;

/// So many bits, from any bit on, are read with one load.
pub(crate) const LOAD_BITS: usize = 56;

/// What a model's first byte says. Do not change: it is on disk.
const WIDTH: u8 = 63;
const WIDTH_64: u8 = 57;
const UNIT: u8 = 64;
const SLOPED: u8 = 128;

/// What predicts an element; the residual is what it gets wrong, never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    base: i64,
    slope: i64,
    /// What all deviations are multiples of; at least 1.
    unit: i64,
    width: u8,
}

/// Elements within this of zero may be added and subtracted without a thought of overflow.
const FAR: i64 = i64::MAX / 8;

impl Model {
    /// The model that takes the fewest bits for `values`: a constant, or a line.
    pub(crate) fn fit(values: &[i64]) -> Model {
        let first = values.first().copied().unwrap_or(0);
        let (min, max) = values
            .iter()
            .fold((first, first), |(min, max), &value| (min.min(value), max.max(value)));
        let range = max.wrapping_sub(min) as u64;
        if min < -FAR || max > FAR {
            return Model { base: min, slope: 0, unit: 1, width: width_of(range) };
        }
        let unit = common_divisor(values, first).max(1);
        let level = Model { base: min, slope: 0, unit, width: width_of(range / unit as u64) };
        match Model::line(values, unit) {
            Some(line)
                if line.packed_bytes(values.len()) + 8 < level.packed_bytes(values.len()) =>
            {
                line
            }
            _ => level,
        }
    }

    /// `None` where there is no line to speak of.
    fn line(values: &[i64], unit: i64) -> Option<Model> {
        let steps = i64::try_from(values.len()).ok()? - 1;
        if steps < 1 {
            return None;
        }
        // To the nearest: a slope that is wrong by one drifts away by as much as there are steps.
        let units = (values[values.len() - 1] - values[0]) / unit;
        let slope = (units + units.signum() * (steps / 2)) / steps * unit;
        if slope == 0 {
            return None;
        }
        // The values rise by at most twice FAR, and the line by at most twice what they do.
        let (mut low, mut high, mut rise) = (i64::MAX, i64::MIN, 0);
        for value in values {
            low = low.min(value - rise);
            high = high.max(value - rise);
            rise += slope;
        }
        Some(Model { base: low, slope, unit, width: width_of(((high - low) / unit) as u64) })
    }

    /// A model of numbers from 0 up to, not including, `bound`.
    pub(crate) fn below(bound: usize) -> Model {
        Model { base: 0, slope: 0, unit: 1, width: width_of(bound.saturating_sub(1) as u64) }
    }

    /// A one for each bit of a residual.
    #[inline]
    pub(crate) fn mask(&self) -> u64 {
        mask(self.width)
    }

    /// The bits of a residual.
    #[inline]
    pub(crate) fn width(&self) -> usize {
        usize::from(self.width)
    }

    fn packed_bytes(&self, rows: usize) -> usize {
        (rows * self.width()).div_ceil(8)
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let width = if self.width == 64 { WIDTH_64 } else { self.width };
        // Nothing deviates where there are no bits to say by how much.
        let unit = if self.unit > 1 && self.width > 0 { UNIT } else { 0 };
        out.push(width | unit | if self.slope == 0 { 0 } else { SLOPED });
        put_zigzag(out, self.base);
        if unit > 0 {
            put_varint(out, self.unit as u64);
        }
        if self.slope != 0 {
            put_zigzag(out, self.slope);
        }
    }

    #[inline]
    pub(crate) fn parse(input: &mut Decoder<'_>) -> Result<Model, Malformed> {
        let shape = input.u8("a model's shape")?;
        let width = match shape & WIDTH {
            WIDTH_64 => 64,
            width if width < WIDTH_64 => width,
            _ => return Err(input.malformed("a known width of residuals")),
        };
        let base = input.zigzag("a model's base")?;
        let unit = if shape & UNIT == 0 {
            1
        } else {
            let unit = i64::try_from(input.varint("a model's unit")?);
            unit.ok().filter(|&unit| unit > 0).ok_or_else(|| input.malformed("a model's unit"))?
        };
        let slope = if shape & SLOPED == 0 { 0 } else { input.zigzag("a model's slope")? };
        Ok(Model { base, slope, unit, width })
    }

    /// By how many units element `row` deviates.
    #[inline]
    pub(crate) fn residual(&self, row: usize, element: i64) -> u64 {
        let deviation = element.wrapping_sub(self.predicted(row)) as u64;
        if self.unit == 1 { deviation } else { deviation / self.unit as u64 }
    }

    /// Element `row` of this residual.
    #[inline]
    pub(crate) fn element(&self, row: usize, residual: u64) -> i64 {
        self.predicted(row).wrapping_add(self.unit.wrapping_mul(residual as i64))
    }

    #[inline]
    fn predicted(&self, row: usize) -> i64 {
        self.base.wrapping_add(self.slope.wrapping_mul(row as i64))
    }

    /// The part of `rows` in which the first element above `bound` is, or at whose end it is, as far as
    /// the model alone can tell; the elements must rise.
    fn narrow(&self, rows: Range<usize>, bound: i64) -> Range<usize> {
        if self.slope <= 0 || self.width > 56 {
            return rows;
        }
        // Elements lie between the line and the line lifted by the greatest deviation, unless one of
        // the two wraps, as no encoder's does.
        let deviation_max = self.unit.saturating_mul(self.mask() as i64);
        let rise_max = self.slope.saturating_mul(rows.end as i64).saturating_add(deviation_max);
        if rise_max == i64::MAX || self.base.checked_add(rise_max).is_none() {
            return rows;
        }
        let above_line = bound.saturating_sub(self.base);
        let rows_upto = |rise: i64| if rise < 0 { 0 } else { (rise / self.slope) as usize + 1 };
        let low = rows_upto(above_line.saturating_sub(deviation_max));
        low.clamp(rows.start, rows.end)..rows_upto(above_line).clamp(rows.start, rows.end)
    }
}

/// The greatest number that all differences to `first` are multiples of; 0 where there are none.
fn common_divisor(values: &[i64], first: i64) -> i64 {
    let mut divisor = 0_u64;
    for value in values {
        let mut rest = value.abs_diff(first);
        while rest > 0 {
            (divisor, rest) = (rest, divisor % rest);
        }
        if divisor == 1 {
            break;
        }
    }
    divisor as i64
}

fn width_of(range: u64) -> u8 {
    match 64 - range.leading_zeros() as u8 {
        width @ 0..=56 => width,
        _ => 64,
    }
}

#[inline]
fn mask(width: u8) -> u64 {
    if width == 64 { u64::MAX } else { (1 << width) - 1 }
}

/// The `width` bits from bit `at` on, where `width` is a model's; [`PAD_BYTES`] follow them.
#[inline]
pub(crate) fn read_bits(packed: &[u8], at: usize, width: usize) -> u64 {
    let (byte, shift) = (at / 8, at % 8);
    let mut word = [0; 8];
    word.copy_from_slice(&packed[byte..byte + 8]);
    let low = u64::from_le_bytes(word) >> shift;
    if width == 64 && shift > 0 {
        return low | u64::from(packed[byte + 8]) << (64 - shift);
    }
    low & mask(width as u8)
}

/// Appends numbers of few bits, one after the other.
pub(crate) struct BitWriter<'o> {
    out: &'o mut Vec<u8>,
    pending: u128,
    bits: usize,
}

impl<'o> BitWriter<'o> {
    pub(crate) fn new(out: &'o mut Vec<u8>) -> Self {
        BitWriter { out, pending: 0, bits: 0 }
    }

    /// Appends the lower `width` bits of `number`; the others are zero.
    #[inline]
    pub(crate) fn push(&mut self, number: u64, width: usize) {
        self.pending |= u128::from(number) << self.bits;
        self.bits += width;
        if self.bits >= 64 {
            self.out.extend_from_slice(&(self.pending as u64).to_le_bytes());
            self.pending >>= 64;
            self.bits -= 64;
        }
    }

    /// Fills up the last byte.
    pub(crate) fn finish(self) {
        self.out.extend_from_slice(&(self.pending as u64).to_le_bytes()[..self.bits.div_ceil(8)]);
    }
}

/// Appends `values` as a column.
pub(crate) fn encode(out: &mut Vec<u8>, values: &[i64]) {
    let model = Model::fit(values);
    model.write(out);
    encode_residuals(out, &model, values);
}

/// Appends a column without its model.
pub(crate) fn encode_residuals(out: &mut Vec<u8>, model: &Model, values: &[i64]) {
    out.reserve(model.packed_bytes(values.len()));
    let mut bits = BitWriter::new(out);
    for (row, &value) in values.iter().enumerate() {
        bits.push(model.residual(row, value), model.width());
    }
    bits.finish();
}

/// A column in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column<'a> {
    model: Model,
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
        let model = Model::parse(input)?;
        Column::of_residuals(input, model, rows)
    }

    /// Reads a column whose model stands elsewhere.
    #[inline]
    pub(crate) fn of_residuals(
        input: &mut Decoder<'a>,
        model: Model,
        rows: usize,
    ) -> Result<Self, Malformed> {
        let bytes = rows.saturating_mul(model.width()).div_ceil(8);
        let packed = input.take_padded(bytes, PAD_BYTES, "a column's residuals")?;
        Ok(Column { model, rows, packed })
    }

    /// How many elements it has.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// Whether all elements are the same, as far as the model tells.
    pub(crate) fn is_constant(&self) -> bool {
        self.model.width == 0 && self.model.slope == 0
    }

    /// Element `row`, which must be one of its rows.
    #[inline]
    pub(crate) fn get(&self, row: usize) -> i64 {
        assert!(row < self.rows, "row {row} of a column of {}", self.rows);
        let width = self.model.width();
        self.model.element(row, read_bits(self.packed, row * width, width))
    }

    /// The elements of some of its rows, in order.
    pub(crate) fn elements(&self, rows: Range<usize>) -> impl Iterator<Item = i64> + '_ {
        assert!(rows.end <= self.rows, "rows to {} of a column of {}", rows.end, self.rows);
        let (model, packed, width) = (self.model, self.packed, self.model.width());
        rows.map(move |row| model.element(row, read_bits(packed, row * width, width)))
    }

    /// The number of leading rows in `rows` for which `before` holds; it must hold for a prefix.
    pub(crate) fn partition_point(
        &self,
        rows: Range<usize>,
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

    /// The end of the leading rows in `rows` that are at or below `bound`; the elements must rise.
    #[inline]
    pub(crate) fn upper_bound(&self, rows: Range<usize>, bound: i64) -> usize {
        self.partition_point(self.model.narrow(rows, bound), |element| element <= bound)
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
        assert_eq!(column.elements(0..column.len()).collect::<Vec<_>>(), values);
        if values.is_sorted() {
            let all = 0..values.len();
            for bound in values.iter().flat_map(|v| [v.saturating_sub(1), *v, v.saturating_add(1)])
            {
                let expected = column.partition_point(all.clone(), |element| element <= bound);
                assert_eq!(column.upper_bound(all.clone(), bound), expected, "{bound}");
            }
        }
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
        fn multiples_come_back(base in -1_i64 << 50..1 << 50, unit in 1_i64..5000, steps: Vec<i16>) {
            let mut at = base;
            let values: Vec<i64> = steps
                .iter()
                .map(|&step| {
                    at += unit * i64::from(step);
                    at
                })
                .collect();
            let encoded = round_trip(&values);
            prop_assert!(encoded <= 30 + values.len() * 25 / 8);
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
        fn a_rising_column_is_searched(mut values: Vec<i64>, shift in 0_u32..60) {
            for value in &mut values {
                *value >>= shift;
            }
            values.sort_unstable();
            round_trip(&values);
        }

        #[test]
        fn sequences_share_a_bit_string(rows: Vec<(i64, u8, i64)>, shift in 0_u32..64) {
            let columns = [
                rows.iter().map(|row| row.0 >> shift).collect::<Vec<_>>(),
                rows.iter().map(|row| i64::from(row.1)).collect(),
                rows.iter().map(|row| row.2).collect(),
            ];
            let models = [0, 1, 2].map(|i| Model::fit(&columns[i]));
            let mut packed = Vec::new();
            let mut bits = BitWriter::new(&mut packed);
            for row in 0..rows.len() {
                for (model, column) in models.iter().zip(&columns) {
                    bits.push(model.residual(row, column[row]), model.width());
                }
            }
            bits.finish();
            packed.extend_from_slice(&[0xa5; PAD_BYTES]);
            let mut at = 0;
            for row in 0..rows.len() {
                for (model, column) in models.iter().zip(&columns) {
                    let residual = read_bits(&packed, at, model.width());
                    prop_assert_eq!(model.element(row, residual), column[row]);
                    at += model.width();
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, rows in 0_usize..100) {
            if let Ok(column) = Column::parse(&mut Decoder::new(&bytes), rows) {
                prop_assert_eq!(column.elements(0..rows).count(), rows);
            }
        }
    }

    /// About every minute: the mean step is nearer to 60,000 than to 59,999. Along a slope that was cut off
    /// a residual took a bit more, which made 64 bytes.
    #[test]
    fn a_line_has_the_nearest_slope() {
        let values: Vec<i64> = (0..512).map(|i| i * 60_000 - i * 3 / 10 + i * 7919 % 61).collect();
        let bytes = round_trip(&values);
        assert!(bytes <= 520, "{bytes} bytes");
    }

    #[test]
    fn regular_timestamps_cost_next_to_nothing() {
        let regular: Vec<i64> = (0..1000).map(|i| 1_673_524_092_123_456 + i * 1_000_000).collect();
        assert_eq!(round_trip(&regular), 12);
        assert_eq!(round_trip(&vec![-7; 1000]), 2);
        // Milliseconds, told in microseconds.
        let coarse: Vec<i64> = (0..1000).map(|i| i * 1_000_000 + i * i % 61 * 1000).collect();
        assert!(round_trip(&coarse) <= 10 + 6 * 1000 / 8);
        assert_eq!(round_trip(&[i64::MIN, i64::MAX]), 11 + 16);
    }
}
