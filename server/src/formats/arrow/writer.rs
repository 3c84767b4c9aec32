//! Rows and answers as record batches.

use std::fmt::Display;
use std::sync::Arc;

use arrow_array::builder::{Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema};
use kvtimedb_engine::{EntryRef, Timestamp, ValueRef};

use super::super::Row;
use super::super::fields::{TYPE_COLUMN, text_of};
use crate::error::{Error, Result};

/// A batch ends with so many rows, or so many bytes of keys and values.
const BATCH_ROWS_MAX: usize = 16 << 10;
const BATCH_BYTES_MAX: usize = 1 << 20;

/// The stream of an export: `key`, `ts`, `value` and [`TYPE_COLUMN`]. It holds one batch.
pub(crate) struct RowBatches {
    stream: Stream,
    keys: StringBuilder,
    ts: Int64Builder,
    values: Values,
}

impl RowBatches {
    pub(in super::super) fn begin(out: &mut Vec<u8>) -> Result<Self> {
        let stream = Stream::begin(
            out,
            vec![
                Field::new("key", DataType::Utf8, false),
                Field::new("ts", DataType::Int64, false),
                Field::new("value", DataType::Utf8, true),
                Field::new(TYPE_COLUMN, DataType::Utf8, true),
            ],
        )?;
        let (keys, ts) = (StringBuilder::new(), Int64Builder::new());
        Ok(RowBatches { stream, keys, ts, values: Values::default() })
    }

    pub(in super::super) fn write(&mut self, out: &mut Vec<u8>, row: &Row<'_>) -> Result<()> {
        self.keys.append_value(key_text(row.key)?);
        self.ts.append_value(row.ts);
        let bytes = self.values.append(row.value)?;
        if self.stream.took(row.key.len() + bytes) {
            self.write_batch(out)?;
        }
        Ok(())
    }

    pub(in super::super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.write_batch(out)?;
        self.stream.finish(out)
    }

    fn write_batch(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let [values, types] = self.values.finish();
        let columns = vec![
            Arc::new(self.keys.finish()) as ArrayRef,
            Arc::new(self.ts.finish()),
            values,
            types,
        ];
        self.stream.write(out, columns)
    }
}

/// The stream of answers to lookups: `key`, `at`, `ts`, `value` and [`TYPE_COLUMN`], of which the last
/// three are null where nothing was found. It holds one batch.
pub(crate) struct AnswerBatches {
    stream: Stream,
    keys: StringBuilder,
    at: Int64Builder,
    ts: Int64Builder,
    values: Values,
}

impl AnswerBatches {
    pub(in super::super) fn begin(out: &mut Vec<u8>) -> Result<Self> {
        let stream = Stream::begin(
            out,
            vec![
                Field::new("key", DataType::Utf8, false),
                Field::new("at", DataType::Int64, false),
                Field::new("ts", DataType::Int64, true),
                Field::new("value", DataType::Utf8, true),
                Field::new(TYPE_COLUMN, DataType::Utf8, true),
            ],
        )?;
        let (at, ts) = (Int64Builder::new(), Int64Builder::new());
        Ok(AnswerBatches { stream, keys: StringBuilder::new(), at, ts, values: Values::default() })
    }

    pub(in super::super) fn write(
        &mut self,
        out: &mut Vec<u8>,
        key: &[u8],
        at: Timestamp,
        answer: Option<EntryRef<'_>>,
    ) -> Result<()> {
        self.keys.append_value(key_text(key)?);
        self.at.append_value(at);
        self.ts.append_option(answer.map(|answer| answer.ts));
        let bytes = match answer {
            Some(EntryRef { value_type, value, .. }) => {
                self.values.append(Some(ValueRef { value_type, bytes: value }))?
            }
            None => self.values.append_none(),
        };
        if self.stream.took(key.len() + bytes) {
            self.write_batch(out)?;
        }
        Ok(())
    }

    pub(in super::super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.write_batch(out)?;
        self.stream.finish(out)
    }

    fn write_batch(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let [values, types] = self.values.finish();
        let keys = Arc::new(self.keys.finish()) as _;
        let times = [Arc::new(self.at.finish()) as _, Arc::new(self.ts.finish()) as _];
        let [at, ts] = times;
        self.stream.write(out, vec![keys, at, ts, values, types])
    }
}

/// Values as text, and what each text is.
#[derive(Default)]
struct Values {
    values: StringBuilder,
    types: StringBuilder,
}

impl Values {
    /// Appends a value, or an end, and tells its length in bytes.
    fn append(&mut self, value: Option<ValueRef<'_>>) -> Result<usize> {
        let (value_type, text) = text_of(value);
        if value.is_some() {
            let text = std::str::from_utf8(&text).map_err(|error| unwritable(&error))?;
            self.values.append_value(text);
        } else {
            self.values.append_null();
        }
        self.types.append_value(value_type);
        Ok(text.len())
    }

    fn append_none(&mut self) -> usize {
        self.values.append_null();
        self.types.append_null();
        0
    }

    fn finish(&mut self) -> [ArrayRef; 2] {
        [Arc::new(self.values.finish()), Arc::new(self.types.finish())]
    }
}

/// Record batches of one schema.
struct Stream {
    writer: StreamWriter<Vec<u8>>,
    schema: Arc<Schema>,
    rows: usize,
    bytes: usize,
}

impl Stream {
    fn begin(out: &mut Vec<u8>, fields: Vec<Field>) -> Result<Stream> {
        let schema = Arc::new(Schema::new(fields));
        let mut writer =
            StreamWriter::try_new(Vec::new(), &schema).map_err(|error| unwritable(&error))?;
        out.append(writer.get_mut());
        Ok(Stream { writer, schema, rows: 0, bytes: 0 })
    }

    /// Counts a row; whether the batch ends with it.
    fn took(&mut self, bytes: usize) -> bool {
        self.rows += 1;
        self.bytes += bytes;
        self.rows >= BATCH_ROWS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// Writes a batch, unless it has no rows.
    fn write(&mut self, out: &mut Vec<u8>, columns: Vec<ArrayRef>) -> Result<()> {
        if std::mem::take(&mut self.rows) > 0 {
            self.bytes = 0;
            let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns);
            let batch = batch.map_err(|error| unwritable(&error))?;
            self.writer.write(&batch).map_err(|error| unwritable(&error))?;
            out.append(self.writer.get_mut());
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.writer.finish().map_err(|error| unwritable(&error))?;
        out.append(self.writer.get_mut());
        Ok(())
    }
}

fn key_text(key: &[u8]) -> Result<&str> {
    std::str::from_utf8(key).map_err(|_| unwritable(&"a key is not UTF-8 text: ask for NDJSON"))
}

/// Only keys and values that Arrow's text can't hold are not to be written.
fn unwritable(error: &dyn Display) -> Error {
    Error::BadRequest(format!("the answer can't be written in Arrow: {error}"))
}
