//! Bytes as text: escaped and cut for people, whole and unambiguous in JSON.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use kvtimedb_engine::{ValueKind, ValueType};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// What a table shows of a key or value, in characters.
const SHOWN_CHARS_MAX: usize = 64;

/// Bytes that are text where they can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bytes<'b>(pub(super) Cow<'b, [u8]>);

impl From<Vec<u8>> for Bytes<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes(Cow::Owned(bytes))
    }
}

impl<'b> From<&'b [u8]> for Bytes<'b> {
    fn from(bytes: &'b [u8]) -> Self {
        Bytes(Cow::Borrowed(bytes))
    }
}

/// Printable characters as they are, a backslash as `\\`, every other byte as `\xNN`; cut where it
/// gets long.
impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = String::new();
        let mut chars = 0;
        for chunk in self.0.utf8_chunks() {
            let valid = chunk.valid().chars().map(Ok);
            for piece in valid.chain(chunk.invalid().iter().map(|&byte| Err(byte))) {
                if chars == SHOWN_CHARS_MAX {
                    return write!(f, "{shown}… ({} bytes)", self.0.len());
                }
                chars += 1;
                match piece {
                    Ok('\\') => shown.push_str("\\\\"),
                    Ok(char) if is_printable(char) => shown.push(char),
                    Ok(char) => {
                        for byte in char.encode_utf8(&mut [0; 4]).bytes() {
                            write!(shown, "\\x{byte:02x}")?;
                        }
                    }
                    Err(byte) => write!(shown, "\\x{byte:02x}")?,
                }
            }
        }
        f.write_str(&shown)
    }
}

/// Whether a terminal shows it as one sign of its own, and does nothing else.
fn is_printable(char: char) -> bool {
    matches!(char, '\'' | '"') || char.escape_debug().eq([char])
}

/// A string where it is UTF-8, `{"$hex": ".."}` where not.
impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(&self.0) {
            return serializer.serialize_str(text);
        }
        let mut hex = String::with_capacity(2 * self.0.len());
        for byte in &*self.0 {
            write!(hex, "{byte:02x}").map_err(serde::ser::Error::custom)?;
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("$hex", &hex)?;
        map.end()
    }
}

/// A value, which may be JSON.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) value_type: ValueType,
    pub(super) bytes: Vec<u8>,
}

impl Value {
    /// `None` for a tombstone, which has none.
    pub(super) fn of(kind: ValueKind, value_type: ValueType, bytes: Vec<u8>) -> Option<Value> {
        (kind == ValueKind::Put).then_some(Value { value_type, bytes })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Bytes::from(&*self.bytes).fmt(f)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let json = (self.value_type == ValueType::Json).then(|| compact(&self.bytes)).flatten();
        match json {
            Some(json) => json.serialize(serializer),
            None => Bytes::from(&*self.bytes).serialize(serializer),
        }
    }
}

/// JSON text on one line, its numbers as they were written; `None` if it is no JSON.
fn compact(text: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(text).ok()?;
    let text = serde_json::from_str::<&RawValue>(text).ok()?.get();
    let (mut in_string, mut escaped) = (false, false);
    let is_kept = |&char: &char| {
        let kept = in_string || !char.is_ascii_whitespace();
        in_string ^= char == '"' && !escaped;
        escaped = char == '\\' && !escaped;
        kept
    };
    RawValue::from_string(text.chars().filter(is_kept).collect()).ok()
}

/// A key on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(pub(super) Vec<u8>);

impl std::str::FromStr for Key {
    type Err = String;

    /// Reads the escapes that [`Bytes`] writes.
    fn from_str(text: &str) -> Result<Key, String> {
        let mut key = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((&byte, after)) = rest.split_first() {
            (key, rest) = match (byte, after) {
                (b'\\', [b'\\', after @ ..]) => (with(key, b'\\'), after),
                (b'\\', [b'x', high, low, after @ ..]) => {
                    let digit = |digit: u8| char::from(digit).to_digit(16);
                    let byte = digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low);
                    let byte = byte.and_then(|byte| u8::try_from(byte).ok());
                    (with(key, byte.ok_or("\\x takes two hexadecimal digits")?), after)
                }
                (b'\\', _) => return Err("a backslash is written \\\\, a byte \\xNN".into()),
                (byte, after) => (with(key, byte), after),
            };
        }
        Ok(Key(key))
    }
}

fn with(mut key: Vec<u8>, byte: u8) -> Vec<u8> {
    key.push(byte);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_table_shows_can_be_given_back() {
        for (bytes, shown) in [
            (&b""[..], ""),
            (b"sensor/7", "sensor/7"),
            ("température 'x' \"y\" ⏱".as_bytes(), "température 'x' \"y\" ⏱"),
            (b"a\\b\n\x1b[31m\0", "a\\\\b\\x0a\\x1b[31m\\x00"),
            (b"\xff\xc3(", "\\xff\\xc3("),
            ("\u{202e}abc\u{200b}".as_bytes(), "\\xe2\\x80\\xaeabc\\xe2\\x80\\x8b"),
        ] {
            assert_eq!(Bytes::from(bytes).to_string(), shown);
            assert_eq!(shown.parse(), Ok(Key(bytes.to_vec())));
        }
        for bad in ["\\", "\\x", "\\x4", "\\xg0", "\\n"] {
            assert!(bad.parse::<Key>().is_err(), "{bad}");
        }
        let long = Bytes::from(vec![b'x'; 100_000]).to_string();
        assert_eq!(long, format!("{}… (100000 bytes)", "x".repeat(64)));
    }

    #[test]
    fn json_is_embedded_where_it_is_json() {
        let json = |value_type, bytes: &[u8]| {
            serde_json::to_string(&Value { value_type, bytes: bytes.to_vec() }).unwrap()
        };
        for (text, embedded) in [
            ("{\"a\": 1.50,\n \"b \\\" c\\\\\": [1e400, 12345678901234567890123]}", None),
            (" null\n", Some("null")),
            ("\"a \\\" b\"", None),
            ("not json", Some("\"not json\"")),
            ("{\"a\":1} {}", Some("\"{\\\"a\\\":1} {}\"")),
            ("", Some("\"\"")),
        ] {
            let expected = embedded.map_or_else(
                || "{\"a\":1.50,\"b \\\" c\\\\\":[1e400,12345678901234567890123]}".to_owned(),
                str::to_owned,
            );
            let expected = if text.starts_with("\"a") { text.to_owned() } else { expected };
            assert_eq!(json(ValueType::Json, text.as_bytes()), expected);
        }
        assert_eq!(json(ValueType::Octets, b"{}"), "\"{}\"");
        assert_eq!(json(ValueType::Json, b"\xff"), "{\"$hex\":\"ff\"}");
    }
}
