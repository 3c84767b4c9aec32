//! Reading a log file, and telling a torn tail from damage.

use std::path::{Path, PathBuf};

use super::frame::Frame;
use super::{
    HEADER_BYTES, LOG_BYTES_MAX, LogKind, RECORD_HEADER_BYTES, RecordType, check_header, salt_crc,
    u32_at, u64_at,
};
use crate::error::{Error, IoContext, Result};
use crate::fs::{Fs, read_all, read_around};
use crate::key::{DatabaseId, FileId};

/// A record, borrowed from its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogRecord<'a> {
    /// Where it begins in the file.
    pub(crate) offset: u64,
    pub(crate) record_type: RecordType,
    pub(crate) payload: &'a [u8],
}

impl LogRecord<'_> {
    /// Where its payload begins in the file.
    pub(crate) fn payload_offset(&self) -> u64 {
        self.offset + RECORD_HEADER_BYTES as u64
    }
}

/// How a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogEnd {
    /// The end of its last record, as an offset in the file.
    pub(crate) offset: u64,
    /// Whether something other than zeros follows: a record that was never durable, and is cut off.
    pub(crate) torn: bool,
}

/// Reads the records of a log file, front to back. The whole file is in memory.
#[derive(Debug)]
pub(crate) struct RecordReader {
    path: PathBuf,
    database: DatabaseId,
    bytes: Vec<u8>,
    /// The end of the last byte that is not zero.
    data_end: usize,
    salt_crc: u32,
    /// The crc of the last record, or of the header.
    chain: u32,
    /// The end of the last record.
    offset: usize,
    ended: bool,
}

impl RecordReader {
    /// Opens a log file and checks its header. `database` may be `None` for tools that look at a
    /// file of any database.
    ///
    /// `None`: a crash cut the creation of this WAL file short, and nothing was ever appended to
    /// it, because a header is durable before the first record is written. For a MANIFEST, which is
    /// named only after its creation, that is [`Error::Corruption`].
    pub(crate) fn open(
        fs: &dyn Fs,
        path: &Path,
        kind: LogKind,
        database: Option<DatabaseId>,
        file_id: FileId,
    ) -> Result<Option<RecordReader>> {
        let file = fs.open(path).at("open", path)?;
        let bytes = read_all(&*file, LOG_BYTES_MAX).at("read", path)?;
        RecordReader::of_bytes(bytes, path, kind, database, file_id)
    }

    /// Like [`open`](Self::open), of a file that was read.
    pub(crate) fn of_bytes(
        bytes: Vec<u8>,
        path: &Path,
        kind: LogKind,
        database: Option<DatabaseId>,
        file_id: FileId,
    ) -> Result<Option<RecordReader>> {
        let Some(database) = check_header(path, &bytes, kind, database, file_id)? else {
            return Ok(None);
        };
        let chain = u32_at(&bytes, HEADER_BYTES - 4);
        Ok(Some(Self::behind_header(path, database, file_id, bytes, chain)))
    }

    /// Opens a segment of the log whose header, or more, is damaged: what the disk can't read is zeros,
    /// and the header is not looked at.
    pub(crate) fn open_damaged(
        fs: &dyn Fs,
        path: &Path,
        database: DatabaseId,
        file_id: FileId,
    ) -> Result<RecordReader> {
        let file = fs.open(path).at("open", path)?;
        let (mut bytes, _) = read_around(&*file, LOG_BYTES_MAX).at("read", path)?;
        bytes.resize(bytes.len().max(HEADER_BYTES), 0);
        // No record follows zeros, so that the first one is met as one behind damage.
        Ok(Self::behind_header(path, database, file_id, bytes, 0))
    }

    fn behind_header(
        path: &Path,
        database: DatabaseId,
        file_id: FileId,
        bytes: Vec<u8>,
        chain: u32,
    ) -> RecordReader {
        RecordReader {
            path: path.to_owned(),
            database,
            data_end: bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1),
            salt_crc: salt_crc(database, file_id),
            chain,
            offset: HEADER_BYTES,
            ended: false,
            bytes,
        }
    }

    /// Which database the file says it belongs to.
    pub(crate) fn database(&self) -> DatabaseId {
        self.database
    }

    /// The next record; `None` at the end, about which [`end`](Self::end) tells.
    ///
    /// [`Error::Corruption`] where something that was durable is damaged, and again at every
    /// further call.
    pub(crate) fn next(&mut self) -> Result<Option<LogRecord<'_>>> {
        if self.ended {
            return Ok(None);
        }
        let start = self.offset;
        let Some(frame) = self.sound_frame(start) else {
            self.check_never_durable(start)?;
            self.ended = true;
            return Ok(None);
        };
        let record_type = frame.check_place(&self.path, start as u64, self.chain)?;
        self.chain = frame.crc;
        self.offset = frame.end;
        let payload = &self.bytes[start + RECORD_HEADER_BYTES..frame.end];
        Ok(Some(LogRecord { offset: start as u64, record_type, payload }))
    }

    /// The end of the last record; where damage begins, after an error.
    pub(crate) fn offset(&self) -> u64 {
        self.offset as u64
    }

    /// Goes on behind damage that [`next`](Self::next) has met, with the next sound record; `false`, at the
    /// end of what was written, where there is none. For salvage only: what a value says may look like a
    /// record there, to whoever could write the file's salt into it.
    pub(crate) fn skip_damage(&mut self) -> bool {
        let bad = self.offset;
        // Where only the payload is damaged, the length tells where the next record is.
        let next = Frame::at(&self.bytes, bad).map_or(bad, |frame| frame.end);
        let is_sound = |&at: &usize| {
            let frame = self.sound_frame(at);
            frame.is_some_and(|frame| RecordType::from_byte(frame.type_byte).is_some())
        };
        let start = [bad, next].into_iter().find(is_sound).or_else(|| {
            let crcs = RangeCrc::new(&self.bytes[bad..]);
            (bad + 1..self.data_end.saturating_sub(RECORD_HEADER_BYTES - 1)).find(|&start| {
                let known = RecordType::from_byte(self.bytes[start + RECORD_HEADER_BYTES - 1]);
                let frame = known.and_then(|_| Frame::at(&self.bytes, start));
                frame.is_some_and(|frame| {
                    let crc = crcs.continued(self.salt_crc, start + 4 - bad, frame.end - bad);
                    frame.crc == crc
                })
            })
        });
        let frame = start.and_then(|start| Frame::at(&self.bytes, start));
        self.offset = start.unwrap_or(self.data_end.max(bad));
        if let Some(frame) = &frame {
            self.chain = frame.previous;
        }
        frame.is_some()
    }

    /// How the log ends. Only after [`next`](Self::next) has returned `None`.
    pub(crate) fn end(&self) -> LogEnd {
        assert!(self.ended, "a log was asked for its end before it was read to its end");
        LogEnd { offset: self.offset as u64, torn: self.data_end > self.offset }
    }

    /// The frame at `start`, if its crc holds.
    fn sound_frame(&self, start: usize) -> Option<Frame> {
        Frame::sound_at(&self.bytes, start, self.salt_crc)
    }

    /// Fails if a record after `bad` says that everything up to some offset past `bad` was durable.
    fn check_never_durable(&self, bad: usize) -> Result<()> {
        let Some(last_start) = self.data_end.checked_sub(RECORD_HEADER_BYTES) else {
            return Ok(());
        };
        if bad >= last_start {
            return Ok(());
        }
        let crcs = RangeCrc::new(&self.bytes[bad..]);
        for start in bad + 1..=last_start {
            if RecordType::from_byte(self.bytes[start + 20]).is_none() {
                continue;
            }
            let synced = u64_at(&self.bytes, start + 8);
            if synced <= bad as u64 || synced > start as u64 {
                continue;
            }
            let Some(frame) = Frame::at(&self.bytes, start) else { continue };
            if frame.crc == crcs.continued(self.salt_crc, start + 4 - bad, frame.end - bad) {
                let what = format!(
                    "a bad record, which had been durable: the record at offset {start} says that \
                     all before offset {synced} was"
                );
                return Err(Error::corruption(&self.path, bad as u64, what));
            }
        }
        Ok(())
    }
}

/// Crcs of any ranges of a buffer in bounded time each. A look ahead may meet a candidate at every
/// few bytes, each of which claims to be as long as the rest of the file; to read them all would
/// take hours, and who writes the values chooses the bytes.
struct RangeCrc<'a> {
    bytes: &'a [u8],
    /// The crc of the bytes before each multiple of `STEP`.
    prefixes: Vec<u32>,
}

impl<'a> RangeCrc<'a> {
    const STEP: usize = 4096;

    fn new(bytes: &'a [u8]) -> Self {
        let mut prefixes = vec![0];
        let mut crc = 0;
        for chunk in bytes.chunks_exact(Self::STEP) {
            crc = crc32c::crc32c_append(crc, chunk);
            prefixes.push(crc);
        }
        RangeCrc { bytes, prefixes }
    }

    fn prefix(&self, end: usize) -> u32 {
        let step = end / Self::STEP;
        crc32c::crc32c_append(self.prefixes[step], &self.bytes[step * Self::STEP..end])
    }

    /// The crc of bytes whose crc is `crc`, followed by the range, which is not empty. A crc is
    /// linear: the bytes before the range are taken out of its prefix, and the others put in their
    /// place, in one step.
    fn continued(&self, crc: u32, start: usize, end: usize) -> u32 {
        crc32c::crc32c_combine(crc ^ self.prefix(start), self.prefix(end), end - start)
    }
}

#[cfg(test)]
mod tests {
    use super::RangeCrc;

    #[test]
    fn the_crc_of_a_range_is_that_of_its_bytes() {
        let bytes: Vec<u8> = (0..3 * RangeCrc::STEP + 5).map(|i| (i * i / 7) as u8).collect();
        let crcs = RangeCrc::new(&bytes);
        let edges = [0, 1, RangeCrc::STEP - 1, RangeCrc::STEP, 2 * RangeCrc::STEP + 3, bytes.len()];
        for start in edges {
            for end in edges.into_iter().filter(|&end| end > start) {
                let expected = crc32c::crc32c_append(0x1234_5678, &bytes[start..end]);
                assert_eq!(crcs.continued(0x1234_5678, start, end), expected, "{start}..{end}");
            }
        }
    }
}
