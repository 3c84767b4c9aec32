//! A bound server, spoken to over TCP byte by byte: what a client library would hide is the point.

mod bulk;
mod streams;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kvtimedb_engine::{Db, Options, ValueRef, WriteBatch};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use warp::Reply;
use warp::http::Method;

use crate::api::moment::TsUnit;
use crate::handlers::App;
use crate::limits::Limits;
use crate::routes::{ENDPOINTS, Endpoint};
use crate::serve::Server;

const GET_K: &str = "GET /?key=k&timestamp=7 HTTP/1.1\r\nHost: x\r\n\r\n";

struct Running {
    db: Db,
    app: Arc<App>,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    _dir: TempDir,
}

impl Running {
    async fn start(limits: Limits) -> Running {
        Running::start_with(limits, ENDPOINTS).await
    }

    async fn start_with(limits: Limits, endpoints: &'static [Endpoint]) -> Running {
        let dir = TempDir::new().unwrap();
        let db = Db::open(dir.path(), Options::default()).unwrap();
        let app = Arc::new(App::new(db.clone(), Arc::new(limits), TsUnit::Us));
        let server = Server::bind_app(&app, endpoints, "127.0.0.1:0").await.unwrap();
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.serve(async {
            let _ = stopped.await;
        }));
        Running { db, app, address, stop, task, _dir: dir }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `request` and reads until the server closes.
    async fn exchange(&self, request: impl AsRef<[u8]>) -> String {
        let mut client = self.connect().await;
        client.write_all(request.as_ref()).await.unwrap();
        client.shutdown().await.unwrap();
        rest(&mut client).await
    }

    /// The answer to a request with a body.
    async fn request(&self, method: &str, target: &str, body: &str) -> String {
        let len = body.len();
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n");
        self.exchange(head + body).await
    }
}

async fn rest(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn short() -> Limits {
    let short = Duration::from_millis(60);
    Limits {
        first_bytes_timeout: short,
        headers_timeout: short,
        body_gap_timeout: short,
        body_bytes_max: 1 << 20,
        ..Limits::default()
    }
}

#[tokio::test]
async fn the_originals_examples() {
    let server = Running::start(Limits::default()).await;
    for (ts, value) in [(100, "iPhone 16"), (101, "iPhone 17")] {
        let put = format!(r#"{{"key":"item1","timestamp":{ts},"value":"{value}"}}"#);
        let answer = server.request("PUT", "/", &put).await;
        assert_eq!((status(&answer), body(&answer)), (200, ""), "{answer}");
    }
    for (ts, value) in [
        (99, "null\n"),
        (100, "\"iPhone 16\"\n"),
        (101, "\"iPhone 17\"\n"),
        (102, "\"iPhone 17\"\n"),
    ] {
        let get = format!(r#"{{"key":"item1","timestamp":{ts}}}"#);
        let by_body = server.request("GET", "/", &get).await;
        assert_eq!((status(&by_body), body(&by_body)), (200, value));
        assert!(by_body.contains("content-type: application/json\r\n"), "{by_body}");
        let by_query = server.request("GET", &format!("/?key=item1&timestamp={ts}"), "").await;
        assert_eq!((status(&by_query), body(&by_query)), (200, value));
    }
}

#[tokio::test]
async fn an_end_holds_until_a_newer_put() {
    let server = Running::start(Limits::default()).await;
    for ts in [100, 200] {
        let put = format!(r#"{{"key":"a/ü b","timestamp":{ts},"value":"v"}}"#);
        assert_eq!(status(&server.request("PUT", "/", &put).await), 200);
    }
    let answer = server.request("DELETE", "/v1/kv/a%2F%C3%BC%20b?at=150", "").await;
    assert_eq!((status(&answer), body(&answer)), (200, "{\"seq\":3,\"ts\":150}\n"), "{answer}");
    assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
    for (ts, value) in [(149, "\"v\"\n"), (150, "null\n"), (199, "null\n"), (200, "\"v\"\n")] {
        let target = format!("/?key=a/%C3%BC+b&timestamp={ts}");
        let answer = server.request("GET", &target, "").await;
        assert_eq!((status(&answer), body(&answer)), (200, value), "at {ts}");
    }
}

#[tokio::test]
async fn refusals_of_the_root_are_those_of_the_original() {
    let server = Running::start(Limits::default()).await;
    for (method, target, sent, code, error) in [
        ("PUT", "/", "{}", 400, "Missing required fields: key, value, timestamp"),
        ("PUT", "/", "", 400, "Invalid JSON: the body is empty"),
        ("GET", "/", "", 400, "Missing required fields: key, timestamp"),
        ("GET", "/?key=k", "", 400, "Missing required fields: key, timestamp"),
        ("POST", "/", "{}", 405, "Method not allowed: this path answers GET, HEAD, PUT, OPTIONS"),
    ] {
        let answer = server.request(method, target, sent).await;
        assert_eq!(status(&answer), code, "{method} {target}: {answer}");
        assert_eq!(body(&answer), format!("{}\n", serde_json::json!({ "error": error })));
        assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
        assert_eq!(answer.contains("\r\nallow: "), code == 405, "{answer}");
    }
    let gzip = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(status(&server.exchange(gzip).await), 415);
}

#[tokio::test]
async fn refusals_elsewhere_are_problems() {
    let server = Running::start(Limits::default()).await;
    for (method, target, status, code, detail) in [
        ("DELETE", "/livez", 405, "method_not_allowed", "this path answers GET, HEAD, OPTIONS"),
        ("GET", "/nothing", 404, "unknown_path", "Not found"),
        ("PUT", "/livez/deeper", 404, "unknown_path", "Not found"),
        ("DELETE", "/v1/kv/k", 400, "invalid_request", "/query/at: it is required"),
        ("DELETE", "/v1/kv/k?at=soon", 400, "invalid_request", "/query/at: \"soon\" is none of"),
        ("DELETE", "/v1/kv/k?at=1&ts=1", 400, "invalid_request", "/query/ts: there is no such"),
        ("DELETE", "/v1/kv/k?at=1&at=1", 400, "invalid_request", "/query/at: it is there more"),
        ("DELETE", "/v1/kv/k?key=k&at=1", 400, "invalid_request", "/query/key: the key is in the"),
        ("DELETE", "/v1/kv?at=1", 400, "invalid_request", "/query/key: it is required"),
        ("DELETE", "/v1/kv/%ff?at=1", 400, "invalid_request", "/path/key: percent-decoded"),
        ("DELETE", "/v1/kv/k/deeper?at=1", 404, "unknown_path", "Not found"),
        ("DELETE", "/v1/kv/?at=1", 404, "unknown_path", "Not found"),
        ("DELETE", "/v1", 404, "unknown_path", "Not found"),
        ("OPTIONS", "*", 404, "unknown_path", "Not found"),
    ] {
        let answer = server.request(method, target, "").await;
        let problem: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
        assert!(answer.contains("content-type: application/problem+json\r\n"), "{answer}");
        assert_eq!(answer.contains("\r\nallow: "), status == 405, "{answer}");
        assert_eq!(problem["status"], status, "{method} {target}: {answer}");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(problem["title"].as_str().unwrap()), "{answer}");
        assert_eq!((&problem["code"], &problem["type"]), (&code.into(), &"about:blank".into()));
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
        let id = problem["request_id"].as_str().unwrap();
        assert!(answer.contains(&format!("x-request-id: {id}\r\n")), "{answer}");
        let pointed = detail.split(':').next().filter(|_| status == 400);
        assert_eq!(problem["errors"][0]["pointer"].as_str(), pointed, "{problem}");
    }
}

#[tokio::test]
async fn every_answer_has_an_id_of_the_clients_or_of_its_own() {
    let server = Running::start(Limits::default()).await;
    for target in ["/?key=k&timestamp=7", "/", "/livez", "/nothing", "/v1/kv/k"] {
        let with_id =
            |id: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\nX-Request-Id: {id}\r\n\r\n");
        let answer = server.exchange(with_id("client/7")).await;
        assert!(answer.contains("x-request-id: client/7\r\n"), "{answer}");
        let answer = server.exchange(with_id(&"x".repeat(129))).await;
        assert!(answer.contains("x-request-id: ") && !answer.contains("id: x"), "{answer}");
    }
}

#[tokio::test]
async fn the_pages_beside_the_root() {
    let server = Running::start(Limits::default()).await;
    let answer = server.request("OPTIONS", "/", "").await;
    assert_eq!(status(&answer), 204);
    assert!(answer.contains("allow: GET, HEAD, PUT, OPTIONS\r\n"), "{answer}");
    assert_eq!(body(&server.request("GET", "/livez", "").await), "ok\n");
    let ready = server.request("GET", "/readyz", "").await;
    assert_eq!(body(&ready), "{\"durability\":\"sync\",\"ready\":true}\n");
    let version = server.request("GET", "/version", "").await;
    let version: serde_json::Value = serde_json::from_str(body(&version)).unwrap();
    assert_eq!(version["limits"]["key_bytes_max"], 65536);
    let page = server.request("GET", "/ui", "").await;
    assert!(page.contains("content-type: text/html; charset=utf-8\r\n"));
    assert!(body(&page).starts_with("<!doctype html>"));
    let browser = "GET / HTTP/1.1\r\nHost: x\r\nAccept: application/xml, text/html;q=0.9\r\n\r\n";
    let answer = server.exchange(browser).await;
    assert_eq!(status(&answer), 303);
    assert!(answer.contains("location: /ui\r\n"), "{answer}");
}

#[tokio::test]
async fn head_tells_the_length_and_sends_nothing() {
    let server = Running::start(Limits::default()).await;
    let answer = server.exchange(GET_K.replace("GET", "HEAD")).await;
    assert_eq!((status(&answer), body(&answer)), (200, ""));
    assert!(answer.contains("content-length: 5\r\n"), "{answer}");
    let answer = server.request("HEAD", "/nothing", "").await;
    assert_eq!((status(&answer), body(&answer)), (404, ""));
}

#[tokio::test]
async fn text_is_answered_as_json_and_octets_are_not() {
    let server = Running::start(Limits::default()).await;
    for (value, code, answered) in [
        (ValueRef::octets(b"1"), 406, None),
        (ValueRef::text("plain \"text\"\n"), 200, Some("\"plain \\\"text\\\"\\n\"\n")),
        (ValueRef::text(""), 200, Some("\"\"\n")),
    ] {
        let mut batch = WriteBatch::new();
        batch.put(b"k", 1, value).unwrap();
        server.db.write(batch).unwrap();
        let answer = server.exchange(GET_K).await;
        assert_eq!(status(&answer), code, "{answer}");
        assert!(answered.is_none_or(|text| body(&answer) == text), "{answer}");
    }
}

#[tokio::test]
async fn lookups_that_may_walk_far_wait_for_their_turn() {
    let limits =
        Limits { reads_max: 0, reads_wait: Duration::from_millis(20), ..Limits::default() };
    let server = Running::start(limits).await;
    for (mode, code) in [
        ("floor", 200),
        ("exact", 200),
        ("before", 200),
        ("ceiling", 503),
        ("after", 503),
        ("nearest", 503),
    ] {
        let answer = server.request("GET", &format!("/v1/kv/k?at=1&mode={mode}"), "").await;
        assert_eq!(status(&answer), code, "{mode}: {answer}");
    }
}

#[tokio::test]
async fn an_age_needs_a_moment() {
    let server = Running::start(Limits::default()).await;
    for (query, code) in [
        ("max_age=1h", 200),
        ("max_age=1h&at=latest", 400),
        ("max_age=1h&at=now", 200),
        ("at=latest", 200),
    ] {
        let answer = server.request("GET", &format!("/v1/kv/k?{query}"), "").await;
        assert_eq!(status(&answer), code, "{query}: {answer}");
        let is_named = answer.contains("\"pointer\":\"/query/max_age\"");
        assert_eq!(is_named, code == 400, "{query}: {answer}");
    }
}

/// The timestamps of a page of `k`, and the parameter for the next one.
async fn page(server: &Running, query: &str) -> (Vec<i64>, Option<String>) {
    let answer = server.request("GET", &format!("/v1/history/k?limit=2&{query}"), "").await;
    assert_eq!(status(&answer), 200, "{query}: {answer}");
    let page: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
    let items = page["items"].as_array().unwrap().iter();
    let next = page["next"].as_str().map(|next| format!("{query}&cursor={next}"));
    (items.map(|item| item["ts"].as_i64().unwrap()).collect(), next)
}

#[tokio::test]
async fn pages_of_a_history_go_on_while_the_horizon_moves() {
    let server = Running::start(Limits::default()).await;
    for ts in (10..=80).step_by(10) {
        server.db.put(b"k", ts, b"1").unwrap();
    }
    let queries = ["order=asc", "order=asc&entry=1", "order=desc", "order=desc&entry=1", "from=25"];
    let mut next = Vec::new();
    // Nothing lies before this; then what was shown, and then all that was.
    server.db.set_horizon(15).unwrap();
    for (query, expected) in queries.iter().zip([[20, 30], [10, 20], [80, 70], [80, 70], [30, 40]])
    {
        let (shown, cursor) = page(&server, query).await;
        assert_eq!(shown, expected, "{query}");
        next.push(cursor.unwrap());
    }
    server.db.set_horizon(45).unwrap();
    for (query, expected) in next.iter_mut().zip([[50, 60], [50, 60], [60, 50], [60, 50]]) {
        let (shown, cursor) = page(&server, query).await;
        assert_eq!(shown, expected, "{query}");
        let cursor = cursor.map(|cursor| cursor.rsplit_once("cursor=").unwrap().1.to_owned());
        if let Some(cursor) = cursor {
            *query = format!("{}cursor={cursor}", query.split("cursor=").next().unwrap());
        } else {
            query.clear();
        }
    }
    assert_eq!(
        status(&server.request("GET", &format!("/v1/history/k?{}", next[4]), "").await),
        410
    );
    server.db.set_horizon(85).unwrap();
    for query in next[..4].iter().filter(|query| !query.is_empty()) {
        assert_eq!(page(&server, query).await, (vec![], None), "{query}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Running::start(Limits::default()).await;
    let put = |ts: i32| {
        let sent = format!(r#"{{"key":"k","value":{ts},"timestamp":{ts}}}"#);
        format!("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{sent}", sent.len())
    };
    let answer =
        server.exchange([put(7), GET_K.into(), put(6), put(7), GET_K.into()].concat()).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 5, "{answer}");
    assert_eq!(answer.matches("\"7\"\n").count(), 2, "{answer}");
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused_and_the_client_gets_to_know() {
    let server = Running::start(short()).await;
    let announced = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n";
    let answer = server.exchange(announced).await;
    assert_eq!(status(&answer), 413, "{answer}");
    assert!(answer.contains("the limit is 1048576 bytes"), "{answer}");

    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let chunked = "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    // Much more than the limit and the sockets' buffers: the client is still sending when the server
    // answers, and must be able to read the answer.
    let answer = server.exchange(chunked.clone() + &chunk.repeat(256)).await;
    assert_eq!(status(&answer), 413, "{answer}");

    let within = "{\"key\":\"k\",\"value\":1,\"timestamp\":1}";
    let within = format!("{chunked}{:x}\r\n{within}\r\n0\r\n\r\n", within.len());
    assert_eq!(status(&server.exchange(within).await), 200);
}

#[tokio::test]
async fn the_memory_for_bodies_is_bounded_over_all_clients() {
    let limits = Limits { requests_bytes_max: 1 << 10, ..Limits::default() };
    let server = Running::start(limits).await;
    let answer = server.request("PUT", "/", &"x".repeat(2 << 10)).await;
    assert_eq!(status(&answer), 503, "{answer}");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    assert_eq!(status(&server.request("PUT", "/", "{}").await), 400);
}

#[tokio::test]
async fn slow_clients_are_sent_away() {
    let server = Running::start(short()).await;
    // Each stops at another point: before the first byte, inside what HTTP/1 and HTTP/2 have in
    // common, inside the headers, and after a whole request.
    for sent in ["", "P", "PUT / HTTP/1.1\r\nHost", "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut client = server.connect().await;
        client.write_all(sent.as_bytes()).await.unwrap();
        let answer = rest(&mut client).await;
        assert!(!answer.contains(" 200 ") || sent.contains("livez"), "{sent}: {answer}");
    }
    for head in ["Content-Length: 10\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"] {
        let mut client = server.connect().await;
        let request = format!("PUT / HTTP/1.1\r\nHost: x\r\n{head}");
        client.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(status(&rest(&mut client).await), 408, "{head}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_sent_away() {
    let write_timeout = Duration::from_millis(60);
    let limits = Limits { connections_max: 1, write_timeout, ..Limits::default() };
    let server = Running::start(limits).await;
    let mut batch = WriteBatch::new();
    let large = serde_json::json!("x".repeat(16 << 20)).to_string();
    batch.put(b"k", 1, ValueRef::json(large.as_bytes())).unwrap();
    server.db.write(batch).unwrap();
    let mut deaf = server.connect().await;
    deaf.write_all(GET_K.as_bytes()).await.unwrap();
    // There is one place, and the client that doesn't read has it: who comes next is answered only
    // if it is taken away.
    assert_eq!(status(&server.request("GET", "/livez", "").await), 200);
    drop(deaf);
}

#[tokio::test]
async fn a_panic_is_an_answer_and_hurts_nobody_else() {
    const BROKEN: &[Endpoint] = &[
        Endpoint {
            path: "/panic",
            methods: &[(Method::GET, |_| Box::pin(async { panic!("a handler's bug") }))],
        },
        Endpoint {
            path: "/read",
            methods: &[(Method::GET, |request| {
                Box::pin(async move { request.app.read(|_| panic!("a read's bug")).await })
            })],
        },
        Endpoint {
            path: "/fine",
            methods: &[(Method::GET, |_| Box::pin(async { Ok("fine".into_response()) }))],
        },
    ];
    let server = Running::start_with(Limits::default(), BROKEN).await;
    for (path, counted) in [("/panic", 1), ("/read", 2)] {
        let answer = server.request("GET", path, "").await;
        assert_eq!(status(&answer), 500, "{answer}");
        let problem: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
        assert_eq!(problem["code"], "internal_error");
        assert_eq!(problem["detail"], "Internal server error");
        let page = server.app.metrics.page();
        assert_eq!(page.matches("status=\"500\"} 1\n").count(), counted, "{page}");
        assert_eq!(status(&server.request("GET", "/fine", "").await), 200);
    }
}

#[tokio::test]
async fn a_handler_that_never_ends_is_given_up() {
    const ENDLESS: &[Endpoint] =
        &[Endpoint { path: "/", methods: &[(Method::GET, |_| Box::pin(std::future::pending()))] }];
    let limits = Limits { request_timeout: Duration::from_millis(20), ..Limits::default() };
    let server = Running::start_with(limits, ENDLESS).await;
    assert_eq!(status(&server.request("GET", "/", "").await), 503);
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_their_turn() {
    let server = Running::start(Limits { connections_max: 1, ..Limits::default() }).await;
    let mut first = server.connect().await;
    first.write_all(GET_K.as_bytes()).await.unwrap();
    let mut part = [0; 12];
    first.read_exact(&mut part).await.unwrap();
    let mut second = server.connect().await;
    second.write_all(GET_K.as_bytes()).await.unwrap();
    second.shutdown().await.unwrap();
    drop(first);
    assert_eq!(status(&rest(&mut second).await), 200);
}

#[tokio::test]
async fn shutdown_finishes_what_is_under_way_and_waits_for_nothing_else() {
    let server = Running::start(Limits::default()).await;
    let _silent = server.connect().await;
    let mut idle = server.connect().await;
    idle.write_all(GET_K.as_bytes()).await.unwrap();
    let mut part = [0; 12];
    idle.read_exact(&mut part).await.unwrap();
    let mut busy = server.connect().await;
    let sent = r#"{"key":"k","value":1,"timestamp":1}"#;
    let head = format!(
        "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        sent.len()
    );
    busy.write_all(head.as_bytes()).await.unwrap();
    // Once this comes the handler is waiting for the body.
    let mut go_on = [0; 25];
    busy.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");

    server.stop.send(()).unwrap();
    rest(&mut idle).await;
    busy.write_all(sent.as_bytes()).await.unwrap();
    assert_eq!(status(&rest(&mut busy).await), 200);
    server.task.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
    assert!(server.db.floor(b"k", 1).unwrap().is_some());
}

#[tokio::test]
async fn shutdown_cuts_off_what_does_not_end() {
    let limits = Limits { drain: Duration::from_millis(20), ..Limits::default() };
    let server = Running::start(limits).await;
    let mut stuck = server.connect().await;
    let head = b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n";
    stuck.write_all(head).await.unwrap();
    stuck.read_exact(&mut [0; 25]).await.unwrap();
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
}
