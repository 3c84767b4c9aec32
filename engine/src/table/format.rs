//! The constants and fixed parts of an SSTable: block types, checksums, handles, properties, footer.

use std::path::Path;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::stale::NEVER;
use crate::coding::{Decoder, put_bytes, put_varint};
use crate::error::{Error, Malformed, Result};
use crate::iter::Record;
use crate::key::{DatabaseId, FileId, KEY_BYTES_MAX, RunRank, SeqNo, Tag, Timestamp, ValueKind};

/// The format that this build writes and reads.
pub(crate) const FORMAT_VERSION: u32 = 3;

/// The last eight bytes of an SSTable: its name, as a text that `file` and `hexdump` show.
const MAGIC: [u8; 8] = *b"KVTDBSST";

/// The footer's length in bytes.
pub(crate) const FOOTER_BYTES: usize = 104;

/// What of the footer stands before its checksum, in bytes.
const CHECKED_BYTES: usize = FOOTER_BYTES - CHECKSUM_BYTES - MAGIC.len();

/// The checksum that ends every block, in bytes.
pub(crate) const CHECKSUM_BYTES: usize = 8;

/// What a block is; checked after reading, so that a data block is never taken for an index.
///
/// The numbers are on disk: do not change these values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum BlockType {
    Data = 1,
    Filter = 2,
    Index = 3,
    Properties = 4,
    LateFilter = 5,
    Dictionary = 6,
}

/// Where a block lies in its file; the length covers type and checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHandle {
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

/// Which file bytes belong to; bound into every checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableIdentity {
    pub(crate) database: DatabaseId,
    pub(crate) file: FileId,
}

impl TableIdentity {
    /// The checksum of a part of this file that starts at `offset`.
    pub(crate) fn checksum(self, offset: u64, bytes: &[u8]) -> u64 {
        let mut place = [0; 24];
        place[..8].copy_from_slice(&self.database.0.to_le_bytes());
        place[8..16].copy_from_slice(&self.file.0.to_le_bytes());
        place[16..].copy_from_slice(&offset.to_le_bytes());
        xxh3_64_with_seed(bytes, xxh3_64(&place))
    }

    /// [`verify_block`](Self::verify_block) of the block at `handle` of `data`, the whole file's bytes.
    pub(crate) fn verify<'a>(
        self,
        data: &'a [u8],
        path: &Path,
        handle: BlockHandle,
        expected: BlockType,
    ) -> Result<&'a [u8]> {
        let BlockHandle { offset, len } = handle;
        let block = slice_of(data, handle).ok_or_else(|| {
            let what = format!("expected a block of {len} bytes, found the end of the file");
            Error::corruption(path, offset, what)
        })?;
        self.verify_block(block, path, offset, expected)
    }

    /// Checks type and checksum of a block that lies at `offset`, and returns its contents: what lies
    /// between type and checksum.
    pub(crate) fn verify_block<'a>(
        self,
        block: &'a [u8],
        path: &Path,
        offset: u64,
        expected: BlockType,
    ) -> Result<&'a [u8]> {
        let corrupt = |what: String| Error::corruption(path, offset, what);
        let (body, stored) = block
            .split_last_chunk::<CHECKSUM_BYTES>()
            .filter(|(body, _)| !body.is_empty())
            .ok_or_else(|| {
                corrupt(format!("expected a block, its handle says {} bytes", block.len()))
            })?;
        let (stored, found) = (u64::from_le_bytes(*stored), self.checksum(offset, body));
        if stored != found {
            return Err(corrupt(format!(
                "expected a {expected:?} block with checksum {stored:016x}, found {found:016x}"
            )));
        }
        if body[0] != expected as u8 {
            return Err(corrupt(format!("expected a {expected:?} block, found type {}", body[0])));
        }
        Ok(&body[1..])
    }
}

/// The bytes of a block, where the file is long enough.
pub(crate) fn slice_of(data: &[u8], handle: BlockHandle) -> Option<&[u8]> {
    let start = usize::try_from(handle.offset).ok()?;
    data.get(start..start.checked_add(handle.len as usize)?)
}

/// What a table holds: the fences that let reads pass it by, and the counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableProperties {
    /// Records, tombstones included.
    pub records: u64,
    /// Distinct keys.
    pub keys: u64,
    /// Records that are ends.
    pub ends: u64,
    /// Records that are erases.
    pub erases: u64,
    /// Keys, timestamps and values before encoding, in bytes.
    pub raw_bytes: u64,
    /// The least record's key.
    pub first_key: Vec<u8>,
    /// The least record's timestamp.
    pub first_ts: Timestamp,
    /// The greatest record's key.
    pub last_key: Vec<u8>,
    /// The greatest record's timestamp.
    pub last_ts: Timestamp,
    /// The least timestamp of all records.
    pub min_ts: Timestamp,
    /// The greatest timestamp of all records.
    pub max_ts: Timestamp,
    /// The late filter passes every key that has records before this. The least timestamp of all
    /// records, where there is no such filter.
    pub bulk_min_ts: Timestamp,
    /// The horizon under which the table was written: what is missing here because of a horizon is so
    /// because of this one or of a lower one. The least timestamp: of none.
    pub horizon: Timestamp,
    /// No horizon above that one and below this makes a record garbage. The greatest timestamp: none does.
    pub stale_min: Timestamp,
    /// From this horizon on enough records are garbage that a merge is worth its cost.
    pub stale_worth: Timestamp,
    /// No record has a lower sequence number; it tells with the next one which source is newer.
    pub min_seq: SeqNo,
    /// No record has a higher sequence number.
    pub max_seq: SeqNo,
}

impl TableProperties {
    /// Of a table that begins at this place, and of which no record is counted yet. Sequence numbers are
    /// told at its end.
    pub(crate) fn beginning_at(key: &[u8], ts: Timestamp) -> Self {
        TableProperties {
            records: 0,
            keys: 1,
            ends: 0,
            erases: 0,
            raw_bytes: 0,
            first_key: key.to_vec(),
            first_ts: ts,
            last_key: key.to_vec(),
            last_ts: ts,
            min_ts: ts,
            max_ts: ts,
            bulk_min_ts: ts,
            horizon: Timestamp::MIN,
            stale_min: NEVER,
            stale_worth: NEVER,
            min_seq: SeqNo::MAX,
            max_seq: 0,
        }
    }

    /// Of a table that holds this record only.
    pub(crate) fn of(record: &Record<'_>) -> Self {
        let mut properties = TableProperties::beginning_at(record.key, record.ts);
        properties.add(record);
        properties
    }

    /// Whether this horizon makes any record garbage that was none when the table was written.
    pub(crate) fn is_stale_under(&self, horizon: Timestamp) -> bool {
        self.stale_min <= horizon && self.stale_min != NEVER
    }

    /// Whether it does so of enough records that a merge is worth its cost.
    pub(crate) fn is_worth_pruning_under(&self, horizon: Timestamp) -> bool {
        self.stale_worth <= horizon && self.stale_worth != NEVER
    }

    /// Whether a record at this place lies behind all that were taken.
    pub(crate) fn precede(&self, key: &[u8], ts: Timestamp) -> bool {
        (self.last_key.as_slice(), self.last_ts) < (key, ts)
    }

    /// Takes the next record; tells whether its key is a new one.
    pub(crate) fn add(&mut self, record: &Record<'_>) -> bool {
        self.raw_bytes += record.value.len() as u64;
        self.add_rows(record.key, &[record.ts], &[record.tag])
    }

    /// Takes the next records, which are of one key, but not the length of their values; tells whether
    /// the key is a new one.
    pub(crate) fn add_rows(&mut self, key: &[u8], ts: &[Timestamp], tags: &[Tag]) -> bool {
        let new_key = self.last_key != key;
        if new_key {
            self.keys += 1;
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
        }
        for &ts in ts {
            self.last_ts = ts;
            self.min_ts = self.min_ts.min(ts);
            self.max_ts = self.max_ts.max(ts);
        }
        self.bulk_min_ts = self.min_ts;
        for tag in tags {
            match tag.kind() {
                ValueKind::Put => {}
                ValueKind::End => self.ends += 1,
                ValueKind::Erase => self.erases += 1,
            }
        }
        self.records += ts.len() as u64;
        self.raw_bytes += (ts.len() * (key.len() + size_of::<Timestamp>())) as u64;
        new_key
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for count in [self.records, self.keys, self.ends, self.erases, self.raw_bytes] {
            put_varint(out, count);
        }
        put_bytes(out, &self.first_key);
        put_bytes(out, &self.last_key);
        let fences = [self.first_ts, self.last_ts, self.min_ts, self.max_ts, self.bulk_min_ts];
        let stale = [self.horizon, self.stale_min, self.stale_worth];
        for ts in fences.into_iter().chain(stale) {
            out.extend_from_slice(&ts.to_le_bytes());
        }
        put_varint(out, self.min_seq);
        put_varint(out, self.max_seq);
    }

    pub(crate) fn decode(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let records = input.varint("a count of records")?;
        let keys = input.varint("a count of keys")?;
        let ends = input.varint("a count of ends")?;
        let erases = input.varint("a count of erases")?;
        let raw_bytes = input.varint("a count of bytes")?;
        let first_key = input.bytes(KEY_BYTES_MAX, "the first key")?.to_vec();
        let last_key = input.bytes(KEY_BYTES_MAX, "the last key")?.to_vec();
        let first_ts = input.i64("the first timestamp")?;
        let last_ts = input.i64("the last timestamp")?;
        let min_ts = input.i64("the least timestamp")?;
        let max_ts = input.i64("the greatest timestamp")?;
        let bulk_min_ts = input.i64("the least timestamp of the bulk")?;
        let horizon = input.i64("a horizon")?;
        let stale_min = input.i64("the least horizon of garbage")?;
        let stale_worth = input.i64("the horizon of much garbage")?;
        let min_seq = input.varint("the least sequence number")?;
        let max_seq = input.varint("the greatest sequence number")?;
        let ordered = (&first_key, first_ts) <= (&last_key, last_ts)
            && (min_ts..=max_ts).contains(&bulk_min_ts)
            && horizon <= stale_min
            && stale_min <= stale_worth
            && min_seq <= max_seq;
        if !ordered {
            return Err(input.malformed("ordered ranges of keys, timestamps and sequence numbers"));
        }
        Ok(TableProperties {
            records,
            keys,
            ends,
            erases,
            raw_bytes,
            first_key,
            first_ts,
            last_key,
            last_ts,
            min_ts,
            max_ts,
            bulk_min_ts,
            horizon,
            stale_min,
            stale_worth,
            min_seq,
            max_seq,
        })
    }
}

/// A live table as the manifest describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMeta {
    /// The number in the file's name.
    pub id: FileId,
    /// The run that the table is a part of.
    pub rank: RunRank,
    /// The file's length.
    pub file_bytes: u64,
    /// The footer's checksum.
    pub checksum: u64,
    /// What it holds.
    pub properties: TableProperties,
}

impl TableMeta {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.id.0);
        put_varint(out, self.rank.0);
        put_varint(out, self.file_bytes);
        out.extend_from_slice(&self.checksum.to_le_bytes());
        self.properties.encode(out);
    }

    pub(crate) fn decode(input: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(TableMeta {
            id: FileId(input.varint("a file id")?),
            rank: RunRank(input.varint("a run's rank")?),
            file_bytes: input.varint("a file's length")?,
            checksum: input.u64("a footer's checksum")?,
            properties: TableProperties::decode(input)?,
        })
    }
}

/// The fixed end of a table.
///
/// ```text
/// five handles, offset u64, len u32 each: filter | late filter | dictionary | index | properties
///                                         (a block that the table lacks has length 0)
/// database id u64 | file id u64 | file length u64 | format version u32
/// checksum u64 over the 88 bytes before it | magic [8]
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) filter: BlockHandle,
    pub(crate) late_filter: BlockHandle,
    pub(crate) dictionary: BlockHandle,
    pub(crate) index: BlockHandle,
    pub(crate) properties: BlockHandle,
    pub(crate) identity: TableIdentity,
    pub(crate) file_bytes: u64,
}

impl Footer {
    /// The footer's bytes, and its checksum, which the manifest keeps.
    pub(crate) fn encode(&self) -> (Vec<u8>, u64) {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        let Footer { filter, late_filter, dictionary, index, properties, .. } = self;
        for handle in [filter, late_filter, dictionary, index, properties] {
            out.extend_from_slice(&handle.offset.to_le_bytes());
            out.extend_from_slice(&handle.len.to_le_bytes());
        }
        out.extend_from_slice(&self.identity.database.0.to_le_bytes());
        out.extend_from_slice(&self.identity.file.0.to_le_bytes());
        out.extend_from_slice(&self.file_bytes.to_le_bytes());
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        let checksum = self.identity.checksum(self.file_bytes - FOOTER_BYTES as u64, &out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&MAGIC);
        assert_eq!(out.len(), FOOTER_BYTES);
        (out, checksum)
    }

    /// Reads and checks the footer of `data`, a whole file's bytes. The identity is what the file
    /// says of itself: the caller compares it with the one that it expects.
    pub(crate) fn decode(data: &[u8], path: &Path) -> Result<(Footer, u64)> {
        let offset = data.len().saturating_sub(FOOTER_BYTES) as u64;
        let corrupt = |what: String| Error::corruption(path, offset, what);
        let (_, bytes) = data.split_last_chunk::<FOOTER_BYTES>().ok_or_else(|| {
            corrupt(format!("expected an SSTable, found a file of {} bytes", data.len()))
        })?;
        if bytes[FOOTER_BYTES - MAGIC.len()..] != MAGIC {
            return Err(corrupt(
                "expected an SSTable's magic number at the end of the file".into(),
            ));
        }
        let malformed = |m: Malformed| m.in_file(path, offset);
        let mut input = Decoder::new(bytes);
        let mut handle = || -> Result<BlockHandle, Malformed> {
            Ok(BlockHandle { offset: input.u64("an offset")?, len: input.u32("a length")? })
        };
        let filter = handle().map_err(malformed)?;
        let late_filter = handle().map_err(malformed)?;
        let dictionary = handle().map_err(malformed)?;
        let index = handle().map_err(malformed)?;
        let properties = handle().map_err(malformed)?;
        let database = DatabaseId(input.u64("a database id").map_err(malformed)?);
        let file = FileId(input.u64("a file id").map_err(malformed)?);
        let identity = TableIdentity { database, file };
        let file_bytes = input.u64("a file length").map_err(malformed)?;
        let version = input.u32("a format version").map_err(malformed)?;
        let stored = input.u64("a checksum").map_err(malformed)?;
        let found = identity.checksum(offset, &bytes[..CHECKED_BYTES]);
        let unsupported = || Error::UnsupportedFormat {
            file: path.to_owned(),
            what: "SSTable",
            found: version,
            supported: FORMAT_VERSION,
        };
        // An older footer has its version at the same distance from the end, and other fields before.
        if stored != found && (1..FORMAT_VERSION).contains(&version) {
            return Err(unsupported());
        }
        if stored != found {
            return Err(corrupt(format!(
                "expected a footer with checksum {stored:016x}, found {found:016x}"
            )));
        }
        if version != FORMAT_VERSION {
            return Err(unsupported());
        }
        if file_bytes != data.len() as u64 {
            let what = format!("expected a file of {file_bytes} bytes, found {}", data.len());
            return Err(corrupt(what));
        }
        let footer =
            Footer { filter, late_filter, dictionary, index, properties, identity, file_bytes };
        Ok((footer, stored))
    }
}
