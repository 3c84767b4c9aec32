//! The watch of `/v1` against the real server: every acknowledged write is told once, in the order of the
//! commits, whatever happens to the connection, the files and the process in between.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::*;
use crate::common::server::HANGS_AFTER;
use crate::oracle::{Op, batch};

/// So small that there are flushes and merges all the time.
const SMALL: [&str; 2] = ["--memtable-size", "256KiB"];

/// A connection that watches.
struct Watcher {
    input: BufReader<TcpStream>,
    /// What a browser would resume with.
    last_id: String,
}

#[derive(Debug, PartialEq)]
struct Event {
    name: String,
    id: u64,
    data: Value,
}

impl Watcher {
    /// Begins to watch, and returns the status if it may not. The answer to an HTTP/1.0 request is not cut
    /// into chunks.
    fn try_begin(server: &Server, query: &str, last_id: Option<&str>) -> Result<Watcher, u16> {
        let mut stream = server.raw_connect();
        stream.set_read_timeout(Some(HANGS_AFTER)).unwrap();
        let header = last_id.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        write!(stream, "GET /v1/watch?{query} HTTP/1.0\r\nHost: x\r\n{header}\r\n").unwrap();
        let mut watcher = Watcher { input: BufReader::new(stream), last_id: String::new() };
        let status = watcher.line().unwrap();
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        while watcher.line().is_some_and(|line| !line.is_empty()) {}
        if status == 200 { Ok(watcher) } else { Err(status) }
    }

    fn begin(server: &Server, query: &str, last_id: Option<&str>) -> Watcher {
        Watcher::try_begin(server, query, last_id).unwrap()
    }

    /// Without its end; `None` when the server has ended the answer.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        // A server that was killed resets the connection.
        let read = self.input.read_line(&mut line).unwrap_or(0);
        (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// The next event, comments and blocks without data passed over.
    fn next(&mut self) -> Option<Event> {
        let (mut name, mut data, mut id) = (String::new(), String::new(), String::new());
        loop {
            let line = self.line()?;
            match line.split_once(": ") {
                Some(("event", value)) => value.clone_into(&mut name),
                Some(("data", value)) => value.clone_into(&mut data),
                Some(("id", value)) => value.clone_into(&mut id),
                Some(("", _comment)) => {}
                None if line.is_empty() => {
                    if !id.is_empty() {
                        self.last_id.clone_from(&id);
                    }
                    if !data.is_empty() {
                        let data = serde_json::from_str(&data).unwrap();
                        return Some(Event { name, id: id.parse().unwrap_or(0), data });
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn expect(&mut self, count: usize) -> Vec<Event> {
        (0..count).map(|_| self.next().unwrap()).collect()
    }
}

/// A database that these operations have filled, one a batch.
fn fill(dir: &Path, ops: &[Op]) {
    let options = Options { feed_bytes_max: 1 << 30, ..Options::default() };
    let db = Db::open(dir, options).unwrap();
    for op in ops {
        db.write(batch(std::slice::from_ref(op))).unwrap();
    }
    db.close().unwrap();
}

#[test]
fn events_say_what_was_written() {
    let dir = TempDir::new().unwrap();
    let ops = [
        Op::json("a", 7, "{\"n\":\n1}"),
        Op::end("a", 8),
        Op::erase("a/b", -7),
        Op::put("b", 1, b"\xff"),
    ];
    fill(dir.path(), &ops);
    let server = Server::start(dir.path(), &[]);
    let mut watcher = Watcher::begin(&server, "since=0", None);
    let event = |name: &str, id, data| Event { name: name.to_owned(), id, data };
    let expected = [
        event("put", 1, json!({"key": "a", "ts": 7, "value": {"n": 1}, "seq": 1})),
        event("end", 2, json!({"key": "a", "ts": 8, "value": null, "seq": 2})),
        event("erase", 3, json!({"key": "a/b", "ts": -7, "value": null, "seq": 3})),
        event("put", 4, json!({"key": "b", "ts": 1, "value_base64": "/w==", "seq": 4})),
    ];
    assert_eq!(watcher.expect(4), expected);

    let ids = |query: &str, last_id, count| -> Vec<u64> {
        let events = Watcher::begin(&server, query, last_id).expect(count);
        events.into_iter().map(|event| event.id).collect()
    };
    assert_eq!(ids("since=0&key=a", None, 2), [1, 2]);
    assert_eq!(ids("since=0&prefix=a", None, 3), [1, 2, 3]);
    assert_eq!(ids("since=1&prefix=a%2F", None, 1), [3]);
    assert_eq!(ids("since=0", Some("2"), 2), [3, 4], "what is resumed wins");

    // Without either it begins now, and who saw nothing that it asked for knows how far it got.
    let mut now = Watcher::begin(&server, "key=c", None);
    assert_eq!((now.line().unwrap(), now.line().unwrap()), (": so far".into(), "id: 4".into()));
    let mut client = server.connect();
    put(&mut client, r#"{"key": "b", "value": 1, "timestamp": 2}"#);
    put(&mut client, r#"{"key": "c", "value": "x", "timestamp": 2}"#);
    let event = now.next().unwrap();
    assert_eq!((event.id, &event.data["value"]), (6, &json!("x")));
    assert_eq!(watcher.expect(2)[1], event);
}

#[test]
fn what_can_not_be_watched_is_refused() {
    let dir = TempDir::new().unwrap();
    fill(dir.path(), &[Op::put("a", 1, "x"), Op::put("a", 2, "y")]);
    let server = Server::start(dir.path(), &["--feed-size", "0"]);
    let mut client = server.connect();
    for (query, status, code) in [
        ("since=0", 410, "trimmed"),
        ("since=3", 410, "unwritten"),
        ("since=18446744073709551615", 410, "unwritten"),
        ("since=-1", 400, "invalid_request"),
        ("since=", 400, "invalid_request"),
        ("key=a&prefix=a", 400, "invalid_request"),
        ("keys=a", 400, "invalid_request"),
    ] {
        let answer = client.send("GET", &format!("/v1/watch?{query}"), "");
        problem(&answer, status, code);
    }
    for (last_id, status) in [("0", 410), ("x", 400), ("2 ", 200), ("", 200)] {
        let begun = Watcher::try_begin(&server, "since=2", Some(last_id));
        assert_eq!(begun.err().unwrap_or(200), status, "{last_id}");
    }
    assert_eq!(client.send("HEAD", "/v1/watch?since=2", "").status, 200);
}

/// Two who watch, of whom one resumes again and again, beside writers, flushes, merges, `kill -9` and
/// restarts.
#[test]
fn every_acknowledged_write_is_told_once_and_in_order() {
    let dir = TempDir::new().unwrap();
    let mut acknowledged: Vec<(String, i64)> = Vec::new();
    let mut told: Vec<Event> = Vec::new();
    let mut last_id = "0".to_owned();
    for round in 0..4 {
        let server = Server::start(dir.path(), &SMALL);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..2)
                .map(|writer| {
                    let (address, over) = (server.address(), &over);
                    scope.spawn(move || {
                        let mut client = Client::connect(address).unwrap();
                        let mut puts = Vec::new();
                        let key = format!("{writer}");
                        let value = format!("\"{}\"", "v".repeat(700));
                        for at in 0..50_000 {
                            let (ts, over) = (round * 100_000 + at, over.load(Ordering::Relaxed));
                            let Some(Ok(put)) = (!over).then(|| client.put(&key, ts, &value))
                            else {
                                break;
                            };
                            assert_eq!(put.status, 200, "{put:?}");
                            puts.push((key.clone(), ts));
                        }
                        puts
                    })
                })
                .collect();
            // Cut off and resumed, in the midst of what is being written.
            for _ in 0..5 {
                let mut watcher = Watcher::begin(&server, "", Some(&last_id));
                told.extend(watcher.expect(150));
                last_id = watcher.last_id;
            }
            if round % 2 == 0 {
                server.signal(Signal::KILL);
            }
            over.store(true, Ordering::Relaxed);
            for writer in writers {
                acknowledged.extend(writer.join().unwrap());
            }
        });
        let ended = if round % 2 == 0 { server.wait() } else { server.stop() };
        assert_eq!(ended.signal.is_some(), round % 2 == 0, "{ended:?}");
    }
    let server = Server::start(dir.path(), &SMALL);
    let mut watcher = Watcher::begin(&server, "", Some(&last_id));
    put(&mut server.connect(), r#"{"key": "last", "value": 1, "timestamp": 1}"#);
    loop {
        let event = watcher.next().unwrap();
        if event.data["key"] == "last" {
            break;
        }
        told.push(event);
    }
    assert!(told.iter().zip(1..).all(|(event, seq)| event.id == seq));
    let mut told: Vec<(String, i64)> = told
        .iter()
        .map(|event| {
            (event.data["key"].as_str().unwrap().into(), event.data["ts"].as_i64().unwrap())
        })
        .collect();
    told.sort_unstable();
    assert!(told.is_sorted_by(|a, b| a < b), "a write was told twice");
    // A kill may leave one of each writer committed and not acknowledged.
    let unacknowledged = told.len() - acknowledged.len();
    assert!(unacknowledged <= 4, "{unacknowledged}");
    let lost = acknowledged.iter().find(|write| told.binary_search(write).is_err());
    assert_eq!(lost, None);
}

#[test]
fn a_stop_ends_watches_at_once() {
    let Fixture { server, dir: _dir } = Fixture::new();
    let mut watchers: Vec<_> = (0..3).map(|_| Watcher::begin(&server, "", None)).collect();
    put(&mut server.connect(), r#"{"key": "a", "value": 1, "timestamp": 1}"#);
    for watcher in &mut watchers {
        assert_eq!(watcher.next().unwrap().id, 1);
    }
    // The drain would take ten seconds, and then cut them off.
    let began = std::time::Instant::now();
    assert_eq!(server.stop().code, Some(0));
    assert!(began.elapsed() < Duration::from_secs(9), "it waited for the watches");
    for watcher in &mut watchers {
        assert_eq!(watcher.next(), None);
    }
}

/// What is not taken is not made.
#[test]
fn clients_that_stop_reading_take_no_memory() {
    const WATCHERS: usize = 16;
    let dir = TempDir::new().unwrap();
    let ops: Vec<Op> =
        (0..32).map(|n| Op::json("k", n, format!("\"{}\"", "9".repeat(1 << 20)))).collect();
    fill(dir.path(), &ops);
    let server = Server::start(dir.path(), &[]);
    let resident_bytes = || -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.process_id()));
        let status = status.unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    };
    let before = resident_bytes();
    let mut watchers: Vec<_> =
        (0..WATCHERS).map(|_| Watcher::begin(&server, "since=0", None)).collect();
    // One reads, so that the others have had their time.
    assert_eq!(watchers[0].expect(32).len(), 32);
    let grown = resident_bytes().saturating_sub(before);
    // 512 MiB if all were made.
    assert!(grown < WATCHERS * (8 << 20), "{grown} bytes for clients that don't read");
    for watcher in &mut watchers[1..] {
        assert_eq!(watcher.expect(32).len(), 32);
    }
}

#[test]
fn there_may_be_so_many_watches_and_no_more() {
    const WATCHES_MAX: usize = 256;
    let Fixture { server, dir: _dir } = Fixture::new();
    let watchers: Vec<_> = (0..WATCHES_MAX).map(|_| Watcher::begin(&server, "", None)).collect();
    let refused = server.connect().send("GET", "/v1/watch", "");
    problem(&refused, 503, "overloaded");
    assert_eq!(refused.header("retry-after"), "1");
    drop(watchers);
    // A client that has gone is noticed at the next event.
    let mut client = server.connect();
    for ts in 0.. {
        assert_eq!(client.put("a", ts, "1").unwrap().status, 200);
        thread::sleep(Duration::from_millis(10));
        if Watcher::try_begin(&server, "", None).is_ok() {
            break;
        }
        assert!(ts < 1_000, "nobody makes room");
    }
}
