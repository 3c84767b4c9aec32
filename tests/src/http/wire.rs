//! What happens on the connection: framing of bodies, limits, pipelining, clients that leave.

use super::*;

#[test]
fn bodies_may_be_chunked_and_announced() {
    let fixture = Fixture::new();
    let chunked = |method: &str, pieces: &[&str]| {
        let head = format!("{method} / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunks = pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len()));
        fixture.server.exchange(head + &chunks.collect::<String>() + "0\r\n\r\n")
    };
    let answer = chunked("PUT", &["{\"key\":\"k\",\"val", "ue\":\"v", "\",\"timestamp\":1}"]);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let answer = chunked("GET", &["{\"key\":\"k\",", "\"timestamp\":1}"]);
    assert!(answer.ends_with("\r\n\r\n\"v\"\n"), "{answer}");

    let body = r#"{"key":"k","value":"announced","timestamp":1}"#;
    let mut stream = fixture.server.raw_connect();
    let head = format!(
        "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert_eq!(fixture.connect().floor("k", 1), r#""announced""#);
}

#[test]
fn a_body_that_ends_early_is_not_a_write() {
    let fixture = Fixture::new();
    let body = r#"{"key":"k","value":"v","timestamp":1}"#;
    let head = |len: usize| format!("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n");
    // All of the JSON arrives, and less than was announced.
    let answer = fixture.server.exchange(head(body.len() + 1) + body);
    assert!(!answer.contains(" 200 "), "{answer}");
    // As much as was announced arrives, which is not all of the JSON.
    let answer = fixture.server.exchange(head(body.len() - 1) + body);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    fixture.expect_nothing_stored();
}

#[test]
fn bodies_have_a_limit() {
    const LIMIT: usize = 64 << 20;
    let fixture = Fixture::new();
    let announced = format!(
        "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        LIMIT + 1
    );
    let answer = fixture.server.exchange(announced);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains(&format!("the limit is {LIMIT} bytes")), "{answer}");

    // A chunked body says its length by and by.
    let head = "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(1 << 20));
    let mut stream = fixture.server.raw_connect();
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..=LIMIT >> 20 {
        stream.write_all(chunk.as_bytes()).unwrap();
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");

    let mut client = fixture.connect();
    let large = format!("\"{}\"", "v".repeat(8 << 20));
    assert_eq!(client.put("large", 1, &large).unwrap().status, 200);
    assert!(client.floor("large", 1) == large);
}

#[test]
fn heads_have_a_limit() {
    let fixture = Fixture::new();
    let many = "X: y\r\n".repeat(65);
    let answer = fixture.server.exchange(format!("GET /livez HTTP/1.1\r\nHost: x\r\n{many}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let long = "x".repeat(70_000);
    let answer = fixture.server.exchange(format!("GET /?key={long} HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    let answer = fixture.server.exchange("this is not HTTP\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(fixture.connect().send("GET", "/livez", "").status, 200);
}

#[test]
fn one_connection_serves_many_requests_in_order() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    for timestamp in 0..100 {
        assert_eq!(client.put("k", timestamp, &timestamp.to_string()).unwrap().status, 200);
        // A refusal doesn't end the connection.
        refused(&client.send("PUT", "/", "{}"), 400, "Missing");
        assert_eq!(client.floor("k", LATEST), format!("\"{timestamp}\""));
    }

    // All are sent before the first answer is read.
    let requests = (0..50).map(|n| {
        let body = format!(r#"{{"key":"pipelined","value":"<{n}>","timestamp":{n}}}"#);
        let len = body.len();
        format!(
            "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n{body}\
             GET /?key=pipelined&timestamp=99 HTTP/1.1\r\nHost: x\r\n\r\n"
        )
    });
    let answers = fixture.server.exchange(requests.collect::<Vec<_>>().concat());
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 100, "{answers}");
    let values: Vec<&str> = answers.lines().filter(|line| line.starts_with("\"<")).collect();
    let expected: Vec<String> = (0..50).map(|n| format!("\"<{n}>\"")).collect();
    assert_eq!(values, expected);
}

#[test]
fn old_clients_and_those_that_close_are_served() {
    let fixture = Fixture::new();
    let old = fixture.server.exchange("GET /?key=k&timestamp=1 HTTP/1.0\r\n\r\n");
    assert!(old.contains(" 200 OK\r\n") && old.ends_with("\r\n\r\nnull\n"), "{old}");
    let closing = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let closing = fixture.server.exchange(closing);
    assert!(closing.contains("connection: close\r\n"), "{closing}");
}
