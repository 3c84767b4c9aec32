//! Comma-separated values, RFC 4180, with a header that names the columns.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use ::csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};

use super::fields::{self, Layout, TYPE_COLUMN, utf8};
use super::ndjson::write_number;
use super::{ROW_BYTES_MAX, Row, Sink, read_failed};
use crate::error::{Error, Result};

/// How many rows are shown by one call.
const ROWS: usize = 4096;

/// How much is read at a time, in bytes.
const READ_BYTES: usize = 256 << 10;

/// Reads records. It holds one of them.
pub(crate) struct CsvReader<R> {
    reader: Reader<Limited<R>>,
    layout: Layout,
    /// How far the reader may read before it has its next record.
    read_to: Rc<Cell<u64>>,
    /// Once the header was read.
    columns: Option<Columns>,
    record: ByteRecord,
    decoded: Vec<u8>,
}

/// Where in a record the fields are.
#[derive(Clone, Copy)]
struct Columns {
    key: usize,
    ts: usize,
    value: Option<usize>,
    value_type: Option<usize>,
}

/// An input that ends with an error where the parser would collect more than a row may have.
struct Limited<R> {
    input: R,
    position: u64,
    read_to: Rc<Cell<u64>>,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position > self.read_to.get() {
            return Err(io::Error::other(Error::BadRequest(format!(
                "a record is longer than {ROW_BYTES_MAX} bytes: is a quote open?"
            ))));
        }
        let read = self.input.read(buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl<R: Read> CsvReader<R> {
    pub(crate) fn new(input: R, layout: Layout) -> Self {
        let read_to = Rc::new(Cell::new(ROW_BYTES_MAX as u64));
        let input = Limited { input, position: 0, read_to: Rc::clone(&read_to) };
        let reader = ReaderBuilder::new().buffer_capacity(READ_BYTES).from_reader(input);
        let (record, decoded) = (ByteRecord::new(), Vec::new());
        CsvReader { reader, layout, read_to, columns: None, record, decoded }
    }

    pub(crate) fn read(&mut self, sink: &mut Sink<'_>) -> Result<bool> {
        let columns = match self.columns {
            Some(columns) => columns,
            None => self.read_header()?,
        };
        self.columns = Some(columns);
        for _ in 0..ROWS {
            let begun = self.reader.position().byte();
            self.read_to.set(begun + (ROW_BYTES_MAX + READ_BYTES) as u64);
            match self.reader.read_byte_record(&mut self.record) {
                Ok(false) => return Ok(false),
                Ok(true) => {
                    let line = self.record.position().map_or(0, ::csv::Position::line);
                    sink(line, columns.row(&self.record, &self.layout, &mut self.decoded))?;
                }
                Err(error) => {
                    let line = error.position().map_or(0, ::csv::Position::line);
                    sink(line, Err(recoverable(error)?))?;
                }
            }
        }
        Ok(true)
    }

    fn read_header(&mut self) -> Result<Columns> {
        let header = self.reader.byte_headers().map_err(failed)?;
        let find = |name: &str| header.iter().position(|column| column == name.as_bytes());
        let required = |name: &str| {
            find(name).ok_or_else(|| {
                let header: Vec<_> = header.iter().map(fields::shown).take(20).collect();
                let header = header.join(", ");
                Error::BadRequest(format!("line 1: there is no column `{name}` among {header}"))
            })
        };
        Ok(Columns {
            key: required(&self.layout.key)?,
            ts: required(&self.layout.ts)?,
            value: self.layout.value.as_deref().map(required).transpose()?,
            value_type: find(TYPE_COLUMN),
        })
    }
}

/// What is wrong with one record, where the next one can be read.
fn recoverable(error: ::csv::Error) -> Result<String> {
    match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            Ok(format!("there are {len} fields, and {expected_len} columns"))
        }
        _ => Err(failed(error)),
    }
}

fn failed(error: ::csv::Error) -> Error {
    match error.into_kind() {
        ErrorKind::Io(error) => read_failed(error),
        other => Error::BadRequest(format!("the CSV can't be read: {other:?}")),
    }
}

impl Columns {
    fn row<'a>(
        self,
        record: &'a ByteRecord,
        layout: &Layout,
        decoded: &'a mut Vec<u8>,
    ) -> Result<Row<'a>, String> {
        let field = |column: usize| record.get(column).unwrap_or_default();
        let key = utf8(field(self.key), "the key")?.as_bytes();
        let ts = layout.clock.text(utf8(field(self.ts), "the timestamp")?.trim())?;
        let Some(value) = self.value else { return Ok(Row { key, ts, value: None }) };
        let text_as = self.value_type.map_or(&b""[..], field);
        let value = layout.text_as.of_field(text_as)?.value(field(value), decoded)?;
        Ok(Row { key, ts, value })
    }
}

/// Appends the header.
pub(super) fn write_header(out: &mut Vec<u8>) {
    out.extend_from_slice(format!("key,ts,value,{TYPE_COLUMN}\r\n").as_bytes());
}

/// Appends a row as a record.
pub(super) fn write_row(out: &mut Vec<u8>, row: &Row<'_>) {
    let (value_type, value) = fields::text_of(row.value);
    write_field(out, row.key);
    out.push(b',');
    write_number(out, row.ts);
    out.push(b',');
    write_field(out, &value);
    out.push(b',');
    out.extend_from_slice(value_type.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_field(out: &mut Vec<u8>, field: &[u8]) {
    if !field.iter().any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n')) {
        return out.extend_from_slice(field);
    }
    out.push(b'"');
    for (number, piece) in field.split(|&byte| byte == b'"').enumerate() {
        if number > 0 {
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(piece);
    }
    out.push(b'"');
}
