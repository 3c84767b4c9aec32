//! Comma-separated values, RFC 4180, with a header that names the columns.

use std::io::{ErrorKind, Read};

use csv_core::{ReadRecordResult, Reader};

use super::fields::{self, Layout, TYPE_COLUMN, utf8};
use super::ndjson::write_number;
use super::{ROW_BYTES_MAX, Row, Sink, read_failed};
use crate::error::{Error, Result};
use crate::limits::Charge;

/// How many rows are shown by one call.
const ROWS: usize = 4096;

/// How much is read at a time, in bytes.
const READ_BYTES: usize = 256 << 10;

/// The most fields of a record.
const FIELDS_MAX: usize = 4096;

/// Reads records. It holds one of them.
pub(crate) struct CsvReader<R> {
    input: R,
    parser: Reader,
    /// What was read; what lies before `parsed` was taken apart.
    buffer: Vec<u8>,
    parsed: usize,
    record: Record,
    layout: Layout,
    /// Once the header was read.
    columns: Option<Columns>,
    decoded: Vec<u8>,
    charge: Charge,
}

/// The fields of a record, one behind the other.
struct Record {
    bytes: Vec<u8>,
    /// Where each of the fields ends, as far as there are some.
    ends: Vec<usize>,
    fields: usize,
    /// The line where it begins.
    line: u64,
}

impl Record {
    fn get(&self, field: usize) -> &[u8] {
        let start = field.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[field]]
    }
}

/// Where in a record the fields are, of which there are `count`.
#[derive(Clone, Copy)]
struct Columns {
    count: usize,
    key: usize,
    ts: usize,
    value: Option<usize>,
    value_type: Option<usize>,
}

impl<R: Read> CsvReader<R> {
    pub(crate) fn new(input: R, layout: Layout, charge: Charge) -> Self {
        let record = Record { bytes: vec![0; 4096], ends: vec![0; FIELDS_MAX], fields: 0, line: 1 };
        CsvReader {
            input,
            parser: Reader::new(),
            buffer: Vec::with_capacity(READ_BYTES),
            parsed: 0,
            record,
            layout,
            columns: None,
            decoded: Vec::new(),
            charge,
        }
    }

    pub(crate) fn read(&mut self, sink: &mut Sink<'_>) -> Result<bool> {
        let columns = match self.columns {
            Some(columns) => columns,
            None => self.read_header()?,
        };
        self.columns = Some(columns);
        for _ in 0..ROWS {
            if !self.read_record()? {
                return Ok(false);
            }
            sink(self.record.line, columns.row(&self.record, &self.layout, &mut self.decoded))?;
        }
        Ok(true)
    }

    /// Reads the next record; `false`: there is none.
    fn read_record(&mut self) -> Result<bool> {
        self.record.fields = 0;
        self.record.line = self.parser.line();
        let mut len = 0;
        loop {
            if self.parsed == self.buffer.len() {
                self.fill()?;
            }
            let Record { bytes, ends, fields, line } = &mut self.record;
            let (outcome, parsed, written, ended) = self.parser.read_record(
                &self.buffer[self.parsed..],
                &mut bytes[len..],
                &mut ends[*fields..],
            );
            self.parsed += parsed;
            len += written;
            *fields += ended;
            match outcome {
                ReadRecordResult::Record => return Ok(true),
                ReadRecordResult::End => return Ok(false),
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.make_room()?,
                ReadRecordResult::OutputEndsFull => {
                    return Err(Error::BadRequest(format!(
                        "line {line}: a record has more than {FIELDS_MAX} fields"
                    )));
                }
            }
        }
    }

    /// Reads more; where there is none, the buffer is empty, which tells the parser so.
    fn fill(&mut self) -> Result<()> {
        self.parsed = 0;
        self.buffer.resize(READ_BYTES, 0);
        let read = loop {
            match self.input.read(&mut self.buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome.map_err(read_failed)?,
            }
        };
        self.buffer.truncate(read);
        Ok(())
    }

    /// Makes room for more of a record: twice as much, but not more than a row may have.
    fn make_room(&mut self) -> Result<()> {
        let Record { bytes, line, .. } = &mut self.record;
        let len = bytes.len();
        if len >= ROW_BYTES_MAX {
            return Err(Error::BadRequest(format!(
                "line {line}: a record is longer than {ROW_BYTES_MAX} bytes: is a quote open?"
            )));
        }
        let grown = (2 * len).min(ROW_BYTES_MAX);
        self.charge.grow_to_in_time(grown + self.decoded.capacity())?;
        bytes.reserve_exact(grown - len);
        bytes.resize(grown, 0);
        Ok(())
    }

    fn read_header(&mut self) -> Result<Columns> {
        // An empty file has an empty header.
        self.read_record()?;
        let record = &self.record;
        let header: Vec<&[u8]> = (0..record.fields).map(|field| record.get(field)).collect();
        let find = |name: &str| header.iter().position(|column| *column == name.as_bytes());
        let required = |name: &str| {
            find(name).ok_or_else(|| {
                let header: Vec<_> =
                    header.iter().map(|column| fields::shown(column)).take(20).collect();
                let header = header.join(", ");
                Error::BadRequest(format!("line 1: there is no column `{name}` among {header}"))
            })
        };
        Ok(Columns {
            count: header.len(),
            key: required(&self.layout.key)?,
            ts: required(&self.layout.ts)?,
            value: self.layout.value.as_deref().map(required).transpose()?,
            value_type: find(TYPE_COLUMN),
        })
    }
}

impl Columns {
    fn row<'a>(
        self,
        record: &'a Record,
        layout: &Layout,
        decoded: &'a mut Vec<u8>,
    ) -> Result<Row<'a>, String> {
        if record.fields != self.count {
            return Err(format!("there are {} fields, and {} columns", record.fields, self.count));
        }
        let field = |column: usize| record.get(column);
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
