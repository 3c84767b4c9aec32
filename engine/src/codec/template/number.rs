//! Decimal numbers as text and as scaled integers.

use std::ops::Range;

/// The most digits of a number: every such number fits an `i64`.
const DIGITS_MAX: u8 = 18;

const POWERS: [u64; DIGITS_MAX as usize + 1] = {
    let mut powers = [1; DIGITS_MAX as usize + 1];
    let mut i = 1;
    while i < powers.len() {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// Two digits at a time.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut i = 0;
    while i < pairs.len() {
        pairs[i] = [b'0' + i as u8 / 10, b'0' + i as u8 % 10];
        i += 1;
    }
    pairs
};

/// Numbers of so many digits at most are written by a quicker way.
const SHORT_DIGITS: u8 = 8;
const SHORT_BOUND: u64 = 100_000_000;
/// Room for most numbers, in bytes.
const SHORT_TEXT: usize = 16;
const ASCII_ZEROS: u64 = 0x3030_3030_3030_3030;

/// Room for a sign, a point and the digits on both sides of it.
const ROOM: usize = 40;

/// No number takes more, in bytes, nor is written over more than that at a time.
pub(super) const TEXT_BYTES_MAX: usize = ROOM;

/// A number as it was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal {
    /// All its digits, without the point.
    mantissa: i64,
    /// How many digits stand before the point; at least one.
    digits: u8,
    /// How many stand behind it; none where there is no point.
    decimals: u8,
    leading_zero: bool,
}

impl Decimal {
    /// Reads `-?digits(.digits)?`; `None` for all else, for more than [`DIGITS_MAX`] digits and for a
    /// negative zero.
    pub(super) fn parse(text: &[u8]) -> Option<Decimal> {
        let (negative, digits) = match text {
            [b'-', digits @ ..] => (true, digits),
            digits => (false, digits),
        };
        if digits.len() > usize::from(DIGITS_MAX) + 1 {
            return None;
        }
        let (mut mantissa, mut point) = (0_u64, None);
        for (i, &byte) in digits.iter().enumerate() {
            match byte {
                b'0'..=b'9' => mantissa = mantissa * 10 + u64::from(byte - b'0'),
                b'.' if point.is_none() => point = Some(i),
                _ => return None,
            }
        }
        let whole = point.unwrap_or(digits.len());
        let decimals = point.map_or(0, |point| digits.len() - point - 1);
        let has_digits = whole > 0 && (point.is_none() || decimals > 0);
        if !has_digits || whole + decimals > usize::from(DIGITS_MAX) || (negative && mantissa == 0)
        {
            return None;
        }
        let mantissa = if negative { -(mantissa as i64) } else { mantissa as i64 };
        let leading_zero = digits[0] == b'0';
        Some(Decimal { mantissa, digits: whole as u8, decimals: decimals as u8, leading_zero })
    }
}

/// How the numbers of a column are written, so that an integer says all about each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(4))] // One move copies it.
pub(super) struct Spelling {
    /// An element is the number times ten to this power, which is also the most decimals.
    pub(super) scale: u8,
    /// Zeros at the end are left out beyond so many decimals.
    pub(super) decimals_min: u8,
    /// Zeros at the front fill up to so many digits before the point.
    pub(super) digits_min: u8,
}

impl Spelling {
    /// A spelling from its parts; `None` where the parts exceed their limits.
    pub(super) fn new(scale: u8, decimals_min: u8, digits_min: u8) -> Option<Spelling> {
        (scale <= DIGITS_MAX && decimals_min <= scale && digits_min <= DIGITS_MAX)
            .then_some(Spelling { scale, decimals_min, digits_min })
    }

    /// The spelling that all these numbers, one at least, may have in common;
    /// [`element`](Self::element) tells which have it.
    pub(super) fn of(numbers: impl Iterator<Item = Decimal>) -> Spelling {
        let widest = Spelling { scale: 0, decimals_min: DIGITS_MAX, digits_min: DIGITS_MAX };
        let mut filled_up = false;
        let spelling = numbers.fold(widest, |all, number| {
            filled_up |= number.leading_zero && number.digits > 1;
            Spelling {
                scale: all.scale.max(number.decimals),
                decimals_min: all.decimals_min.min(number.decimals),
                digits_min: all.digits_min.min(number.digits),
            }
        });
        // Numbers without zeros in front are written alike whatever is asked for up to their length.
        Spelling { digits_min: if filled_up { spelling.digits_min } else { 1 }, ..spelling }
    }

    /// Whether numbers have all their decimals and no zeros in front.
    pub(super) fn is_usual(self) -> bool {
        self.decimals_min == self.scale && self.digits_min == 1
    }

    /// The element that stands for `number`; `None` where the spelling would write it otherwise.
    pub(super) fn element(self, number: Decimal) -> Option<i64> {
        let trailing_zero = number.decimals > self.decimals_min && number.mantissa % 10 == 0;
        let leading_zero = number.digits > self.digits_min && number.leading_zero;
        if trailing_zero || leading_zero {
            return None;
        }
        let power = POWERS[usize::from(self.scale - number.decimals)] as i64;
        // One below the least element must be free, for a word.
        number.mantissa.checked_mul(power).filter(|&element| element > i64::MIN)
    }

    /// Appends the number that `element` stands for.
    #[inline]
    pub(super) fn write(self, element: i64, out: &mut Vec<u8>) {
        let mut text = [0; TEXT_BYTES_MAX];
        let len = self.write_at(element, &mut text, 0);
        if len <= SHORT_TEXT {
            let end = out.len() + len;
            out.extend_from_slice(&text[..SHORT_TEXT]);
            out.truncate(end);
        } else {
            out.extend_from_slice(&text[..len]);
        }
    }

    /// Writes the number that `element` stands for at `at`, perhaps with others behind it, and returns
    /// where it ends. There is room for [`TEXT_BYTES_MAX`].
    #[inline]
    pub(super) fn write_at(self, element: i64, out: &mut [u8], at: usize) -> usize {
        let magnitude = element.unsigned_abs();
        if magnitude < SHORT_BOUND && self.scale + self.digits_min <= SHORT_DIGITS {
            return self.write_short(magnitude as u32, element < 0, out, at);
        }
        self.write_long(element, out, at)
    }

    /// A number of up to [`SHORT_DIGITS`] digits, which fit one word.
    #[inline]
    fn write_short(self, magnitude: u32, negative: bool, out: &mut [u8], at: usize) -> usize {
        let scale = u32::from(self.scale);
        let (mut text, mut shown) = short_digits(magnitude);
        let shown_min = scale + u32::from(self.digits_min);
        if shown < shown_min {
            let zeros = 8 * (shown_min - shown);
            text = text << zeros | ASCII_ZEROS & ((1 << zeros) - 1);
            shown = shown_min;
        }
        let out = &mut out[at..at + SHORT_TEXT + 2];
        out[0] = b'-';
        let start = usize::from(negative);
        out[start..start + 8].copy_from_slice(&text.to_le_bytes());
        if scale == 0 {
            return at + start + shown as usize;
        }
        // Once more, behind the point.
        let whole = shown - scale;
        let fraction = text >> (8 * whole);
        let point = start + whole as usize;
        out[point] = b'.';
        out[point + 1..point + 9].copy_from_slice(&fraction.to_le_bytes());
        let mut decimals = scale;
        if self.decimals_min < self.scale {
            let zeros = (fraction ^ ASCII_ZEROS) << (8 * (8 - scale));
            decimals -= (zeros.leading_zeros() / 8).min(scale - u32::from(self.decimals_min));
        }
        at + point + if decimals == 0 { 0 } else { 1 + decimals as usize }
    }

    #[cold]
    fn write_long(self, element: i64, out: &mut [u8], at: usize) -> usize {
        let (text, range) = self.long(element);
        let end = at + range.len();
        out[at..end].copy_from_slice(&text[range]);
        end
    }

    /// Any number: where its text lies in some bytes.
    fn long(self, element: i64) -> ([u8; ROOM], Range<usize>) {
        let (mut buf, mut start, mut end) = ([b'0'; ROOM], ROOM, ROOM);
        let mut whole = element.unsigned_abs();
        if self.scale > 0 {
            let power = POWERS[usize::from(self.scale)];
            let fraction = whole % power;
            whole /= power;
            write_before(&mut buf, end, fraction);
            start -= usize::from(self.scale);
            while end > start + usize::from(self.decimals_min) && buf[end - 1] == b'0' {
                end -= 1;
            }
            if end > start {
                start -= 1;
                buf[start] = b'.';
            }
        }
        start = write_before(&mut buf, start, whole).min(start - usize::from(self.digits_min));
        if element < 0 {
            start -= 1;
            buf[start] = b'-';
        }
        (buf, start..end)
    }
}

/// The text of a number below [`SHORT_BOUND`], the first character in the lowest byte, and its length.
#[inline]
fn short_digits(number: u32) -> (u64, u32) {
    let leading = |thousands: u32| {
        let entry = THOUSAND[thousands as usize];
        (u64::from(entry & 0x00ff_ffff), entry >> 24)
    };
    let three = |number: u32| {
        let entry = THOUSAND_FULL[number as usize];
        u64::from(entry)
    };
    if number < 1000 {
        return leading(number);
    }
    let (front, last) = (number / 1000, number % 1000);
    if front < 1000 {
        let (text, len) = leading(front);
        return (text | three(last) << (8 * len), len + 3);
    }
    let (text, len) = leading(front / 1000);
    (text | three(front % 1000) << (8 * len) | three(last) << (8 * len + 24), len + 6)
}

/// The texts of the numbers below a thousand, the first character in the lowest byte, and their lengths
/// in the highest.
static THOUSAND: [u32; 1000] = {
    let mut table = [0; 1000];
    let mut number = 0;
    while number < 1000 {
        let full = THOUSAND_FULL[number as usize];
        let len = if number >= 100 {
            3
        } else if number >= 10 {
            2
        } else {
            1
        };
        table[number as usize] = full >> (8 * (3 - len)) | len << 24;
        number += 1;
    }
    table
};

/// The same with zeros in front, so that all have three characters.
static THOUSAND_FULL: [u32; 1000] = {
    let mut table = [0; 1000];
    let mut number = 0_u32;
    while number < 1000 {
        let digits = (number / 100) | ((number / 10 % 10) << 8) | ((number % 10) << 16);
        table[number as usize] = digits | 0x0030_3030;
        number += 1;
    }
    table
};

/// Writes the digits of `number`, none for zero, so that they end before `at`; where they begin.
fn write_before(buf: &mut [u8; ROOM], mut at: usize, mut number: u64) -> usize {
    while number >= 10 {
        at -= 2;
        buf[at..at + 2].copy_from_slice(&PAIRS[(number % 100) as usize]);
        number /= 100;
    }
    if number > 0 {
        at -= 1;
        buf[at] = b'0' + number as u8;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways to write a number agree, whatever the spelling.
    #[test]
    fn short_numbers_are_written_as_long_ones_are() {
        let bounds = (0..8).flat_map(|power| [10_i64.pow(power) - 1, 10_i64.pow(power)]);
        let numbers: Vec<i64> = bounds.chain((0..2000).map(|i| i * 49_999)).collect();
        for (scale, decimals_min, digits_min) in (0..=8)
            .flat_map(|s| (0..=s).flat_map(move |d| (1..=8 - s.min(7)).map(move |n| (s, d, n))))
        {
            let spelling = Spelling::new(scale, decimals_min, digits_min).unwrap();
            for number in numbers.iter().flat_map(|&number| [number, -number]) {
                let (mut short, mut long) = (b"x".to_vec(), b"x".to_vec());
                spelling.write(number, &mut short);
                let (text, range) = spelling.long(number);
                long.extend_from_slice(&text[range]);
                assert_eq!(short, long, "{number} as {spelling:?}");
            }
        }
    }
}
