//! `kvtool`: looks into the files of a database.

use std::io;
use std::process::ExitCode;

use clap::Parser as _;
use kvtimedb_tools::kvtool::{self, Options};
use rustix::process::Signal;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let options = Options::parse();
    if let Err(error) = survive_file_size_limit() {
        eprintln!("kvtool: can't handle signals: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::from(kvtool::run(&options))
}

/// From now on a write past the limit on the size of files (`ulimit -f`) fails as on a full disk, and does
/// not end the process, which then takes back what it had begun.
fn survive_file_size_limit() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let _in_runtime = runtime.enter();
    // A signal that was listened for once never has its default effect again.
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
}
