//! The write-ahead log: segments of [`record`](crate::record)s that hold committed operations until
//! SSTables do.
//!
//! ```text
//! BATCH payload: first seq u64 | count u32 | operations, as in a batch
//! SEAL payload:  last seq u64 | file id of the next segment u64, 0 if the log was closed here
//! ```
//! The batches of a group commit are one BATCH record, so a group is replayed whole or not at all.
//! Its operations have the sequence numbers `first seq`, `first seq + 1`, and so on, and those go
//! on without a gap from record to record and from segment to segment.
//!
//! **Rotation**, from segment `n` to a segment `m` with a higher file id: create `m`, whose header
//! is then durable; sync the directory; seal `n` with `m` as the next one, durably; only then write
//! to `m`. Where the seal fails, `n` goes on and `m` stays empty for ever. Hence a segment without
//! a SEAL is the last one that was ever written to, and a SEAL's next segment exists: a log that
//! lacks a segment at either end is noticed.
//!
//! **After a replay** a segment's file can't be written again. Who recovers makes everything
//! replayed durable elsewhere and moves `oldest` past the replayed segments *before* the first
//! record goes to a new one; an empty new segment may be there when a recovery itself is cut short.

mod follower;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use smallvec::SmallVec;

pub(crate) use self::follower::SegmentFollower;
use crate::batch::{Op, Ops};
use crate::coding::Decoder;
use crate::error::{Error, Malformed, Result};
use crate::fs::Fs;
use crate::key::{DatabaseId, FileId, SEQ_NO_MAX, SeqNo};
use crate::options::Durability;
use crate::record::{
    LogEnd, LogKind, LogRecord, LogSync, RECORD_HEADER_BYTES, RecordPlace, RecordReader,
    RecordType, RecordWriter,
};

/// The bytes of a BATCH payload before its operations.
const BATCH_HEADER_BYTES: usize = 12;

/// The parts of a record that are put together without an allocation.
const PARTS_INLINE: usize = 16;

/// Writes one segment. One thread appends; [`WalWriter::sync_handle`] is for others.
#[derive(Debug)]
pub(crate) struct WalWriter {
    log: RecordWriter,
    file_id: FileId,
    sealed: bool,
}

impl WalWriter {
    /// Creates an empty segment and makes its header durable. The caller syncs the directory before
    /// it relies on the segment.
    pub(crate) fn create(
        fs: &Arc<dyn Fs>,
        dir: &Path,
        database: DatabaseId,
        file_id: FileId,
        durability: Durability,
    ) -> Result<WalWriter> {
        let path = file_id.wal_path(dir);
        let zero_fill = durability == Durability::Sync;
        let log = RecordWriter::create(fs, &path, LogKind::Wal, database, file_id, zero_fill)?;
        Ok(WalWriter { log, file_id, sealed: false })
    }

    /// The id of this segment.
    pub(crate) fn file_id(&self) -> FileId {
        self.file_id
    }

    /// Appends the batches of a group commit, `ops` operations in all and at least one, as one
    /// record. Errors are those of [`RecordWriter::append`].
    pub(crate) fn append_group<'b>(
        &mut self,
        first_seq: SeqNo,
        ops: usize,
        encoded: impl Iterator<Item = &'b [u8]>,
    ) -> Result<()> {
        assert!(!self.sealed, "a group was appended to a sealed WAL segment");
        assert!(ops > 0, "an empty group was committed");
        let last_seq = first_seq + (ops as u64 - 1);
        assert!(first_seq > 0 && last_seq <= SEQ_NO_MAX, "sequence numbers out of their range");
        let count = u32::try_from(ops)
            .map_err(|_| Error::InvalidArgument(format!("a group of {ops} operations")))?;
        let mut header = [0; BATCH_HEADER_BYTES];
        header[..8].copy_from_slice(&first_seq.to_le_bytes());
        header[8..].copy_from_slice(&count.to_le_bytes());
        let mut payload = SmallVec::<[&[u8]; PARTS_INLINE]>::new();
        payload.push(&header);
        for batch in encoded {
            payload.push(batch);
        }
        self.log.append(RecordType::Batch, &payload)
    }

    /// Makes every group appended durable. Any error is final, see [`LogSync::sync`].
    pub(crate) fn sync(&self) -> Result<()> {
        self.log.sync()
    }

    /// For another thread to make durable what this writer appends.
    pub(crate) fn sync_handle(&self) -> Arc<LogSync> {
        self.log.sync_handle()
    }

    /// Ends the segment, durably, and makes all of it durable. `last_seq` is the last sequence
    /// number ever committed; `next` is the segment that goes on, `None` if the log is closed.
    ///
    /// After [`Error::DiskFull`] the segment is not sealed and groups may be appended to it.
    pub(crate) fn seal(&mut self, last_seq: SeqNo, next: Option<FileId>) -> Result<()> {
        assert!(!self.sealed, "a WAL segment was sealed twice");
        assert!(next.is_none_or(|next| next > self.file_id), "WAL segments must have rising ids");
        // So that the SEAL is a witness that every record before it was durable.
        self.log.sync()?;
        let next = next.map_or(0, |next| next.0);
        let payload = [last_seq.to_le_bytes(), next.to_le_bytes()];
        self.log.append(RecordType::Seal, &[&payload[0], &payload[1]])?;
        self.sealed = true;
        self.log.sync()
    }

    /// The length of the segment in bytes, framing included.
    pub(crate) fn bytes_appended(&self) -> u64 {
        self.log.offset()
    }

    /// Where the next group will stand.
    pub(crate) fn place(&self) -> RecordPlace {
        self.log.place()
    }

    /// The length of the file in bytes, with the zeros behind the segment.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.log.file_bytes()
    }
}

/// The payload of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload<'a> {
    /// `ops` holds exactly `count` well-formed operations.
    Batch {
        first_seq: SeqNo,
        count: u32,
        ops: &'a [u8],
    },
    Seal {
        last_seq: SeqNo,
        next: Option<FileId>,
    },
}

impl<'a> Payload<'a> {
    pub(crate) fn decode(record: &LogRecord<'a>) -> Result<Payload<'a>, Malformed> {
        let mut input = Decoder::new(record.payload);
        match record.record_type {
            RecordType::Batch => Payload::decode_batch(&mut input, record.payload),
            RecordType::Seal => {
                let last_seq = input.u64("a last sequence number")?;
                let next = input.u64("the id of the next segment")?;
                if !input.is_empty() {
                    return Err(input.malformed("the end of a SEAL"));
                }
                Ok(Payload::Seal { last_seq, next: (next != 0).then_some(FileId(next)) })
            }
            RecordType::Edit => Err(input.malformed("a record of a WAL; found a version edit")),
        }
    }

    fn decode_batch(input: &mut Decoder<'_>, payload: &'a [u8]) -> Result<Payload<'a>, Malformed> {
        let first_seq = input.u64("a first sequence number")?;
        let count = input.u32("a number of operations")?;
        let numbers_fit = first_seq <= SEQ_NO_MAX && first_seq + u64::from(count) <= SEQ_NO_MAX + 1;
        if first_seq == 0 || count == 0 || !numbers_fit {
            return Err(input.malformed("one or more sequence numbers within their range"));
        }
        let ops = &payload[BATCH_HEADER_BYTES..];
        let mut found = 0;
        for op in Ops::new(ops) {
            op.map_err(in_batch)?;
            found += 1;
        }
        if found != u64::from(count) {
            return Err(input.malformed("as many operations as the record counts"));
        }
        Ok(Payload::Batch { first_seq, count, ops })
    }
}

/// Moves a position among a batch's operations to one in its payload.
fn in_batch(mut malformed: Malformed) -> Malformed {
    malformed.pos += BATCH_HEADER_BYTES;
    malformed
}

/// What a replay has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// The last sequence number of the log; the one before `expected_first_seq` if it holds none.
    pub(crate) last_seq: SeqNo,
    /// Whether the log was closed in order.
    pub(crate) sealed_cleanly: bool,
    /// The segment and offset at which a record that was never durable is cut off.
    pub(crate) torn_at: Option<(FileId, u64)>,
}

/// Hands every operation of the log to `apply`, in the order of their commits, the operations of a
/// record only after all of them were found well-formed.
///
/// `segments` are the ids of the WAL files in `dir`, ascending. Those below `oldest` are not read.
/// `oldest` is the first segment that is needed, and `expected_first_seq` the first sequence number
/// that no SSTable holds.
///
/// # Errors
/// [`Error::Corruption`] if anything that was durable is damaged or missing; what `apply` returns.
/// Part of the log may have been applied by then.
pub(crate) fn replay(
    fs: &dyn Fs,
    dir: &Path,
    database: DatabaseId,
    segments: &[FileId],
    oldest: FileId,
    expected_first_seq: SeqNo,
    apply: &mut dyn FnMut(SeqNo, Op<'_>) -> Result<()>,
) -> Result<Replayed> {
    assert!(segments.is_sorted(), "WAL segments must be given in ascending order");
    assert!(expected_first_seq > 0, "sequence numbers start at 1");
    let mut replay = Replay { fs, dir, database, next_seq: expected_first_seq, apply };
    let mut current = oldest;
    let mut wanted_by = "the MANIFEST needs".to_owned();
    loop {
        let Ok(index) = segments.binary_search(&current) else {
            let what = format!("a WAL segment is missing: {wanted_by} it");
            return Err(Error::corruption(&current.wal_path(dir), 0, what));
        };
        let outcome = replay.segment(current)?;
        let next = if let SegmentEnd::Sealed { next } = outcome { next } else { None };
        for &later in &segments[index + 1..] {
            if next.is_some_and(|next| later >= next) {
                break;
            }
            replay.check_unused(later, current, outcome)?;
        }
        let Some(next) = next else { return Ok(replay.finish(current, outcome)) };
        wanted_by = format!("segment {} goes on in", current.0);
        current = next;
    }
}

/// How a segment ended.
#[derive(Clone, Copy, Debug)]
enum SegmentEnd {
    Sealed { next: Option<FileId> },
    Open(LogEnd),
}

struct Replay<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    database: DatabaseId,
    /// The sequence number that the next operation must have.
    next_seq: SeqNo,
    apply: &'a mut dyn FnMut(SeqNo, Op<'_>) -> Result<()>,
}

impl Replay<'_> {
    fn segment(&mut self, file_id: FileId) -> Result<SegmentEnd> {
        let path = file_id.wal_path(self.dir);
        let Some(mut segment) = SegmentReader::open(self.fs, &path, Some(self.database), file_id)?
        else {
            let what = "expected a WAL header, which was durable before the segment was used";
            return Err(Error::corruption(&path, 0, what));
        };
        segment.next_seq = Some(self.next_seq);
        let mut seal = None;
        while let Some(record) = segment.next(self.apply)? {
            if let WalContent::Seal { next, .. } = record.content {
                seal = Some(SegmentEnd::Sealed { next });
            }
        }
        self.next_seq = segment.next_seq.unwrap_or(self.next_seq);
        Ok(seal.unwrap_or_else(|| SegmentEnd::Open(segment.end())))
    }

    /// `later` was created after `last`, and not as its next segment: nothing was ever written to
    /// it.
    fn check_unused(&self, later: FileId, last: FileId, last_end: SegmentEnd) -> Result<()> {
        let later_path = later.wal_path(self.dir);
        let database = Some(self.database);
        let reader = RecordReader::open(self.fs, &later_path, LogKind::Wal, database, later)?;
        let Some(mut reader) = reader else { return Ok(()) };
        if reader.next()?.is_none() && !reader.end().torn {
            return Ok(());
        }
        Err(match last_end {
            SegmentEnd::Open(end) => {
                let what = format!("expected a SEAL, as the later segment {} was used", later.0);
                Error::corruption(&last.wal_path(self.dir), end.offset, what)
            }
            SegmentEnd::Sealed { .. } => {
                let what = format!("expected no records: segment {} does not go on here", last.0);
                Error::corruption(&later_path, 0, what)
            }
        })
    }

    fn finish(&self, last: FileId, end: SegmentEnd) -> Replayed {
        let (sealed_cleanly, torn_at) = match end {
            SegmentEnd::Sealed { .. } => (true, None),
            SegmentEnd::Open(end) => (false, end.torn.then_some((last, end.offset))),
        };
        Replayed { last_seq: self.next_seq - 1, sealed_cleanly, torn_at }
    }
}

/// Reads one segment, and checks what a segment alone can tell: framing, payloads, and that nothing
/// is missing between its records. How segments go on from each other is a matter of [`replay`].
#[derive(Debug)]
pub(crate) struct SegmentReader {
    reader: RecordReader,
    path: PathBuf,
    file_id: FileId,
    /// The sequence number that the next operation must have, where that is known.
    next_seq: Option<SeqNo>,
    sealed: bool,
}

/// A record as [`SegmentReader`] shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentRecord {
    /// Where it begins in the file.
    pub(crate) offset: u64,
    /// Its length in bytes, framing included.
    pub(crate) bytes: u64,
    pub(crate) content: WalContent,
}

/// What a record of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalContent {
    /// The operations of a group commit.
    Batch {
        /// The sequence number of the first one; the others go on from there.
        first_seq: SeqNo,
        /// How many there are.
        count: u32,
    },
    /// The segment ends here.
    Seal {
        /// The last sequence number of the log so far.
        last_seq: SeqNo,
        /// The segment that goes on; `None` where the log was closed.
        next: Option<FileId>,
    },
}

impl SegmentReader {
    /// Opens a segment; `None` if its creation was cut short. `database` may be `None` for tools
    /// that look at a file of any database.
    pub(crate) fn open(
        fs: &dyn Fs,
        path: &Path,
        database: Option<DatabaseId>,
        file_id: FileId,
    ) -> Result<Option<SegmentReader>> {
        let reader = RecordReader::open(fs, path, LogKind::Wal, database, file_id)?;
        Ok(reader.map(|reader| SegmentReader::of_records(reader, path, file_id)))
    }

    /// Reads the records of an opened file.
    pub(crate) fn of_records(reader: RecordReader, path: &Path, file_id: FileId) -> SegmentReader {
        SegmentReader { reader, path: path.to_owned(), file_id, next_seq: None, sealed: false }
    }

    /// Which database the segment says it belongs to.
    pub(crate) fn database(&self) -> DatabaseId {
        self.reader.database()
    }

    /// The next record; `None` at the end. Its operations go to `apply`, after all of them were
    /// found well-formed. Errors are those of [`RecordReader::next`], payloads that are malformed,
    /// records that don't follow from the ones before, and what `apply` returns.
    pub(crate) fn next(
        &mut self,
        apply: &mut dyn FnMut(SeqNo, Op<'_>) -> Result<()>,
    ) -> Result<Option<SegmentRecord>> {
        let path = &self.path;
        let Some(record) = self.reader.next()? else {
            let end = self.reader.end();
            if self.sealed && end.torn {
                return Err(Error::corruption(path, end.offset, "expected zeros after the SEAL"));
            }
            return Ok(None);
        };
        if self.sealed {
            let what = "expected nothing after the SEAL; found a record";
            return Err(Error::corruption(path, record.offset, what));
        }
        let payload =
            Payload::decode(&record).map_err(|m| m.in_file(path, record.payload_offset()))?;
        let content = match payload {
            Payload::Batch { first_seq, count, ops } => {
                self.next_seq = Some(expect_seq(path, &record, self.next_seq, first_seq)?);
                for (seq, op) in (first_seq..).zip(Ops::new(ops)) {
                    let malformed = |m| in_batch(m).in_file(path, record.payload_offset());
                    apply(seq, op.map_err(malformed)?)?;
                }
                self.next_seq = Some(first_seq + u64::from(count));
                WalContent::Batch { first_seq, count }
            }
            Payload::Seal { last_seq, next } => {
                let after = last_seq.saturating_add(1);
                self.next_seq = Some(expect_seq(path, &record, self.next_seq, after)?);
                if next.is_some_and(|next| next <= self.file_id) {
                    let what = "expected a SEAL whose next segment has a higher id";
                    return Err(Error::corruption(path, record.offset, what));
                }
                self.sealed = true;
                WalContent::Seal { last_seq, next }
            }
        };
        let bytes = (RECORD_HEADER_BYTES + record.payload.len()) as u64;
        Ok(Some(SegmentRecord { offset: record.offset, bytes, content }))
    }

    /// How the segment ends. Only after [`next`](Self::next) has returned `None`.
    pub(crate) fn end(&self) -> LogEnd {
        self.reader.end()
    }
}

/// `found`, the number that a record goes on with, if it is the one `expected`.
fn expect_seq(
    path: &Path,
    record: &LogRecord<'_>,
    expected: Option<SeqNo>,
    found: SeqNo,
) -> Result<SeqNo> {
    match expected {
        Some(expected) if expected != found => {
            let kind = record.record_type;
            let what =
                format!("{kind:?}: expected to go on with sequence number {expected}, not {found}");
            Err(Error::corruption(path, record.offset, what))
        }
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests;
