//! What each endpoint does, and the shapes of their answers.

pub(crate) mod admin;
pub(crate) mod aggregate;
pub(crate) mod asof;
pub(crate) mod batch;
pub(crate) mod diff;
pub(crate) mod end;
pub(crate) mod erase;
pub(crate) mod export;
pub(crate) mod get;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod kv;
pub(crate) mod probes;
pub(crate) mod put;
pub(crate) mod scan;
pub(crate) mod store;
pub(crate) mod ui;
pub(crate) mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use kvtimedb_engine::{Committed, Db, Error as EngineError, WriteBatch};
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot, watch as signal};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use warp::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use warp::http::{HeaderValue, StatusCode};
use warp::reply::Response;

use crate::api::moment::TsUnit;
use crate::api::upload;
use crate::error::{Error, Result};
use crate::jobs::Jobs;
use crate::limits::{Budget, Limits};
use crate::metrics::Metrics;
use crate::routes::ENDPOINTS;

/// What the handlers share.
pub(crate) struct App {
    pub(crate) db: Db,
    pub(crate) limits: Arc<Limits>,
    /// The unit of dates.
    pub(crate) unit: TsUnit,
    /// Memory for request bodies.
    pub(crate) requests: Arc<Budget>,
    /// Memory for bodies that are read while they arrive.
    pub(crate) uploading: Arc<Budget>,
    /// Memory for answers.
    pub(crate) answers: Arc<Budget>,
    pub(crate) metrics: Metrics,
    pub(crate) jobs: Jobs,
    /// Where backups go; `None`: nowhere.
    pub(crate) backup_dir: Option<PathBuf>,
    /// One for each long read that may run.
    reads: Arc<Semaphore>,
    /// One for each body that may be read while it arrives.
    pub(crate) uploads: Arc<Semaphore>,
    /// One for each watch that there may be.
    pub(crate) watches: Arc<Semaphore>,
    /// Tells watches that something was committed.
    pub(crate) committed: signal::Sender<()>,
    /// Tells watches that the server stops: they would go on for ever.
    pub(crate) stopping: signal::Sender<bool>,
}

impl App {
    pub(crate) fn new(db: Db, limits: Arc<Limits>, unit: TsUnit) -> App {
        App {
            metrics: Metrics::new(db.clone(), ENDPOINTS),
            jobs: Jobs::new(db.clone()),
            backup_dir: None,
            db,
            unit,
            reads: Arc::new(Semaphore::new(limits.reads_max)),
            uploads: upload::turns(&limits),
            watches: Arc::new(Semaphore::new(limits.watches_max)),
            committed: signal::Sender::new(()),
            stopping: signal::Sender::new(false),
            requests: Budget::new(limits.requests_bytes_max),
            uploading: Budget::new(limits.uploads_bytes_max),
            answers: Budget::new(limits.answers_bytes_max),
            limits,
        }
    }

    /// Commits a batch, or refuses it at once if too many wait. If the client goes away meanwhile, it is
    /// committed all the same.
    pub(crate) async fn commit(&self, batch: WriteBatch) -> Result<Committed> {
        let (commit, committed) = oneshot::channel();
        let committed_signal = self.committed.clone();
        self.db.submit(batch, move |outcome| {
            committed_signal.send_replace(());
            // Nobody waits for the outcome if the client has gone.
            drop(commit.send(outcome));
        })?;
        // The writer drops its side unsaid only if it ended first.
        Ok(committed.await.unwrap_or(Err(EngineError::Closed))?)
    }

    /// Runs a read that may take long on a thread that may block, once it is its turn. If the client goes
    /// away meanwhile, it runs to its end all the same.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Db) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = timeout(self.limits.reads_wait, Arc::clone(&self.reads).acquire_owned()).await;
        // Only a closed semaphore has no turns, and nobody closes this one.
        let (Ok(Ok(permit)), db) = (turn, self.db.clone()) else { return Err(Error::Overloaded) };
        let read = spawn_blocking(move || {
            let outcome = read(&db);
            drop(permit);
            outcome
        });
        match read.await {
            Ok(outcome) => outcome,
            Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            // The runtime is ending.
            Err(_) => Err(Error::Engine(EngineError::Closed)),
        }
    }
}

/// An answer of this type. No cache may keep it: the next write makes it stale.
pub(crate) fn typed_response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response {
    let mut response = Response::new(body.into().into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// An answer that holds JSON text.
pub(crate) fn json_response(status: StatusCode, text: impl Into<Bytes>) -> Response {
    typed_response(status, "application/json", text)
}

/// An answer of one line of JSON.
pub(crate) fn json_line(status: StatusCode, value: &Value) -> Response {
    json_response(status, format!("{value}\n"))
}

/// The answer to OPTIONS.
pub(crate) fn options_response(allow: &str) -> Response {
    let mut response = Response::new("".into());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Ok(allow) = HeaderValue::try_from(allow) {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}
