//! How many rows travel at once: NDJSON, CSV and Arrow IPC streams, in and out, compressed or not.
//!
//! Readers take bytes of any origin and show one row after the other; what they hold at a time is bounded,
//! whatever is sent. A row that can't be read has a line and a cause, and the next one is read all the same,
//! where it can be told where it begins. Writers take rows and write bytes.

mod arrow;
mod clock;
mod csv;
mod encoding;
mod fields;
pub(crate) mod ndjson;

use std::io::Read;

use kvtimedb_engine::{EntryRef, Timestamp, ValueRef};

pub(crate) use self::clock::Clock;
pub(crate) use self::encoding::{Encoder, Encoding, decoder};
pub(crate) use self::fields::{Layout, TextAs};
use crate::error::{Error, Result};
use crate::limits::Charge;

/// The largest row as text, in bytes: a value and a key of the largest size, and what is written around them.
/// Each byte of a control character takes six.
pub(crate) const ROW_BYTES_MAX: usize = (64 << 20) + 6 * (64 << 10) + 4096;

/// How rows are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A line of JSON for each row.
    Ndjson,
    /// Comma-separated values, with a header.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
}

impl Format {
    /// The format of a media type, which may have parameters.
    pub(crate) fn of_media_type(media_type: &str) -> Option<Format> {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        if is("application/x-ndjson") || is("application/ndjson") || is("application/jsonl") {
            Some(Format::Ndjson)
        } else if is("text/csv") {
            Some(Format::Csv)
        } else if is("application/vnd.apache.arrow.stream") {
            Some(Format::Arrow)
        } else {
            None
        }
    }

    /// The media type of what is written.
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// A row as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) ts: Timestamp,
    /// `None`: the key ends. Of a lookup there is none either.
    pub(crate) value: Option<ValueRef<'a>>,
}

/// Takes rows, each with its line, from 1 on, or why it is none. Its error ends the reading.
pub(crate) type Sink<'s> = dyn FnMut(u64, Result<Row<'_>, String>) -> Result<()> + 's;

/// Reads rows from bytes.
pub(crate) enum RowReader<R> {
    Ndjson(ndjson::NdjsonReader<R>),
    Csv(Box<csv::CsvReader<R>>),
    Arrow(arrow::ArrowReader<R>),
}

impl<R: Read> RowReader<R> {
    /// A reader whose buffer grows with `charge`, if it has to hold a long row.
    pub(crate) fn new(format: Format, input: R, layout: Layout, charge: Charge) -> Self {
        match format {
            Format::Ndjson => RowReader::Ndjson(ndjson::NdjsonReader::new(input, layout, charge)),
            Format::Csv => RowReader::Csv(Box::new(csv::CsvReader::new(input, layout, charge))),
            Format::Arrow => RowReader::Arrow(arrow::ArrowReader::new(input, layout)),
        }
    }

    /// Reads some rows; `false`: that was the end. After an error no more can be read.
    pub(crate) fn read(&mut self, sink: &mut Sink<'_>) -> Result<bool> {
        match self {
            RowReader::Ndjson(reader) => reader.read(sink),
            RowReader::Csv(reader) => reader.read(sink),
            RowReader::Arrow(reader) => reader.read(sink),
        }
    }
}

/// Writes the rows of an export, each behind what was written before.
pub(crate) enum RowWriter {
    Ndjson,
    Csv,
    Arrow(Box<arrow::RowBatches>),
}

impl RowWriter {
    /// Writes what comes before all rows.
    pub(crate) fn begin(format: Format, out: &mut Vec<u8>) -> Result<Self> {
        Ok(match format {
            Format::Ndjson => RowWriter::Ndjson,
            Format::Csv => {
                csv::write_header(out);
                RowWriter::Csv
            }
            Format::Arrow => RowWriter::Arrow(Box::new(arrow::RowBatches::begin(out)?)),
        })
    }

    pub(crate) fn write(&mut self, out: &mut Vec<u8>, row: &Row<'_>) -> Result<()> {
        match self {
            RowWriter::Ndjson => ndjson::write_row(out, row),
            RowWriter::Csv => csv::write_row(out, row),
            RowWriter::Arrow(batches) => return batches.write(out, row),
        }
        Ok(())
    }

    /// Writes what comes after all rows.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        match self {
            RowWriter::Ndjson | RowWriter::Csv => Ok(()),
            RowWriter::Arrow(batches) => batches.finish(out),
        }
    }
}

/// Writes the answers to lookups, each behind what was written before.
pub(crate) enum AnswerWriter {
    Ndjson,
    Arrow(Box<arrow::AnswerBatches>),
}

impl AnswerWriter {
    /// Writes what comes before all answers. There are none in CSV.
    pub(crate) fn begin(format: Format, out: &mut Vec<u8>) -> Result<Self> {
        match format {
            Format::Arrow => Ok(AnswerWriter::Arrow(Box::new(arrow::AnswerBatches::begin(out)?))),
            Format::Ndjson | Format::Csv => Ok(AnswerWriter::Ndjson),
        }
    }

    /// Writes the answer to the lookup of `key` at `at`.
    pub(crate) fn write(
        &mut self,
        out: &mut Vec<u8>,
        key: &[u8],
        at: Timestamp,
        answer: Option<EntryRef<'_>>,
    ) -> Result<()> {
        match self {
            AnswerWriter::Ndjson => {
                ndjson::write_answer(out, key, at, answer);
                out.push(b'\n');
                Ok(())
            }
            AnswerWriter::Arrow(batches) => batches.write(out, key, at, answer),
        }
    }

    /// Writes what comes after all answers.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        match self {
            AnswerWriter::Ndjson => Ok(()),
            AnswerWriter::Arrow(batches) => batches.finish(out),
        }
    }
}

/// What a reader of a request's body failed with: the body's own error, or that it can't be unpacked.
fn read_failed(error: std::io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::BadRequest(format!("the body can't be decompressed: {error}")),
    }
}

#[cfg(test)]
mod tests;
