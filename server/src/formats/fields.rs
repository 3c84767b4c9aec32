//! The fields of a row: which columns hold them, and what their text says.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kvtimedb_engine::{ValueRef, ValueType};
use serde_json::value::RawValue;

use super::clock::Clock;
use crate::api::json::compacted;

/// In formats where all values are text: the column that says of each what it holds.
pub(crate) const TYPE_COLUMN: &str = "value_type";

/// Which columns hold the fields of a row, and how they are to be read.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) key: String,
    pub(crate) ts: String,
    /// `None`: the rows are lookups.
    pub(crate) value: Option<String>,
    pub(crate) clock: Clock,
    /// What values are that are text, unless a column says so.
    pub(crate) text_as: TextAs,
}

/// What a value is that is text in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextAs {
    /// JSON: `21.5`, `"on"`, `{"a":1}`.
    Json,
    /// The text is the value.
    Text,
    /// Octets in base64.
    Octets,
    /// Nothing: the key ends.
    End,
}

impl TextAs {
    pub(crate) fn named(name: &str) -> Option<TextAs> {
        match name {
            "json" => Some(TextAs::Json),
            "text" => Some(TextAs::Text),
            "octets" => Some(TextAs::Octets),
            "end" => Some(TextAs::End),
            _ => None,
        }
    }

    /// From a type column, where an empty field says no more than that there is none.
    pub(super) fn of_field(self, field: &[u8]) -> Result<TextAs, String> {
        if field.is_empty() {
            return Ok(self);
        }
        std::str::from_utf8(field).ok().and_then(TextAs::named).ok_or_else(|| {
            let field = shown(field);
            format!("{TYPE_COLUMN} is {field}: it must be json, text, octets or end")
        })
    }

    /// The value that the text stands for; `None`: an end. `out` is where it is made, if it has to be.
    pub(super) fn value<'a>(
        self,
        text: &'a [u8],
        out: &'a mut Vec<u8>,
    ) -> Result<Option<ValueRef<'a>>, String> {
        out.clear();
        match self {
            TextAs::Json => Ok(Some(ValueRef::json(json(text, out)?))),
            TextAs::Text => Ok(Some(ValueRef::text(utf8(text, "the value")?))),
            TextAs::Octets => {
                STANDARD.decode_vec(text, out).map_err(|error| {
                    format!("the value is not base64, as its {TYPE_COLUMN} says: {error}")
                })?;
                Ok(Some(ValueRef::octets(out)))
            }
            TextAs::End if text.is_empty() => Ok(None),
            TextAs::End => Err(format!("an end has no value, and there is {}", shown(text))),
        }
    }
}

/// A value as the text of a type column and of a value column.
pub(super) fn text_of(value: Option<ValueRef<'_>>) -> (&'static str, Cow<'_, [u8]>) {
    let Some(ValueRef { value_type, bytes }) = value else { return ("end", Cow::Borrowed(b"")) };
    match value_type {
        ValueType::Json => ("json", Cow::Borrowed(bytes)),
        ValueType::Text if std::str::from_utf8(bytes).is_ok() => ("text", Cow::Borrowed(bytes)),
        ValueType::Text | ValueType::Octets => {
            ("octets", Cow::Owned(STANDARD.encode(bytes).into_bytes()))
        }
    }
}

/// The JSON text in a field, as it is stored.
fn json<'a>(text: &'a [u8], out: &'a mut Vec<u8>) -> Result<&'a [u8], String> {
    match serde_json::from_slice::<&RawValue>(text) {
        Ok(value) => stored(value, out),
        Err(error) => Err(format!(
            "the value {} is not JSON ({error}): quote it, or say value_type=text",
            shown(text)
        )),
    }
}

/// JSON as it is stored. `out` is where it is made, if it has to be.
pub(super) fn stored<'a>(json: &'a RawValue, out: &'a mut Vec<u8>) -> Result<&'a [u8], String> {
    Ok(match compacted(json.get())? {
        Cow::Borrowed(json) => json.as_bytes(),
        Cow::Owned(json) => {
            *out = json.into_bytes();
            out
        }
    })
}

/// The text in a field that must be text.
pub(super) fn utf8<'a>(text: &'a [u8], what: &str) -> Result<&'a str, String> {
    std::str::from_utf8(text).map_err(|_| format!("{what} is not UTF-8 text: {}", shown(text)))
}

/// Some bytes of a client for an error: not all of many.
pub(super) fn shown(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 60;
    let (bytes, rest) = bytes.split_at(bytes.len().min(SHOWN_BYTES_MAX));
    let dots = if rest.is_empty() { "" } else { "..." };
    format!("`{}{dots}`", String::from_utf8_lossy(bytes))
}
