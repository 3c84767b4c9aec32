//! System calls that fail because strace says so.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tempfile::NamedTempFile;

use crate::common::server::{HANGS_AFTER, Server};

/// Which call is to fail.
pub(super) struct Injection<'a> {
    /// `EIO`, `ENOSPC`, ...
    pub(super) error: &'a str,
    /// A system call's name, or `/` and a regular expression for some.
    pub(super) call: &'a str,
    /// Counted in one thread, from 1; 0 lets none fail.
    pub(super) nth: usize,
}

impl Injection<'_> {
    /// strace's options. What is called is written to `log`.
    fn options(&self, log: &Log) -> Vec<String> {
        let Injection { error, call, nth } = self;
        let log = log.0.path().to_str().expect("a temporary file that is UTF-8");
        let mut options = vec!["-y".to_owned(), "-o".to_owned(), log.to_owned()];
        options.extend(["-e".to_owned(), format!("trace={call}")]);
        if *nth > 0 {
            options.extend(["-e".to_owned(), format!("inject={call}:error={error}:when={nth}")]);
        }
        options
    }
}

/// A command whose main thread meets the failure. The process is the command's, not strace's.
pub(super) fn fail_in_main_thread(
    command: &Command,
    injection: &Injection<'_>,
    log: &Log,
) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-D", "-qq"]).args(injection.options(log));
    strace.arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    strace
}

/// What strace has seen.
pub(super) struct Log(NamedTempFile);

impl Log {
    pub(super) fn new() -> Log {
        Log(NamedTempFile::new().unwrap())
    }

    /// The calls so far, with their arguments.
    pub(super) fn calls(&self) -> Vec<String> {
        let text = std::fs::read(self.0.path()).unwrap();
        let text = String::from_utf8_lossy(&text);
        // Signals and the end of the thread are told in lines of their own.
        text.lines().filter(|line| !line.starts_with(['-', '+'])).map(str::to_owned).collect()
    }

    /// The call that was made to fail.
    pub(super) fn failed_call(&self) -> Option<String> {
        self.calls().into_iter().find(|call| call.ends_with("(INJECTED)"))
    }
}

/// strace, at work on one thread of a running server.
pub(super) struct Strace {
    child: Child,
    log: Log,
}

impl Strace {
    /// Lets a call fail that the thread makes from now on. The error says why that can't be done here.
    pub(super) fn attach(
        server: &Server,
        thread: &str,
        injection: &Injection<'_>,
    ) -> Result<Strace, String> {
        let thread_id = thread_id(server, thread);
        let log = Log::new();
        let mut command = Command::new("strace");
        command.args(injection.options(&log)).args(["-p", &thread_id]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("strace: {error}"))?;
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut said = String::new();
        stderr.read_line(&mut said).unwrap();
        let strace = Strace { child, log };
        if said.contains("attached") {
            return Ok(strace);
        }
        stderr.read_to_string(&mut said).unwrap();
        Err(format!("strace can't attach: {said}"))
    }

    pub(super) fn failed_call(&self) -> Option<String> {
        self.log.failed_call()
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Fails only if it has ended, with the server.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The id of a server's thread, by its name.
fn thread_id(server: &Server, name: &str) -> String {
    // A thread names itself, some time after its beginning.
    let deadline = Instant::now() + HANGS_AFTER;
    while Instant::now() < deadline {
        let threads = std::fs::read_dir(format!("/proc/{}/task", server.process_id())).unwrap();
        for thread in threads.map(Result::unwrap) {
            let found = std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
            if found.trim() == name {
                return thread.file_name().into_string().unwrap();
            }
        }
    }
    panic!("the server has no thread {name}")
}
