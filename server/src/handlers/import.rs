//! `POST /v1/import`: many rows, read and written while they arrive.
//!
//! Two threads: one decompresses and reads rows into batches, the other one commits the batches in their
//! order, so that reading and making durable go on side by side. Few batches wait between them, so who sends
//! faster than the database writes is slowed down, and memory is bounded.
//!
//! A batch is committed as one, an import is not: what came before a row that can't be taken stays. To send
//! the same rows again leaves the same state.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use kvtimedb_engine::{Error as EngineError, SeqNo, Timestamp, WriteBatch};
use serde_json::json;
use tokio::task::{JoinError, spawn_blocking};
use warp::http::StatusCode;
use warp::reply::Response;

use crate::api::moment::UNITS;
use crate::api::upload::{self, Upload};
use crate::error::{Error, FLAWS_MAX, Flaw, Result};
use crate::formats::{self, Clock, Encoding, Format, Layout, Row, RowReader, TextAs};
use crate::handlers::export::FORMATS;
use crate::handlers::{App, json_line};
use crate::limits::{Budget, Charge};
use crate::request::Request;

/// A batch is committed when it has so many encoded bytes.
const BATCH_BYTES: usize = 1 << 20;

/// What an import takes of the memory for uploads: its buffers, and batches of the usual size. What is longer
/// is charged when it comes.
const IMPORT_BYTES: usize = 8 << 20;

/// How many batches there are at once: one is read, one waits, one is committed.
const BATCHES: usize = 3;

const KNOWN: [&str; 7] =
    ["format", "key_col", "ts_col", "value_col", "value_type", "ts_unit", "on_error"];

/// Answers how many rows there were and how many were written, once all of them are as durable as the
/// database promises.
pub(crate) async fn import(request: Request) -> Result<Response> {
    let (layout, format, skips) = plan(&request)?;
    let encoding = upload::encoding(&request)?;
    let permit = upload::turn(&request.app).await?;
    let app = request.app;
    let mut charge = app.uploading.share();
    charge.grow(IMPORT_BYTES)?;
    let (sender, upload) = upload::divide();
    let shared = Arc::clone(&app);
    let work = spawn_blocking(move || {
        let outcome = run(&shared, upload, encoding, format, layout, Progress::new(skips));
        drop((permit, charge));
        outcome
    });
    let mut work = std::pin::pin!(work);
    let outcome = tokio::select! {
        outcome = &mut work => outcome,
        () = upload::pass_on(request.body, Arc::clone(&app.limits), sender) => work.await,
    };
    let Progress { rows, imported, flaws, seq, .. } = outcome.map_err(ended)??;
    let errors: Vec<_> =
        flaws.iter().map(|(line, detail)| json!({ "line": line, "detail": detail })).collect();
    Ok(json_line(
        StatusCode::OK,
        &json!({
            "rows": rows,
            "imported": imported,
            "skipped": rows - imported,
            "errors": errors,
            "seq": seq,
        }),
    ))
}

/// A thread's end that was none of its own: a panic goes on as one, and otherwise the runtime is ending.
pub(crate) fn ended(failed: JoinError) -> Error {
    if failed.is_panic() {
        std::panic::resume_unwind(failed.into_panic());
    }
    Error::Engine(EngineError::Closed)
}

fn plan(request: &Request) -> Result<(Layout, Format, bool)> {
    let params = request.params(&KNOWN)?;
    let format = params.one_of("format", &FORMATS)?.or_else(|| upload::format(request));
    let format = format.ok_or_else(|| {
        Error::ContentType(
            "The body's format is not known: say format=ndjson, csv or arrow, or the type \
             application/x-ndjson, text/csv or application/vnd.apache.arrow.stream"
                .to_owned(),
        )
    })?;
    let database = request.app.unit;
    let file = params.one_of("ts_unit", &UNITS)?.unwrap_or(database);
    let texts = [("json", TextAs::Json), ("text", TextAs::Text), ("octets", TextAs::Octets)];
    let column = |name: &str, default: &str| params.text(name).unwrap_or(default).to_owned();
    let layout = Layout {
        key: column("key_col", "key"),
        ts: column("ts_col", "ts"),
        value: Some(column("value_col", "value")),
        clock: Clock { file, database, knows_words: false },
        text_as: params.one_of("value_type", &texts)?.unwrap_or(TextAs::Json),
    };
    let skips = params.one_of("on_error", &[("abort", false), ("skip", true)])?.unwrap_or(false);
    Ok((layout, format, skips))
}

/// How far an import has come.
struct Progress {
    /// Whether rows that can't be taken are left out.
    skips: bool,
    rows: u64,
    /// Rows that are in a batch, and of a whole import: that are committed.
    imported: u64,
    /// The first lines that can't be taken.
    flaws: Vec<(u64, String)>,
    /// The last operation that was committed.
    seq: SeqNo,
}

impl Progress {
    fn new(skips: bool) -> Progress {
        Progress { skips, rows: 0, imported: 0, flaws: Vec::new(), seq: 0 }
    }
}

/// A batch on its way.
struct Filled {
    batch: WriteBatch,
    /// How many rows are imported once it is committed.
    imported: u64,
    /// Of a batch that is larger than usual.
    _charge: Charge,
}

/// What is committed of an import.
#[derive(Default)]
struct Done {
    /// The last operation, if there is one.
    seq: Option<SeqNo>,
    imported: u64,
}

/// Reads and commits all rows.
fn run(
    app: &App,
    upload: Upload,
    encoding: Encoding,
    format: Format,
    layout: Layout,
    mut progress: Progress,
) -> Result<Progress> {
    // What waits for its commit is one batch; with the one that is read and the one that is committed there
    // are as many as `BATCHES` says.
    let (batches, waiting) = sync_channel(BATCHES - 2);
    progress.seq = app.db.visible_seq();
    thread::scope(|scope| {
        let committer = scope.spawn(move || commit_all(app, &waiting));
        let read = formats::decoder(encoding, upload)
            .map_err(|error| Error::BadRequest(error.to_string()))
            .and_then(|input| {
                let charge = app.uploading.share();
                let mut reader = RowReader::new(format, input, layout, charge);
                read_all(app, &mut reader, &mut progress, &batches)
            });
        drop(batches);
        let (done, outcome) =
            committer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        progress.seq = done.seq.unwrap_or(progress.seq);
        // Why nothing more was committed says more than that nobody took the next batch.
        outcome.and(read).map_err(|error| with_count(error, done.imported)).map(|()| progress)
    })
}

/// Commits batches in their order. The first failure ends it.
fn commit_all(app: &App, batches: &Receiver<Filled>) -> (Done, Result<()>) {
    let mut done = Done::default();
    for Filled { batch, imported, .. } in batches {
        match app.db.write(batch) {
            Ok(committed) => done = Done { seq: Some(committed.seq), imported },
            Err(error) => return (done, Err(error.into())),
        }
        app.committed.send_replace(());
    }
    (done, Ok(()))
}

/// Reads all rows into batches and hands them over. Also after an error those before it are handed over.
fn read_all<R: std::io::Read>(
    app: &App,
    reader: &mut RowReader<R>,
    progress: &mut Progress,
    batches: &SyncSender<Filled>,
) -> Result<()> {
    let mut batch = WriteBatch::new();
    let outcome = loop {
        let horizon = app.db.horizon().unwrap_or(Timestamp::MIN);
        let mut sink = |line: u64, row: Result<Row<'_>, String>| {
            progress.rows += 1;
            match row.and_then(|row| add(&mut batch, &row, horizon)) {
                Ok(()) => progress.imported += 1,
                Err(detail) if progress.skips => {
                    if progress.flaws.len() < FLAWS_MAX {
                        progress.flaws.push((line, detail));
                    }
                }
                Err(detail) => {
                    let pointer = format!("/body/{line}");
                    return Err(Error::Invalid(vec![Flaw { pointer, detail }]));
                }
            }
            if batch.encoded_bytes() >= BATCH_BYTES {
                let batch = std::mem::take(&mut batch);
                hand_over(batch, progress.imported, &app.uploading, batches)?;
            }
            Ok(())
        };
        match reader.read(&mut sink) {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    if !batch.is_empty() {
        hand_over(batch, progress.imported, &app.uploading, batches)?;
    }
    outcome
}

/// Adds a row. Before the horizon none can be written, and the whole batch would be refused.
fn add(batch: &mut WriteBatch, row: &Row<'_>, horizon: Timestamp) -> Result<(), String> {
    if row.ts < horizon {
        return Err(EngineError::BelowHorizon { ts: row.ts, horizon }.to_string());
    }
    let added = match row.value {
        Some(value) => batch.put(row.key, row.ts, value),
        None => batch.end(row.key, row.ts),
    };
    added.map_err(|error| error.to_string())
}

/// Waits until there is room. Nobody takes the batch where the commit of an earlier one has failed, and that
/// failure is the one to be told.
fn hand_over(
    batch: WriteBatch,
    imported: u64,
    memory: &Arc<Budget>,
    batches: &SyncSender<Filled>,
) -> Result<()> {
    let mut charge = memory.share();
    if batch.encoded_bytes() > 2 * BATCH_BYTES {
        charge.grow_to_in_time(batch.encoded_bytes())?;
    }
    let filled = Filled { batch, imported, _charge: charge };
    batches.send(filled).map_err(|_| Error::Engine(EngineError::Closed))
}

/// Tells a client whose import ends early how much of it stays.
fn with_count(error: Error, imported: u64) -> Error {
    let stays = format!(
        "; the {imported} rows before are imported: mend it and send all again, which changes nothing of them"
    );
    match error {
        Error::BadRequest(what) => Error::BadRequest(what + &stays),
        Error::Invalid(mut flaws) => {
            for Flaw { pointer, detail } in &mut flaws {
                let line = pointer.rsplit('/').next().unwrap_or_default();
                *detail = format!(
                    "line {line}: {detail}{stays}, or leave such rows out with on_error=skip"
                );
            }
            Error::Invalid(flaws)
        }
        other if imported == 0 => other,
        source => Error::Partly { source: Box::new(source), imported },
    }
}
