//! Arrow IPC streams: schema, dictionaries, record batches.

mod columns;
mod messages;
mod writer;

use std::io::Read;

use arrow_array::{ArrayRef, RecordBatch};

use self::columns::{Moments, Texts, Values};
use self::messages::Messages;
pub(crate) use self::writer::{AnswerBatches, RowBatches};
use super::fields::{Layout, TYPE_COLUMN, TextAs};
use super::{Row, Sink};
use crate::error::{Error, Result};

/// Reads record batches. It holds one of them, and the dictionaries.
pub(crate) struct ArrowReader<R> {
    messages: Messages<R>,
    layout: Layout,
    rows: u64,
    decoded: Vec<u8>,
}

impl<R: Read> ArrowReader<R> {
    pub(crate) fn new(input: R, layout: Layout) -> Self {
        let wanted = [Some(&layout.key), Some(&layout.ts), layout.value.as_ref()];
        let wanted = wanted.into_iter().flatten().cloned();
        let messages = Messages::new(input, wanted.chain([TYPE_COLUMN.to_owned()]).collect());
        ArrowReader { messages, layout, rows: 0, decoded: Vec::new() }
    }

    /// The rows' lines are their numbers in the stream.
    pub(crate) fn read(&mut self, sink: &mut Sink<'_>) -> Result<bool> {
        let Some(batch) = self.messages.next()? else { return Ok(false) };
        let columns = Columns::of(&batch, &self.layout)?;
        for row in 0..batch.num_rows() {
            self.rows += 1;
            sink(self.rows, columns.row(row, &mut self.decoded))?;
        }
        Ok(true)
    }
}

/// The columns that hold the fields of rows.
struct Columns<'a> {
    keys: Texts<'a>,
    moments: Moments<'a>,
    /// `None`: the rows are lookups.
    values: Option<Values<'a>>,
    types: Option<Texts<'a>>,
    text_as: TextAs,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch, layout: &Layout) -> Result<Columns<'a>> {
        let Layout { key, ts, value, clock, text_as } = layout;
        let what = "a timestamp, a date, text, or whole numbers of at most 64 bits with a sign";
        let moments = column(batch, ts, what, |column| Moments::of(column, *clock))?;
        let what = "text, octets, numbers or booleans";
        let values = value.as_ref().map(|value| column(batch, value, what, Values::of));
        Ok(Columns {
            keys: column(batch, key, "text", Texts::of)?,
            moments,
            values: values.transpose()?,
            types: batch.column_by_name(TYPE_COLUMN).and_then(Texts::of),
            text_as: *text_as,
        })
    }

    fn row<'r>(&'r self, row: usize, decoded: &'r mut Vec<u8>) -> Result<Row<'r>, String> {
        let key = self.keys.get(row).ok_or("the key is null")?;
        let ts = self.moments.get(row)?;
        let Some(values) = &self.values else { return Ok(Row { key, ts, value: None }) };
        let said = self.types.as_ref().and_then(|types| types.get(row)).unwrap_or_default();
        Ok(Row { key, ts, value: values.get(row, said, self.text_as, decoded)? })
    }
}

/// A column by its name, as `of` reads it; `what` says what that can be.
fn column<'a, T>(
    batch: &'a RecordBatch,
    name: &str,
    what: &str,
    of: impl FnOnce(&'a ArrayRef) -> Option<T>,
) -> Result<T> {
    let column = batch
        .column_by_name(name)
        .ok_or_else(|| Error::BadRequest(format!("the Arrow stream has no column `{name}`")))?;
    of(column).ok_or_else(|| {
        let found = column.data_type();
        Error::BadRequest(format!("the Arrow column `{name}` is {found}: it must be {what}"))
    })
}
