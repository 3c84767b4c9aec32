//! `DELETE /v1/history/{key}`: versions that never were.

use kvtimedb_engine::{Timestamp, WriteBatch};
use serde_json::json;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::error::{Error, Result};
use crate::handlers::json_line;
use crate::request::Request;

/// Erases one version, those of a range, or all of them, and answers once that is as durable as the
/// database promises.
pub(crate) async fn erase(request: Request) -> Result<Response> {
    let params = request.params(&["key", "ts", "from", "to", "all"])?;
    let key = request.key(&params)?;
    let unit = request.app.unit;
    let ts = params.written_ts("ts", unit)?;
    let (from, to) = (params.written_ts("from", unit)?, params.at("to", unit)?);
    let all = params.text("all").map(|_| params.flag("all")).transpose()?;
    let (from, to) = match (ts, from, to, all) {
        (Some(ts), None, None, None) => (ts, ts),
        (None, Some(from), Some(to), None) => (from, to),
        (None, None, None, Some(true)) => (Timestamp::MIN, Timestamp::MAX),
        _ => {
            let what = "say what to erase with one of: ts, from and to, or all=true";
            return Err(Error::BadRequest(what.to_owned()));
        }
    };
    let mut batch = WriteBatch::new();
    batch.erase_between(key.as_bytes(), from, to)?;
    let committed = request.app.commit(batch).await?;
    Ok(json_line(StatusCode::OK, &json!({ "erased": committed.erased, "seq": committed.seq })))
}
