//! Which path and method goes to which handler: one table, from which all else follows.
//!
//! One filter takes every request apart, and the table says the rest. Routing with a filter an endpoint
//! would try them one after the other, and lose the path when it comes to say which methods it has.

use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::time::timeout;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::filters::path::FullPath;
use warp::http::{HeaderMap, Method};
use warp::reply::Response;

use crate::error::{Error, Result};
use crate::handlers::{
    App, admin, aggregate, asof, batch, diff, end, erase, export, get, history, import, kv,
    options_response, probes, put, scan, store, ui, watch,
};
use crate::limits::Limits;
use crate::reject::{self, Caller};
use crate::request::Request;

/// What answers a request.
type Handler = fn(Request) -> BoxFuture<'static, Result<Response>>;

/// A path, and what it answers.
pub(crate) struct Endpoint {
    /// The path. A name in braces, at its end, stands for one segment that is not empty.
    pub(crate) path: &'static str,
    /// The handler of each method. HEAD goes with GET, and OPTIONS with any.
    pub(crate) methods: &'static [(Method, Handler)],
}

macro_rules! handler {
    ($handler:path) => {
        |request| Box::pin($handler(request))
    };
}

// A key in the path, or in the query: not every key can be in a path.
const KV: &[(Method, Handler)] = &[
    (Method::GET, handler!(kv::get)),
    (Method::PUT, handler!(store::put)),
    (Method::DELETE, handler!(end::end)),
];
const HISTORY: &[(Method, Handler)] =
    &[(Method::GET, handler!(history::history)), (Method::DELETE, handler!(erase::erase))];
const AGGREGATE: &[(Method, Handler)] = &[(Method::GET, handler!(aggregate::aggregate))];

/// Every endpoint of the server; the ones that are asked most come first.
pub(crate) const ENDPOINTS: &[Endpoint] = &[
    Endpoint { path: "/v1/kv/{key}", methods: KV },
    Endpoint {
        path: "/",
        methods: &[(Method::GET, handler!(get::get)), (Method::PUT, handler!(put::put))],
    },
    Endpoint { path: "/v1/kv", methods: KV },
    Endpoint { path: "/v1/history/{key}", methods: HISTORY },
    Endpoint { path: "/v1/history", methods: HISTORY },
    Endpoint { path: "/v1/batch", methods: &[(Method::POST, handler!(batch::batch))] },
    Endpoint { path: "/v1/scan", methods: &[(Method::GET, handler!(scan::scan))] },
    Endpoint { path: "/v1/diff", methods: &[(Method::GET, handler!(diff::diff))] },
    Endpoint { path: "/v1/aggregate/{key}", methods: AGGREGATE },
    Endpoint { path: "/v1/aggregate", methods: AGGREGATE },
    Endpoint { path: "/v1/asof", methods: &[(Method::POST, handler!(asof::asof))] },
    Endpoint { path: "/v1/import", methods: &[(Method::POST, handler!(import::import))] },
    Endpoint { path: "/v1/export", methods: &[(Method::GET, handler!(export::export))] },
    Endpoint { path: "/v1/watch", methods: &[(Method::GET, handler!(watch::watch))] },
    Endpoint { path: "/v1/admin/flush", methods: &[(Method::POST, handler!(admin::flush))] },
    Endpoint { path: "/v1/admin/compact", methods: &[(Method::POST, handler!(admin::compact))] },
    Endpoint { path: "/v1/admin/backup", methods: &[(Method::POST, handler!(admin::backup))] },
    Endpoint { path: "/v1/admin/verify", methods: &[(Method::POST, handler!(admin::verify))] },
    Endpoint { path: "/v1/admin/jobs", methods: &[(Method::GET, handler!(admin::jobs))] },
    Endpoint { path: "/v1/admin/jobs/{id}", methods: &[(Method::GET, handler!(admin::job))] },
    Endpoint { path: "/v1/admin/stats", methods: &[(Method::GET, handler!(admin::stats))] },
    Endpoint { path: "/v1/admin/sstables", methods: &[(Method::GET, handler!(admin::sstables))] },
    Endpoint { path: "/metrics", methods: &[(Method::GET, handler!(probes::metrics))] },
    Endpoint { path: "/livez", methods: &[(Method::GET, handler!(probes::livez))] },
    Endpoint { path: "/readyz", methods: &[(Method::GET, handler!(probes::readyz))] },
    Endpoint { path: "/version", methods: &[(Method::GET, handler!(probes::version))] },
    Endpoint { path: "/openapi.json", methods: &[(Method::GET, handler!(probes::openapi))] },
    Endpoint { path: "/ui", methods: &[(Method::GET, handler!(ui::ui))] },
];

impl Endpoint {
    /// Where in `path` the segment in braces begins, or its end if there is none; `None`: it is another
    /// path.
    fn matches(&self, path: &str) -> Option<usize> {
        let Some((before, _)) = self.path.split_once('{') else {
            return (self.path == path).then_some(path.len());
        };
        let segment = path.strip_prefix(before)?;
        (!segment.is_empty() && !segment.contains('/')).then_some(before.len())
    }

    /// Which of its methods this is.
    fn method_no(&self, method: &Method) -> Option<usize> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.methods.iter().position(|(name, _)| name == method)
    }

    /// How long a request may take until its answer begins. An import goes on for as long as its body
    /// arrives, which has time limits of its own.
    fn time(&self, limits: &Limits) -> Duration {
        if self.path == "/v1/import" { Duration::MAX } else { limits.request_timeout }
    }

    /// The methods that it answers, as `Allow` lists them.
    pub(crate) fn allow(&self) -> String {
        let mut allow = String::new();
        for (method, _) in self.methods {
            allow += method.as_str();
            allow += if method == Method::GET { ", HEAD, " } else { ", " };
        }
        allow + "OPTIONS"
    }
}

/// Serves these endpoints.
pub(crate) fn routes(app: &Arc<App>, endpoints: &'static [Endpoint]) -> BoxedFilter<(Response,)> {
    let app = Arc::clone(app);
    warp::any()
        .map(move || Arc::clone(&app))
        .and(warp::method())
        .and(warp::path::full())
        .and(raw_query())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(move |app, method, path, query, headers, body| {
            answer(endpoints, app, method, path, query, headers, body)
        })
        .boxed()
}

/// The query as it was sent; empty if there is none.
fn raw_query() -> impl Filter<Extract = (String,), Error = Infallible> + Clone {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

async fn answer<B: Buf>(
    endpoints: &[Endpoint],
    app: Arc<App>,
    method: Method,
    path: FullPath,
    query: String,
    headers: HeaderMap,
    body: impl Stream<Item = Result<B, warp::Error>> + Send + 'static,
) -> Response {
    let begun = Instant::now();
    let caller = Caller::of(path.as_str(), &headers);
    let metrics = Arc::clone(&app);
    let count = |operation, response: Response| {
        metrics.metrics.requests.count(operation, response.status(), begun.elapsed());
        response
    };
    let found = endpoints
        .iter()
        .enumerate()
        .find_map(|(no, endpoint)| Some((no, endpoint, endpoint.matches(path.as_str())?)));
    let Some((endpoint_no, endpoint, segment_start)) = found else {
        return count(None, reject::response(&Error::NotFound, &caller));
    };
    let Some(method_no) = endpoint.method_no(&method) else {
        let allow = endpoint.allow();
        if method == Method::OPTIONS {
            return count(None, options_response(&allow));
        }
        return count(None, reject::response(&Error::MethodNotAllowed { allow }, &caller));
    };
    let (_, handler) = endpoint.methods[method_no];
    let time = endpoint.time(&app.limits);
    let body = Box::pin(body.map(|chunk| chunk.map(whole)));
    let request = Request { app, path, segment_start, query, headers, body };
    // A handler shares nothing that a panic could leave half done: the engine guards itself.
    let handler = AssertUnwindSafe(within(time, handler(request))).catch_unwind();
    let outcome = handler.await.unwrap_or(Err(Error::Panicked));
    let response = outcome.unwrap_or_else(|error| reject::response(&error, &caller));
    count(Some((endpoint_no, method_no)), response)
}

/// A handler's outcome, unless it takes longer than `time`. A handler that is done at once needs no timer.
async fn within(
    time: Duration,
    mut handler: BoxFuture<'static, Result<Response>>,
) -> Result<Response> {
    let at_once = poll_fn(|cx| match handler.poll_unpin(cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending => Poll::Ready(None),
    });
    match at_once.await {
        Some(outcome) => outcome,
        None => timeout(time, handler).await.unwrap_or(Err(Error::RequestTimeout)),
    }
}

/// A chunk's bytes; they are not copied.
fn whole(mut chunk: impl Buf) -> Bytes {
    chunk.copy_to_bytes(chunk.remaining())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_matched_as_a_whole() {
        fn found(path: &str) -> Option<(&'static str, &str)> {
            ENDPOINTS.iter().find_map(|e| Some((e.path, &path[e.matches(path)?..])))
        }
        for (path, expected) in [
            ("/", Some(("/", ""))),
            ("/v1/kv", Some(("/v1/kv", ""))),
            ("/v1/kv/a%2Fb", Some(("/v1/kv/{key}", "a%2Fb"))),
            ("/v1/kv/", None),
            ("/v1/kv/a/b", None),
            ("/v1/kvx", None),
            ("/v1", None),
            ("//", None),
            ("", None),
            ("*", None),
        ] {
            assert_eq!(found(path), expected, "{path}");
        }
    }

    #[test]
    fn the_document_names_every_endpoint_and_nothing_else() {
        let document: serde_json::Value =
            serde_json::from_str(include_str!("openapi.json")).unwrap();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut told = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let methods = item.as_object().unwrap().keys();
            told.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
        }
        let served = ENDPOINTS.iter().flat_map(|endpoint| {
            endpoint.methods.iter().map(|(method, _)| format!("{method} {}", endpoint.path))
        });
        let mut served: Vec<_> = served.collect();
        told.sort();
        served.sort();
        assert_eq!(told, served);
    }

    #[test]
    fn no_path_is_there_twice_nor_a_method() {
        for (at, endpoint) in ENDPOINTS.iter().enumerate() {
            assert!(ENDPOINTS[..at].iter().all(|other| other.path != endpoint.path));
            for (at, (method, _)) in endpoint.methods.iter().enumerate() {
                assert!(endpoint.methods[..at].iter().all(|(other, _)| other != method));
            }
        }
    }
}
