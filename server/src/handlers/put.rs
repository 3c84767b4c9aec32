//! `PUT /`: one value.

use std::sync::Arc;

use kvtimedb_engine::{Error as EngineError, ValueRef, WriteBatch};
use tokio::sync::oneshot;
use warp::reply::Response;

use crate::body::Body;
use crate::compat;
use crate::error::Result;
use crate::handlers::App;

/// Writes, and answers once the write is as durable as the database promises. If the client goes
/// away meanwhile, the write is committed all the same.
pub(crate) async fn put(app: Arc<App>, body: Result<Body>) -> Result<Response> {
    let body = body?;
    let put = compat::parse_put(body.bytes())?;
    let mut batch = WriteBatch::new();
    batch.put(put.key.as_bytes(), put.timestamp, ValueRef::json(put.value.as_bytes()))?;
    let (commit, committed) = oneshot::channel();
    // Nobody waits for the outcome if the client has gone.
    app.db.submit(batch, move |outcome| drop(commit.send(outcome)))?;
    // The writer drops its side unsaid only if it ended first.
    committed.await.unwrap_or(Err(EngineError::Closed))?;
    Ok(Response::new("".into()))
}
