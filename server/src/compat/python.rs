//! Python's `str()` and `int()`, for what JSON can hold.

use std::borrow::Cow;

use kvtimedb_engine::Timestamp;
use serde_json::value::RawValue;

use crate::error::{Error, Result};

/// From this decimal exponent on, and below the least one, `repr` writes a float with an exponent.
const EXPONENT_MAX: i32 = 16;
const EXPONENT_MIN: i32 = -4;

/// More digits than any `i64` has.
const TIMESTAMP_DIGITS_MAX: usize = 19;

/// `str(key)`. Objects and arrays are no keys.
pub(crate) fn key(raw: &RawValue) -> Result<Cow<'_, str>> {
    match raw.get().as_bytes() {
        [b'"', ..] => unquoted(raw.get(), "key"),
        [b'{', ..] => Err(Error::InvalidTypes("key must not be an object".to_owned())),
        [b'[', ..] => Err(Error::InvalidTypes("key must not be an array".to_owned())),
        _ => Ok(scalar(raw.get())),
    }
}

/// What a JSON string says. `name` is the member's, for the error.
pub(crate) fn unquoted<'a>(json: &'a str, name: &str) -> Result<Cow<'a, str>> {
    let inner = json.strip_prefix('"').and_then(|json| json.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.contains('\\') => Ok(Cow::Borrowed(inner)),
        _ => serde_json::from_str(json).map(Cow::Owned).map_err(|error| {
            Error::BadRequest(format!("Invalid JSON: the string in {name}: {error}"))
        }),
    }
}

/// `str()` of a JSON number, boolean or null, given as JSON text.
pub(crate) fn scalar(json: &str) -> Cow<'_, str> {
    match json {
        "true" => Cow::Borrowed("True"),
        "false" => Cow::Borrowed("False"),
        "null" => Cow::Borrowed("None"),
        "-0" => Cow::Borrowed("0"),
        _ if json.contains(['.', 'e', 'E']) => match json.parse() {
            Ok(float) => Cow::Owned(float_repr(float)),
            // Rust parses every JSON number.
            Err(_) => Cow::Borrowed(json),
        },
        // All digits of an integer count, however many they are.
        _ => Cow::Borrowed(json),
    }
}

/// `repr(float)`: the fewest digits that read back as the same number.
fn float_repr(float: f64) -> String {
    if float.is_infinite() {
        return if float > 0.0 { "inf".to_owned() } else { "-inf".to_owned() };
    }
    let scientific = shortest(float);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(EXPONENT_MIN..EXPONENT_MAX).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    positional(mantissa, exponent)
}

/// `float` in as few digits as read back as the same number, as `-d.ddde±x`.
///
/// Where two such numbers are equally near, Rust takes the one away from zero and Python the even
/// one. Printing that many digits exactly rounds to even, so that is taken wherever it reads back.
fn shortest(float: f64) -> String {
    let shortest = format!("{float:e}");
    let digits = shortest.bytes().take_while(|b| *b != b'e').filter(u8::is_ascii_digit).count();
    let even = format!("{float:.*e}", digits - 1);
    if even.parse() == Ok(float) { even } else { shortest }
}

/// `mantissa × 10^exponent` written out, with at least one decimal.
fn positional(mantissa: &str, exponent: i32) -> String {
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let digits = mantissa.replace('.', "");
    match usize::try_from(exponent) {
        Err(_) => format!("{sign}0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1)),
        Ok(exponent) => {
            let digits = format!("{digits:0<width$}", width = exponent + 2);
            let (whole, fraction) = digits.split_at(exponent + 1);
            format!("{sign}{whole}.{fraction}")
        }
    }
}

/// `int(timestamp)`, where nothing is lost by it.
pub(crate) fn timestamp(raw: &RawValue) -> Result<Timestamp> {
    let json = raw.get();
    let must_be =
        |what: &str| Err(Error::InvalidTypes(format!("timestamp must be an integer, not {what}")));
    match json.as_bytes() {
        [b'"', ..] => timestamp_from_str(&unquoted(json, "timestamp")?),
        [b'{', ..] => must_be("an object"),
        [b'[', ..] => must_be("an array"),
        b"null" => must_be("null"),
        b"true" => Ok(1),
        b"false" => Ok(0),
        _ => decimal(json),
    }
}

/// `int(str)`: spaces around it, a sign and single underscores between digits are fine.
pub(crate) fn timestamp_from_str(text: &str) -> Result<Timestamp> {
    let stripped = text.trim_matches(is_space);
    let (negative, digits) = match stripped.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits.strip_prefix(b"+").unwrap_or(digits)),
    };
    let mut significant = String::with_capacity(digits.len());
    for group in digits.split(|b| *b == b'_') {
        if group.is_empty() || !group.iter().all(u8::is_ascii_digit) {
            return Err(Error::InvalidTypes(format!(
                "timestamp must be an integer, not the string {}",
                shown(text)
            )));
        }
        significant.extend(group.iter().copied().map(char::from));
    }
    integer(negative, significant.trim_start_matches('0'), 0).ok_or_else(|| out_of_range(text))
}

/// What `str.isspace` says. Unicode's idea of white space lacks the four separators.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// A JSON number as an integer, exactly: not by way of a float, which would change large ones.
fn decimal(json: &str) -> Result<Timestamp> {
    let (number, exponent) = match json.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, saturated_exponent(exponent)),
        None => (json, 0),
    };
    let (negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    let dropped_zeros = digits.len() - significant.len();
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    let exponent = exponent + dropped_zeros as i64 - fraction.len() as i64;
    if exponent < 0 {
        return Err(Error::InvalidTypes(format!(
            "timestamp must be an integer, not the fraction {}",
            shown(json)
        )));
    }
    integer(negative, significant, exponent).ok_or_else(|| out_of_range(json))
}

/// An exponent, or one so far out that no body has the digits to make up for it.
fn saturated_exponent(exponent: &str) -> i64 {
    const FAR: i64 = 1 << 40;
    let magnitude = exponent.trim_start_matches(['+', '-']).parse().unwrap_or(FAR).min(FAR);
    if exponent.starts_with('-') { -magnitude } else { magnitude }
}

/// `±digits × 10^zeros`, if that is an `i64`. `digits` has no leading zeros.
fn integer(negative: bool, digits: &str, zeros: i64) -> Option<Timestamp> {
    if digits.is_empty() {
        return Some(0);
    }
    let zeros = usize::try_from(zeros).ok()?;
    if digits.len().checked_add(zeros)? > TIMESTAMP_DIGITS_MAX {
        return None;
    }
    let magnitude: i128 = digits.parse().ok()?;
    let magnitude = magnitude * 10i128.pow(zeros as u32);
    (if negative { -magnitude } else { magnitude }).try_into().ok()
}

fn out_of_range(text: &str) -> Error {
    Error::InvalidTypes(format!(
        "timestamp must be between {} and {}, not {}",
        Timestamp::MIN,
        Timestamp::MAX,
        shown(text)
    ))
}

/// The text for an error message: quoted, and cut where it gets long.
fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(CHARS_MAX).collect();
    let rest = if chars.next().is_some() { "..." } else { "" };
    format!("{start:?}{rest}")
}
