//! The requests of `/`, as the original service took them.
//!
//! The original ran in Python and put keys and scalar values through `str()` and timestamps through
//! `int()`; clients rely on it, so the same is done here (`python`). Three things differ on purpose:
//! a timestamp that isn't exactly an `i64` is refused instead of truncated, objects and arrays are
//! kept as the JSON text that they came in (`text`) instead of Python's `repr`, and every refusal
//! says why in JSON.

mod python;
#[cfg(test)]
mod tests;
mod text;

use std::borrow::Cow;
use std::fmt;

use kvtimedb_engine::{KEY_BYTES_MAX, Timestamp, VALUE_BYTES_MAX};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::query;

const PUT_FIELDS: &str = "key, value, timestamp";
const GET_FIELDS: &str = "key, timestamp";

/// A value to be written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Put<'a> {
    pub(crate) key: Cow<'a, str>,
    /// JSON text without a line break.
    pub(crate) value: Cow<'a, str>,
    pub(crate) timestamp: Timestamp,
}

/// A question for the newest value at or before a timestamp.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lookup<'a> {
    pub(crate) key: Cow<'a, str>,
    pub(crate) timestamp: Timestamp,
}

/// Reads the body of `PUT /`.
pub(crate) fn parse_put(body: &[u8]) -> Result<Put<'_>> {
    let members = Members::parse(body)?;
    let (Some(key), Some(value), Some(timestamp)) = (members.key, members.value, members.timestamp)
    else {
        return Err(Error::MissingFields(PUT_FIELDS));
    };
    let put = Put {
        key: within_limit(python::key(key)?)?,
        value: text::value(value)?,
        timestamp: python::timestamp(timestamp)?,
    };
    if put.value.len() > VALUE_BYTES_MAX {
        return Err(Error::TooLarge { what: "The value", limit: VALUE_BYTES_MAX });
    }
    Ok(put)
}

/// Reads the body of `GET /`.
pub(crate) fn parse_get(body: &[u8]) -> Result<Lookup<'_>> {
    let members = Members::parse(body)?;
    let (Some(key), Some(timestamp)) = (members.key, members.timestamp) else {
        return Err(Error::MissingFields(GET_FIELDS));
    };
    Ok(Lookup { key: within_limit(python::key(key)?)?, timestamp: python::timestamp(timestamp)? })
}

/// Reads the query of `GET /`, `key=..&timestamp=..`. Of a repeated name the last one counts, as in
/// a body.
pub(crate) fn parse_query(query: &str) -> Result<Lookup<'static>> {
    let (mut key, mut timestamp) = (None, None);
    for pair in query::pairs(query) {
        let (name, value) = pair?;
        match &*name {
            "key" => key = Some(value),
            "timestamp" => timestamp = Some(value),
            _ => {}
        }
    }
    let (Some(key), Some(timestamp)) = (key, timestamp) else {
        return Err(Error::MissingFields(GET_FIELDS));
    };
    Ok(Lookup {
        key: within_limit(Cow::Owned(key.into_owned()))?,
        timestamp: python::timestamp_from_str(&timestamp)?,
    })
}

fn within_limit(key: Cow<'_, str>) -> Result<Cow<'_, str>> {
    if key.len() > KEY_BYTES_MAX {
        return Err(Error::BadRequest(format!(
            "The key is too large: {} bytes, the limit is {KEY_BYTES_MAX} bytes",
            key.len()
        )));
    }
    Ok(key)
}

/// The members of a request's object, as the text that they came in. Of a repeated member the last
/// one counts.
#[derive(Default)]
struct Members<'a> {
    key: Option<&'a RawValue>,
    value: Option<&'a RawValue>,
    timestamp: Option<&'a RawValue>,
}

impl<'a> Members<'a> {
    fn parse(body: &'a [u8]) -> Result<Members<'a>> {
        if body.is_empty() {
            return Err(Error::BadRequest("Invalid JSON: the body is empty".to_owned()));
        }
        let text = std::str::from_utf8(body).map_err(|error| {
            Error::BadRequest(format!("Invalid JSON: the body is not UTF-8 text: {error}"))
        })?;
        // Some editors and shells begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        serde_json::from_str(text).map_err(|error| match error.classify() {
            Category::Data => Error::InvalidTypes("the body must be a JSON object".to_owned()),
            _ => Error::BadRequest(format!("Invalid JSON: {error}")),
        })
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum MemberName {
    Key,
    Value,
    Timestamp,
    #[serde(other)]
    Other,
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::default();
        while let Some(name) = map.next_key()? {
            match name {
                MemberName::Key => members.key = Some(map.next_value()?),
                MemberName::Value => members.value = Some(map.next_value()?),
                MemberName::Timestamp => members.timestamp = Some(map.next_value()?),
                MemberName::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(members)
    }
}
