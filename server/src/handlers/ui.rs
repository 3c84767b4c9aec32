//! `GET /ui`: a page to put and look up values by hand.

use warp::http::HeaderValue;
use warp::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use warp::reply::Response;

use crate::error::Result;
use crate::request::Request;

const PAGE: &str = include_str!("../ui/index.html");

/// The page is one file and may load nothing else; it talks to this server only, and no other site
/// may frame it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

pub(crate) async fn ui(_: Request) -> Result<Response> {
    let mut response = Response::new(PAGE.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}
