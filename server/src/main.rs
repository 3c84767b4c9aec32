//! The `kvtimedb` server.

use std::process::ExitCode;

use clap::Parser;
use kvtimedb_server::Config;

fn main() -> ExitCode {
    match kvtimedb_server::run(&Config::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvtimedb: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
