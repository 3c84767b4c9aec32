//! What operators and their tools ask: is it alive, is it ready, what is it.

use kvtimedb_engine::{Durability, KEY_BYTES_MAX, VALUE_BYTES_MAX, WAL_SYNC_PERIOD_MS};
use serde_json::json;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::error::Result;
use crate::handlers::{App, json_line};
use crate::request::Request;

/// `GET /livez`: the process answers.
pub(crate) async fn livez(_: Request) -> Result<Response> {
    Ok(Response::new("ok\n".into()))
}

/// `GET /readyz`: reads and writes are served, and what an acknowledgement means. 503 with the cause
/// when writes are refused. A compaction that has stopped is told too: it costs speed, not service. So is
/// damage that a scrub has found: all that is not damaged is served, and to take the server out of service
/// would refuse that too.
pub(crate) async fn readyz(Request { app, .. }: Request) -> Result<Response> {
    let mut state = json!({ "ready": true, "durability": durability_name(&app) });
    if app.db.durability() == Durability::Buffered {
        state["loss_window_ms"] = json!(WAL_SYNC_PERIOD_MS);
    }
    if let Some(error) = app.db.compaction_error() {
        state["compaction_error"] = json!(error.to_string());
    }
    let damage = app.db.damage();
    if let Some(first) = damage.first() {
        state["damage"] = json!({ "parts": damage.len(), "first": first.to_string() });
    }
    Ok(match app.db.poisoned() {
        None => json_line(StatusCode::OK, &state),
        Some(cause) => {
            state["ready"] = json!(false);
            state["cause"] = json!(cause.to_string());
            json_line(StatusCode::SERVICE_UNAVAILABLE, &state)
        }
    })
}

/// `GET /version`: the build and its limits.
pub(crate) async fn version(Request { app, .. }: Request) -> Result<Response> {
    let version = json!({
        "name": "kvtimedb",
        "version": env!("CARGO_PKG_VERSION"),
        "limits": {
            "key_bytes_max": KEY_BYTES_MAX,
            "value_bytes_max": VALUE_BYTES_MAX,
            "body_bytes_max": app.limits.body_bytes_max,
        },
        "durability": durability_name(&app),
    });
    Ok(json_line(StatusCode::OK, &version))
}

fn durability_name(app: &App) -> &'static str {
    match app.db.durability() {
        Durability::Sync => "sync",
        Durability::Buffered => "buffered",
    }
}
