//! `PUT /`: one value.

use std::sync::Arc;

use kvtimedb_engine::{ValueRef, WriteBatch};
use warp::reply::Response;

use crate::body::Body;
use crate::compat;
use crate::error::Result;
use crate::handlers::App;

/// Writes, and answers once the write is as durable as the database promises.
pub(crate) async fn put(app: Arc<App>, body: Result<Body>) -> Result<Response> {
    let body = body?;
    let put = compat::parse_put(body.bytes())?;
    let mut batch = WriteBatch::new();
    batch.put(put.key.as_bytes(), put.timestamp, ValueRef::json(put.value.as_bytes()))?;
    app.commit(batch).await?;
    Ok(Response::new("".into()))
}
