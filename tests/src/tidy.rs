//! The house rules that a compiler does not check: floors, file sizes, vocabulary, what is banned.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The floors of `engine/src`, from the ground up: a module imports from lower floors only, or from
/// its own floor as long as that makes no circle.
const FLOORS: &[&[&str]] = &[
    &["batch", "coding", "error", "fs", "key", "lookup", "metrics", "options", "sync"],
    &["codec", "iter"],
    &["memtable", "record", "wal"],
    &["table"],
    &["version"],
    &["backup", "compaction", "flush"],
    &["db", "inspect"],
    &["fuzzing", "lib"],
];

/// A file of more lines holds more than one idea.
const FILE_LINES_MAX: usize = 600;

/// The longest line, for those that the formatter leaves alone: comments and strings.
const LINE_CHARS_MAX: usize = 120;

/// What we say for a thing, and what we therefore never say for it.
const VOCABULARY: &[(&str, &[&str])] = &[
    ("memtable", &["mem_table", "write_buffer", "writebuffer"]),
    ("SSTable / table", &["ss_table", "sst_file", "SsTable"]),
    ("sequence number, SeqNo", &["SequenceNumber", "seqnum", "seq_num", "lsn", "Lsn"]),
    ("Timestamp, ts", &["time_stamp", "TimeStamp"]),
    ("erase", &["delete_version", "hard_delete"]),
    ("write-ahead log, wal", &["commitlog", "commit_log", "redo_log"]),
];

/// Marks of unfinished work.
const UNFINISHED: &[&str] =
    &["todo!(", "unimplemented!(", "dbg!(", "FIXME", "XXX", "TODO", "#[ignore", "_v2"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Every file below `dir` with this ending, with its text.
fn files(dir: &Path, ending: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | "testdata" | ".git" | "data") {
                found.extend(files(&path, ending));
            }
        } else if name.ends_with(ending) {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found.sort();
    found
}

fn rust_files() -> Vec<(PathBuf, String)> {
    let mut all = files(&root(), ".rs");
    // This file has to name what it bans.
    all.retain(|(path, _)| !path.ends_with("tidy.rs"));
    assert!(all.len() > 50, "found {} files: looked in the wrong place", all.len());
    all
}

/// The code of a line, without its comment.
fn code(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

/// The names that follow `crate::` in the code of a text, also those in braces.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().map(code).collect::<Vec<_>>().join("\n");
    let mut names = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let word = |text: &str| -> String {
            text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        };
        match after.strip_prefix('{') {
            Some(group) => {
                let group = group.split(';').next().unwrap_or_default();
                names.extend(group.split([',', '{', '}']).map(|name| word(name.trim())));
            }
            None => drop(names.insert(word(after))),
        }
    }
    names
}

#[test]
fn each_floor_of_the_engine_imports_from_below() {
    let source = root().join("engine/src");
    let floor_of: BTreeMap<&str, usize> = FLOORS
        .iter()
        .enumerate()
        .flat_map(|(floor, names)| names.iter().map(move |name| (*name, floor)))
        .collect();
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in files(&source, ".rs") {
        let inside = path.strip_prefix(&source).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.trim_end_matches(".rs").to_owned();
        let floor = *floor_of
            .get(module.as_str())
            .unwrap_or_else(|| panic!("{} has no floor: give it one", path.display()));
        let is_test = inside.to_str().unwrap().contains("tests");
        for name in imports(&text) {
            let Some(&target) = floor_of.get(name.as_str()) else { continue };
            if name == module || is_test {
                continue;
            }
            assert!(target <= floor, "{}: `{module}` imports `{name}` above it", path.display());
            arrows.entry(module.clone()).or_default().insert(name);
        }
    }
    for module in floor_of.keys() {
        let mut reached = BTreeSet::new();
        let mut ahead: Vec<&str> = vec![module];
        while let Some(at) = ahead.pop() {
            for next in arrows.get(at).into_iter().flatten() {
                assert!(next != module, "`{module}` imports itself by way of `{at}`");
                if reached.insert(next.clone()) {
                    ahead.push(next);
                }
            }
        }
    }
}

#[test]
fn a_file_is_one_idea_and_its_lines_can_be_read() {
    for (path, text) in rust_files() {
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{}: {lines} lines", path.display());
        assert!(!text.trim().is_empty(), "{}: empty", path.display());
        for (at, line) in text.lines().enumerate() {
            let chars = line.chars().count();
            assert!(chars <= LINE_CHARS_MAX, "{}:{}: {chars} long", path.display(), at + 1);
        }
    }
}

#[test]
fn one_name_per_concept() {
    for (path, text) in rust_files() {
        for (ours, others) in VOCABULARY {
            for other in *others {
                let found = text
                    .split(|c: char| !(c.is_alphanumeric() || c == '_'))
                    .any(|word| word == *other);
                assert!(!found, "{}: `{other}`: we say {ours}", path.display());
            }
        }
    }
}

#[test]
fn nothing_is_left_unfinished() {
    for (path, text) in rust_files() {
        for mark in UNFINISHED {
            assert!(!text.contains(mark), "{}: {mark}", path.display());
        }
    }
}

#[test]
fn unsafe_and_the_file_system_have_one_home_each() {
    for (path, text) in files(&root().join("engine/src"), ".rs") {
        let in_fs = path.components().any(|part| part.as_os_str() == "fs");
        for line in text.lines().map(code) {
            let has_unsafe = line.contains("unsafe ") || line.contains("unsafe{");
            assert!(!has_unsafe || path.ends_with("fs/map.rs"), "{}: {line}", path.display());
            let has_fs = line.contains("std::fs") || line.contains("File::open");
            assert!(!has_fs || in_fs, "{}: {line}", path.display());
        }
    }
}

#[test]
fn every_module_says_what_it_is() {
    for (path, text) in rust_files() {
        let is_test = path.to_str().unwrap().contains("tests");
        let says = text.starts_with("//!") || text.starts_with("#!") && text.contains("//!");
        assert!(is_test || says, "{}: begins without a word on what it is", path.display());
    }
}

#[test]
fn the_documents_stand_alone() {
    let documents = files(&root().join("docs"), ".md");
    let readme = root().join("README.md");
    let readme = (readme.clone(), fs::read_to_string(readme).unwrap());
    for (path, text) in documents.into_iter().chain([readme]) {
        assert!(!text.contains("../shared"), "{}: points outside", path.display());
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let target = link.split('#').next().unwrap_or(link);
            let target = path.parent().unwrap().join(target);
            assert!(target.exists(), "{}: a link to nowhere: {link}", path.display());
        }
    }
}
