//! A database so small that every byte of every file is damaged, in several ways.

use kvtimedb_engine::fs::SimFs;
use kvtimedb_engine::inspect::TableView;

use super::{DIR, Db, Image, Op, Oracle, Verdict, batch, image_options, is_wal};

/// A table that has every part that a table can have, a manifest of two edits, and a log of two records.
fn image() -> Image {
    let fs = SimFs::new(9);
    let db = Db::open(DIR, image_options(&fs)).unwrap();
    let (mut ops, mut prefixes) = (Vec::new(), vec![Oracle::default()]);
    let mut write = |batch_ops: Vec<Op>| {
        db.write(batch(&batch_ops)).unwrap();
        let mut oracle: Oracle = prefixes[prefixes.len() - 1].clone();
        oracle.apply(&batch_ops);
        prefixes.push(oracle);
        ops.extend(batch_ops);
    };
    let put = |i: i64| {
        let ts = if i == 0 { -5000 } else { 1000 + i };
        Op::json(format!("key{}", i / 20), ts, format!("{{\"t\":{}.5,\"n\":{}}}", i % 9, i))
    };
    write((0..120).map(put).chain([Op::end("key2", 1050)]).collect());
    db.flush().unwrap();
    write(vec![Op::put("key1", 2000, "in the log"), Op::erase("key1", 1021)]);
    write(vec![Op::put("key1", 2001, "in the log too")]);
    drop(db);
    let image = Image { fs, ops, prefixes, earlier: Vec::new(), closed: false };
    for path in image.files() {
        if is_wal(&path) {
            let bytes = image.fs.read_file(&path).unwrap();
            let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
            image.fs.truncate(&path, end as u64);
        } else if path.to_string_lossy().ends_with("sst") {
            let sections = TableView::open(&image.fs, &path).unwrap().sections();
            assert!(sections.iter().all(|section| section.bytes > 0), "{sections:?}");
        }
    }
    image
}

/// How many batches are there, or that reads are refused.
fn batches(image: &Image, fs: &SimFs, context: &str) -> Option<usize> {
    match image.verdict(fs, context) {
        Verdict::Refused(_) => None,
        Verdict::Answers(batches) => Some(batches),
    }
}

#[test]
fn every_byte_is_covered() {
    let image = image();
    let all = image.batches();
    for path in image.files() {
        let bytes = image.fs.read_file(&path).unwrap();
        // Where the log's last record begins, whose damage looks like a write that was cut short.
        let last = if is_wal(&path) { bytes.len() - last_record_bytes() } else { bytes.len() };
        for at in 0..bytes.len() {
            for xor in [1, 0x80, 0x10, 0xff] {
                let fs = image.fs.fork();
                fs.corrupt(&path, at as u64, xor);
                let context = format!("{} at {at} xor {xor:#x}", path.display());
                let found = batches(&image, &fs, &context);
                let expected = if at < last { None } else { Some(all - 1) };
                assert_eq!(found, expected, "{context}");
            }
        }
        for end in 0..bytes.len() {
            let fs = image.fs.fork();
            fs.truncate(&path, end as u64);
            let context = format!("{} cut at {end}", path.display());
            let found = batches(&image, &fs, &context);
            assert!(found.is_none() || is_wal(&path) && found < Some(all), "{context}: {found:?}");
        }
    }
}

/// A BATCH record of one put of `key1`: head, first number, count, operation.
fn last_record_bytes() -> usize {
    21 + 12 + (1 + 1 + 4 + 8 + 1 + "in the log too".len())
}
