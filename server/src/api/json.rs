//! JSON that clients send, as it is stored and as it is read.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use kvtimedb_engine::Timestamp;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::api::moment::TsUnit;

/// How deep arrays and objects may be nested: what the JSON parsers of our own tools accept.
const NESTING_MAX: usize = 127;

/// The text of one JSON value as it is stored: without the white space between its parts, and otherwise as
/// it was spelt. The error says what is wrong.
pub(crate) fn stored(body: &[u8]) -> Result<Cow<'_, str>, String> {
    let text = std::str::from_utf8(body).map_err(|error| format!("it is not UTF-8: {error}"))?;
    // Some editors and shells begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| error.to_string())?;
    compacted(raw.get())
}

/// Well-formed JSON without the white space between its parts. White space in a string is kept; it
/// can't hold a line break, which JSON has escaped.
pub(crate) fn compacted(json: &str) -> Result<Cow<'_, str>, String> {
    // Most values are short, or compact: the search for white space is much quicker than the walk.
    let bytes = json.as_bytes();
    let has_parts = matches!(bytes.first(), Some(b'[' | b'{'));
    let is_shallow = !has_parts || bytes.len() <= 2 * NESTING_MAX;
    if is_shallow
        && (bytes.first() == Some(&b'"')
            || memchr::memchr3(b' ', b'\t', b'\n', bytes).is_none()
                && memchr::memchr(b'\r', bytes).is_none())
    {
        return Ok(Cow::Borrowed(json));
    }
    let mut compact = String::new();
    let (mut copied, mut depth) = (0, 0);
    let (mut in_string, mut escaped) = (false, false);
    for (pos, byte) in json.bytes().enumerate() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = byte == b'\\' && !escaped;
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > NESTING_MAX {
                    return Err(format!("value is nested more than {NESTING_MAX} levels deep"));
                }
            }
            b']' | b'}' => depth -= 1,
            b' ' | b'\t' | b'\n' | b'\r' => {
                compact.push_str(&json[copied..pos]);
                copied = pos + 1;
            }
            _ => {}
        }
    }
    if copied == 0 {
        return Ok(Cow::Borrowed(json));
    }
    compact.push_str(&json[copied..]);
    Ok(Cow::Owned(compact))
}

/// Reads a moment: a JSON integer, or a string of what a query may say.
pub(crate) fn moment(raw: &RawValue, unit: TsUnit) -> Result<Timestamp, String> {
    let json = raw.get();
    if json.starts_with('"') {
        let text: String = serde_json::from_str(json).map_err(|error| error.to_string())?;
        return unit.parse_at(&text);
    }
    json.parse().map_err(|_| {
        let shown: String = json.chars().take(40).collect();
        format!("{shown} is neither an integer of 64 bits nor a string")
    })
}

/// For a member that may be missing: `null` is there.
pub(crate) fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads a list of no more than `MAX` items, or of one item more, which says that there were too many: what
/// comes behind it is passed over and takes no memory.
pub(crate) fn at_most<'de, const MAX: usize, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(AtMost::<MAX, T>(PhantomData))
}

/// As [`at_most`], for a member that may be missing.
pub(crate) fn some_at_most<'de, const MAX: usize, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    at_most::<MAX, T, D>(deserializer).map(Some)
}

struct AtMost<const MAX: usize, T>(PhantomData<T>);

impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for AtMost<MAX, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        while items.len() <= MAX {
            match list.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(items),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(items)
    }
}
