//! Decimal numbers as text and as scaled integers.

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

/// Room for a sign, a point and the digits on both sides of it.
const ROOM: usize = 40;

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

    /// The spelling that all these numbers may have in common; [`element`](Self::element) tells which
    /// have it.
    pub(super) fn of(numbers: impl Iterator<Item = Decimal>) -> Spelling {
        let widest = Spelling { scale: 0, decimals_min: DIGITS_MAX, digits_min: DIGITS_MAX };
        numbers.fold(widest, |all, number| Spelling {
            scale: all.scale.max(number.decimals),
            decimals_min: all.decimals_min.min(number.decimals),
            digits_min: all.digits_min.min(number.digits),
        })
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
        out.extend_from_slice(&buf[start..end]);
    }
}

/// Writes the digits of `number`, none for zero, so that they end before `at`; where they begin.
#[inline]
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
