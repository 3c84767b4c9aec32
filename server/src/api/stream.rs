//! Answers that are made while they are sent.
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
use warp::reply::Response;

use crate::complain;
use crate::error::Result;
use crate::handlers::{App, typed_response};
use crate::limits::Charge;

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
        return Ok(typed_response(StatusCode::OK, content_type, first));
    }
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(send(Arc::clone(app), sender, charge, fill, first));
    Ok(response(content_type, receiver))
}

/// The answer whose pieces come out of a channel.
pub(crate) fn response(content_type: &'static str, pieces: Receiver<Piece>) -> Response {
    let body = warp::reply::stream(stream::unfold(Some(pieces), next)).into_response();
    let mut response = typed_response(StatusCode::OK, content_type, Bytes::new());
    *response.body_mut() = body.into_body();
    response
}

/// Makes a piece. The charge is of the largest one so far, twice: one waits while one is sent.
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
    sender: Sender<Piece>,
    mut charge: Charge,
    mut fill: impl Fill,
    mut piece: Vec<u8>,
) {
    let time = app.limits.write_timeout;
    let mut more = true;
    loop {
        if sender.send_timeout(Piece::Bytes(piece.into()), time).await.is_err() {
            return;
        }
        if !more {
            // Who has gone needs no end.
            let _ = sender.send_timeout(Piece::End, time).await;
            return;
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
