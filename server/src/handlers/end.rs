//! `DELETE /v1/kv/{key}?at=T`: the end of a key.

use std::sync::Arc;

use kvtimedb_engine::{Timestamp, WriteBatch};
use percent_encoding::percent_decode_str;
use serde_json::json;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::error::{Error, Result};
use crate::handlers::{App, json_line};
use crate::query;

/// Writes that the key has no value from `at` on, and answers once the write is as durable as the
/// database promises.
pub(crate) async fn end(key: String, app: Arc<App>, query: String) -> Result<Response> {
    let key = percent_decode_str(&key).decode_utf8().map_err(|_| {
        Error::BadRequest("Invalid key: percent-decoded it is not UTF-8 text".to_owned())
    })?;
    let at = parse_at(&query)?;
    let mut batch = WriteBatch::new();
    batch.end(key.as_bytes(), at)?;
    let seq = app.commit(batch).await?;
    Ok(json_line(StatusCode::OK, &json!({ "ts": at, "seq": seq })))
}

/// The timestamp in `at=T`. Of a repeated one the last counts, as in the queries of `/`.
fn parse_at(query: &str) -> Result<Timestamp> {
    let mut at = None;
    for pair in query::pairs(query) {
        let (name, value) = pair?;
        if name == "at" {
            at = Some(value);
        }
    }
    let at = at.ok_or(Error::MissingFields("at"))?;
    at.parse().map_err(|_| Error::InvalidTypes(format!("at must be an integer of 64 bits: {at:?}")))
}
