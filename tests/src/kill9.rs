//! `kill -9` under load: the real server, killed at any moment while many connections write, must
//! come back with every write that it acknowledged, and with nothing that was never sent.
//!
//! Guards against: acknowledging before the log was written, a log that is given up before its
//! table is installed, a recovery that drops or doubles a segment, a crash during recovery, and
//! files of unfinished flushes and merges that get into the way of the next open.
//!
//! `KVTIMEDB_KILL9_CYCLES` sets how often, `KVTIMEDB_KILL9_SEED` where the random choices start.
//! The moment of the kill depends on the machine too, so that a seed repeats the load and not the
//! outcome.

use std::thread;
use std::time::Duration;

use fastrand::Rng;
use kvtimedb_engine::{Db, Options};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::common::ledger::Ledger;
use crate::common::load::{Load, Outcome, Writer};
use crate::common::server::{Process, Server, server_command};
use crate::common::setting;

/// So small that each cycle flushes, and some merge.
const MEMTABLE_SIZE: &str = "16KiB";

#[test]
fn every_acknowledged_write_survives_kill_9() {
    let cycles = setting("KVTIMEDB_KILL9_CYCLES", 12);
    let seed = setting("KVTIMEDB_KILL9_SEED", 2013);
    let mut rng = Rng::with_seed(seed);
    // Kept if this fails, to be looked into.
    let dir = TempDir::new().unwrap().keep();
    println!("KVTIMEDB_KILL9_SEED={seed}, data in {}", dir.display());
    let mut ledger = Ledger::default();
    let mut writers = Writer::all(seed);
    for cycle in 0..cycles {
        let durability = ["sync", "buffered"][cycle % 2];
        println!("cycle {cycle}, {durability}: {} acknowledged so far", ledger.acknowledged());
        let flags = ["--durability", durability, "--memtable-size", MEMTABLE_SIZE];
        // Some die before they have recovered from the last time.
        if rng.u8(..3) == 0 {
            let recovering = Process::spawn(server_command(&dir, &flags));
            thread::sleep(Duration::from_millis(rng.u64(..40)));
            recovering.signal(Signal::KILL);
            recovering.wait();
        }
        let server = Server::start(&dir, &flags);
        ledger.check(&server, &mut rng);

        let load = Load::start(&server, writers);
        thread::sleep(Duration::from_millis(rng.u64(20..=150)));
        server.kill();
        let (wrote, puts) = load.join();
        let told = |put: &Outcome| matches!(*put, Outcome::ACKNOWLEDGED | Outcome::Broken);
        assert!(puts.iter().all(|put| told(&put.outcome)), "a write was refused");
        ledger.enter(puts);
        writers = wrote;
    }
    let server = Server::start(&dir, &[]);
    ledger.check(&server, &mut rng);
    assert_eq!(server.stop().code, Some(0));
    ledger.check_all(&Db::open(&dir, Options::default()).unwrap());
    println!("{cycles} kills: {}", ledger.summary());
    assert!(ledger.acknowledged() > 0, "no write was ever acknowledged: nothing was tested");
    std::fs::remove_dir_all(dir).unwrap();
}
