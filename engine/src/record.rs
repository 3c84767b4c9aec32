//! The framing that the WAL and the MANIFEST share: a log file of checksummed, chained records.
//!
//! ```text
//! header, 36 bytes:  0 magic [8] "KVTDBWAL" or "KVTDBMAN" | 8 format version u32 | 12 zero u32
//!                   16 database id u64 | 24 file id u64 | 32 crc32c u32 of bytes 0..32
//! record, 21 bytes:  0 crc32c u32 over (salt u32 ‖ bytes 4.. to the record's end)
//!                    4 previous u32: the crc of the record before, of the header for the first one
//!                    8 synced u64: everything before this offset of the file was durable when the
//!                      record was written | 16 payload length u32 | 20 type u8 | 21 payload
//! ```
//! All integers are little endian. The salt is a hash of database id and file id, so a record of
//! any other file is not a record here. `previous` makes a chain, so a record that is out of its
//! place is noticed. What follows the last record is zeros, or a record that a crash cut short.
//!
//! **Torn or damaged?** A bad record at `p` is a torn tail, which is cut off, unless it had been
//! durable before; then the file is damaged. A record after it whose `synced` lies beyond `p` is
//! the proof that it had been. Without such a record nothing after `p` was known to be durable:
//! after a power failure unsynced sectors survive independently of each other, so even a good
//! record may stand behind a hole, and is dropped with it. Recovery is a prefix.
//!
//! # Invariants
//! - `synced` is at most the offset of the record that says so; hence a copy of an older record of
//!   the same file inside a payload never proves anything about that payload.
//! - Past the writer's offset the file holds zeros only, except for what a failed append left
//!   there; that is overwritten with zeros, durably, before the next record is written.

mod follower;
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod reader;
mod writer;

pub(crate) use follower::{RecordFollower, RecordPlace};
pub(crate) use reader::{LogEnd, LogRecord, RecordReader};
pub(crate) use writer::{LogSync, RecordWriter};

use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::key::{DatabaseId, FileId};

/// The length of the file header, in bytes: where the first record stands.
pub(crate) const HEADER_BYTES: usize = 36;

/// The length of a record without its payload, in bytes.
pub(crate) const RECORD_HEADER_BYTES: usize = 21;

/// The longest log file, in bytes. A log is read whole, so this bounds an allocation too.
pub(crate) const LOG_BYTES_MAX: u64 = u32::MAX as u64;

/// Which log a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogKind {
    /// A segment of the write-ahead log.
    Wal,
    /// A log of version edits.
    Manifest,
}

impl LogKind {
    const fn magic(self) -> &'static [u8; 8] {
        match self {
            LogKind::Wal => b"KVTDBWAL",
            LogKind::Manifest => b"KVTDBMAN",
        }
    }

    /// The format that this build writes and reads; the payloads' included.
    pub(crate) const fn format_version(self) -> u32 {
        match self {
            LogKind::Wal => 1,
            LogKind::Manifest => 3,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            LogKind::Wal => "WAL",
            LogKind::Manifest => "MANIFEST",
        }
    }
}

/// What a record is; unique over both kinds of log. 0 is never used: zeros are not a record.
///
/// The numbers are on disk: do not change these values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RecordType {
    /// WAL: the operations of one group commit.
    Batch = 1,
    /// WAL: the end of a segment.
    Seal = 2,
    /// MANIFEST: a version edit.
    Edit = 16,
}

impl RecordType {
    const fn from_byte(byte: u8) -> Option<RecordType> {
        match byte {
            1 => Some(RecordType::Batch),
            2 => Some(RecordType::Seal),
            16 => Some(RecordType::Edit),
            _ => None,
        }
    }
}

fn u32_at(bytes: &[u8], pos: usize) -> u32 {
    let mut array = [0; 4];
    array.copy_from_slice(&bytes[pos..pos + 4]);
    u32::from_le_bytes(array)
}

fn u64_at(bytes: &[u8], pos: usize) -> u64 {
    let mut array = [0; 8];
    array.copy_from_slice(&bytes[pos..pos + 8]);
    u64::from_le_bytes(array)
}

fn encode_header(kind: LogKind, database: DatabaseId, file_id: FileId) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(kind.magic());
    header[8..12].copy_from_slice(&kind.format_version().to_le_bytes());
    header[16..24].copy_from_slice(&database.0.to_le_bytes());
    header[24..32].copy_from_slice(&file_id.0.to_le_bytes());
    let crc = crc32c::crc32c(&header[..32]);
    header[32..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The crc of the salt, from which the crc of every record of this file goes on.
fn salt_crc(database: DatabaseId, file_id: FileId) -> u32 {
    let mut ids = [0; 16];
    ids[..8].copy_from_slice(&database.0.to_le_bytes());
    ids[8..].copy_from_slice(&file_id.0.to_le_bytes());
    let salt = xxh3_64(&ids) as u32;
    crc32c::crc32c(&salt.to_le_bytes())
}

/// Checks the header and returns whose file it is; `None` for a WAL file that was never finished.
fn check_header(
    path: &Path,
    bytes: &[u8],
    kind: LogKind,
    database: Option<DatabaseId>,
    file_id: FileId,
) -> Result<Option<DatabaseId>> {
    let corruption = |offset, what: String| Err(Error::corruption(path, offset, what));
    let header = bytes.first_chunk::<HEADER_BYTES>();
    let sound = header.filter(|header| crc32c::crc32c(&header[..32]) == u32_at(&header[..], 32));
    let Some(header) = sound else {
        if kind == LogKind::Wal && is_unfinished(bytes, kind, database, file_id) {
            return Ok(None);
        }
        let what = format!("expected a sound {} header of {HEADER_BYTES} bytes", kind.name());
        return corruption(0, what);
    };
    if &header[..8] != kind.magic() {
        let expected = String::from_utf8_lossy(kind.magic());
        let found = String::from_utf8_lossy(&header[..8]);
        return corruption(0, format!("expected the magic {expected}; found {found}"));
    }
    // Magic, version and crc have their place in every version, so that this can be told apart.
    let found = u32_at(header, 8);
    if found != kind.format_version() {
        let file = path.to_owned();
        let (what, supported) = (kind.name(), kind.format_version());
        return Err(Error::UnsupportedFormat { file, what, found, supported });
    }
    if u32_at(header, 12) != 0 {
        return corruption(12, "expected zeros after the format version".to_owned());
    }
    let found = DatabaseId(u64_at(header, 16));
    if let Some(expected) = database.filter(|&expected| expected != found) {
        return corruption(
            16,
            format!("expected database id {:016x}; found {:016x}", expected.0, found.0),
        );
    }
    let found_file = u64_at(header, 24);
    if found_file != file_id.0 {
        return corruption(24, format!("expected file id {}; found {found_file}", file_id.0));
    }
    Ok(Some(found))
}

/// Whether a file without a sound header is what a crash leaves of a creation: parts of the header,
/// and no more than zeros elsewhere. Anything else once was more, or is not ours.
fn is_unfinished(
    bytes: &[u8],
    kind: LogKind,
    database: Option<DatabaseId>,
    file_id: FileId,
) -> bool {
    let expected = database.map(|database| encode_header(kind, database, file_id));
    let (header, rest) = bytes.split_at(bytes.len().min(HEADER_BYTES));
    let part_of_header = |(pos, &byte): (usize, &u8)| {
        byte == 0 || expected.is_some_and(|expected| byte == expected[pos])
    };
    header.iter().enumerate().all(part_of_header) && rest.iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
