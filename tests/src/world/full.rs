//! A full disk, on a small file system of its own: writes are refused with 507 and leave nothing,
//! reads go on, nothing ends; when there is space again, writes resume by themselves. A start and a
//! stop on a full disk say what they lack, and lose nothing.
//!
//! Guards against: a full disk that poisons, a flush or a merge that is given up for good, leftovers
//! of failed tries that fill the disk further, a start that leaves a directory half changed.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use kvtimedb_engine::{Db, Options};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::loopfs::{FsKind, LoopFs};
use super::skip;
use crate::common::ledger::Ledger;
use crate::common::load::{Load, Outcome, Put, Writer};
use crate::common::server::{Client, Ended, HANGS_AFTER, Server, server_command};

const FLAGS: [&str; 2] = ["--memtable-size", "16KiB"];

#[test]
fn a_full_ext4_refuses_writes_and_heals() {
    refuse_and_heal(FsKind::Ext4);
}

#[test]
fn a_full_xfs_refuses_writes_and_heals() {
    refuse_and_heal(FsKind::Xfs);
}

fn refuse_and_heal(kind: FsKind) {
    let fs = match LoopFs::make(kind) {
        Ok(fs) => fs,
        Err(why) => return skip(&why),
    };
    let ballast = Ballast(fs.root().join("ballast"));
    let mut rng = Rng::with_seed(5);
    let mut ledger = Ledger::default();
    let mut writers = Writer::all(5);
    // Not part of the load, to see how it goes.
    let mut witness = writers.pop().expect("a writer");

    let server = Server::start(&fs.data_dir(), &FLAGS);
    let mut client = server.connect();
    for _ in 0..2 {
        let load = Load::start(&server, writers);
        thread::sleep(Duration::from_millis(50));
        let mut puts = fill(&ballast, &mut witness, &mut client);
        assert_eq!(client.send("GET", "/readyz", "").status, 200, "it is ready, for it heals");
        read_back(&puts, &mut client);
        ballast.remove();
        put_until(200, &mut witness, &mut client, &mut puts);
        thread::sleep(Duration::from_millis(50));
        let (wrote, of_load) = load.stop();
        puts.extend(of_load);
        assert!(puts.iter().any(|put| put.outcome == Outcome::Answered(507)));
        assert!(puts.iter().all(|put| put.outcome != Outcome::Answered(503)), "it was poisoned");
        ledger.enter(puts);
        ledger.check(&server, &mut rng);
        writers = wrote;
    }
    assert!(!client.send("GET", "/readyz", "").body.contains("compaction_error"));

    // Killed while the disk is full, it can't start before there is space.
    ledger.enter(fill(&ballast, &mut witness, &mut client));
    server.kill();
    let left = names(&fs.data_dir());
    for _ in 0..2 {
        if let Err(ended) = Server::try_start(server_command(&fs.data_dir(), &FLAGS)) {
            told_of_a_full_disk(&ended);
            assert_eq!(names(&fs.data_dir()), left, "a failed start left something");
        }
    }
    ballast.remove();
    let server = Server::start(&fs.data_dir(), &FLAGS);
    ledger.check(&server, &mut rng);

    // Stopped while the disk is full, it says that not everything became tables.
    let mut client = server.connect();
    ledger.enter(fill(&ballast, &mut witness, &mut client));
    told_of_a_full_disk(&server.stop());
    ballast.remove();
    let server = Server::start(&fs.data_dir(), &FLAGS);
    ledger.check(&server, &mut rng);
    assert_eq!(server.stop().code, Some(0));
    ledger.check_all(&Db::open(fs.data_dir(), Options::default()).unwrap());
    println!("{kind:?}: {}", ledger.summary());
}

/// Reads what was acknowledged, beside others who write elsewhere.
fn read_back(puts: &[Put], client: &mut Client) {
    let acknowledged = puts.iter().filter(|put| put.outcome == Outcome::ACKNOWLEDGED);
    let last: BTreeMap<_, _> = acknowledged.map(|put| (&put.place, &put.value)).collect();
    for ((key, timestamp), value) in last {
        assert_eq!(&client.floor(key, *timestamp), value, "{key} at {timestamp}");
    }
}

#[track_caller]
fn told_of_a_full_disk(ended: &Ended) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = ended.stderr.trim_end();
    let one_line = said.starts_with("kvtimedb: ") && !said.contains('\n');
    assert!(one_line && said.contains("No space left on device"), "{ended:?}");
}

/// Fills the disk until a write is refused. Returns the witness's writes.
fn fill(ballast: &Ballast, witness: &mut Writer, client: &mut Client) -> Vec<Put> {
    let mut puts = Vec::new();
    let deadline = Instant::now() + HANGS_AFTER;
    // Merges may still free some.
    while puts.last().is_none_or(|put: &Put| put.outcome != Outcome::Answered(507)) {
        assert!(Instant::now() < deadline, "the disk doesn't become full");
        ballast.grow();
        puts.push(witness.put(client));
    }
    puts
}

fn put_until(status: u16, witness: &mut Writer, client: &mut Client, puts: &mut Vec<Put>) {
    let deadline = Instant::now() + HANGS_AFTER;
    while puts.last().is_none_or(|put| put.outcome != Outcome::Answered(status)) {
        assert!(Instant::now() < deadline, "no write is answered with {status}");
        puts.push(witness.put(client));
        thread::sleep(Duration::from_millis(5));
    }
}

/// A file that takes what space there is.
struct Ballast(PathBuf);

impl Ballast {
    fn grow(&self) {
        let file = OpenOptions::new().create(true).append(true).open(&self.0).unwrap();
        let mut step = 64 << 20;
        while step >= 1 << 10 {
            let len = file.metadata().unwrap().len();
            match fallocate(&file, FallocateFlags::empty(), len, step) {
                Ok(()) => {}
                Err(Errno::NOSPC) => step /= 2,
                Err(error) => panic!("fallocate: {error}"),
            }
        }
    }

    fn remove(&self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// The files in a directory.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}
