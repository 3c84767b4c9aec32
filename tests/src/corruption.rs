//! Damage to files, one kind at a time: every answer is then an error or exactly the right one. Never
//! a wrong value, never a miss of what is there, never a panic.
//!
//! *The one exception.* The end of the last segment of the log, which no SEAL follows, can't be told
//! from what a crash leaves of a write: a damaged or missing last record is cut off, and the database
//! holds the batches before it. A record that another one follows had been durable, and is missed.

use std::path::{Path, PathBuf};

use kvtimedb_engine::fs::{Fault, FaultKind, FsOp, SimFs};
use kvtimedb_engine::{Db, Durability, Error, Options};

use crate::oracle::{DIR, Op, Oracle, batch, noise, options};

/// The end of each table (filter, index, properties, footer), and all of smaller files, is damaged
/// byte by byte, the rest at one of so many bytes.
const DENSE_BYTES: usize = 700;
const SAMPLE_EVERY: usize = 53;

/// A database at rest, and what it must answer.
struct Image {
    fs: SimFs,
    /// What it holds after each batch; the last one is what it holds.
    prefixes: Vec<Oracle>,
    /// Where the last record of the log begins.
    last_record: u64,
}

/// What came of opening a damaged database and reading all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The open, or some of the reads, were refused, and all others are right.
    Refused,
    /// All answers are those after this number of batches.
    Answers(usize),
}

impl Image {
    /// Two tables of more than one block, a small one, and a log: without the zeros that follow its
    /// records, so that damaging it byte by byte takes less time. With `merged`, the last edit of the
    /// manifest is that of a merge.
    fn new(merged: bool) -> Image {
        Image::of_seed(1, merged)
    }

    /// The database's id follows from the seed.
    fn of_seed(seed: u64, merged: bool) -> Image {
        let fs = SimFs::new(seed);
        let options =
            Options { durability: Durability::Sync, memtable_bytes_max: 128 << 10, ..options(&fs) };
        let db = Db::open(DIR, options).unwrap();
        let mut prefixes = vec![Oracle::default()];
        let mut write = |ops: &[Op]| {
            db.write(batch(ops)).unwrap();
            let mut oracle = prefixes[prefixes.len() - 1].clone();
            oracle.apply(ops);
            prefixes.push(oracle);
        };
        for run in 0..2_i64 {
            write(&large_batch(run));
            db.flush().unwrap();
        }
        if merged {
            db.compact().unwrap();
        }
        write(&[Op::put("dense", 101, "late"), Op::erase("dense", 40), Op::end("key3", 5)]);
        if !merged {
            db.flush().unwrap();
        }
        for i in 0..5 {
            write(&[Op::put("dense", 200 + i, noise(i as u64, 30)), Op::end("key5", 7)]);
        }
        let call = fs.trace().into_iter().rfind(|call| call.starts_with("write")).unwrap();
        let place = call.split([' ', '+']).nth(2).unwrap();
        let last_record = place.parse().unwrap();
        drop(db);
        let image = Image { fs, prefixes, last_record };
        let wal = image.only(".wal");
        let bytes = image.fs.read_file(&wal).unwrap();
        let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 16;
        image.fs.truncate(&wal, end as u64);
        assert_eq!(image.verdict(&image.fs.fork()), Verdict::Answers(image.batches()));
        image
    }

    /// All batches.
    fn batches(&self) -> usize {
        self.prefixes.len() - 1
    }

    /// The files that hold something, in order.
    fn files(&self) -> Vec<PathBuf> {
        let files = self.fs.file_names();
        files.into_iter().filter(|path| !path.ends_with("LOCK")).collect()
    }

    fn named(&self, part: &str) -> Vec<PathBuf> {
        let name = |path: &PathBuf| path.to_string_lossy().contains(part);
        self.files().into_iter().filter(name).collect()
    }

    fn only(&self, part: &str) -> PathBuf {
        let files = self.named(part);
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }

    fn len(&self, path: &Path) -> usize {
        self.fs.read_file(path).unwrap().len()
    }

    /// Opens the database of a damaged copy and reads all of it. Panics at a wrong answer.
    #[track_caller]
    fn verdict(&self, fs: &SimFs) -> Verdict {
        let Ok(db) = Db::open(DIR, options(fs)) else { return Verdict::Refused };
        let seq = db.visible_seq();
        let prefix = self.prefixes.iter().position(|prefix| prefix.last_seq() == seq);
        let batches = prefix.unwrap_or_else(|| panic!("seq {seq} is in the middle of a batch"));
        let comparison = self.prefixes[batches].compare_every(&db, 20);
        assert!(comparison.wrong.is_empty(), "{comparison}");
        if comparison.refused.is_empty() { Verdict::Answers(batches) } else { Verdict::Refused }
    }

    /// The damage at this place was noticed, or it is the exception.
    #[track_caller]
    fn check(&self, fs: &SimFs, path: &Path, offset: usize, what: &str) {
        let verdict = self.verdict(fs);
        let at_end = is_wal(path) && offset as u64 >= self.last_record;
        let expected = match verdict {
            Verdict::Refused => true,
            Verdict::Answers(batches) => at_end && batches + 1 >= self.batches(),
        };
        assert!(expected, "{what} at {offset} of {}: {verdict:?}", path.display());
    }
}

/// Keys with many versions and few, values that compress and that don't, and tombstones.
fn large_batch(run: i64) -> Vec<Op> {
    let dense = (0..100).map(|i| match i % 9 {
        8 => Op::end("dense", 2 * i + run),
        7 => Op::erase("dense", 2 * i - 10 + run),
        _ => Op::put("dense", 2 * i + run, noise((i + run) as u64, 250)),
    });
    let json =
        (0..40).map(|i| Op::json("json", i, format!("{{\"t\":{i}.5,\"run\":{run},\"h\":40}}")));
    let sparse = (0..12).map(|i| Op::put(format!("key{i}"), run + i, noise(i as u64, 200)));
    dense.chain(json).chain(sparse).collect()
}

fn is_wal(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wal")
}

/// The places of a file that are damaged.
fn places(path: &Path, len: usize) -> impl Iterator<Item = usize> {
    let is_table = path.extension().is_some_and(|extension| extension == "sst");
    let dense = if is_table { len.saturating_sub(DENSE_BYTES) } else { 0 };
    (0..len).filter(move |&at| at >= dense || at.is_multiple_of(SAMPLE_EVERY))
}

fn flip_bits(image: &Image) {
    for path in image.files() {
        for offset in places(&path, image.len(&path)) {
            let fs = image.fs.fork();
            fs.corrupt(&path, offset as u64, 1 << (offset % 8));
            image.check(&fs, &path, offset, "a flipped bit");
        }
    }
}

#[test]
fn a_flipped_bit_is_noticed() {
    flip_bits(&Image::new(false));
}

#[test]
fn a_flipped_bit_is_noticed_in_a_merged_database() {
    flip_bits(&Image::new(true));
}

/// Damage that zeros a piece of a file, as a lost write does.
#[test]
fn a_zeroed_sector_is_noticed() {
    const SECTOR: usize = 512;
    let image = Image::new(false);
    for path in image.files() {
        let bytes = image.fs.read_file(&path).unwrap();
        for start in (0..bytes.len()).step_by(SECTOR) {
            let end = bytes.len().min(start + SECTOR);
            let mut damaged = bytes.clone();
            damaged[start..end].fill(0);
            if damaged == bytes {
                continue;
            }
            let fs = image.fs.fork();
            fs.put_file(&path, damaged);
            // Records before the last one are proof of nothing where the last one is zeroed too.
            if is_wal(&path) && end as u64 > image.last_record {
                assert!(image.verdict(&fs) != Verdict::Answers(image.batches()), "{start}");
            } else {
                image.check(&fs, &path, start, "a zeroed sector");
            }
        }
    }
}

#[test]
fn a_shortened_file_is_noticed() {
    for merged in [false, true] {
        let image = Image::new(merged);
        for path in image.files() {
            let len = image.len(&path);
            for end in places(&path, len) {
                let fs = image.fs.fork();
                fs.truncate(&path, end as u64);
                // What a log lacks at its end was, for all that it says, never written.
                if is_wal(&path) {
                    image.verdict(&fs);
                } else {
                    image.check(&fs, &path, end, "an end");
                }
            }
        }
    }
}

#[test]
fn a_lengthened_file_is_noticed_or_does_no_harm() {
    let image = Image::new(false);
    for path in image.files() {
        for tail in [vec![0], vec![0; 600], noise(1, 1), noise(1, 600)] {
            let fs = image.fs.fork();
            fs.put_file(&path, [image.fs.read_file(&path).unwrap(), tail].concat());
            let verdict = image.verdict(&fs);
            let is_log = is_wal(&path) || path.to_string_lossy().contains("MANIFEST");
            let expected =
                if is_log { Verdict::Answers(image.batches()) } else { Verdict::Refused };
            assert_eq!(verdict, expected, "{}", path.display());
        }
    }
}

#[test]
fn swapped_tables_are_noticed() {
    let image = Image::new(false);
    let tables = image.named(".sst");
    assert_eq!(tables.len(), 3);
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        let fs = image.fs.fork();
        let (left, right) = (fs.read_file(&tables[a]).unwrap(), fs.read_file(&tables[b]).unwrap());
        fs.put_file(&tables[a], right);
        fs.put_file(&tables[b], left);
        assert!(matches!(Db::open(DIR, options(&fs)), Err(Error::Corruption { .. })), "{a} {b}");
    }
}

/// The same calls make the same names and lengths in every database; only its id tells them apart.
#[test]
fn a_file_of_another_database_is_noticed() {
    let (image, other) = (Image::of_seed(1, false), Image::of_seed(2, false));
    assert_eq!(image.files(), other.files());
    for path in image.files() {
        let bytes = other.fs.read_file(&path).unwrap();
        assert_eq!(bytes.len(), image.len(&path), "{}", path.display());
        let fs = image.fs.fork();
        fs.put_file(&path, bytes);
        let error = Db::open(DIR, options(&fs)).expect_err("a file of another database");
        assert!(matches!(error, Error::Corruption { .. }), "{}: {error}", path.display());
    }
}

/// Each part of a table is bound to its file and database: no beginning of another table, cut at
/// whatever byte, makes a table together with the rest of this one.
#[test]
fn a_piece_of_another_table_is_noticed() {
    let tables_of = |seed, values: &[&str]| {
        let fs = SimFs::new(seed);
        let db = Db::open(DIR, options(&fs)).unwrap();
        for value in values {
            db.put(b"k", 1, value.as_bytes()).unwrap();
            db.flush().unwrap();
        }
        drop(db);
        let mut files = fs.file_names();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "sst"));
        let bytes: Vec<Vec<u8>> = files.iter().map(|path| fs.read_file(path).unwrap()).collect();
        (fs, files, bytes)
    };
    let (fs, files, ours) = tables_of(1, &["aaaa", "bbbb"]);
    let (_, _, theirs) = tables_of(2, &["cccc", "dddd"]);
    for (stranger, from) in [("another file", &ours[0]), ("another database", &theirs[1])] {
        for end in 1..from.len() {
            let fs = fs.fork();
            fs.put_file(&files[1], [&from[..end], &ours[1][end..]].concat());
            let latest = Db::open(DIR, options(&fs)).and_then(|db| db.latest(b"k"));
            let value = latest.map(|entry| entry.map(|entry| entry.value));
            let noticed = from[..end] == ours[1][..end] || value.is_err();
            assert!(noticed, "{end} bytes of {stranger}: {value:?}");
        }
    }
}

/// A SEAL is the proof that every record before it was durable, also under a buffered log: nothing of
/// a sealed segment is taken for a torn tail.
#[test]
fn a_flipped_bit_in_a_sealed_segment_is_noticed() {
    let fs = SimFs::new(1);
    let db = Db::open(DIR, options(&fs)).unwrap();
    let mut oracle = Oracle::default();
    for i in 0..5 {
        let ops = [Op::put("k", i, noise(i as u64, 20)), Op::end("l", i)];
        db.write(batch(&ops)).unwrap();
        oracle.apply(&ops);
    }
    // The segment is sealed, and what it holds doesn't become a table.
    let (op, pattern) = (FsOp::Create, ".sst".to_owned());
    fs.inject(Fault { op, pattern, nth: 0, kind: FaultKind::Enospc });
    assert!(matches!(db.flush(), Err(Error::DiskFull { .. })));
    fs.clear_faults();
    let seal = fs.trace().into_iter().rfind(|call| call.starts_with("write 000001.wal")).unwrap();
    let seal: u64 = seal.split([' ', '+']).nth(2).unwrap().parse().unwrap();
    drop(db);
    oracle.assert_answers(&Db::open(DIR, options(&fs.fork())).unwrap(), "undamaged");
    for offset in 0..fs.read_file("/db/000001.wal").unwrap().len() as u64 {
        let fs = fs.fork();
        fs.corrupt("/db/000001.wal", offset, 1 << (offset % 8));
        match Db::open(DIR, options(&fs)) {
            // A SEAL that is torn takes nothing with it.
            Ok(db) if offset >= seal => oracle.assert_answers(&db, offset),
            Err(Error::Corruption { .. }) => {}
            other => panic!("{offset}: {other:?}"),
        }
    }
}

/// A manifest put back from a copy made earlier, alone or with its CURRENT, names files that are gone.
#[test]
fn an_older_manifest_is_noticed() {
    for close in [false, true] {
        let fs = SimFs::new(1);
        let db = Db::open(DIR, options(&fs)).unwrap();
        let mut oracle = Oracle::default();
        let mut copies = Vec::new();
        for round in 0..4 {
            let ops = [Op::put("k", round, [round as u8]), Op::put("l", round, "x")];
            db.write(batch(&ops)).unwrap();
            oracle.apply(&ops);
            copies.push(manifest_and_current(&fs));
            if round < 3 { db.flush().unwrap() } else { db.compact().unwrap() }
        }
        if close {
            db.close().unwrap();
        }
        drop(db);
        if close {
            drop(Db::open(DIR, options(&fs)).unwrap());
        }
        oracle.assert_answers(&Db::open(DIR, options(&fs.fork())).unwrap(), "undamaged");
        for (copy, files) in copies.iter().enumerate() {
            let fs = fs.fork();
            for (path, bytes) in files {
                fs.put_file(path, bytes.clone());
            }
            let error = Db::open(DIR, options(&fs)).expect_err("an older manifest");
            let missing = matches!(error, Error::Corruption { .. } | Error::Io { .. });
            assert!(missing, "copy {copy}: {error}");
        }
    }
}

fn manifest_and_current(fs: &SimFs) -> Vec<(PathBuf, Vec<u8>)> {
    let names = fs.file_names().into_iter();
    let wanted = |path: &PathBuf| {
        let name = path.to_string_lossy();
        name.contains("MANIFEST") || name.contains("CURRENT")
    };
    names.filter(wanted).map(|path| (path.clone(), fs.read_file(&path).unwrap())).collect()
}

/// A disk that reads a bit wrong, each time another one.
#[test]
fn a_bit_that_is_read_wrong_is_noticed() {
    let image = Image::new(false);
    for seed in 0..60 {
        for pattern in [".sst", ".wal", "MANIFEST", "CURRENT"] {
            let fs = SimFs::new(seed);
            for path in image.files() {
                fs.put_file(&path, image.fs.read_file(&path).unwrap());
            }
            fs.inject(Fault {
                op: FsOp::Read,
                pattern: pattern.to_owned(),
                nth: 1,
                kind: FaultKind::BitFlip,
            });
            let verdict = image.verdict(&fs);
            // In the last record, or in the zeros behind it.
            let least = Verdict::Answers(image.batches() - 1);
            let at_end = verdict == least || verdict == Verdict::Answers(image.batches());
            let noticed = verdict == Verdict::Refused || pattern == ".wal" && at_end;
            assert!(noticed, "{seed} {pattern}: {verdict:?}");
        }
    }
}

/// A disk that writes a bit wrong, or not at all, and says nothing. A table is read back before
/// anyone relies on it; a log and a manifest speak at the next open.
#[test]
fn a_write_that_lies_is_noticed() {
    for kind in [FaultKind::BitFlip, FaultKind::Stale] {
        for (pattern, nth) in [(".sst", 1), (".wal", 1), (".wal", 2), ("MANIFEST", 1)] {
            for seed in 0..20 {
                check_lying_write(kind, pattern, nth, seed);
            }
        }
    }
}

fn check_lying_write(kind: FaultKind, pattern: &str, nth: u64, seed: u64) {
    let context = format!("{kind:?} {pattern:?} {nth}, seed {seed}");
    let fs = SimFs::new(seed);
    let memtable_bytes_max = 128 << 10;
    let synced = Options { durability: Durability::Sync, memtable_bytes_max, ..options(&fs) };
    let db = Db::open(DIR, synced).unwrap();
    fs.inject(Fault { op: FsOp::Write, pattern: pattern.to_owned(), nth, kind });
    let ops = large_batch(0);
    let mut oracle = Oracle::default();
    for ops in ops.chunks(30).take(3) {
        db.write(batch(ops)).unwrap();
        oracle.apply(ops);
    }
    if pattern != ".wal" {
        let flushed = db.flush();
        let noticed = matches!(flushed, Err(Error::Corruption { .. }));
        assert_eq!(noticed, pattern == ".sst", "{context}: {flushed:?}");
        assert_eq!(db.poisoned().is_some(), pattern == ".sst", "{context}");
    }
    oracle.assert_answers(&db, &context);
    drop(db);
    match Db::open(DIR, options(&fs)) {
        // The log still has what the table was to hold.
        Ok(db) if pattern == ".sst" => oracle.assert_answers(&db, &context),
        Err(Error::Corruption { .. }) if pattern != ".sst" => {}
        other => panic!("{context}: {other:?}"),
    }
}

/// The edit that names the newest table is damaged, and was the manifest's last: it passes for one that
/// was torn. The open is refused, as the log that the table stands for is gone; it once removed the
/// table first, which no edit seemed to name, and with it all that a repair could have saved.
#[test]
fn a_refused_open_takes_nothing_away() {
    let fs = SimFs::new(1);
    let db = Db::open(DIR, options(&fs)).unwrap();
    db.put(b"k", 1, b"v").unwrap();
    db.close().unwrap();
    drop(db);
    let manifest = fs.file_names().into_iter().find(|path| path.to_string_lossy().contains("MANI"));
    let manifest = manifest.unwrap();
    let bytes = fs.read_file(&manifest).unwrap();
    let mut refused = 0;
    for offset in 0..bytes.len() as u64 {
        let fs = fs.fork();
        fs.corrupt(&manifest, offset, 1 << (offset % 8));
        let before: Vec<_> = fs.file_names();
        if let Ok(db) = Db::open(DIR, options(&fs)) {
            assert_eq!(db.latest(b"k").unwrap().unwrap().value, b"v", "{offset}");
        } else {
            refused += 1;
            assert_eq!(fs.file_names(), before, "{offset}");
        }
    }
    assert!(refused > 0);
}

/// An id so great that none could follow was taken for the last one given out: the next ones could not
/// be read, and with them what was written to them.
#[test]
fn a_stranger_with_an_endless_name_is_refused_or_left_alone() {
    for (name, is_refused) in [
        ("4611686018427387903.sst", true),
        ("4611686018427387904.sst", false),
        ("9223372036854775807.wal", false),
    ] {
        let fs = SimFs::new(1);
        Db::open(DIR, options(&fs)).unwrap().close().unwrap();
        fs.put_file(format!("{DIR}/{name}"), []);
        let opened = Db::open(DIR, options(&fs));
        assert_eq!(
            matches!(opened, Err(Error::Corruption { .. })),
            is_refused,
            "{name}: {opened:?}"
        );
    }
}
