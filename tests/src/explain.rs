//! What a floor costs, as it is told: `Db::explain`, and `kvtool explain` of a closed database.

use kvtimedb_engine::fs::SimFs;
use kvtimedb_engine::inspect::explain;
use kvtimedb_engine::{Db, Error, ExplainedOutcome, ExplainedSource, ValueKind};

use crate::oracle::{DIR, Op, batch, options};

/// Three runs and a memtable: old versions of `a` and `k`; a later one of `k`; other keys; an erase.
fn database(fs: &SimFs) -> Db {
    let db = Db::open(DIR, options(fs)).unwrap();
    let write = |ops: &[Op]| assert!(db.write(batch(ops)).is_ok());
    write(&[Op::put("a", 5, "a"), Op::put("k", 10, "old"), Op::put("z", 5, "z")]);
    db.flush().unwrap();
    write(&[Op::put("a", 20, "a"), Op::put("k", 20, "late"), Op::put("z", 20, "z")]);
    db.flush().unwrap();
    write(&[Op::put("x", 1, "x")]);
    db.flush().unwrap();
    write(&[Op::erase("k", 20)]);
    db
}

/// The lines of the text, without the numbers of runs and files.
fn lines(text: &str) -> Vec<String> {
    let line = |line: &str| match line.trim().split_once(": ") {
        Some((source, outcome)) if source.starts_with("run ") => format!("run: {outcome}"),
        _ => line.trim().to_owned(),
    };
    text.lines().map(line).collect()
}

#[test]
fn an_explanation_names_every_source_and_why_it_was_skipped() {
    let fs = SimFs::new(1);
    let db = database(&fs);
    let explained = db.explain(b"k", 25).unwrap();
    assert_eq!(explained.answer, db.floor(b"k", 25).unwrap());
    assert_eq!(
        lines(&explained.to_string()),
        [
            "floor of \"k\" at 25",
            "run: skipped, has other keys",
            "active memtable: read, found an erase at 20",
            "run: skipped, has none that is later",
            "run: skipped, has none that is later",
            "erased: once more, at 19",
            "active memtable: skipped, its versions are later",
            "run: skipped, has other keys",
            "run: skipped, its versions are later",
            "run: read, block at 0, chunk 0 (raw), found a value at 10",
            "answer: 3 bytes, from 10",
        ]
    );
    let filtered = db.explain(b"kk", 25).unwrap();
    let skipped: Vec<_> = filtered.steps.iter().map(|step| step.outcome).collect();
    let nothing = ExplainedOutcome::Read { place: None, found: None };
    assert_eq!(skipped[..2], [ExplainedOutcome::OtherKeys, nothing]);
    assert_eq!(skipped[2..], [ExplainedOutcome::Filtered; 2]);
    assert_eq!(filtered.answer, None);
}

#[test]
fn a_closed_database_is_explained_without_a_change_to_it() {
    let fs = SimFs::new(1);
    let db = database(&fs);
    let open = db.explain(b"k", 25).unwrap();
    assert!(matches!(explain(&fs, DIR.as_ref(), b"k", 25), Err(Error::Locked { .. })));
    drop(db);
    let before = fs.file_names();
    let closed = explain(&fs, DIR.as_ref(), b"k", 25).unwrap();
    assert_eq!(closed, open, "the log is the memtable that it was");
    let first = &closed.steps[1];
    let erase = Some((20, ValueKind::Erase));
    assert_eq!(first.source, ExplainedSource::Memtable(0));
    assert_eq!(first.outcome, ExplainedOutcome::Read { place: None, found: erase });
    assert_eq!(fs.file_names(), before);
}
