//! `PUT /`: one value.

use kvtimedb_engine::{ValueRef, WriteBatch};
use warp::reply::Response;

use crate::compat;
use crate::error::Result;
use crate::request::Request;

/// Writes, and answers once the write is as durable as the database promises.
pub(crate) async fn put(mut request: Request) -> Result<Response> {
    let body = request.read_body().await?;
    let put = compat::parse_put(body.bytes())?;
    let mut batch = WriteBatch::new();
    batch.put(put.key.as_bytes(), put.timestamp, ValueRef::json(put.value.as_bytes()))?;
    request.app.commit(batch).await?;
    Ok(Response::new("".into()))
}
