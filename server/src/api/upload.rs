//! Bodies that are read while they arrive, on a thread that may block.
//!
//! Little of a body waits in memory: who reads slowly makes the client send slowly. A client that sends
//! nothing for a while, or less than a trickle for long, is given up.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use warp::http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::error::{Error, Result};
use crate::formats::{Encoding, Format};
use crate::handlers::App;
use crate::limits::Limits;
use crate::request::{Chunks, Request};

/// How many pieces of a body may wait, each of which is some tens of KiB.
const PIECES: usize = 16;

/// A body that takes longer than a whole one may must have come at this rate on average.
const BYTES_PER_SECOND_MIN: u64 = 1024;

/// A piece; `None`: that was all. A channel that closes without this was given up.
type Piece = Result<Option<Bytes>>;

/// A body on its way, to be read where blocking is allowed.
pub(crate) struct Upload {
    pieces: Receiver<Piece>,
    piece: Bytes,
    is_whole: bool,
}

/// Divides a body into the end that is [read](Upload), and the one that has to be [sent](pass_on).
pub(crate) fn divide() -> (Sender<Piece>, Upload) {
    let (sender, pieces) = channel(PIECES);
    (sender, Upload { pieces, piece: Bytes::new(), is_whole: false })
}

/// Sends the pieces of a body on as they come, until all are sent or nobody reads them.
pub(crate) async fn pass_on(mut body: Chunks, limits: Arc<Limits>, sender: Sender<Piece>) {
    let (begun, mut bytes) = (Instant::now(), 0);
    loop {
        let chunk = timeout(limits.body_gap_timeout, body.next()).await;
        let elapsed = begun.elapsed();
        let piece = match chunk {
            Err(_) => Err(Error::BodyTimeout),
            Ok(None) => Ok(None),
            Ok(Some(Err(_))) => Err(ended_early()),
            Ok(Some(Ok(chunk))) => {
                bytes += chunk.len() as u64;
                let is_trickle = bytes < elapsed.as_secs() * BYTES_PER_SECOND_MIN;
                if is_trickle && elapsed > limits.body_timeout {
                    Err(Error::BodyTimeout)
                } else {
                    Ok(Some(chunk))
                }
            }
        };
        let is_last = !matches!(piece, Ok(Some(_)));
        if sender.send(piece).await.is_err() || is_last {
            return;
        }
    }
}

fn ended_early() -> Error {
    Error::BadRequest("The request's body ended early or is malformed".to_owned())
}

impl Read for Upload {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.is_whole {
            match self.pieces.blocking_recv().unwrap_or_else(|| Err(ended_early())) {
                Ok(Some(piece)) => self.piece = piece,
                Ok(None) => self.is_whole = true,
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let len = out.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut out[..len]);
        Ok(len)
    }
}

/// How the body of a request is compressed.
pub(crate) fn encoding(request: &Request) -> Result<Encoding> {
    let Some(header) = request.headers.get(CONTENT_ENCODING) else { return Ok(Encoding::Identity) };
    let name = String::from_utf8_lossy(header.as_bytes());
    Encoding::named(&name).ok_or_else(|| Error::ContentEncoding(name.into()))
}

/// The format that the type of a request's body names; `None` if it names none of them.
pub(crate) fn format(request: &Request) -> Option<Format> {
    request.header(CONTENT_TYPE).and_then(Format::of_media_type)
}

/// The turn of a request whose body is read while it arrives: so many may be under way.
pub(crate) async fn turn(app: &App) -> Result<OwnedSemaphorePermit> {
    let turn = Arc::clone(&app.uploads).acquire_owned();
    match timeout(app.limits.reads_wait, turn).await {
        Ok(Ok(permit)) => Ok(permit),
        // Only a closed semaphore has no turns, and nobody closes this one.
        _ => Err(Error::Overloaded),
    }
}

/// One turn for each upload that may be under way.
pub(crate) fn turns(limits: &Limits) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(limits.uploads_max))
}
