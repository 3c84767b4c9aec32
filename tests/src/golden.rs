//! Databases that earlier builds wrote, in `testdata/golden/`: a directory for each version of the
//! file formats, and beside it a text of questions and their answers (see `testdata/floor.txt` for
//! how to read it). Every build opens them and answers the same.
//!
//! The database of a released version never changes. While a version is not released yet, this writes
//! the directory and text of [`WRITTEN`] anew, with the build at hand:
//!
//! ```text
//! KVTIMEDB_WRITE_GOLDEN=1 cargo test -p kvtimedb-tests golden
//! ```

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use kvtimedb_engine::{Background, Db, Durability, Entry, Options, Timestamp, ValueType};

use crate::floor::Question;
use crate::oracle::{Op, Oracle, batch, noise};

/// The version whose database this build can write.
const WRITTEN: &str = "v1";

/// So large is a database at most, in bytes: it is there for ever.
const GOLDEN_BYTES_MAX: u64 = 60_000;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden")
}

/// A memtable that nothing fills, and a log without zeros.
fn options() -> Options {
    Options {
        durability: Durability::Buffered,
        memtable_bytes_max: 1 << 20,
        background: Background::Inline,
        ..Options::default()
    }
}

/// A merged run, and a newer one that has tombstones for it; each with chunks of one key and of many,
/// with values that compress and that don't.
fn tables() -> [Vec<Op>; 2] {
    let json = |i: i64| format!("{{\"t\":{}.{},\"h\":40}}", 20 + i % 5, i % 10);
    let dense =
        (0..150).map(|i| Op::json("dense/json", 1_700_000_000_000 + i * 1000 + i % 7, json(i)));
    let noisy = (0..40).map(|i| Op::put("dense/noise", -100 * i, noise(i as u64, 48)));
    let sparse = (0..60).map(|i| Op::json(format!("sparse/{i:03}"), i * i, json(i)));
    let edges = [
        Op::put("", i64::MIN, "the least timestamp"),
        Op::put("", i64::MAX, ""),
        Op::put(b"\xff\xff", 0, b"\x00\xff"),
        Op::put(b"\x00", -1, "v"),
        Op::put("ended", 10, "shown"),
        Op::end("ended", 20),
        Op::put("erased", 10, "shown"),
        Op::put("erased", 20, "hidden"),
    ];
    let older = dense.chain(noisy).chain(sparse).chain(edges).collect();
    let late = (0..20).map(|i| Op::json("dense/json", 1_700_000_000_500 + i * 3000, json(i + 3)));
    let again = (0..60).step_by(3).map(|i| Op::put(format!("sparse/{i:03}"), i * i, "rewritten"));
    let tombstones = [
        Op::erase("erased", 20),
        Op::end("sparse/001", 5),
        Op::put("ended", 30, "again"),
        Op::erase("dense/noise", -300),
    ];
    [older, late.chain(again).chain(tombstones).collect()]
}

/// What is in the log only.
fn log() -> [Vec<Op>; 3] {
    [
        vec![Op::json("log", 1, "{}"), Op::put("log", 2, noise(9, 20)), Op::end("log", 3)],
        vec![Op::erase("dense/noise", -200), Op::put("ended", 15, "late")],
        vec![Op::put("dense/noise", 7, "newest")],
    ]
}

/// Writes the database, and what it answers according to the oracle.
fn write() {
    let (dir, text) = (golden().join(WRITTEN), golden().join(format!("{WRITTEN}.txt")));
    if dir.exists() {
        fs::remove_dir_all(&dir).unwrap();
    }
    let db = Db::open(&dir, options()).unwrap();
    let mut oracle = Oracle::default();
    let mut write = |ops: &[Op]| {
        db.write(batch(ops)).unwrap();
        oracle.apply(ops);
    };
    let [older, newer] = tables();
    write(&older[..100]);
    db.flush().unwrap();
    write(&older[100..]);
    db.compact().unwrap();
    write(&newer);
    db.flush().unwrap();
    for ops in log() {
        write(&ops);
    }
    oracle.assert_answers(&db, "as it was written");
    drop(db);
    fs::remove_file(dir.join("LOCK")).unwrap();
    fs::write(text, questions(&oracle)).unwrap();
}

/// What can be asked, with the answers.
fn questions(oracle: &Oracle) -> String {
    const MOMENTS_EVERY: usize = 7;
    let mut text = String::from("# Written by golden.rs; floor.txt tells how to read it.\n");
    let mut ask = |question: String, answer: &[Entry]| {
        let answer: Vec<String> = answer.iter().map(shown_entry).collect();
        let answer = if answer.is_empty() { "none".to_owned() } else { answer.join(" ") };
        writeln!(text, "{question} = {answer}").unwrap();
    };
    for key in oracle.keys() {
        let name = shown(key);
        ask(format!("latest {name}"), oracle.latest(key).as_slice());
        for at in oracle.moments(key).into_iter().step_by(MOMENTS_EVERY) {
            ask(format!("floor {name} {at}"), oracle.floor(key, at).as_slice());
            ask(format!("exact {name} {at}"), oracle.exact(key, at).as_slice());
        }
        let all = oracle.history(key, Timestamp::MIN, Timestamp::MAX);
        ask(format!("history {name} min max"), &all);
    }
    ask("latest never".to_owned(), &[]);
    text
}

fn shown_entry(entry: &Entry) -> String {
    let value_type = if entry.value_type == ValueType::Json { "json:" } else { "" };
    format!("{}:{value_type}{}", entry.ts, shown(&entry.value))
}

/// Bytes as `floor.rs` reads them.
fn shown(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "\"\"".to_owned();
    }
    let escaped = |(at, &byte): (usize, &u8)| {
        let special = b"\\*#=".contains(&byte) || (at, byte) == (0, b'"');
        if byte.is_ascii_graphic() && !special {
            char::from(byte).to_string()
        } else {
            format!("\\x{byte:02x}")
        }
    };
    bytes.iter().enumerate().map(escaped).collect()
}

/// Copies a golden database, so that what is opened, and thereby changed, is never the original.
fn copy(from: &Path, to: &Path) -> u64 {
    let files = fs::read_dir(from).unwrap().map(|file| file.unwrap().path());
    files.map(|file| fs::copy(&file, to.join(file.file_name().unwrap())).unwrap()).sum()
}

fn check(db: &Db, questions: &str, place: &str) {
    let lines = questions.lines().filter(|line| !line.starts_with('#'));
    for line in lines {
        let question =
            Question::parse(line).unwrap_or_else(|| panic!("{place}: no question: {line}"));
        let answer = question.ask(db).unwrap_or_else(|error| panic!("{place}: {line}: {error}"));
        assert_eq!(answer, question.expected(), "{place}: {line}");
    }
}

#[test]
fn every_version_is_opened_and_answers_as_it_did() {
    if std::env::var_os("KVTIMEDB_WRITE_GOLDEN").is_some() {
        write();
    }
    let entries = fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path());
    let mut versions: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    versions.sort_unstable();
    assert!(versions.contains(&golden().join(WRITTEN)), "{versions:?}");
    for version in versions {
        let questions = fs::read_to_string(version.with_extension("txt")).unwrap();
        assert!(questions.lines().count() > 100, "{}", version.display());
        let dir = tempfile::tempdir().unwrap();
        let bytes = copy(&version, dir.path());
        assert!(bytes <= GOLDEN_BYTES_MAX, "{}: {bytes} bytes", version.display());
        let place = version.display().to_string();
        let db = Db::open(dir.path(), options()).unwrap();
        check(&db, &questions, &place);
        db.compact().unwrap();
        check(&db, &questions, &format!("{place}, merged by this build"));
        db.close().unwrap();
        drop(db);
        let db = Db::open(dir.path(), Options::default()).unwrap();
        check(&db, &questions, &format!("{place}, reopened"));
    }
}

/// The text is read back as it was written, or the answers would prove nothing.
#[test]
fn questions_come_back() {
    for bytes in [&b""[..], b"a b", b"\x00\xff\\*#=:\"", b"json", b"\"\""] {
        let op = Op::put(bytes, 1, bytes);
        let oracle = Oracle::of(std::slice::from_ref(&op));
        let text = questions(&oracle);
        let line = text.lines().nth(1).unwrap();
        let question = Question::parse(line).unwrap();
        assert_eq!(question.expected(), oracle.latest(bytes).as_slice(), "{line}");
    }
}
