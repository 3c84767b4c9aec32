//! Bytes that a forger has changed, checksums included: every parser is reached with hostile values. What
//! they say may then be wrong, but nothing panics, and no size is believed before it was held against what
//! is there.
//!
//! The checksums are made here as docs/format.md says, not with the engine's code: they are bound to the
//! database, the file and the place.

use std::path::{Path, PathBuf};

use kvtimedb_engine::fs::SimFs;
use kvtimedb_engine::inspect::{
    Depth, TableView, read_current_manifest, salvage, verify_directory,
};
use kvtimedb_engine::{Db, Error, KeyRange, Order, Timestamp};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{DIR, Image, NEW_DIR, image_options, is_wal};
use crate::common::setting;

const FOOTER_BYTES: usize = 104;
const CHECKSUM_AT: usize = 88;
const HEADER_BYTES: usize = 36;
const RECORD_HEADER_BYTES: usize = 21;

const ROUNDS: u64 = 200;

/// A stretch of a file, and how its checksum is made right again once it was changed.
struct Forge {
    path: PathBuf,
    database: u64,
    id: u64,
}

fn ids(database: u64, id: u64) -> Vec<u8> {
    [database.to_le_bytes(), id.to_le_bytes()].concat()
}

impl Forge {
    fn block_checksum(&self, offset: usize, bytes: &[u8]) -> [u8; 8] {
        let place = [ids(self.database, self.id), (offset as u64).to_le_bytes().to_vec()].concat();
        xxh3_64_with_seed(bytes, xxh3_64(&place)).to_le_bytes()
    }

    /// Makes the checksum of the table's part right.
    fn seal_part(&self, bytes: &mut [u8], offset: usize, len: usize) {
        let body = if offset + FOOTER_BYTES == bytes.len() { CHECKSUM_AT } else { len - 8 };
        let checksum = self.block_checksum(offset, &bytes[offset..offset + body]);
        bytes[offset + body..offset + body + 8].copy_from_slice(&checksum);
    }

    /// Makes the crcs of all records right, and the chain of them.
    fn seal_log(&self, bytes: &mut [u8]) {
        let crc = crc32c::crc32c(&bytes[..32]);
        bytes[32..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        let salt = (xxh3_64(&ids(self.database, self.id)) as u32).to_le_bytes();
        let (mut at, mut previous) = (HEADER_BYTES, crc);
        while let Some(head) = bytes.get(at..at + RECORD_HEADER_BYTES) {
            let len = u32::from_le_bytes(head[16..20].try_into().unwrap()) as usize;
            let end = at + RECORD_HEADER_BYTES + len;
            if head[20] == 0 || end > bytes.len() {
                return;
            }
            bytes[at + 4..at + 8].copy_from_slice(&previous.to_le_bytes());
            previous = crc32c::crc32c_append(crc32c::crc32c(&salt), &bytes[at + 4..end]);
            bytes[at..at + 4].copy_from_slice(&previous.to_le_bytes());
            at = end;
        }
    }
}

/// Asks the database of everything, whatever it answers; merges it, and repairs it.
fn exercise(fs: &SimFs, keys: &[&[u8]]) {
    let _ = verify_directory(fs, Path::new(DIR), Depth::Records, &mut |_| ());
    let _ = salvage(&image_options(fs), Path::new(DIR), Some(Path::new(NEW_DIR)));
    let Ok(db) = Db::open(DIR, image_options(fs)) else { return };
    for key in keys {
        for order in [Order::Ascending, Order::Descending] {
            let history = db.history(key, Timestamp::MIN, Timestamp::MAX, order);
            if let Ok(mut history) = history {
                while let Ok(Some(_)) = history.next() {}
            }
        }
        let lookups: Vec<_> = [Timestamp::MIN, 0, 100, Timestamp::MAX].map(|at| (*key, at)).into();
        let _ = (db.asof(&lookups), db.explain(key, 50));
        for (key, at) in lookups {
            let _ = db.floor(key, at);
        }
    }
    for order in [Order::Ascending, Order::Descending] {
        if let Ok(mut scan) = db.scan(KeyRange::all(), 60, order) {
            // Out of order, keys may come again; they don't come for ever.
            (0..100_000).try_for_each(|_| scan.next().ok().flatten().map(drop));
        }
    }
    let _ = (db.scrub(&mut |_| {}), db.compact(), db.put(b"k", 1, b"value"), db.flush());
    drop(db);
    if let Err(error) = Db::open(DIR, image_options(fs)) {
        assert!(
            matches!(error, Error::Corruption { .. } | Error::UnsupportedFormat { .. }),
            "{error}"
        );
    }
}

/// A round has its own forgery, and shares its image with others.
fn for_each_round(forge: impl Fn(&Image, &mut fastrand::Rng)) {
    let rounds = setting("KVTIMEDB_DAMAGE_ROUNDS", ROUNDS);
    let first_seed = setting("KVTIMEDB_DAMAGE_SEED", 1);
    for (seed, done) in (first_seed..).zip((0..rounds).step_by(50)) {
        let image = Image::new(seed);
        let mut rng = fastrand::Rng::with_seed(seed);
        (done..rounds.min(done + 50)).for_each(|_| forge(&image, &mut rng));
    }
}

/// Where a forger would begin: bits, and values at the ends of their ranges.
fn change(bytes: &mut [u8], rng: &mut fastrand::Rng) {
    let at = rng.usize(..bytes.len());
    match rng.u8(0..6) {
        0 | 1 => bytes[at] ^= 1 << rng.u8(0..8),
        2 => bytes[at] = rng.u8(..),
        3 => bytes[at] = 0xff,
        _ => {
            let end = bytes.len().min(at + rng.usize(1..11));
            let values = [0xff, 0, 0x80, 0x7f];
            bytes[at..end].fill(values[rng.usize(..4)]);
        }
    }
}

#[test]
fn no_forged_part_of_a_table_makes_it_panic() {
    for_each_round(|image, rng| {
        let tables: Vec<_> = image
            .files()
            .into_iter()
            .filter(|path| path.to_string_lossy().ends_with("sst"))
            .collect();
        let Some(path) = tables.get(rng.usize(..tables.len().max(1))) else { return };
        let view = TableView::open(&image.fs, path).unwrap();
        let blocks = (0..view.blocks()).map(|block| view.index_row(block));
        let mut parts: Vec<_> = blocks.map(|row| (row.offset, row.bytes)).collect();
        let rest = view.sections().into_iter().skip(1).filter(|section| section.bytes > 0);
        parts.extend(rest.map(|section| (section.offset, section.bytes)));
        let (offset, len) = parts[rng.usize(..parts.len())];
        let (offset, len) = (offset as usize, len as usize);
        let forge = Forge { path: path.clone(), database: view.database().0, id: view.id().0 };
        let mut bytes = image.fs.read_file(path).unwrap();
        let original = bytes[offset..offset + len].to_vec();
        forge.seal_part(&mut bytes, offset, len);
        assert_eq!(bytes[offset..offset + len], original, "the checksums are those of the format");
        (0..rng.usize(1..4)).for_each(|_| change(&mut bytes[offset..offset + len - 8], rng));
        forge.seal_part(&mut bytes, offset, len);
        let fs = image.fs.fork();
        fs.put_file(&forge.path, bytes);
        let keys: Vec<_> = image.oracle().keys().take(6).collect();
        exercise(&fs, &keys);
    });
}

#[test]
fn no_forged_log_or_manifest_makes_it_panic() {
    for_each_round(|image, rng| {
        let database = read_current_manifest(&image.fs, Path::new(DIR)).unwrap().database.0;
        let is_log = |path: &PathBuf| is_wal(path) || path.to_string_lossy().contains("MANIFEST");
        let logs: Vec<_> = image.files().into_iter().filter(is_log).collect();
        let path = logs[rng.usize(..logs.len())].clone();
        let digits: String = path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .chars()
            .filter(char::is_ascii_digit)
            .collect();
        let forge = Forge { path, database, id: digits.parse().unwrap() };
        let original = image.fs.read_file(&forge.path).unwrap();
        let mut bytes = original.clone();
        forge.seal_log(&mut bytes);
        assert_eq!(bytes, original, "the crcs are those of the format");
        (0..rng.usize(1..4)).for_each(|_| change(&mut bytes, rng));
        forge.seal_log(&mut bytes);
        let fs = image.fs.fork();
        fs.put_file(&forge.path, bytes);
        let keys: Vec<_> = image.oracle().keys().take(6).collect();
        exercise(&fs, &keys);
    });
}

/// A manifest whose numbers nothing can go on from: each was a panic at the open, or let what is written
/// next rank below what is there.
#[test]
fn a_manifest_is_held_against_its_own_numbers() {
    let image = Image::new(1);
    let manifest = read_current_manifest(&image.fs, Path::new(DIR)).unwrap();
    let edit = manifest.edits.last().unwrap().1.clone();
    assert!(edit.next_file.0 < 128 && edit.oldest_wal.0 < 128, "varints of a byte: {edit:?}");
    let (path, database) = (manifest.path.clone(), manifest.database.0);
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let id = name.trim_start_matches("MANIFEST-").parse().unwrap();
    let forge = Forge { path: path.clone(), database, id };
    let original = image.fs.read_file(&path).unwrap();
    let end = original.len();
    let varint_max = [[0xff; 9].as_slice(), &[1]].concat();
    let two_to_56 = [[0x80; 8].as_slice(), &[1]].concat();
    let (next, flushed, oldest) = ([100], [1], [edit.oldest_wal.0 as u8]);
    for (what, fields) in [
        ("next file", [&varint_max[..], &flushed, &oldest]),
        ("flushed", [&next, &varint_max, &oldest]),
        ("flushed", [&next, &two_to_56, &oldest]),
        ("below", [&next, &flushed, &two_to_56]),
        ("below next", [&[1], &flushed, &oldest]),
        ("tables up to", [&next, &[0], &oldest]),
    ] {
        let horizon = i64::MIN.to_le_bytes();
        let payload = [fields.concat(), horizon.to_vec(), vec![0, 0]].concat();
        let mut record = vec![0; RECORD_HEADER_BYTES];
        record[8..16].copy_from_slice(&(end as u64).to_le_bytes());
        record[16..20].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        record[20] = 16;
        let mut bytes = [original.clone(), record, payload].concat();
        forge.seal_log(&mut bytes);
        let fs = image.fs.fork();
        fs.put_file(&path, bytes);
        match Db::open(DIR, image_options(&fs)) {
            Err(Error::Corruption { file, offset, .. }) => {
                assert_eq!(file, path, "{what}");
                assert!(offset >= end as u64, "{what}: an error at {offset}, before {end}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}
