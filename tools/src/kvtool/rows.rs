//! The rows of a dump.

use comfy_table::Cell;
use kvtimedb_engine::Timestamp;
use kvtimedb_engine::inspect::TableProperties;
use serde::Serialize;

use super::output::{Row, number, number_or_none, text};
use super::text::{Bytes, Value};

#[derive(Serialize)]
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// What a table holds, as its own footer and as the manifest tell.
#[derive(Serialize)]
pub(super) struct Properties {
    pub(super) records: u64,
    pub(super) keys: u64,
    pub(super) ends: u64,
    pub(super) erases: u64,
    pub(super) raw_bytes: u64,
    pub(super) first_key: Bytes<'static>,
    pub(super) first_ts: Timestamp,
    pub(super) last_key: Bytes<'static>,
    pub(super) last_ts: Timestamp,
    pub(super) min_ts: Timestamp,
    pub(super) max_ts: Timestamp,
    pub(super) horizon: Option<Timestamp>,
    pub(super) stale_min: Option<Timestamp>,
    pub(super) stale_worth: Option<Timestamp>,
    pub(super) min_seq: u64,
    pub(super) max_seq: u64,
}

impl Properties {
    pub(super) fn of(properties: &TableProperties) -> Self {
        Properties {
            records: properties.records,
            keys: properties.keys,
            ends: properties.ends,
            erases: properties.erases,
            raw_bytes: properties.raw_bytes,
            first_key: properties.first_key.clone().into(),
            first_ts: properties.first_ts,
            last_key: properties.last_key.clone().into(),
            last_ts: properties.last_ts,
            min_ts: properties.min_ts,
            max_ts: properties.max_ts,
            horizon: horizon_of(properties.horizon),
            stale_min: stale_of(properties.stale_min),
            stale_worth: stale_of(properties.stale_worth),
            min_seq: properties.min_seq,
            max_seq: properties.max_seq,
        }
    }

    pub(super) fn cells(&self) -> [Cell; 15] {
        [
            number(self.records),
            number(self.keys),
            number(self.ends),
            number(self.erases),
            number(self.raw_bytes),
            text(&self.first_key),
            number(self.first_ts),
            text(&self.last_key),
            number(self.last_ts),
            number(self.min_ts),
            number(self.max_ts),
            number_or_none(self.horizon),
            number_or_none(self.stale_min),
            number(self.min_seq),
            number(self.max_seq),
        ]
    }
}

/// The least timestamp stands for none.
pub(super) fn horizon_of(horizon: Timestamp) -> Option<Timestamp> {
    (horizon > Timestamp::MIN).then_some(horizon)
}

/// The greatest timestamp stands for no horizon at all.
fn stale_of(horizon: Timestamp) -> Option<Timestamp> {
    (horizon < Timestamp::MAX).then_some(horizon)
}

#[derive(Serialize)]
pub(super) struct MetaRow {
    pub(super) file: String,
    pub(super) id: u64,
    pub(super) database: String,
    pub(super) format_version: u32,
    pub(super) file_bytes: u64,
    pub(super) checksum: String,
    pub(super) blocks: usize,
    pub(super) sections: Vec<Section>,
    #[serde(flatten)]
    pub(super) properties: Properties,
}

impl Row for MetaRow {
    const KIND: &'static str = "meta";
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "database",
        "format version",
        "file bytes",
        "checksum",
        "blocks",
        "sections",
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
    const CARD: bool = true;

    fn cells(&self) -> Vec<Cell> {
        let sections: Vec<_> = self
            .sections
            .iter()
            .map(|section| format!("{} {} +{}", section.name, section.offset, section.bytes))
            .collect();
        let mut cells = vec![
            number(self.id),
            text(&self.database),
            number(self.format_version),
            number(self.file_bytes),
            text(&self.checksum),
            number(self.blocks),
            text(sections.join(", ")),
        ];
        cells.extend(self.properties.cells());
        cells
    }
}

#[derive(Serialize)]
pub(super) struct BloomRow {
    pub(super) file: String,
    pub(super) bits: u64,
    pub(super) bits_per_key: f64,
    pub(super) hash_functions: u32,
    pub(super) fill: f64,
    pub(super) false_positive_rate: f64,
}

impl Row for BloomRow {
    const KIND: &'static str = "bloom";
    const COLUMNS: &'static [&'static str] =
        &["filter bits", "bits per key", "hash functions", "fill", "false positives"];

    fn cells(&self) -> Vec<Cell> {
        vec![
            number(self.bits),
            number(format!("{:.2}", self.bits_per_key)),
            number(self.hash_functions),
            number(format!("{:.2} %", 100.0 * self.fill)),
            number(format!("{:.2} %", 100.0 * self.false_positive_rate)),
        ]
    }
}

#[derive(Serialize)]
pub(super) struct IndexRow {
    pub(super) file: String,
    pub(super) block: usize,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) first_key: Bytes<'static>,
    pub(super) first_ts: Timestamp,
    pub(super) min_ts: Timestamp,
    pub(super) max_ts: Timestamp,
}

impl Row for IndexRow {
    const KIND: &'static str = "index";
    const COLUMNS: &'static [&'static str] =
        &["block", "offset", "bytes", "first key", "first ts", "min ts", "max ts"];

    fn cells(&self) -> Vec<Cell> {
        vec![
            number(self.block),
            number(self.offset),
            number(self.bytes),
            text(&self.first_key),
            number(self.first_ts),
            number(self.min_ts),
            number(self.max_ts),
        ]
    }
}

#[derive(Serialize)]
pub(super) struct ChunkRow {
    pub(super) file: String,
    pub(super) block: usize,
    pub(super) block_offset: u64,
    pub(super) block_bytes: u64,
    pub(super) chunk: usize,
    pub(super) first_key: Bytes<'static>,
    pub(super) first_ts: Timestamp,
    pub(super) keys: usize,
    pub(super) records: usize,
    pub(super) codec: &'static str,
    pub(super) value_bytes: usize,
    pub(super) stored_bytes: usize,
}

impl Row for ChunkRow {
    const KIND: &'static str = "chunk";
    const COLUMNS: &'static [&'static str] = &[
        "block",
        "offset",
        "bytes",
        "chunk",
        "first key",
        "first ts",
        "keys",
        "records",
        "codec",
        "values",
        "stored",
    ];

    fn cells(&self) -> Vec<Cell> {
        vec![
            number(self.block),
            number(self.block_offset),
            number(self.block_bytes),
            number(self.chunk),
            text(&self.first_key),
            number(self.first_ts),
            number(self.keys),
            number(self.records),
            text(self.codec),
            number(self.value_bytes),
            number(self.stored_bytes),
        ]
    }
}

#[derive(Serialize)]
pub(super) struct KeyRow {
    pub(super) file: String,
    pub(super) key: Bytes<'static>,
    pub(super) records: u64,
    pub(super) first_ts: Timestamp,
    pub(super) last_ts: Timestamp,
}

impl Row for KeyRow {
    const KIND: &'static str = "key";
    const COLUMNS: &'static [&'static str] = &["key", "records", "first ts", "last ts"];

    fn cells(&self) -> Vec<Cell> {
        vec![text(&self.key), number(self.records), number(self.first_ts), number(self.last_ts)]
    }
}

#[derive(Serialize)]
pub(super) struct RecordRow {
    pub(super) file: String,
    pub(super) key: Bytes<'static>,
    pub(super) ts: Timestamp,
    pub(super) kind: &'static str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(super) value_type: Option<&'static str>,
    pub(super) bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<Value>,
}

impl Row for RecordRow {
    const KIND: &'static str = "record";
    const COLUMNS: &'static [&'static str] = &["key", "ts", "kind", "type", "bytes", "value"];

    fn cells(&self) -> Vec<Cell> {
        vec![
            text(&self.key),
            number(self.ts),
            text(self.kind),
            text(self.value_type.unwrap_or("-")),
            number(self.bytes),
            text(self.value.as_ref().map_or_else(String::new, Value::to_string)),
        ]
    }
}
