//! The entry for fuzzers: what a client may send to `/`. Those of the engine are in
//! `kvtimedb_engine::fuzzing`; `engine/fuzz` runs them all.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::compat::{Lookup, Put, parse_get, parse_put, parse_query};

/// A body of `PUT /`, a body of `GET /`, or a query, as the first byte says. What is understood is
/// understood again when it is written plainly.
pub fn request(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 3 {
        0 => put(data),
        1 => get(data),
        _ => query(data),
    }
}

fn put(body: &[u8]) {
    let Ok(put) = parse_put(body) else { return };
    assert!(!put.value.contains(['\n', '\r']));
    serde_json::from_str::<IgnoredAny>(&put.value).expect("JSON is stored");
    let Put { key, value, timestamp } = &put;
    let key = Value::from(&**key);
    let plain = format!(r#"{{"key":{key},"value":{value},"timestamp":{timestamp}}}"#);
    assert_eq!(parse_put(plain.as_bytes()).expect("what was understood"), put);
}

fn get(body: &[u8]) {
    let Ok(lookup) = parse_get(body) else { return };
    let Lookup { key, timestamp } = &lookup;
    let plain = format!(r#"{{"key":{},"timestamp":"{timestamp}"}}"#, Value::from(&**key));
    assert_eq!(parse_get(plain.as_bytes()).expect("what was understood"), lookup);
}

fn query(query: &[u8]) {
    let Some(lookup) = std::str::from_utf8(query).ok().and_then(|text| parse_query(text).ok())
    else {
        return;
    };
    let Lookup { key, timestamp } = &lookup;
    let key = utf8_percent_encode(key, NON_ALPHANUMERIC);
    let plain = parse_query(&format!("timestamp={timestamp}&key={key}"));
    assert_eq!(plain.expect("what was understood"), lookup);
}

#[cfg(test)]
mod tests {
    /// What fuzzers found goes through the entry again; see `engine/fuzz/README.md`.
    #[test]
    fn what_fuzzers_found_is_read() {
        let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/fuzz");
        let files = |kind: &str| {
            let dir = std::fs::read_dir(fuzz.join(kind).join("request"));
            dir.into_iter().flatten().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
        };
        let corpus = files("corpus");
        assert!(!corpus.is_empty(), "the corpus is missing");
        for path in corpus.into_iter().chain(files("regressions")) {
            println!("{}", path.display());
            super::request(&std::fs::read(path).unwrap());
        }
    }
}
