//! What the process and the machine tell about themselves.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Result;

/// The versions of every package of this build.
const LOCK: &str = include_str!("../../Cargo.lock");

/// The version of a package in this build.
pub fn version_of(package: &str) -> &'static str {
    let quoted = |line: &'static str| line.split('"').nth(1).unwrap_or_default();
    let mut lines = LOCK.lines();
    lines.find(|line| line.starts_with("name = ") && quoted(line) == package);
    lines.next().map_or("unknown", quoted)
}

/// Processor, cores, memory, kernel, compiler and commit, in one line.
pub fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split(':').nth(1)).unwrap_or("unknown").trim().to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let (cpu, memory) = (field("/proc/cpuinfo", "model name"), field("/proc/meminfo", "MemTotal"));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (rustc, commit) = (said("rustc", &["--version"]), said("git", &["rev-parse", "HEAD"]));
    format!(
        "{cpu}, {cores} cores, {memory} of memory, {} {}, {rustc}, commit {}",
        std::env::consts::OS,
        kernel.trim(),
        &commit[..commit.len().min(10)],
    )
}

/// The first line that a command prints.
pub fn said(command: impl AsRef<OsStr>, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().lines().next().unwrap_or("unknown").to_owned()
}

/// The memory of this process that no file backs, in bytes, where the system tells.
pub fn anonymous_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// What the files below `dir` take on disk, in bytes, but for those whose name ends with `.` and `but`.
pub fn disk_bytes(dir: &Path, but: &str) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            disk_bytes(&entry.path(), but)?
        } else if entry.path().extension().is_some_and(|extension| extension == but) {
            0
        } else {
            allocated_bytes(&entry.metadata()?)
        };
    }
    Ok(bytes)
}

/// Sparse and preallocated files make the length a poor measure where this one is to be had.
#[cfg(unix)]
fn allocated_bytes(file: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    file.blocks() * 512
}

#[cfg(not(unix))]
fn allocated_bytes(file: &fs::Metadata) -> u64 {
    file.len()
}

/// Waits until the background threads of this process have come to rest, or a minute. Returns when
/// that was: the time that it took to be sure of it is left out.
pub fn settle() -> Instant {
    const WINDOW: Duration = Duration::from_millis(200);
    // Clocks of the kernel are 10 ms: less than a tenth of a core.
    const QUIET_TICKS: u64 = 2;
    let (began, own) = (Instant::now(), OsStr::new("self"));
    while began.elapsed() < Duration::from_mins(1) {
        let (window_began, before) = (Instant::now(), cpu_ticks(own));
        sleep(WINDOW);
        match (before, cpu_ticks(own)) {
            (Some(before), Some(after)) if after - before >= QUIET_TICKS => {}
            (Some(_), Some(_)) => return window_began,
            _ => {
                sleep(Duration::from_secs(2));
                return window_began;
            }
        }
    }
    Instant::now()
}

/// The time that all threads of a process have used, where the system tells; `self` is this one.
pub(crate) fn cpu_ticks(process: &OsStr) -> Option<u64> {
    let stat = fs::read_to_string(Path::new("/proc").join(process).join("stat")).ok()?;
    // The name of the process, in parentheses, may hold spaces.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// Lets the system write what is waiting to be written, so that it is not written during a measurement.
pub fn write_back() {
    // Where there is no such command, the measurement is a little noisier.
    let _ = Command::new("sync").status();
}
