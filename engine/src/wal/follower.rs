//! Following a segment that may still be written to, an operation at a time: see
//! [`RecordFollower`].

use std::path::{Path, PathBuf};

use super::{BATCH_HEADER_BYTES, Payload, expect_seq};
use crate::batch::{Op, Ops};
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::key::{DatabaseId, FileId, SeqNo};
use crate::record::{LogKind, RecordFollower, RecordPlace, RecordReader};

/// Follows the operations of one segment. Checks framing and payloads, and that the sequence numbers go
/// on without a gap.
#[derive(Debug)]
pub(crate) struct SegmentFollower {
    log: RecordFollower,
    path: PathBuf,
    /// The sequence number of the next operation, where that is known.
    next_seq: Option<SeqNo>,
    /// What is left of the record that was read last.
    batch: Batch,
}

/// A BATCH record in the follower's buffer.
#[derive(Debug, Default)]
struct Batch {
    payload_bytes: usize,
    /// Where the payload begins in the file.
    payload_offset: u64,
    /// Where the next operation begins in the payload.
    pos: usize,
    ops_left: u32,
}

impl SegmentFollower {
    /// Opens a segment; `None` if its creation was cut short.
    pub(crate) fn open(
        fs: &dyn Fs,
        path: &Path,
        database: DatabaseId,
        file_id: FileId,
    ) -> Result<Option<SegmentFollower>> {
        let log = RecordFollower::open(fs, path, LogKind::Wal, database, file_id)?;
        let path = path.to_owned();
        Ok(log.map(|log| SegmentFollower { log, path, next_seq: None, batch: Batch::default() }))
    }

    /// Goes on from a place, behind which the operation `next_seq` stands.
    pub(crate) fn go_to(&mut self, place: RecordPlace, next_seq: SeqNo) {
        self.log.go_to(place);
        self.next_seq = Some(next_seq);
        self.batch = Batch::default();
    }

    /// The end of the last record, as an offset in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.log.offset()
    }

    /// The memory that it holds, in bytes.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.log.buffer_bytes()
    }

    /// Gives up the memory of a large record, if all of it was shown.
    pub(crate) fn release(&mut self) {
        if self.batch.ops_left == 0 {
            self.log.release();
        }
    }

    /// The length of the file, in bytes.
    pub(crate) fn file_bytes(&self) -> Result<u64> {
        self.log.file_bytes()
    }

    /// The sequence number of the next operation; `None` where no sound record of operations follows.
    pub(crate) fn peek(&mut self) -> Result<Option<SeqNo>> {
        if self.batch.ops_left > 0 {
            return Ok(self.next_seq);
        }
        self.batch = Batch::default();
        let Some(record) = self.log.next()? else { return Ok(None) };
        let payload =
            Payload::decode(&record).map_err(|m| m.in_file(&self.path, record.payload_offset()))?;
        match payload {
            Payload::Batch { first_seq, count, .. } => {
                expect_seq(&self.path, &record, self.next_seq, first_seq)?;
                self.next_seq = Some(first_seq);
                self.batch = Batch {
                    payload_bytes: record.payload.len(),
                    payload_offset: record.payload_offset(),
                    pos: BATCH_HEADER_BYTES,
                    ops_left: count,
                };
                Ok(Some(first_seq))
            }
            Payload::Seal { last_seq, .. } => {
                expect_seq(&self.path, &record, self.next_seq, last_seq.saturating_add(1))?;
                Ok(None)
            }
        }
    }

    /// The next operation. Only after [`peek`](Self::peek) has told its sequence number.
    pub(crate) fn next(&mut self) -> Result<Op<'_>> {
        let Batch { payload_bytes, payload_offset, pos, .. } = self.batch;
        let mut ops = Ops::new(&self.log.payload(payload_bytes)[pos..]);
        let op = ops.next().expect("a record of operations holds as many as were counted");
        let op = op.map_err(|m| m.in_file(&self.path, payload_offset + pos as u64))?;
        self.batch.pos = pos + ops.position();
        self.batch.ops_left -= 1;
        self.next_seq = self.next_seq.map(|seq| seq + 1);
        Ok(op)
    }

    /// Passes over operations until `seq` is the next one; `false` where the segment ends before.
    pub(crate) fn seek(&mut self, seq: SeqNo) -> Result<bool> {
        while let Some(next) = self.peek()? {
            if next >= seq {
                return Ok(next == seq);
            }
            let count = u64::from(self.batch.ops_left);
            if next + count <= seq {
                self.next_seq = Some(next + count);
                self.batch = Batch::default();
            } else {
                self.next()?;
            }
        }
        Ok(false)
    }

    /// Why no record stands where the follower is, though one was written: [`Error::Corruption`] where it
    /// had been durable, as far as the segment can tell. `Ok`: a power loss may have taken it.
    pub(crate) fn judge_end(
        &self,
        fs: &dyn Fs,
        database: DatabaseId,
        file_id: FileId,
    ) -> Result<()> {
        let reader = RecordReader::open(fs, &self.path, LogKind::Wal, Some(database), file_id)?;
        let Some(mut reader) = reader else { return Ok(()) };
        while reader.next()?.is_some() {}
        let (found, expected) = (reader.end().offset, self.offset());
        if found == expected {
            return Ok(());
        }
        let what = format!("expected a record; in another read the log goes on to offset {found}");
        Err(Error::corruption(&self.path, expected, what))
    }
}
