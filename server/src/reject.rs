//! The one map from errors to statuses, and how errors look.

use kvtimedb_engine::Error as EngineError;
use serde::Serialize;
use serde_json::json;
use warp::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use warp::http::{HeaderMap, HeaderValue, StatusCode};
use warp::reply::Response;

use crate::complain;
use crate::error::{Error, FLAWS_MAX, Flaw};
use crate::handlers::json_response;
use crate::request::REQUEST_ID;

/// How long a client should wait before it tries again, in seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Whom an answer is for.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// It asks at `/`, and expects the errors of the original service.
    is_originals: bool,
    request_id: HeaderValue,
}

impl Caller {
    /// The one who asks for `path`. The request must have been given an id.
    pub(crate) fn of(path: &str, headers: &HeaderMap) -> Caller {
        let request_id = headers.get(REQUEST_ID).cloned();
        Caller {
            is_originals: path == "/",
            request_id: request_id.unwrap_or(HeaderValue::from_static("")),
        }
    }
}

/// A problem as RFC 9457 has it. Its `type` is `about:blank`: the status says what kind it is, and `code`
/// which cause of that kind.
#[derive(Serialize)]
struct Problem<'p> {
    r#type: &'static str,
    title: &'p str,
    status: u16,
    detail: &'p str,
    code: &'static str,
    request_id: &'p str,
    #[serde(skip_serializing_if = "<[Flaw]>::is_empty")]
    errors: &'p [Flaw],
}

/// The answer to a request that failed: a problem, or at `/` `{"error": text}`, with the error's status.
///
/// What only the operator can mend is told to the operator on stderr; the client is not shown where
/// the data lives.
pub(crate) fn response(error: &Error, caller: &Caller) -> Response {
    let Cause { status, detail, .. } = cause(error);
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        let request_id = caller.request_id.to_str().unwrap_or_default();
        complain(&format!("request {request_id} failed: {error}"));
    }
    let mut response = if caller.is_originals {
        json_response(status, format!("{}\n", json!({ "error": detail })))
    } else {
        let mut response = json_response(status, format!("{}\n", problem(error, caller)));
        let content_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        response
    };
    let headers = response.headers_mut();
    if worth_a_retry(error) {
        headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    if let Error::MethodNotAllowed { allow } = error
        && let Ok(allow) = HeaderValue::try_from(allow)
    {
        headers.insert(ALLOW, allow);
    }
    response
}

/// What went wrong, in one line of JSON.
pub(crate) fn problem(error: &Error, caller: &Caller) -> String {
    let Cause { status, code, detail } = cause(error);
    let errors = match error {
        Error::Invalid(flaws) => &flaws[..flaws.len().min(FLAWS_MAX)],
        _ => &[],
    };
    let problem = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        detail: &detail,
        code,
        // An id is visible ASCII.
        request_id: caller.request_id.to_str().unwrap_or_default(),
        errors,
    };
    // Strings and numbers are always JSON.
    serde_json::to_string(&problem).unwrap_or_default()
}

/// What a client is told of an error.
struct Cause {
    status: StatusCode,
    /// One word for programs; it never changes.
    code: &'static str,
    /// One sentence for people.
    detail: String,
}

fn cause(error: &Error) -> Cause {
    let (status, code) = match error {
        Error::Engine(error) => return engine_cause(error),
        Error::Partly { source, imported } => {
            let Cause { status, code, detail } = cause(source);
            let detail = format!(
                "{detail}; of this import, the {imported} rows before are imported: send all again, which \
                 changes nothing of them"
            );
            return Cause { status, code, detail };
        }
        Error::BadRequest(_)
        | Error::MissingFields(_)
        | Error::InvalidTypes(_)
        | Error::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
        Error::NotFound => (StatusCode::NOT_FOUND, "unknown_path"),
        Error::NoValue => (StatusCode::NOT_FOUND, "no_value"),
        Error::NoSuch(_) => (StatusCode::NOT_FOUND, "not_found"),
        Error::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
        Error::NotJson | Error::NotAcceptable { .. } => {
            (StatusCode::NOT_ACCEPTABLE, "not_acceptable")
        }
        Error::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
        Error::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
        Error::ConditionFailed(_) => (StatusCode::PRECONDITION_FAILED, "condition_failed"),
        Error::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        Error::ContentEncoding(_) => {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_content_encoding")
        }
        Error::ContentType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
        Error::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
        Error::TooManyJobs => (StatusCode::TOO_MANY_REQUESTS, "too_many_jobs"),
        Error::RequestTimeout => (StatusCode::SERVICE_UNAVAILABLE, "request_timeout"),
        Error::Panicked | Error::Listen { .. } | Error::Runtime(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "internal_error")
        }
    };
    Cause { status, code, detail: error.to_string() }
}

/// The engine's own words, where they are for clients and name no file.
fn told(status: StatusCode, code: &'static str, error: &EngineError) -> Cause {
    Cause { status, code, detail: error.to_string() }
}

fn engine_cause(error: &EngineError) -> Cause {
    let (status, code, detail) = match error {
        EngineError::BelowHorizon { .. } => return told(StatusCode::GONE, "below_horizon", error),
        EngineError::Trimmed { .. } => return told(StatusCode::GONE, "trimmed", error),
        EngineError::Unwritten { .. } => return told(StatusCode::GONE, "unwritten", error),
        EngineError::ConditionFailed { .. } => {
            return told(StatusCode::PRECONDITION_FAILED, "condition_failed", error);
        }
        EngineError::NotNumeric { .. } => {
            return told(StatusCode::UNPROCESSABLE_ENTITY, "not_numeric", error);
        }
        EngineError::InvalidArgument(text) => {
            (StatusCode::BAD_REQUEST, "invalid_request", text.as_str())
        }
        EngineError::Busy => {
            (StatusCode::SERVICE_UNAVAILABLE, "busy", "Database temporarily unavailable, try again")
        }
        EngineError::Closed => {
            (StatusCode::SERVICE_UNAVAILABLE, "shutting_down", "The database is shutting down")
        }
        EngineError::Poisoned { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "writes_refused",
            "Writes are refused after a storage failure until the server is restarted; \
             reads still work",
        ),
        EngineError::TooManyFiles { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many_files",
            "The server can't open more files: nothing was written, try again",
        ),
        EngineError::DiskFull { .. } => (
            StatusCode::INSUFFICIENT_STORAGE,
            "disk_full",
            "The disk is full: nothing was written; writes resume when there is space",
        ),
        _ => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "storage_failed",
            "The storage failed; the server's log says why",
        ),
    };
    Cause { status, code, detail: detail.to_owned() }
}

/// Whether the same request may do better in a moment, without anyone doing anything.
fn worth_a_retry(error: &Error) -> bool {
    use EngineError::{Busy, Closed, TooManyFiles};
    match error {
        Error::Partly { source, .. } => worth_a_retry(source),
        Error::Overloaded
        | Error::TooManyJobs
        | Error::Engine(Busy | Closed | TooManyFiles { .. }) => true,
        _ => false,
    }
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
            (EngineError::BelowHorizon { ts: 7, horizon: 100 }, 410, false, "horizon 100"),
            (EngineError::Trimmed { since: 7, oldest: 100 }, 410, false, "oldest that is kept"),
            (EngineError::Unwritten { since: 7, last: 3 }, 410, false, "no change with number 7"),
            (EngineError::ConditionFailed { condition: 3 }, 412, false, "condition 3"),
            (EngineError::NotNumeric { ts: 7 }, 422, false, "at 7 is not a number"),
            (io, 500, false, "storage failed"),
            (corruption, 500, false, "storage failed"),
        ] {
            let error = Error::Engine(error);
            let told = cause(&error).detail;
            assert!(told.contains(text) && !told.contains("secret"), "{told}");
            for path in ["/", "/v1/kv/k"] {
                let response = response(&error, &Caller::of(path, &HeaderMap::new()));
                assert_eq!(response.status(), status, "{error}");
                assert_eq!(response.headers().contains_key(RETRY_AFTER), retry, "{error}");
            }
        }
    }
}
