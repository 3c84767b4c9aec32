//! `kvtool backup` and `kvtool restore`: copies of a database, and back.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use comfy_table::Cell;
use kvtimedb_engine::Result;
use kvtimedb_engine::backup::{self, Copied, CopiedTable, Outcome};
use kvtimedb_engine::fs::{Fs, RealFs};
use serde::Serialize;

use super::Session;
use super::output::{Row, number, text};

#[derive(Debug, Args)]
pub(super) struct BackupOptions {
    /// A data directory, which may be open
    #[arg(value_name = "DATA-DIR")]
    data: PathBuf,

    /// Where an earlier backup of it is, or a directory that is empty or yet to be made
    #[arg(value_name = "BACKUP-DIR")]
    backup: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct RestoreOptions {
    /// A backup
    #[arg(value_name = "BACKUP-DIR")]
    backup: PathBuf,

    /// A directory that is empty or yet to be made
    #[arg(value_name = "DATA-DIR")]
    data: PathBuf,
}

pub(super) fn backup(session: &mut Session, options: &BackupOptions) -> io::Result<()> {
    run(session, "backup", backup::backup, &options.data, &options.backup)
}

pub(super) fn restore(session: &mut Session, options: &RestoreOptions) -> io::Result<()> {
    run(session, "restore", backup::restore, &options.backup, &options.data)
}

type Copy = fn(&Arc<dyn Fs>, &Path, &Path, &mut dyn FnMut(CopiedTable)) -> Result<Copied>;

fn run(
    session: &mut Session,
    command: &'static str,
    copy: Copy,
    from: &Path,
    to: &Path,
) -> io::Result<()> {
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let mut printed = Ok(());
    let copied = copy(&fs, from, to, &mut |table| {
        if printed.is_ok() {
            printed = session.out.row(&TableRow::of(&table));
        }
    });
    printed?;
    match copied {
        Ok(copied) => session.out.row(&CopyRow::of(command, to, &copied)),
        Err(error) => session.complain(&error),
    }
}

#[derive(Serialize)]
struct TableRow {
    file: String,
    bytes: u64,
    outcome: &'static str,
}

impl TableRow {
    fn of(table: &CopiedTable) -> Self {
        let outcome = match table.outcome {
            Outcome::Copied => "copied",
            Outcome::Replaced => "replaced",
            Outcome::AlreadyThere => "already there",
        };
        TableRow { file: table.path.display().to_string(), bytes: table.bytes, outcome }
    }
}

impl Row for TableRow {
    const KIND: &'static str = "copied";
    const COLUMNS: &'static [&'static str] = &["file", "bytes", "outcome"];

    fn cells(&self) -> Vec<Cell> {
        vec![text(&self.file), number(self.bytes), text(self.outcome)]
    }
}

/// What the command did.
#[derive(Serialize)]
struct CopyRow {
    command: &'static str,
    dir: String,
    seq: u64,
    tables: u64,
    table_bytes: u64,
    tables_copied: u64,
    tables_replaced: u64,
    tables_of_log: u64,
    log_operations: u64,
    bytes_copied: u64,
    passes: u32,
}

impl CopyRow {
    fn of(command: &'static str, to: &Path, copied: &Copied) -> Self {
        CopyRow {
            command,
            dir: to.display().to_string(),
            seq: copied.seq,
            tables: copied.tables,
            table_bytes: copied.table_bytes,
            tables_copied: copied.tables_copied,
            tables_replaced: copied.tables_replaced,
            tables_of_log: copied.tables_of_log,
            log_operations: copied.log_operations,
            bytes_copied: copied.bytes_copied,
            passes: copied.passes,
        }
    }
}

impl Row for CopyRow {
    const KIND: &'static str = "copy";
    const COLUMNS: &'static [&'static str] = &[
        "directory",
        "sequence number",
        "tables",
        "their bytes",
        "tables copied",
        "of them in place of others",
        "tables made of the log",
        "operations in the log",
        "bytes copied",
        "passes",
    ];
    const CARD: bool = true;

    fn cells(&self) -> Vec<Cell> {
        vec![
            text(&self.dir),
            number(self.seq),
            number(self.tables),
            number(self.table_bytes),
            number(self.tables_copied),
            number(self.tables_replaced),
            number(self.tables_of_log),
            number(self.log_operations),
            number(self.bytes_copied),
            number(self.passes),
        ]
    }
}
