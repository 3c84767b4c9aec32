//! `PUT /v1/kv/{key}`: the body is the value.

use std::borrow::Cow;

use kvtimedb_engine::{
    Condition, Error as EngineError, Expect, Lookup, Mode, Timestamp, ValueRef, ValueType,
    WriteBatch,
};
use warp::http::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use crate::api::{json, value};
use crate::error::{Error, Result};
use crate::handlers::json_response;
use crate::request::Request;

/// Writes the value at `ts`, or now, and answers once it is as durable as the database promises.
pub(crate) async fn put(mut request: Request) -> Result<Response> {
    let params = request.params(&["key", "ts", "ts_format"])?;
    let key = request.key(&params)?.into_owned();
    let unit = request.app.unit;
    let (ts, ts_format) = (params.written_ts("ts", unit)?, params.ts_format()?);
    let conditions = conditions(&request.headers, key.as_bytes(), ts)?;
    let body = request.read_body().await?;
    let (value_type, bytes) = read_value(&request.headers, body.bytes())?;
    let value = ValueRef { value_type, bytes: &bytes };

    let mut batch = WriteBatch::new();
    for condition in conditions {
        batch.require(condition)?;
    }
    let mut is_new = true;
    if let Some(ts) = ts {
        batch.put(key.as_bytes(), ts, value)?;
        is_new = request.app.db.exact(key.as_bytes(), ts)?.is_none();
    } else {
        batch.put_rising(key.as_bytes(), unit.now(), value)?;
    }
    let committed = request.app.commit(batch).await.map_err(refused)?;
    let ts = ts.or(committed.assigned.first().copied()).unwrap_or_default();
    let mut text = b"{".to_vec();
    value::write_ts(&mut text, ts, unit, ts_format);
    text.extend_from_slice(format!(",\"seq\":{}}}\n", committed.seq).as_bytes());
    Ok(json_response(if is_new { StatusCode::CREATED } else { StatusCode::OK }, text))
}

/// The value in a body, as its `Content-Type` says. What curl and others send unasked is taken for JSON.
fn read_value<'b>(headers: &HeaderMap, body: &'b [u8]) -> Result<(ValueType, Cow<'b, [u8]>)> {
    let sent = match headers.get(CONTENT_TYPE) {
        None => "",
        Some(sent) => sent.to_str().map_err(|_| {
            Error::ContentType(
                "The Content-Type is not readable: it holds other than ASCII".to_owned(),
            )
        })?,
    };
    let mut parts = sent.split(';');
    let media_type = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = media_type == "application/json" || media_type.ends_with("+json");
    let is_unsaid = matches!(&*media_type, "" | "application/x-www-form-urlencoded");
    if is_json || is_unsaid {
        let text = json::stored(body).map_err(|what| {
            let else_where = "for other values send Content-Type: text/plain or \
                              application/octet-stream";
            Error::invalid("/body", format!("it is not JSON: {what}; {else_where}"))
        })?;
        let bytes = match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        return Ok((ValueType::Json, bytes));
    }
    if !media_type.starts_with("text/") {
        return Ok((ValueType::Octets, Cow::Borrowed(body)));
    }
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    let is_utf8 =
        |set: &str| ["utf-8", "utf8", "us-ascii"].iter().any(|it| set.eq_ignore_ascii_case(it));
    if let Some(charset) = charset.filter(|set| !is_utf8(set)) {
        let what = format!("The charset {charset} is not stored: send UTF-8, or octets");
        return Err(Error::ContentType(what));
    }
    std::str::from_utf8(body)
        .map_err(|error| Error::invalid("/body", format!("it is not UTF-8 text: {error}")))?;
    Ok((ValueType::Text, Cow::Borrowed(body)))
}

/// What `If-None-Match` and `If-Match` require. Without a `ts` it is of the latest version.
fn conditions(headers: &HeaderMap, key: &[u8], ts: Option<Timestamp>) -> Result<Vec<Condition>> {
    let mut conditions = Vec::new();
    let floor = Lookup::floor(ts.unwrap_or(Timestamp::MAX));
    if let Some(text) = one_header(headers, IF_NONE_MATCH.as_str())? {
        if text != "*" {
            return Err(Error::invalid("/header/if-none-match", "a write takes nothing but *"));
        }
        let lookup = ts.map_or(floor, |ts| Lookup::new(ts, Mode::Exact));
        conditions.push(Condition { key: key.to_vec(), lookup, expect: Expect::Absent });
    }
    if let Some(text) = one_header(headers, IF_MATCH.as_str())? {
        let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let quoted = quoted.filter(|tag| !tag.contains('"')).ok_or_else(|| {
            Error::invalid(
                "/header/if-match",
                "a write takes one ETag in quotes, as a GET answers it",
            )
        })?;
        let etag = parse_etag(quoted).ok_or_else(|| {
            Error::ConditionFailed("If-Match: no version ever has that ETag".to_owned())
        })?;
        conditions.push(Condition { key: key.to_vec(), lookup: floor, expect: Expect::Etag(etag) });
    }
    Ok(conditions)
}

/// The number in an `ETag`, without its quotes: sixteen digits.
pub(crate) fn parse_etag(text: &str) -> Option<u64> {
    let digits = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    digits.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

fn one_header<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>> {
    let mut all = headers.get_all(name).iter();
    let Some(first) = all.next() else { return Ok(None) };
    match (first.to_str(), all.next()) {
        (Ok(text), None) => Ok(Some(text.trim())),
        _ => Err(Error::invalid(format!("/header/{name}"), "it is there twice, or is not ASCII")),
    }
}

fn refused(error: Error) -> Error {
    match error {
        Error::Engine(EngineError::ConditionFailed { .. }) => Error::ConditionFailed(
            "If-None-Match or If-Match does not hold: nothing was written".to_owned(),
        ),
        error => error,
    }
}
