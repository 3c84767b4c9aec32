//! The writes of `/v1` against the real server: each is all or nothing, says what it did, and is refused with
//! what to do.

use super::*;

/// Sends with these headers.
fn send(
    client: &mut Client,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    client.send_with(method, target, headers, body.to_vec())
}

#[track_caller]
fn json_of(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

#[track_caller]
fn kv(client: &mut Client, target: &str) -> Value {
    json_of(&client.send("GET", target, ""), 200)
}

#[test]
fn a_value_is_stored_as_what_it_is_said_to_be() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    // As `curl -d` sends it.
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answer = send(&mut client, "PUT", "/v1/kv/user0?ts=100", &form, b"\"John\"");
    assert_eq!(json_of(&answer, 201), json!({"ts": 100, "seq": 1}));
    let answer =
        send(&mut client, "PUT", "/v1/kv/user0?ts=100", &[], b"\xef\xbb\xbf { \"a\" : 1.50 }\n");
    assert_eq!(json_of(&answer, 200), json!({"ts": 100, "seq": 2}));
    assert_eq!(client.send("GET", "/v1/kv/user0?raw=1", "").body, "{\"a\":1.50}");
    for (content_type, body, raw_type) in [
        ("application/json", &b"null"[..], "application/json"),
        ("application/ld+json; charset=utf-8", b"[]", "application/json"),
        ("text/plain", "\u{fc}".as_bytes(), "text/plain; charset=utf-8"),
        ("TEXT/csv; charset=\"UTF-8\"", b"a,b", "text/plain; charset=utf-8"),
        ("text/plain", b"", "text/plain; charset=utf-8"),
        ("application/octet-stream", b"\"no JSON", "application/octet-stream"),
        ("image/png", b"", "application/octet-stream"),
    ] {
        let headers = [("content-type", content_type)];
        let answer = send(&mut client, "PUT", "/v1/kv?key=a/b&ts=1", &headers, body);
        assert!(answer.status == 200 || answer.status == 201, "{content_type}: {answer:?}");
        let answer = client.send("GET", "/v1/kv?key=a/b&raw=1", "");
        assert_eq!((answer.header("content-type"), answer.body.as_bytes()), (raw_type, body));
    }
    let refusals = [
        ("", &b"John"[..], 400, "invalid_request"),
        ("application/json", b"{\"a\":1}{}", 400, "invalid_request"),
        ("application/json", b"", 400, "invalid_request"),
        ("application/json", b"\"\xff\"", 400, "invalid_request"),
        ("text/plain", b"\xff", 400, "invalid_request"),
        ("text/plain; charset=latin1", b"a", 415, "unsupported_media_type"),
    ];
    for (content_type, body, status, code) in refusals {
        let headers = [("content-type", content_type)];
        let answer = send(&mut client, "PUT", "/v1/kv/refused?ts=1", &headers, body);
        problem(&answer, status, code);
    }
    let deep = "[".repeat(128) + &"]".repeat(128);
    problem(&client.send("PUT", "/v1/kv/refused?ts=1", deep), 400, "invalid_request");
    for query in ["ts=latest", "ts=1.5", "ts=9223372036854775808", "ts=1&ts=2", "at=1", "ts="] {
        let answer = client.send("PUT", &format!("/v1/kv/refused?{query}"), "1");
        problem(&answer, 400, "invalid_request");
    }
    assert_eq!(kv(&mut client, "/v1/kv/refused")["found"], false);
}

#[test]
fn without_a_timestamp_the_server_assigns_one_that_rises() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let mut last = 0;
    for n in 0..20 {
        let answer = json_of(&client.send("PUT", "/v1/kv/k", n.to_string()), 201);
        let ts = answer["ts"].as_i64().unwrap();
        assert!(ts > last);
        last = ts;
    }
    let future = "/v1/kv/k?ts=9223372036854775806";
    json_of(&client.send("PUT", future, "1"), 201);
    assert_eq!(json_of(&client.send("PUT", "/v1/kv/k", "2"), 201)["ts"], i64::MAX);
    let refused = problem(&client.send("PUT", "/v1/kv/k", "3"), 400, "invalid_request");
    assert!(refused["detail"].as_str().unwrap().contains("greatest timestamp"), "{refused}");
    let shown = client.send("PUT", "/v1/kv/l?ts=1700000000000000&ts_format=iso", "1");
    assert_eq!(json_of(&shown, 201)["ts"], "2023-11-14T22:13:20Z");
}

#[test]
fn conditions_of_a_put_hold_or_nothing_is_written() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let none = [("if-none-match", "*")];
    assert_eq!(send(&mut client, "PUT", "/v1/kv/k?ts=5", &none, b"1").status, 201);
    problem(&send(&mut client, "PUT", "/v1/kv/k?ts=5", &none, b"2"), 412, "condition_failed");
    // At another moment there is none; of the key there is.
    assert_eq!(send(&mut client, "PUT", "/v1/kv/k?ts=6", &none, b"3").status, 201);
    problem(&send(&mut client, "PUT", "/v1/kv/k", &none, b"4"), 412, "condition_failed");
    let etag = client.send("GET", "/v1/kv/k", "").header("etag").to_owned();
    let matching = [("if-match", etag.as_str())];
    assert_eq!(send(&mut client, "PUT", "/v1/kv/k", &matching, b"5").status, 201);
    problem(&send(&mut client, "PUT", "/v1/kv/k", &matching, b"6"), 412, "condition_failed");
    assert_eq!(send(&mut client, "PUT", "/v1/kv/k?ts=7", &matching, b"7").status, 201);
    problem(
        &send(&mut client, "PUT", "/v1/kv/k", &[("if-match", "\"x\"")], b"8"),
        412,
        "condition_failed",
    );
    for headers in [
        &[("if-none-match", "\"0123456789abcdef\"")][..],
        &[("if-match", "*")],
        &[("if-match", "W/\"0123456789abcdef\"")],
        &[("if-match", "\"0123456789abcdef\", \"0123456789abcdef\"")],
        &[("if-match", "\"0123456789abcdef\""), ("if-match", "\"0123456789abcdef\"")],
    ] {
        problem(&send(&mut client, "PUT", "/v1/kv/k", headers, b"9"), 400, "invalid_request");
    }
    let history = kv(&mut client, "/v1/history/k");
    let values: Vec<_> =
        history["items"].as_array().unwrap().iter().map(|it| &it["value"]).collect();
    assert_eq!(values, [1, 3, 7, 5]);
}

#[test]
fn versions_are_erased_in_one_of_three_ways() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    for ts in 0..10 {
        client.send("PUT", &format!("/v1/kv/k?ts={ts}"), "1");
    }
    client.send("DELETE", "/v1/kv/k?at=20", "");
    let mut erase = |query: &str| {
        let answer = client.send("DELETE", &format!("/v1/history/k?{query}"), "");
        json_of(&answer, 200)
    };
    assert_eq!(erase("ts=3"), json!({"erased": 1, "seq": 12}));
    assert_eq!(erase("ts=3"), json!({"erased": 0, "seq": 12}));
    assert_eq!(erase("from=2&to=5")["erased"], 3);
    assert_eq!(erase("from=9&to=latest")["erased"], 2);
    assert_eq!(erase("all=true")["erased"], 5);
    for query in [
        "",
        "from=1",
        "to=1",
        "all=false",
        "all=maybe",
        "ts=1&all=true",
        "ts=1&from=1&to=2",
        "from=2&to=1",
        "ts=latest",
        "from=latest&to=latest",
        "ts=x",
        "at=1",
    ] {
        let answer = client.send("DELETE", &format!("/v1/history/k?{query}"), "");
        problem(&answer, 400, "invalid_request");
    }
    problem(&client.send("DELETE", "/v1/kv/k?at=latest", ""), 400, "invalid_request");
    json_of(&client.send("DELETE", "/v1/kv/k?at=now", ""), 200);
    json_of(&client.send("DELETE", "/v1/kv/k?at=-1h", ""), 200);
}

#[test]
fn a_batch_is_one_or_nothing() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let mut batch = |body: Value| client.send("POST", "/v1/batch", body.to_string());
    let first = json!({
        "ops": [
            {"op": "put", "key": "a", "ts": 1, "value": null},
            {"op": "put", "key": "a", "ts": "2", "value": {"x": [1, 2]}},
            {"op": "put", "key": "", "value": "now"},
            {"op": "end", "key": "b", "at": 5},
            {"op": "erase", "key": "a", "from": 2, "to": "latest"},
            {"op": "erase", "key": "none", "all": true},
        ],
        "if": [{"key": "a", "absent": true}],
    });
    let answer = json_of(&batch(first.clone()), 200);
    assert_eq!((&answer["seq"], &answer["erased"]), (&json!(5), &json!(1)), "{answer}");
    assert_eq!(answer["assigned"].as_array().unwrap().len(), 1, "{answer}");
    let refused = problem(&batch(first), 412, "condition_failed");
    assert!(refused["detail"].as_str().unwrap().contains("condition 0"), "{refused}");
    let guarded = |etag: &str| {
        json!({"ops": [{"op": "put", "key": "c", "ts": 1, "value": 1}], "if": [
            {"key": "c", "absent": true}, {"key": "a", "at": 1, "etag": etag},
        ]})
    };
    let mut other = fixture.connect();
    let etag = other.send("GET", "/v1/kv/a?at=1", "").header("etag").to_owned();
    let wrong = problem(&batch(guarded("0123456789abcdef")), 412, "condition_failed");
    assert!(wrong["detail"].as_str().unwrap().contains("condition 1"), "{wrong}");
    json_of(&batch(guarded(etag.trim_matches('"'))), 200);
    assert_eq!(kv(&mut other, "/v1/kv/a")["value"], Value::Null);
    assert_eq!(json_of(&batch(json!({"ops": []})), 200)["seq"], 6);
}

#[test]
fn what_a_batch_can_not_take_is_pointed_at() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let put = json!({"op": "put", "key": "k", "ts": 1, "value": 1});
    let body = json!({
        "ops": [
            put, {"op": "put", "key": "k"}, {"op": "erase", "key": "k"}, {"op": "erase", "key": "k", "all": false},
            {"op": "erase", "key": "k", "ts": 1, "all": true}, {"op": "drop", "key": "k"},
            {"op": "end", "key": "k", "at": "latest"}, {"op": "end", "key": "k", "at": 1.5},
            {"op": "end", "key": 5, "at": 1}, {"op": "put", "key": "k", "ts": null, "value": 1}, 7,
            {"op": "put", "key": "x".repeat(KEY_BYTES_MAX + 1), "value": 1},
            {"op": "erase", "key": "k", "from": 2, "to": 1}, {"op": "end", "key": "k", "at": 1, "ts": 1},
        ],
        "if": [{"key": "k"}, {"key": "k", "etag": "x"}, {"key": "k", "absent": false}, {"absent": true}],
    });
    let problem_of =
        problem(&client.send("POST", "/v1/batch", body.to_string()), 400, "invalid_request");
    let pointers: Vec<_> = problem_of["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["pointer"].as_str().unwrap())
        .collect();
    let ops = (1..14).map(|n| format!("/body/ops/{n}"));
    let expected: Vec<_> = ops.chain((0..4).map(|n| format!("/body/if/{n}"))).collect();
    assert_eq!(pointers, expected);
    for body in [
        "",
        "[]",
        "{}",
        "{\"ops\":{}}",
        "{\"ops\":[],\"ops\":[]}",
        "{\"ops\":[],\"then\":1}",
        "\u{0}",
    ] {
        let told =
            problem(&client.send("POST", "/v1/batch", body.to_owned()), 400, "invalid_request");
        assert_eq!(told["errors"][0]["pointer"], "/body", "{body}");
    }
    let many = json!({"ops": vec![put; 10_001]}).to_string();
    let told = problem(&client.send("POST", "/v1/batch", many), 400, "invalid_request");
    assert_eq!(told["errors"][0]["pointer"], "/body/ops");
    problem(&client.send("POST", "/v1/batch?x=1", "{\"ops\":[]}"), 400, "invalid_request");
    drop(client);
    fixture.expect_nothing_stored();
}
