//! `kvtool explain`: what a floor of a closed database costs.

use std::io;
use std::path::PathBuf;

use clap::Args;
use comfy_table::Cell;
use kvtimedb_engine::fs::RealFs;
use kvtimedb_engine::inspect::explain;
use kvtimedb_engine::{Entry, ExplainedOutcome, ExplainedStep, Timestamp, ValueKind};
use serde::Serialize;

use super::output::{Row, number, number_or_none, text};
use super::text::{Bytes, Key, Value};
use super::{Session, kind_name, type_name};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// A data directory that is not open
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// The key, with the escapes that tables show
    #[arg(value_name = "KEY")]
    key: Key,

    /// The moment
    #[arg(value_name = "AT", allow_negative_numbers = true)]
    at: Timestamp,
}

pub(super) fn run(session: &mut Session, options: &Options) -> io::Result<()> {
    let explanation = match explain(&RealFs, &options.dir, &options.key.0, options.at) {
        Ok(explanation) => explanation,
        Err(error) => return session.complain(&error),
    };
    for step in &explanation.steps {
        session.out.row(&StepRow::of(step))?;
    }
    session.out.row(&AnswerRow::of(&options.key.0, options.at, explanation.answer))
}

#[derive(Serialize)]
struct StepRow {
    bound: Timestamp,
    source: String,
    outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    codec: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found_ts: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<&'static str>,
}

impl StepRow {
    fn of(step: &ExplainedStep) -> Self {
        let (place, found) = match step.outcome {
            ExplainedOutcome::Read { place, found } => (place, found),
            _ => (None, None),
        };
        let outcome = match step.outcome {
            ExplainedOutcome::Read { .. } => "read".to_owned(),
            skipped => skipped.to_string(),
        };
        StepRow {
            bound: step.bound,
            source: step.source.to_string(),
            outcome,
            block_offset: place.map(|place| place.block_offset),
            chunk: place.map(|place| place.chunk),
            codec: place.map(|place| place.codec),
            found_ts: found.map(|(ts, _)| ts),
            found: found.map(|(_, kind)| kind_name(kind)),
        }
    }
}

impl Row for StepRow {
    const KIND: &'static str = "step";
    const COLUMNS: &'static [&'static str] =
        &["bound", "source", "outcome", "block", "chunk", "codec", "found", "kind"];

    fn cells(&self) -> Vec<Cell> {
        vec![
            number(self.bound),
            text(&self.source),
            text(&self.outcome),
            number_or_none(self.block_offset),
            number_or_none(self.chunk),
            text(self.codec.unwrap_or("-")),
            number_or_none(self.found_ts),
            text(self.found.unwrap_or("-")),
        ]
    }
}

#[derive(Serialize)]
struct AnswerRow {
    key: Bytes<'static>,
    at: Timestamp,
    ts: Option<Timestamp>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    value_type: Option<&'static str>,
    value: Option<Value>,
}

impl AnswerRow {
    fn of(key: &[u8], at: Timestamp, answer: Option<Entry>) -> Self {
        let kind = ValueKind::Put;
        AnswerRow {
            key: key.to_vec().into(),
            at,
            ts: answer.as_ref().map(|entry| entry.ts),
            value_type: answer.as_ref().and_then(|entry| type_name(kind, entry.value_type)),
            value: answer.and_then(|entry| Value::of(kind, entry.value_type, entry.value)),
        }
    }
}

impl Row for AnswerRow {
    const KIND: &'static str = "answer";
    const COLUMNS: &'static [&'static str] = &["key", "at", "ts", "type", "value"];

    fn cells(&self) -> Vec<Cell> {
        vec![
            text(&self.key),
            number(self.at),
            number_or_none(self.ts),
            text(self.value_type.unwrap_or("-")),
            text(self.value.as_ref().map_or_else(|| "-".to_owned(), Value::to_string)),
        ]
    }
}
