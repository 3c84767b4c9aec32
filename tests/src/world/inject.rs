//! An I/O error, or a full disk, at each call of each thread that writes, by strace: what the failed
//! call was to make durable is not acknowledged; writes are refused from then on until a restart, or
//! go on after a full disk; reads go on, and a restart finds all that was acknowledged. A server that
//! meets the error while it starts says so and ends, and the next start finds everything.
//!
//! Guards against: a sync that is tried again after it failed, an error that is dropped on the way
//! from a background thread, a half-begun start that the next one takes for whole.
//!
//! `KVTIMEDB_INJECT_CALLS` sets how many calls of each kind fail, each in a run of its own; with a
//! large number, all that there are.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;
use tempfile::TempDir;

use super::strace::{Injection, Log, Strace, fail_in_main_thread};
use super::{skip, tool};
use crate::common::ledger::Ledger;
use crate::common::load::{Outcome, Put};
use crate::common::server::{Client, HANGS_AFTER, Server, server_command};
use crate::common::setting;

const FLAGS: [&str; 2] = ["--memtable-size", "16KiB"];

/// So many puts flush several times, and merge twice.
const PUTS_MAX: i64 = 40;

/// Puts after the failure.
const PUTS_AFTER: i64 = 4;

/// What comes of a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Writes are refused until a restart.
    Poisons,
    /// Merges stop, or writes are refused too, if the manifest is concerned.
    StopsMerges,
    /// A write may be told of a full disk, and all goes on.
    Heals,
    /// Heals while a segment of the log is created, and poisons when it is in use.
    PoisonsIfUsed,
    /// Another one does the work, or it is left undone until the next start.
    Nothing,
}

use Effect::{Heals, Nothing, Poisons, PoisonsIfUsed, StopsMerges};

/// The calls of each thread that can fail for lack of a working disk, or of space on it.
const CALLS: &[(&str, &str, &str, Effect)] = &[
    ("EIO", "kvt-write", "pwrite64", Poisons),
    ("EIO", "kvt-write", "fdatasync", Poisons),
    ("EIO", "kvt-flush", "openat", Poisons),
    ("EIO", "kvt-flush", "pwrite64", Poisons),
    ("EIO", "kvt-flush", "fdatasync", Poisons),
    ("EIO", "kvt-flush", "fsync", Poisons),
    ("EIO", "kvt-flush", "/^unlink", Nothing),
    ("EIO", "kvt-compact", "openat", StopsMerges),
    ("EIO", "kvt-compact", "pwrite64", StopsMerges),
    ("EIO", "kvt-compact", "fdatasync", StopsMerges),
    ("EIO", "kvt-compact", "fsync", StopsMerges),
    ("EIO", "kvt-compact", "/^unlink", Nothing),
    ("EIO", "kvt-log", "openat", Poisons),
    ("EIO", "kvt-log", "pwrite64", Poisons),
    ("EIO", "kvt-log", "fdatasync", Poisons),
    ("EIO", "kvt-log", "fsync", Poisons),
    ("ENOSPC", "kvt-write", "pwrite64", Heals),
    ("ENOSPC", "kvt-write", "fdatasync", PoisonsIfUsed),
    ("ENOSPC", "kvt-flush", "openat", Heals),
    ("ENOSPC", "kvt-flush", "pwrite64", Heals),
    ("ENOSPC", "kvt-flush", "fsync", Poisons),
    ("ENOSPC", "kvt-compact", "openat", Heals),
    ("ENOSPC", "kvt-compact", "pwrite64", Heals),
    ("ENOSPC", "kvt-compact", "fsync", StopsMerges),
];

#[test]
fn a_failed_call_refuses_writes_until_a_restart_or_heals_and_reads_go_on() {
    let calls_max = setting("KVTIMEDB_INJECT_CALLS", 2);
    let mut failed = 0;
    for &(error, thread, call, effect) in CALLS {
        for nth in 1..=calls_max {
            match fail_one(error, thread, call, nth, effect) {
                Err(why) => return skip(&why),
                Ok(false) => {
                    println!("{error} of {thread} at {call}: {} calls", nth - 1);
                    break;
                }
                Ok(true) => failed += 1,
            }
        }
    }
    println!("{failed} calls failed in all");
    assert!(failed > CALLS.len() / 2, "most calls were never reached");
}

/// One run; `Ok(false)` if the call was never made.
fn fail_one(
    error: &str,
    thread: &str,
    call: &str,
    nth: usize,
    effect: Effect,
) -> Result<bool, String> {
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path(), &FLAGS);
    let mut client = server.connect();
    let strace = Strace::attach(&server, thread, &Injection { error, call, nth })?;
    let mut puts = Vec::new();
    let mut timestamps = 0..;
    while strace.failed_call().is_none() && puts.len() < PUTS_MAX as usize {
        puts.extend(timestamps.next().map(|timestamp| put(&mut client, timestamp)));
    }
    let Some(failed) = strace.failed_call() else { return Ok(false) };
    let context = format!("{thread} {nth}: {failed}");
    let full = puts.iter().any(|put| put.outcome == Outcome::Answered(507));
    let effect = match effect {
        PoisonsIfUsed if full => Heals,
        PoisonsIfUsed => Poisons,
        _ => effect,
    };
    if matches!(effect, Poisons | StopsMerges) {
        wait_until(&context, || {
            let (status, state) = readyz(&mut client);
            status == 503 || effect == StopsMerges && state["compaction_error"].is_string()
        });
    }
    let answers = timestamps.take(PUTS_AFTER as usize).map(|ts| put(&mut client, ts));
    puts.extend(answers);
    check_outcomes(&puts, effect, &readyz(&mut client), &context);
    if thread == "kvt-write" {
        let answer = Outcome::Answered(if effect == Heals { 507 } else { 500 });
        let first = puts.iter().find(|put| put.outcome != Outcome::ACKNOWLEDGED);
        assert_eq!(first.map(|put| put.outcome), Some(answer), "{context}: the failed put");
    }

    let mut ledger = Ledger::default();
    ledger.enter(puts);
    ledger.check_acknowledged(&mut client);
    let ended = server.kill();
    assert!(!ended.stderr.contains("panicked"), "{context}: {ended:?}");
    ledger.check(&Server::start(dir.path(), &FLAGS), &mut Rng::with_seed(1));
    Ok(true)
}

/// Checks what writes were told while a call failed and after it, and what `/readyz` says of it.
fn check_outcomes(puts: &[Put], effect: Effect, readyz: &(u16, Value), context: &str) {
    let (status, state) = readyz;
    let full = puts.iter().filter(|put| put.outcome == Outcome::Answered(507)).count();
    assert!(full <= usize::from(effect == Heals), "{context}: {full} writes met a full disk");
    let refused = puts
        .iter()
        .position(|put| !matches!(put.outcome, Outcome::ACKNOWLEDGED | Outcome::Answered(507)));
    assert_eq!(*status == 503, refused.is_some(), "{context}: {state}");
    match effect {
        Poisons => assert!(refused.is_some(), "{context}: writes go on"),
        StopsMerges | PoisonsIfUsed => {}
        Heals | Nothing => {
            assert!(refused.is_none(), "{context}: {state}");
            assert!(state["compaction_error"].is_null(), "{context}: {state}");
        }
    }
    if let Some(first) = refused {
        assert!(state["cause"].as_str().unwrap().contains("os error"), "{state}");
        let later = &puts[first + 1..];
        let all_refused = later.iter().all(|put| put.outcome == Outcome::Answered(503));
        assert!(all_refused, "{context}: a write was accepted after one had failed");
    }
}

/// Four of these fill a memtable.
fn put(client: &mut Client, timestamp: i64) -> Put {
    let place = (format!("key-{}", timestamp % 3), timestamp);
    let noise = Rng::with_seed(timestamp as u64).u128(..);
    let value = format!(r#"{{"put":{timestamp},"noise":"{}"}}"#, format!("{noise:x}").repeat(100));
    let sent = Instant::now();
    let status = client.put(&place.0, timestamp, &value).unwrap().status;
    let outcome = Outcome::Answered(status);
    Put { place, value, sent, told: Instant::now(), outcome }
}

fn readyz(client: &mut Client) -> (u16, Value) {
    let answer = client.send("GET", "/readyz", "");
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

fn wait_until(context: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + HANGS_AFTER;
    while !condition() {
        assert!(Instant::now() < deadline, "{context}: nothing came of it");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The calls of a start, and whether the server may go on without them.
const START_CALLS: &[(&str, bool)] = &[
    ("openat", false),
    ("flock", false),
    ("ftruncate", false),
    ("getdents64", false),
    ("pread64", false),
    ("pwrite64", false),
    ("fdatasync", false),
    ("fsync", false),
    ("/^rename", false),
    ("/^unlink", true),
];

#[test]
fn a_start_that_meets_an_error_says_so_and_loses_nothing() {
    if let Err(why) = tool("strace", &["-D", "-o", "/dev/null", "true"]) {
        return skip(&why);
    }
    let calls_max = setting("KVTIMEDB_INJECT_CALLS", 2);
    let (database, mut ledger) = killed_database();
    for &(call, may_go_on) in START_CALLS {
        let calls = calls_of_start(database.path(), call);
        println!("{call}: {} calls, {calls:?}", calls.len());
        assert!(!calls.is_empty(), "a start without {call}");
        // Where not all are tried, they lie apart.
        for nth in calls.iter().step_by(calls.len().div_ceil(calls_max)) {
            let dir = copy_of(database.path());
            let log = Log::new();
            let plain = server_command(dir.path(), &FLAGS);
            let injection = Injection { error: "EIO", call, nth: *nth };
            let started = Server::try_start(fail_in_main_thread(&plain, &injection, &log));
            let failed = log.failed_call().unwrap_or_else(|| panic!("{call} {nth} was not made"));
            match started {
                Ok(server) => {
                    assert!(may_go_on, "it started in spite of {failed}");
                    ledger.check(&server, &mut Rng::with_seed(1));
                    server.kill();
                }
                Err(ended) => {
                    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{failed}");
                    let said = ended.stderr.trim_end();
                    let one_line = said.starts_with("kvtimedb: ") && !said.contains('\n');
                    assert!(one_line && said.contains("Input/output error"), "{failed}: {said}");
                }
            }
            ledger.check(&Server::start(dir.path(), &FLAGS), &mut Rng::with_seed(1));
        }
    }
}

/// Which of these calls of the main thread, counted from 1, concern the database. Others are those of
/// the loader.
fn calls_of_start(database: &Path, call: &str) -> Vec<usize> {
    let dir = copy_of(database);
    let log = Log::new();
    let none = Injection { error: "EIO", call, nth: 0 };
    let command = server_command(dir.path(), &FLAGS);
    Server::start_command(fail_in_main_thread(&command, &none, &log)).kill();
    let ours = |line: &str| line.contains(dir.path().to_str().unwrap());
    let calls = log.calls();
    (1..=calls.len()).filter(|nth| ours(&calls[nth - 1])).collect()
}

/// Tables, and a log that has to be replayed.
fn killed_database() -> (TempDir, Ledger) {
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path(), &FLAGS);
    let mut client = server.connect();
    let puts: Vec<Put> = (0..PUTS_MAX).map(|timestamp| put(&mut client, timestamp)).collect();
    assert!(puts.iter().all(|put| put.outcome == Outcome::ACKNOWLEDGED));
    server.kill();
    let mut ledger = Ledger::default();
    ledger.enter(puts);
    (dir, ledger)
}

fn copy_of(dir: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    let source = dir.join(".");
    let copied = Command::new("cp").arg("-r").arg(source).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    copy
}
