//! Many rows and many lookups: what they hold at once, and what ends them.

use super::*;

/// Answers of any size are answered in their order, however few of them may be held at once.
#[tokio::test]
async fn large_answers_are_held_few_at_a_time() {
    const LOOKUPS: i64 = 40;
    let server = Running::start(Limits::default()).await;
    let value = format!("\"{}\"", "x".repeat(512 << 10));
    for ts in 0..LOOKUPS {
        server.db.put(b"big", ts, ValueRef::json(value.as_bytes())).unwrap();
    }
    for (mode, shift) in [("floor", 0), ("exact", 0), ("before", -1), ("ceiling", 0), ("after", 1)]
    {
        let lookups = (0..LOOKUPS).rev().map(|at| format!("{{\"key\":\"big\",\"at\":{at}}}\n"));
        let lookups = lookups.collect::<Vec<_>>().concat();
        let len = lookups.len();
        let answer = server
            .exchange(format!(
                "POST /v1/asof?mode={mode} HTTP/1.0\r\nHost: x\r\n\
                 Content-Type: application/x-ndjson\r\nContent-Length: {len}\r\n\r\n{lookups}"
            ))
            .await;
        assert_eq!(status(&answer), 200, "{mode}");
        let lines: Vec<&str> = body(&answer).lines().collect();
        assert_eq!(lines.len(), LOOKUPS as usize, "{mode}");
        for (line, at) in lines.into_iter().zip((0..LOOKUPS).rev()) {
            let ts = at + shift;
            let found =
                (0..LOOKUPS).contains(&ts).then(|| format!("\"ts\":{ts},\"value\":{value}"));
            let found = found
                .map_or("\"found\":false".to_owned(), |found| format!("\"found\":true,{found}"));
            assert!(
                line == format!("{{\"key\":\"big\",\"at\":{at},{found}}}"),
                "{mode} {at}: {}",
                &line[..100.min(line.len())]
            );
        }
    }
}

/// A row from before the horizon is one that can't be taken, and the others are.
#[tokio::test]
async fn rows_before_the_horizon_are_told_and_left_out() {
    let server = Running::start(Limits::default()).await;
    server.db.set_horizon(100).unwrap();
    let row = |ts: i64| format!("{{\"key\":\"k\",\"ts\":{ts},\"value\":{ts}}}\n");
    let rows = row(200) + &row(99) + &row(100);
    let answer = server.request("POST", "/v1/import?format=ndjson", &rows).await;
    assert_eq!(status(&answer), 400, "{answer}");
    for part in
        ["/body/2", "99 lies before the retention horizon", "the 1 rows before are imported"]
    {
        assert!(body(&answer).contains(part), "{answer}");
    }
    let answer = server.request("POST", "/v1/import?format=ndjson&on_error=skip", &rows).await;
    assert_eq!(status(&answer), 200, "{answer}");
    for part in ["\"imported\":2", "\"skipped\":1", "\"line\":2"] {
        assert!(body(&answer).contains(part), "{answer}");
    }
    assert_eq!(server.db.floor(b"k", 150).unwrap().unwrap().ts, 100);
}

#[tokio::test]
async fn an_import_that_ends_early_tells_what_stays() {
    let server = Running::start(short()).await;
    let mut client = server.connect().await;
    let rows = "{\"key\":\"k\",\"ts\":1,\"value\":1}\n".repeat(2);
    let head = "POST /v1/import?format=ndjson HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n";
    client.write_all((head.to_owned() + &rows).as_bytes()).await.unwrap();
    let answer = rest(&mut client).await;
    assert_eq!(status(&answer), 408, "{answer}");
    assert!(body(&answer).contains("the 2 rows before are imported"), "{answer}");
    assert!(server.db.floor(b"k", 1).unwrap().is_some());
}

/// Uploads have their own memory: what they take is not taken from the bodies of writes.
#[tokio::test]
async fn uploads_do_not_take_the_memory_for_bodies() {
    let limits = Limits { uploads_bytes_max: 0, ..Limits::default() };
    let server = Running::start(limits).await;
    let answer = server.request("POST", "/v1/import?format=ndjson", "").await;
    assert_eq!(status(&answer), 503, "{answer}");
    assert_eq!(status(&server.request("PUT", "/v1/kv/k?ts=1", "1").await), 201);
}

#[tokio::test]
async fn rows_of_the_largest_size_are_imported() {
    let server = Running::start(Limits::default()).await;
    let value = "x".repeat((64 << 20) - 2);
    let rows: Vec<_> =
        (0..2).map(|ts| format!("{{\"key\":\"k\",\"ts\":{ts},\"value\":\"{value}\"}}\n")).collect();
    let answer = server.request("POST", "/v1/import?format=ndjson", &rows.concat()).await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(body(&answer).contains("\"imported\":2"), "{answer}");
}
