//! `kvtool`: looks into the files of a database that lie on a disk, and says whether they are sound.
//! It opens no database, and changes no file but those of the directory that it copies or saves one to.
//!
//! A subcommand prints rows of some kinds, and goes on with the next file after an error in one: the
//! worst of them is the exit code.

mod backup;
mod dump;
mod explain;
mod manifest;
mod output;
mod repair;
mod rows;
mod text;
mod verify;
mod wal;

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use kvtimedb_engine::fs::{Fs as _, RealFs};
use kvtimedb_engine::inspect::{FileId, FileKind};
use kvtimedb_engine::{Error, ValueKind, ValueType};

use output::{Format, Output};

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const CORRUPT: u8 = 4;
const LOCKED: u8 = 5;

const ABOUT: &str = "Look into the files of a KVTimeDB database, and copy them";

const AFTER_HELP: &str = "\
Keys and values:
  Tables show printable UTF-8 as it is, a backslash as \\\\ and every other byte as
  \\xNN, and cut what is long; --key and --prefix read the same escapes. JSON has
  a string where the bytes are UTF-8, and {\"$hex\":\"00ff\"} where not. A value that
  was stored as JSON stands in JSON as it is, if it can be parsed.

Rows (-o json, ndjson):
  One object a row, whose member `row` says what it is: meta, bloom, index, chunk,
  key, record (dump), log, operation, end (wal), edit, table, state (manifest),
  step, answer (explain), file, damage (verify), lost, repair (repair), copied,
  copy (backup, restore). ndjson has a row a line, json all of them in one array.
  Members are added, never renamed or removed.

Exit codes:
  0 fine, 1 operational error, 2 usage, 4 corruption (repair: something is lost),
  5 the database is open

Examples:
  kvtool dump ./data                          what every SSTable holds
  kvtool dump ./data/000012.sst --keys        its keys, and how many versions each has
  kvtool dump ./data --values --key sensor/7 --from 1000 --limit 20
  kvtool wal ./data/000013.wal --operations   what waits in the log
  kvtool manifest ./data                      the live tables, newest run first
  kvtool explain ./data sensor/7 1000         what a lookup reads, skips and answers
  kvtool verify --deep ./data && echo sound
  kvtool backup ./data /mnt/b                 bring a backup up to date; ./data may be open
  kvtool restore /mnt/b ./data                make a data directory of a backup

  kvtool repair --dry-run ./data              what could not be saved
  kvtool repair ./data ./repaired             save the rest into a new database";

/// The command line. Its own comments are the help.
#[derive(Debug, Parser)]
#[command(name = "kvtool", version, about = ABOUT, after_long_help = AFTER_HELP)]
pub struct Options {
    #[command(subcommand)]
    command: Command,

    /// How to print [default: table on a terminal, ndjson into a pipe]
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", display_order = 90)]
    output: Option<Format>,

    /// Print errors only
    #[arg(short, long, global = true, display_order = 91)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what SSTables hold
    Dump(dump::Options),
    /// Show the records of log segments
    Wal(wal::Options),
    /// Show the edits of a manifest, and the state that they lead to
    Manifest(manifest::Options),
    /// Tell which sources a lookup reads or skips, and why
    Explain(explain::Options),
    /// Check files, or a whole data directory, against all that they say of themselves
    Verify(verify::Options),
    /// Copy a database that may be open, or what a backup of it lacks
    Backup(backup::BackupOptions),
    /// Make a data directory of a backup
    Restore(backup::RestoreOptions),
    /// Write what can be read of a damaged database to a new one, and tell what is lost
    Repair(repair::Options),
}

/// Does what the command line says; returns the exit code.
pub fn run(options: &Options) -> u8 {
    let format = (!options.quiet).then(|| options.output.unwrap_or_else(Format::of_stdout));
    let mut session = Session { out: Output::new(format), code: 0 };
    let done = match &options.command {
        Command::Dump(options) => dump::run(&mut session, options),
        Command::Wal(options) => wal::run(&mut session, options),
        Command::Manifest(options) => manifest::run(&mut session, options),
        Command::Explain(options) => explain::run(&mut session, options),
        Command::Verify(options) => verify::run(&mut session, options),
        Command::Backup(options) => backup::backup(&mut session, options),
        Command::Restore(options) => backup::restore(&mut session, options),
        Command::Repair(options) => repair::run(&mut session, options),
    };
    match done.and_then(|()| session.out.finish()) {
        Ok(()) => session.code,
        // A reader that has seen enough is no error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => session.code,
        Err(error) => {
            say(&format!("cannot print: {error}"));
            session.code.max(FAILED)
        }
    }
}

/// Where rows go, and the worst that was met.
struct Session {
    out: Output,
    code: u8,
}

impl Session {
    /// Tells an error, after the rows that were printed before it.
    fn complain(&mut self, error: &Error) -> io::Result<()> {
        self.complain_with(error, error)
    }

    /// Tells an error in these words.
    fn complain_with(&mut self, error: &Error, words: &dyn Display) -> io::Result<()> {
        self.out.flush()?;
        say(&words.to_string());
        let code = match error {
            Error::Corruption { .. } => CORRUPT,
            Error::Locked { .. } => LOCKED,
            Error::InvalidArgument(_) => USAGE,
            _ => FAILED,
        };
        self.code = self.code.max(code);
        Ok(())
    }

    /// The files of `path` if it is a directory, those that `pick` picks, in order of their ids;
    /// otherwise `path` itself.
    fn files(
        &mut self,
        path: &Path,
        pick: fn(FileKind) -> Option<FileId>,
    ) -> io::Result<Vec<PathBuf>> {
        if !path.is_dir() {
            return Ok(vec![path.to_owned()]);
        }
        let names = match RealFs.list(path) {
            Ok(names) => names,
            Err(error) => {
                self.out.flush()?;
                say(&format!("list {}: {error}", path.display()));
                self.code = self.code.max(FAILED);
                return Ok(Vec::new());
            }
        };
        let id = |name: &String| FileKind::parse(name).and_then(pick);
        let mut files: Vec<_> =
            names.iter().filter_map(|name| Some((id(name)?, path.join(name)))).collect();
        files.sort();
        Ok(files.into_iter().map(|(_, path)| path).collect())
    }
}

/// A line on stderr. That nobody hears it is no reason to stop.
fn say(what: &str) {
    let _ = writeln!(io::stderr(), "kvtool: {what}");
}

fn kind_name(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Put => "put",
        ValueKind::End => "end",
        ValueKind::Erase => "erase",
    }
}

/// The type of a value; a tombstone has none.
fn type_name(kind: ValueKind, value_type: ValueType) -> Option<&'static str> {
    match (kind, value_type) {
        (ValueKind::Put, ValueType::Json) => Some("json"),
        (ValueKind::Put, ValueType::Octets) => Some("octets"),
        (ValueKind::Put, ValueType::Text) => Some("text"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Options::command().debug_assert();
        for bad in [
            &["kvtool"][..],
            &["kvtool", "dump"],
            &["kvtool", "dump", "f", "--key", "a", "--prefix", "b"],
            &["kvtool", "dump", "f", "--key", "\\x4"],
            &["kvtool", "dump", "f", "--from", "1.5"],
            &["kvtool", "dump", "f", "-o", "csv"],
            &["kvtool", "repair", "f"],
            &["kvtool", "explain", "d", "k"],
            &["kvtool", "backup", "d"],
            &["kvtool", "restore", "d"],
        ] {
            assert!(Options::try_parse_from(bad).is_err(), "{bad:?}");
        }
        for good in [
            &["kvtool", "dump", "f", "--from", "-5", "--to=-1", "--limit", "0"][..],
            &["kvtool", "-o", "json", "verify", "--deep", "d"],
            &["kvtool", "wal", "f", "-q"],
            &["kvtool", "explain", "d", "k", "-5"],
            &["kvtool", "repair", "--dry-run", "d"],
            &["kvtool", "repair", "d", "new"],
        ] {
            assert!(Options::try_parse_from(good).is_ok(), "{good:?}");
        }
    }
}
