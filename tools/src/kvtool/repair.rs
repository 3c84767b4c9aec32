//! `kvtool repair`: what can be read of a damaged database, into a new one.

use std::io;
use std::path::PathBuf;

use clap::Args;
use comfy_table::Cell;
use kvtimedb_engine::inspect::{Lost, Salvaged, salvage};
use kvtimedb_engine::{Durability, Options as EngineOptions};
use serde::Serialize;

use super::output::{Row, number, number_or_none, text};
use super::rows::horizon_of;
use super::text::Bytes;
use super::{CORRUPT, Session, say};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// A data directory that is not open; nothing in it is changed
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Where the new database is made: a directory that is empty or does not exist
    #[arg(value_name = "NEW-DIR", required_unless_present = "dry_run")]
    new_dir: Option<PathBuf>,

    /// Write nothing, and tell what would be lost
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(session: &mut Session, options: &Options) -> io::Result<()> {
    // What is written is synced when the new database is closed, and worth nothing before.
    let engine = EngineOptions { durability: Durability::Buffered, ..EngineOptions::default() };
    let to = options.new_dir.as_deref().filter(|_| !options.dry_run);
    let salvaged = match salvage(&engine, &options.dir, to) {
        Ok(salvaged) => salvaged,
        Err(error) => return session.complain(&error),
    };
    for lost in &salvaged.lost {
        session.out.row(&LostRow::of(lost))?;
    }
    session.out.row(&RepairRow::of(&salvaged, options.dry_run))?;
    session.out.flush()?;
    for note in &salvaged.notes {
        say(note);
    }
    for lost in &salvaged.lost {
        say(&lost.to_string());
        session.code = session.code.max(CORRUPT);
    }
    Ok(())
}

#[derive(Serialize)]
struct LostRow<'l> {
    file: String,
    offset: u64,
    bytes: u64,
    blocks: u64,
    first_key: Option<Bytes<'l>>,
    last_key: Option<Bytes<'l>>,
    min_ts: Option<i64>,
    max_ts: Option<i64>,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    replaced_may_return: bool,
    ended_may_return: bool,
    erased_may_return: bool,
    error: String,
}

impl<'l> LostRow<'l> {
    fn of(lost: &'l Lost) -> Self {
        let keys = lost.keys.as_ref();
        let (first_key, last_key) = keys.map(|(a, b)| (a[..].into(), b[..].into())).unzip();
        let (min_ts, max_ts) = lost.times.unzip();
        let (first_seq, last_seq) = lost.seqs.unzip();
        LostRow {
            file: lost.file.display().to_string(),
            offset: lost.offset,
            bytes: lost.bytes,
            blocks: lost.blocks,
            first_key,
            last_key,
            min_ts,
            max_ts,
            first_seq,
            last_seq,
            replaced_may_return: lost.returns.replaced,
            ended_may_return: lost.returns.ended,
            erased_may_return: lost.returns.erased,
            error: lost.error.to_string(),
        }
    }
}

impl Row for LostRow<'_> {
    const KIND: &'static str = "lost";
    const COLUMNS: &'static [&'static str] =
        &["lost from", "offset", "bytes", "blocks", "first key", "last key", "min ts", "max ts"];

    fn cells(&self) -> Vec<Cell> {
        let key =
            |key: &Option<Bytes<'_>>| text(key.as_ref().map_or("any".into(), Bytes::to_string));
        vec![
            text(&self.file),
            number(self.offset),
            number(self.bytes),
            number(self.blocks),
            key(&self.first_key),
            key(&self.last_key),
            number_or_none(self.min_ts),
            number_or_none(self.max_ts),
        ]
    }
}

#[derive(Serialize)]
struct RepairRow<'s> {
    dry_run: bool,
    tables: u64,
    records: u64,
    operations: u64,
    horizon: Option<i64>,
    lost: usize,
    notes: &'s [String],
}

impl<'s> RepairRow<'s> {
    fn of(salvaged: &'s Salvaged, dry_run: bool) -> Self {
        let Salvaged { tables, records, operations, .. } = *salvaged;
        let (lost, notes) = (salvaged.lost.len(), &salvaged.notes[..]);
        let horizon = horizon_of(salvaged.horizon);
        RepairRow { dry_run, tables, records, operations, horizon, lost, notes }
    }
}

impl Row for RepairRow<'_> {
    const KIND: &'static str = "repair";
    const COLUMNS: &'static [&'static str] =
        &["tables", "records", "log operations", "horizon", "lost ranges"];

    fn cells(&self) -> Vec<Cell> {
        vec![
            number(self.tables),
            number(self.records),
            number(self.operations),
            number_or_none(self.horizon),
            number(self.lost as u64),
        ]
    }
}
