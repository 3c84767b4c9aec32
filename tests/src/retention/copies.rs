//! Copies of a database have its horizon, or they would answer what it does not know any more.

use std::path::Path;
use std::sync::Arc;

use kvtimedb_engine::fs::{Fs, SimFs};
use kvtimedb_engine::inspect::salvage;
use kvtimedb_engine::{Db, Error, Timestamp, WriteBatch, backup};

use super::{DIR, open, stepped, versions, write, write_run};

/// With records in a table and in the log, some of which the horizon will hide.
fn database() -> SimFs {
    let fs = SimFs::new(1);
    let db = open(&fs);
    write_run(&db, &versions("a", 1..=20));
    write(&db, &versions("a", [5, 30]));
    db.set_horizon(10).unwrap();
    fs
}

fn assert_has_horizon(fs: &SimFs, dir: &str) {
    let db = Db::open(dir, stepped(fs)).unwrap();
    assert_eq!(db.horizon(), Some(10), "{dir}");
    assert!(matches!(db.floor(b"a", 9), Err(Error::BelowHorizon { .. })), "{dir}");
    let ts_at = |at| db.floor(b"a", at).unwrap().unwrap().ts;
    assert_eq!((ts_at(10), ts_at(25), ts_at(30)), (10, 20, 30), "{dir}");
}

#[test]
fn checkpoints_backups_and_what_is_restored_have_the_horizon() {
    let fs = database();
    open(&fs).checkpoint("/checkpoint").unwrap();
    assert_has_horizon(&fs, "/checkpoint");
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let path = Path::new;
    backup::backup(&shared, path(DIR), path("/backup"), &mut |_| {}).unwrap();
    backup::restore(&shared, path("/backup"), path("/restored"), &mut |_| {}).unwrap();
    for dir in ["/restored", "/backup"] {
        assert_has_horizon(&fs, dir);
    }
}

/// A copy of the tables from before a merge, with the log from after it, brought back what had been
/// erased: an erase of everything names only the versions that the merge had left.
#[test]
fn a_backup_beside_merges_brings_nothing_back_that_was_erased() {
    let fs = SimFs::new(1);
    let db = open(&fs);
    write_run(&db, &versions("a", [5, 9]));
    db.set_horizon(10).unwrap();
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let mut has_erased = false;
    let copied = backup::backup(&shared, Path::new(DIR), Path::new("/backup"), &mut |_| {
        if !has_erased {
            has_erased = true;
            db.compact().unwrap();
            let mut batch = WriteBatch::new();
            batch.erase_between(b"a", Timestamp::MIN, Timestamp::MAX).unwrap();
            assert_eq!(db.write(batch).unwrap().erased, 1, "the merge has dropped the other one");
        }
    });
    assert_eq!(copied.unwrap().passes, 2);
    assert_eq!(db.floor(b"a", 10).unwrap(), None);
    let copy = Db::open("/backup", stepped(&fs)).unwrap();
    assert_eq!(copy.floor(b"a", 10).unwrap(), None);
}

#[test]
fn a_repair_keeps_the_horizon_and_writes_what_is_before_it_first() {
    let fs = database();
    let salvaged = salvage(&stepped(&fs), Path::new(DIR), Some(Path::new("/new"))).unwrap();
    assert!(salvaged.lost.is_empty(), "{salvaged:?}");
    assert_eq!(salvaged.horizon, 10);
    assert_has_horizon(&fs, "/new");
}

/// Tables tell under which horizon they were written.
#[test]
fn a_repair_without_a_manifest_answers_nothing_that_a_merge_has_dropped() {
    let fs = database();
    open(&fs).compact().unwrap();
    for path in fs.file_names() {
        if path.to_string_lossy().contains("MANIFEST") {
            fs.remove_file(&path);
        }
    }
    salvage(&stepped(&fs), Path::new(DIR), Some(Path::new("/new"))).unwrap();
    assert_has_horizon(&fs, "/new");

    let fs = SimFs::new(1);
    write_run(&open(&fs), &versions("a", 1..=20));
    let salvaged = salvage(&stepped(&fs), Path::new(DIR), Some(Path::new("/new"))).unwrap();
    assert_eq!(salvaged.horizon, Timestamp::MIN, "no horizon, no limit");
}
