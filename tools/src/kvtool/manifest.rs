//! `kvtool manifest`: the edits of a manifest, and the state that they lead to.

use std::io;
use std::path::PathBuf;

use clap::Args;
use comfy_table::Cell;
use kvtimedb_engine::fs::RealFs;
use kvtimedb_engine::inspect::{
    Manifest, ManifestState, TableMeta, VersionEdit, read_current_manifest, read_manifest,
};
use serde::Serialize;

use super::Session;
use super::output::{Row, number, number_or_none, text};
use super::rows::{Properties, horizon_of};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// A manifest, or a data directory: then the one that its CURRENT names
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
}

pub(super) fn run(session: &mut Session, options: &Options) -> io::Result<()> {
    let path = &options.path;
    let read = if path.is_dir() { read_current_manifest } else { read_manifest };
    let manifest = match read(&RealFs, path) {
        Ok(manifest) => manifest,
        Err(error) => return session.complain(&error),
    };
    let file = manifest.path.display().to_string();
    session.out.heading(&file)?;
    for (offset, edit) in &manifest.edits {
        session.out.row(&EditRow::of(&file, *offset, edit))?;
    }
    let state = match manifest.state() {
        Ok(state) => state,
        Err(error) => return session.complain(&error),
    };
    for table in state.tables_by_run() {
        session.out.row(&TableRow::of(&file, table))?;
    }
    session.out.row(&StateRow::of(&file, &manifest, &state))
}

#[derive(Serialize)]
struct EditRow<'f> {
    file: &'f str,
    offset: u64,
    next_file: u64,
    flushed_seq: u64,
    oldest_wal: u64,
    horizon: Option<i64>,
    removed: Vec<u64>,
    added: Vec<u64>,
}

impl<'f> EditRow<'f> {
    fn of(file: &'f str, offset: u64, edit: &VersionEdit) -> Self {
        EditRow {
            file,
            offset,
            next_file: edit.next_file.0,
            flushed_seq: edit.flushed_seq,
            oldest_wal: edit.oldest_wal.0,
            horizon: horizon_of(edit.horizon),
            removed: edit.removed.iter().map(|id| id.0).collect(),
            added: edit.added.iter().map(|table| table.id.0).collect(),
        }
    }
}

impl Row for EditRow<'_> {
    const KIND: &'static str = "edit";
    const COLUMNS: &'static [&'static str] =
        &["edit at", "flushed seq", "oldest wal", "horizon", "next file", "removed", "added"];

    fn cells(&self) -> Vec<Cell> {
        let list = |ids: &[u64]| {
            let ids: Vec<_> = ids.iter().map(u64::to_string).collect();
            text(ids.join(" "))
        };
        vec![
            number(self.offset),
            number(self.flushed_seq),
            number(self.oldest_wal),
            number_or_none(self.horizon),
            number(self.next_file),
            list(&self.removed),
            list(&self.added),
        ]
    }
}

#[derive(Serialize)]
struct TableRow<'f> {
    file: &'f str,
    run: u64,
    table: u64,
    file_bytes: u64,
    checksum: String,
    #[serde(flatten)]
    properties: Properties,
}

impl<'f> TableRow<'f> {
    fn of(file: &'f str, table: &TableMeta) -> Self {
        TableRow {
            file,
            run: table.rank.0,
            table: table.id.0,
            file_bytes: table.file_bytes,
            checksum: format!("{:016x}", table.checksum),
            properties: Properties::of(&table.properties),
        }
    }
}

impl Row for TableRow<'_> {
    const KIND: &'static str = "table";
    const COLUMNS: &'static [&'static str] = &[
        "run",
        "table",
        "bytes",
        "records",
        "keys",
        "ends",
        "erases",
        "raw bytes",
        "first key",
        "first ts",
        "last key",
        "last ts",
        "min ts",
        "max ts",
        "horizon",
        "stale from",
        "min seq",
        "max seq",
    ];

    fn cells(&self) -> Vec<Cell> {
        let mut cells = vec![number(self.run), number(self.table), number(self.file_bytes)];
        cells.extend(self.properties.cells());
        cells
    }
}

#[derive(Serialize)]
struct StateRow<'f> {
    file: &'f str,
    database: String,
    edits: usize,
    tables: usize,
    flushed_seq: u64,
    oldest_wal: Option<u64>,
    horizon: Option<i64>,
    next_file: u64,
    torn_at: Option<u64>,
}

impl<'f> StateRow<'f> {
    fn of(file: &'f str, manifest: &Manifest, state: &ManifestState) -> Self {
        StateRow {
            file,
            database: format!("{:016x}", manifest.database.0),
            edits: manifest.edits.len(),
            tables: state.tables.len(),
            flushed_seq: state.flushed_seq,
            oldest_wal: state.oldest_wal.map(|id| id.0),
            horizon: horizon_of(state.horizon),
            next_file: state.next_file,
            torn_at: manifest.torn_at,
        }
    }
}

impl Row for StateRow<'_> {
    const KIND: &'static str = "state";
    const COLUMNS: &'static [&'static str] = &[
        "database",
        "edits",
        "tables",
        "flushed seq",
        "oldest wal",
        "horizon",
        "next file",
        "torn at",
    ];
    const CARD: bool = true;

    fn cells(&self) -> Vec<Cell> {
        vec![
            text(&self.database),
            number(self.edits),
            number(self.tables),
            number(self.flushed_seq),
            number_or_none(self.oldest_wal),
            number_or_none(self.horizon),
            number(self.next_file),
            number_or_none(self.torn_at),
        ]
    }
}
