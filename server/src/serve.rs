//! The accept loop: connections in, requests to the routes, answers out, each with a bound.
//!
//! warp's own server has no bound on connections, on slow clients or on its shutdown, so its filters
//! are served from here. A connection goes: permit → accept → first bytes under a deadline → HTTP/1
//! or HTTP/2 with their own time limits → each request with an id of its own. At shutdown the
//! listener closes first, then requests under way may finish, and after [`Limits::drain`] the rest is
//! cut off.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use kvtimedb_engine::Db;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use warp::filters::BoxedFilter;
use warp::http::header::CONTENT_LENGTH;
use warp::http::{Method, Request};
use warp::reply::Response;

use crate::api::moment::TsUnit;
use crate::complain;
use crate::error::{Error, Result};
use crate::handlers::App;
use crate::limits::Limits;
use crate::request::{REQUEST_ID, named};
use crate::routes::{self, Endpoint};
use crate::socket::Socket;

/// Headers of one request, at most.
const HEADERS_MAX: usize = 64;
/// Line and headers of one HTTP/1 request, at most, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Headers of one HTTP/2 request, at most, in bytes.
const HTTP2_HEADERS_BYTES_MAX: u32 = 16 << 10;
/// Requests under way on one HTTP/2 connection, at most.
const HTTP2_STREAMS_MAX: u32 = 64;
/// Requests that an HTTP/2 client may cancel before they are accepted, until it is sent away.
const HTTP2_RESET_STREAMS_MAX: usize = 20;
/// How often an idle HTTP/2 connection is asked whether it still lives.
const HTTP2_KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// After an error that hits accepting as such (no file descriptors, no memory), before the next try.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

type Routes = BoxedFilter<(Response,)>;

/// A bound server. Connections are accepted by [`serve`](Server::serve); until then they wait.
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    routes: Routes,
    limits: Arc<Limits>,
    stopping: watch::Sender<bool>,
}

impl Server {
    /// Binds to `listen`, `host:port`; port 0 takes a free one.
    /// Dates are counted in `unit`, and backups go below `backup_dir`, if anywhere.
    pub async fn bind(
        db: Db,
        listen: &str,
        unit: TsUnit,
        backup_dir: Option<PathBuf>,
    ) -> Result<Server> {
        let limits = Arc::new(Limits::default());
        let mut app = App::new(db, limits, unit);
        app.backup_dir = backup_dir;
        Server::bind_app(&Arc::new(app), routes::ENDPOINTS, listen).await
    }

    /// Like [`bind`](Server::bind), for any application and endpoints.
    pub(crate) async fn bind_app(
        app: &Arc<App>,
        endpoints: &'static [Endpoint],
        listen: &str,
    ) -> Result<Server> {
        let routes = routes::routes(app, endpoints);
        let (limits, stopping) = (Arc::clone(&app.limits), app.stopping.clone());
        let refused = |source| Error::Listen { address: listen.to_owned(), source };
        let listener = TcpListener::bind(listen).await.map_err(refused)?;
        let local_addr = listener.local_addr().map_err(refused)?;
        Ok(Server { listener, local_addr, routes, limits, stopping })
    }

    /// The address that it listens on, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `stop` completes, then finishes what is under way, and returns when no connection
    /// is left. A write whose request was cut off may still be committed by the engine.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let Server { listener, routes, limits, stopping, .. } = self;
        let service = TowerToHyperService::new(warp::service(routes));
        let permits = Arc::new(Semaphore::new(limits.connections_max));
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = accept(&listener, &permits) => accepted,
                Some(_) = connections.join_next() => continue,
            };
            let (stream, permit) = accepted;
            let connection = Connection {
                service: service.clone(),
                limits: Arc::clone(&limits),
                watcher: graceful.watcher(),
                stopped: stopping.subscribe(),
                _permit: permit,
            };
            connections.spawn(connection.serve(stream));
        }
        drop(listener);
        // For connections that still wait for their first bytes, and for watches.
        stopping.send_replace(true);
        let _ = timeout(limits.drain, graceful.shutdown()).await;
        connections.shutdown().await;
    }
}

/// The next connection, when there is a permit for it. Survives every error: one client's troubles,
/// or a moment without file descriptors, must not end the server.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    let Ok(permit) = Arc::clone(permits).acquire_owned().await else {
        // Only a closed semaphore has no permits, and nobody closes this one.
        return pending().await;
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) if concerns_one_client(&error) => {}
            Err(error) => {
                complain(&format!("cannot accept connections, trying again: {error}"));
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

fn concerns_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// What one connection needs, from its acceptance to its end.
struct Connection<S> {
    service: S,
    limits: Arc<Limits>,
    watcher: Watcher,
    stopped: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl<S> Connection<S>
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
{
    async fn serve(mut self, stream: TcpStream) {
        // Without it answers are correct, only later.
        let _ = stream.set_nodelay(true);
        let mut socket = Socket::new(stream, self.limits.write_timeout, self.limits.linger);
        tokio::select! {
            sniffed = timeout(self.limits.first_bytes_timeout, socket.sniff()) => match sniffed {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            },
            _ = self.stopped.changed() => return,
        }
        let refused = socket.refused();
        let Connection { service, limits, watcher, .. } = self;
        let builder = http_builder(&limits);
        let answer = service_fn(move |request: Request<Incoming>| {
            answer(&service, request, Arc::clone(&refused))
        });
        let connection = builder.serve_connection(TokioIo::new(socket), answer);
        // What ends a connection early is the client's doing, and the client knows.
        let _ = watcher.watch(connection).await;
    }
}

fn http_builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers_timeout)
        // A client that has said all it has to say may shut its side and still gets its answer.
        .half_close(true)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(HTTP2_HEADERS_BYTES_MAX)
        .max_pending_accept_reset_streams(HTTP2_RESET_STREAMS_MAX)
        .keep_alive_interval(HTTP2_KEEP_ALIVE_INTERVAL);
    builder
}

/// One request's answer.
fn answer<S>(
    service: &S,
    mut request: Request<Incoming>,
    refused: Arc<AtomicBool>,
) -> impl Future<Output = Result<Response, Infallible>> + use<S>
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible>,
{
    let is_head = request.method() == Method::HEAD;
    let request_id = named(request.headers_mut());
    let answered = service.call(request);
    async move {
        let Ok(mut response) = answered.await;
        if response.status().is_client_error() || response.status().is_server_error() {
            refused.store(true, Ordering::Relaxed);
        }
        response.headers_mut().insert(REQUEST_ID, request_id);
        Ok(if is_head { without_body(response) } else { response })
    }
}

/// The answer to HEAD: what GET would say, its length told but not sent.
fn without_body(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    if let Some(len) = body.size_hint().exact() {
        head.headers.insert(CONTENT_LENGTH, len.into());
    }
    Response::from_parts(head, "".into())
}
