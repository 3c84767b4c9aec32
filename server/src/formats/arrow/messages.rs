//! The messages of a stream, taken apart within bounds: what a message says of its own size is held against a
//! limit before it is believed, and what it says of its parts against what was read.
//!
//! ```text
//! message: 0xffffffff | length of the metadata i32 | metadata (a flatbuffer, which tells the body's length) | body
//! ```
//! A length of zero ends the stream, and so does the end of its bytes.

use std::collections::HashMap;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{read_dictionary, read_record_batch};
use arrow_ipc::{DictionaryBatch, Message, MessageHeader, RecordBatch as Shape, root_as_message};
use arrow_schema::{ArrowError, SchemaRef};

use super::super::{ROW_BYTES_MAX, read_failed};
use crate::error::{Error, Result};

/// What comes first in a message.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// How an Arrow file begins, which is no stream.
const FILE_MAGIC: &[u8; 4] = b"ARRO";

/// The largest description of a message, in bytes: some thousands of columns.
const METADATA_BYTES_MAX: usize = 4 << 20;

/// The largest record batch or dictionary, and the most that all dictionaries take, in bytes.
const BODY_BYTES_MAX: usize = ROW_BYTES_MAX;

/// Reads the record batches of a stream.
pub(super) struct Messages<R> {
    input: R,
    /// The names of the columns that are wanted; what others hold is not looked at.
    wanted: Vec<String>,
    /// Once it was read: the schema, and which of its columns are wanted.
    schema: Option<(SchemaRef, Vec<usize>)>,
    dictionaries: HashMap<i64, ArrayRef>,
}

impl<R: Read> Messages<R> {
    pub(super) fn new(input: R, wanted: Vec<String>) -> Self {
        Messages { input, wanted, schema: None, dictionaries: HashMap::new() }
    }

    /// The next batch, with the wanted columns that there are; `None` past the last one.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>> {
        while let Some(metadata) = self.read_metadata()? {
            let message = root_as_message(&metadata).map_err(|error| damaged(&error))?;
            let body = self.read_body(&message)?;
            match message.header_type() {
                MessageHeader::Schema => self.take_schema(&message)?,
                MessageHeader::DictionaryBatch => self.take_dictionary(&message, &body)?,
                MessageHeader::RecordBatch => return self.batch(&message, &body).map(Some),
                other => return Err(invalid(&format!("a message of the kind {other:?}"))),
            }
        }
        if self.schema.is_none() {
            return Err(invalid("it is empty: a stream begins with its schema"));
        }
        Ok(None)
    }

    /// What a message says of itself; `None` at the stream's end.
    fn read_metadata(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(mut word) = self.read_word()? else { return Ok(None) };
        if self.schema.is_none() && word == *FILE_MAGIC {
            return Err(invalid("this is an Arrow file, or Feather: send the stream format"));
        }
        if word == CONTINUATION {
            word = self.read_word()?.ok_or_else(|| ends_within("the length of a message"))?;
        } else if self.schema.is_none() {
            return Err(invalid("it does not begin as one does: is it a stream, not compressed?"));
        }
        match u32::from_le_bytes(word) as usize {
            0 => Ok(None),
            len if len > METADATA_BYTES_MAX => Err(invalid(&format!(
                "a message with {len} bytes of metadata: the limit is {METADATA_BYTES_MAX}"
            ))),
            len => self.read_bytes(len, "the metadata of a message").map(Some),
        }
    }

    fn read_word(&mut self) -> Result<Option<[u8; 4]>> {
        let word = self.read_some(4)?;
        match <[u8; 4]>::try_from(word.as_slice()) {
            Ok(word) => Ok(Some(word)),
            Err(_) if word.is_empty() => Ok(None),
            Err(_) => Err(ends_within("the length of a message")),
        }
    }

    fn read_body(&mut self, message: &Message<'_>) -> Result<Buffer> {
        let len = message.bodyLength();
        let len = usize::try_from(len).ok().filter(|&len| len <= BODY_BYTES_MAX).ok_or_else(|| {
            invalid(&format!(
                "a record batch or dictionary of {len} bytes: the limit is {BODY_BYTES_MAX}; write smaller \
                 batches, in pyarrow with write_table(table, max_chunksize=65536)"
            ))
        })?;
        Ok(Buffer::from_vec(self.read_bytes(len, "the body of a message")?))
    }

    fn read_bytes(&mut self, len: usize, what: &str) -> Result<Vec<u8>> {
        let bytes = self.read_some(len)?;
        if bytes.len() < len { Err(ends_within(what)) } else { Ok(bytes) }
    }

    /// Up to `len` bytes; fewer at the end. Memory is taken as bytes arrive, not as they are announced.
    fn read_some(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len.min(1 << 20));
        let mut input = Read::by_ref(&mut self.input).take(len as u64);
        input.read_to_end(&mut bytes).map_err(read_failed)?;
        Ok(bytes)
    }

    fn take_schema(&mut self, message: &Message<'_>) -> Result<()> {
        let schema = message.header_as_schema().ok_or_else(|| damaged(&"no schema"))?;
        let schema = Arc::new(try_fb_to_schema(schema).map_err(|error| damaged(&error))?);
        if self.schema.is_some() {
            return Err(invalid("a second schema"));
        }
        let wanted = schema.fields().iter().enumerate();
        let wanted = wanted.filter(|(_, field)| self.wanted.contains(field.name()));
        let wanted = wanted.map(|(column, _)| column).collect();
        self.schema = Some((schema, wanted));
        Ok(())
    }

    fn take_dictionary(&mut self, message: &Message<'_>, body: &Buffer) -> Result<()> {
        let batch: DictionaryBatch<'_> =
            message.header_as_dictionary_batch().ok_or_else(|| damaged(&"no dictionary"))?;
        check_parts(batch.data().ok_or_else(|| damaged(&"a dictionary without data"))?, body)?;
        let (schema, _) = self.schema.as_ref().ok_or_else(|| damaged(&"no schema"))?;
        let (dictionaries, version) = (&mut self.dictionaries, message.version());
        guarded(|| read_dictionary(body, batch, schema, dictionaries, &version))?;
        let bytes: usize = dictionaries.values().map(Array::get_buffer_memory_size).sum();
        if bytes > BODY_BYTES_MAX {
            return Err(invalid(&format!(
                "dictionaries of {bytes} bytes: the limit is {BODY_BYTES_MAX}"
            )));
        }
        Ok(())
    }

    fn batch(&mut self, message: &Message<'_>, body: &Buffer) -> Result<RecordBatch> {
        let batch = message.header_as_record_batch().ok_or_else(|| damaged(&"no record batch"))?;
        check_parts(batch, body)?;
        let (schema, wanted) = self.schema.as_ref().ok_or_else(|| damaged(&"no schema"))?;
        let (schema, version) = (Arc::clone(schema), message.version());
        let dictionaries = &self.dictionaries;
        guarded(|| read_record_batch(body, batch, schema, dictionaries, Some(wanted), &version))
    }
}

/// Checks that the parts of a batch lie within its body, which the reader takes for granted.
fn check_parts(batch: Shape<'_>, body: &Buffer) -> Result<()> {
    let count = |count: i64| (0..=i64::from(i32::MAX)).contains(&count);
    let nodes = batch.nodes().into_iter().flatten();
    let rows_are_sane = count(batch.length())
        && nodes.into_iter().all(|node| {
            count(node.length()) && count(node.null_count()) && node.null_count() <= node.length()
        });
    let mut buffers = batch.buffers().into_iter().flatten();
    let buffers_are_inside = buffers.all(|buffer| {
        let end = buffer.offset().checked_add(buffer.length());
        buffer.offset() >= 0
            && buffer.length() >= 0
            && end.is_some_and(|end| end as u64 <= body.len() as u64)
    });
    if rows_are_sane && buffers_are_inside {
        Ok(())
    } else {
        Err(damaged(&"a batch says that it has more than it has"))
    }
}

/// Decodes; the decoder takes some things for granted that damaged bytes need not hold to, and panics. It
/// leaves nothing half done: dictionaries are changed last.
fn guarded<T>(decode: impl FnOnce() -> Result<T, ArrowError>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(decoded) => decoded.map_err(|error| damaged(&error)),
        Err(_) => Err(damaged(&"a column's parts do not fit each other")),
    }
}

fn damaged(error: &dyn std::fmt::Display) -> Error {
    Error::BadRequest(format!("the Arrow stream is damaged: {error}"))
}

fn invalid(what: &str) -> Error {
    Error::BadRequest(format!("the Arrow stream can't be read: {what}"))
}

fn ends_within(what: &str) -> Error {
    Error::BadRequest(format!("the Arrow stream ends within {what}"))
}
