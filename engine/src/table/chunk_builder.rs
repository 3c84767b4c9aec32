//! Rows into chunks: by the codec that makes them smallest.

use std::io;
use std::ops::Range;

use super::chunk::{CHUNK_ROWS_MAX, CHUNK_VALUE_BYTES, ChunkBytes};
use super::stored::StoredChunk;
use crate::codec::ints::{Model, PAD_BYTES};
use crate::codec::template::{Payload, TemplateEncoder};
use crate::codec::values::ValueEncoder;
use crate::codec::{Codec, ints};
use crate::coding::{put_bytes, put_varint};
use crate::error::Malformed;
use crate::iter::Record;
use crate::key::{Timestamp, shared_len};

/// From so many versions on, a key has its chunks for itself, whose timestamp columns are then
/// cheaper; below, keys share a chunk, whose own cost is then shared too.
const OWN_CHUNK_ROWS: usize = 16;

/// Values that no template fits are cut into runs of about this size, in bytes: a read of one value
/// decompresses a whole run.
pub(crate) const RUN_VALUE_BYTES: usize = 4096;

/// A template that takes at most one in so many bytes is taken without trying to compress the values:
/// nothing that compresses runs of a few KiB comes near.
const TEMPLATE_CLEARLY_SMALLER: usize = 6;

/// What a run costs beside its values: its place in the directory and its columns' heads, in bytes,
/// and then about one byte a row.
const RUN_BYTES: usize = 48;

/// A finished chunk, but for its first key, of which its block shares a part with its other chunks.
pub(crate) struct FinishedChunk {
    pub(crate) first_key: Vec<u8>,
    pub(crate) first_ts: Timestamp,
    /// Where its bytes end among those of the block's chunks.
    pub(crate) end: usize,
}

/// The chunks of a block, as they are finished.
#[derive(Default)]
pub(crate) struct ChunkSink {
    pub(crate) chunks: Vec<FinishedChunk>,
    pub(crate) bytes: Vec<u8>,
}

/// Values that are stored one after the other.
struct Run {
    rows: Range<usize>,
    codec: Codec,
    /// Where they lie in `runs_stored`.
    stored: Range<usize>,
}

/// The rows of the chunk that is being filled.
pub(crate) struct ChunkBuilder {
    templates: TemplateEncoder,
    encoder: ValueEncoder,
    keys: Vec<Vec<u8>>,
    keys_bytes: usize,
    /// For each key, its first row.
    row_starts: Vec<usize>,
    ts: Vec<i64>,
    tags: Vec<i64>,
    value_ends: Vec<i64>,
    values: Vec<u8>,
    /// The template's payload, and the runs: what the rows are tried with when they are complete.
    payload: Payload,
    runs: Vec<Run>,
    runs_stored: Vec<u8>,
}

impl ChunkBuilder {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(ChunkBuilder {
            templates: TemplateEncoder::default(),
            encoder: ValueEncoder::new()?,
            keys: Vec::new(),
            keys_bytes: 0,
            row_starts: Vec::new(),
            ts: Vec::new(),
            tags: Vec::new(),
            value_ends: Vec::new(),
            values: Vec::new(),
            payload: Payload::default(),
            runs: Vec::new(),
            runs_stored: Vec::new(),
        })
    }

    /// Takes a record, which comes after all that it has taken.
    pub(crate) fn push(&mut self, record: &Record<'_>) {
        if self.keys.last().is_none_or(|key| key != record.key) {
            self.keys.push(record.key.to_vec());
            self.keys_bytes += record.key.len();
            self.row_starts.push(self.ts.len());
        }
        self.ts.push(record.ts);
        self.tags.push(i64::from(record.tag.to_byte()));
        self.values.extend_from_slice(record.value);
        self.value_ends.push(self.values.len() as i64);
    }

    /// Whether a record of `key` should begin a new chunk.
    pub(crate) fn should_end_before(&self, key: &[u8]) -> bool {
        self.is_full()
            || self.keys.last().is_some_and(|last| last != key)
                && self
                    .row_starts
                    .last()
                    .is_some_and(|start| self.ts.len() - start >= OWN_CHUNK_ROWS)
    }

    fn is_full(&self) -> bool {
        self.ts.len() == CHUNK_ROWS_MAX || self.keys_bytes + self.values.len() >= CHUNK_VALUE_BYTES
    }

    /// Writes the rows as one chunk, or as several where they are stored in runs. It is then empty
    /// again.
    pub(crate) fn finish(&mut self, sink: &mut ChunkSink) {
        if self.ts.is_empty() {
            return;
        }
        let (values, ends) = (&self.values, &self.value_ends);
        let grown = self.templates.encode(&mut self.payload, values, ends, values.len());
        let template_bytes = grown.map_or(usize::MAX, |grown| self.payload.len() + grown);
        let clearly_smaller =
            template_bytes.saturating_mul(TEMPLATE_CLEARLY_SMALLER) <= values.len();
        if !clearly_smaller {
            self.encode_runs();
        }
        if grown.is_some() && (clearly_smaller || template_bytes <= self.runs_bytes()) {
            let Payload { head, data } = &self.payload;
            self.write_chunk(sink, 0..self.ts.len(), Codec::Template, head, data);
        } else {
            self.templates.undo();
            for run in &self.runs {
                let (head, data) = self.run(run);
                self.write_chunk(sink, run.rows.clone(), run.codec, &head, &data);
            }
        }
        self.clear();
    }

    /// Writes a chunk of another table as it is stored there, but for what refers to that table. The
    /// chunk that was being filled is finished. `false`, with nothing written, where the dictionary has
    /// no room for it.
    pub(crate) fn copy(
        &mut self,
        chunk: &StoredChunk<'_>,
        sink: &mut ChunkSink,
    ) -> Result<bool, Malformed> {
        assert!(self.ts.is_empty(), "a chunk is copied behind a finished one");
        let ChunkBytes { codec, front, padded_head, dictionary, data } = chunk.bytes;
        let mut head = &padded_head[..padded_head.len() - PAD_BYTES];
        if codec == Codec::Template {
            let renumbered = &mut self.payload.head;
            renumbered.clear();
            if !self.templates.take_over(renumbered, padded_head, dictionary)? {
                return Ok(false);
            }
            head = renumbered;
        }
        let out = &mut sink.bytes;
        out.extend_from_slice(front);
        put_bytes(out, head);
        out.extend_from_slice(data);
        let (first_key, first_ts) = chunk.places.first();
        let end = out.len();
        sink.chunks.push(FinishedChunk { first_key: first_key.to_vec(), first_ts, end });
        Ok(true)
    }

    fn encode_runs(&mut self) {
        let (mut row, rows) = (0, self.ts.len());
        while row < rows {
            let first = row;
            let start = self.value_start(first);
            while row < rows && self.value_start(row) - start < RUN_VALUE_BYTES {
                row += 1;
            }
            let values = &self.values[start..self.value_start(row)];
            let (codec, stored) = self.encoder.encode(values);
            let stored_start = self.runs_stored.len();
            self.runs_stored.extend_from_slice(stored);
            let stored = stored_start..self.runs_stored.len();
            self.runs.push(Run { rows: first..row, codec, stored });
        }
    }

    fn runs_bytes(&self) -> usize {
        self.runs_stored.len() + self.runs.len() * RUN_BYTES + self.ts.len()
    }

    fn value_start(&self, row: usize) -> usize {
        row.checked_sub(1).map_or(0, |before| self.value_ends[before] as usize)
    }

    /// Head and data of values that are stored one after the other: a column of their ends, and they.
    fn run(&self, run: &Run) -> (Vec<u8>, Vec<u8>) {
        let start = self.value_start(run.rows.start) as i64;
        let ends: Vec<i64> =
            self.value_ends[run.rows.clone()].iter().map(|end| end - start).collect();
        let model = Model::fit(&ends);
        let (mut head, mut data) = (Vec::new(), Vec::new());
        model.write(&mut head);
        ints::encode_residuals(&mut data, &model, &ends);
        data.extend_from_slice(&self.runs_stored[run.stored.clone()]);
        (head, data)
    }

    fn write_chunk(
        &self,
        sink: &mut ChunkSink,
        rows: Range<usize>,
        codec: Codec,
        values_head: &[u8],
        values_data: &[u8],
    ) {
        let first_key = self.row_starts.partition_point(|&start| start <= rows.start) - 1;
        let end_key = self.row_starts.partition_point(|&start| start < rows.end);
        let keys = &self.keys[first_key..end_key];
        let values_len = self.value_start(rows.end) - self.value_start(rows.start);
        let row_starts = self.row_starts[first_key + 1..end_key].iter();
        let row_starts: Vec<i64> = row_starts.map(|row| (row - rows.start) as i64).collect();
        let more_keys = encode_more_keys(keys, &row_starts);
        let (ts, tags) = (&self.ts[rows.clone()], &self.tags[rows.clone()]);
        let (ts_model, tags_model) = (Model::fit(ts), Model::fit(tags));
        let out = &mut sink.bytes;
        out.push(codec as u8);
        put_varint(out, rows.len() as u64);
        put_varint(out, keys.len() as u64);
        put_varint(out, values_len as u64);
        if keys.len() > 1 {
            put_varint(out, more_keys.len() as u64);
        }
        ts_model.write(out);
        tags_model.write(out);
        put_bytes(out, values_head);
        out.extend_from_slice(&more_keys);
        ints::encode_residuals(out, &ts_model, ts);
        ints::encode_residuals(out, &tags_model, tags);
        out.extend_from_slice(values_data);
        let end = out.len();
        let (first_key, first_ts) = (keys[0].clone(), self.ts[rows.start]);
        sink.chunks.push(FinishedChunk { first_key, first_ts, end });
    }

    /// The bytes of the dictionary that the chunks need; `None` where they need none.
    pub(crate) fn dictionary(&self) -> Option<Vec<u8>> {
        self.templates.dictionary()
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.keys_bytes = 0;
        self.row_starts.clear();
        self.ts.clear();
        self.tags.clear();
        self.value_ends.clear();
        self.values.clear();
        self.runs.clear();
        self.runs_stored.clear();
    }
}

/// The keys of a chunk after its first one, and where their rows start; nothing where there are none.
fn encode_more_keys(keys: &[Vec<u8>], row_starts: &[i64]) -> Vec<u8> {
    let mut out = Vec::new();
    let [first, more @ .., last] = keys else { return out };
    // Keys are sorted, so what the first and the last share, all share.
    let shared = shared_len(first, last);
    put_varint(&mut out, shared as u64);
    let mut suffixes = Vec::new();
    let mut suffix_ends = Vec::with_capacity(row_starts.len());
    for key in more.iter().chain([last]) {
        suffixes.extend_from_slice(&key[shared..]);
        suffix_ends.push(suffixes.len() as i64);
    }
    ints::encode(&mut out, &suffix_ends);
    out.extend_from_slice(&suffixes);
    ints::encode(&mut out, row_starts);
    out
}
