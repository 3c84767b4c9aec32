//! The reads of `/v1` against the real server: what they answer is what the oracle answers.

use std::collections::{BTreeMap, BTreeSet};

use kvtimedb_engine::{Entry, Lookup, Mode, Timestamp};

use super::*;
use crate::oracle::{Op, Oracle, batch};

/// Whether a range holds a key.
type Holds = fn(&str) -> bool;

const KEYS: [&str; 6] = ["", "a", "a/b", "a/ü +%", "b", "."];

/// A server on a database that these operations have filled.
fn filled(ops: &[Op], flags: &[&str]) -> Fixture {
    let dir = TempDir::new().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    for (at, ops) in ops.chunks(20).enumerate() {
        db.write(batch(ops)).unwrap();
        if at % 3 == 1 {
            db.flush().unwrap();
        }
    }
    db.close().unwrap();
    let server = Server::start(dir.path(), flags);
    Fixture { server, dir }
}

/// Puts, ends and erases of all [`KEYS`], some of them over others.
fn noisy() -> (Vec<Op>, Oracle) {
    let mut rng = fastrand::Rng::with_seed(19);
    let ops: Vec<Op> = (0..200)
        .map(|n| {
            let (key, ts) = (KEYS[rng.usize(..KEYS.len())], rng.i64(-20..20));
            match rng.u8(..10) {
                0 => Op::end(key, ts),
                1 => Op::erase(key, ts),
                2 => Op::put(key, ts, format!("octets {n}")),
                _ => Op::json(key, ts, format!("{{\"n\":{n}}}")),
            }
        })
        .collect();
    let oracle = Oracle::of(&ops);
    (ops, oracle)
}

/// Each byte of a key, percent-encoded.
fn encoded(key: &str) -> String {
    key.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"))
}

/// A path with the key in it, and with its first parameter.
fn target(call: &str, key: &str, query: &str) -> String {
    match key {
        "" => format!("/v1/{call}?key=&{query}"),
        _ => format!("/v1/{call}/{}?{query}", encoded(key)),
    }
}

#[track_caller]
fn get(client: &mut Client, target: &str) -> Value {
    let answer = client.send("GET", target, "");
    assert_eq!(answer.status, 200, "{target}: {answer:?}");
    assert_eq!(answer.header("content-type"), "application/json", "{target}");
    serde_json::from_str(answer.body.strip_suffix('\n').unwrap()).unwrap()
}

/// All items of all pages.
#[track_caller]
fn pages(client: &mut Client, target: &str, limit: usize) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(client, &format!("{target}&limit={limit}{cursor}"));
        let page_items = page["items"].as_array().unwrap();
        assert!(page_items.len() <= limit, "{page}");
        items.extend(page_items.iter().cloned());
        let Some(next) = page["next"].as_str() else { return items };
        assert!(!page_items.is_empty(), "{target}: an empty page that has a next one");
        cursor = format!("&cursor={next}");
    }
}

/// What a version looks like: its members, without braces.
fn shown(entry: &Entry) -> Value {
    let text = std::str::from_utf8(&entry.value).unwrap();
    match text.strip_prefix("octets ") {
        None => json!({"ts": entry.ts, "value": serde_json::from_str::<Value>(text).unwrap()}),
        Some(_) => json!({"ts": entry.ts, "value_base64": base64(&entry.value)}),
    }
}

/// Base64 of this test's own.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte))
            << (24 - 8 * chunk.len());
        for digit in 0..4 {
            let digit =
                (digit <= chunk.len()).then(|| DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]);
            text.push(digit.map_or('=', char::from));
        }
    }
    text
}

/// An object with the members of both.
fn joined(mut a: Value, b: Value) -> Value {
    let Value::Object(b) = b else { panic!("{b}") };
    a.as_object_mut().unwrap().extend(b);
    a
}

#[test]
fn every_lookup_is_the_oracles() {
    let (ops, oracle) = noisy();
    let fixture = filled(&ops, &[]);
    let mut client = fixture.connect();
    let modes = [
        ("floor", Mode::Floor),
        ("ceiling", Mode::Ceiling),
        ("exact", Mode::Exact),
        ("before", Mode::Before),
        ("after", Mode::After),
        ("nearest", Mode::Nearest),
    ];
    for key in KEYS.into_iter().chain(["missing"]) {
        for at in [Timestamp::MIN, -21, -20, -7, -6, -5, -1, 0, 3, 4, 18, 19, 20, Timestamp::MAX] {
            for (name, mode) in modes {
                for max_age in [None, Some(0), Some(3)] {
                    let expected = oracle.find(key.as_bytes(), Lookup { at, mode, max_age });
                    let max_age = max_age.map_or_else(String::new, |age| format!("&max_age={age}"));
                    let query = format!("at={at}&mode={name}{max_age}");
                    let answer = get(&mut client, &target("kv", key, &query));
                    let expected = match expected {
                        None => json!({"key":key,"found":false,"ts":null,"value":null}),
                        Some(entry) => joined(json!({"key":key,"found":true}), shown(&entry)),
                    };
                    assert_eq!(answer, expected, "{key:?} {query}");
                }
            }
        }
    }
}

#[test]
fn a_history_is_whole_whatever_its_pages() {
    let (ops, oracle) = noisy();
    let fixture = filled(&ops, &[]);
    let mut client = fixture.connect();
    for key in KEYS {
        for (from, to) in [(Timestamp::MIN, Timestamp::MAX), (-5, 7), (4, 4), (19, Timestamp::MAX)]
        {
            let expected = oracle.history(key.as_bytes(), from, to);
            let expected: Vec<Value> = expected.iter().map(shown).collect();
            let entry = oracle.floor(key.as_bytes(), from).filter(|entry| entry.ts < from);
            let with_entry: Vec<Value> =
                entry.iter().map(shown).chain(expected.iter().cloned()).collect();
            for (limit, entry) in [(1, 0), (1, 1), (3, 0), (3, 1), (10_000, 0), (10_000, 1)] {
                let mut expected = if entry == 1 { with_entry.clone() } else { expected.clone() };
                let query = format!("from={from}&to={to}&entry={entry}");
                let ascending = target("history", key, &query);
                assert_eq!(pages(&mut client, &ascending, limit), expected, "{ascending}");
                expected.reverse();
                let descending = format!("{ascending}&order=desc");
                assert_eq!(pages(&mut client, &descending, limit), expected, "{descending}");
            }
        }
    }
}

#[test]
fn a_history_shows_ends_where_they_are_asked_for() {
    let ops = [Op::json("k", 1, "1"), Op::end("k", 2), Op::json("k", 3, "3"), Op::erase("k", 3)];
    let fixture = filled(&ops, &[]);
    let mut client = fixture.connect();
    let all = json!([{"ts":1,"value":1},{"ts":2,"end":true}]);
    let puts = json!([{"ts":1,"value":1}]);
    assert_eq!(get(&mut client, "/v1/history/k?deleted=1")["items"], all);
    assert_eq!(Value::from(pages(&mut client, "/v1/history/k?deleted=true", 1)), all);
    assert_eq!(get(&mut client, "/v1/history/k"), json!({"items":puts,"next":null}));
    // What an end has taken away is not in force.
    assert_eq!(get(&mut client, "/v1/history/k?from=3&entry=1")["items"], json!([]));
}

#[test]
fn a_scan_is_the_state_of_its_moment() {
    let (ops, oracle) = noisy();
    let fixture = filled(&ops, &[]);
    let mut client = fixture.connect();
    let ranges: [(&str, Holds); 6] = [
        ("", |_| true),
        ("&prefix=", |_| true),
        ("&prefix=a", |key| key.starts_with('a')),
        ("&start=a/b", |key| key >= "a/b"),
        ("&start=a&end=a/b", |key| ("a"..="a/b").contains(&key)),
        ("&start=b&end=a", |_| false),
    ];
    for at in [Timestamp::MIN, -20, -9, 0, 1, 7, 19, Timestamp::MAX] {
        for (range, holds) in ranges {
            let state = oracle
                .scan(at)
                .into_iter()
                .map(|(key, entry)| (String::from_utf8(key).unwrap(), entry));
            let state: Vec<_> = state.filter(|(key, _)| holds(key)).collect();
            let expected: Vec<_> =
                state.iter().map(|(key, entry)| joined(json!({"key":key}), shown(entry))).collect();
            let target = format!("/v1/scan?at={at}{range}");
            for limit in [1, 2, 10_000] {
                assert_eq!(pages(&mut client, &target, limit), expected, "{target}");
            }
            let keys: Vec<_> =
                state.iter().map(|(key, entry)| json!({"key":key,"ts":entry.ts})).collect();
            assert_eq!(pages(&mut client, &format!("{target}&keys_only=1"), 2), keys, "{target}");
        }
    }
}

#[test]
fn pages_go_on_where_they_were_while_writes_go_on() {
    let ops: Vec<Op> = (0..50).map(|n| Op::json(format!("k{n:02}"), 1, "1")).collect();
    let fixture = filled(&ops, &[]);
    let (mut reader, mut writer) = (fixture.connect(), fixture.connect());
    let (mut seen, mut cursor) = (BTreeSet::new(), String::new());
    for round in 0.. {
        let page = get(&mut reader, &format!("/v1/scan?at=now&limit=7{cursor}"));
        for item in page["items"].as_array().unwrap() {
            assert!(seen.insert(item["key"].as_str().unwrap().to_owned()), "{item} comes twice");
            assert_eq!(item["ts"], 1, "later than the first page's now");
        }
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
        // New keys before and behind the cursor, and newer values of those that are there.
        for key in [format!("a{round}"), format!("z{round}"), format!("k{:02}", 49 - round)] {
            assert_eq!(writer.put(&key, i64::MAX, "2").unwrap().status, 200);
        }
        let expected = if seen.len() < 50 { 7 * (round + 1) } else { 50 };
        assert_eq!(seen.len(), expected);
    }
    assert_eq!(seen.len(), 50, "none is left out");
}

#[test]
fn a_diff_is_what_two_scans_differ_in() {
    let (ops, oracle) = noisy();
    let fixture = filled(&ops, &[]);
    let mut client = fixture.connect();
    for (from, to) in [(-20, -10), (-10, 5), (5, -10), (0, 0), (Timestamp::MIN, Timestamp::MAX)] {
        let state = |at| oracle.scan(at).into_iter().collect::<BTreeMap<Vec<u8>, Entry>>();
        let (before, after) = (state(from), state(to));
        let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let value = |entry: Option<&Entry>| entry.map(|e| (e.value_type, e.value.clone()));
        let lines: Vec<Value> = keys
            .into_iter()
            .map(|key| (key, before.get(key), after.get(key)))
            .filter(|(_, before, after)| value(*before) != value(*after))
            .map(|(key, before, after)| {
                let key = std::str::from_utf8(key).unwrap();
                json!({"key":key, "before":before.map(shown), "after":after.map(shown)})
            })
            .collect();
        let answer = client.send("GET", &format!("/v1/diff?from={from}&to={to}"), "");
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-ndjson"));
        let answered: Vec<Value> =
            answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(answered, lines, "from {from} to {to}");
    }
}

#[test]
fn a_long_diff_comes_whole() {
    let value = format!("\"{}\"", "v".repeat(1_000));
    let ops: Vec<Op> = (0..2_000).map(|n| Op::json(format!("k{n:04}"), 5, &value)).collect();
    let fixture = filled(&ops, &[]);
    let answer = fixture.connect().send("GET", "/v1/diff?from=0&to=9&prefix=k", "");
    assert_eq!(answer.header("transfer-encoding"), "chunked");
    let keys: Vec<String> = answer
        .body
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["key"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(keys, (0..2_000).map(|n| format!("k{n:04}")).collect::<Vec<_>>());
}

#[test]
fn aggregates_are_windows() {
    let numbers = [(0, "10"), (10, "20"), (15, "-5.5"), (30, "1e2")];
    let mut ops: Vec<Op> = numbers.iter().map(|(ts, text)| Op::json("k", *ts, text)).collect();
    ops.push(Op::json("text", 0, "\"10\""));
    let fixture = filled(&ops, &[]);
    let mut client = fixture.connect();
    let answer = get(&mut client, "/v1/aggregate/k?from=0&to=39&every=20");
    let expected = json!({"key":"k","windows":[
        {"from":0,"to":19,"count":3,"sum":24.5,"mean":24.5/3.0,"min":-5.5,"max":20.0,"last":-5.5,
         "twa":(10.0*10.0+20.0*5.0-5.5*5.0)/20.0},
        {"from":20,"to":39,"count":1,"sum":100.0,"mean":100.0,"min":100.0,"max":100.0,"last":100.0,
         "twa":(-5.5*10.0+100.0*10.0)/20.0},
    ]});
    assert_eq!(answer["windows"][0]["count"], expected["windows"][0]["count"]);
    for window in 0..2 {
        for (name, value) in expected["windows"][window].as_object().unwrap() {
            let (told, value) = (answer["windows"][window][name].as_f64(), value.as_f64());
            assert!((told.unwrap() - value.unwrap()).abs() < 1e-9, "{name}: {answer}");
        }
    }
    let some = get(&mut client, "/v1/aggregate?key=k&from=40&to=50&fn=twa,count,last");
    let window = json!({"from":40,"to":50,"twa":100.0,"count":0,"last":null});
    assert_eq!(some, json!({"key":"k","windows":[window]}));
    let answer = client.send("GET", "/v1/aggregate/text?from=0&to=9", "");
    problem(&answer, 422, "not_numeric");
    let windows = get(&mut client, "/v1/aggregate/none?from=0&to=9999&every=1us&fn=count");
    assert_eq!(windows["windows"].as_array().unwrap().len(), 10_000);
}

#[test]
fn a_value_comes_bare_and_only_if_it_is_new() {
    let ops =
        [Op::json("j", 1, "{\"a\": [1.50]}"), Op::put("o", 2, "\u{0}octets"), Op::end("e", 3)];
    let fixture = filled(&ops, &[]);
    let mut client = fixture.connect();
    for (key, content_type, bare, ts) in [
        ("j", "application/json", "{\"a\": [1.50]}", "1"),
        ("o", "application/octet-stream", "\u{0}octets", "2"),
    ] {
        let raw = format!("/v1/kv/{key}?raw=1");
        let answer = client.send("GET", &raw, "");
        assert_eq!((answer.status, answer.body.as_str()), (200, bare));
        assert_eq!(answer.header("content-type"), content_type);
        assert_eq!(answer.header("x-matched-ts"), ts);
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        let etag = answer.header("etag").to_owned();
        assert_eq!(etag.len(), 18, "{etag}");
        for target in [raw, format!("/v1/kv/{key}")] {
            for (sent, status) in [
                (etag.as_str(), 304),
                (&format!("\"other\", W/{etag}"), 304),
                ("*", 304),
                ("\"other\"", 200),
                ("", 200),
            ] {
                for method in ["GET", "HEAD"] {
                    let answer = client.send_with(method, &target, &[("if-none-match", sent)], "");
                    assert_eq!((answer.status, answer.header("etag")), (status, &*etag), "{sent}");
                    assert!(answer.body.is_empty() == (status == 304 || method == "HEAD"));
                }
            }
        }
    }
    for missing in ["/v1/kv/e?raw=1", "/v1/kv/none?raw=1", "/v1/kv/j?raw=1&at=0"] {
        let answer = client.send("GET", missing, "");
        problem(&answer, 404, "no_value");
        assert_eq!(answer.header("etag"), "");
    }
    let answer = client.send_with("GET", "/v1/kv/none", &[("if-none-match", "*")], "");
    assert_eq!((answer.status, answer.header("etag")), (200, ""));
    // What is stored in more lines is sent in one, so that lines stay lines.
    let fixture = filled(&[Op::json("k", 1, "{\n\"a\":\r\n1}")], &[]);
    let answer = fixture.connect().send("GET", "/v1/diff?from=0", "");
    assert_eq!(answer.body.lines().count(), 1, "{answer:?}");
}

#[test]
fn moments_are_read_and_shown_in_the_databases_unit() {
    let second = 1_706_695_200;
    for (unit, scale) in [("s", 1), ("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000)] {
        let ts = second * scale;
        let fixture = filled(&[Op::json("k", ts, "1")], &["--ts-unit", unit]);
        let mut client = fixture.connect();
        for at in ["2024-01-31T10:00:00Z", "2024-01-31T12:30:00%2B02:30", "now", "latest", "-1h"] {
            let answer = get(&mut client, &format!("/v1/kv/k?at={at}"));
            assert_eq!(answer["ts"], ts, "{at} in {unit}");
        }
        assert_eq!(get(&mut client, "/v1/kv/k?at=2024-01-31T09:59:59Z")["found"], false);
        assert_eq!(get(&mut client, "/v1/kv/k?at=2024-01-31T10:00:09Z&max_age=10s")["ts"], ts);
        assert_eq!(get(&mut client, "/v1/kv/k?at=now&max_age=5m")["found"], false);
        for (format, expected) in [
            ("int", json!(ts)),
            ("str", json!(ts.to_string())),
            ("iso", json!("2024-01-31T10:00:00Z")),
        ] {
            let query = format!("ts_format={format}");
            assert_eq!(get(&mut client, &format!("/v1/kv/k?{query}"))["ts"], expected);
            let items = &get(&mut client, &format!("/v1/history/k?{query}"))["items"];
            assert_eq!(items[0]["ts"], expected);
            let items = &get(&mut client, &format!("/v1/scan?keys_only=1&{query}"))["items"];
            assert_eq!(items, &json!([{"key":"k","ts":expected}]));
            let raw = client.send("GET", &format!("/v1/kv/k?raw=1&{query}"), "");
            let bare = expected.as_str().map_or_else(|| expected.to_string(), str::to_owned);
            assert_eq!(raw.header("x-matched-ts"), bare);
        }
    }
}

#[test]
fn what_is_asked_wrongly_is_refused_with_its_place() {
    let fixture = filled(&[Op::json("k", 1, "1")], &[]);
    let mut client = fixture.connect();
    let next = get(&mut client, "/v1/scan?limit=1");
    assert_eq!(next["next"], Value::Null);
    let long = "9".repeat(5_000);
    let long = format!("/v1/kv/k?at={long}");
    for (target, pointer) in [
        ("/v1/kv", "/query/key"),
        ("/v1/kv/k?key=k", "/query/key"),
        ("/v1/kv/%ff", "/path/key"),
        ("/v1/kv/k?at=", "/query/at"),
        ("/v1/kv/k?at=1.5", "/query/at"),
        ("/v1/kv/k?at=9223372036854775808", "/query/at"),
        ("/v1/kv/k?at=2024-01-31T10:00:00", "/query/at"),
        ("/v1/kv/k?at=1&at=1", "/query/at"),
        (&long, "/query/at"),
        ("/v1/kv/k?timestamp=1", "/query/timestamp"),
        ("/v1/kv/k?a~/b=1", "/query/a~0~1b"),
        ("/v1/kv/k?mode=last", "/query/mode"),
        ("/v1/kv/k?max_age=-1", "/query/max_age"),
        ("/v1/kv/k?raw=maybe", "/query/raw"),
        ("/v1/kv/k?ts_format=hex", "/query/ts_format"),
        ("/v1/history/k?from=2&to=1", "/query/to"),
        ("/v1/history/k?order=up", "/query/order"),
        ("/v1/history/k?limit=0", "/query/limit"),
        ("/v1/history/k?limit=10001", "/query/limit"),
        ("/v1/history/k?cursor=AAAA", "/query/cursor"),
        ("/v1/scan?prefix=a&end=b", "/query/prefix"),
        ("/v1/scan?cursor=", "/query/cursor"),
        ("/v1/diff", "/query/from"),
        ("/v1/diff?from=1&limit=1", "/query/limit"),
        ("/v1/aggregate/k?from=1", "/query/to"),
        ("/v1/aggregate/k?to=1", "/query/from"),
        ("/v1/aggregate/k?from=2&to=1", "/query/to"),
        ("/v1/aggregate/k?from=1&to=2&every=0", "/query/every"),
        ("/v1/aggregate/k?from=1&to=20001&every=1", "/query/every"),
        (
            "/v1/aggregate/k?from=-9223372036854775808&to=9223372036854775807&every=1",
            "/query/every",
        ),
        ("/v1/aggregate/k?from=1&to=2&fn=median", "/query/fn"),
        ("/v1/aggregate/k?from=1&to=2&fn=sum,sum", "/query/fn"),
    ] {
        let problem = problem(&client.send("GET", target, ""), 400, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{target}: {problem}");
        assert!(!problem["errors"][0]["detail"].as_str().unwrap().is_empty());
    }
    let many = (0..150).fold(String::new(), |many, n| many + &format!("x{n}=&"));
    let problem =
        problem(&client.send("GET", &format!("/v1/kv/k?{many}"), ""), 400, "invalid_request");
    assert_eq!(problem["errors"].as_array().unwrap().len(), 100);
    assert_eq!(get(&mut client, "/v1/kv/k")["value"], 1, "the connection is as good as before");
}

#[test]
fn a_cursor_belongs_to_its_call() {
    let ops = [Op::json("a", 1, "1"), Op::json("a", 2, "2"), Op::json("b", 1, "1")];
    let fixture = filled(&ops, &[]);
    let mut client = fixture.connect();
    let scan = get(&mut client, "/v1/scan?limit=1")["next"].as_str().unwrap().to_owned();
    let history = get(&mut client, "/v1/history/a?limit=1")["next"].as_str().unwrap().to_owned();
    for (target, cursor) in [("/v1/scan", &history), ("/v1/history/a", &scan)] {
        let answer = client.send("GET", &format!("{target}?cursor={cursor}"), "");
        problem(&answer, 400, "invalid_request");
    }
    let cut = &scan[..scan.len() - 2];
    problem(&client.send("GET", &format!("/v1/scan?cursor={cut}"), ""), 400, "invalid_request");
    let rest = get(&mut client, &format!("/v1/scan?cursor={scan}"));
    assert_eq!(rest, json!({"items":[{"key":"b","ts":1,"value":1}],"next":null}));
}

#[test]
fn every_path_has_its_methods() {
    let fixture = filled(&[Op::json("k", 1, "1")], &[]);
    let mut client = fixture.connect();
    for target in [
        "/v1/kv/k",
        "/v1/kv?key=k",
        "/v1/history/k",
        "/v1/history?key=k",
        "/v1/scan",
        "/v1/diff?from=0",
        "/v1/aggregate/k?from=0&to=9",
        "/v1/aggregate?key=k&from=0&to=9",
    ] {
        let options = client.send("OPTIONS", target, "");
        assert_eq!(options.status, 204, "{target}");
        let allow = options.header("allow").to_owned();
        assert!(allow.starts_with("GET, HEAD, ") && allow.ends_with("OPTIONS"), "{allow}");
        let (get, head) = (client.send("GET", target, ""), client.send("HEAD", target, ""));
        assert_eq!((get.status, head.status, head.body.as_str()), (200, 200, ""), "{target}");
        for header in ["content-type", "content-length", "etag"] {
            assert_eq!(get.header(header), head.header(header), "{target} {header}");
        }
        for method in ["PATCH", "TRACE", "BREW"] {
            let answer = client.send(method, target, "");
            problem(&answer, 405, "method_not_allowed");
            assert_eq!(answer.header("allow"), allow);
        }
    }
    for path in
        ["/v1", "/v1/", "/v1/kv/", "/v1/kv/a/b", "/v1/scan/", "/v1/scan/k", "/v2/kv/k", "/V1/kv/k"]
    {
        for method in ["GET", "HEAD", "OPTIONS", "PUT", "BREW"] {
            assert_eq!(client.send(method, path, "").status, 404, "{method} {path}");
        }
    }
}
