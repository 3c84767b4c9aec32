//! Rows into chunks: by the codec that makes them smallest.

use std::io;
use std::ops::Range;

use super::chunk::{CHUNK_ROWS_MAX, CHUNK_VALUE_BYTES};
use crate::codec::values::ValueEncoder;
use crate::codec::{Codec, ints, template};
use crate::coding::put_varint;
use crate::iter::Record;
use crate::key::Timestamp;

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

/// The chunks of a block, as they are written.
#[derive(Default)]
pub(crate) struct ChunkSink {
    pub(crate) directory: Vec<u8>,
    pub(crate) first_keys: Vec<u8>,
    pub(crate) bodies: Vec<u8>,
    pub(crate) chunks: u16,
}

impl ChunkSink {
    /// Ends the chunk whose body was appended to `bodies`.
    fn end_chunk(&mut self, first_key: &[u8], first_ts: Timestamp, codec: Codec) {
        self.first_keys.extend_from_slice(first_key);
        self.directory.extend_from_slice(&first_ts.to_le_bytes());
        self.directory.extend_from_slice(&(self.first_keys.len() as u32).to_le_bytes());
        self.directory.extend_from_slice(&(self.bodies.len() as u32).to_le_bytes());
        self.directory.push(codec as u8);
        self.chunks += 1;
    }
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
    payload: Vec<u8>,
    runs: Vec<Run>,
    runs_stored: Vec<u8>,
}

impl ChunkBuilder {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(ChunkBuilder {
            encoder: ValueEncoder::new()?,
            keys: Vec::new(),
            keys_bytes: 0,
            row_starts: Vec::new(),
            ts: Vec::new(),
            tags: Vec::new(),
            value_ends: Vec::new(),
            values: Vec::new(),
            payload: Vec::new(),
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
        self.payload.clear();
        let (values, ends) = (&self.values, &self.value_ends);
        let fits = template::encode(&mut self.payload, values, ends, values.len());
        let clearly_smaller = self.payload.len() * TEMPLATE_CLEARLY_SMALLER <= values.len();
        if !(fits && clearly_smaller) {
            self.encode_runs();
        }
        if fits && (clearly_smaller || self.payload.len() <= self.runs_bytes()) {
            self.write_chunk(sink, 0..self.ts.len(), Codec::Template, &self.payload);
        } else {
            for run in &self.runs {
                let stored = &self.runs_stored[run.stored.clone()];
                self.write_chunk(sink, run.rows.clone(), run.codec, stored);
            }
        }
        self.clear();
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

    fn write_chunk(&self, sink: &mut ChunkSink, rows: Range<usize>, codec: Codec, stored: &[u8]) {
        let first_key = self.row_starts.partition_point(|&start| start <= rows.start) - 1;
        let end_key = self.row_starts.partition_point(|&start| start < rows.end);
        let keys = &self.keys[first_key..end_key];
        let values_start = self.value_start(rows.start);
        let out = &mut sink.bodies;
        put_varint(out, rows.len() as u64);
        put_varint(out, keys.len() as u64);
        put_varint(out, (self.value_start(rows.end) - values_start) as u64);
        if let [first, more @ ..] = keys
            && !more.is_empty()
        {
            let row_starts = self.row_starts[first_key + 1..end_key].iter();
            let row_starts: Vec<i64> = row_starts.map(|row| (row - rows.start) as i64).collect();
            encode_more_keys(out, first, more, &row_starts);
        }
        ints::encode(out, &self.ts[rows.clone()]);
        ints::encode(out, &self.tags[rows.clone()]);
        if codec != Codec::Template {
            let ends = self.value_ends[rows.clone()].iter();
            let ends: Vec<i64> = ends.map(|end| end - values_start as i64).collect();
            ints::encode(out, &ends);
        }
        out.extend_from_slice(stored);
        sink.end_chunk(&keys[0], self.ts[rows.start], codec);
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

fn encode_more_keys(out: &mut Vec<u8>, first: &[u8], more: &[Vec<u8>], row_starts: &[i64]) {
    // Keys are sorted, so what the first and the last share, all share.
    let last = &more[more.len() - 1];
    let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    put_varint(out, shared as u64);
    let mut end = 0;
    let suffix_ends: Vec<i64> = more
        .iter()
        .map(|key| {
            end += (key.len() - shared) as i64;
            end
        })
        .collect();
    ints::encode(out, &suffix_ends);
    for key in more {
        out.extend_from_slice(&key[shared..]);
    }
    ints::encode(out, row_starts);
}
