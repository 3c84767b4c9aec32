//! What each endpoint does, and the shapes of their answers.

pub(crate) mod get;
pub(crate) mod probes;
pub(crate) mod put;
pub(crate) mod ui;

use std::sync::Arc;

use kvtimedb_engine::Db;
use warp::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use warp::http::{HeaderValue, StatusCode};
use warp::reply::Response;

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

/// The answer to OPTIONS.
pub(crate) fn options_response(allow: &'static str) -> Response {
    let mut response = Response::new("".into());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}
