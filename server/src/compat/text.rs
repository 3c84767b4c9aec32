//! Values as the JSON text in which they are stored.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::api::json::compacted;
use crate::compat::python;
use crate::error::{Error, Result};

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
        [b'{' | b'[', ..] => {
            compacted(json).map_err(|what| Error::BadRequest(format!("Invalid JSON: {what}")))
        }
        // Digits, signs and letters need no escapes.
        _ => Ok(Cow::Owned(format!("\"{}\"", python::scalar(json)))),
    }
}
