//! The examples of the pages, each of them run: what a reader copies from `docs/http-api.md` or from the README
//! does what the page says.
//!
//! Each `sh` block of the page runs in its order, all in one bash, so that what one block stores or names the
//! next ones find. Where a `json` or `text` block stands right behind, the output must be that: byte for byte,
//! but for blanks between the parts of JSON, which a page sets as it reads best, and for `…`, which stands for
//! any text within a line, or, alone in a line, for any lines. Where none does, no call may be refused.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::common::server::{Process, Server};

/// What the pages call the server.
const URL: &str = "http://localhost:8080";

/// Before the blocks: the first failure ends them, a refusal is noted, and a watch, which has no end, gets one.
const PRELUDE: &str = r#"
set -euo pipefail
curl() {
    local code=0
    case "$*" in
        */v1/watch*) command curl -s --fail-with-body --max-time 2 "$@" || code=$?
                     [ "$code" -ne 28 ] || code=0 ;;
        *)           command curl -s --fail-with-body "$@" || code=$? ;;
    esac
    [ "$code" -ne 22 ] || { echo "curl $*" >> "$refusals"; code=0; }
    [ "$code" -eq 0 ] || echo "curl ended with $code"
    return "$code"
}
"#;

struct Example {
    /// Where it begins in its page.
    line: usize,
    script: String,
    expected: Option<Expected>,
}

struct Expected {
    is_json: bool,
    text: String,
}

/// A fenced block of a page.
struct Block<'p> {
    line: usize,
    language: &'p str,
    text: String,
    /// Whether only blank lines stand between the block before and this one.
    follows: bool,
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let (mut blocks, mut open, mut follows) = (Vec::new(), None::<Block<'_>>, false);
    for (at, line) in page.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Block { line: at + 1, language, text: String::new(), follows });
            }
            (None, None) => follows &= line.trim().is_empty(),
            (Some(_), Some(_)) => {
                blocks.extend(open.take());
                follows = true;
            }
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
        }
    }
    assert!(open.is_none(), "a block without an end");
    blocks
}

fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for Block { line, language, text, follows } in blocks(page) {
        if language == "sh" {
            examples.push(Example { line, script: text, expected: None });
        } else if let Some(example) = examples.last_mut()
            && follows
            && example.expected.is_none()
            && matches!(language, "json" | "text")
        {
            example.expected = Some(Expected { is_json: language == "json", text });
        }
    }
    examples
}

/// The calls of the README, each with what its comment says of the answer.
fn calls(readme: &str) -> Vec<Example> {
    let example = |(at, line): (usize, &str)| {
        let expected = line.rsplit_once(" # ");
        let expected = expected.map(|(_, said)| Expected { is_json: false, text: said.to_owned() });
        Example { line: at + 1, script: format!("{line}\n"), expected }
    };
    readme.lines().enumerate().filter(|(_, line)| line.starts_with("curl ")).map(example).collect()
}

/// Runs all examples of a page, and tells of each what it printed. A call that is refused is part of the
/// example only where the page shows the refusal.
fn run(examples: &[Example], server: &Server, dir: &Path) -> Vec<String> {
    let mut script = PRELUDE.to_owned();
    for (no, example) in examples.iter().enumerate() {
        let text = example.script.replace(URL, &format!("http://{}", server.address()));
        write!(script, "exec > out.{no} 2>&1\nrefusals=refusals.{no}\n{text}").unwrap();
    }
    fs::write(dir.join("script"), script).unwrap();
    let mut bash = Command::new("bash");
    bash.arg("script").current_dir(dir);
    let ended = Process::run(bash);
    let read = |name: &str, no: usize| fs::read_to_string(dir.join(format!("{name}.{no}")));
    let outputs: Vec<String> = (0..examples.len()).map_while(|no| read("out", no).ok()).collect();
    let last = outputs.len().saturating_sub(1);
    let Example { line, .. } = examples[last];
    assert_eq!(ended.code, Some(0), "line {line}: {:?}: {ended:?}", outputs.get(last));
    for (no, Example { line, expected, .. }) in examples.iter().enumerate() {
        let refused = read("refusals", no).unwrap_or_default();
        assert!(
            expected.is_some() || refused.is_empty(),
            "line {line}: {refused}: {}",
            outputs[no]
        );
    }
    outputs
}

fn check(page: &str, examples: &[Example]) {
    let dir = TempDir::new().unwrap();
    let backups = dir.path().join("backups");
    let flags = ["--backup-dir", backups.to_str().unwrap()];
    let server = Server::start(&dir.path().join("data"), &flags);
    let outputs = run(examples, &server, dir.path());
    for (Example { line, script, expected }, output) in examples.iter().zip(&outputs) {
        if let Some(expected) = expected {
            assert!(
                expected.is_met_by(output),
                "{page}, line {line}:\n{script}--- expected\n{}\n--- but it prints\n{output}",
                expected.text
            );
        }
    }
}

impl Expected {
    fn is_met_by(&self, output: &str) -> bool {
        let lines = |text: &str| -> Vec<String> {
            if self.is_json {
                vec![without_blanks(text)]
            } else {
                text.trim_end().lines().map(|line| line.trim_end().to_owned()).collect()
            }
        };
        lines_match(&lines(&self.text), &lines(output))
    }
}

fn lines_match(pattern: &[String], lines: &[String]) -> bool {
    match pattern.split_first() {
        None => lines.is_empty(),
        Some((any, rest)) if any == "…" => {
            (0..=lines.len()).any(|skipped| lines_match(rest, &lines[skipped..]))
        }
        Some((first, rest)) => lines.split_first().is_some_and(|(line, others)| {
            let parts: Vec<&str> = first.split('…').collect();
            parts_match(&parts, line) && lines_match(rest, others)
        }),
    }
}

/// Whether a line is these parts, with anything between them.
fn parts_match(parts: &[&str], line: &str) -> bool {
    let [first, middle @ .., last] = parts else { return parts == [line] };
    let inner = line.strip_prefix(first).and_then(|line| line.strip_suffix(last));
    let Some(mut inner) = inner else { return false };
    middle.iter().all(|part| inner.split_once(part).map(|(_, behind)| inner = behind).is_some())
}

/// JSON text without the blanks between its parts.
fn without_blanks(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let is_kept = |c: &char| {
        let kept = in_string || !c.is_whitespace();
        in_string = if *c == '"' && !escaped { !in_string } else { in_string };
        escaped = in_string && *c == '\\' && !escaped;
        kept
    };
    json.chars().filter(is_kept).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

#[test]
fn the_interfaces_page_does_what_it_says() {
    let examples = examples(&read("docs/http-api.md"));
    assert!(examples.len() > 2, "the page has no examples");
    check("docs/http-api.md", &examples);
}

#[test]
fn the_readmes_first_minute_does_what_it_says() {
    let calls = calls(&read("README.md"));
    assert!(calls.iter().any(|call| call.expected.is_some()), "the README has no calls");
    check("README.md", &calls);
}

#[test]
fn an_example_that_prints_something_else_is_found() {
    let page =
        "# Page\n```sh\necho 1\n```\n\n```json\n{\"a b\": […, 1]}\n```\nand\n```text\nx\n```\n";
    let [example] = &examples(page)[..] else { panic!("one example") };
    let expected = example.expected.as_ref().unwrap();
    assert!(expected.is_met_by("{\"a b\":[3,\n 1]}\n"));
    for other in ["{\"a  b\":[3,1]}", "{\"a b\":[3,2]}", "", "{\"a b\":[", "{\"a b\":[3,1]}}"] {
        assert!(!expected.is_met_by(other), "{other}");
    }
    let expected = |text: &str| Expected { is_json: false, text: text.to_owned() };
    assert!(
        expected("HTTP/1.1 200 OK\n…\n\nbody").is_met_by("HTTP/1.1 200 OK\r\na: b\r\n\r\nbody\n")
    );
    assert!(!expected("HTTP/1.1 200 OK\n…\n\nbody").is_met_by("HTTP/1.1 200 OK\r\n\r\nbodies\n"));
    assert!(!expected("id: …").is_met_by("id: 1\nid: 2\n"));
    assert!(expected("id: …, …").is_met_by("id: 1, 2\n") && !expected("aa…a").is_met_by("aa"));
}
