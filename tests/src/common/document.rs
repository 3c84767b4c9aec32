//! The document at `/openapi.json`, and whether an answer is one that it knows. Every answer that the tests
//! get is held against it.

use std::sync::OnceLock;

use serde_json::Value;

/// The document.
pub(crate) fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    let text = include_str!("../../../server/src/openapi.json");
    DOCUMENT.get_or_init(|| serde_json::from_str(text).unwrap())
}

/// What stands at a place of the document, or where that refers to.
pub(crate) fn resolved(value: &'static Value) -> &'static Value {
    let reference = value["$ref"].as_str();
    reference.map_or(value, |reference| document().pointer(&reference[1..]).expect(reference))
}

/// Fails unless the document knows this answer.
#[track_caller]
pub(crate) fn check(method: &str, path: &str, status: u16, content_type: &str) {
    let Some((template, item)) = operations(path) else {
        assert_eq!(status, 404, "{method} {path}: no such path in the document");
        return;
    };
    let name = if method == "HEAD" { "get".to_owned() } else { method.to_lowercase() };
    let Some(operation) = item.get(name) else {
        let expected = if method == "OPTIONS" { 204 } else { 405 };
        assert_eq!(status, expected, "{method} {template}: no such method in the document");
        return;
    };
    let answer = operation["responses"].get(status.to_string());
    let answer = answer.unwrap_or_else(|| panic!("{method} {template}: {status} is undocumented"));
    if let Some(content) = resolved(answer)["content"].as_object() {
        let types: Vec<_> = content.keys().collect();
        let is_known = types.iter().any(|known| *known == content_type);
        assert!(is_known, "{method} {template}: {status} of {content_type}, not of {types:?}");
    }
}

/// The operations of a path, with what the document calls it.
fn operations(path: &str) -> Option<(&'static str, &'static Value)> {
    let paths = document()["paths"].as_object().unwrap();
    let exactly = paths.get_key_value(path);
    let found = exactly.or_else(|| paths.iter().find(|(template, _)| is_of(path, template)));
    found.map(|(template, item)| (template.as_str(), item))
}

fn is_of(path: &str, template: &str) -> bool {
    let segment = template.split_once('{').and_then(|(before, _)| path.strip_prefix(before));
    segment.is_some_and(|segment| !segment.is_empty() && !segment.contains('/'))
}
