//! `GET /`: the newest value at or before a timestamp.

use kvtimedb_engine::{Entry, ValueType};
use warp::http::header::{ACCEPT, LOCATION};
use warp::http::{HeaderMap, HeaderValue, StatusCode};
use warp::reply::Response;

use crate::api::{stream, value};
use crate::compat;
use crate::error::{Error, Result};
use crate::handlers::{App, json_response};
use crate::request::Request;

/// Looks up what the body asks for, or else the query; a browser that asks for nothing gets the page.
pub(crate) async fn get(mut request: Request) -> Result<Response> {
    let body = request.read_body().await?;
    let Request { app, headers, query, .. } = &request;
    let body = body.bytes();
    if body.is_empty() && query.is_empty() && accepts_html(headers) {
        return Ok(to_the_page());
    }
    let lookup =
        if body.is_empty() { compat::parse_query(query)? } else { compat::parse_get(body)? };
    match app.db.floor(lookup.key.as_bytes(), lookup.timestamp)? {
        None => Ok(json_response(StatusCode::OK, "null\n")),
        Some(entry) => found(app, entry),
    }
}

fn found(app: &App, entry: Entry) -> Result<Response> {
    let mut json = match entry.value_type {
        ValueType::Json => entry.value,
        ValueType::Text => {
            let text = String::from_utf8(entry.value).map_err(|_| Error::NotJson)?;
            let mut json = Vec::with_capacity(text.len() + 3);
            value::write_text(&mut json, &text);
            json
        }
        ValueType::Octets => return Err(Error::NotJson),
    };
    json.push(b'\n');
    stream::whole(app, "application/json", json)
}

fn accepts_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    accepted.flat_map(|accept| accept.split(',')).any(|range| {
        let media_type = range.split(';').next().unwrap_or_default();
        media_type.trim().eq_ignore_ascii_case("text/html")
    })
}

fn to_the_page() -> Response {
    let mut response = Response::new("".into());
    *response.status_mut() = StatusCode::SEE_OTHER;
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/ui"));
    response
}
