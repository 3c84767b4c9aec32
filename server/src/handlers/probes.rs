//! What operators and their tools ask: is it alive, is it ready, what is it.

use kvtimedb_engine::inspect::format_versions;
use kvtimedb_engine::{Durability, KEY_BYTES_MAX, VALUE_BYTES_MAX, WAL_SYNC_PERIOD_MS};
use prometheus_client::encoding::prometheus_text::CONTENT_TYPE as METRICS_TYPE;
use serde_json::{Map, Value, json};
use warp::http::StatusCode;
use warp::reply::Response;

use crate::api::params::{LIMIT_DEFAULT, LIMIT_MAX};
use crate::error::Result;
use crate::handlers::asof::ASOF_LOOKUPS_MAX;
use crate::handlers::batch::BATCH_OPS_MAX;
use crate::handlers::{App, json_line, json_response, typed_response};
use crate::request::Request;

/// All of this interface, for programs.
const OPENAPI: &str = include_str!("../openapi.json");

/// `GET /livez`: the process answers.
pub(crate) async fn livez(_: Request) -> Result<Response> {
    Ok(typed_response(StatusCode::OK, "text/plain; charset=utf-8", "ok\n"))
}

/// `GET /readyz`: reads and writes are served, and what an acknowledgement means. 503 with the cause
/// when writes are refused. A compaction that has stopped is told too: it costs speed, not service. So is
/// damage that a scrub has found: all that is not damaged is served, and to take the server out of service
/// would refuse that too; which keys it concerns, `/v1/admin/stats` tells.
pub(crate) async fn readyz(Request { app, .. }: Request) -> Result<Response> {
    let mut state = json!({ "ready": true, "durability": durability_name(&app) });
    if app.db.durability() == Durability::Buffered {
        state["loss_window_ms"] = json!(WAL_SYNC_PERIOD_MS);
    }
    if let Some(error) = app.db.compaction_error() {
        state["compaction_error"] = json!(error.to_string());
    }
    let damaged_parts = app.db.damaged_parts();
    if damaged_parts > 0 {
        state["damaged_parts"] = json!(damaged_parts);
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
    let formats: Map<String, Value> = format_versions()
        .map(|(name, version)| (name.to_owned(), json!(version)))
        .into_iter()
        .collect();
    let version = json!({
        "name": "kvtimedb",
        "version": env!("CARGO_PKG_VERSION"),
        "limits": {
            "key_bytes_max": KEY_BYTES_MAX,
            "value_bytes_max": VALUE_BYTES_MAX,
            "body_bytes_max": app.limits.body_bytes_max,
            "batch_operations_max": BATCH_OPS_MAX,
            "asof_lookups_max": ASOF_LOOKUPS_MAX,
            "page_items_default": LIMIT_DEFAULT,
            "page_items_max": LIMIT_MAX,
        },
        "ts_unit": app.unit.to_string(),
        "formats": formats,
        "durability": durability_name(&app),
    });
    Ok(json_line(StatusCode::OK, &version))
}

/// `GET /metrics`: counters for Prometheus.
pub(crate) async fn metrics(Request { app, .. }: Request) -> Result<Response> {
    Ok(typed_response(StatusCode::OK, METRICS_TYPE, app.metrics.page()))
}

/// `GET /openapi.json`: all of this interface, for programs.
pub(crate) async fn openapi(_: Request) -> Result<Response> {
    Ok(json_response(StatusCode::OK, OPENAPI))
}

pub(crate) fn durability_name(app: &App) -> &'static str {
    match app.db.durability() {
        Durability::Sync => "sync",
        Durability::Buffered => "buffered",
    }
}
