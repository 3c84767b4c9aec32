//! `kvtool`: looks into the files of a database.

use std::process::ExitCode;

use clap::Parser as _;
use kvtimedb_tools::kvtool::{self, Options};

fn main() -> ExitCode {
    ExitCode::from(kvtool::run(&Options::parse()))
}
