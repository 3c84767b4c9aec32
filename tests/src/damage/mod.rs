//! Damage to files of databases at rest, of all kinds and at random: of each damaged copy, the answers are
//! right or refused; what was refused, a deep verification finds in the file that is damaged; and a repair
//! loses nothing that it does not tell, and invents nothing.
//!
//! `KVTIMEDB_DAMAGE_ROUNDS` says how many damaged copies are looked at, `KVTIMEDB_DAMAGE_SEED` of which
//! databases: each of a hundred rounds has one of its own.

mod every_byte;
mod forged;
mod kinds;
mod repair;

use std::path::{Path, PathBuf};

use kvtimedb_engine::fs::SimFs;
use kvtimedb_engine::inspect::{Depth, Lost, Salvaged, salvage, verify_directory};
use kvtimedb_engine::{Db, Durability, Entry, Error, Options, Order, Timestamp, ValueType};

use crate::common::setting;
use crate::oracle::{Change, DIR, Op, Oracle, batch, noise, options, versions};
use kinds::Damaged;

const ROUNDS: usize = 500;
const ROUNDS_A_DATABASE: usize = 100;

/// Where repairs go to.
const NEW_DIR: &str = "/new";

/// A database at rest, and what it must answer.
struct Image {
    fs: SimFs,
    ops: Vec<Op>,
    /// What it holds after each batch; the last one is what it holds.
    prefixes: Vec<Oracle>,
    /// The files as they were at some earlier moments.
    earlier: Vec<Vec<(PathBuf, Vec<u8>)>>,
    closed: bool,
}

/// What came of opening a damaged database and reading all of it.
enum Verdict {
    /// The open, or some of the reads, were refused, and all others are right.
    Refused(Error),
    /// All answers are those after this number of batches.
    Answers(usize),
}

impl Image {
    fn new(seed: u64) -> Image {
        Image::on_disk(SimFs::new(seed), seed)
    }

    /// Written the same for the same seed; the database's id is the disk's choice.
    fn on_disk(fs: SimFs, seed: u64) -> Image {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut image = Image {
            fs,
            ops: Vec::new(),
            prefixes: vec![Oracle::default()],
            earlier: Vec::new(),
            closed: rng.bool(),
        };
        let mut db = image.open();
        for _ in 0..rng.usize(4..10) {
            let ops = random_ops(&mut rng);
            db.write(batch(&ops)).unwrap();
            let mut oracle = image.oracle().clone();
            oracle.apply(&ops);
            image.prefixes.push(oracle);
            image.ops.extend(ops);
            match rng.u8(0..12) {
                0..5 => db.flush().unwrap(),
                5 => db.compact().unwrap(),
                6 => {
                    drop(db);
                    image.earlier.push(image.contents());
                    db = image.open();
                }
                _ => {}
            }
            image.earlier.push(image.contents());
        }
        if image.closed {
            db.close().unwrap();
        }
        drop(db);
        // Without the zeros behind a log's records, most damage strikes something.
        for path in image.files().into_iter().filter(|path| is_wal(path)) {
            let bytes = image.fs.read_file(&path).unwrap();
            let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 16;
            image.fs.truncate(&path, end as u64);
        }
        let Verdict::Answers(batches) = image.verdict(&image.fs.fork(), "undamaged") else {
            panic!("seed {seed}: refused as it is");
        };
        assert_eq!(batches, image.batches(), "seed {seed}");
        image
    }

    fn open(&self) -> Db {
        Db::open(DIR, image_options(&self.fs)).unwrap()
    }

    fn oracle(&self) -> &Oracle {
        &self.prefixes[self.batches()]
    }

    fn batches(&self) -> usize {
        self.prefixes.len() - 1
    }

    /// The files, in order, without the lock.
    fn files(&self) -> Vec<PathBuf> {
        let files = self.fs.file_names();
        files.into_iter().filter(|path| !path.ends_with("LOCK")).collect()
    }

    fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let read = |path: PathBuf| (path.clone(), self.fs.read_file(path).unwrap());
        self.files().into_iter().map(read).collect()
    }

    /// Opens the database of a damaged copy and reads all of it. Panics at a wrong answer.
    fn verdict(&self, fs: &SimFs, context: &str) -> Verdict {
        let db = match Db::open(DIR, image_options(fs)) {
            Ok(db) => db,
            Err(error) => return Verdict::Refused(error),
        };
        let seq = db.visible_seq();
        let prefix = self.prefixes.iter().position(|prefix| prefix.last_seq() == seq);
        let batches = prefix.unwrap_or_else(|| panic!("{context}: {seq} is within a batch"));
        let mut comparison = self.prefixes[batches].compare_every(&db, 7);
        assert!(comparison.wrong.is_empty(), "{context}: {comparison}");
        match comparison.refused.pop() {
            Some(error) => Verdict::Refused(error),
            None => Verdict::Answers(batches),
        }
    }

    fn check(&self, damaged: &Damaged, context: &str) {
        let Damaged { fs, files, .. } = damaged;
        let mut found = Vec::new();
        let verified = verify_directory(&fs.fork(), Path::new(DIR), Depth::Records, &mut |file| {
            found.extend(file.error);
        });
        found.extend(verified.err());
        let batches = match self.verdict(&fs.fork(), context) {
            Verdict::Refused(error) => {
                let is_named =
                    |error: &Error| files.iter().any(|path| file_of(error) == Some(path));
                // A manifest whose last edit is damaged looks like one of which that edit was never made,
                // and names files that are gone by now; a CURRENT of elsewhere names another manifest.
                let names_others = |path: &PathBuf| {
                    let name = path.to_string_lossy();
                    name.contains("MANIFEST") || name.ends_with("CURRENT")
                };
                let any = files.iter().all(names_others);
                let is_found = found.iter().any(|error| any || is_named(error));
                assert!(is_found, "{context}: refused by {error}; a verification found {found:?}");
                self.batches()
            }
            Verdict::Answers(batches) => {
                // What a log lacks at its end was, for all that it says, never written.
                let at_end = files.iter().any(|path| is_wal(path)) && !self.closed;
                let lost = self.batches() - batches;
                assert!(
                    lost == 0 || at_end && (!damaged.is_flip || lost == 1),
                    "{context}: {lost}"
                );
                batches
            }
        };
        self.check_repair(damaged, &self.prefixes[batches], context);
    }

    fn check_repair(&self, damaged: &Damaged, oracle: &Oracle, context: &str) {
        let fs = damaged.fs.fork();
        let before = contents_of(&fs);
        let (from, options) = (Path::new(DIR), image_options(&fs));
        let dry = salvage(&options, from, None);
        let salvaged = match salvage(&options, from, Some(Path::new(NEW_DIR))) {
            Ok(salvaged) => salvaged,
            Err(error) => panic!("{context}: no repair: {error}"),
        };
        let told = |salvaged: &Salvaged| {
            let lost: Vec<_> = salvaged.lost.iter().map(Lost::to_string).collect();
            (lost, salvaged.notes.clone())
        };
        assert_eq!(told(&dry.unwrap()), told(&salvaged), "{context}");
        assert!(
            before.iter().all(|(path, bytes)| fs.read_file(path).as_ref() == Some(bytes)),
            "{context}"
        );
        let db = Db::open(NEW_DIR, options).unwrap();
        let check = RepairCheck { image: self, oracle, salvaged: &salvaged, db: &db };
        check.run(context);
    }
}

/// What a repair has to keep to.
struct RepairCheck<'a> {
    image: &'a Image,
    /// What an open of the damaged database answers from, if it does; otherwise what it held.
    oracle: &'a Oracle,
    salvaged: &'a Salvaged,
    db: &'a Db,
}

impl RepairCheck<'_> {
    fn run(&self, context: &str) {
        let oracle = self.oracle;
        for key in oracle.keys() {
            let history = self.db.history(key, Timestamp::MIN, Timestamp::MAX, Order::Ascending);
            let found = versions(history.unwrap()).unwrap();
            for entry in &found {
                assert!(self.was_written(key, entry), "{context}: invented {entry:?}");
            }
            let expected = oracle.history(key, Timestamp::MIN, Timestamp::MAX);
            let lost = expected.iter().filter(|entry| !found.contains(entry));
            let back = found.iter().filter(|entry| !expected.contains(entry));
            for entry in lost.chain(back) {
                let told = self.is_told(key, |ts| ts == entry.ts);
                assert!(told, "{context}: {key:?} {entry:?} is not told: {:?}", self.salvaged);
            }
            for at in oracle.moments(key).into_iter().step_by(5) {
                let differs = self.db.floor(key, at).unwrap() != oracle.floor(key, at);
                let told = !differs || self.is_told(key, |ts| ts <= at);
                assert!(told, "{context}: the floor of {key:?} at {at}: {:?}", self.salvaged);
            }
        }
    }

    fn was_written(&self, key: &[u8], entry: &Entry) -> bool {
        let value = Change::Put(entry.value_type, entry.value.clone());
        let same = |op: &&Op| op.key == key && op.ts == entry.ts && op.change == value;
        self.image.ops.iter().any(|op| same(&op))
    }

    /// Whether the report says that something of this key may be lost at such a time.
    fn is_told(&self, key: &[u8], at: impl Fn(Timestamp) -> bool + Copy) -> bool {
        // Nothing tells of tables that can't be read which keys they had, and what was erased may be back.
        let unknown = self.salvaged.notes.iter().any(|note| note.contains("no manifest"));
        let torn = self.salvaged.notes.iter().find_map(|note| {
            let (_, from) = note.split_once("torn at")?.1.split_once("sequence number ")?;
            from.split(' ').next()?.parse().ok()
        });
        let is_lost = |lost: &Lost| match (&lost.keys, lost.times) {
            (Some((first, last)), Some((min, max))) => {
                let ours = self.image.ops.iter().filter(|op| op.key == key);
                (first.as_slice()..=last.as_slice()).contains(&key)
                    && ours.into_iter().any(|op| at(op.ts) && (min..=max).contains(&op.ts))
            }
            _ => lost.seqs.is_none_or(|(first, last)| self.has_op(key, first, last, at)),
        };
        unknown
            || torn.is_some_and(|from| self.has_op(key, from, u64::MAX, at))
            || self.salvaged.lost.iter().any(is_lost)
    }

    fn has_op(&self, key: &[u8], first: u64, last: u64, at: impl Fn(Timestamp) -> bool) -> bool {
        let mut ops = (1_u64..).zip(&self.image.ops);
        ops.any(|(seq, op)| (first..=last).contains(&seq) && op.key == key && at(op.ts))
    }
}

fn image_options(fs: &SimFs) -> Options {
    Options { durability: Durability::Sync, memtable_bytes_max: 256 << 10, ..options(fs) }
}

fn contents_of(fs: &SimFs) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs.file_names().into_iter().filter(|path| !path.ends_with("LOCK"));
    files.map(|path| (path.clone(), fs.read_file(&path).unwrap())).collect()
}

fn is_wal(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wal")
}

/// The file that an error is about.
fn file_of(error: &Error) -> Option<&PathBuf> {
    match error {
        Error::Corruption { file, .. } | Error::UnsupportedFormat { file, .. } => Some(file),
        Error::Io { path, .. } => Some(path),
        _ => None,
    }
}

/// Keys with many versions and with few, values that templates fit, that compress, and that do neither.
fn random_ops(rng: &mut fastrand::Rng) -> Vec<Op> {
    let (kind, count) = (rng.u8(0..4), rng.i64(1..60));
    let start = rng.i64(-50..200);
    let op = |i: i64, rng: &mut fastrand::Rng| {
        let ts = start + i;
        let key = match kind {
            0 => "dense".to_owned(),
            1 => format!("key{}", rng.u8(0..30)),
            _ => format!("k{}", i % 3),
        };
        match rng.u8(0..10) {
            0 => Op::erase(key, ts - 2),
            1 => Op::end(key, ts),
            2 | 3 => Op::put(key, ts, noise(rng.u64(..), rng.usize(0..400))),
            4 => Op::put(key, ts, "text ".repeat(rng.usize(1..40))),
            _ => {
                let change =
                    Change::Put(ValueType::Json, format!("{{\"t\":{i}.5,\"ok\":true}}").into());
                Op { key: key.into_bytes(), ts, change }
            }
        }
    };
    (0..count).map(|i| op(i, rng)).collect()
}

#[test]
fn no_damage_makes_an_answer_wrong_or_is_lost_in_a_repair() {
    let rounds = setting("KVTIMEDB_DAMAGE_ROUNDS", ROUNDS);
    let first_seed = setting("KVTIMEDB_DAMAGE_SEED", 1);
    for (seed, done) in (first_seed..).zip((0..rounds).step_by(ROUNDS_A_DATABASE)) {
        let image = Image::new(seed);
        let other = Image::on_disk(SimFs::new(!seed), seed);
        let mut rng = fastrand::Rng::with_seed(seed);
        for round in done..rounds.min(done + ROUNDS_A_DATABASE) {
            let damaged = kinds::damage(&image, &other, &mut rng);
            let context = format!("seed {seed}, round {round}: {}", damaged.what);
            image.check(&damaged, &context);
        }
    }
}
