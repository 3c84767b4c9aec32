//! `kvtool verify`: whether files are sound.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::Cell;
use kvtimedb_engine::Error;
use kvtimedb_engine::fs::RealFs;
use kvtimedb_engine::inspect::{Checked, Damage, Depth, verify_directory, verify_file};
use serde::Serialize;

use super::Session;
use super::output::{Row, number, text};
use super::text::Bytes;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// A file of a database, or a data directory that is not open
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,

    /// Decode every record too, and hold it against index, filter and properties
    #[arg(long)]
    deep: bool,
}

pub(super) fn run(session: &mut Session, options: &Options) -> io::Result<()> {
    let depth = if options.deep { Depth::Records } else { Depth::Checksums };
    if !options.path.is_dir() {
        let checked = verify_file(&RealFs, &options.path, depth);
        return match &checked.error {
            // What can't be read at all is not checked.
            Some(error @ (Error::Io { .. } | Error::InvalidArgument(_))) => session.complain(error),
            _ => show(session, checked),
        };
    }
    let (mut files, mut wrong) = (0_u64, 0_u64);
    let mut printed = Ok(());
    let verified = verify_directory(&RealFs, &options.path, depth, &mut |checked| {
        files += 1;
        wrong += u64::from(checked.error.is_some());
        if printed.is_ok() {
            printed = show(session, checked);
        }
    });
    printed?;
    match verified {
        Ok(()) => session.out.line(&format!("{files} files, {wrong} of them not sound")),
        Err(error) => session.complain(&error),
    }
}

fn show(session: &mut Session, checked: Checked) -> io::Result<()> {
    session.out.row(&FileRow::of(&checked))?;
    for damage in &checked.damage {
        session.out.row(&DamageRow::of(&checked.path, damage))?;
    }
    if !checked.damage.is_empty() {
        let mut damage = checked.damage.iter();
        return damage.try_for_each(|damage| session.complain_with(&damage.error, damage));
    }
    checked.error.map_or(Ok(()), |error| session.complain(&error))
}

#[derive(Serialize)]
struct FileRow {
    file: String,
    status: &'static str,
    bytes: u64,
    blocks: u64,
    records: u64,
    note: Option<String>,
    error: Option<String>,
}

impl FileRow {
    fn of(checked: &Checked) -> Self {
        let status = match (&checked.error, &checked.note) {
            (None, None) => "ok",
            (None, Some(_)) => "note",
            (Some(Error::Corruption { .. }), _) => "damaged",
            (Some(Error::UnsupportedFormat { .. }), _) => "unsupported",
            (Some(_), _) => "unreadable",
        };
        FileRow {
            file: checked.path.display().to_string(),
            status,
            bytes: checked.counts.bytes,
            blocks: checked.counts.blocks,
            records: checked.counts.records,
            note: checked.note.clone(),
            error: checked.error.as_ref().map(Error::to_string),
        }
    }
}

/// A damaged part of an SSTable.
#[derive(Serialize)]
struct DamageRow<'d> {
    file: String,
    offset: u64,
    first_key: Bytes<'d>,
    last_key: Bytes<'d>,
    error: String,
}

impl<'d> DamageRow<'d> {
    fn of(path: &Path, damage: &'d Damage) -> Self {
        DamageRow {
            file: path.display().to_string(),
            offset: damage.offset,
            first_key: damage.first_key[..].into(),
            last_key: damage.last_key[..].into(),
            error: damage.error.to_string(),
        }
    }
}

impl Row for DamageRow<'_> {
    const KIND: &'static str = "damage";
    const COLUMNS: &'static [&'static str] =
        &["damaged", "offset", "first key", "last key", "error"];

    fn cells(&self) -> Vec<Cell> {
        vec![
            text(&self.file),
            number(self.offset),
            text(&self.first_key),
            text(&self.last_key),
            text(&self.error),
        ]
    }
}

impl Row for FileRow {
    const KIND: &'static str = "file";
    const COLUMNS: &'static [&'static str] =
        &["file", "status", "bytes", "blocks", "records", "note"];

    fn cells(&self) -> Vec<Cell> {
        vec![
            text(&self.file),
            text(self.status),
            number(self.bytes),
            number(self.blocks),
            number(self.records),
            text(self.note.as_deref().unwrap_or_default()),
        ]
    }
}
