//! A power cut under load, on the file systems that people use: what was acknowledged under `sync`
//! is there when the power is back, and under `buffered` a prefix of it.
//!
//! Guards against: an acknowledgement before the sync, a file whose name in the directory was never
//! made durable, a log that is given up while its table is not on disk, a manifest that names what
//! is not there.
//!
//! The power is cut by the shutdown of the file system: from one moment on nothing more is written,
//! and what the system had only in memory is gone. The disk below it is honest: a disk that forgets
//! what it was told to flush is not tested.
//!
//! `KVTIMEDB_POWERCUT_CYCLES` sets how often each file system is cut off, `KVTIMEDB_POWERCUT_SEED`
//! where the random choices start.

use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use kvtimedb_engine::{Db, Options};
use rustix::process::Signal;

use super::loopfs::{FsKind, Journal, LoopFs};
use super::skip;
use crate::common::ledger::Ledger;
use crate::common::load::{Load, Outcome, Put, Writer};
use crate::common::server::{Client, Process, Server, server_command};
use crate::common::setting;

/// So small that each cycle flushes, and some merge.
const MEMTABLE_SIZE: &str = "16KiB";

#[test]
fn ext4_keeps_what_was_acknowledged_through_power_cuts() {
    survive_power_cuts(FsKind::Ext4);
}

#[test]
fn xfs_keeps_what_was_acknowledged_through_power_cuts() {
    survive_power_cuts(FsKind::Xfs);
}

fn survive_power_cuts(kind: FsKind) {
    let fs = match LoopFs::make(kind) {
        Ok(fs) => fs,
        Err(why) => return skip(&why),
    };
    let begin = Instant::now();
    let cycles = setting("KVTIMEDB_POWERCUT_CYCLES", 4);
    let seed = setting("KVTIMEDB_POWERCUT_SEED", 2013);
    println!("{kind:?}, KVTIMEDB_POWERCUT_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let mut ledger = Ledger::default();
    let mut writers = Writer::all(seed);
    let mut buffered_puts: Option<Vec<Put>> = None;
    let mut bus_errors = 0;
    for cycle in 0..cycles {
        let buffered = cycle % 4 == 1;
        let durability = if buffered { "buffered" } else { "sync" };
        println!("cycle {cycle}, {durability}: {} acknowledged so far", ledger.acknowledged());
        let flags = ["--durability", durability, "--memtable-size", MEMTABLE_SIZE];
        if rng.u8(..4) == 0 {
            cut_off_while_it_recovers(&fs, &flags, &mut rng);
        }
        let server = Server::start(&fs.data_dir(), &flags);
        if let Some(puts) = buffered_puts.take() {
            ledger.enter_prefix(puts, &server);
        }
        ledger.check(&server, &mut rng);

        let load = Load::start(&server, writers);
        thread::sleep(Duration::from_millis(rng.u64(20..=200)));
        fs.cut_power(journal(&mut rng));
        let (wrote, puts) = load.join();
        let is_refused = |put: &Put| matches!(put.outcome, Outcome::Answered(500 | 503));
        let refused = puts.iter().filter(|put| is_refused(put)).count();
        let ready = readiness(&server);
        if server.kill().signal == Some(Signal::BUS.as_raw()) {
            // A read of a page of a mapped table that the disk can't give.
            bus_errors += 1;
        } else {
            assert_eq!((refused, ready), (wrote.len(), Some(503)), "each one's last, and /readyz");
        }
        fs.remount();
        if buffered {
            buffered_puts = Some(puts);
        } else {
            ledger.enter(puts);
        }
        writers = wrote;
    }
    let server = Server::start(&fs.data_dir(), &[]);
    if let Some(puts) = buffered_puts.take() {
        ledger.enter_prefix(puts, &server);
    }
    ledger.check(&server, &mut rng);
    assert_eq!(server.stop().code, Some(0));
    ledger.check_all(&Db::open(fs.data_dir(), Options::default()).unwrap());
    let seconds = begin.elapsed().as_secs_f64();
    println!("{kind:?}, {cycles} power cuts in {seconds:.1} s: {}", ledger.summary());
    println!("{bus_errors} of them ended the server by SIGBUS");
    assert!(ledger.acknowledged() > 0, "no write was ever acknowledged: nothing was tested");
}

/// The status of `/readyz`; `None` where the server has died.
fn readiness(server: &Server) -> Option<u16> {
    let mut client = Client::connect(server.address()).ok()?;
    client.try_to("GET", "/readyz").ok().map(|answer| answer.status)
}

/// The power that has just come back goes again.
fn cut_off_while_it_recovers(fs: &LoopFs, flags: &[&str], rng: &mut Rng) {
    let recovering = Process::spawn(server_command(&fs.data_dir(), flags));
    thread::sleep(Duration::from_millis(rng.u64(..40)));
    fs.cut_power(journal(rng));
    // It may have ended by itself.
    recovering.signal(Signal::KILL);
    recovering.wait();
    fs.remount();
}

fn journal(rng: &mut Rng) -> Journal {
    if rng.bool() { Journal::Written } else { Journal::Lost }
}
