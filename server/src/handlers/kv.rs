//! `GET /v1/kv/{key}`: one version of a key.

use kvtimedb_engine::{Entry, Lookup, Mode, Timestamp};
use warp::http::header::{CACHE_CONTROL, ETAG, HeaderName, IF_NONE_MATCH};
use warp::http::{HeaderMap, HeaderValue, StatusCode};
use warp::reply::Response;

use crate::api::moment::TsFormat;
use crate::api::params::{MODES, Params};
use crate::api::{stream, value};
use crate::error::{Error, Result};
use crate::request::Request;

/// The timestamp of a value that is sent bare.
const MATCHED_TS: HeaderName = HeaderName::from_static("x-matched-ts");

/// What is found may be kept, and must be asked for again by its `ETag`: the next write may change it.
const REVALIDATED: HeaderValue = HeaderValue::from_static("no-cache");

/// What is asked for.
struct Question {
    key: Vec<u8>,
    lookup: Lookup,
    raw: bool,
    ts_format: TsFormat,
}

/// Looks up one version, and answers with it in JSON, or with its bare value.
pub(crate) async fn get(request: Request) -> Result<Response> {
    let Question { key, lookup, raw, ts_format } = question(&request)?;
    let found = match lookup.mode {
        Mode::Floor | Mode::Exact | Mode::Before => request.app.db.find(&key, lookup)?,
        // They walk over all that was ended or erased behind the moment.
        Mode::Ceiling | Mode::After | Mode::Nearest => {
            let key = key.clone();
            request.app.read(move |db| Ok(db.find(&key, lookup)?)).await?
        }
    };
    let etag = found.as_ref().map(etag);
    if let Some(etag) = &etag
        && has_it(&request.headers, etag)
    {
        return Ok(not_modified(etag));
    }
    let mut response = match found {
        Some(entry) if raw => bare(&request, entry, ts_format)?,
        None if raw => return Err(Error::NoValue),
        found => {
            let text = line(&request, &key, found.as_ref(), ts_format);
            stream::whole(&request.app, "application/json", text)?
        }
    };
    if let Some(etag) = etag {
        response.headers_mut().insert(ETAG, etag);
        response.headers_mut().insert(CACHE_CONTROL, REVALIDATED);
    }
    Ok(response)
}

fn question(request: &Request) -> Result<Question> {
    let params = request.params(&["key", "at", "mode", "max_age", "raw", "ts_format"])?;
    Ok(Question {
        key: request.key(&params)?.into_owned().into_bytes(),
        lookup: lookup(&params, request)?,
        raw: params.flag("raw")?,
        ts_format: params.ts_format()?,
    })
}

fn lookup(params: &Params<'_>, request: &Request) -> Result<Lookup> {
    let unit = request.app.unit;
    let max_age = params.duration("max_age", unit)?;
    if max_age.is_some() && params.text("at") == Some("latest") {
        // Everything is too old for the end of time.
        let detail = "an age is counted from a moment: give at, such as at=now";
        return Err(Error::parameter("max_age", detail));
    }
    let default = if max_age.is_some() { unit.now() } else { Timestamp::MAX };
    let at = params.at("at", unit)?.unwrap_or(default);
    Ok(Lookup { at, mode: params.one_of("mode", MODES)?.unwrap_or_default(), max_age })
}

/// `{"key","found","ts","value"}`
fn line(request: &Request, key: &[u8], found: Option<&Entry>, ts_format: TsFormat) -> Vec<u8> {
    let len = found.map_or(0, |entry| entry.value.len());
    let mut text = Vec::with_capacity(key.len() + len + 96);
    text.push(b'{');
    value::write_key(&mut text, key);
    if let Some(entry) = found {
        text.extend_from_slice(b",\"found\":true,");
        value::write_version(&mut text, entry.into(), request.app.unit, ts_format);
        text.extend_from_slice(b"}\n");
    } else {
        text.extend_from_slice(b",\"found\":false,\"ts\":null,\"value\":null}\n");
    }
    text
}

fn bare(request: &Request, entry: Entry, ts_format: TsFormat) -> Result<Response> {
    let content_type = value::content_type(entry.value_type);
    let mut ts = Vec::new();
    request.app.unit.write(&mut ts, entry.ts, ts_format);
    let mut response = stream::whole(&request.app, content_type, entry.value)?;
    // Without the quotes of JSON.
    if let Ok(ts) = HeaderValue::try_from(String::from_utf8_lossy(&ts).trim_matches('"')) {
        response.headers_mut().insert(MATCHED_TS, ts);
    }
    Ok(response)
}

fn not_modified(etag: &HeaderValue) -> Response {
    let mut response = Response::new("".into());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().insert(ETAG, etag.clone());
    response.headers_mut().insert(CACHE_CONTROL, REVALIDATED);
    response
}

/// A version's `ETag`: sixteen digits in quotes.
fn etag(entry: &Entry) -> HeaderValue {
    let etag = format!("\"{:016x}\"", entry.etag());
    HeaderValue::try_from(etag).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Whether `If-None-Match` names the version, or any.
fn has_it(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let lists = headers.get_all(IF_NONE_MATCH).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|one| {
        let one = one.trim();
        one == "*" || one.strip_prefix("W/").unwrap_or(one).as_bytes() == etag.as_bytes()
    })
}
