//! How the server starts, stops, and refuses to start: exit codes, and what it says to whom.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use crate::common::ledger::Ledger;
use crate::common::load::{Load, Outcome, Writer};
use crate::common::server::{Ended, Process, Server, command, server_command};

/// Checks that a server did not start, and says why in one line. Returns the line.
#[track_caller]
fn refused(ended: &Ended, code: i32) -> &str {
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{ended:?}");
    let line = ended.stderr.strip_suffix('\n').unwrap_or_default();
    assert!(line.starts_with("kvtimedb: ") && !line.contains('\n'), "{ended:?}");
    line
}

/// A database with some tables and a manifest, closed.
fn closed_database() -> TempDir {
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    for timestamp in 0..50 {
        client.put("k", timestamp, r#""v""#).unwrap();
    }
    drop(client);
    assert_eq!(server.stop().code, Some(0));
    dir
}

/// The one file in `dir` whose name `matches`.
fn file_in(dir: &Path, matches: impl Fn(&str) -> bool) -> PathBuf {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names = names.filter(|name| matches(name.to_str().unwrap()));
    let name = names.next().expect("a file of that name");
    assert_eq!(names.next(), None, "more than one file of that name");
    dir.join(name)
}

#[test]
fn sigterm_under_load_loses_nothing_acknowledged() {
    for durability in ["sync", "buffered"] {
        let dir = TempDir::new().unwrap();
        let flags = ["--durability", durability, "--memtable-size", "16KiB"];
        let mut ledger = Ledger::default();
        let mut rng = Rng::with_seed(5);
        let server = Server::start(dir.path(), &flags);
        let load = Load::start(&server, Writer::all(5));
        thread::sleep(Duration::from_millis(100));
        let ended = server.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.ends_with("everything acknowledged is on disk\n"), "{ended:?}");
        assert_eq!(ended.stderr, "");

        let puts = load.join().1;
        let told = |put: &Outcome| matches!(*put, Outcome::ACKNOWLEDGED | Outcome::Broken);
        assert!(puts.iter().all(|put| told(&put.outcome)), "a write was refused");
        ledger.enter(puts);
        assert!(ledger.acknowledged() > 0, "the load had not begun");
        let server = Server::start(dir.path(), &flags);
        ledger.check(&server, &mut rng);
    }
}

#[test]
fn sigint_stops_like_sigterm_and_idle_connections_are_not_waited_for() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path(), &[]);
    let _silent = server.raw_connect();
    let mut idle = server.connect();
    idle.put("k", 1, "1").unwrap();
    server.signal(Signal::INT);
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once_and_loses_nothing_acknowledged() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path(), &[]);
    server.connect().put("k", 1, "1").unwrap();
    // A request that doesn't end, so that the first signal has something to wait for.
    let mut stuck = server.raw_connect();
    let head = b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
    stuck.write_all(head).unwrap();
    stuck.read_exact(&mut [0; 25]).unwrap();
    server.signal(Signal::TERM);
    // It has heard the first signal once it takes no more connections.
    while TcpStream::connect(server.address()).is_ok() {
        thread::sleep(Duration::from_millis(1));
    }
    server.signal(Signal::TERM);
    let ended = server.wait();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(ended.stderr.contains("second signal"), "{ended:?}");

    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.connect().floor("k", 1), r#""1""#);
}

#[test]
fn a_directory_in_use_is_refused_and_its_holder_named() {
    let dir = TempDir::new().unwrap();
    let first = Server::start(dir.path(), &[]);
    let second = Process::run(server_command(dir.path(), &[]));
    let line = refused(&second, 5);
    let holder = format!("in use by process {}", first.process_id());
    assert!(line.contains(&holder) && line.contains(dir.path().to_str().unwrap()), "{line}");

    assert_eq!(first.connect().put("k", 1, "1").unwrap().status, 200, "the first one goes on");
    first.kill();
    assert_eq!(Server::start(dir.path(), &[]).connect().floor("k", 1), r#""1""#);
}

#[test]
fn what_the_command_line_cannot_mean_is_a_usage_error() {
    let dir = TempDir::new().unwrap();
    for (flags, told) in [
        (&["--no-such-flag"][..], "--no-such-flag"),
        (&["stray"], "stray"),
        (&["--listen"], "--listen"),
        (&["--durability", "maybe"], "--durability"),
        (&["--memtable-size", "lots"], "--memtable-size"),
        (&["--memtable-size", "16MB"], "--memtable-size"),
        (&["--memtable-size", "99999999999999999999"], "--memtable-size"),
        (&["--memtable-size", "17179869184GiB"], "--memtable-size"),
        (&["--memtable-size", "16383"], "memtable"),
        (&["--memtable-size", "1025MiB"], "memtable"),
        (&["--memtable-size", "16000000000GiB"], "memtable"),
        (&["--cache-size=-1"], "--cache-size"),
    ] {
        let mut command = command(flags);
        command.env("KVTIMEDB_LISTEN", "127.0.0.1:0").env("KVTIMEDB_DATA_DIR", dir.path());
        let ended = Process::run(command);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{flags:?}: {ended:?}");
        assert!(ended.stderr.contains(told), "{flags:?}: {ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{flags:?}: {ended:?}");
    }
    let mut command = server_command(dir.path(), &[]);
    command.env("KVTIMEDB_DURABILITY", "maybe");
    assert_eq!(Process::run(command).code, Some(2));
}

#[test]
fn the_smallest_memtable_is_accepted() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path(), &["--memtable-size", "16KiB", "--cache-size", "0"]);
    assert_eq!(server.connect().put("k", 1, "1").unwrap().status, 200);
}

#[test]
fn places_that_cannot_be_used_are_told_in_one_line() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for data_dir in [&file, &file.join("below")] {
        let ended = Process::run(server_command(data_dir, &[]));
        let line = refused(&ended, 1);
        assert!(line.contains(file.to_str().unwrap()), "{line}");
    }
    // Root may write anywhere.
    if !geteuid().is_root() {
        let sealed = dir.path().join("sealed");
        std::fs::create_dir(&sealed).unwrap();
        std::fs::set_permissions(&sealed, std::fs::Permissions::from_mode(0o500)).unwrap();
        for data_dir in [&sealed, &sealed.join("below")] {
            let ended = Process::run(server_command(data_dir, &[]));
            assert!(refused(&ended, 1).contains("sealed"), "{ended:?}");
        }
    }
}

#[test]
fn an_address_that_cannot_be_used_is_told_in_one_line() {
    let dir = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let holder = TcpListener::bind(&taken);
    for address in [taken.as_str(), "127.0.0.1", "127.0.0.1:65536", "nowhere.invalid:1"] {
        let mut command = command(["--listen", address, "--data-dir"]);
        command.arg(dir.path());
        let ended = Process::run(command);
        let line = refused(&ended, 1);
        assert!(line.contains("cannot listen on") && line.contains(address), "{line}");
    }
    drop(holder);
    // What did not start has not hurt the directory, nor does it hold it.
    assert_eq!(Server::start(dir.path(), &[]).stop().code, Some(0));
}

#[test]
fn help_and_version_tell_all_and_touch_nothing() {
    let dir = TempDir::new().unwrap();
    let mut help = command(["--help"]);
    help.current_dir(dir.path());
    let ended = Process::run(help);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    for flag in ["data-dir", "listen", "durability", "memtable-size", "cache-size"] {
        assert!(ended.stdout.contains(&format!("--{flag} <")), "{flag}: {}", ended.stdout);
        let variable = format!("KVTIMEDB_{}", flag.to_uppercase().replace('-', "_"));
        assert!(ended.stdout.contains(&variable), "{variable}: {}", ended.stdout);
    }
    for default in ["./data", "127.0.0.1:8080", "[default: sync]", "[default: 64MiB]"] {
        assert!(ended.stdout.contains(default), "{default}: {}", ended.stdout);
    }
    for code in
        ["0 stopped", "1 failed", "2 usage", "4 data corrupt", "5 data directory in use", "130"]
    {
        assert!(ended.stdout.contains(code), "exit code {code}: {}", ended.stdout);
    }
    let ended = Process::run(command(["--version"]));
    let version = concat!("kvtimedb ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), version));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_environment_configures_and_flags_win_over_it() {
    let (by_env, by_flag) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let in_environment = |flags: &[&str]| {
        let mut command = command(flags);
        command.env("KVTIMEDB_DATA_DIR", by_env.path()).env("KVTIMEDB_LISTEN", "127.0.0.1:0");
        command.env("KVTIMEDB_DURABILITY", "buffered").env("KVTIMEDB_MEMTABLE_SIZE", "32KiB");
        command.env("KVTIMEDB_CACHE_SIZE", "0");
        Server::start_command(command)
    };
    let shown = |dir: &TempDir| dir.path().canonicalize().unwrap().display().to_string();
    let server = in_environment(&[]);
    let line = server.start_line();
    assert!(line.contains(&shown(&by_env)) && line.contains("durability buffered"), "{line}");
    server.stop();

    let flags = ["--data-dir", by_flag.path().to_str().unwrap(), "--durability", "sync"];
    let server = in_environment(&flags);
    let line = server.start_line();
    assert!(line.contains(&shown(&by_flag)) && line.contains("durability sync"), "{line}");
}

#[test]
fn a_missing_data_directory_is_made_for_its_owner_only() {
    let dir = TempDir::new().unwrap();
    let data_dir = dir.path().join("not/there");
    assert_eq!(Server::start(&data_dir, &[]).stop().code, Some(0));
    let mode = std::fs::metadata(&data_dir).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn damage_is_refused_with_file_and_offset_and_left_as_it_is() {
    // In the manifest, the first record, behind which there is another one. In the table, the
    // footer, which every open reads.
    let is_damaged = |name: &str, kind| name.starts_with(kind) || name.ends_with(kind);
    for (kind, from_end, distance) in
        [("CURRENT", false, 5), ("MANIFEST-", false, 60), (".sst", true, 20)]
    {
        let dir = closed_database();
        let path = file_in(dir.path(), |name| is_damaged(name, kind));
        let mut bytes = std::fs::read(&path).unwrap();
        let position = if from_end { bytes.len() - distance } else { distance };
        bytes[position] ^= 0x10;
        std::fs::write(&path, &bytes).unwrap();

        let ended = Process::run(server_command(dir.path(), &[]));
        let line = refused(&ended, 4);
        assert!(line.contains(&format!("{} at offset ", path.display())), "{line}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "a damaged file is evidence");
    }
}

#[test]
fn damage_in_the_middle_of_the_log_is_refused_with_its_offset() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    for timestamp in 0..10 {
        client.put("k", timestamp, r#""needle""#).unwrap();
    }
    server.kill();
    let path = file_in(dir.path(), |name| name.ends_with("wal"));
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(6).position(|window| window == b"needle").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let ended = Process::run(server_command(dir.path(), &[]));
    let line = refused(&ended, 4);
    // The first record stands behind the header of the file.
    assert!(line.contains(&format!("{} at offset 36", path.display())), "{line}");
}
