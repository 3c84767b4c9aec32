//! `/v1/admin`: long work as jobs, and what the engine knows of itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kvtimedb_engine::inspect::TableMeta;
use kvtimedb_engine::{Damage, Error as EngineError};
use serde_json::{Map, Value, json};
use warp::http::header::LOCATION;
use warp::http::{HeaderValue, StatusCode};
use warp::reply::Response;

use crate::error::{Error, Result};
use crate::handlers::json_line;
use crate::handlers::probes::durability_name;
use crate::jobs::{Job, Work};
use crate::request::Request;

/// The longest name of a backup, in bytes.
const BACKUP_NAME_BYTES_MAX: usize = 128;

/// The most damaged parts that are told one by one; all are counted.
const DAMAGE_SHOWN_MAX: usize = 100;

/// `POST /v1/admin/flush`: memtables become SSTables.
pub(crate) async fn flush(request: Request) -> Result<Response> {
    submit(&request, Work::Flush)
}

/// `POST /v1/admin/compact`: all SSTables become one run.
pub(crate) async fn compact(request: Request) -> Result<Response> {
    submit(&request, Work::Compact)
}

/// `POST /v1/admin/verify`: every SSTable is read again.
pub(crate) async fn verify(request: Request) -> Result<Response> {
    submit(&request, Work::Verify)
}

/// `POST /v1/admin/backup`: a backup below the directory that the operator has set aside for them. A
/// client names it, and never a path.
pub(crate) async fn backup(mut request: Request) -> Result<Response> {
    request.params(&[])?;
    let body = request.read_body().await?;
    let name = backup_name(body.bytes())?;
    let Some(backups) = &request.app.backup_dir else {
        let why = "Backups are not set up: start the server with --backup-dir".to_owned();
        return Err(Error::Conflict(why));
    };
    submit(&request, Work::Backup(backups.join(name)))
}

fn backup_name(body: &[u8]) -> Result<String> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Order {
        dir: String,
    }
    let order: Order = serde_json::from_slice(body)
        .map_err(|error| Error::invalid("/body", format!("not {{\"dir\": name}}: {error}")))?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let name = order.dir;
    let is_good = (1..=BACKUP_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(is_plain)
        && !name.starts_with('.');
    let rule = "a name of up to 128 letters, digits, '.', '_' and '-', the first of them no '.'";
    if is_good { Ok(name) } else { Err(Error::invalid("/body/dir", rule)) }
}

fn submit(request: &Request, work: Work) -> Result<Response> {
    request.params(&[])?;
    let job = request.app.jobs.submit(work)?;
    let mut response = json_line(StatusCode::ACCEPTED, &job.to_json());
    if let Ok(location) = HeaderValue::try_from(format!("/v1/admin/jobs/{}", job.id)) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// `GET /v1/admin/jobs`: those that are remembered, the newest first.
pub(crate) async fn jobs(request: Request) -> Result<Response> {
    request.params(&[])?;
    let jobs: Vec<Value> = request.app.jobs.all().iter().map(Job::to_json).collect();
    Ok(json_line(StatusCode::OK, &json!({ "items": jobs })))
}

/// `GET /v1/admin/jobs/{id}`: what became of one.
pub(crate) async fn job(request: Request) -> Result<Response> {
    request.params(&[])?;
    let id = request.segment().parse().ok();
    let job = id.and_then(|id| request.app.jobs.find(id)).ok_or_else(|| {
        Error::NoSuch("There is no such job: the last hundred since the start are known".to_owned())
    })?;
    Ok(json_line(StatusCode::OK, &job.to_json()))
}

/// `GET /v1/admin/stats`: what the engine counts, holds and suffers from.
pub(crate) async fn stats(request: Request) -> Result<Response> {
    request.params(&[])?;
    let app = &request.app;
    let db = &app.db;
    let counters: Map<String, Value> =
        db.metrics().all().map(|(name, _, value)| (name.to_owned(), json!(value))).collect();
    let (memtables, tables) = (db.memtable_bytes(), db.tables());
    let damage = db.damage();
    let told = |error: Option<EngineError>| error.map(|error| error.to_string());
    let stats = json!({
        "durability": durability_name(app),
        "visible_seq": db.visible_seq(),
        "horizon": db.horizon(),
        "memtables": { "immutable": memtables.len() - 1, "bytes": memtables.iter().sum::<usize>() },
        "runs": tables.chunk_by(|a, b| a.rank == b.rank).count(),
        "sstables": tables.len(),
        "sstables_bytes": tables.iter().map(|table| table.file_bytes).sum::<u64>(),
        "write_amplification": db.metrics().write_amplification(),
        "writes_refused": told(db.poisoned()),
        "compaction_stopped": told(db.compaction_error()),
        "damaged_parts": damage.len(),
        "damage": damage.iter().take(DAMAGE_SHOWN_MAX).map(shown_damage).collect::<Vec<_>>(),
        "counters": counters,
    });
    Ok(json_line(StatusCode::OK, &stats))
}

/// `GET /v1/admin/sstables`: the live ones, the newest run first.
pub(crate) async fn sstables(request: Request) -> Result<Response> {
    request.params(&[])?;
    let tables: Vec<Value> = request.app.db.tables().iter().map(shown_table).collect();
    Ok(json_line(StatusCode::OK, &json!({ "items": tables })))
}

/// A table; where it lies is none of a client's business.
fn shown_table(table: &TableMeta) -> Value {
    let held = &table.properties;
    let mut shown = json!({
        "file": format!("{:06}.sst", table.id.0),
        "run": table.rank.0,
        "bytes": table.file_bytes,
        "raw_bytes": held.raw_bytes,
        "keys": held.keys,
        "records": held.records,
        "ends": held.ends,
        "erases": held.erases,
        "min_ts": held.min_ts,
        "max_ts": held.max_ts,
        "min_seq": held.min_seq,
        "max_seq": held.max_seq,
    });
    put_key(&mut shown, "first_key", &held.first_key);
    put_key(&mut shown, "last_key", &held.last_key);
    shown
}

fn shown_damage(damage: &Damage) -> Value {
    let (file, what) = match &damage.error {
        EngineError::Corruption { file, what, .. } => (Some(file), what.clone()),
        EngineError::Io { path, source, .. } => (Some(path), source.to_string()),
        _ => (None, "unreadable".to_owned()),
    };
    let file = file.and_then(|file| Some(file.file_name()?.to_string_lossy()));
    let mut shown = json!({ "file": file, "offset": damage.offset, "what": what });
    put_key(&mut shown, "first_key", &damage.first_key);
    put_key(&mut shown, "last_key", &damage.last_key);
    shown
}

/// Adds a key as every answer shows one: as text, or else in base64 under a name of its own.
fn put_key(shown: &mut Value, name: &str, key: &[u8]) {
    match std::str::from_utf8(key) {
        Ok(text) => shown[name] = json!(text),
        Err(_) => shown[format!("{name}_base64")] = json!(STANDARD.encode(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backups_name_is_no_path() {
        for name in ["monday", "2024-01-31", "a", "A_b.c", &"x".repeat(128)] {
            let body = json!({ "dir": name }).to_string();
            assert_eq!(backup_name(body.as_bytes()).unwrap(), name);
        }
        for name in [
            "",
            ".",
            "..",
            ".hidden",
            "a/b",
            "/etc",
            "a\\b",
            "é",
            "a b",
            "a\u{0}",
            &"x".repeat(129),
        ] {
            let body = json!({ "dir": name }).to_string();
            assert!(backup_name(body.as_bytes()).is_err(), "{name}");
        }
        for body in ["", "{", "{}", "[]", "null", r#"{"dir":1}"#, r#"{"dir":"a","path":"/"}"#] {
            assert!(backup_name(body.as_bytes()).is_err(), "{body}");
        }
    }
}
