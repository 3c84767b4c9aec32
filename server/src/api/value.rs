//! Keys and values in JSON, for every answer alike.
//!
//! A value that is stored as JSON is sent as it is stored, text as a JSON string, and octets in base64
//! under a name of their own: `"value_base64"` in place of `"value"`, so that none is taken for a string.
//! A key that is not UTF-8 text, which only other ways than HTTP can write, is a `"key_base64"`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kvtimedb_engine::{EntryRef, Timestamp, ValueType};

use crate::api::moment::{TsFormat, TsUnit};

/// Appends `"key":"..."`.
pub(crate) fn write_key(out: &mut Vec<u8>, key: &[u8]) {
    if let Ok(key) = std::str::from_utf8(key) {
        out.extend_from_slice(b"\"key\":");
        write_text(out, key);
    } else {
        out.extend_from_slice(b"\"key_base64\":");
        write_base64(out, key);
    }
}

/// Appends `"ts":...`.
pub(crate) fn write_ts(out: &mut Vec<u8>, ts: Timestamp, unit: TsUnit, format: TsFormat) {
    out.extend_from_slice(b"\"ts\":");
    unit.write(out, ts, format);
}

/// Appends `"ts":...,"value":...`.
pub(crate) fn write_version(
    out: &mut Vec<u8>,
    version: EntryRef<'_>,
    unit: TsUnit,
    format: TsFormat,
) {
    write_ts(out, version.ts, unit, format);
    out.push(b',');
    write_value(out, version.value_type, version.value);
}

/// Appends `"value":...`.
pub(crate) fn write_value(out: &mut Vec<u8>, value_type: ValueType, value: &[u8]) {
    let text = std::str::from_utf8(value).ok().filter(|_| value_type == ValueType::Text);
    match (value_type, text) {
        (ValueType::Json, _) => {
            out.extend_from_slice(b"\"value\":");
            write_line(out, value);
        }
        (_, Some(text)) => {
            out.extend_from_slice(b"\"value\":");
            write_text(out, text);
        }
        _ => {
            out.extend_from_slice(b"\"value_base64\":");
            write_base64(out, value);
        }
    }
}

/// Appends a string, quoted.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    // To memory it can't fail.
    let _ = serde_json::to_writer(out, text);
}

/// The media type of a value that is sent bare.
pub(crate) fn content_type(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Json => "application/json",
        ValueType::Text => "text/plain; charset=utf-8",
        ValueType::Octets => "application/octet-stream",
    }
}

/// Appends JSON in one line. In JSON a line break is white space between parts: in a string it is escaped.
pub(crate) fn write_line(out: &mut Vec<u8>, json: &[u8]) {
    let start = out.len();
    out.extend_from_slice(json);
    for byte in &mut out[start..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// Appends octets in base64, quoted.
pub(crate) fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_told_apart_by_their_names() {
        for (value_type, value, expected) in [
            (ValueType::Json, &b"{\"a\": 1.50}"[..], "\"value\":{\"a\": 1.50}"),
            (ValueType::Json, b"[1,\r\n2]", "\"value\":[1,  2]"),
            (ValueType::Text, b"a\"\n", "\"value\":\"a\\\"\\n\""),
            (ValueType::Octets, b"", "\"value_base64\":\"\""),
            (ValueType::Octets, b"\xff\xfe", "\"value_base64\":\"//4=\""),
        ] {
            assert_eq!(written(|out| write_value(out, value_type, value)), expected);
        }
    }

    #[test]
    fn keys_are_text_unless_they_are_not() {
        for (key, expected) in [
            (&b""[..], r#""key":"""#),
            (b"a\"\\\n\x00", r#""key":"a\"\\\n\u0000""#),
            ("ключ".as_bytes(), "\"key\":\"ключ\""),
            (b"\xff", "\"key_base64\":\"/w==\""),
        ] {
            assert_eq!(written(|out| write_key(out, key)), expected);
        }
    }
}
