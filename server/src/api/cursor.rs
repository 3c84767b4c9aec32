//! Cursors: where a page ended, as clients get it and give it back.
//!
//! To clients a cursor is opaque. In it are what it belongs to, a moment, the last key or timestamp that
//! was shown, and a checksum; one that was cut short or made up is refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kvtimedb_engine::Timestamp;

use crate::error::{Error, Result};

/// Which pages a cursor goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum CursorKind {
    /// Of a history.
    History = 1,
    /// Of a scan.
    Scan = 2,
}

/// The end of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) kind: CursorKind,
    /// The last timestamp shown of a history; the moment of a scan.
    pub(crate) ts: Timestamp,
    /// The last key shown of a scan.
    pub(crate) key: Vec<u8>,
}

impl Cursor {
    /// The cursor as text of letters, digits, `-` and `_`.
    pub(crate) fn encode(&self) -> String {
        let mut bytes = vec![self.kind as u8];
        bytes.extend_from_slice(&self.ts.to_le_bytes());
        bytes.extend_from_slice(&self.key);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a cursor of this kind.
    pub(crate) fn decode(text: &str, kind: CursorKind) -> Result<Cursor> {
        parse(text, kind).ok_or_else(|| {
            Error::parameter("cursor", "it is not one that this call has given out: begin without")
        })
    }
}

fn parse(text: &str, kind: CursorKind) -> Option<Cursor> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (bytes, checksum) = bytes.split_last_chunk()?;
    if crc32c::crc32c(bytes) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let (&first, bytes) = bytes.split_first()?;
    let (ts, key) = bytes.split_first_chunk()?;
    let cursor = Cursor { kind, ts: Timestamp::from_le_bytes(*ts), key: key.to_vec() };
    (first == kind as u8).then_some(cursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_nothing_else_is_one() {
        let long = vec![b'k'; 70_000];
        for key in [&b""[..], b"k", b"\xff\x00", &long] {
            let cursor = Cursor { kind: CursorKind::Scan, ts: -7, key: key.to_vec() };
            let text = cursor.encode();
            assert_eq!(Cursor::decode(&text, CursorKind::Scan).unwrap(), cursor);
            assert!(Cursor::decode(&text, CursorKind::History).is_err());
            for damaged in [&text[1..], &text[..text.len() - 1], &format!("{text}A"), "", "=", "é"]
            {
                assert!(Cursor::decode(damaged, CursorKind::Scan).is_err(), "{damaged}");
            }
            let mut flipped = text.into_bytes();
            flipped[3] ^= 1;
            let flipped = String::from_utf8(flipped).unwrap();
            assert!(Cursor::decode(&flipped, CursorKind::Scan).is_err());
        }
    }
}
