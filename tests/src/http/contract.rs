//! The document at `/openapi.json` against the server: what it names is there, and takes what it says.
//! That the server has nothing else is a test beside its routes; that it answers nothing else, a check of
//! every answer in `common/document.rs`, and of very many by `tests/schemathesis.sh`.

use std::fmt::Write;

use super::*;
use crate::common::document::{document, resolved};

/// Every operation: its path, its method and itself.
fn operations() -> impl Iterator<Item = (&'static str, String, &'static Value)> {
    let paths = document()["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (path.as_str(), method.to_uppercase(), operation))
    })
}

fn parameters(operation: &'static Value) -> Vec<&'static Value> {
    let all = operation["parameters"].as_array();
    all.into_iter().flatten().map(resolved).collect()
}

/// An example, as a query or a path has it.
fn example(parameter: &Value) -> Option<String> {
    let text = match &parameter["example"] {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut encoded = String::new();
    for byte in text.bytes() {
        write!(encoded, "%{byte:02X}").unwrap();
    }
    Some(encoded)
}

/// The path, with what has to be in it and in the query.
fn target(path: &str, parameters: &[&Value]) -> String {
    let mut target = path.to_owned();
    let mut query = Vec::new();
    for parameter in parameters.iter().filter(|parameter| parameter["required"] == true) {
        let name = parameter["name"].as_str().unwrap();
        let example = example(parameter).unwrap_or_else(|| panic!("{path}: {name}: no example"));
        match parameter["in"].as_str().unwrap() {
            "path" => target = target.replace(&format!("{{{name}}}"), &example),
            _ => query.push(format!("{name}={example}")),
        }
    }
    query.iter().fold(target, |target, pair| with(&target, pair))
}

/// The target with one more parameter.
fn with(target: &str, pair: &str) -> String {
    format!("{target}{}{pair}", if target.contains('?') { '&' } else { '?' })
}

/// A body that the operation takes, with its type.
fn body(operation: &Value) -> (&str, String) {
    let Some(content) = operation["requestBody"]["content"].as_object() else {
        return ("", String::new());
    };
    let mut shown = content.iter().filter(|(_, media)| !media["example"].is_null());
    let (content_type, media) = shown.next().expect("a body without an example");
    match &media["example"] {
        Value::String(text) => (content_type, text.clone()),
        example => (content_type, example.to_string()),
    }
}

#[test]
fn the_server_hands_out_its_document() {
    let fixture = Fixture::new();
    let answer = fixture.connect().send("GET", "/openapi.json", "");
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let served: Value = serde_json::from_str(&answer.body).unwrap();
    assert!(served == *document());
    assert!(served["openapi"].as_str().unwrap().starts_with("3.1."));
}

#[test]
fn each_path_allows_the_methods_of_the_document() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    for (path, method, operation) in operations() {
        let target = target(path, &parameters(operation));
        let allow = client.send("OPTIONS", &target, "");
        let allow: Vec<&str> = allow.header("allow").split(", ").collect();
        assert!(allow.contains(&method.as_str()), "{method} {path}: {allow:?}");
        assert_eq!(allow.contains(&"HEAD"), allow.contains(&"GET"), "{path}");
        let others = allow.iter().filter(|method| !matches!(**method, "HEAD" | "OPTIONS"));
        assert_eq!(others.count(), document()["paths"][path].as_object().unwrap().len(), "{path}");
        let patch = client.send("PATCH", &target, "");
        assert_eq!((patch.status, patch.header("allow")), (405, allow.join(", ").as_str()));
    }
}

#[test]
fn each_parameter_of_the_document_is_taken_and_no_other() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    for (path, method, operation) in operations() {
        let parameters = parameters(operation);
        let target = target(path, &parameters);
        let (content_type, body) = body(operation);
        let mut send = |target: &str| {
            // What has no end is not begun.
            let method = if path == "/v1/watch" { "HEAD" } else { &method };
            let headers = [("content-type", content_type)];
            let headers = if content_type.is_empty() { &[][..] } else { &headers };
            client.send_with(method, target, headers, body.clone())
        };
        let plain = send(&target);
        // Of an erase's parameters one has to be there, which OpenAPI has no way to say.
        let is_choice = method == "DELETE" && path.starts_with("/v1/history");
        assert!(is_choice || plain.status != 400, "{method} {target}: {plain:?}");
        let optional = parameters.iter().filter(|p| p["required"] != true && p["in"] == "query");
        for parameter in optional {
            let name = parameter["name"].as_str().unwrap();
            let Some(example) = example(parameter) else { continue };
            let answer = send(&with(&target, &format!("{name}={example}")));
            assert_ne!(answer.status, 400, "{method} {target}&{name}: {answer:?}");
        }
        if path.starts_with("/v1/") {
            let answer = send(&with(&target, "nonsense=1"));
            assert_eq!(answer.status, 400, "{method} {target}: {answer:?}");
            // A refusal of HEAD has no body.
            if path != "/v1/watch" {
                let problem: Value = serde_json::from_str(&answer.body).unwrap();
                assert_eq!(problem["errors"][0]["pointer"], "/query/nonsense", "{problem}");
            }
        }
    }
}

/// What a page of metrics says: a line's name with its labels, and its value.
fn samples(page: &str) -> Vec<(&str, f64)> {
    let (mut samples, mut family) = (Vec::new(), "");
    for line in page.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert!(kind != "counter" || name.ends_with("_total"), "{line}");
            family = name;
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(!family.is_empty() && name.starts_with(family), "{line} in {family}");
            samples.push((name, value.parse().unwrap()));
        }
    }
    samples
}

#[test]
fn the_metrics_tell_what_was_done() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    for timestamp in 0..3 {
        assert_eq!(client.put("k", timestamp, "1").unwrap().status, 200);
    }
    client.send("GET", "/v1/kv/k?at=soon", "");
    client.send("HEAD", "/v1/kv/k", "");
    client.send("GET", "/nowhere", "");
    let page = client.send("GET", "/metrics", "");
    assert_eq!(page.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let samples = samples(&page.body);
    let value = |name: &str| {
        let mut named = samples.iter().filter(|(other, _)| *other == name);
        let (_, value) = named.next().unwrap_or_else(|| panic!("{name} is not in {}", page.body));
        assert!(named.next().is_none(), "{name} is there twice");
        *value
    };
    let requests = "kvtimedb_http_requests_total";
    for (name, expected) in [
        ("kvtimedb_ops_committed_total".to_owned(), 3.0),
        ("kvtimedb_visible_seq".to_owned(), 3.0),
        (format!(r#"{requests}{{endpoint="/",method="PUT",status="200"}}"#), 3.0),
        (format!(r#"{requests}{{endpoint="/v1/kv/{{key}}",method="GET",status="400"}}"#), 1.0),
        (format!(r#"{requests}{{endpoint="/v1/kv/{{key}}",method="GET",status="200"}}"#), 1.0),
        (format!(r#"{requests}{{endpoint="other",method="other",status="404"}}"#), 1.0),
    ] {
        assert!((value(&name) - expected).abs() < f64::EPSILON, "{name}: {}", value(&name));
    }
    let puts = |part: &str| {
        format!(r#"kvtimedb_http_request_duration_seconds_{part}{{endpoint="/",method="PUT""#)
    };
    let buckets = samples.iter().filter(|(name, _)| name.starts_with(&puts("bucket")));
    let buckets: Vec<f64> = buckets.map(|(_, count)| *count).collect();
    assert!(buckets.is_sorted() && buckets.last() == Some(&3.0), "{buckets:?}");
    assert!(value(&(puts("sum") + "}")) > 0.0);
}
