//! The limits that a system sets to a process (`ulimit`): reached while the server runs, they refuse
//! what needs more, end nothing, and hurt no more once they are lifted.

use std::collections::BTreeSet;
use std::fs::read_dir;
use std::io::{Read, Write};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tempfile::TempDir;

use crate::common::ledger::Ledger;
use crate::common::load::{Outcome, Put, Writer};
use crate::common::server::{Client, HANGS_AFTER, Process, Server, server_command};

/// The limit on the size of files, in bytes, which the log soon reaches.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Sets a limit of a running server; `None` lifts it.
fn limit(server: &Server, resource: Resource, most: Option<u64>) {
    let process = Pid::from_raw(server.process_id() as i32).unwrap();
    let maximum = getrlimit(resource).maximum;
    let limit = Rlimit { current: most.or(maximum), maximum };
    prlimit(Some(process), resource, limit).unwrap();
}

/// Writes until an answer has this status.
fn put_until(status: u16, writer: &mut Writer, client: &mut Client) -> Vec<Put> {
    let deadline = Instant::now() + HANGS_AFTER;
    let mut puts = Vec::new();
    while puts.last().is_none_or(|put: &Put| put.outcome != Outcome::Answered(status)) {
        assert!(Instant::now() < deadline, "no write is answered with {status}");
        puts.push(writer.put(client));
    }
    puts
}

/// The bug it guards: a write past the limit on the size of files ended the server by SIGXFSZ.
#[test]
fn a_limit_on_the_size_of_files_is_like_a_full_disk() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path(), &["--durability", "buffered"]);
    let mut client = server.connect();
    let mut writer = Writer::all(3).swap_remove(0);
    let mut ledger = Ledger::default();
    for _ in 0..2 {
        limit(&server, Resource::Fsize, Some(FILE_BYTES_MAX));
        let mut puts = put_until(507, &mut writer, &mut client);
        puts.push(writer.put(&mut client));
        assert_eq!(client.send("GET", "/readyz", "").status, 200);
        limit(&server, Resource::Fsize, None);
        puts.extend(put_until(200, &mut writer, &mut client));
        ledger.enter(puts);
        ledger.check_acknowledged(&mut client);
    }
    server.kill();
    ledger.check(&Server::start(dir.path(), &[]), &mut Rng::with_seed(3));
}

#[test]
fn a_start_that_the_limits_leave_no_room_for_is_refused_and_leaves_nothing() {
    for (limit, told) in [("-f 8", "File too large"), ("-n 12", "Too many open files")] {
        let dir = TempDir::new().unwrap();
        let server = server_command(dir.path(), &[]);
        let mut limited = Command::new("sh");
        limited.args(["-c", &format!("ulimit {limit} && exec \"$@\""), "sh"]);
        limited.arg(server.get_program()).args(server.get_args());
        let ended = Process::run(limited);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{limit}: {ended:?}");
        let line = ended.stderr.trim_end();
        assert!(line.contains(told) && !line.contains('\n'), "{limit}: {ended:?}");
        assert_eq!(Server::start(dir.path(), &[]).stop().code, Some(0));
    }
}

/// The bug it guards: a flush that could open no file refused all writes until a restart.
#[test]
fn a_limit_on_open_files_is_waited_out() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path(), &["--memtable-size", "16KiB"]);
    let mut client = server.connect();
    let mut writer = Writer::all(4).swap_remove(0);
    let mut ledger = Ledger::default();

    limit(&server, Resource::Nofile, Some(lowest_unused_descriptor(&server)));
    // Accepted by the system, but not by the server.
    let mut waiting = server.raw_connect();
    waiting.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    // Until nothing can be flushed or begun any more.
    let mut puts = put_until(503, &mut writer, &mut client);
    assert_eq!(client.send("GET", "/readyz", "").status, 200, "nothing is poisoned");
    let acknowledged = puts.iter().rfind(|put| put.outcome == Outcome::ACKNOWLEDGED).unwrap();
    let (key, timestamp) = &acknowledged.place;
    assert_eq!(client.floor(key, *timestamp), acknowledged.value);

    limit(&server, Resource::Nofile, None);
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    puts.extend(put_until(200, &mut writer, &mut client));
    ledger.enter(puts);
    ledger.check(&server, &mut Rng::with_seed(4));
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("cannot accept connections, trying again"), "{ended:?}");
    let complaints = ended.stderr.lines().count();
    assert!(complaints < 1000, "{complaints} complaints: it tries without a pause");
    ledger.check(&Server::start(dir.path(), &[]), &mut Rng::with_seed(4));
}

/// The limit under which the server can open no more files than it has: the lowest number that it does
/// not use, once it opens no more by itself.
fn lowest_unused_descriptor(server: &Server) -> u64 {
    let used = || {
        let entries = read_dir(format!("/proc/{}/fd", server.process_id())).unwrap();
        let numbers = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        numbers.map(|number| number.parse().unwrap()).collect::<BTreeSet<u64>>()
    };
    let mut before = used();
    loop {
        thread::sleep(Duration::from_millis(200));
        let now = used();
        if now == before {
            let lowest = (0..=now.len() as u64).find(|number| !now.contains(number));
            return lowest.expect("a set of n numbers leaves one of the first n + 1");
        }
        before = now;
    }
}
