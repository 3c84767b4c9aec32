use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::fs::SimFs;
use crate::{Background, Db, Error, Options, Timestamp, ValueKind, ValueRef, ValueType};

const DIR: &str = "/db";

type Records = BTreeMap<(Vec<u8>, Timestamp), TableRecord>;

fn open(sim: &SimFs) -> Db {
    let fs = Arc::new(sim.clone());
    let background = Background::Inline;
    Db::open(DIR, Options { background, fs, ..Options::default() }).unwrap()
}

/// Dense and sparse keys, tombstones, every type, the extremes of keys, timestamps and values.
fn sample() -> Records {
    let mut records = Records::new();
    let mut add = |key: &[u8], ts, kind, value_type, value: &[u8]| {
        let (key, value) = (key.to_vec(), value.to_vec());
        let record = TableRecord { key: key.clone(), ts, kind, value_type, value };
        records.insert((key, ts), record);
    };
    for ts in 0..3000_i64 {
        let value = format!("{{\"t\":{ts}}}");
        add(b"dense", ts * 1000, ValueKind::Put, ValueType::Json, value.as_bytes());
    }
    for i in 0..700 {
        let key = format!("sparse/{i:04}");
        add(key.as_bytes(), -i, ValueKind::Put, ValueType::Octets, &[0xff, 0, b'x']);
    }
    add(b"", i64::MIN, ValueKind::Put, ValueType::Octets, b"");
    add(b"", i64::MAX, ValueKind::Put, ValueType::Json, b"null");
    add(b"huge", 1, ValueKind::Put, ValueType::Octets, &vec![7; 1 << 20]);
    add(b"tombstones", 5, ValueKind::End, ValueType::Octets, b"");
    add(b"tombstones", 6, ValueKind::Erase, ValueType::Octets, b"");
    add(&[0xff; 300], 0, ValueKind::Put, ValueType::Octets, b"last");
    records
}

fn write(db: &Db, records: &Records) {
    let mut batch = crate::WriteBatch::new();
    for TableRecord { key, ts, kind, value_type, value } in records.values() {
        match kind {
            ValueKind::Put => {
                let value = ValueRef { value_type: *value_type, bytes: value };
                batch.put(key, *ts, value).unwrap();
            }
            ValueKind::End => batch.end(key, *ts).unwrap(),
            ValueKind::Erase => batch.erase(key, *ts).unwrap(),
        }
    }
    db.write(batch).unwrap();
}

/// A closed database of two runs and a log with operations that no table holds yet.
fn database() -> SimFs {
    let sim = SimFs::new(7);
    let db = open(&sim);
    write(&db, &sample());
    db.flush().unwrap();
    db.put(b"dense", 7, b"second run").unwrap();
    db.flush().unwrap();
    for ts in 0..5 {
        db.put(b"in the log", ts, b"value").unwrap();
    }
    drop(db);
    sim
}

fn files(sim: &SimFs, ending: &str) -> Vec<PathBuf> {
    let mut names = sim.file_names();
    names.retain(|path| path.to_str().unwrap().contains(ending));
    assert!(!names.is_empty(), "{ending}");
    names
}

fn verify(sim: &SimFs, depth: Depth) -> Vec<Checked> {
    let mut found = Vec::new();
    verify_directory(sim, Path::new(DIR), depth, &mut |checked| found.push(checked)).unwrap();
    found
}

fn errors(sim: &SimFs, depth: Depth) -> Vec<Error> {
    verify(sim, depth).into_iter().filter_map(|checked| checked.error).collect()
}

#[test]
fn a_table_shows_what_was_written() {
    let sim = database();
    let table = TableView::open(&sim, &files(&sim, ".sst")[0]).unwrap();
    let expected = sample();
    let all: Vec<_> = table.records(b"", i64::MIN).map(Result::unwrap).collect();
    assert!(all.iter().eq(expected.values()));
    for from in [(b"dense".to_vec(), 1_000_500), (b"tombstones".to_vec(), 6), (vec![0xff; 301], 0)]
    {
        let found = table.records(&from.0, from.1).map(Result::unwrap);
        assert!(found.eq(expected.range(from..).map(|(_, record)| record.clone())));
    }

    let properties = table.properties();
    assert_eq!((properties.records, properties.keys), (expected.len() as u64, 705));
    assert_eq!((properties.ends, properties.erases), (1, 1));
    let mut records = 0;
    for block in (0..table.blocks()).map(|block| table.block(block).unwrap()) {
        assert_eq!(block.chunks[0].first_key, block.row.first_key);
        assert_eq!(block.chunks[0].first_ts, block.row.first_ts);
        assert!(block.chunks.iter().all(|chunk| chunk.stored_bytes <= chunk.value_bytes));
        records += block.chunks.iter().map(|chunk| chunk.records as u64).sum::<u64>();
    }
    assert_eq!(records, properties.records);
    let bytes: u64 = table.sections().iter().map(|section| section.bytes).sum();
    assert_eq!(bytes, table.file_bytes());
    let filter = table.filter();
    assert!((0.001..0.03).contains(&filter.false_positive_rate), "{filter:?}");
}

#[test]
fn a_segment_shows_its_operations_and_its_end() {
    let sim = SimFs::new(7);
    let db = open(&sim);
    let path = files(&sim, ".wal").pop().unwrap();
    write(&db, &sample());
    let walk = |sim: &SimFs| {
        let mut segment = WalView::open(sim, &path, true).unwrap();
        let records: Vec<_> = segment.by_ref().map(Result::unwrap).collect();
        assert!(segment.next().is_none());
        (records, segment.end().unwrap())
    };
    let (records, (end, offset)) = walk(&sim);
    let [record] = &records[..] else { panic!("{} records", records.len()) };
    assert_eq!((end, offset), (WalEnd::Open, record.offset + record.bytes));
    let count = sample().len() as u32;
    assert_eq!(record.content, WalContent::Batch { first_seq: 1, count });
    for (op, (seq, written)) in record.operations.iter().zip((1..).zip(sample().values())) {
        assert_eq!(
            (op.seq, &op.key, op.ts, op.kind),
            (seq, &written.key, written.ts, written.kind)
        );
        assert_eq!((&op.value, op.value_type), (&written.value, written.value_type));
    }

    let torn = sim.fork();
    torn.corrupt(&path, offset + 3, 0x55);
    assert_eq!(walk(&torn).1, (WalEnd::Torn, offset));
    let empty = sim.fork();
    empty.put_file(&path, Vec::new());
    assert_eq!(walk(&empty).1, (WalEnd::Unfinished, 0));
    db.close().unwrap();
    let sealed = files(&sim, ".wal").pop().unwrap();
    let mut segment = WalView::open(&sim, &sealed, false).unwrap();
    assert!(segment.by_ref().all(|record| record.is_ok()));
    assert_eq!(segment.end().unwrap().0, WalEnd::Sealed);
    assert!(WalView::open(&sim, Path::new("/db/CURRENT"), false).is_err());
}

#[test]
fn a_manifest_shows_its_runs_newest_first() {
    let sim = database();
    let manifest = read_current_manifest(&sim, Path::new(DIR)).unwrap();
    let state = manifest.state().unwrap();
    let ranks: Vec<_> = state.tables_by_run().iter().map(|table| table.rank).collect();
    assert_eq!(ranks.len(), 2);
    assert!(ranks[0] > ranks[1]);
    assert_eq!(read_manifest(&sim, &manifest.path).unwrap().edits, manifest.edits);
}

#[test]
fn a_sound_database_is_found_sound_and_left_as_it_is() {
    let sim = database();
    let contents = |sim: &SimFs| -> Vec<_> {
        let names = sim.file_names().into_iter().filter(|path| !path.ends_with("LOCK"));
        names.map(|path| (sim.read_file(&path), path)).collect()
    };
    let before = contents(&sim);
    for depth in [Depth::Checksums, Depth::Records] {
        let found = verify(&sim, depth);
        assert!(found.iter().all(|checked| checked.error.is_none()), "{found:?}");
        assert_eq!(found.len(), before.len() - 1, "all but CURRENT: {found:?}");
        for (_, path) in &before {
            assert!(verify_file(&sim, path, depth).error.is_none(), "{path:?}");
        }
    }
    assert_eq!(contents(&sim), before);
    let db = open(&sim);
    let locked = verify_directory(&sim, Path::new(DIR), Depth::Checksums, &mut |_| ());
    assert!(matches!(locked, Err(Error::Locked { .. })), "{locked:?}");
    drop(db);
    assert!(errors(&sim, Depth::Records).is_empty());
    let nothing = verify_directory(&SimFs::new(1), Path::new("/"), Depth::Records, &mut |_| ());
    assert!(matches!(nothing, Err(Error::Io { .. })), "{nothing:?}");
}

#[test]
fn a_missing_file_is_damage() {
    let sim = database();
    let left = files(&sim, ".sst").into_iter().chain(files(&sim, "MANIFEST"));
    for path in left.chain(files(&sim, "CURRENT")).chain(files(&sim, ".wal").pop()) {
        let damaged = sim.fork();
        damaged.remove_file(&path);
        let errors = errors(&damaged, Depth::Checksums);
        let names_it =
            |error: &Error| matches!(error, Error::Corruption { file, .. } if *file == path);
        assert!(errors.iter().any(names_it), "{path:?}: {errors:?}");
    }
}

#[test]
fn no_flipped_bit_goes_unseen() {
    let sim = database();
    for path in sim.file_names().into_iter().filter(|path| !path.ends_with("LOCK")) {
        let len = sim.read_file(&path).unwrap().len() as u64;
        // What was written, not the zeros that a segment is filled with.
        let is_wal = matches!(kind_of(&path), Some(FileKind::Wal(_)));
        let len = if is_wal { len.min(4000) } else { len };
        for offset in (0..len).step_by((len as usize / 40).max(1)) {
            let damaged = sim.fork();
            damaged.corrupt(&path, offset, 0x10);
            let found = verify(&damaged, Depth::Checksums);
            // A record that nothing proves to have been durable looks like one that was cut short.
            let seen = |checked: &Checked| checked.error.is_some() || checked.note.is_some();
            assert!(found.iter().any(seen), "{path:?} at {offset}");
            for error in found.iter().filter_map(|checked| checked.error.as_ref()) {
                assert!(error.to_string().contains("offset"), "{error}");
            }
        }
    }
}

/// A table's file in which one byte of a section is another one, and the checksum is right.
fn forge(sim: &SimFs, path: &Path, section: &str, at: u64, xor: u8) -> SimFs {
    let reader =
        crate::table::TableReader::inspect(sim, path, crate::table::TableContext::unshared())
            .unwrap();
    let section = match section {
        "block" => reader.index().row(0).handle,
        "filter" => reader.footer().filter,
        "dictionary" => reader.footer().dictionary,
        "index" => reader.footer().index,
        _ => reader.footer().properties,
    };
    let mut bytes = sim.read_file(path).unwrap();
    let (start, end) =
        (section.offset as usize, section.offset as usize + section.len as usize - 8);
    bytes[start + at as usize] ^= xor;
    let checksum = reader.footer().identity.checksum(section.offset, &bytes[start..end]);
    bytes[end..end + 8].copy_from_slice(&checksum.to_le_bytes());
    let forged = sim.fork();
    forged.put_file(path, bytes);
    forged
}

#[test]
fn wrong_contents_under_right_checksums_are_found_by_a_deep_look() {
    let sim = database();
    let path = &files(&sim, ".sst")[0];
    // A count in the properties, fences of a block, a chunk's key and timestamp in the index.
    for (section, at, what) in [
        ("properties", 1, "records"),
        ("index", 8, "timestamps from"),
        ("index", 16, "timestamps from"),
        ("index", 30, "first records"),
        ("index", 38, "first records"),
    ] {
        let forged = forge(&sim, path, section, at, 1);
        let shallow = verify_file(&forged, path, Depth::Checksums);
        assert!(shallow.error.is_none(), "{section}: {shallow:?}");
        let deep = verify_file(&forged, path, Depth::Records).error.expect(section).to_string();
        assert!(deep.contains(what), "{section}: {deep}");
    }
    let reader =
        crate::table::TableReader::inspect(&sim, path, crate::table::TableContext::unshared())
            .unwrap();
    let mut forged = sim.fork();
    // Without a bit a filter passes no key: every byte of its bits, until nothing is left.
    let filter = sim.read_file(path).unwrap();
    let handle = reader.footer().filter;
    for at in u64::from(handle.len / 2)..u64::from(handle.len - 8) {
        let byte = filter[(handle.offset + at) as usize];
        forged = forge(&forged, path, "filter", at, byte);
    }
    let deep = verify_file(&forged, path, Depth::Records).error.unwrap().to_string();
    assert!(deep.contains("filter"), "{deep}");
}

#[test]
fn wrong_contents_under_right_checksums_make_nothing_panic() {
    let sim = SimFs::new(7);
    let db = open(&sim);
    for i in 0..200_i64 {
        let key: &[u8] = if i < 100 { b"one key" } else { &i.to_be_bytes() };
        let value = format!("value {i}, which can be compressed");
        db.put(key, i * i, ValueRef::json(value.as_bytes())).unwrap();
    }
    db.flush().unwrap();
    let path = &files(&sim, ".sst")[0];
    let table = TableView::open(&sim, path).unwrap();
    let [block, filter, _, dictionary, index, properties, _] =
        table.sections().map(|section| section.bytes - 8);
    for (section, bytes) in [
        ("block", block),
        ("filter", filter),
        ("dictionary", dictionary),
        ("index", index),
        ("properties", properties),
    ] {
        for at in (0..bytes).step_by((bytes as usize / 100).max(1)) {
            for xor in [1, 0x80, 0xff] {
                let forged = forge(&sim, path, section, at, xor);
                let _ = verify_file(&forged, path, Depth::Records);
                let Ok(table) = TableView::open(&forged, path) else { continue };
                table.filter();
                let shown = (0..table.blocks()).filter_map(|block| table.block(block).ok());
                let _ = shown.count() + table.records(b"one key", 50).count();
            }
        }
    }
}

/// A table whose checksums are right and whose records are out of order made the builder of a merge's
/// output panic: the order of an input was believed. Now the merge fails, names the input, and leaves it.
#[test]
fn a_merge_of_forged_tables_is_refused_with_the_name_of_the_table() {
    let sim = SimFs::new(7);
    let db = open(&sim);
    for (run, stop) in [(0, 600_i64), (1, 40)] {
        for i in 0..stop {
            let key: &[u8] = if i < 400 { b"one key" } else { &i.to_be_bytes() };
            let value = format!("{{\"value\":{i}}}");
            db.put(key, i * i + run, ValueRef::json(value.as_bytes())).unwrap();
        }
        db.flush().unwrap();
    }
    drop(db);
    let path = &files(&sim, ".sst")[0];
    let table = TableView::open(&sim, path).unwrap();
    let [block, _, _, _, index, ..] = table.sections().map(|section| section.bytes - 8);
    let mut refused = 0;
    for (section, bytes) in [("block", block), ("index", index)] {
        for at in (0..bytes).step_by((bytes as usize / 300).max(1)) {
            for xor in [1, 0xc0] {
                let db = forge(&sim, path, section, at, xor);
                // What lies in the log is flushed by the open, which reads no table.
                let options = Options {
                    background: Background::Inline,
                    fs: Arc::new(db),
                    ..Options::default()
                };
                let Ok(db) = Db::open(DIR, options) else { continue };
                let Err(error) = db.compact() else { continue };
                let names_it = matches!(&error, Error::Corruption { file, .. } if file == path);
                assert!(names_it, "{section} at {at}: {error}");
                refused += 1;
                assert!(db.poisoned().is_none());
            }
        }
    }
    assert!(refused > 100, "{refused}");
}
