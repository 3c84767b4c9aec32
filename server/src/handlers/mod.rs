//! What each endpoint does, and the shapes of their answers.

pub(crate) mod end;
pub(crate) mod get;
pub(crate) mod probes;
pub(crate) mod put;
pub(crate) mod ui;

use std::sync::Arc;

use kvtimedb_engine::{Db, Error as EngineError, SeqNo, WriteBatch};
use serde_json::Value;
use tokio::sync::oneshot;
use warp::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use warp::http::{HeaderValue, StatusCode};
use warp::reply::Response;

use crate::error::Result;
use crate::limits::{Budget, Limits};

/// What the handlers share.
pub(crate) struct App {
    pub(crate) db: Db,
    pub(crate) limits: Arc<Limits>,
    /// Memory for request bodies.
    pub(crate) requests: Arc<Budget>,
    /// Memory for answers.
    pub(crate) answers: Arc<Budget>,
}

impl App {
    pub(crate) fn new(db: Db, limits: Arc<Limits>) -> App {
        App {
            db,
            requests: Budget::new(limits.requests_bytes_max),
            answers: Budget::new(limits.answers_bytes_max),
            limits,
        }
    }

    /// Commits a batch, or refuses it at once if too many wait. If the client goes away meanwhile, it is
    /// committed all the same.
    pub(crate) async fn commit(&self, batch: WriteBatch) -> Result<SeqNo> {
        let (commit, committed) = oneshot::channel();
        // Nobody waits for the outcome if the client has gone.
        self.db.submit(batch, move |outcome| drop(commit.send(outcome)))?;
        // The writer drops its side unsaid only if it ended first.
        Ok(committed.await.unwrap_or(Err(EngineError::Closed))?)
    }
}

/// An answer that holds JSON text. No cache may keep it: the next write makes it stale.
pub(crate) fn json_response(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response {
    let mut response = Response::new(text.into().into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// An answer of one line of JSON.
pub(crate) fn json_line(status: StatusCode, value: &Value) -> Response {
    json_response(status, format!("{value}\n"))
}

/// The answer to OPTIONS.
pub(crate) fn options_response(allow: &'static str) -> Response {
    let mut response = Response::new("".into());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}
