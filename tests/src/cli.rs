//! `kvtool` as a program: what it prints, what it says of damage, and its exit codes.

mod backup;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kvtimedb_engine::{Db, Options, ValueRef, WriteBatch};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::binaries;

struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs `kvtool`. Whatever it is given, it does not panic, and says who speaks.
fn kvtool(args: &[&str]) -> Ended {
    let output = Command::new(binaries::kvtool()).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    let code = output.status.code().unwrap_or_else(|| panic!("{args:?}: {:?}", output.status));
    assert!(code != 101 && !stderr.contains("panicked"), "{args:?}: {stderr}");
    if code != 2 {
        assert!(stderr.lines().all(|line| line.starts_with("kvtool: ")), "{args:?}: {stderr}");
    }
    Ended { code, stdout, stderr }
}

/// The rows of one kind that a command prints; it has to succeed.
fn rows(args: &[&str], kind: &str) -> Vec<Value> {
    let ended = kvtool(args);
    assert_eq!((ended.code, &*ended.stderr), (0, ""), "{args:?}");
    let rows = ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.filter(|row| row["row"] == kind).collect()
}

/// Every record of [`database`], as `kvtool dump --values` has to show it, without its file.
fn sample() -> Vec<(Vec<u8>, i64, Value)> {
    let mut all = vec![
        (b"".to_vec(), i64::MIN, json!({"key": "", "kind": "put", "type": "octets", "value": ""})),
        (b"".to_vec(), i64::MAX, json!({"key": "", "kind": "put", "type": "json", "value": null})),
    ];
    for ts in 0..1500 {
        let value = json!({"key": "dense", "kind": "put", "type": "json", "value": {"t": ts, "l": [1, "a b"]}});
        all.push((b"dense".to_vec(), ts, value));
    }
    // Not so regular that it would compress away.
    let mut state = 1_u32;
    let mut digit = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from_digit(state >> 28, 16).unwrap()
    };
    let huge: String = (0..1 << 20).map(|_| digit()).collect();
    all.push((
        b"huge".to_vec(),
        1,
        json!({"key": "huge", "kind": "put", "type": "octets", "value": huge}),
    ));
    for i in 0..300_i64 {
        let key = format!("sparse/{i:03}");
        let value = json!({"key": key, "kind": "put", "type": "octets", "value": {"$hex": "ff00"}});
        all.push((key.into_bytes(), -i, value));
    }
    all.push((b"tomb".to_vec(), 5, json!({"key": "tomb", "kind": "end"})));
    all.push((b"tomb".to_vec(), 6, json!({"key": "tomb", "kind": "erase"})));
    all.push((
        b"z\\\n".to_vec(),
        0,
        json!({"key": "z\\\n", "kind": "put", "type": "json", "value": "no json"}),
    ));
    all.push((
        b"\xff\x01".to_vec(),
        0,
        json!({"key": {"$hex": "ff01"}, "kind": "put", "type": "octets", "value": "x"}),
    ));
    all
}

fn write_sample(db: &Db) {
    let mut batch = WriteBatch::new();
    for (key, ts, row) in sample() {
        let value = &row["value"];
        match (row["kind"].as_str().unwrap(), row["type"].as_str()) {
            ("end", _) => batch.end(&key, ts).unwrap(),
            ("erase", _) => batch.erase(&key, ts).unwrap(),
            (_, Some("octets")) => {
                let bytes = value.as_str().map_or(&b"\xff\x00"[..], str::as_bytes);
                batch.put(&key, ts, ValueRef::octets(bytes)).unwrap();
            }
            _ if *value == "no json" => batch.put(&key, ts, ValueRef::json(b"no json")).unwrap(),
            // On several lines, which an object a line may not be.
            _ => {
                let text = serde_json::to_string_pretty(value).unwrap();
                batch.put(&key, ts, ValueRef::json(text.as_bytes())).unwrap();
            }
        }
    }
    db.write(batch).unwrap();
}

/// A database of two SSTables, and a log with three operations that no table holds.
fn database() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    write_sample(&db);
    db.flush().unwrap();
    db.put(b"dense", 7, ValueRef::json(b"\"again\"")).unwrap();
    db.flush().unwrap();
    for ts in 1..=3 {
        db.put(b"in the log", ts, b"value").unwrap();
    }
    drop(db);
    dir
}

/// Like [`database`], but so small that it can be damaged at many places.
fn small_database() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    for i in 0..40_i64 {
        db.put(format!("key/{}", i % 7).as_bytes(), i, b"value").unwrap();
    }
    db.flush().unwrap();
    for ts in 0..20 {
        db.put(b"in the log", ts, b"value").unwrap();
    }
    drop(db);
    dir
}

/// The files of a directory whose names hold `part`, in order.
fn files(dir: &Path, part: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().contains(part);
    let mut found: Vec<_> = entries.filter(named).collect();
    found.sort();
    assert!(!found.is_empty(), "{part}");
    found
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn every_binary_says_what_it_is() {
    for binary in [binaries::kvtimedb(), binaries::kvtool(), binaries::loadtest()] {
        for flag in ["--version", "--help"] {
            let output = Command::new(&binary).arg(flag).output().unwrap();
            assert!(output.status.success() && !output.stdout.is_empty(), "{binary:?} {flag}");
        }
    }
    let help = kvtool(&["--help"]).stdout;
    for word in ["$hex", "\\xNN", "Exit codes", "Examples", "dump", "wal", "manifest", "verify"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[test]
fn dump_shows_what_was_written() {
    let dir = database();
    let table = &files(dir.path(), ".sst")[0];
    let table = text(table);
    let expected: Vec<Value> = sample()
        .into_iter()
        .map(|(_, ts, mut row)| {
            row["ts"] = json!(ts);
            row
        })
        .collect();
    let strip = |mut row: Value| {
        let members = row.as_object_mut().unwrap();
        let bytes = members.remove("bytes").unwrap();
        assert!(bytes.is_u64() && members.remove("file").unwrap() == table);
        members.remove("row").unwrap();
        row
    };
    let found: Vec<_> =
        rows(&["dump", table, "--values"], "record").into_iter().map(strip).collect();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }

    let array = kvtool(&["-o", "json", "dump", "--values", table]);
    let array: Vec<Value> = serde_json::from_str(&array.stdout).unwrap();
    assert_eq!(array.into_iter().map(strip).collect::<Vec<_>>(), found);

    let meta = &rows(&["dump", table], "meta")[0];
    assert_eq!((&meta["records"], &meta["keys"]), (&json!(expected.len()), &json!(306)));
    let keys = rows(&["dump", table, "--keys"], "key");
    assert_eq!(keys.len(), 306);
    assert_eq!(keys[1]["records"], 1500);
    let chunks = rows(&["dump", table, "--blocks"], "chunk");
    let records: u64 = chunks.iter().map(|chunk| chunk["records"].as_u64().unwrap()).sum();
    assert_eq!(records, expected.len() as u64);
    let index = rows(&["dump", table, "--index"], "index");
    assert_eq!(index.len() as u64, meta["blocks"].as_u64().unwrap());
    let bloom = &rows(&["dump", table, "--bloom"], "bloom")[0];
    assert!(bloom["false_positive_rate"].as_f64().unwrap() < 0.05, "{bloom}");
    assert_eq!(rows(&["dump", text(dir.path())], "meta").len(), 2);
}

#[test]
fn dump_shows_what_was_chosen() {
    let dir = database();
    let table = &files(dir.path(), ".sst")[0];
    let count = |args: &[&str], kind| rows(&[&["dump", text(table)], args].concat(), kind).len();
    let records = |args: &[&str]| count(&[&["--values"], args].concat(), "record");
    assert_eq!(records(&["--key", "dense"]), 1500);
    assert_eq!(records(&["--key", "dense", "--from", "10", "--to", "12"]), 3);
    assert_eq!(records(&["--key", "dens"]), 0);
    assert_eq!(records(&["--key", ""]), 2);
    assert_eq!(records(&["--key", "\\xff\\x01"]), 1);
    assert_eq!(records(&["--key", "z\\\\\\x0a"]), 1);
    assert_eq!(records(&["--prefix", "sparse/1"]), 100);
    assert_eq!(records(&["--prefix", "sparse/", "--from", "-9"]), 10);
    assert_eq!(records(&["--limit", "17"]), 17);
    assert_eq!(count(&["--keys", "--limit", "3"], "key"), 3);
    assert_eq!(count(&["--blocks", "--limit", "1"], "chunk"), 1);
    assert_eq!(count(&["--index", "--limit", "0"], "index"), 0);
    assert_eq!(count(&["--index", "--bloom", "--keys"], "meta"), 0);
}

#[test]
fn a_table_is_for_people() {
    let dir = database();
    let table = &files(dir.path(), ".sst")[0];
    let shown =
        kvtool(&["-o", "table", "dump", "--meta", "--bloom", "--values", text(table)]).stdout;
    for part in ["min seq", "false positives", "z\\\\\\x0a", "\\xff\\x01", "… (1048576 bytes)"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(shown.lines().all(|line| line.chars().count() < 240 && !line.contains('\u{1b}')));
    for command in ["wal", "manifest", "verify"] {
        let ended = kvtool(&[command, text(dir.path()), "-o", "table"]);
        assert!(ended.code == 0 && ended.stdout.lines().count() > 3, "{}", ended.stdout);
        let quiet = kvtool(&[command, text(dir.path()), "-q"]);
        assert_eq!((quiet.code, quiet.stdout), (0, String::new()));
    }
}

#[test]
fn the_log_and_the_manifest_are_shown() {
    let dir = database();
    let segment = files(dir.path(), ".wal").pop().unwrap();
    let operations = rows(&["wal", text(&segment), "--operations"], "operation");
    assert_eq!(operations.len(), 3);
    assert_eq!(operations[2]["key"], "in the log");
    assert_eq!((&operations[2]["ts"], &operations[2]["value"]), (&json!(3), &json!("value")));
    assert_eq!(rows(&["wal", text(&segment)], "end")[0]["end"], "open");

    let tables = rows(&["manifest", text(dir.path())], "table");
    assert_eq!(tables.len(), 2);
    assert!(tables[0]["run"].as_u64() > tables[1]["run"].as_u64());
    let state = rows(&["manifest", text(&files(dir.path(), "MANIFEST")[0])], "state");
    let next_seq = operations[0]["seq"].as_u64().unwrap();
    assert_eq!(state[0]["flushed_seq"].as_u64().unwrap() + 1, next_seq);

    Db::open(dir.path(), Options::default()).unwrap().close().unwrap();
    let ends = rows(&["wal", text(dir.path())], "end");
    assert_eq!(ends.last().unwrap()["end"], "sealed");
}

#[test]
fn a_sound_database_verifies_and_a_lock_is_honoured() {
    let dir = database();
    let path = text(dir.path());
    for args in [&["verify", path][..], &["verify", "--deep", path]] {
        let found = rows(args, "file");
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found.iter().all(|file| file["status"] == "ok"), "{found:?}");
    }
    for file in files(dir.path(), "") {
        let code = if file.ends_with("LOCK") { 2 } else { 0 };
        assert_eq!(kvtool(&["verify", "--deep", text(&file)]).code, code, "{file:?}");
    }
    fs::write(dir.path().join("000999.sst"), b"of a compaction that was cut short").unwrap();
    let found = rows(&["verify", path], "file");
    assert_eq!(found.last().unwrap()["status"], "note");

    let db = Db::open(dir.path(), Options::default()).unwrap();
    let locked = kvtool(&["verify", path]);
    assert_eq!(locked.code, 5, "{}", locked.stderr);
    assert!(locked.stderr.contains("in use by process"), "{}", locked.stderr);
    db.close().unwrap();
    assert_eq!(kvtool(&["verify", path]).code, 0);
}

#[test]
fn explain_tells_the_sources_and_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    db.put(b"a\n", -5, ValueRef::json(b"[1]")).unwrap();
    db.flush().unwrap();
    let command = ["explain", text(dir.path()), "a\\x0a", "7"];
    assert_eq!(kvtool(&command).code, 5, "it is open");
    db.close().unwrap();
    let steps = rows(&command, "step");
    let read = steps.iter().find(|step| step["outcome"] == "read").unwrap();
    assert_eq!((&read["found"], &read["found_ts"]), (&json!("put"), &json!(-5)), "{steps:?}");
    assert_eq!((&read["block_offset"], &read["chunk"]), (&json!(0), &json!(0)), "{steps:?}");
    let answer = &rows(&command, "answer")[0];
    let expected = json!({
        "row": "answer", "key": "a\n", "at": 7, "ts": -5, "type": "json", "value": [1]
    });
    assert_eq!(*answer, expected);
    let none = &rows(&["explain", text(dir.path()), "a\\x0a", "-6"], "answer")[0];
    assert_eq!((&none["ts"], &none["value"]), (&Value::Null, &Value::Null));
    assert_eq!(kvtool(&["explain", "/nowhere/at/all", "k", "1"]).code, 1);
}

/// Flips a bit of `file` at about `times` places below `end`, and calls `check` with each.
fn damage(file: &Path, end: usize, times: usize, mut check: impl FnMut(usize)) {
    let sound = fs::read(file).unwrap();
    let end = end.min(sound.len());
    for offset in (0..end).step_by((end / times).max(1)).chain([end - 1]) {
        let mut damaged = sound.clone();
        damaged[offset] ^= 0x04;
        fs::write(file, damaged).unwrap();
        check(offset);
    }
    fs::write(file, sound).unwrap();
}

/// A command that has to find `file` damaged.
fn finds(args: &[&str], file: &Path, offset: usize) {
    let ended = kvtool(args);
    assert_eq!(ended.code, 4, "{args:?}, damaged at {offset}: {}", ended.stderr);
    let says = format!("kvtool: corruption in {} at offset ", file.display());
    assert!(ended.stderr.starts_with(&says), "{args:?}, damaged at {offset}: {}", ended.stderr);
    let rest = &ended.stderr[says.len()..];
    let (found, what) = rest.split_once(": ").unwrap();
    assert!(found.parse::<usize>().is_ok() && !what.trim().is_empty(), "{}", ended.stderr);
}

#[test]
fn a_damaged_table_is_found_wherever_it_is_damaged() {
    let dir = small_database();
    let table = &files(dir.path(), ".sst")[0];
    damage(table, usize::MAX, 25, |offset| {
        finds(&["dump", "--values", text(table)], table, offset);
        finds(&["verify", text(table)], table, offset);
        finds(&["verify", "--deep", text(dir.path())], table, offset);
    });
    let sound = fs::read(table).unwrap();
    for len in [0, 1, 79, 80, sound.len() / 2, sound.len() - 1] {
        fs::write(table, &sound[..len]).unwrap();
        finds(&["dump", text(table)], table, len);
        finds(&["verify", text(dir.path())], table, len);
    }
}

#[test]
fn what_can_be_read_of_a_damaged_table_is_printed_first() {
    let dir = database();
    let table = &files(dir.path(), ".sst")[0];
    let index = rows(&["dump", "--index", text(table)], "index");
    assert!(index.len() > 1);
    let last = index.last().unwrap()["offset"].as_u64().unwrap() as usize;
    let mut bytes = fs::read(table).unwrap();
    bytes[last + 50] ^= 1;
    fs::write(table, bytes).unwrap();
    for format in ["ndjson", "json", "table"] {
        let ended = kvtool(&["dump", "--values", text(table), "-o", format]);
        assert_eq!(ended.code, 4);
        assert!(ended.stderr.contains(&format!("at offset {last}: ")), "{}", ended.stderr);
        assert!(ended.stdout.contains("dense"), "{format}");
        match format {
            "json" => drop(serde_json::from_str::<Vec<Value>>(&ended.stdout).unwrap()),
            "table" => {}
            _ => ended.stdout.lines().for_each(|line| {
                serde_json::from_str::<Value>(line).unwrap();
            }),
        }
    }
    assert_eq!(kvtool(&["dump", "--meta", text(table)]).code, 0);
}

#[test]
fn a_damaged_log_is_found_and_a_torn_one_is_told() {
    let dir = small_database();
    let segment = &files(dir.path(), ".wal").pop().unwrap();
    let last = rows(&["wal", text(segment)], "log").pop().unwrap();
    let last = last["offset"].as_u64().unwrap() as usize;
    // What comes later says that all before the last record was durable.
    damage(segment, last, 25, |offset| {
        finds(&["wal", "--operations", text(segment)], segment, offset);
        finds(&["verify", text(segment)], segment, offset);
        finds(&["verify", text(dir.path())], segment, offset);
    });
    let mut torn = fs::read(segment).unwrap();
    torn[last + 25] ^= 1;
    fs::write(segment, &torn).unwrap();
    assert_eq!(rows(&["wal", text(segment)], "end")[0]["end"], "torn");
    let note = rows(&["verify", text(segment)], "file")[0]["note"].to_string();
    assert!(note.contains(&last.to_string()), "{note}");
    fs::write(segment, b"").unwrap();
    assert_eq!(rows(&["wal", text(segment)], "end")[0]["end"], "unfinished");
    finds(&["verify", text(dir.path())], segment, 0);
}

#[test]
fn a_damaged_manifest_is_found() {
    let dir = small_database();
    let manifest = &files(dir.path(), "MANIFEST")[0];
    let last = rows(&["manifest", text(manifest)], "edit").pop().unwrap();
    let last = last["offset"].as_u64().unwrap() as usize;
    damage(manifest, usize::MAX, 25, |offset| {
        if offset < last {
            finds(&["manifest", text(manifest)], manifest, offset);
            finds(&["manifest", text(dir.path())], manifest, offset);
            finds(&["verify", text(manifest)], manifest, offset);
        } else {
            // An edit that is not there: then the log that it made superfluous is missing.
            let state = rows(&["manifest", text(manifest)], "state");
            assert_eq!(state[0]["torn_at"], last);
        }
        assert_eq!(kvtool(&["verify", text(dir.path())]).code, 4, "damaged at {offset}");
    });
    let current = &files(dir.path(), "CURRENT")[0];
    damage(current, usize::MAX, 60, |offset| {
        finds(&["manifest", text(dir.path())], current, offset);
        finds(&["verify", text(dir.path())], current, offset);
    });
    fs::remove_file(current).unwrap();
    finds(&["verify", text(dir.path())], current, 0);
}

#[test]
fn what_is_no_file_of_a_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = dir.path().join(name);
        fs::write(&path, "a text\n".repeat(100)).unwrap();
        path
    };
    let notes = file("notes.txt");
    finds(&["dump", text(&notes)], &notes, 0);
    for command in ["wal", "manifest", "verify"] {
        assert_eq!(kvtool(&[command, text(&notes)]).code, 2, "{command}");
    }
    for (command, name) in
        [("dump", "000001.sst"), ("wal", "000001.wal"), ("manifest", "MANIFEST-000001")]
    {
        let path = file(name);
        finds(&[command, text(&path)], &path, 0);
        finds(&["verify", text(&path)], &path, 0);
        let missing = dir.path().join(name.replace('1', "2"));
        for command in [command, "verify"] {
            let ended = kvtool(&[command, text(&missing)]);
            assert_eq!(ended.code, 1, "{command} {missing:?}");
            assert!(ended.stderr.contains(text(&missing)), "{}", ended.stderr);
        }
    }
    let empty = tempfile::tempdir().unwrap();
    for (command, code) in [("dump", 0), ("wal", 0), ("manifest", 1), ("verify", 1)] {
        assert_eq!(kvtool(&[command, text(empty.path())]).code, code, "{command}");
    }
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0, "it made a file");
}

#[test]
fn a_wrong_command_line_is_told() {
    for args in [
        &[][..],
        &["dump"],
        &["frobnicate"],
        &["dump", "x", "--form", "1"],
        &["dump", "x", "--from", "yesterday"],
        &["dump", "x", "--key", "a", "--prefix", "b"],
        &["verify", "x", "-o", "xml"],
    ] {
        let ended = kvtool(args);
        assert_eq!((ended.code, &*ended.stdout), (2, ""), "{args:?}");
        assert!(!ended.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let dir = database();
    for format in ["table", "json", "ndjson"] {
        let mut child = Command::new(binaries::kvtool())
            .args(["-o", format, "dump", "--values", "--keys", text(dir.path())])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut head = [0; 10];
        child.stdout.take().unwrap().read_exact(&mut head).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{format}");
        assert_eq!(String::from_utf8(ended.stderr).unwrap(), "", "{format}");
    }
}

#[test]
fn a_damaged_database_is_repaired_into_a_new_one() {
    let dir = database();
    let path = text(dir.path());
    let other = tempfile::tempdir().unwrap();
    let (sound, repaired) = (other.path().join("sound"), other.path().join("repaired"));
    assert_eq!(rows(&["repair", path, text(&sound)], "repair")[0]["lost"], 0);
    let records = |dir: &Path| {
        let db = Db::open(dir, Options::default()).unwrap();
        sample().iter().filter(|(key, ts, _)| db.exact(key, *ts).unwrap().is_some()).count()
    };
    let before = records(&sound);

    let table = &files(dir.path(), ".sst")[0];
    let mut bytes = fs::read(table).unwrap();
    bytes[100] ^= 1;
    fs::write(table, &bytes).unwrap();
    let verified = kvtool(&["verify", "--deep", path]);
    assert!(verified.stderr.contains("keys from \"") && verified.code == 4, "{}", verified.stderr);
    let row = |ended: &Ended, kind: &str| {
        let rows = ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.filter(|row| row["row"] == kind).collect::<Vec<_>>()
    };
    assert_eq!(row(&verified, "damage")[0]["offset"], 0);
    let dry = kvtool(&["repair", "--dry-run", path]);
    assert_eq!(dry.code, 4, "{}", dry.stderr);
    assert!(!repaired.exists() && fs::read(table).unwrap() == bytes);
    let ended = kvtool(&["repair", path, text(&repaired)]);
    assert_eq!((ended.code, &ended.stderr), (4, &dry.stderr));
    let lost = &row(&ended, "lost")[0];
    assert_eq!((&lost["file"], &lost["blocks"]), (&json!(text(table)), &json!(1)));
    assert!(ended.stderr.contains("may be older than they were"), "{}", ended.stderr);
    assert_eq!(kvtool(&["verify", "--deep", text(&repaired)]).code, 0);
    assert!((1..before).contains(&records(&repaired)));
    assert_eq!(kvtool(&["repair", path, text(&repaired)]).code, 2, "it goes to a new directory");
    assert_eq!(kvtool(&["repair", path]).code, 2);
}
