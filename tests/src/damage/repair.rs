//! Repairs of databases of which it is known what was lost.

use std::path::Path;
use std::sync::Arc;

use kvtimedb_engine::fs::{Fault, FaultKind, Fs, FsOp, SimFs};
use kvtimedb_engine::inspect::{Lost, Salvaged, TableView, salvage};
use kvtimedb_engine::{Db, Error};

use super::{DIR, NEW_DIR, Oracle, image_options, is_wal};
use crate::checkpoint::SURVIVALS;
use crate::oracle::{Op, batch, noise};

/// A table of many blocks, one above it that ends and erases some of what it holds, and a log.
fn database() -> (SimFs, Oracle) {
    let fs = SimFs::new(3);
    let db = Db::open(DIR, image_options(&fs)).unwrap();
    let mut oracle = Oracle::default();
    let mut write = |ops: &[Op]| {
        db.write(batch(ops)).unwrap();
        oracle.apply(ops);
    };
    let put = |i: i64| Op::put(format!("key{:03}", i / 3), i % 3, noise(i as u64, 700));
    write(&(0..300).map(put).collect::<Vec<_>>());
    db.flush().unwrap();
    let hide = (0..30).flat_map(|i| {
        let key = || format!("key{:03}", 3 * i);
        [Op::erase(key(), 2), Op::end(format!("key{:03}", 3 * i + 1), 1), Op::put(key(), 1, "new")]
    });
    write(&hide.collect::<Vec<_>>());
    db.flush().unwrap();
    for i in 0..4 {
        write(&[Op::put("log", i, noise(i as u64, 40)), Op::put(format!("log{i}"), 7, "x")]);
    }
    drop(db);
    let wal = wal_of(&fs);
    let end = fs.read_file(&wal).unwrap().iter().rposition(|&byte| byte != 0).unwrap() + 1;
    fs.truncate(&wal, end as u64);
    (fs, oracle)
}

fn wal_of(fs: &SimFs) -> std::path::PathBuf {
    fs.file_names().into_iter().find(|path| is_wal(path)).unwrap()
}

fn tables_of(fs: &SimFs) -> Vec<std::path::PathBuf> {
    let mut files = fs.file_names();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sst"));
    files
}

fn repair(fs: &SimFs) -> (Salvaged, Db) {
    let options = image_options(fs);
    let salvaged = salvage(&options, Path::new(DIR), Some(Path::new(NEW_DIR))).unwrap();
    (salvaged, Db::open(NEW_DIR, options).unwrap())
}

#[test]
fn an_undamaged_database_is_repaired_to_the_same() {
    let (fs, oracle) = database();
    let (salvaged, db) = repair(&fs);
    assert!(salvaged.lost.is_empty() && salvaged.notes.is_empty(), "{salvaged:?}");
    assert_eq!((salvaged.tables, salvaged.records, salvaged.operations), (2, 390, 8));
    oracle.assert_answers(&db, "repaired");
}

#[test]
fn a_bad_block_costs_its_own_keys() {
    let (fs, oracle) = database();
    let table = &tables_of(&fs)[0];
    let view = TableView::open(&fs, table).unwrap();
    assert!(view.blocks() > 5);
    let (row, next, behind) = (view.index_row(2), view.index_row(3), view.index_row(4));
    for bad in [&row, &next] {
        fs.corrupt(table, bad.offset + 40, 1);
    }
    let (salvaged, db) = repair(&fs);
    let [lost] = &salvaged.lost[..] else { panic!("two neighbours are one stretch: {salvaged:?}") };
    assert_eq!((lost.offset, lost.bytes, lost.blocks), (row.offset, row.bytes + next.bytes, 2));
    assert_eq!(lost.keys, Some((row.first_key.clone(), behind.first_key.clone())));
    assert_eq!((lost.times, lost.seqs), (Some((0, 2)), Some((1, 300))));
    assert!(!lost.returns.replaced && !lost.returns.ended && !lost.returns.erased, "{lost}");
    let mut missing = 0;
    for key in oracle.keys() {
        let right = (-1..9).all(|at| db.floor(key, at).unwrap() == oracle.floor(key, at));
        let told = row.first_key.as_slice() <= key && key <= behind.first_key.as_slice();
        assert!(right || told, "{}", key.escape_ascii());
        missing += usize::from(!right);
    }
    assert!(missing > 10, "{missing}");
}

/// A newer table that is lost hides nothing any more: the report says so.
#[test]
fn what_may_be_back_is_told() {
    let (fs, oracle) = database();
    let table = &tables_of(&fs)[1];
    fs.remove_file(table);
    let (salvaged, db) = repair(&fs);
    let [lost] = &salvaged.lost[..] else { panic!("{salvaged:?}") };
    assert!(matches!(&lost.error, Error::Corruption { file, .. } if file == table), "{lost}");
    assert_eq!(lost.keys, Some((b"key000".to_vec(), b"key088".to_vec())));
    assert_eq!(lost.seqs, Some((301, 390)));
    assert!(lost.returns.replaced && lost.returns.ended && lost.returns.erased, "{lost}");
    for words in
        ["older than they were", "anew may be back", "have values again", "erased versions"]
    {
        assert!(lost.to_string().contains(words), "{lost}");
    }
    assert_eq!(oracle.floor(b"key000", 2).unwrap().value, b"new");
    assert_eq!(db.floor(b"key000", 2).unwrap().unwrap().ts, 2, "what had been erased");
    assert!(oracle.floor(b"key001", 1).is_none() && db.floor(b"key001", 1).unwrap().is_some());
}

#[test]
fn records_behind_a_hole_of_the_log_are_saved() {
    let (fs, oracle) = database();
    let wal = wal_of(&fs);
    let bytes = fs.read_file(&wal).unwrap();
    let second =
        36 + 21 + u64::from(u32::from_le_bytes(bytes[36 + 16..36 + 20].try_into().unwrap()));
    // In the payload, in the length, in the checksum, and the whole head.
    for (at, len) in [(40, 1), (17, 1), (0, 1), (0, 21)] {
        let fs = fs.fork();
        (0..len).for_each(|i| fs.corrupt(&wal, second + at + i, 0x55));
        assert!(Db::open(DIR, image_options(&fs.fork())).is_err());
        let (salvaged, db) = repair(&fs);
        let [lost] = &salvaged.lost[..] else { panic!("{salvaged:?}") };
        assert_eq!((lost.offset, lost.seqs), (second, Some((393, 394))), "{lost}");
        assert_eq!(salvaged.operations, 6);
        for i in (0..4).filter(|&i| i != 1) {
            let key = format!("log{i}");
            assert_eq!(db.latest(key.as_bytes()).unwrap(), oracle.latest(key.as_bytes()));
        }
        assert_eq!(db.latest(b"log1").unwrap(), None);
    }
}

#[test]
fn without_a_manifest_the_order_of_tables_is_that_of_their_sequence_numbers() {
    let (fs, oracle) = database();
    for path in fs.file_names() {
        let name = path.to_string_lossy();
        if name.contains("MANIFEST") || name.contains("CURRENT") {
            fs.remove_file(&path);
        }
    }
    let (salvaged, db) = repair(&fs);
    assert!(salvaged.lost.is_empty(), "{:?}", salvaged.lost);
    assert!(salvaged.notes.iter().any(|note| note.contains("no manifest")), "{:?}", salvaged.notes);
    oracle.assert_answers(&db, "repaired");
}

/// With the manifest's last edit, a flush is lost: the manifest that is left says that its operations are in
/// a segment, which the flush removed, and does not name its table.
#[test]
fn a_table_of_a_lost_edit_is_saved() {
    let fs = SimFs::new(3);
    let db = Db::open(DIR, image_options(&fs)).unwrap();
    let mut oracle = Oracle::default();
    let ops = [Op::put("key", 1, "value"), Op::put("key", 1, "newer"), Op::put("other", 1, "x")];
    db.write(batch(&ops)).unwrap();
    oracle.apply(&ops);
    db.close().unwrap();
    drop(db);
    let is_manifest = |path: &std::path::PathBuf| path.to_string_lossy().contains("MANIFEST");
    let manifest = fs.file_names().into_iter().find(is_manifest).unwrap();
    let end = fs.read_file(&manifest).unwrap().iter().rposition(|&byte| byte != 0).unwrap();
    fs.corrupt(&manifest, end as u64, 1);
    let (salvaged, db) = repair(&fs);
    assert!(salvaged.lost.is_empty(), "{:?}", salvaged.lost);
    assert_eq!(salvaged.tables, 1);
    oracle.assert_answers(&db, "repaired");
}

/// What a filter or the properties say is not needed to read records.
#[test]
fn nothing_is_lost_with_a_filter_or_with_properties_that_the_manifest_has() {
    let (fs, oracle) = database();
    let table = &tables_of(&fs)[0];
    let sections = TableView::open(&fs, table).unwrap().sections();
    for section in sections.iter().filter(|s| ["filter", "properties"].contains(&s.name)) {
        let fs = fs.fork();
        fs.corrupt(table, section.offset + 9, 4);
        let (salvaged, db) = repair(&fs);
        assert!(salvaged.lost.is_empty() && salvaged.notes.len() == 1, "{salvaged:?}");
        oracle.assert_answers(&db, section.name);
    }
}

/// A page that the disk can't read costs the blocks that it is in.
#[test]
fn a_page_that_cannot_be_read_costs_its_blocks() {
    let (fs, oracle) = database();
    let table = tables_of(&fs)[0].file_name().unwrap().to_str().unwrap().to_owned();
    // The whole file, and then one page of it: 6 reads later.
    for nth in [1, 7] {
        fs.inject(Fault { op: FsOp::Read, pattern: table.clone(), nth, kind: FaultKind::Eio });
    }
    let (salvaged, db) = repair(&fs);
    let lost: Vec<_> = salvaged.lost.iter().map(Lost::to_string).collect();
    assert_eq!(salvaged.lost.len(), 1, "{lost:?}");
    assert!(lost[0].contains("can read"), "{lost:?}");
    let keys = salvaged.lost[0].keys.clone().unwrap();
    for key in oracle.keys() {
        let right = (-1..9).all(|at| db.floor(key, at).unwrap() == oracle.floor(key, at));
        assert!(right || keys.0.as_slice() <= key && key <= keys.1.as_slice(), "{keys:?}");
    }
}

#[test]
fn a_repair_goes_to_a_new_directory_only() {
    let (fs, _) = database();
    let options = image_options(&fs);
    let go = |to: &str| salvage(&options, Path::new(DIR), Some(Path::new(to)));
    assert!(matches!(go(DIR), Err(Error::InvalidArgument(_))));
    fs.put_file("/full/notes.txt", b"mine".to_vec());
    assert!(matches!(go("/full"), Err(Error::InvalidArgument(_))));
    let nothing = salvage(&options, Path::new("/full"), None);
    assert!(matches!(nothing, Err(Error::Io { .. })), "{nothing:?}");
    let db = Db::open(DIR, options.clone()).unwrap();
    assert!(matches!(go(NEW_DIR), Err(Error::Locked { .. })));
    drop(db);
    assert!(Arc::new(fs).list(Path::new(NEW_DIR)).is_err());
}

/// A repair that was killed left a database that opened, and answered with what its oldest sources held.
#[test]
fn a_repair_that_is_cut_short_leaves_nothing_that_opens() {
    let (image, oracle) = database();
    let go = |fs: &SimFs| salvage(&image_options(fs), Path::new(DIR), Some(Path::new(NEW_DIR)));
    let whole = image.fork();
    let before = whole.mutations();
    go(&whole).unwrap();
    let (mut refused, mut complete) = (0, 0);
    for call in before..=whole.mutations() {
        let stopped = image.fork();
        stopped.stop_after(call);
        let told = go(&stopped);
        for survival in SURVIVALS {
            let fs = stopped.fork();
            fs.crash(survival);
            let point = format!("call {call}, {survival:?}");
            let in_it = |path: &std::path::PathBuf| path.starts_with(NEW_DIR);
            if !fs.file_names().iter().any(in_it) {
                assert!(told.is_err() && call < before + 6, "{point}: there is nothing");
                continue;
            }
            match Db::open(NEW_DIR, image_options(&fs)) {
                Ok(db) => {
                    oracle.assert_answers(&db, &point);
                    complete += 1;
                }
                Err(error) => {
                    assert!(told.is_err(), "{point}: {error}");
                    assert!(
                        error.to_string().contains("repair into a new one"),
                        "{point}: {error}"
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 20 && complete >= SURVIVALS.len(), "{refused} {complete}");
}
