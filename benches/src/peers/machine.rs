//! What the process and the machine tell about themselves.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Result;

/// The versions of every package of this build.
const LOCK: &str = include_str!("../../../Cargo.lock");

/// The version of a package in this build.
pub fn version_of(package: &str) -> &'static str {
    let quoted = |line: &'static str| line.split('"').nth(1).unwrap_or_default();
    let mut lines = LOCK.lines();
    lines.find(|line| line.starts_with("name = ") && quoted(line) == package);
    lines.next().map_or("unknown", quoted)
}

/// Processor, cores and memory, in one line.
pub fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split(':').nth(1)).unwrap_or("unknown").trim().to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let (cpu, memory) = (field("/proc/cpuinfo", "model name"), field("/proc/meminfo", "MemTotal"));
    format!("{cpu}, {cores} cores, {memory} of memory, {}", std::env::consts::OS)
}

/// What the files below `dir` take on disk, in bytes.
pub fn disk_bytes(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            disk_bytes(&entry.path())?
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
    let began = Instant::now();
    while began.elapsed() < Duration::from_mins(1) {
        let (window_began, before) = (Instant::now(), cpu_ticks());
        sleep(WINDOW);
        match (before, cpu_ticks()) {
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

/// The time that all threads of this process have used, where the system tells.
fn cpu_ticks() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the process, in parentheses, may hold spaces.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}
