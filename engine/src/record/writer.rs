//! Writing a log file.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::{
    HEADER_BYTES, LOG_BYTES_MAX, LogKind, RECORD_HEADER_BYTES, RecordPlace, RecordType,
    encode_header, salt_crc, u32_at,
};
use crate::error::{Error, IoContext, Result};
use crate::fs::{Fs, WritableFile};
use crate::key::{DatabaseId, FileId};

/// How far ahead a zero-filled log is filled, in bytes: one change of the file's length, which a
/// sync must journal, per so many bytes of records.
pub(super) const ZERO_FILL_BYTES: u64 = 1 << 20;

/// The encoding buffer is given back after a record longer than this, in bytes.
const BUFFER_KEEP_BYTES: usize = 1 << 20;

/// Makes what a [`RecordWriter`] has appended durable. Any number of threads may share it, beside
/// the one that appends; syncs happen one at a time.
#[derive(Debug)]
pub(crate) struct LogSync {
    file: Arc<dyn WritableFile>,
    path: PathBuf,
    /// The end of the last whole record. Stored by the writer, after its bytes are in the file.
    appended: AtomicU64,
    /// Everything before this offset is durable. Stored under `one_at_a_time`, only to rise.
    synced: AtomicU64,
    /// An operating system tells of a failed sync once: of two concurrent syncs the other one would
    /// succeed and take for durable what was lost.
    one_at_a_time: Mutex<()>,
    /// The first failed sync. After it nothing is known of the file, so it is never tried again.
    failed: OnceLock<Arc<Error>>,
}

impl LogSync {
    /// Makes everything appended before the call durable. Any error is final: from then on every
    /// sync and every append of this log is [`Error::Poisoned`].
    pub(crate) fn sync(&self) -> Result<()> {
        let _one_at_a_time = self.one_at_a_time.lock();
        self.check_usable()?;
        if self.synced() == self.appended() {
            return Ok(());
        }
        self.sync_file()
    }

    /// The end of the last record, as an offset in the file.
    pub(crate) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    /// Everything before this offset of the file is durable.
    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// Syncs also where no record was appended, for what else was written.
    fn sync_always(&self) -> Result<()> {
        let _one_at_a_time = self.one_at_a_time.lock();
        self.check_usable()?;
        self.sync_file()
    }

    fn sync_file(&self) -> Result<()> {
        // Read before the sync: a record appended meanwhile may have missed it.
        let appended = self.appended();
        match self.file.sync() {
            Ok(()) => {
                self.synced.store(appended, Ordering::Release);
                Ok(())
            }
            // Not `DiskFull`, whatever the cause: that would promise that nothing was written.
            Err(source) => {
                let path = self.path.clone();
                let error = Error::Io { op: "sync", path, source: Arc::new(source) };
                self.failed.get_or_init(|| Arc::new(error.clone()));
                Err(error)
            }
        }
    }

    fn check_usable(&self) -> Result<()> {
        match self.failed.get() {
            Some(cause) => Err(Error::Poisoned { cause: cause.clone() }),
            None => Ok(()),
        }
    }
}

/// Appends records to a log file that it has created. One thread appends; [`LogSync`] is for
/// others.
#[derive(Debug)]
pub(crate) struct RecordWriter {
    fs: Arc<dyn Fs>,
    sync: Arc<LogSync>,
    salt_crc: u32,
    /// The crc of the last record, or of the header.
    chain: u32,
    /// The end of the last record.
    offset: u64,
    /// Up to here the file is known to reach, with zeros past `offset`; `None` without zero
    /// filling.
    filled: Option<u64>,
    /// Up to here a failed append may have left bytes; nothing is left if it is not past `offset`.
    leftover_end: u64,
    buffer: Vec<u8>,
}

impl RecordWriter {
    /// Creates a log file, which must not exist, and makes its header durable. The caller syncs the
    /// directory before it relies on the file. With `zero_fill` the file grows ahead of its
    /// records, in steps of [`ZERO_FILL_BYTES`], which makes a sync per record cheaper.
    pub(crate) fn create(
        fs: &Arc<dyn Fs>,
        path: &Path,
        kind: LogKind,
        database: DatabaseId,
        file_id: FileId,
        zero_fill: bool,
    ) -> Result<RecordWriter> {
        let mut start = encode_header(kind, database, file_id).to_vec();
        let chain = u32_at(&start, HEADER_BYTES - 4);
        if zero_fill {
            start.resize(ZERO_FILL_BYTES as usize, 0);
        }
        let file = fs.create(path).at("create", path)?;
        file.write_at(0, &start).at("write", path)?;
        file.sync().at("sync", path)?;
        let offset = HEADER_BYTES as u64;
        let sync = LogSync {
            file,
            path: path.to_owned(),
            appended: AtomicU64::new(offset),
            synced: AtomicU64::new(offset),
            one_at_a_time: Mutex::new(()),
            failed: OnceLock::new(),
        };
        Ok(RecordWriter {
            fs: fs.clone(),
            sync: Arc::new(sync),
            salt_crc: salt_crc(database, file_id),
            chain,
            offset,
            filled: zero_fill.then_some(start.len() as u64),
            leftover_end: 0,
            buffer: Vec::new(),
        })
    }

    /// Appends one record, whose payload is these parts in a row, with a single write. It is
    /// durable after the next [`sync`](Self::sync).
    ///
    /// After an error the record is not in the log, and appending may go on: the next record takes
    /// its place. An error other than [`Error::DiskFull`] and [`Error::InvalidArgument`] means that
    /// the file can't be trusted, and the caller stops writing.
    pub(crate) fn append(&mut self, record_type: RecordType, payload: &[&[u8]]) -> Result<()> {
        self.sync.check_usable()?;
        let payload_bytes: usize = payload.iter().map(|part| part.len()).sum();
        let end = self.offset + (RECORD_HEADER_BYTES + payload_bytes) as u64;
        if end > LOG_BYTES_MAX {
            let path = self.sync.path.display();
            let what = format!("{path} would be {end} bytes long: the limit is {LOG_BYTES_MAX}");
            return Err(Error::InvalidArgument(what));
        }
        self.scrub_leftover()?;
        self.fill_to(end)?;
        let crc = self.encode(record_type, payload, payload_bytes);
        let written = self.sync.file.write_at(self.offset, &self.buffer);
        if self.buffer.capacity() > BUFFER_KEEP_BYTES {
            self.buffer = Vec::new();
        }
        if written.is_err() {
            self.leftover_end = end;
        }
        written.at("write", &self.sync.path)?;
        self.chain = crc;
        self.offset = end;
        self.sync.appended.store(end, Ordering::Release);
        Ok(())
    }

    /// Makes everything appended durable; see [`LogSync::sync`].
    pub(crate) fn sync(&self) -> Result<()> {
        self.sync.sync()
    }

    /// For another thread to make durable what this writer appends.
    pub(crate) fn sync_handle(&self) -> Arc<LogSync> {
        self.sync.clone()
    }

    /// The end of the last record: the length of the log in bytes, header included.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Where the next record will stand.
    pub(crate) fn place(&self) -> RecordPlace {
        RecordPlace { offset: self.offset, chain: self.chain }
    }

    /// The length of the file in bytes, as far as it is known to reach.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.filled.unwrap_or(0).max(self.offset)
    }

    /// Puts the record into the buffer and returns its crc.
    fn encode(&mut self, record_type: RecordType, payload: &[&[u8]], payload_bytes: usize) -> u32 {
        let buffer = &mut self.buffer;
        buffer.clear();
        buffer.reserve(RECORD_HEADER_BYTES + payload_bytes);
        buffer.extend_from_slice(&[0; 4]);
        buffer.extend_from_slice(&self.chain.to_le_bytes());
        buffer.extend_from_slice(&self.sync.synced().to_le_bytes());
        buffer.extend_from_slice(&(payload_bytes as u32).to_le_bytes());
        buffer.push(record_type as u8);
        for part in payload {
            buffer.extend_from_slice(part);
        }
        let crc = crc32c::crc32c_append(self.salt_crc, &buffer[4..]);
        buffer[..4].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// Fills the file with zeros until it reaches `end`, and up to a step beyond.
    fn fill_to(&mut self, end: u64) -> Result<()> {
        let Some(filled) = self.filled.filter(|&filled| filled < end) else { return Ok(()) };
        let target = end.next_multiple_of(ZERO_FILL_BYTES).min(LOG_BYTES_MAX);
        self.write_zeros(filled, target)?;
        self.filled = Some(target);
        Ok(())
    }

    /// Overwrites with zeros what a failed append may have left. It is made durable, because a
    /// piece of the old record that survives a power failure must not be met by the chain of the
    /// new ones. Only the part that is in the file is overwritten: on a full disk that needs no
    /// space.
    fn scrub_leftover(&mut self) -> Result<()> {
        if self.leftover_end <= self.offset {
            return Ok(());
        }
        let path = &self.sync.path;
        let file_bytes = self.fs.open(path).and_then(|file| file.len()).at("open", path)?;
        self.write_zeros(self.offset, self.leftover_end.min(file_bytes))?;
        self.sync.sync_always()?;
        self.leftover_end = 0;
        Ok(())
    }

    fn write_zeros(&self, from: u64, to: u64) -> Result<()> {
        let zeros = vec![0; to.saturating_sub(from).min(ZERO_FILL_BYTES) as usize];
        let mut at = from;
        while at < to {
            let len = (to - at).min(ZERO_FILL_BYTES);
            self.sync.file.write_at(at, &zeros[..len as usize]).at("write", &self.sync.path)?;
            at += len;
        }
        Ok(())
    }
}
