//! Log files made up of any bytes, with sound frames.

use super::{HEADER_BYTES, LogKind, RECORD_HEADER_BYTES, encode_header, salt_crc, u32_at, u64_at};
use crate::key::{DatabaseId, FileId};

/// Puts header, crcs and chain of a log file right, of its first `records` records but number `skipped`;
/// returns the id that the file says it has.
pub(crate) fn put_right(
    file: &mut [u8],
    kind: LogKind,
    records: usize,
    skipped: usize,
) -> Option<FileId> {
    if file.len() < HEADER_BYTES {
        return None;
    }
    let (database, file_id) = (DatabaseId(u64_at(file, 16)), FileId(u64_at(file, 24)));
    let header = encode_header(kind, database, file_id);
    file[..HEADER_BYTES].copy_from_slice(&header);
    let salt_crc = salt_crc(database, file_id);
    let (mut chain, mut start) = (u32_at(&header, HEADER_BYTES - 4), HEADER_BYTES);
    for record in 0..records {
        let Some(frame) = file.get_mut(start..).filter(|rest| rest.len() >= RECORD_HEADER_BYTES)
        else {
            break;
        };
        let len = RECORD_HEADER_BYTES + u32_at(frame, 16) as usize;
        let Some(frame) = frame.get_mut(..len) else { break };
        frame[4..8].copy_from_slice(&chain.to_le_bytes());
        chain = crc32c::crc32c_append(salt_crc, &frame[4..]);
        if record == skipped {
            chain ^= 1;
        }
        frame[..4].copy_from_slice(&chain.to_le_bytes());
        start += len;
    }
    Some(file_id)
}
