//! What frames a record, before its payload is looked at.

use std::path::Path;

use super::{RECORD_HEADER_BYTES, RecordType, u32_at};
use crate::error::{Error, Result};

/// What stands at the start of a record.
pub(super) struct Frame {
    pub(super) crc: u32,
    pub(super) previous: u32,
    pub(super) type_byte: u8,
    /// Where the record ends.
    pub(super) end: usize,
}

impl Frame {
    /// The frame at `start`; nothing of it is checked but that it fits.
    pub(super) fn at(bytes: &[u8], start: usize) -> Option<Frame> {
        let header = bytes.get(start..)?.get(..RECORD_HEADER_BYTES)?;
        let end = (start + RECORD_HEADER_BYTES).checked_add(u32_at(header, 16) as usize)?;
        (end <= bytes.len()).then(|| Frame {
            crc: u32_at(header, 0),
            previous: u32_at(header, 4),
            type_byte: header[20],
            end,
        })
    }

    /// The frame at `start`, if its crc holds.
    pub(super) fn sound_at(bytes: &[u8], start: usize, salt_crc: u32) -> Option<Frame> {
        let frame = Frame::at(bytes, start)?;
        let crc = crc32c::crc32c_append(salt_crc, &bytes[start + 4..frame.end]);
        (frame.type_byte != 0 && frame.crc == crc).then_some(frame)
    }

    /// What a sound record is, if it is the one that follows the record with the crc `chain`.
    /// [`Error::Corruption`] at `offset` of the file otherwise.
    pub(super) fn check_place(&self, path: &Path, offset: u64, chain: u32) -> Result<RecordType> {
        let Some(record_type) = RecordType::from_byte(self.type_byte) else {
            let what = format!("expected a known record type; found {}", self.type_byte);
            return Err(Error::corruption(path, offset, what));
        };
        if self.previous != chain {
            let what = format!(
                "a record out of its place: expected one that follows the record with crc \
                 {chain:08x}; found one that follows {:08x}",
                self.previous
            );
            return Err(Error::corruption(path, offset, what));
        }
        Ok(record_type)
    }
}
