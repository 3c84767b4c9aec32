//! `kvtool wal`: the records of log segments.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::Cell;
use kvtimedb_engine::Timestamp;
use kvtimedb_engine::fs::RealFs;
use kvtimedb_engine::inspect::{FileKind, WalContent, WalEnd, WalOperation, WalRecord, WalView};
use serde::Serialize;

use super::output::{Row, number, number_or_none, text};
use super::text::{Bytes, Value};
use super::{Session, kind_name, say, type_name};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// A log segment, or a directory: then every .wal in it
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,

    /// Also every operation
    #[arg(long)]
    operations: bool,
}

pub(super) fn run(session: &mut Session, options: &Options) -> io::Result<()> {
    let segments = session.files(&options.path, |kind| match kind {
        FileKind::Wal(id) => Some(id),
        _ => None,
    })?;
    if segments.is_empty() {
        say(&format!("there is no .wal in {}", options.path.display()));
    }
    for path in segments {
        session.out.heading(path.display().to_string())?;
        match WalView::open(&RealFs, &path, options.operations) {
            Ok(segment) => show(session, &path, segment)?,
            Err(error) => session.complain(&error)?,
        }
    }
    Ok(())
}

fn show(session: &mut Session, path: &Path, mut segment: WalView) -> io::Result<()> {
    let file = path.display().to_string();
    for record in segment.by_ref() {
        match record {
            Ok(record) => {
                session.out.row(&RecordRow::of(&file, &record))?;
                for operation in record.operations {
                    session.out.row(&OperationRow::of(&file, operation))?;
                }
            }
            Err(error) => return session.complain(&error),
        }
    }
    let Some((end, offset)) = segment.end() else { return Ok(()) };
    let end = match end {
        WalEnd::Sealed => "sealed",
        WalEnd::Open => "open",
        WalEnd::Torn => "torn",
        WalEnd::Unfinished => "unfinished",
    };
    let database = segment.database().map(|database| format!("{:016x}", database.0));
    session.out.row(&EndRow { file: &file, end, offset, database })
}

#[derive(Serialize)]
struct RecordRow<'f> {
    file: &'f str,
    offset: u64,
    bytes: u64,
    #[serde(rename = "type")]
    record_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

impl<'f> RecordRow<'f> {
    fn of(file: &'f str, record: &WalRecord) -> Self {
        let (offset, bytes) = (record.offset, record.bytes);
        match record.content {
            WalContent::Batch { first_seq, count } => RecordRow {
                file,
                offset,
                bytes,
                record_type: "batch",
                first_seq: Some(first_seq),
                count: Some(count),
                last_seq: Some(first_seq + u64::from(count) - 1),
                next: None,
            },
            WalContent::Seal { last_seq, next } => RecordRow {
                file,
                offset,
                bytes,
                record_type: "seal",
                first_seq: None,
                count: None,
                last_seq: Some(last_seq),
                next: next.map(|next| next.0),
            },
        }
    }
}

impl Row for RecordRow<'_> {
    const KIND: &'static str = "log";
    const COLUMNS: &'static [&'static str] =
        &["offset", "bytes", "type", "first seq", "count", "last seq", "next segment"];

    fn cells(&self) -> Vec<Cell> {
        vec![
            number(self.offset),
            number(self.bytes),
            text(self.record_type),
            number_or_none(self.first_seq),
            number_or_none(self.count),
            number_or_none(self.last_seq),
            number_or_none(self.next),
        ]
    }
}

#[derive(Serialize)]
struct OperationRow<'f> {
    file: &'f str,
    seq: u64,
    kind: &'static str,
    key: Bytes<'static>,
    ts: Timestamp,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    value_type: Option<&'static str>,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
}

impl<'f> OperationRow<'f> {
    fn of(file: &'f str, operation: WalOperation) -> Self {
        let (kind, value_type) = (operation.kind, operation.value_type);
        OperationRow {
            file,
            seq: operation.seq,
            kind: kind_name(kind),
            key: operation.key.into(),
            ts: operation.ts,
            value_type: type_name(kind, value_type),
            bytes: operation.value.len(),
            value: Value::of(kind, value_type, operation.value),
        }
    }
}

impl Row for OperationRow<'_> {
    const KIND: &'static str = "operation";
    const COLUMNS: &'static [&'static str] =
        &["seq", "kind", "key", "ts", "type", "bytes", "value"];

    fn cells(&self) -> Vec<Cell> {
        vec![
            number(self.seq),
            text(self.kind),
            text(&self.key),
            number(self.ts),
            text(self.value_type.unwrap_or("-")),
            number(self.bytes),
            text(self.value.as_ref().map_or_else(String::new, Value::to_string)),
        ]
    }
}

#[derive(Serialize)]
struct EndRow<'f> {
    file: &'f str,
    end: &'static str,
    offset: u64,
    database: Option<String>,
}

impl Row for EndRow<'_> {
    const KIND: &'static str = "end";
    const COLUMNS: &'static [&'static str] = &["end", "offset", "database"];

    fn cells(&self) -> Vec<Cell> {
        vec![text(self.end), number(self.offset), text(self.database.as_deref().unwrap_or("-"))]
    }
}
