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
