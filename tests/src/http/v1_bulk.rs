//! Import, export and many lookups: every format and compression against the oracle, what is no row, and
//! the memory that an import takes.
//!
//! `KVTIMEDB_IMPORT_GB` is how much the import of the last test sends; without it, little.

use std::fmt::Write as _;

use fastrand::Rng;
use flate2::Compression;
use flate2::write::GzEncoder;
use kvtimedb_engine::{Timestamp, ValueType};

use super::*;
use crate::common::setting;
use crate::oracle::{Change, Op, Oracle, batch};

const FORMATS: [&str; 3] = ["ndjson", "csv", "arrow"];

/// Sends a request of one connection, and returns the status and the body as it was sent.
fn send(server: &Server, method: &str, target: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = server.raw_connect();
    let head = format!(
        "{method} {target} HTTP/1.0\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, answer.split_off(end))
}

fn some_ops(rng: &mut Rng) -> Vec<Op> {
    let some_op = |_| {
        let key = format!("k{}", rng.u8(..20));
        let change = match rng.u8(..10) {
            0 => Change::End,
            1 => Change::Put(ValueType::Text, format!("a,\n\"{}", rng.u32(..)).into_bytes()),
            2 => Change::Erase,
            3 => Change::Put(ValueType::Octets, (0..rng.usize(..9)).map(|_| rng.u8(..)).collect()),
            _ => Change::Put(ValueType::Json, format!("\"a,{}\"", rng.u32(..)).into_bytes()),
        };
        Op { key: key.into_bytes(), ts: rng.i64(-50..50), change }
    };
    (0..500).map(some_op).collect()
}

/// An export brings another database to the same answers, in every format and compression, also when it is
/// imported again.
#[test]
fn what_is_exported_is_imported_again() {
    let ops = some_ops(&mut Rng::with_seed(3));
    let oracle = Oracle::of(&ops);
    let source = TempDir::new().unwrap();
    let db = Db::open(source.path(), Options::default()).unwrap();
    for (number, some) in ops.chunks(100).enumerate() {
        db.write(batch(some)).unwrap();
        if number < 3 {
            db.flush().unwrap();
        }
    }
    db.close().unwrap();
    let source = Server::start(source.path(), &[]);
    let state = send(&source, "GET", "/v1/export?at=7", "", b"").1;
    assert_eq!(state.split_inclusive(|&byte| byte == b'\n').count(), oracle.scan(7).len());
    for format in FORMATS {
        for encoding in ["identity", "gzip", "zstd"] {
            let accept = format!("Accept-Encoding: {encoding}\r\n");
            let target = format!("/v1/export?format={format}");
            let (status, exported) = send(&source, "GET", &target, &accept, b"");
            assert_eq!(status, 200);
            let fixture = Fixture::new();
            let sent = format!("Content-Encoding: {encoding}\r\n");
            let target = format!("/v1/import?format={format}");
            for _ in 0..2 {
                let (status, answer) = send(&fixture.server, "POST", &target, &sent, &exported);
                let answer: Value = serde_json::from_slice(&answer).unwrap();
                assert_eq!((status, &answer["skipped"]), (200, &json!(0)), "{answer}");
                assert_eq!(answer["rows"], answer["imported"]);
            }
            assert_eq!(fixture.server.stop().code, Some(0));
            let db = Db::open(fixture.dir.path(), Options::default()).unwrap();
            oracle.assert_answers(&db, format_args!("{format} {encoding}"));
        }
    }
}

#[test]
fn rows_that_are_none_end_an_import_or_are_left_out() {
    let fixture = Fixture::new();
    let row = |ts: usize| format!("{{\"key\":\"k\",\"ts\":{ts},\"value\":{ts}}}\n");
    let lines: String =
        (1..=300).map(|ts| if ts % 2 == 0 { "{}\n".to_owned() } else { row(ts) }).collect();
    let import = |query: &str, headers: &str, body: &[u8]| {
        let target = format!("/v1/import?{query}");
        let (status, answer) = send(&fixture.server, "POST", &target, headers, body);
        (status, serde_json::from_slice::<Value>(&answer).unwrap())
    };
    let (status, answer) = import("format=ndjson", "", lines.as_bytes());
    assert_eq!((status, answer["errors"][0]["pointer"].as_str()), (400, Some("/body/2")));
    assert!(answer["detail"].as_str().unwrap().contains("the 1 rows before are imported"));
    assert_eq!(fixture.connect().floor("k", LATEST), "1");

    let (status, answer) = import("format=ndjson&on_error=skip", "", lines.as_bytes());
    assert_eq!((status, &answer["rows"], &answer["imported"]), (200, &json!(300), &json!(150)));
    let errors = answer["errors"].as_array().unwrap();
    assert_eq!((errors.len(), errors[99]["line"].as_u64()), (100, Some(200)));
    assert_eq!(fixture.connect().floor("k", LATEST), "299");

    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(row(7).repeat(1000).as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    for (query, headers, body, status, expected) in [
        (
            "format=ndjson",
            "Content-Encoding: gzip\r\n",
            &gzip[..gzip.len() - 9],
            400,
            "decompressed",
        ),
        ("format=ndjson", "Content-Encoding: zstd\r\n", &gzip[..], 400, "decompressed"),
        ("format=ndjson", "Content-Encoding: br\r\n", &gzip[..], 415, "br is not supported"),
        ("format=arrow", "", &gzip[..], 400, "does not begin as one does"),
        ("format=csv", "", b"key,value\n", 400, "no column `ts`"),
        ("format=xml", "", b"", 400, "ndjson, csv, arrow"),
        ("", "", b"", 415, "format is not known"),
        ("format=csv&on_eror=skip", "", b"", 400, "no such parameter"),
    ] {
        let (got, answer) = import(query, headers, body);
        assert_eq!(got, status, "{query} {answer}");
        assert!(answer["detail"].as_str().unwrap().contains(expected), "{query} {answer}");
    }
    let (status, answer) = import("format=ndjson", "Content-Encoding: gzip\r\n", &gzip);
    assert_eq!((status, &answer["rows"]), (200, &json!(1000)));
}

/// The answers to lookups in every form are those of the oracle, in the order of the questions.
#[test]
fn many_lookups_are_answered_in_their_order() {
    let mut rng = Rng::with_seed(5);
    let ops = some_ops(&mut rng);
    let oracle = Oracle::of(&ops);
    let dir = TempDir::new().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    db.write(batch(&ops)).unwrap();
    db.close().unwrap();
    let server = Server::start(dir.path(), &[]);
    let lookups: Vec<(String, Timestamp)> =
        (0..3000).map(|_| (format!("k{}", rng.u8(..22)), rng.i64(-60..60))).collect();
    let floors = lookups.iter().map(|(key, at)| oracle.floor(key.as_bytes(), *at).map(|e| e.ts));
    let floors: Vec<Option<Timestamp>> = floors.collect();

    let lines = lookups.iter().fold(String::new(), |mut lines, (key, at)| {
        writeln!(lines, "{}", json!({"key": key, "at": at})).unwrap();
        lines
    });
    let headers = "Content-Type: application/x-ndjson\r\n";
    let (status, answer) = send(&server, "POST", "/v1/asof", headers, lines.as_bytes());
    assert_eq!(status, 200);
    let answers = std::str::from_utf8(&answer).unwrap().lines();
    let answers: Vec<Value> = answers.map(|line| serde_json::from_str(line).unwrap()).collect();
    check(&answers, &lookups, &floors);

    let asked: Vec<Value> =
        lookups.iter().map(|(key, at)| json!({"key": key, "at": at.to_string()})).collect();
    let body = json!({ "lookups": asked }).to_string();
    let (_, answer) = send(&server, "POST", "/v1/asof", "", body.as_bytes());
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    check(answer["results"].as_array().unwrap(), &lookups, &floors);

    let keys: Vec<_> = lookups.iter().map(|(key, _)| key).collect();
    let at: Vec<_> = lookups.iter().map(|(_, at)| at).collect();
    let body = json!({"key": keys, "at": at, "max_age": 3}).to_string();
    let (_, answer) = send(&server, "POST", "/v1/asof", "", body.as_bytes());
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let young = |number: usize| floors[number].filter(|ts| lookups[number].1 - ts <= 3);
    let expected: Vec<_> = (0..lookups.len()).map(young).collect();
    assert_eq!(answer["ts"], json!(expected));
    for (body, expected) in [
        (json!({"key": ["a"], "at": []}), "there are 0 of them for 1 keys"),
        (json!({"key": ["a"], "at": [1.5]}), "neither an integer"),
        (json!({"lookups": [], "mode": "newest"}), "none of floor"),
        (json!({"lookups": vec![json!({"key": "k"}); 10_001]}), "the limit is 10000"),
        (json!([]), "/body"),
    ] {
        let (status, answer) = send(&server, "POST", "/v1/asof", "", body.to_string().as_bytes());
        let answer = String::from_utf8(answer).unwrap();
        assert!(status == 400 && answer.contains(expected), "{answer}");
    }
}

fn check(answers: &[Value], lookups: &[(String, Timestamp)], floors: &[Option<Timestamp>]) {
    assert_eq!(answers.len(), lookups.len());
    for ((answer, (key, at)), ts) in answers.iter().zip(lookups).zip(floors) {
        assert_eq!((&answer["key"], &answer["at"]), (&json!(key), &json!(at)));
        assert_eq!((answer["found"].as_bool(), answer["ts"].as_i64()), (Some(ts.is_some()), *ts));
    }
}

/// An import of any size takes no more memory than the memtables and some batches.
#[test]
fn a_long_import_takes_little_memory() {
    const GROWTH_KIB_MAX: u64 = 256 << 10;
    let bytes = (setting("KVTIMEDB_IMPORT_GB", 0_u64) << 30).max(24 << 20);
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path(), &["--durability", "buffered"]);
    let resident = || {
        let status = format!("/proc/{}/status", server.process_id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = resident();
    let mut stream = server.raw_connect();
    let head =
        "POST /v1/import?format=ndjson HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let (mut sent, mut rows, mut most) = (0, 0, before);
    while sent < bytes {
        let lines = (0..10_000).fold(String::new(), |mut lines, row| {
            let (key, ts) = (row % 997, rows + row);
            writeln!(lines, r#"{{"key":"sensor/{key}","ts":{ts},"value":{}}}"#, ts % 1013).unwrap();
            lines
        });
        write!(stream, "{:x}\r\n{lines}\r\n", lines.len()).unwrap();
        sent += lines.len() as u64;
        rows += 10_000;
        most = most.max(resident());
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    let mut answer = vec![0; 4096];
    let len = stream.read(&mut answer).unwrap();
    let answer = String::from_utf8(answer[..len].to_vec()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains(&format!("\"imported\":{rows}")), "{answer}");
    let growth = most.max(resident()) - before;
    assert!(growth <= GROWTH_KIB_MAX, "grew by {growth} KiB while {sent} bytes came");
}

/// A client that reads nothing of an export has it broken off, and the server serves on.
#[test]
fn an_export_that_nobody_reads_is_no_burden() {
    let fixture = Fixture::new();
    let value = "v".repeat(100_000);
    let line = |ts| format!("{{\"key\":\"k\",\"ts\":{ts},\"value\":\"{value}\"}}\n");
    let lines = (0..400).map(line).collect::<Vec<_>>().concat();
    let (status, _) =
        send(&fixture.server, "POST", "/v1/import?format=ndjson", "", lines.as_bytes());
    assert_eq!(status, 200);
    let stopped: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = fixture.server.raw_connect();
            stream.write_all(b"GET /v1/export HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            stream
        })
        .collect();
    let (status, all) = send(&fixture.server, "GET", "/v1/export", "", b"");
    assert_eq!((status, all.len()), (200, lines.len()));
    drop(stopped);
}
