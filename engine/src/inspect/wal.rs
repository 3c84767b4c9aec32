//! One segment of the write-ahead log.

use std::path::Path;

use super::kind_of;
use crate::batch::Op;
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::key::{DatabaseId, FileKind, SeqNo, Timestamp, ValueKind, ValueType};
use crate::wal::{SegmentReader, WalContent};

/// A segment of the log, read front to back; an iterator over its records, which ends after the
/// first error. It checks what a segment alone can tell.
#[derive(Debug)]
pub struct WalView {
    /// `None`: its creation was cut short.
    reader: Option<SegmentReader>,
    with_operations: bool,
    sealed: bool,
    failed: bool,
    end: Option<WalEnd>,
}

/// A record of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalRecord {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its length, framing included.
    pub bytes: u64,
    /// What it says.
    pub content: WalContent,
    /// Its operations; none where they weren't asked for.
    pub operations: Vec<WalOperation>,
}

/// An operation as the log holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalOperation {
    /// Its sequence number.
    pub seq: SeqNo,
    /// Its key.
    pub key: Vec<u8>,
    /// Its timestamp.
    pub ts: Timestamp,
    /// What it says.
    pub kind: ValueKind,
    /// How its value is to be read.
    pub value_type: ValueType,
    /// Its value; empty for a tombstone.
    pub value: Vec<u8>,
}

/// How a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalEnd {
    /// With a SEAL: nothing was written after it.
    Sealed,
    /// Without one: it is being written, or the process ended.
    Open,
    /// In a record that was never durable, and is cut off.
    Torn,
    /// Before its header: its creation was cut short, and nothing was ever written to it.
    Unfinished,
}

impl WalView {
    /// Opens a segment, which has the name that the engine gave it. Its records come with their
    /// operations if `with_operations`.
    pub fn open(fs: &dyn Fs, path: &Path, with_operations: bool) -> Result<WalView> {
        let Some(FileKind::Wal(id)) = kind_of(path) else {
            let what = format!("{}: a segment of the log is named NNNNNN.wal", path.display());
            return Err(Error::InvalidArgument(what));
        };
        let reader = SegmentReader::open(fs, path, None, id)?;
        Ok(WalView { reader, with_operations, sealed: false, failed: false, end: None })
    }

    /// The database that it says it belongs to; `None` if it ends before its header does.
    pub fn database(&self) -> Option<DatabaseId> {
        Some(self.reader.as_ref()?.database())
    }

    /// How the segment ends, and the offset where its last record does. `None` until the iterator
    /// has come to the end without an error.
    pub fn end(&self) -> Option<(WalEnd, u64)> {
        let Some(reader) = &self.reader else { return Some((WalEnd::Unfinished, 0)) };
        Some((self.end?, reader.end().offset))
    }

    fn read(&mut self) -> Result<Option<WalRecord>> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let mut operations = Vec::new();
        let with_operations = self.with_operations;
        let record = reader.next(&mut |seq, op| {
            if with_operations {
                operations.push(owned(seq, &op));
            }
            Ok(())
        })?;
        let Some(record) = record else {
            self.end = Some(match (self.sealed, reader.end().torn) {
                (true, _) => WalEnd::Sealed,
                (false, true) => WalEnd::Torn,
                (false, false) => WalEnd::Open,
            });
            return Ok(None);
        };
        self.sealed = matches!(record.content, WalContent::Seal { .. });
        let (offset, bytes, content) = (record.offset, record.bytes, record.content);
        Ok(Some(WalRecord { offset, bytes, content, operations }))
    }
}

impl Iterator for WalView {
    type Item = Result<WalRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.end.is_some() {
            return None;
        }
        let read = self.read();
        self.failed = read.is_err();
        read.transpose()
    }
}

fn owned(seq: SeqNo, op: &Op<'_>) -> WalOperation {
    WalOperation {
        seq,
        key: op.key.to_vec(),
        ts: op.ts,
        kind: op.tag.kind(),
        value_type: op.tag.value_type(),
        value: op.value.to_vec(),
    }
}
