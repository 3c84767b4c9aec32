//! Answers that are made while they are sent: none is taken for whole that isn't, and none holds on to
//! what it is made from for a client that doesn't take it.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kvtimedb_engine::Error as EngineError;
use tokio::sync::Mutex;
use warp::reply::Response;

use super::*;
use crate::api::stream;
use crate::error::{Error, Result};
use crate::request::Request;

const PIECE: &[u8] = &[b'x'; stream::PIECE_BYTES];

/// An endpoint at each path: three pieces; three and then an error; an error at once; without an end.
const STREAMS: &[Endpoint] = &[
    Endpoint { path: "/three", methods: &[(Method::GET, |request| pieces(request, 3, true))] },
    Endpoint { path: "/broken", methods: &[(Method::GET, |request| pieces(request, 3, false))] },
    Endpoint { path: "/refused", methods: &[(Method::GET, |request| pieces(request, 0, false))] },
    Endpoint {
        path: "/endless",
        methods: &[(Method::GET, |request| pieces(request, usize::MAX, true))],
    },
    Endpoint {
        path: "/livez",
        methods: &[(Method::GET, |_| Box::pin(async { Ok("".into_response()) }))],
    },
];

fn pieces(request: Request, count: usize, ends_well: bool) -> BoxFuture<'static, Result<Response>> {
    Box::pin(async move {
        let endless = (count == usize::MAX).then(Endless::begin);
        let mut left = count;
        let fill = move |piece: &mut Vec<u8>| {
            if endless.is_some() {
                MADE.fetch_add(1, Ordering::SeqCst);
            }
            if left == 0 && !ends_well {
                return Err(Error::Engine(EngineError::BelowHorizon { ts: 1, horizon: 2 }));
            }
            piece.extend_from_slice(PIECE);
            left -= 1;
            Ok(left > 0 || !ends_well)
        };
        stream::answer(&request.app, "text/plain", fill).await
    })
}

/// What an endless answer is made from.
struct Endless;

static ALIVE: AtomicUsize = AtomicUsize::new(0);
static MADE: AtomicUsize = AtomicUsize::new(0);
/// One test at a time counts.
static COUNTING: Mutex<()> = Mutex::const_new(());

impl Endless {
    fn begin() -> Endless {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Endless
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits until nothing is alive of what endless answers are made from.
async fn let_go() {
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    while ALIVE.load(Ordering::SeqCst) > 0 {
        assert!(tokio::time::Instant::now() < deadline, "it is never let go of");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_whole_answer_ends_and_a_broken_one_does_not() {
    let server = Running::start_with(Limits::default(), STREAMS).await;
    let whole = server.request("GET", "/three", "").await;
    assert_eq!(status(&whole), 200);
    assert!(whole.contains("transfer-encoding: chunked\r\n"));
    assert_eq!(body(&whole).matches('x').count(), 3 * PIECE.len());
    assert!(whole.ends_with("\r\n0\r\n\r\n"), "it has its last chunk");

    let broken = server.request("GET", "/broken", "").await;
    assert_eq!(status(&broken), 200);
    assert!(!broken.ends_with("0\r\n\r\n"), "it must not look whole");

    let refused = server.request("GET", "/refused", "").await;
    assert_eq!(status(&refused), 410, "{refused}");
    assert!(body(&refused).contains("\"below_horizon\""), "{refused}");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_nothing() {
    let _counting = COUNTING.lock().await;
    MADE.store(0, Ordering::SeqCst);
    let limits = Limits { write_timeout: Duration::from_millis(100), ..Limits::default() };
    let server = Running::start_with(limits, STREAMS).await;
    let mut deaf = server.connect().await;
    deaf.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    deaf.read_exact(&mut [0; 12]).await.unwrap();
    let_go().await;
    // What the sockets take by themselves, and a few pieces.
    assert!(MADE.load(Ordering::SeqCst) < 1_000, "{MADE:?} pieces were made for nobody");
    assert_eq!(status(&server.request("GET", "/livez", "").await), 200);
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_answer() {
    let _counting = COUNTING.lock().await;
    let server = Running::start_with(Limits::default(), STREAMS).await;
    let mut client = server.connect().await;
    client.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    client.read_exact(&mut [0; 12]).await.unwrap();
    drop(client);
    let_go().await;
    // The answer to HEAD has no body to be made.
    assert_eq!(status(&server.request("HEAD", "/endless", "").await), 200);
    let_go().await;
}

#[tokio::test]
async fn streams_are_charged_to_the_memory_for_answers() {
    let limits = Limits { answers_bytes_max: PIECE.len(), ..Limits::default() };
    let server = Running::start_with(limits, STREAMS).await;
    let answer = server.request("GET", "/three", "").await;
    assert_eq!(status(&answer), 503, "{answer}");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
}

#[tokio::test]
async fn a_long_read_waits_for_its_turn_and_not_for_ever() {
    let limits =
        Limits { reads_max: 0, reads_wait: Duration::from_millis(20), ..Limits::default() };
    let server = Running::start_with(limits, STREAMS).await;
    let answer = server.request("GET", "/three", "").await;
    assert_eq!(status(&answer), 503, "{answer}");
}

/// A connection over HTTP/2 whose window takes some of a large answer, and no more until the answer is read.
async fn http2(server: &Running) -> http2::SendRequest<String> {
    let stream = TokioIo::new(server.connect().await);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn a_large_answer_that_is_not_taken_is_let_go_of_while_its_connection_lives() {
    let limits = Limits {
        write_timeout: Duration::from_millis(100),
        answers_bytes_max: 24 << 20,
        ..Limits::default()
    };
    let server = Running::start(limits).await;
    let large = serde_json::json!("x".repeat(16 << 20)).to_string();
    server.db.put(b"k", 1, ValueRef::json(large.as_bytes())).unwrap();
    for target in ["/?key=k&timestamp=1", "/v1/kv/k", "/v1/kv/k?raw=1", "/v1/history/k"] {
        let mut deaf = http2(&server).await;
        let request = hyper::Request::get(format!("http://x{target}")).body(String::new()).unwrap();
        let held = deaf.send_request(request).await.unwrap();
        assert_eq!(held.status(), 200, "{target}");
        // Two of them are more than the memory for answers.
        let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
        loop {
            let answer = server.request("GET", target, "").await;
            if status(&answer) == 200 {
                let len = format!("content-length: {}\r\n", body(&answer).len());
                assert!(answer.contains(&len) && body(&answer).len() >= large.len(), "{target}");
                break;
            }
            assert_eq!(status(&answer), 503, "{target}");
            assert!(tokio::time::Instant::now() < deadline, "{target}: it is never let go of");
        }
        assert!(deaf.ready().await.is_ok(), "the connection lives on");
        drop(held);
    }
}
