//! Reading the body of a request, within its limits.

use std::pin::pin;

use bytes::Buf;
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::time::{Instant, timeout_at};
use warp::http::HeaderMap;
use warp::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};

use crate::error::{Error, Result};
use crate::limits::{Budget, Charge, Limits};

/// A body, and its share of the memory for bodies.
pub(crate) struct Body {
    bytes: Vec<u8>,
    _charge: Charge,
}

impl Body {
    /// The body's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a whole body. What is too large is refused before it is read, where the client says its
/// length, and otherwise as soon as it is more than the limit.
///
/// The budget is charged as bytes arrive, not when they are announced: announcing is free.
pub(crate) async fn read<B: Buf>(
    headers: &HeaderMap,
    chunks: impl Stream<Item = Result<B, warp::Error>>,
    limits: &Limits,
    budget: &std::sync::Arc<Budget>,
) -> Result<Body> {
    if let Some(encoding) = headers.get(CONTENT_ENCODING).filter(|e| *e != "identity") {
        return Err(Error::ContentEncoding(String::from_utf8_lossy(encoding.as_bytes()).into()));
    }
    let too_large = || Error::TooLarge { what: "The body", limit: limits.body_bytes_max };
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    if announced > limits.body_bytes_max {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(announced.min(64 << 10));
    let mut charge = budget.share();
    let mut chunks = pin!(chunks);
    let mut last = None;
    loop {
        // Most bodies have come with their headers: only who is waited for needs a clock.
        let chunk = if let Some(chunk) = chunks.next().now_or_never() {
            chunk
        } else {
            let now = Instant::now();
            let last = *last.get_or_insert(now + limits.body_timeout);
            let deadline = last.min(now + limits.body_gap_timeout);
            timeout_at(deadline, chunks.next()).await.map_err(|_| Error::BodyTimeout)?
        };
        let mut chunk = match chunk {
            None => return Ok(Body { bytes, _charge: charge }),
            Some(chunk) => chunk.map_err(|_| {
                Error::BadRequest("The request's body ended early or is malformed".to_owned())
            })?,
        };
        if bytes.len() + chunk.remaining() > limits.body_bytes_max {
            return Err(too_large());
        }
        charge.grow(chunk.remaining())?;
        while chunk.has_remaining() {
            let piece = chunk.chunk();
            bytes.extend_from_slice(piece);
            let read = piece.len();
            chunk.advance(read);
        }
    }
}
