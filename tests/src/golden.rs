//! Databases that earlier builds wrote, in `testdata/golden/`: a directory for each version of the
//! file formats, and beside it a text of questions and their answers (see `testdata/floor.txt` for
//! how to read it). Every build opens them and answers the same. Those in `testdata/retired/` are of
//! versions that were never released: every build refuses them, and leaves them as they are.
//!
//! The database of a released version never changes. While a version is not released yet, this writes
//! the directory and text of [`WRITTEN`] anew, with the build at hand:
//!
//! ```text
//! KVTIMEDB_WRITE_GOLDEN=1 cargo test -p kvtimedb-tests golden
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use kvtimedb_engine::fs::RealFs;
use kvtimedb_engine::inspect::{Chunk, TableView};
use kvtimedb_engine::{Background, Db, Durability, Entry, Error, Options, Timestamp, ValueType};

use crate::floor::Question;
use crate::oracle::{Op, Oracle, batch, noise};

/// The version whose database this build can write.
const WRITTEN: &str = "v3";

/// So large is a database at most, in bytes: it is there for ever.
const GOLDEN_BYTES_MAX: u64 = 60_000;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn golden() -> PathBuf {
    testdata("golden")
}

/// The directories in `dir`, in the order of their names.
fn versions(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut versions: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    versions.sort_unstable();
    versions
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

/// A merged run, a newer one that has tombstones for it, and one with late data; with chunks of one key
/// and of many, with values that compress, that don't, and that a template fits in every way.
fn sources() -> [Vec<Op>; 3] {
    let json = |i: i64| format!("{{\"t\":{}.{},\"h\":40}}", 20 + i % 5, i % 10);
    let dense =
        (0..150).map(|i| Op::json("dense/json", 1_700_000_000_000 + i * 1000 + i % 7, json(i)));
    let noisy = (0..40).map(|i| Op::put("dense/noise", -100 * i, noise(i as u64, 48)));
    let prose = (0..40).map(|i| Op::put("dense/prose", i, "all is quiet, ".repeat(1 + i as usize)));
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
    let older =
        dense.chain(noisy).chain(prose).chain(sparse).chain(edges).chain(columns()).collect();
    let late = (0..20).map(|i| Op::json("dense/json", 1_700_000_000_500 + i * 3000, json(i + 3)));
    let again = (0..60).step_by(3).map(|i| Op::put(format!("sparse/{i:03}"), i * i, "rewritten"));
    let tombstones = [
        Op::erase("erased", 20),
        Op::end("sparse/001", 5),
        Op::put("ended", 30, "again"),
        Op::erase("dense/noise", -300),
    ];
    // Few keys have far earlier records: these are what a late filter is for.
    let recent = (0..90).map(|i| Op::json(format!("late/{:02}", i % 30), 1_000_000 + i, json(i)));
    let early = [7, 23].map(|i| Op::json(format!("late/{i:02}"), i, json(i)));
    [older, late.chain(again).chain(tombstones).collect(), recent.chain(early).collect()]
}

/// A value by its number and a number that varies.
type ValueOf = fn(i64, i64) -> String;

/// Keys whose values are alike in one way each: with several skeletons, with words, with what all texts
/// begin and end with, with numbers of one spelling, with texts; and a key of several chunks.
fn columns() -> impl Iterator<Item = Op> {
    let spread = |i: i64| i * 7919 % 1000;
    let values: [(&str, ValueOf); 6] = [
        ("skeletons", |i, n| match i % 5 {
            3 => format!("{{\"error\":{n}}}"),
            4 => format!("[{n},{i}]"),
            _ => format!("{{\"n\":{n},\"of\":{i}}}"),
        }),
        ("words", |i, n| {
            let status = ["ok", "degraded", "lost"][n as usize % 3];
            let rate = if i % 4 == 0 { "null".to_owned() } else { n.to_string() };
            format!("{{\"status\":\"{status}\",\"rate\":{rate}}}")
        }),
        ("affixes", |_, n| format!("\"v{n}\"")),
        ("zeros", |i, n| format!("{n:06}:{:.3}", i as f64 / 1000.0)),
        ("decimals", |_, n| format!("{{\"p\":{}}}", n as f64 / 100.0)),
        ("texts", |_, n| format!("host-{n:x}q.example")),
    ];
    let of_values = values.into_iter().flat_map(move |(name, value)| {
        // Microseconds that are whole milliseconds.
        let ts = move |i| 1_700_000_000_000_000 + i * 60_000 + spread(i) % 9 * 1000;
        (0..48).map(move |i| Op::json(format!("dense/with/{name}"), ts(i), value(i, spread(i))))
    });
    of_values.chain((0..1100).map(move |i| Op::json("dense/year", 10 * i, spread(i).to_string())))
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
    let [older, newer, late] = sources();
    write(&older[..100]);
    db.flush().unwrap();
    write(&older[100..]);
    db.compact().unwrap();
    for ops in [newer, late] {
        write(&ops);
        db.flush().unwrap();
    }
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
    const MOMENTS_MAX: usize = 60;
    let mut text = String::from("# Written by golden.rs; floor.txt tells how to read it.\n");
    let mut ask = |question: String, answer: &[Entry]| {
        let answer: Vec<String> = answer.iter().map(shown_entry).collect();
        let answer = if answer.is_empty() { "none".to_owned() } else { answer.join(" ") };
        writeln!(text, "{question} = {answer}").unwrap();
    };
    for key in oracle.keys() {
        let name = shown(key);
        ask(format!("latest {name}"), oracle.latest(key).as_slice());
        let moments: Vec<_> = oracle.moments(key).into_iter().collect();
        let step = MOMENTS_EVERY.max(moments.len() / MOMENTS_MAX);
        for at in moments.into_iter().step_by(step) {
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

/// The SSTables of a directory.
fn tables(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|name| name == "sst")).collect()
}

/// What the format has is in the database of this build, or later builds could lose it unnoticed.
fn assert_has_every_part(dir: &Path) {
    let open = |path: &PathBuf| TableView::open(&RealFs, path).unwrap();
    let tables: Vec<_> = tables(dir).iter().map(open).collect();
    assert_eq!(tables.len(), 3);
    let sections = tables.iter().flat_map(TableView::sections);
    let sections: BTreeSet<_> = sections.filter(|s| s.bytes > 0).map(|s| s.name).collect();
    assert_eq!(sections.len(), 7, "{sections:?}");
    let blocks = tables.iter().flat_map(|t| (0..t.blocks()).map(|block| t.block(block).unwrap()));
    let chunks: Vec<Chunk> = blocks.flat_map(|block| block.chunks).collect();
    let codecs: BTreeSet<_> = chunks.iter().map(|chunk| chunk.codec).collect();
    assert_eq!(codecs, BTreeSet::from(["raw", "template", "zstd"]));
    for key in ["skeletons", "words", "affixes", "zeros", "decimals", "texts"] {
        let key = format!("dense/with/{key}");
        let chunk = chunks.iter().find(|chunk| chunk.first_key == key.as_bytes());
        let chunk = chunk.unwrap_or_else(|| panic!("{key} has no chunk of its own"));
        assert_eq!(chunk.codec, "template", "{key}");
    }
    assert!(chunks.iter().filter(|chunk| chunk.first_key == b"dense/year").count() >= 3);
    assert!(chunks.iter().any(|chunk| chunk.keys > 1));
}

#[test]
fn every_version_is_opened_and_answers_as_it_did() {
    if std::env::var_os("KVTIMEDB_WRITE_GOLDEN").is_some() {
        write();
    }
    let versions = versions(&golden());
    assert!(versions.contains(&golden().join(WRITTEN)), "{versions:?}");
    assert_has_every_part(&golden().join(WRITTEN));
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

/// Every file of a directory but the lock, with its bytes.
fn files(dir: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let paths = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let paths = paths.filter(|path| path.file_name().unwrap() != "LOCK");
    paths.map(|path| (path.file_name().unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

/// That the error names the file, and the versions that it has and should have.
fn assert_unsupported(error: &Error, name: &str) {
    let Error::UnsupportedFormat { found, supported, .. } = error else {
        panic!("{name}: {error}");
    };
    assert!(found < supported, "{name}: {error}");
    let text = error.to_string();
    for part in [name, &format!("version {found};"), &format!("version {supported}:")] {
        assert!(text.contains(part), "{name}: no `{part}` in: {text}");
    }
}

#[test]
fn retired_versions_are_refused_and_not_touched() {
    let retired = versions(&testdata("retired"));
    assert!(!retired.is_empty());
    for version in retired {
        let dir = tempfile::tempdir().unwrap();
        copy(&version, dir.path());
        let before = files(dir.path());
        for options in [options(), Options::default()] {
            let error = Db::open(dir.path(), options).unwrap_err();
            assert_unsupported(&error, "MANIFEST-");
            assert!(files(dir.path()) == before, "{}", version.display());
        }
        for path in tables(dir.path()) {
            let error = TableView::open(&RealFs, &path).unwrap_err();
            assert_unsupported(&error, path.file_name().unwrap().to_str().unwrap());
        }
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
