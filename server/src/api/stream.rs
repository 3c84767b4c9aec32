//! Answers that are made while they are sent, and large ones that are sent in pieces.
//!
//! A piece at a time is made, on a thread that may block, and the thread goes home when the piece is done.
//! No more than two pieces of an answer wait for its client, and a client that takes none for
//! [`Limits::write_timeout`](crate::limits::Limits::write_timeout) loses the rest: what the answer is made
//! from is then let go of, also where the connection lives on, as under HTTP/2.
//!
//! What goes wrong before the first piece is there has a status. Afterwards the answer is broken off: under
//! HTTP/1 its last chunk is missing, under HTTP/2 its stream is reset. No client that looks takes a part for
//! the whole, whatever the format.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc::{self, Receiver, Sender};
use warp::Reply;
use warp::http::StatusCode;
use warp::http::header::CONTENT_LENGTH;
use warp::reply::Response;

use crate::complain;
use crate::error::Result;
use crate::handlers::{App, typed_response};
use crate::limits::{Charge, Limits};

/// A piece is sent when it has come to so many bytes. A single item may be larger.
pub(crate) const PIECE_BYTES: usize = 64 << 10;

/// Appends to a piece; `false`: that was all. Called until the piece has [`PIECE_BYTES`].
pub(crate) trait Fill: FnMut(&mut Vec<u8>) -> Result<bool> + Send + 'static {}

impl<F: FnMut(&mut Vec<u8>) -> Result<bool> + Send + 'static> Fill for F {}

/// What goes from the maker of an answer to the connection.
pub(crate) enum Piece {
    Bytes(Bytes),
    /// That was all of it. A channel that closes without this was given up.
    End,
}

/// Answers with all that `fill` appends.
pub(crate) async fn answer(
    app: &Arc<App>,
    content_type: &'static str,
    fill: impl Fill,
) -> Result<Response> {
    let mut charge = app.answers.share();
    let (fill, first, more) = make(app, &mut charge, fill).await?;
    if !more {
        drop(charge);
        return whole(app, content_type, first);
    }
    let (outlet, receiver) = Outlet::open(app)?;
    tokio::spawn(send(Arc::clone(app), outlet, charge, fill, first));
    Ok(response(content_type, receiver))
}

/// Answers with bytes that are there already. They are charged to the memory for answers until they are sent, or
/// nobody takes them.
pub(crate) fn whole(app: &App, content_type: &'static str, bytes: Vec<u8>) -> Result<Response> {
    let len = bytes.len();
    let mut charge = app.answers.share();
    charge.grow(len)?;
    if len <= PIECE_BYTES {
        let bytes = Bytes::from_owner(Held { bytes, _charge: Arc::new(charge) });
        return Ok(typed_response(StatusCode::OK, content_type, bytes));
    }
    let (outlet, receiver) = Outlet::open(app)?;
    tokio::spawn(async move {
        let was_taken = outlet.send(bytes).await;
        drop(charge);
        if was_taken {
            outlet.end().await;
        }
    });
    let mut response = response(content_type, receiver);
    response.headers_mut().insert(CONTENT_LENGTH, len.into());
    Ok(response)
}

/// The way of an answer to its connection.
struct Outlet {
    pieces: Sender<Piece>,
    limits: Arc<Limits>,
    /// Of what is on the way, and stays there with a client that takes nothing and does not go.
    charge: Arc<Charge>,
}

/// Bytes, and their share of the memory for answers.
struct Held {
    bytes: Vec<u8>,
    _charge: Arc<Charge>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Outlet {
    fn open(app: &App) -> Result<(Outlet, Receiver<Piece>)> {
        let mut charge = app.answers.share();
        // One piece waits while one is sent, each of less than twice the bytes: the rest has no piece of its own.
        charge.grow(4 * PIECE_BYTES)?;
        let (pieces, receiver) = mpsc::channel(1);
        let outlet = Outlet { pieces, limits: Arc::clone(&app.limits), charge: Arc::new(charge) };
        Ok((outlet, receiver))
    }

    /// Sends bytes, copied to small pieces: what isn't taken must not hold all of them. `false`: nobody takes
    /// them.
    async fn send(&self, bytes: Vec<u8>) -> bool {
        let count = (bytes.len() / PIECE_BYTES).max(1);
        for piece in bytes.chunks(bytes.len().div_ceil(count).max(1)) {
            let held = Held { bytes: piece.to_vec(), _charge: Arc::clone(&self.charge) };
            if !self.send_piece(Piece::Bytes(Bytes::from_owner(held))).await {
                return false;
            }
        }
        true
    }

    async fn end(&self) {
        // Who has gone needs no end.
        self.send_piece(Piece::End).await;
    }

    async fn send_piece(&self, piece: Piece) -> bool {
        self.pieces.send_timeout(piece, self.limits.write_timeout).await.is_ok()
    }
}

/// The answer whose pieces come out of a channel.
pub(crate) fn response(content_type: &'static str, pieces: Receiver<Piece>) -> Response {
    let body = warp::reply::stream(stream::unfold(Some(pieces), next)).into_response();
    let mut response = typed_response(StatusCode::OK, content_type, Bytes::new());
    *response.body_mut() = body.into_body();
    response
}

/// Makes a piece. The charge is of the largest one so far, twice: it grows by being moved.
async fn make<F: Fill>(app: &App, charge: &mut Charge, mut fill: F) -> Result<(F, Vec<u8>, bool)> {
    let (fill, piece, more) = app
        .read(move |_| {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            let mut more = true;
            while more && piece.len() < PIECE_BYTES {
                more = fill(&mut piece)?;
            }
            Ok((fill, piece, more))
        })
        .await?;
    charge.grow_to(2 * piece.len())?;
    Ok((fill, piece, more))
}

/// Sends a piece and makes the next one, until there is none, or nobody takes it.
async fn send(
    app: Arc<App>,
    outlet: Outlet,
    mut charge: Charge,
    mut fill: impl Fill,
    mut piece: Vec<u8>,
) {
    let mut more = true;
    loop {
        if !outlet.send(piece).await {
            return;
        }
        if !more {
            return outlet.end().await;
        }
        match make(&app, &mut charge, fill).await {
            Ok(made) => (fill, piece, more) = made,
            Err(error) => return complain(&format!("an answer was broken off: {error}")),
        }
    }
}

/// The next piece for the connection; an error breaks the answer off.
async fn next(
    receiver: Option<Receiver<Piece>>,
) -> Option<(io::Result<Bytes>, Option<Receiver<Piece>>)> {
    let mut receiver = receiver?;
    match receiver.recv().await {
        Some(Piece::Bytes(bytes)) => Some((Ok(bytes), Some(receiver))),
        Some(Piece::End) => None,
        None => Some((Err(io::Error::other("the answer was given up")), None)),
    }
}
