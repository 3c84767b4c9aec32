//! The one map from errors to statuses.

use std::convert::Infallible;

use kvtimedb_engine::Error as EngineError;
use serde_json::json;
use warp::Rejection;
use warp::http::header::{ALLOW, RETRY_AFTER};
use warp::http::{HeaderValue, StatusCode};
use warp::reply::Response;

use crate::complain;
use crate::error::Error;
use crate::handlers::json_response;

/// How long a client should wait before it tries again, in seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// The answer to a request that failed: `{"error": text}` with the error's status.
///
/// What only the operator can mend is told to the operator on stderr; the client is not shown where
/// the data lives.
pub(crate) fn response(error: &Error) -> Response {
    let (status, text) = status_and_text(error);
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        complain(&format!("a request failed: {error}"));
    }
    let mut response = json_response(status, format!("{}\n", json!({ "error": text })));
    if worth_a_retry(error) {
        response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    if let Error::MethodNotAllowed { allow } = error {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

/// The answer to what no route took. Only paths can fail to match: each route answers every method.
pub(crate) async fn unmatched(_: Rejection) -> Result<Response, Infallible> {
    Ok(response(&Error::NotFound))
}

fn status_and_text(error: &Error) -> (StatusCode, String) {
    let status = match error {
        Error::Engine(error) => return engine_status_and_text(error),
        Error::BadRequest(_) | Error::MissingFields(_) | Error::InvalidTypes(_) => {
            StatusCode::BAD_REQUEST
        }
        Error::NotFound => StatusCode::NOT_FOUND,
        Error::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
        Error::NotJson => StatusCode::NOT_ACCEPTABLE,
        Error::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        Error::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Error::ContentEncoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Error::Overloaded | Error::RequestTimeout => StatusCode::SERVICE_UNAVAILABLE,
        Error::Panicked | Error::Listen { .. } | Error::Runtime(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    (status, error.to_string())
}

fn engine_status_and_text(error: &EngineError) -> (StatusCode, String) {
    let (status, text) = match error {
        EngineError::InvalidArgument(text) => return (StatusCode::BAD_REQUEST, text.clone()),
        EngineError::Busy => {
            (StatusCode::SERVICE_UNAVAILABLE, "Database temporarily unavailable, try again")
        }
        EngineError::Closed => (StatusCode::SERVICE_UNAVAILABLE, "The database is shutting down"),
        EngineError::Poisoned { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Writes are refused after a storage failure until the server is restarted; \
             reads still work",
        ),
        EngineError::TooManyFiles { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The server can't open more files: nothing was written, try again",
        ),
        EngineError::DiskFull { .. } => (
            StatusCode::INSUFFICIENT_STORAGE,
            "The disk is full: nothing was written; writes resume when there is space",
        ),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "The storage failed; the server's log says why"),
    };
    (status, text.to_owned())
}

/// Whether the same request may do better in a moment, without anyone doing anything.
fn worth_a_retry(error: &Error) -> bool {
    use EngineError::{Busy, Closed, TooManyFiles};
    matches!(error, Error::Overloaded | Error::Engine(Busy | Closed | TooManyFiles { .. }))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_engines_errors_have_their_statuses_and_keep_paths_to_themselves() {
        let path = PathBuf::from("/secret/000001.wal");
        let source = Arc::new(std::io::Error::other("EIO"));
        let io = EngineError::Io { op: "sync", path: path.clone(), source: Arc::clone(&source) };
        let disk_full = EngineError::DiskFull { path: path.clone(), source: Arc::clone(&source) };
        let too_many_files = EngineError::TooManyFiles { path: path.clone(), source };
        let corruption = EngineError::Corruption { file: path, offset: 7, what: "bad".to_owned() };
        let poisoned = EngineError::Poisoned { cause: Arc::new(io.clone()) };
        for (error, status, retry, text) in [
            (EngineError::Busy, 503, true, "Database temporarily unavailable, try again"),
            (EngineError::Closed, 503, true, "shutting down"),
            (poisoned, 503, false, "restarted"),
            (disk_full, 507, false, "disk is full"),
            (too_many_files, 503, true, "open more files"),
            (EngineError::InvalidArgument("mend it".to_owned()), 400, false, "mend it"),
            (io, 500, false, "storage failed"),
            (corruption, 500, false, "storage failed"),
        ] {
            let error = Error::Engine(error);
            let (_, told) = status_and_text(&error);
            assert!(told.contains(text) && !told.contains("secret"), "{told}");
            let response = response(&error);
            assert_eq!(response.status(), status, "{error}");
            assert_eq!(response.headers().contains_key(RETRY_AFTER), retry, "{error}");
        }
    }
}
