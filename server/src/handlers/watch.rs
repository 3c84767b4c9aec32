//! `GET /v1/watch`: the change feed, as server-sent events.
//!
//! A watch is made a piece at a time, as the answers of [`stream`](crate::api::stream) are: each on a thread
//! that may block, and the next one when the client has taken the one before. In between it waits for the
//! next commit. It holds a file, a buffer and a piece; what of those is large is charged to the memory for
//! answers, and the watch ends where there is no more of it. An end of any kind loses nothing: who resumes
//! with the last id gets what comes next.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::unfold;
use kvtimedb_engine::{Change, Changes, SeqNo, ValueKind, WAL_SYNC_PERIOD_MS};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};
use warp::Reply;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use crate::api::moment::{TsFormat, TsUnit};
use crate::api::params::Params;
use crate::api::stream::PIECE_BYTES;
use crate::api::value;
use crate::error::{Error, Result};
use crate::handlers::{App, typed_response};
use crate::limits::Charge;
use crate::reject::{self, Caller};
use crate::request::Request;

/// So many operations are read for a piece at most, also where none of them is asked for.
const CHANGES_A_PIECE: usize = 10_000;

/// A client without events is told so often how far it has got. Less than proxies and [`Limits`] let a
/// connection be idle.
///
/// [`Limits`]: crate::limits::Limits
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a browser sends when it resumes.
const LAST_EVENT_ID: &str = "last-event-id";

/// Answers with an event for each operation after `Last-Event-ID`, or else `since`, or else from now on.
pub(crate) async fn watch(request: Request) -> Result<Response> {
    let params = request.params(&["prefix", "key", "since", "ts_format"])?;
    let app = &request.app;
    let keys = Keys::of(&params)?;
    let since = since(&request.headers, &params)?;
    let feed = Feed {
        changes: app.db.changes(since.unwrap_or_else(|| app.db.visible_seq()))?,
        keys,
        unit: app.unit,
        ts_format: params.ts_format()?,
    };
    let permit = Arc::clone(&app.watches).try_acquire_owned().map_err(|_| Error::Overloaded)?;
    // Before the first look: a commit after it wakes the watch.
    let committed = app.committed.subscribe();
    let mut first = Made::of(app, feed).await?;
    if let (Err(error), true) = (&mut first.outcome, first.piece.is_empty()) {
        return Err(std::mem::replace(error, Error::Overloaded));
    }
    let caller = Caller::of(request.path.as_str(), &request.headers);
    let (sender, receiver) = mpsc::channel(1);
    let stopping = app.stopping.subscribe();
    let watch =
        Watch { app: Arc::clone(app), caller, sender, committed, stopping, _permit: permit };
    tokio::spawn(watch.run(first));
    let body = warp::reply::stream(unfold(receiver, next)).into_response();
    let mut response = typed_response(StatusCode::OK, "text/event-stream", Bytes::new());
    *response.body_mut() = body.into_body();
    Ok(response)
}

async fn next(
    mut receiver: Receiver<Bytes>,
) -> Option<(Result<Bytes, Infallible>, Receiver<Bytes>)> {
    let piece = receiver.recv().await?;
    Some((Ok(piece), receiver))
}

/// The last operation that the client knows of, if it says.
fn since(headers: &HeaderMap, params: &Params<'_>) -> Result<Option<SeqNo>> {
    const EXPECTED: &str = "a sequence number is expected, an integer from 0 on";
    if let Some(id) = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty()) {
        let id = id.to_str().ok().and_then(|id| id.parse().ok());
        return id
            .map(Some)
            .ok_or_else(|| Error::invalid(format!("/header/{LAST_EVENT_ID}"), EXPECTED));
    }
    let since = params.text("since").map(str::parse).transpose();
    since.map_err(|_| Error::parameter("since", EXPECTED))
}

/// The keys that a watch is of.
enum Keys {
    One(Vec<u8>),
    /// All that begin so.
    Prefix(Vec<u8>),
}

impl Keys {
    fn of(params: &Params<'_>) -> Result<Keys> {
        match (params.text("key"), params.text("prefix")) {
            (Some(_), Some(_)) => {
                Err(Error::parameter("key", "it does not go with prefix: leave one out"))
            }
            (Some(key), None) => Ok(Keys::One(key.into())),
            (None, prefix) => Ok(Keys::Prefix(prefix.unwrap_or_default().into())),
        }
    }

    fn has(&self, key: &[u8]) -> bool {
        match self {
            Keys::One(one) => key == one,
            Keys::Prefix(prefix) => key.starts_with(prefix),
        }
    }
}

/// What is watched, and how it is shown.
struct Feed {
    changes: Changes,
    keys: Keys,
    unit: TsUnit,
    ts_format: TsFormat,
}

impl Feed {
    /// Appends events; whether there are no more of them yet.
    fn fill(&mut self, piece: &mut Vec<u8>) -> Result<bool> {
        for _ in 0..CHANGES_A_PIECE {
            if piece.len() >= PIECE_BYTES {
                return Ok(false);
            }
            let Some(change) = self.changes.next()? else { return Ok(true) };
            if self.keys.has(change.key) {
                write_event(piece, &change, self.unit, self.ts_format);
            }
        }
        Ok(false)
    }
}

fn write_event(out: &mut Vec<u8>, change: &Change<'_>, unit: TsUnit, ts_format: TsFormat) {
    let name = match change.kind {
        ValueKind::Put => "put",
        ValueKind::End => "end",
        ValueKind::Erase => "erase",
    };
    let seq = change.seq;
    out.extend_from_slice(format!("event: {name}\nid: {seq}\ndata: {{").as_bytes());
    value::write_key(out, change.key);
    out.push(b',');
    value::write_ts(out, change.ts, unit, ts_format);
    out.push(b',');
    match change.value {
        Some(put) => value::write_value(out, put.value_type, put.bytes),
        None => out.extend_from_slice(b"\"value\":null"),
    }
    out.extend_from_slice(format!(",\"seq\":{seq}}}\n\n").as_bytes());
}

/// A comment, and an id without an event: a client that resumes need not be shown again what it had not
/// asked for.
fn write_keep_alive(out: &mut Vec<u8>, seq: SeqNo) {
    out.extend_from_slice(format!(": so far\nid: {seq}\n\n").as_bytes());
}

/// A piece, and what it was made of.
struct Made {
    feed: Feed,
    piece: Vec<u8>,
    /// Whether there is no more yet.
    outcome: Result<bool>,
    charge: Charge,
}

impl Made {
    async fn of(app: &App, mut feed: Feed) -> Result<Made> {
        let read = app.read(move |_| {
            let mut piece = Vec::new();
            let outcome = feed.fill(&mut piece);
            Ok((feed, piece, outcome))
        });
        let (feed, piece, outcome) = read.await?;
        let mut charge = app.answers.share();
        // One waits while one is sent.
        charge.grow(2 * piece.len() + feed.changes.buffer_bytes())?;
        Ok(Made { feed, piece, outcome, charge })
    }
}

/// A watch under way.
struct Watch {
    app: Arc<App>,
    caller: Caller,
    sender: Sender<Bytes>,
    committed: watch::Receiver<()>,
    stopping: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Watch {
    /// Sends pieces until the client goes, the server stops or something fails.
    async fn run(mut self, mut made: Made) {
        // So that the client knows at once that it watches, and from where on.
        let mut opening = Vec::new();
        write_keep_alive(&mut opening, made.feed.changes.seq());
        if made.piece.is_empty() {
            made.piece = opening;
        }
        let mut alive_until = Instant::now() + KEEP_ALIVE;
        loop {
            let Made { feed, mut piece, outcome, charge } = made;
            if let Err(error) = &outcome {
                self.write_error(&mut piece, error);
            } else if piece.is_empty() && Instant::now() >= alive_until {
                write_keep_alive(&mut piece, feed.changes.seq());
            }
            if !piece.is_empty() {
                alive_until = Instant::now() + KEEP_ALIVE;
                if !self.send(piece).await {
                    return;
                }
            }
            drop(charge);
            let Ok(is_caught_up) = outcome else { return };
            if is_caught_up && !self.wait(feed.changes.seq(), alive_until).await {
                return;
            }
            self.committed.mark_unchanged();
            made = match Made::of(&self.app, feed).await {
                Ok(made) => made,
                Err(error) => {
                    let mut piece = Vec::new();
                    self.write_error(&mut piece, &error);
                    self.send(piece).await;
                    return;
                }
            };
        }
    }

    /// Whether the piece is on its way, and there may be another one.
    async fn send(&mut self, piece: Vec<u8>) -> bool {
        let time = self.app.limits.write_timeout;
        tokio::select! {
            sent = self.sender.send_timeout(piece.into(), time) => sent.is_ok(),
            _ = self.stopping.wait_for(|stopping| *stopping) => false,
        }
    }

    /// Waits until there may be more behind `seq`, or the client must be told that there is not; `false`: the
    /// watch is over.
    async fn wait(&mut self, seq: SeqNo, alive_until: Instant) -> bool {
        // Not durable yet: nobody tells when it is.
        let synced_by = Instant::now() + Duration::from_millis(WAL_SYNC_PERIOD_MS);
        let is_behind = self.app.db.visible_seq() > seq;
        let until = if is_behind { synced_by.min(alive_until) } else { alive_until };
        tokio::select! {
            _ = self.committed.changed() => true,
            () = sleep_until(until) => true,
            () = self.sender.closed() => false,
            _ = self.stopping.wait_for(|stopping| *stopping) => false,
        }
    }

    fn write_error(&self, out: &mut Vec<u8>, error: &Error) {
        let problem = reject::problem(error, &self.caller);
        out.extend_from_slice(format!("event: error\ndata: {problem}\n\n").as_bytes());
    }
}
