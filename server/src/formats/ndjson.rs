//! A JSON object a line.

use std::borrow::Cow;
use std::fmt;
use std::io::{ErrorKind, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kvtimedb_engine::{EntryRef, Timestamp, ValueRef, ValueType};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::clock::Clock;
use super::fields::{self, Layout, TYPE_COLUMN, TextAs, utf8};
use super::{ROW_BYTES_MAX, Row, Sink, read_failed};
use crate::api::value;
use crate::error::{Error, Result};
use crate::limits::Charge;

/// The members that stand in place of the value and of the key where these are octets, in base64.
const VALUE_BASE64: &str = "value_base64";
const KEY_BASE64: &str = "key_base64";
/// The member that says that the key ends.
const END: &str = "end";

/// How much is read at a time, in bytes.
const READ_BYTES: usize = 256 << 10;

/// Reads lines. It holds one of them, or some, if they are short.
pub(crate) struct NdjsonReader<R> {
    input: R,
    layout: Layout,
    /// What was read and not yet taken apart: the beginning of a line.
    buffer: Vec<u8>,
    /// How many bytes at the front of `buffer` hold no end of a line.
    searched: usize,
    line: u64,
    decoded: Decoded,
    charge: Charge,
}

impl<R: Read> NdjsonReader<R> {
    pub(crate) fn new(input: R, layout: Layout, charge: Charge) -> Self {
        let (buffer, decoded) = (Vec::with_capacity(2 * READ_BYTES), Decoded::default());
        NdjsonReader { input, layout, buffer, searched: 0, line: 0, decoded, charge }
    }

    /// Appends room to be read into. The buffer doubles, but not far beyond the longest line.
    fn make_room(&mut self) -> Result<()> {
        let len = self.buffer.len() + READ_BYTES;
        if len > self.buffer.capacity() {
            let doubled = 2 * self.buffer.capacity();
            let grown = doubled.min(ROW_BYTES_MAX + 2 * READ_BYTES).max(len);
            self.charge.grow_to_in_time(grown + self.decoded.value.capacity())?;
            self.buffer.reserve_exact(grown - self.buffer.len());
        }
        self.buffer.resize(len, 0);
        Ok(())
    }

    pub(crate) fn read(&mut self, sink: &mut Sink<'_>) -> Result<bool> {
        let start = self.buffer.len();
        self.make_room()?;
        let read = loop {
            match self.input.read(&mut self.buffer[start..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome.map_err(read_failed)?,
            }
        };
        self.buffer.truncate(start + read);
        let is_end = read == 0;
        let new = &self.buffer[self.searched..];
        let whole = if is_end {
            self.buffer.len()
        } else {
            memchr::memrchr(b'\n', new).map_or(0, |last| self.searched + last + 1)
        };
        if whole == 0 && self.buffer.len() > ROW_BYTES_MAX {
            let line = self.line + 1;
            return Err(Error::BadRequest(format!(
                "line {line} is longer than {ROW_BYTES_MAX} bytes: is this NDJSON, a line for each row?"
            )));
        }
        let mut left = &self.buffer[..whole];
        while !left.is_empty() {
            let len = memchr::memchr(b'\n', left).map_or(left.len(), |end| end + 1);
            let (line, rest) = left.split_at(len);
            left = rest;
            self.line += 1;
            let line = line.trim_ascii_end();
            if !line.is_empty() {
                parse(line, &self.layout, &mut self.decoded, |row| sink(self.line, row))?;
            }
        }
        self.buffer.drain(..whole);
        self.searched = self.buffer.len();
        Ok(!is_end)
    }
}

/// Takes one line apart and shows its row.
fn parse(
    line: &[u8],
    layout: &Layout,
    decoded: &mut Decoded,
    show: impl FnOnce(Result<Row<'_>, String>) -> Result<()>,
) -> Result<()> {
    let members = utf8(line, "the line").and_then(|line| {
        let mut json = serde_json::Deserializer::from_str(line);
        let members = MembersOf(layout).deserialize(&mut json);
        let members = members.and_then(|members| json.end().map(|()| members));
        members.map_err(|error| told(&error))
    });
    match &members {
        Ok(members) => show(members.row(layout, decoded)),
        Err(error) => show(Err(error.clone())),
    }
}

/// What a JSON error says, with its column; each line is line 1 to it.
fn told(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

/// The members of a line that mean something.
#[derive(Default)]
struct Members<'de> {
    key: Option<Cow<'de, str>>,
    key_base64: Option<Cow<'de, str>>,
    ts: Option<Timestamp>,
    value: Option<&'de RawValue>,
    value_base64: Option<Cow<'de, str>>,
    value_type: Option<Cow<'de, str>>,
    end: bool,
}

/// Where octets are decoded.
#[derive(Default)]
struct Decoded {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Members<'_> {
    fn row<'a>(&'a self, layout: &Layout, decoded: &'a mut Decoded) -> Result<Row<'a>, String> {
        let missing = |name: &str| format!("the member `{name}` is missing");
        let key = match (&self.key, &self.key_base64) {
            (Some(key), None) => key.as_bytes(),
            (None, Some(key)) => decode(KEY_BASE64, key, &mut decoded.key)?,
            (None, None) => return Err(missing(&layout.key)),
            (Some(_), Some(_)) => {
                return Err(format!("`{}` and `{KEY_BASE64}`: leave one out", layout.key));
            }
        };
        let ts = self.ts.ok_or_else(|| missing(&layout.ts))?;
        let Some(name) = &layout.value else { return Ok(Row { key, ts, value: None }) };
        let said = self.value_type.as_deref().unwrap_or_default();
        let text_as = layout.text_as.of_field(said.as_bytes())?;
        let is_said = |other| !said.is_empty() && text_as == other;
        let value = match (self.value, &self.value_base64, self.end || is_said(TextAs::End)) {
            (Some(json), None, false) => {
                // What is no string is JSON, unless its row says that it is a string.
                let is_string = json.get().starts_with('"') || !said.is_empty();
                let text_as = if is_string { text_as } else { TextAs::Json };
                Some(value_of(name, json, text_as, &mut decoded.value)?)
            }
            (None, Some(octets), false) if said.is_empty() || is_said(TextAs::Octets) => {
                Some(ValueRef::octets(decode(VALUE_BASE64, octets, &mut decoded.value)?))
            }
            (None, Some(_), false) => {
                return Err(format!("`{VALUE_BASE64}` is octets, and {TYPE_COLUMN} is {said}"));
            }
            (None, None, true) => None,
            (None, None, false) => return Err(missing(name)),
            _ => {
                return Err(format!(
                    "`{name}`, `{VALUE_BASE64}` and `{END}`: leave all out but one"
                ));
            }
        };
        Ok(Row { key, ts, value })
    }
}

/// The value that the member `name` stands for. `out` is where it is made, if it has to be.
fn value_of<'a>(
    name: &str,
    json: &'a RawValue,
    text_as: TextAs,
    out: &'a mut Vec<u8>,
) -> Result<ValueRef<'a>, String> {
    if text_as == TextAs::Json {
        return Ok(ValueRef::json(fields::stored(json, out)?));
    }
    let text: String = serde_json::from_str(json.get())
        .map_err(|_| format!("the member `{name}` is not a string, as its {TYPE_COLUMN} says"))?;
    if text_as == TextAs::Octets {
        return Ok(ValueRef::octets(decode(name, &text, out)?));
    }
    *out = text.into_bytes();
    Ok(ValueRef { value_type: ValueType::Text, bytes: out })
}

fn decode<'a>(name: &str, text: &str, out: &'a mut Vec<u8>) -> Result<&'a [u8], String> {
    out.clear();
    let decoded = STANDARD.decode_vec(text, out);
    decoded.map_err(|error| format!("the member `{name}` is not base64: {error}"))?;
    Ok(out)
}

/// Reads the members that a layout names.
struct MembersOf<'l>(&'l Layout);

impl<'de> DeserializeSeed<'de> for MembersOf<'_> {
    type Value = Members<'de>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Members<'de>, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MembersOf<'_> {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object, one a line")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        while let Some(member) = map.next_key_seed(NameOf(self.0))? {
            match member {
                Member::Key => members.key = Some(map.next_value_seed(Text)?),
                Member::Ts => members.ts = Some(map.next_value_seed(Moment(self.0.clock))?),
                Member::Value => members.value = Some(map.next_value()?),
                Member::KeyBase64 => members.key_base64 = Some(map.next_value_seed(Text)?),
                Member::ValueBase64 => members.value_base64 = Some(map.next_value_seed(Text)?),
                Member::ValueType => members.value_type = Some(map.next_value_seed(Text)?),
                Member::End => members.end = map.next_value()?,
                Member::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(members)
    }
}

enum Member {
    Key,
    Ts,
    Value,
    KeyBase64,
    ValueBase64,
    ValueType,
    End,
    Other,
}

/// Tells members by their names.
struct NameOf<'l>(&'l Layout);

impl<'de> DeserializeSeed<'de> for NameOf<'_> {
    type Value = Member;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Member, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for NameOf<'_> {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Member, E> {
        let Layout { key, ts, value, .. } = self.0;
        Ok(match name {
            _ if name == key => Member::Key,
            _ if name == ts => Member::Ts,
            _ if value.as_deref() == Some(name) => Member::Value,
            KEY_BASE64 => Member::KeyBase64,
            VALUE_BASE64 => Member::ValueBase64,
            TYPE_COLUMN => Member::ValueType,
            END => Member::End,
            _ => Member::Other,
        })
    }
}

/// A string, borrowed where it has no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Cow<'de, str>, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// A timestamp: a whole number, also as a string, or RFC 3339.
struct Moment(Clock);

impl<'de> DeserializeSeed<'de> for Moment {
    type Value = Timestamp;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Timestamp, D::Error> {
        json.deserialize_any(self)
    }
}

impl Visitor<'_> for Moment {
    type Value = Timestamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a timestamp: a whole number of 64 bits, or RFC 3339 in a string")
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Timestamp, E> {
        self.0.number(number).map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Timestamp, E> {
        let signed = i64::try_from(number);
        let signed =
            signed.map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(number), &self))?;
        self.visit_i64(signed)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timestamp, E> {
        self.0.text(text).map_err(E::custom)
    }
}

/// Appends a row as a line.
pub(super) fn write_row(out: &mut Vec<u8>, row: &Row<'_>) {
    out.push(b'{');
    value::write_key(out, row.key);
    out.extend_from_slice(b",\"ts\":");
    write_number(out, row.ts);
    match row.value {
        None => out.extend_from_slice(b",\"end\":true"),
        Some(ValueRef { value_type, bytes }) => {
            out.push(b',');
            value::write_value(out, value_type, bytes);
            if value_type == ValueType::Text {
                out.extend_from_slice(b",\"value_type\":\"text\"");
            }
        }
    }
    out.extend_from_slice(b"}\n");
}

/// Appends the answer to the lookup of `key` at `at`, as an object.
pub(crate) fn write_answer(
    out: &mut Vec<u8>,
    key: &[u8],
    at: Timestamp,
    answer: Option<EntryRef<'_>>,
) {
    out.push(b'{');
    value::write_key(out, key);
    out.extend_from_slice(b",\"at\":");
    write_number(out, at);
    match answer {
        None => out.extend_from_slice(b",\"found\":false}"),
        Some(EntryRef { ts, value_type, value }) => {
            out.extend_from_slice(b",\"found\":true,\"ts\":");
            write_number(out, ts);
            out.push(b',');
            value::write_value(out, value_type, value);
            out.push(b'}');
        }
    }
}

/// Appends a number, as its digits.
pub(super) fn write_number(out: &mut Vec<u8>, number: i64) {
    // To memory it can't fail.
    let _ = serde_json::to_writer(out, &number);
}
