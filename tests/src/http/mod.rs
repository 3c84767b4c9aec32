//! The contract of `/` and of the pages beside it, line by line, against the real server.

mod contract;
mod docs;
mod v1_bulk;
mod v1_reads;
mod v1_watch;
mod v1_writes;
mod wire;

use std::io::{Read, Write};

use kvtimedb_engine::{Db, KEY_BYTES_MAX, Options};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::server::{Answer, Client, Server};

const LATEST: i64 = i64::MAX;

/// A server with a directory of its own.
struct Fixture {
    server: Server,
    dir: TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        let dir = TempDir::new().unwrap();
        let server = Server::start(dir.path(), &[]);
        Fixture { server, dir }
    }

    fn connect(&self) -> Client {
        self.server.connect()
    }

    /// Stops the server, and checks that it never stored anything.
    fn expect_nothing_stored(self) {
        assert_eq!(self.server.stop().code, Some(0));
        let db = Db::open(self.dir.path(), Options::default()).unwrap();
        assert_eq!(db.visible_seq(), 0, "something was written");
    }
}

/// Puts a body that must be taken.
#[track_caller]
fn put(client: &mut Client, body: &str) {
    let answer = client.send("PUT", "/", body.to_owned());
    assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{body}: {answer:?}");
}

/// Checks that an answer is a refusal in JSON.
#[track_caller]
fn refused(answer: &Answer, status: u16, error: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/json", "{answer:?}");
    let body: Value = serde_json::from_str(answer.body.strip_suffix('\n').unwrap()).unwrap();
    let said = body["error"].as_str().unwrap();
    assert!(said.starts_with(error), "{answer:?}: expected {error}");
    assert_eq!(body.as_object().unwrap().len(), 1, "{answer:?}");
}

/// Checks that an answer is a problem, and returns it.
#[track_caller]
fn problem(answer: &Answer, status: u16, code: &str) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
    let problem: Value = serde_json::from_str(answer.body.strip_suffix('\n').unwrap()).unwrap();
    assert_eq!(problem["code"], code, "{answer:?}");
    assert_eq!(problem["status"], status, "{answer:?}");
    assert_eq!(problem["request_id"], answer.header("x-request-id"), "{answer:?}");
    problem
}

#[test]
fn the_originals_examples() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    put(&mut client, r#"{"key":"item1","value":"iPhone 16","timestamp":100}"#);
    put(&mut client, r#"{"key":"item1","value":"iPhone 17","timestamp":101}"#);
    for (timestamp, expected) in [
        (99, "null\n"),
        (100, "\"iPhone 16\"\n"),
        (101, "\"iPhone 17\"\n"),
        (102, "\"iPhone 17\"\n"),
    ] {
        let body = format!(r#"{{"key":"item1","timestamp":{timestamp}}}"#);
        let query = format!("/?key=item1&timestamp={timestamp}");
        for answer in [client.send("GET", "/", body), client.send("GET", &query, "")] {
            assert_eq!((answer.status, answer.body.as_str()), (200, expected));
            assert_eq!(answer.header("content-type"), "application/json");
            assert_eq!(answer.header("content-length"), expected.len().to_string());
            assert_eq!(answer.header("cache-control"), "no-store");
        }
    }
    assert_eq!(client.floor("item2", 102), "null", "another key");
}

#[test]
fn the_same_key_and_timestamp_replaces_and_order_does_not_matter() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    for (timestamp, value) in [(20, "b"), (10, "a"), (30, "c"), (20, "B"), (20, "B2"), (10, "A")] {
        put(&mut client, &json!({"key":"k","value":value,"timestamp":timestamp}).to_string());
    }
    for (timestamp, value) in
        [(9, "null"), (10, r#""A""#), (19, r#""A""#), (20, r#""B2""#), (31, r#""c""#)]
    {
        assert_eq!(client.floor("k", timestamp), value, "{timestamp}");
    }
}

#[test]
fn scalars_become_the_text_that_python_makes_of_them() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    for (sent, text) in [
        ("5", "5"),
        ("-0", "0"),
        ("1.5", "1.5"),
        ("5.10", "5.1"),
        ("1e16", "1e+16"),
        ("1E+15", "1000000000000000.0"),
        ("0.00001", "1e-05"),
        ("1e400", "inf"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("true", "True"),
        ("false", "False"),
        ("null", "None"),
        (r#""""#, ""),
        (r#"" a ""#, " a "),
        (r#""null""#, "null"),
    ] {
        put(&mut client, &format!(r#"{{"key":"value of","value":{sent},"timestamp":1}}"#));
        assert_eq!(client.floor("value of", 1), json!(text).to_string(), "the value {sent}");
        put(&mut client, &format!(r#"{{"key":{sent},"value":"key {text}","timestamp":1}}"#));
        assert_eq!(client.floor(text, 1), json!(format!("key {text}")).to_string(), "key {sent}");
        let by_the_same = client.send("GET", "/", format!(r#"{{"key":{sent},"timestamp":1}}"#));
        assert_eq!(by_the_same.body.trim_end(), json!(format!("key {text}")).to_string());
    }
}

#[test]
fn text_of_every_script_comes_back() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    for text in ["ключ", "鍵", "😀", "a\u{301}", "\u{0}", "a\nb\t\"\\/", "\u{202e}x", "\u{ffff}"]
    {
        let quoted = json!(text).to_string();
        put(&mut client, &format!(r#"{{"key":{quoted},"value":{quoted},"timestamp":1}}"#));
        assert_eq!(client.floor(text, 1), quoted);
    }
    // Escapes are another spelling of the same key and value.
    put(
        &mut client,
        r#"{"key":"\u0061\ud83d\ude00","value":"\u0061\/\ud83d\ude00","timestamp":1}"#,
    );
    assert_eq!(client.floor("a😀", 1), r#""a/😀""#);
    assert_eq!(client.floor("a", 1), "null", "a prefix is another key");
}

#[test]
fn objects_and_arrays_come_back_as_they_were_written() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
    for (sent, stored) in [
        ("{}", "{}"),
        ("[ ]", "[]"),
        (
            "{ \"b\" : 1.50, \"a\":\t-0, \"a\":[1E5, \"x  y\", null, true] }",
            r#"{"b":1.50,"a":-0,"a":[1E5,"x  y",null,true]}"#,
        ),
        ("[123456789012345678901234567890.000]", "[123456789012345678901234567890.000]"),
        (r#"{"ключ":"😀"}"#, r#"{"ключ":"😀"}"#),
        (&deep, &deep),
    ] {
        put(&mut client, &format!(r#"{{"key":"k","value":{sent},"timestamp":1}}"#));
        assert_eq!(client.floor("k", 1), stored);
    }
}

#[test]
fn timestamps_are_any_i64_however_spelt() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let (min, max) = (i64::MIN.to_string(), i64::MAX.to_string());
    for (sent, timestamp) in [
        ("-9223372036854775808", i64::MIN),
        ("\"-9223372036854775807\"", i64::MIN + 1),
        ("-100", -100),
        ("false", 0),
        ("true", 1),
        ("2.0", 2),
        ("3e0", 3),
        (r#"" 7 ""#, 7),
        (r#""+8""#, 8),
        (r#""1_000""#, 1000),
        ("9007199254740993.0", 9_007_199_254_740_993),
        ("9223372036854775807", i64::MAX),
    ] {
        let body = format!(r#"{{"key":"k","value":"at {timestamp}","timestamp":{sent}}}"#);
        put(&mut client, &body);
        let answer = client.send("GET", "/", format!(r#"{{"key":"k","timestamp":{sent}}}"#));
        assert_eq!(answer.body, format!("\"at {timestamp}\"\n"), "{sent}");
        assert_eq!(client.floor("k", timestamp), format!("\"at {timestamp}\""), "{sent}");
    }
    for (asked, found) in [
        (min.as_str(), min.as_str()),
        ("-9223372036854775806", "-9223372036854775807"),
        ("-101", "-9223372036854775807"),
        ("-1", "-100"),
        ("999", "8"),
        ("9223372036854775806", "9007199254740993"),
        (&max, &max),
    ] {
        let answer = client.send("GET", &format!("/?key=k&timestamp={asked}"), "");
        assert_eq!(answer.body, format!("\"at {found}\"\n"), "{asked}");
    }
}

#[test]
fn missing_fields_are_named_and_nothing_is_stored() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    for body in [
        "{}",
        r#"{"key":"k"}"#,
        r#"{"key":"k","value":"v"}"#,
        r#"{"key":"k","timestamp":1}"#,
        r#"{"value":"v","timestamp":1}"#,
        r#"{"Key":"k","value":"v","timestamp":1}"#,
    ] {
        let answer = client.send("PUT", "/", body);
        refused(&answer, 400, "Missing required fields: key, value, timestamp");
    }
    for body in ["{}", r#"{"key":"k"}"#, r#"{"timestamp":1}"#, r#"{"value":"v"}"#] {
        refused(&client.send("GET", "/", body), 400, "Missing required fields: key, timestamp");
    }
    for target in ["/", "/?", "/?key=k", "/?timestamp=1", "/?k=k&t=1"] {
        refused(&client.send("GET", target, ""), 400, "Missing required fields: key, timestamp");
    }
    fixture.expect_nothing_stored();
}

#[test]
fn wrong_types_are_refused_and_nothing_is_stored() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    for timestamp in [
        "1.5",
        "-0.1",
        "1e19",
        "9223372036854775808",
        "-9223372036854775809",
        "null",
        "{}",
        "[1]",
        r#""""#,
        r#""1.0""#,
        r#""soon""#,
        r#""1__0""#,
        r#""9223372036854775808""#,
    ] {
        let body = format!(r#"{{"key":"k","value":"v","timestamp":{timestamp}}}"#);
        for method in ["PUT", "GET"] {
            let answer = client.send(method, "/", body.clone());
            refused(&answer, 400, "Invalid data types: timestamp must be ");
        }
    }
    for key in ["{}", "[]", r#"{"a":1}"#] {
        let body = format!(r#"{{"key":{key},"value":"v","timestamp":1}}"#);
        for method in ["PUT", "GET"] {
            refused(&client.send(method, "/", body.clone()), 400, "Invalid data types: key must ");
        }
    }
    for body in ["[]", "\"text\"", "1", "null"] {
        for method in ["PUT", "GET"] {
            refused(&client.send(method, "/", body), 400, "Invalid data types: the body must be");
        }
    }
    for timestamp in ["", "1.5", "soon", "9223372036854775808"] {
        let answer = client.send("GET", &format!("/?key=k&timestamp={timestamp}"), "");
        refused(&answer, 400, "Invalid data types: timestamp must be ");
    }
    fixture.expect_nothing_stored();
}

#[test]
fn bodies_that_are_not_json_are_refused_and_nothing_is_stored() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = format!(r#"{{"key":"k","value":{deep},"timestamp":1}}"#);
    for body in [
        "{",
        "hello",
        "key=k&value=v&timestamp=1",
        "{'key':'k','value':'v','timestamp':1}",
        r#"{"key":"k","value":NaN,"timestamp":1}"#,
        r#"{"key":"k","value":"v","timestamp":1}{}"#,
        r#"{"key":"\ud800","value":"v","timestamp":1}"#,
        r#"{"key":"k","value":"v","timestamp":01}"#,
        &deep,
    ] {
        refused(&client.send("PUT", "/", body.to_owned()), 400, "Invalid JSON: ");
    }
    refused(&client.send("PUT", "/", ""), 400, "Invalid JSON: the body is empty");
    refused(&client.send("GET", "/", "{"), 400, "Invalid JSON: ");
    let not_text = b"{\"key\":\"\xff\",\"value\":1,\"timestamp\":1}".as_slice();
    refused(&client.send("PUT", "/", not_text), 400, "Invalid JSON: the body is not UTF-8 text");
    let gzip = client.send_with("PUT", "/", &[("content-encoding", "gzip")], "{}");
    refused(&gzip, 415, "Content-Encoding gzip");
    fixture.expect_nothing_stored();
}

#[test]
fn any_content_type_is_taken() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    for content_type in [
        "application/json; charset=utf-8",
        "application/x-www-form-urlencoded",
        "text/plain",
        "multipart/form-data; boundary=x",
        "nonsense",
        "",
    ] {
        let headers = [("content-type", content_type)];
        let body = json!({"key":"k","value":content_type,"timestamp":1}).to_string();
        assert_eq!(client.send_with("PUT", "/", &headers, body).status, 200, "{content_type}");
        let answer = client.send_with("GET", "/", &headers, r#"{"key":"k","timestamp":1}"#);
        assert_eq!(answer.body, format!("{}\n", json!(content_type)));
    }
}

#[test]
fn a_query_is_percent_decoded() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    for (key, query) in [
        ("a b+c&d=e", "/?key=a+b%2Bc%26d%3De&timestamp=1"),
        ("a b+c&d=e", "/?timestamp=%2B1&key=a%20b%2bc%26d=e"),
        ("ключ", "/?key=%D0%BA%D0%BB%D1%8E%D1%87&timestamp=1"),
        ("/?#%", "/?key=/?%23%25&timestamp=1"),
        ("", "/?key=&timestamp=1"),
        ("twice", "/?key=once&key=twice&timestamp=0&timestamp=1&other=x"),
        ("\u{0}", "/?key=%00&timestamp=1"),
    ] {
        put(&mut client, &json!({"key":key,"value":query,"timestamp":1}).to_string());
        let answer = client.send("GET", query, "");
        assert_eq!(answer.body, format!("{}\n", json!(query)), "{query}");
    }
    let not_text = client.send("GET", "/?key=%ff&timestamp=1", "");
    refused(&not_text, 400, "Invalid query");
    // Where both are there, the body counts.
    put(&mut client, r#"{"key":"body","value":"body","timestamp":1}"#);
    let both = client.send("GET", "/?key=twice&timestamp=1", r#"{"key":"body","timestamp":1}"#);
    assert_eq!(both.body, "\"body\"\n");
    // A query says nothing about a put.
    let answer = client.send("PUT", "/?key=k&value=v&timestamp=1", "");
    refused(&answer, 400, "Invalid JSON: the body is empty");
}

#[test]
fn methods_and_paths() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let (root, page) = ("GET, HEAD, PUT, OPTIONS", "GET, HEAD, OPTIONS");
    for (path, allow) in
        [("/", root), ("/ui", page), ("/livez", page), ("/readyz", page), ("/version", page)]
    {
        let answer = client.send("OPTIONS", path, "");
        assert_eq!((answer.status, answer.header("allow")), (204, allow), "{path}");
        for method in ["POST", "DELETE", "PATCH", "TRACE", "BREW"] {
            let answer = client.send(method, path, "");
            if path == "/" {
                refused(&answer, 405, "Method not allowed");
            } else {
                problem(&answer, 405, "method_not_allowed");
            }
            assert_eq!(answer.header("allow"), allow, "{method} {path}");
        }
    }
    assert_eq!(client.send("PUT", "/livez", "{}").status, 405);
    for path in ["/nothing", "/ui/x", "/livez/x", "//", "/%2e%2e/etc/passwd", "/v0/kv/k", "/index"]
    {
        for method in ["GET", "PUT", "OPTIONS", "DELETE"] {
            problem(&client.send(method, path, ""), 404, "unknown_path");
        }
    }
}

#[test]
fn head_is_get_without_the_body() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    put(&mut client, r#"{"key":"k","value":"value","timestamp":1}"#);
    for target in ["/?key=k&timestamp=1", "/?key=k&timestamp=0", "/", "/ui", "/livez", "/nothing"] {
        let (get, head) = (client.send("GET", target, ""), client.send("HEAD", target, ""));
        assert_eq!((head.status, head.body.as_str()), (get.status, ""), "{target}");
        for header in ["content-type", "content-length"] {
            assert_eq!(head.header(header), get.header(header), "{target} {header}");
        }
    }
}

#[test]
fn a_browser_is_sent_to_the_page_unless_it_asks_something() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let browser = [("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")];
    let answer = client.send_with("GET", "/", &browser, "");
    assert_eq!((answer.status, answer.header("location")), (303, "/ui"));
    let answer = client.send_with("GET", "/?key=k&timestamp=1", &browser, "");
    assert_eq!((answer.status, answer.body.as_str()), (200, "null\n"));
    let answer = client.send_with("GET", "/", &browser, r#"{"key":"k","timestamp":1}"#);
    assert_eq!((answer.status, answer.body.as_str()), (200, "null\n"));
    let answer = client.send_with("GET", "/?key=k", &browser, "");
    refused(&answer, 400, "Missing required fields: key, timestamp");
    let answer = client.send_with("GET", "/", &[("accept", "*/*")], "");
    refused(&answer, 400, "Missing required fields: key, timestamp");

    let page = client.send_with("GET", "/ui", &browser, "");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.body.starts_with("<!doctype html>") && page.body.ends_with("</html>\n"));
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    for elsewhere in ["src=\"http", "href=\"http", "//cdn"] {
        assert!(!page.body.contains(elsewhere), "the page loads {elsewhere}");
    }
}

#[test]
fn the_probes() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    assert_eq!(client.send("GET", "/livez", "").body, "ok\n");
    let ready = client.send("GET", "/readyz", "");
    assert_eq!(ready.status, 200);
    let ready: Value = serde_json::from_str(&ready.body).unwrap();
    assert_eq!(ready, json!({"ready":true,"durability":"sync"}));
    let version: Value = serde_json::from_str(&client.send("GET", "/version", "").body).unwrap();
    assert_eq!(version["name"], "kvtimedb");
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["limits"]["key_bytes_max"], KEY_BYTES_MAX);
    assert_eq!(version["limits"]["body_bytes_max"], 64 << 20);

    let dir = TempDir::new().unwrap();
    let buffered = Server::start(dir.path(), &["--durability", "buffered"]);
    let ready = buffered.connect().send("GET", "/readyz", "").body;
    let ready: Value = serde_json::from_str(&ready).unwrap();
    assert_eq!(ready, json!({"ready":true,"durability":"buffered","loss_window_ms":1000}));
}

#[test]
fn keys_have_a_limit() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    // The limit is one of bytes, not of characters.
    let longest = "é".repeat(KEY_BYTES_MAX / 2);
    assert_eq!(client.put(&longest, 1, "1").unwrap().status, 200);
    assert_eq!(client.floor(&longest, 1), r#""1""#);
    let longer = longest + "x";
    refused(&client.put(&longer, 1, "1").unwrap(), 400, "The key is too large");
    let answer = client.send("GET", "/", json!({"key":longer,"timestamp":1}).to_string());
    refused(&answer, 400, "The key is too large");
}

#[test]
fn a_refused_put_leaves_what_was_there() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    put(&mut client, r#"{"key":"k","value":"kept","timestamp":1}"#);
    for body in [
        r#"{"key":"k","value":"lost","timestamp":1.5}"#,
        r#"{"key":"k","value":"lost","timestamp":1"#,
        r#"{"key":"k","value":"lost"}"#,
        r#"{"key":["k"],"value":"lost","timestamp":1}"#,
    ] {
        assert_eq!(client.send("PUT", "/", body).status, 400);
        assert_eq!(client.floor("k", LATEST), r#""kept""#, "{body}");
    }
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let value = r#"{"n":1.50,"s":"é"}"#;
    for timestamp in [i64::MIN, -1, 0, 7, i64::MAX] {
        assert_eq!(client.put("k", timestamp, value).unwrap().status, 200);
    }
    put(&mut client, r#"{"key":"k","value":"replaced","timestamp":7}"#);
    drop(client);
    let Fixture { mut server, dir } = fixture;
    // The first ends in order, the second by a crash, the third has something to recover.
    for crash in [false, true, false] {
        if crash {
            server.kill();
        } else {
            assert_eq!(server.stop().code, Some(0));
        }
        server = Server::start(dir.path(), &[]);
        let mut client = server.connect();
        for (timestamp, expected) in
            [(i64::MIN, value), (-2, value), (6, value), (8, r#""replaced""#), (LATEST, value)]
        {
            assert_eq!(client.floor("k", timestamp), expected, "{timestamp}");
        }
        assert_eq!(client.put("another", 1, "1").unwrap().status, 200);
    }
}
