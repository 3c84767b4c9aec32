//! The clock of the system, set back by years while the server runs, by libfaketime: nothing that is
//! stored or answered depends on it, and no time limit waits for it to come back.

use std::fs::{read_dir, write};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use tempfile::TempDir;

use super::skip;
use crate::common::ledger::Ledger;
use crate::common::load::{Load, Outcome, Writer};
use crate::common::server::{Server, server_command};

#[test]
fn a_clock_that_is_set_back_changes_nothing() {
    let Some(library) = libfaketime() else { return skip("libfaketime is not installed") };
    let dir = TempDir::new().unwrap();
    let offset = dir.path().join("offset");
    let start = || {
        let mut command = server_command(&dir.path().join("data"), &["--memtable-size", "16KiB"]);
        command.env("LD_PRELOAD", &library).env("FAKETIME_TIMESTAMP_FILE", &offset);
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Server::start_command(command)
    };
    let mut rng = Rng::with_seed(6);
    let mut ledger = Ledger::default();

    write(&offset, "+20y").unwrap();
    let server = start();
    let date = server.connect().send("GET", "/livez", "").header("date").to_owned();
    let year: u32 = date.split(' ').nth(3).and_then(|year| year.parse().ok()).expect("a year");
    if year < 2040 {
        return skip("libfaketime has no effect");
    }
    let load = Load::start(&server, Writer::all(6));
    thread::sleep(Duration::from_millis(100));
    write(&offset, "-20y").unwrap();
    thread::sleep(Duration::from_millis(100));
    let (writers, puts) = load.stop();
    assert!(puts.iter().all(|put| put.outcome == Outcome::ACKNOWLEDGED));
    ledger.enter(puts);
    ledger.check(&server, &mut rng);
    assert_eq!(server.stop().code, Some(0));

    let server = start();
    ledger.check(&server, &mut rng);
    let load = Load::start(&server, writers);
    thread::sleep(Duration::from_millis(50));
    server.kill();
    ledger.enter(load.join().1);
    ledger.check(&start(), &mut rng);
}

/// Where Debian has it.
fn libfaketime() -> Option<PathBuf> {
    let directories = read_dir("/usr/lib").ok()?.flatten();
    let mut libraries = directories.map(|dir| dir.path().join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.exists())
}
