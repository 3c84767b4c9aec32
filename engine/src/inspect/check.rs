//! What makes an SSTable sound beyond its checksums: these say that the bytes are the ones that were
//! written, not that they were right.

use super::table::sections;
use crate::error::{Error, Malformed, Result};
use crate::iter::Record;
use crate::key::{KeyHash, Timestamp};
use crate::table::{DecodedChunk, TableProperties, TableReader};

/// Checks all that is to be known of an open table; for fuzzers.
#[cfg(any(test, fuzzing))]
pub(crate) fn check_table(reader: &TableReader) -> Result<()> {
    check_sections(reader)?;
    let mut first = Ok(());
    check_records(reader, &mut |_, error| {
        if first.is_ok() {
            first = Err(error);
        }
    })?;
    first
}

/// Checks that the parts of the file follow one another: no byte of it is outside a checksum.
pub(super) fn check_sections(reader: &TableReader) -> Result<()> {
    let mut end = 0;
    for section in sections(reader) {
        if section.offset != end {
            let what =
                format!("expected the {} section, found it at {}", section.name, section.offset);
            return Err(reader.corruption(end, what));
        }
        end += section.bytes;
    }
    Ok(())
}

/// Decodes every record and holds it against all that the table says of it: order, index, fences,
/// counts, ranges, and the filter. Each block that is not as told goes to `found` with its number; what is
/// wrong with the table as a whole, is returned.
pub(super) fn check_records(
    reader: &TableReader,
    found: &mut dyn FnMut(usize, Error),
) -> Result<()> {
    let mut check = RecordCheck { reader, totals: None, decoded: DecodedChunk::default() };
    let mut all_sound = true;
    for block in 0..reader.index().len() {
        if let Err(error) = check.block(block) {
            all_sound = false;
            found(block, error);
        }
    }
    // Without the records of a block, counts and ranges are others.
    if all_sound { check.finish() } else { Ok(()) }
}

struct RecordCheck<'t> {
    reader: &'t TableReader,
    /// Of the records so far.
    totals: Option<TableProperties>,
    decoded: DecodedChunk,
}

impl RecordCheck<'_> {
    fn block(&mut self, block_no: usize) -> Result<()> {
        let reader = self.reader;
        let row = reader.index().row(block_no);
        let offset = row.handle.offset;
        let malformed = |m: Malformed| reader.corruption(offset, m.to_string());
        let corrupt = |what: String| reader.corruption(offset, what);
        let block = reader.block(block_no)?;
        let mut fences: Option<(Timestamp, Timestamp)> = None;
        for chunk_no in 0..block.chunks() {
            let chunk = block.chunk(chunk_no).map_err(malformed)?;
            let mut decoded = std::mem::take(&mut self.decoded);
            decoded.decode(&chunk).map_err(corrupt)?;
            for (at, record) in decoded.records().enumerate() {
                if at == 0 {
                    // Where a read looks for it: it must come to this chunk of this block.
                    let found = block.find(record.key, record.ts).map_err(malformed)?;
                    let is_told = block.has_first(chunk_no, record.key, record.ts);
                    if found != Some(chunk_no) || !is_told {
                        let what = "expected an index of the chunks' first records";
                        return Err(corrupt(format!("{what}; chunk {chunk_no} has another one")));
                    }
                }
                if fences.is_none() {
                    self.check_first(block_no, &record)?;
                }
                let (min, max) = fences.unwrap_or((record.ts, record.ts));
                fences = Some((min.min(record.ts), max.max(record.ts)));
                self.record(offset, &record)?;
            }
            self.decoded = decoded;
        }
        if fences != Some((row.min_ts, row.max_ts)) {
            let (min, max) = (row.min_ts, row.max_ts);
            let what = format!("expected timestamps from {min} to {max}, as the index says");
            return Err(corrupt(format!("{what}; found {fences:?}")));
        }
        Ok(())
    }

    /// The first record of a block stands in the index.
    fn check_first(&self, block_no: usize, record: &Record<'_>) -> Result<()> {
        let index = self.reader.index();
        let row = index.row(block_no);
        if (index.first_key(block_no), index.first_ts(block_no)) == (record.key, record.ts) {
            return Ok(());
        }
        let what = format!(
            "expected the first record that the index says, {} at {}; found {}",
            index.first_key(block_no).escape_ascii(),
            index.first_ts(block_no),
            place(record)
        );
        Err(self.reader.corruption(row.handle.offset, what))
    }

    fn record(&mut self, offset: u64, record: &Record<'_>) -> Result<()> {
        let corrupt = |what: String| Err(self.reader.corruption(offset, what));
        let new_key = match &mut self.totals {
            None => {
                self.totals = Some(TableProperties::of(record));
                true
            }
            Some(totals) if !totals.precede(record.key, record.ts) => {
                let last = totals.last_key.escape_ascii();
                return corrupt(format!(
                    "expected records in rising order; found {} after {last} at {}",
                    place(record),
                    totals.last_ts
                ));
            }
            Some(totals) => totals.add(record),
        };
        let hash = KeyHash::of(record.key);
        let is_late = record.ts < self.reader.properties().bulk_min_ts;
        let passes = |at| self.reader.may_contain(hash, at);
        if new_key && !passes(Timestamp::MAX) || is_late && !passes(record.ts) {
            return corrupt(format!("expected the filters to pass {}", place(record)));
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        let expected = self.reader.properties();
        let Some(mut found) = self.totals else {
            return Err(self.reader.corruption(0, "expected at least one record"));
        };
        // A table holds no sequence numbers, only their range; where its bulk begins, and how much
        // garbage is worth a merge, is a choice; and no record tells of a horizon.
        (found.min_seq, found.max_seq) = (expected.min_seq, expected.max_seq);
        found.bulk_min_ts = expected.bulk_min_ts;
        found.horizon = expected.horizon;
        (found.stale_min, found.stale_worth) = (expected.stale_min, expected.stale_worth);
        let Some(difference) = difference(expected, &found) else { return Ok(()) };
        let offset = self.reader.footer().properties.offset;
        Err(self.reader.corruption(offset, difference))
    }
}

/// Where what a table says of its records is not what they are.
fn difference(expected: &TableProperties, found: &TableProperties) -> Option<String> {
    let numbers = |p: &TableProperties| {
        [
            ("records", i128::from(p.records)),
            ("keys", p.keys.into()),
            ("ends", p.ends.into()),
            ("erases", p.erases.into()),
            ("raw bytes", p.raw_bytes.into()),
            ("first timestamp", p.first_ts.into()),
            ("last timestamp", p.last_ts.into()),
            ("least timestamp", p.min_ts.into()),
            ("greatest timestamp", p.max_ts.into()),
        ]
    };
    for ((name, expected), (_, found)) in numbers(expected).into_iter().zip(numbers(found)) {
        if expected != found {
            return Some(format!("expected {expected} as the records' {name}, found {found}"));
        }
    }
    (expected != found).then(|| "expected the first and last key of the records".to_owned())
}

fn place(record: &Record<'_>) -> String {
    format!("{} at {}", record.key.escape_ascii(), record.ts)
}
