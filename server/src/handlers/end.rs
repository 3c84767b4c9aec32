//! `DELETE /v1/kv/{key}?at=T`: the end of a key.

use kvtimedb_engine::WriteBatch;
use serde_json::json;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::error::{Error, Result};
use crate::handlers::json_line;
use crate::request::Request;

/// Writes that the key has no value from `at` on, and answers once the write is as durable as the
/// database promises.
pub(crate) async fn end(request: Request) -> Result<Response> {
    let params = request.params(&["key", "at"])?;
    let key = request.key(&params)?;
    let at = params.written_ts("at", request.app.unit)?;
    let at = at.ok_or_else(|| Error::parameter("at", "it is required, and is not there"))?;
    let mut batch = WriteBatch::new();
    batch.end(key.as_bytes(), at)?;
    let seq = request.app.commit(batch).await?.seq;
    Ok(json_line(StatusCode::OK, &json!({ "ts": at, "seq": seq })))
}
