//! A change of the version, as the manifest records it.
//!
//! ```text
//! edit: next file id varint | flushed seq varint | oldest WAL segment varint | horizon i64
//!       removed tables: count varint, file id varint each
//!       added tables: count varint, `table::TableMeta` each
//! ```
//! The first edit of a manifest is the whole state, as a change from nothing. Tables are removed
//! before others are added: one that is in both lists moves to another run, and its file stays.

use crate::coding::{Decoder, put_varint};
use crate::error::Malformed;
use crate::key::{FILE_ID_MAX, FileId, SEQ_NO_MAX, SeqNo, Timestamp};
use crate::table::TableMeta;

/// What an edit says. The four numbers are the state after it, not differences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionEdit {
    /// Every file id given out so far is below this.
    pub next_file: FileId,
    /// The tables hold every operation up to this sequence number.
    pub flushed_seq: SeqNo,
    /// The first segment of the log whose operations are not all in tables.
    pub oldest_wal: FileId,
    /// What was before this moment can't be read any more; the least timestamp where everything can.
    pub horizon: Timestamp,
    /// Tables that are live no more, or not as a part of their run.
    pub removed: Vec<FileId>,
    /// Tables that are live from now on, or as a part of another run.
    pub added: Vec<TableMeta>,
}

impl VersionEdit {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.next_file.0);
        put_varint(&mut out, self.flushed_seq);
        put_varint(&mut out, self.oldest_wal.0);
        out.extend_from_slice(&self.horizon.to_le_bytes());
        put_varint(&mut out, self.removed.len() as u64);
        for id in &self.removed {
            put_varint(&mut out, id.0);
        }
        put_varint(&mut out, self.added.len() as u64);
        for table in &self.added {
            table.encode(&mut out);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Decoder::new(bytes);
        let next_file = FileId(input.varint("the next file id")?);
        let flushed_seq = input.varint("the flushed sequence number")?;
        let oldest_wal = FileId(input.varint("the oldest WAL segment")?);
        let horizon = input.i64("the horizon")?;
        // Counts are not believed: the loops end with the bytes, and nothing is reserved ahead.
        let mut removed = Vec::new();
        for _ in 0..input.varint("a count of removed tables")? {
            removed.push(FileId(input.varint("a removed table")?));
        }
        let mut added = Vec::new();
        for _ in 0..input.varint("a count of added tables")? {
            added.push(TableMeta::decode(&mut input)?);
        }
        if !input.is_empty() {
            return Err(input.malformed("the end of the edit"));
        }
        // Numbers go on from here: they must not come to an end.
        if next_file.0 >= FILE_ID_MAX || flushed_seq >= SEQ_NO_MAX {
            return Err(input.malformed("file ids and sequence numbers within their range"));
        }
        Ok(VersionEdit { next_file, flushed_seq, oldest_wal, horizon, removed, added })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::RunRank;
    use crate::table::TableProperties;

    fn edit() -> VersionEdit {
        let properties = TableProperties {
            records: 3,
            keys: 2,
            ends: 1,
            erases: 0,
            raw_bytes: 99,
            first_key: b"a".to_vec(),
            first_ts: i64::MAX,
            last_key: b"b".to_vec(),
            last_ts: i64::MIN,
            min_ts: i64::MIN,
            max_ts: i64::MAX,
            bulk_min_ts: i64::MIN,
            horizon: -1,
            stale_min: 0,
            stale_worth: 1,
            min_seq: 4,
            max_seq: 6,
        };
        let id = FileId(7);
        let rank = RunRank(7);
        let table = TableMeta { id, rank, file_bytes: 4096, checksum: u64::MAX, properties };
        VersionEdit {
            next_file: FileId(300),
            flushed_seq: 6,
            oldest_wal: FileId(8),
            horizon: -1,
            removed: vec![FileId(1), FileId(5)],
            added: vec![table],
        }
    }

    #[test]
    fn an_edit_comes_back_and_no_part_of_one_does() {
        let bytes = edit().encode();
        assert_eq!(VersionEdit::decode(&bytes), Ok(edit()));
        for len in 0..bytes.len() {
            assert!(VersionEdit::decode(&bytes[..len]).is_err(), "{len}");
        }
    }

    /// A manifest that said `u64::MAX` here made the open that went on from there panic.
    #[test]
    fn numbers_that_have_no_next_one_are_malformed() {
        let forged = [
            VersionEdit { flushed_seq: u64::MAX, ..edit() },
            VersionEdit { flushed_seq: SEQ_NO_MAX + 1, ..edit() },
            VersionEdit { next_file: FileId(u64::MAX), ..edit() },
        ];
        for edit in forged {
            assert!(VersionEdit::decode(&edit.encode()).is_err(), "{edit:?}");
        }
    }

    #[test]
    fn a_forged_count_allocates_nothing() {
        let mut bytes = vec![9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0];
        put_varint(&mut bytes, u64::MAX);
        assert!(VersionEdit::decode(&bytes).is_err());
    }
}
