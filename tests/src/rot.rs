//! Bits that rot while a database is open: in files that were sound when they were read first.
//!
//! A file that is written to shows in a map of it, as a disk that goes bad shows in pages that are read
//! again; so these tests are on the real file system.

use std::fs;
use std::path::{Path, PathBuf};

use kvtimedb_engine::fs::{Fault, FaultKind, FsOp, RealFs, SimFs};
use kvtimedb_engine::inspect::TableView;
use kvtimedb_engine::{Background, Db, Error, Options};

use crate::oracle::{DIR, Op, Oracle, batch, noise, options};

/// Two runs of tables: keys of many versions, whose chunks a merge copies, and keys of few.
fn fill(db: &Db) -> Oracle {
    let mut oracle = Oracle::default();
    for run in 0..2_i64 {
        let dense = (0..900).map(|i| Op::json("dense", 10 * i + run, format!("{{\"t\":{i}.5}}")));
        let large = (0..40).map(|i| Op::put(format!("large{i:02}"), run, noise(i, 2000)));
        let ops: Vec<Op> = dense
            .chain(large)
            .chain((0..400).map(|i| Op::put(format!("own{run}"), i, noise(i as u64, 60))))
            .collect();
        db.write(batch(&ops)).unwrap();
        oracle.apply(&ops);
        db.flush().unwrap();
    }
    oracle
}

fn tables(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut tables: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|name| name == "sst")).collect();
    tables.sort();
    tables
}

fn flip(path: &Path, offset: u64) {
    use std::os::unix::fs::FileExt as _;
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 4], offset).unwrap();
}

/// The bug it guards: a block was verified at its first touch only. What rotted after that was read, by a
/// merge too, which wrote it under a new checksum: the damage was then sound for ever.
#[test]
fn what_rots_after_it_was_read_is_not_merged() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { background: Background::Inline, ..Options::default() };
    let db = Db::open(dir.path(), options.clone()).unwrap();
    let oracle = fill(&db);
    let before = tables(dir.path());
    let blocks: Vec<_> = {
        let view = TableView::open(&RealFs, &before[0]).unwrap();
        (0..view.blocks()).map(|block| view.index_row(block)).collect()
    };
    assert!(blocks.len() > 3, "{blocks:?}");
    // Every block is verified now.
    oracle.assert_answers(&db, "undamaged");
    for row in &blocks {
        let offset = row.offset + row.bytes / 2;
        flip(&before[0], offset);
        let error = db.compact().expect_err("a merge of a rotten block");
        let Error::Corruption { file, offset: found, .. } = &error else { panic!("{error}") };
        assert_eq!((file, *found), (&before[0], row.offset), "{error}");
        assert_eq!(tables(dir.path()), before, "the inputs stay, and nothing else");
        assert!(db.poisoned().is_none());
        // The merge has taken back that the block is sound: it is refused, and all else is right.
        let comparison = oracle.compare_every(&db, 50);
        assert!(comparison.wrong.is_empty(), "{comparison}");
        assert!(!comparison.refused.is_empty(), "at {offset}");
        flip(&before[0], offset);
        let mended = oracle.compare_every(&db, 50);
        assert!(mended.is_right(), "{mended}");
    }
    db.compact().unwrap();
    oracle.assert_answers(&db, "merged");
}

/// Every part of a table is looked at, also those that reads have in memory since the open.
#[test]
fn a_scrub_finds_what_rots_and_reads_are_refused_then() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { background: Background::Inline, ..Options::default() };
    let db = Db::open(dir.path(), options).unwrap();
    let oracle = fill(&db);
    oracle.assert_answers(&db, "undamaged");
    let report = db.scrub(&mut |_| {}).unwrap();
    let bytes: u64 = tables(dir.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!((report.tables, report.bytes, report.damaged), (2, bytes, 0));
    let path = &tables(dir.path())[1];
    let view = TableView::open(&RealFs, path).unwrap();
    let parts = view.sections().into_iter().skip(1).filter(|section| section.bytes > 0);
    let parts = parts.map(|section| (section.offset, section.bytes, None));
    let blocks = (0..view.blocks()).map(|block| view.index_row(block));
    let blocks = blocks.map(|row| (row.offset, row.bytes, Some(row.first_key)));
    for (part, len, first_key) in blocks.chain(parts) {
        for offset in [part, part + len / 2, part + len - 1] {
            flip(path, offset);
            let report = db.scrub(&mut |_| {}).unwrap();
            assert_eq!((report.damaged, report.damage.len()), (1, 1), "{offset}: {report:?}");
            let damage = &report.damage[0];
            let Error::Corruption { file, .. } = &damage.error else { panic!("{damage}") };
            assert_eq!((file, damage.offset), (path, part), "{damage}");
            assert_eq!(db.damage().len(), 1);
            let expected = first_key.as_deref().unwrap_or(b"dense");
            assert_eq!(damage.first_key, expected, "{damage}");
            let comparison = oracle.compare_every(&db, 100);
            assert!(comparison.wrong.is_empty(), "{comparison}");
            assert_eq!(comparison.refused.is_empty(), first_key.is_none(), "{damage}");
            flip(path, offset);
        }
    }
    assert_eq!(db.scrub(&mut |_| {}).unwrap().damaged, 0);
    assert!(db.damage().is_empty());
    oracle.assert_answers(&db, "mended");
    assert!(db.metrics().scrub_bytes_read.get() > 2 * bytes);
}

/// A disk that can't read would end the process at a touch of the map: once a scrub has met it, reads of
/// that block are refused. A file that is gone is damage too.
#[test]
fn a_scrub_reports_what_the_disk_cannot_read() {
    let fs = SimFs::new(1);
    let db = Db::open(DIR, options(&fs)).unwrap();
    let oracle = fill(&db);
    fs.inject(Fault { op: FsOp::Read, pattern: ".sst".into(), nth: 2, kind: FaultKind::Eio });
    let report = db.scrub(&mut |_| {}).unwrap();
    assert_eq!(report.damaged, 1);
    assert!(matches!(report.damage[0].error, Error::Io { .. }), "{}", report.damage[0]);
    let comparison = oracle.compare_every(&db, 50);
    assert!(comparison.wrong.is_empty() && !comparison.refused.is_empty(), "{comparison}");
    assert_eq!(db.scrub(&mut |_| {}).unwrap().damaged, 0, "it could be read after all");
    oracle.assert_answers(&db, "read again");
    fs.inject(Fault { op: FsOp::Open, pattern: ".sst".into(), nth: 2, kind: FaultKind::Emfile });
    assert!(matches!(db.scrub(&mut |_| {}), Err(Error::TooManyFiles { .. })), "which is no damage");
    assert!(db.damage().is_empty());
    let table = fs.file_names().into_iter().find(|path| path.to_str().unwrap().contains(".sst"));
    fs.remove_file(table.unwrap());
    assert_eq!(db.scrub(&mut |_| {}).unwrap().damaged, 1);
    oracle.assert_answers(&db, "what is mapped stays");
    db.close().unwrap();
    assert!(matches!(db.scrub(&mut |_| {}), Err(Error::Closed)));
}
