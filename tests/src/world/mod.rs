//! The real server on real file systems that fail it: what the simulated file system can only claim
//! of them.
//!
//! Most of this needs root, loop devices or tools that are not everywhere; `tests/setup.sh` installs
//! the tools. Where something is missing, the test says so on stderr and does nothing. With
//! `KVTIMEDB_NO_SKIP=1` it fails instead.

mod clock;
mod full;
mod inject;
mod limits;
mod loopfs;
mod powercut;
mod strace;

use std::io::{self, Write};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Tests that were skipped in this process.
static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Tells that a test can't be run here.
fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(std::env::var_os("KVTIMEDB_NO_SKIP").is_none(), "{test} can't be run: {why}");
    let skipped = 1 + SKIPPED.fetch_add(1, Ordering::Relaxed);
    let line = format!("SKIPPED {test}: {why} (number {skipped} of this run)\n");
    // The test harness would capture what `eprintln` writes, and show it of failed tests only.
    io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Runs a tool of the system to its end. The error says why it is of no use.
fn tool(name: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(name).args(arguments).output();
    let output = output.map_err(|error| format!("{name}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("{name} {}: {}", arguments.join(" "), text(&output.stderr)))
}
