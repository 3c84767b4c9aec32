//! A batch of operations that is committed as one: all of it or none.
//!
//! It is kept in the very bytes that the log stores (see `docs/format.md`, "WAL"), so that a commit
//! copies it once and replay and commit read it with the same code.
//!
//! ```text
//! operation: tag u8 | key length varint | key | timestamp i64 | value length varint | value
//! ```
//! A tombstone has a value of length 0.

mod columns;
mod unresolved;

pub use columns::{BytesColumn, Columns, ValueTypes};
pub(crate) use unresolved::{Mark, Unresolved};

use crate::coding::{Decoder, put_bytes};
use crate::error::{Error, Malformed, Result};
use crate::key::{KEY_BYTES_MAX, Tag, Timestamp, VALUE_BYTES_MAX, ValueKind, ValueRef};

/// The most operations that a batch may hold.
pub const BATCH_OPS_MAX: usize = 1_000_000;

/// The largest batch, in encoded bytes: one value of the largest size, and some room.
pub const BATCH_BYTES_MAX: usize = VALUE_BYTES_MAX + 16 * 1024 * 1024;

/// Operations to be committed as one. Where a batch writes a `(key, timestamp)` twice, the later
/// operation stands.
///
/// ```
/// use kvtimedb_engine::{ValueRef, WriteBatch};
///
/// let mut batch = WriteBatch::new();
/// batch.put(b"item1", 100, ValueRef::json(b"\"iPhone 16\""))?;
/// batch.end(b"item1", 200)?;
/// assert_eq!(batch.len(), 2);
/// # Ok::<(), kvtimedb_engine::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct WriteBatch {
    encoded: Vec<u8>,
    ops: usize,
    /// The least timestamp that is put or ended.
    written_ts_min: Timestamp,
    /// The least timestamp that is erased. What is erased up to a moment, however old, does not count.
    erased_ts_min: Option<Timestamp>,
    /// What is resolved when the batch is committed; `None` for a plain batch.
    unresolved: Option<Box<Unresolved>>,
}

impl Default for WriteBatch {
    fn default() -> Self {
        WriteBatch {
            encoded: Vec::new(),
            ops: 0,
            written_ts_min: Timestamp::MAX,
            erased_ts_min: None,
            unresolved: None,
        }
    }
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> Self {
        WriteBatch::default()
    }

    /// From `ts` on, `key` has `value`. A value already there at `ts` is replaced.
    pub fn put<'v>(
        &mut self,
        key: &[u8],
        ts: Timestamp,
        value: impl Into<ValueRef<'v>>,
    ) -> Result<()> {
        let value = value.into();
        self.push_op(&Op { tag: Tag::put(value.value_type), key, ts, value: value.bytes })
    }

    /// From `ts` on, `key` has no value, until a newer put.
    pub fn end(&mut self, key: &[u8], ts: Timestamp) -> Result<()> {
        self.push_op(&Op { tag: Tag::END, key, ts, value: &[] })
    }

    /// The version of `key` at exactly `ts` never was.
    pub fn erase(&mut self, key: &[u8], ts: Timestamp) -> Result<()> {
        self.push_op(&Op { tag: Tag::ERASE, key, ts, value: &[] })
    }

    /// Adds an operation as it is.
    pub(crate) fn push_op(&mut self, op: &Op<'_>) -> Result<()> {
        self.push(op)?;
        if op.tag.kind() == ValueKind::Erase {
            self.note_erase(op.ts);
        } else {
            self.written_ts_min = self.written_ts_min.min(op.ts);
        }
        Ok(())
    }

    /// How many operations it holds; an erase of a range is one.
    pub fn len(&self) -> usize {
        self.ops
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.ops == 0
    }

    /// Its size in the log, in bytes.
    pub fn encoded_bytes(&self) -> usize {
        self.encoded.len()
    }

    /// The least timestamp of which a database with this horizon may know nothing any more; `None` where
    /// there is none. A horizon of [`Timestamp::MIN`] is none.
    ///
    /// To erase the very version that the horizon keeps would uncover an older one, which may be gone.
    #[inline]
    pub(crate) fn ts_below(&self, horizon: Timestamp) -> Option<Timestamp> {
        if self.written_ts_min < horizon {
            return Some(self.written_ts_min);
        }
        self.erased_ts_min.filter(|&ts| ts <= horizon && horizon > Timestamp::MIN)
    }

    /// The operations in the log's own bytes.
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// The operations, in order.
    pub(crate) fn ops(&self) -> impl Iterator<Item = Op<'_>> {
        Ops::new(&self.encoded).map(|op| op.expect("a batch holds what it encoded"))
    }

    fn note_erase(&mut self, ts: Timestamp) {
        self.erased_ts_min = Some(self.erased_ts_min.map_or(ts, |least| least.min(ts)));
    }

    fn push(&mut self, &Op { tag, key, ts, value }: &Op<'_>) -> Result<()> {
        let too_long = |what: &str, len: usize, len_max: usize| {
            Err(Error::InvalidArgument(format!("{what} of {len} bytes: the limit is {len_max}")))
        };
        if key.len() > KEY_BYTES_MAX {
            return too_long("a key", key.len(), KEY_BYTES_MAX);
        }
        if value.len() > VALUE_BYTES_MAX {
            return too_long("a value", value.len(), VALUE_BYTES_MAX);
        }
        if self.ops == BATCH_OPS_MAX {
            return Err(Error::InvalidArgument(format!(
                "a batch of more than {BATCH_OPS_MAX} operations: split it"
            )));
        }
        let encoded_bytes_max = self.encoded.len() + op_bytes_max(key, value);
        if encoded_bytes_max > BATCH_BYTES_MAX {
            return too_long("a batch", encoded_bytes_max, BATCH_BYTES_MAX);
        }
        // At once: a batch of one operation is one allocation.
        self.encoded.reserve(op_bytes_max(key, value));
        self.encode(tag, key, ts, value);
        Ok(())
    }

    fn encode(&mut self, tag: Tag, key: &[u8], ts: Timestamp, value: &[u8]) {
        self.encoded.push(tag.to_byte());
        put_bytes(&mut self.encoded, key);
        self.encoded.extend_from_slice(&ts.to_le_bytes());
        put_bytes(&mut self.encoded, value);
        self.ops += 1;
    }
}

/// One operation of a batch, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Op<'a> {
    pub(crate) tag: Tag,
    pub(crate) key: &'a [u8],
    pub(crate) ts: Timestamp,
    pub(crate) value: &'a [u8],
}

impl Op<'_> {
    /// The most that it takes in a batch, in bytes.
    pub(crate) fn encoded_bytes_max(&self) -> usize {
        op_bytes_max(self.key, self.value)
    }
}

fn op_bytes_max(key: &[u8], value: &[u8]) -> usize {
    const LENGTH_BYTES_MAX: usize = 5;
    1 + LENGTH_BYTES_MAX + key.len() + size_of::<Timestamp>() + LENGTH_BYTES_MAX + value.len()
}

/// Reads encoded operations front to back; it ends after the first malformed one.
#[derive(Clone, Debug)]
pub(crate) struct Ops<'a> {
    input: Decoder<'a>,
    failed: bool,
}

impl<'a> Ops<'a> {
    pub(crate) fn new(encoded: &'a [u8]) -> Self {
        Ops { input: Decoder::new(encoded), failed: false }
    }

    /// How many bytes it has read.
    pub(crate) fn position(&self) -> usize {
        self.input.position()
    }

    fn read(&mut self) -> Result<Op<'a>, Malformed> {
        let tag = self.input.u8("an operation's tag")?;
        let tag = Tag::from_byte(tag)
            .ok_or_else(|| self.input.malformed("a known kind and type of operation"))?;
        let key = self.input.bytes(KEY_BYTES_MAX, "a key within its limit")?;
        let ts = self.input.i64("a timestamp")?;
        let value = self.input.bytes(VALUE_BYTES_MAX, "a value within its limit")?;
        if tag.kind() != ValueKind::Put && !value.is_empty() {
            return Err(self.input.malformed("a tombstone without a value"));
        }
        Ok(Op { tag, key, ts, value })
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Result<Op<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.input.is_empty() {
            return None;
        }
        let op = self.read();
        self.failed = op.is_err();
        Some(op)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_come_back_in_order() {
        let mut batch = WriteBatch::new();
        batch.put(b"", i64::MIN, b"").unwrap();
        batch.put(b"k", -1, ValueRef::json(b"{}")).unwrap();
        batch.end(b"k", 0).unwrap();
        batch.erase(b"k", i64::MAX).unwrap();
        let ops: Vec<_> = Ops::new(batch.encoded()).map(Result::unwrap).collect();
        assert_eq!(ops.len(), batch.len());
        assert_eq!(ops[0].ts, i64::MIN);
        assert_eq!(ops[1].value, b"{}");
        assert_eq!((ops[2].tag, ops[3].tag), (Tag::END, Tag::ERASE));
    }

    #[test]
    fn limits_are_told_and_leave_the_batch_as_it_was() {
        let mut batch = WriteBatch::new();
        let error = batch.put(&vec![0; KEY_BYTES_MAX + 1], 0, b"").unwrap_err();
        assert!(error.to_string().contains("65536"), "{error}");
        batch.put(&vec![0; KEY_BYTES_MAX], 0, b"").unwrap();
        let huge = vec![0; VALUE_BYTES_MAX + 1];
        assert!(batch.put(b"k", 0, huge.as_slice()).is_err());
        assert_eq!(batch.len(), 1);
    }

    #[test]
    fn every_truncation_is_malformed_or_a_shorter_batch() {
        let mut batch = WriteBatch::new();
        batch.put(b"key", 1, b"value").unwrap();
        batch.put(b"key", 2, b"value").unwrap();
        for len in 0..batch.encoded_bytes() {
            let read: Vec<_> = Ops::new(&batch.encoded()[..len]).collect();
            let whole = read.iter().filter(|op| op.is_ok()).count();
            assert_eq!(whole, usize::from(len >= batch.encoded_bytes() / 2), "{len}");
        }
    }
}
