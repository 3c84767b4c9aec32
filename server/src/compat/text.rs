//! Values as the JSON text in which they are stored.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::compat::python;
use crate::error::{Error, Result};

/// How deep arrays and objects may be nested: what the JSON parsers of our own tools accept.
const NESTING_MAX: usize = 127;

/// The text under which a value is stored: a string in its normal spelling, any other scalar as the
/// string that Python's `str()` makes of it, an object or array as it came, without the white space
/// between its parts.
pub(crate) fn value(raw: &RawValue) -> Result<Cow<'_, str>> {
    let json = raw.get();
    match json.as_bytes() {
        // Only what has a backslash has a second spelling.
        [b'"', rest @ ..] if !rest.contains(&b'\\') => Ok(Cow::Borrowed(json)),
        [b'"', ..] => {
            let text = python::unquoted(json, "value")?;
            Ok(Cow::Owned(serde_json::Value::from(text).to_string()))
        }
        [b'{' | b'[', ..] => compacted(json),
        // Digits, signs and letters need no escapes.
        _ => Ok(Cow::Owned(format!("\"{}\"", python::scalar(json)))),
    }
}

/// Well-formed JSON without the white space between its parts. White space in a string is kept; it
/// can't hold a line break, which JSON has escaped.
fn compacted(json: &str) -> Result<Cow<'_, str>> {
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
                    return Err(Error::BadRequest(format!(
                        "Invalid JSON: value is nested more than {NESTING_MAX} levels deep"
                    )));
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
