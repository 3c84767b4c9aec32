//! A request as the handlers get it.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use percent_encoding::percent_decode_str;
use warp::filters::path::FullPath;
use warp::http::header::HeaderName;
use warp::http::{HeaderMap, HeaderValue};

use crate::api::params::Params;
use crate::body::{self, Body};
use crate::error::{Error, Result};
use crate::handlers::App;

/// Names a request, for whoever compares what a client and the server's log say of it.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a client, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// A body that is still on its way.
pub(crate) type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send>>;

/// A request, and the application that it is made to.
pub(crate) struct Request {
    pub(crate) app: Arc<App>,
    pub(crate) path: FullPath,
    /// Where in the path the part begins for which the endpoint has a name in braces.
    pub(crate) segment_start: usize,
    /// The query as it was sent; empty if there is none.
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Chunks,
}

impl Request {
    /// The query's parameters, which have to be among the `known` ones.
    pub(crate) fn params(&self, known: &[&str]) -> Result<Params<'_>> {
        Params::parse(&self.query, known)
    }

    /// The part of the path for which the endpoint has a name in braces, as it was sent; empty if it has
    /// none.
    pub(crate) fn segment(&self) -> &str {
        &self.path.as_str()[self.segment_start..]
    }

    /// The key in the path, percent-decoded; where the path has none, the parameter `key`.
    pub(crate) fn key<'r>(&'r self, params: &'r Params<'_>) -> Result<Cow<'r, str>> {
        let segment = self.segment();
        if segment.is_empty() {
            return Ok(Cow::Borrowed(params.required("key")?));
        }
        if params.text("key").is_some() {
            return Err(Error::parameter("key", "the key is in the path already: leave this out"));
        }
        percent_decode_str(segment)
            .decode_utf8()
            .map_err(|_| Error::invalid("/path/key", "percent-decoded it is not UTF-8 text"))
    }

    /// A header's text; `None` if it isn't there, or is not text.
    pub(crate) fn header(&self, name: impl warp::http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Reads the whole body, within the limits.
    pub(crate) async fn read_body(&mut self) -> Result<Body> {
        let app = &self.app;
        body::read(&self.headers, &mut self.body, &app.limits, &app.requests).await
    }
}

/// The id in these headers; one that is no good, or that isn't there, is replaced by a new one.
pub(crate) fn named(headers: &mut HeaderMap) -> HeaderValue {
    let is_sane = |id: &HeaderValue| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
            && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    if let Some(id) = headers.get(REQUEST_ID).filter(|id| is_sane(id)) {
        return id.clone();
    }
    let number = fastrand::u64(..);
    let digits: [u8; 16] =
        std::array::from_fn(|at| b"0123456789abcdef"[(number >> (4 * at)) as usize & 15]);
    let id = HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static("none"));
    headers.insert(REQUEST_ID, id.clone());
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_id_is_kept_and_any_other_is_replaced() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_static("mine/1"));
        assert_eq!(named(&mut headers), "mine/1");
        let long = "x".repeat(REQUEST_ID_BYTES_MAX + 1);
        for id in ["", "a b", "\u{e9}", &long] {
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(id.as_bytes()).unwrap());
            let given = named(&mut headers);
            assert_eq!((given.len(), &given), (16, &headers[REQUEST_ID]), "{id}");
        }
        headers.clear();
        assert_ne!(named(&mut headers), named(&mut HeaderMap::new()));
    }
}
