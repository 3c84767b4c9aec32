//! Reading a log file that may still be written to, a record at a time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::Frame;
use super::reader::LogRecord;
use super::{HEADER_BYTES, LogKind, RECORD_HEADER_BYTES, check_header, salt_crc, u32_at};
use crate::error::{IoContext, Result};
use crate::fs::{Fs, ReadableFile};
use crate::key::{DatabaseId, FileId};

/// What is read at once, in bytes, unless a record is longer.
const READ_BYTES: usize = 64 << 10;

/// The buffer is given back after a record longer than this, in bytes.
const BUFFER_KEEP_BYTES: usize = 256 << 10;

/// A place between two records of a log, from which a [`RecordFollower`] can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordPlace {
    /// As an offset in the file.
    pub(crate) offset: u64,
    /// The crc of the record before, or of the header.
    pub(crate) chain: u32,
}

/// Follows the records of a log file with `pread`, beside the one who appends. Holds the file and at
/// most one record, or [`READ_BYTES`].
///
/// It can't tell an end from damage: who calls [`next`](Self::next) knows whether there must be another
/// record, or leaves the judgement to a [`RecordReader`](super::RecordReader).
#[derive(Debug)]
pub(crate) struct RecordFollower {
    file: Arc<dyn ReadableFile>,
    path: PathBuf,
    salt_crc: u32,
    place: RecordPlace,
    /// Bytes of the file, and where they begin there. Behind the last record that had been published
    /// when they were read, they may be out of date.
    buffer: Vec<u8>,
    buffer_start: u64,
}

impl RecordFollower {
    /// Opens a log file and checks its header; `None` as [`RecordReader::open`](super::RecordReader::open).
    pub(crate) fn open(
        fs: &dyn Fs,
        path: &Path,
        kind: LogKind,
        database: DatabaseId,
        file_id: FileId,
    ) -> Result<Option<RecordFollower>> {
        let file = fs.open(path).at("open", path)?;
        let place = RecordPlace { offset: 0, chain: 0 };
        let salt_crc = salt_crc(database, file_id);
        let (path, buffer) = (path.to_owned(), Vec::new());
        let mut follower = RecordFollower { file, path, salt_crc, place, buffer, buffer_start: 0 };
        follower.read(READ_BYTES)?;
        let bytes = &follower.buffer;
        if check_header(&follower.path, bytes, kind, Some(database), file_id)?.is_none() {
            return Ok(None);
        }
        let chain = u32_at(bytes, HEADER_BYTES - 4);
        follower.place = RecordPlace { offset: HEADER_BYTES as u64, chain };
        Ok(Some(follower))
    }

    /// Goes on from a place between two records of this file.
    pub(crate) fn go_to(&mut self, place: RecordPlace) {
        self.place = place;
    }

    /// The end of the last record, as an offset in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.place.offset
    }

    /// The memory that it holds, in bytes.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Gives up what a large record has taken, of which nothing is needed any more.
    pub(crate) fn release(&mut self) {
        if self.buffer.capacity() > BUFFER_KEEP_BYTES {
            self.buffer = Vec::new();
        }
    }

    /// The length of the file, in bytes.
    pub(crate) fn file_bytes(&self) -> Result<u64> {
        self.file.len().at("read", &self.path)
    }

    /// The next record; `None` where no sound one stands. Errors:
    /// [`Error::Corruption`](crate::Error::Corruption) where one stands that does not follow from those
    /// before.
    pub(crate) fn next(&mut self) -> Result<Option<LogRecord<'_>>> {
        let mut found = self.sound_frame()?;
        if found.is_none() {
            // What is in the buffer may have been read before the record was written.
            self.buffer.clear();
            found = self.sound_frame()?;
        }
        let Some(frame) = found else { return Ok(None) };
        let start = (self.place.offset - self.buffer_start) as usize;
        let offset = self.place.offset;
        let record_type = frame.check_place(&self.path, offset, self.place.chain)?;
        self.place = RecordPlace { offset: self.buffer_start + frame.end as u64, chain: frame.crc };
        let payload = &self.buffer[start + RECORD_HEADER_BYTES..frame.end];
        Ok(Some(LogRecord { offset, record_type, payload }))
    }

    /// The payload of the record that [`next`](Self::next) has returned last.
    pub(crate) fn payload(&self, payload_bytes: usize) -> &[u8] {
        let end = (self.place.offset - self.buffer_start) as usize;
        &self.buffer[end - payload_bytes..end]
    }

    /// The frame of the next record in the buffer, if that is sound.
    fn sound_frame(&mut self) -> Result<Option<Frame>> {
        if !self.has(RECORD_HEADER_BYTES) {
            self.read(READ_BYTES)?;
        }
        if !self.has(RECORD_HEADER_BYTES) {
            return Ok(None);
        }
        let start = (self.place.offset - self.buffer_start) as usize;
        let record_bytes = RECORD_HEADER_BYTES + u32_at(&self.buffer[start..], 16) as usize;
        if !self.has(record_bytes) {
            self.read(record_bytes.max(READ_BYTES))?;
        }
        let start = (self.place.offset - self.buffer_start) as usize;
        Ok(Frame::sound_at(&self.buffer, start, self.salt_crc))
    }

    /// Whether so many bytes from the place on are in the buffer.
    fn has(&self, bytes: usize) -> bool {
        let buffer_end = self.buffer_start + self.buffer.len() as u64;
        self.place.offset >= self.buffer_start && self.place.offset + bytes as u64 <= buffer_end
    }

    /// Reads so many bytes from the place on, or what the file has of them.
    fn read(&mut self, bytes: usize) -> Result<()> {
        let offset = self.place.offset;
        let len = self.file_bytes()?.saturating_sub(offset).min(bytes as u64) as usize;
        self.release();
        self.buffer.clear();
        self.buffer_start = offset;
        // A damaged length may be any that the file has room for.
        let no_memory = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        self.buffer.try_reserve(len).map_err(no_memory).at("read", &self.path)?;
        self.buffer.resize(len, 0);
        self.file.read_exact_at(offset, &mut self.buffer).at("read", &self.path)
    }
}
