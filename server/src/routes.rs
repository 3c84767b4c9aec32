//! Which path and method goes to which handler. Filters only.
//!
//! Each path ends in a filter that takes every method, so a path that exists never falls through to
//! another one: what no route takes is an unknown path.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Buf;
use futures_util::Stream;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, Method};
use warp::reply::Response;
use warp::{Filter, Rejection};

use crate::body::{self, Body};
use crate::error::{Error, Result};
use crate::handlers::{self, App, end, get, probes, put, ui};
use crate::reject;

const ROOT_METHODS: &str = "GET, HEAD, PUT, OPTIONS";
const KEY_METHODS: &str = "DELETE, OPTIONS";
const PAGE_METHODS: &str = "GET, HEAD, OPTIONS";

/// Every endpoint of the server.
pub(crate) fn routes(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    let put = warp::put().and(with(app)).and(body(app)).then(put::put);
    let get = reading()
        .and(with(app))
        .and(warp::header::headers_cloned())
        .and(raw_query())
        .and(body(app))
        .then(get::get);
    let root = put.or(get).unify().map(reply).or(other(ROOT_METHODS)).unify();
    let end = key().and(warp::delete()).and(with(app)).and(raw_query()).then(end::end);
    let other_of_key = key().and(other(KEY_METHODS)).map(|_, refusal| refusal);
    let kv = end.map(reply).or(other_of_key).unify();
    let livez = page(reading().then(probes::livez).map(Ok));
    let readyz = page(reading().and(with(app)).then(probes::readyz).map(Ok));
    let version = page(reading().and(with(app)).then(probes::version).map(Ok));
    let ui = page(reading().then(ui::ui).map(Ok));
    (warp::path::end().and(root))
        .or(kv)
        .unify()
        .or(at("livez").and(livez))
        .unify()
        .or(at("readyz").and(readyz))
        .unify()
        .or(at("version").and(version))
        .unify()
        .or(at("ui").and(ui))
        .unify()
        .recover(reject::unmatched)
        .unify()
        .boxed()
}

/// What is read with GET and HEAD, and nothing else.
fn page(answer: impl Route<(Result<Response>,)>) -> impl Route<(Response,), Infallible> {
    answer.map(reply).or(other(PAGE_METHODS)).unify()
}

/// Takes every method that came this far: OPTIONS is told the others, and the others are refused.
fn other(allow: &'static str) -> impl Route<(Response,), Infallible> {
    warp::method().map(move |method| {
        if method == Method::OPTIONS {
            handlers::options_response(allow)
        } else {
            reject::response(&Error::MethodNotAllowed { allow })
        }
    })
}

/// GET, and HEAD, whose body `serve` takes off.
fn reading() -> impl Route<()> {
    warp::get().or(warp::head()).unify()
}

/// The path that is this one segment.
fn at(segment: &'static str) -> impl Route<()> {
    warp::path(segment).and(warp::path::end())
}

/// The path `/v1/kv/{key}`, with the key as it was sent.
fn key() -> impl Route<(String,)> {
    warp::path!("v1" / "kv" / String)
}

fn with(app: &Arc<App>) -> impl Route<(Arc<App>,), Infallible> {
    let app = Arc::clone(app);
    warp::any().map(move || Arc::clone(&app))
}

/// The query as it was sent; empty if there is none.
fn raw_query() -> impl Route<(String,), Infallible> {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

/// The whole body. A body that can't be read is for the handler to refuse: a rejection here would
/// send the request on to the other methods.
fn body(app: &Arc<App>) -> impl Route<(Result<Body>,)> {
    with(app).and(warp::header::headers_cloned()).and(warp::body::stream()).then(
        |app: Arc<App>, headers: HeaderMap, chunks| async move {
            read_body(&app, &headers, chunks).await
        },
    )
}

async fn read_body<B: Buf>(
    app: &App,
    headers: &HeaderMap,
    chunks: impl Stream<Item = Result<B, warp::Error>>,
) -> Result<Body> {
    body::read(headers, chunks, &app.limits, &app.requests).await
}

fn reply(outcome: Result<Response>) -> Response {
    outcome.unwrap_or_else(|error| reject::response(&error))
}

/// A filter that extracts `T`, and rejects with `E`.
trait Route<T, E = Rejection>: Filter<Extract = T, Error = E> + Clone + Send + Sync + 'static {}

impl<T, E, F> Route<T, E> for F where
    F: Filter<Extract = T, Error = E> + Clone + Send + Sync + 'static
{
}
