//! The servers under test: started on a port of their own, killed when they are dropped.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use kvtimedb_tools::loadtest::Target;

use crate::Result;

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_mins(1);

/// How often it is asked whether it has.
const GRAIN: Duration = Duration::from_millis(2);

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Ours.
    pub kvtimedb: PathBuf,
    /// `redis-server`, if it is to be measured.
    pub redis: Option<PathBuf>,
    /// The interpreter that has the original's packages, if that is to be measured.
    pub python: Option<PathBuf>,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    port: u16,
    scheme: &'static str,
}

impl Programs {
    /// Ours; `durability` as its command line has it.
    pub fn kvtimedb(&self, dir: &Path, durability: &str) -> Result<Server> {
        Server::start("http", dir, |port| {
            let mut command = Command::new(&self.kvtimedb);
            command.arg("--data-dir").arg(dir).args(["--durability", durability]);
            command.arg("--listen").arg(format!("127.0.0.1:{port}"));
            command
        })
    }

    /// Redis with a log of its writes, synced as `fsync` says.
    pub fn redis(&self, dir: &Path, fsync: &str) -> Result<Option<Server>> {
        let Some(redis) = &self.redis else { return Ok(None) };
        fs::create_dir_all(dir)?;
        let start = |port: u16| {
            let mut command = Command::new(redis);
            command.arg("--port").arg(port.to_string()).args(["--bind", "127.0.0.1"]);
            command.arg("--dir").arg(dir).args(["--save", "", "--appendonly", "yes"]);
            command.args(["--appendfsync", fsync, "--auto-aof-rewrite-percentage", "0"]);
            command
        };
        Server::start("redis", dir, start).map(Some)
    }

    /// The original service.
    pub fn original(&self, dir: &Path) -> Result<Option<Server>> {
        let Some(python) = &self.python else { return Ok(None) };
        fs::create_dir_all(dir)?;
        let start = |port: u16| {
            let mut command = Command::new(python);
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("original/server.py");
            command.arg(script).arg(port.to_string()).arg(dir);
            command
        };
        Server::start("http", dir, start).map(Some)
    }

    /// The server that does nothing: this program with other arguments.
    pub fn noop(dir: &Path) -> Result<Server> {
        let program = std::env::current_exe()?;
        Server::start("http", dir, |port| {
            let mut command = Command::new(program);
            command.arg("--noop").arg(port.to_string());
            command
        })
    }
}

impl Server {
    /// Starts what `command` says on a free port. What it prints goes into a file beside `dir`.
    fn start(
        scheme: &'static str,
        dir: &Path,
        command: impl FnOnce(u16) -> Command,
    ) -> Result<Server> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let log_path = dir.with_extension("log");
        let log = File::create(&log_path)?;
        let mut command = command(port);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let name = command.get_program().to_owned();
        let child = command.spawn().map_err(|error| format!("{}: {error}", name.display()))?;
        let mut server = Server { child, port, scheme };
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if began.elapsed() > PATIENCE || server.child.try_wait()?.is_some() {
                let said = fs::read_to_string(&log_path).unwrap_or_default();
                return Err(format!("{} did not start; it said: {said}", name.display()).into());
            }
            sleep(GRAIN);
        }
        Ok(server)
    }

    /// Its port on this machine.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// For the load tester.
    pub fn target(&self) -> Result<Target> {
        Ok(format!("{}://127.0.0.1:{}", self.scheme, self.port).parse()?)
    }

    /// What its process has computed, in seconds, where the system tells.
    pub fn cpu_seconds(&self) -> Option<f64> {
        // Clocks of the kernel, which are 10 ms.
        const TICK: f64 = 0.01;
        crate::machine::cpu_ticks(OsStr::new(&self.child.id().to_string()))
            .map(|ticks| ticks as f64 * TICK)
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status()?;
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > PATIENCE {
                return Err(format!("process {pid} does not end").into());
            }
            sleep(GRAIN);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, or nothing can be done about it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
