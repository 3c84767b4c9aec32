//! The vocabulary of the engine: what a record is made of, how records are ordered, and every id.
//!
//! A record is `(key, timestamp, sequence number, kind, value)`. Inside a source (a memtable or a
//! run of SSTables) records are ordered by `(key, timestamp)`, both ascending, and a source answers
//! with one record per `(key, timestamp)`. Which of two sources is newer is told by the sequence
//! numbers that they hold, never by timestamps: those belong to the user and arrive in any order.

use std::fmt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The user's moment: an opaque signed number. The engine orders it and never interprets it.
pub type Timestamp = i64;

/// The order in which operations were committed: 1 for the first one of a database, then rising by
/// one per operation. At most 2^56 - 1.
pub type SeqNo = u64;

/// Sequence numbers use 56 bits, so that a number and a [`Tag`] fit one word of a memtable.
pub(crate) const SEQ_NO_MAX: SeqNo = (1 << 56) - 1;

/// The longest key, in bytes. The empty key is valid.
pub const KEY_BYTES_MAX: usize = 64 * 1024;

/// The longest value, in bytes. The empty value is valid.
pub const VALUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What an operation says about `(key, timestamp)`.
///
/// The numbers are on disk: do not change these values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ValueKind {
    /// From this timestamp on the key has this value.
    Put = 0,
    /// From this timestamp on the key has no value: a version like any other.
    End = 1,
    /// This version never was: a floor falls through to the next older one.
    Erase = 2,
}

/// How the bytes of a value are to be read by those who ask for it. The engine stores it and never
/// interprets the bytes.
///
/// The numbers are on disk: do not change these values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ValueType {
    /// Any bytes.
    Octets = 0,
    /// JSON text, which a front end may send as it is.
    Json = 1,
    /// UTF-8 text.
    Text = 2,
}

/// Kind and type of a record in one byte: the kind in bits 0-3, the type in bits 4-7.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Tag(u8);

impl Tag {
    /// An [`ValueKind::End`].
    pub(crate) const END: Tag = Tag(ValueKind::End as u8);
    /// An [`ValueKind::Erase`].
    pub(crate) const ERASE: Tag = Tag(ValueKind::Erase as u8);

    /// A [`ValueKind::Put`] of a value of this type.
    pub(crate) const fn put(value_type: ValueType) -> Tag {
        Tag((value_type as u8) << 4)
    }

    /// Reads a tag from disk; `None` where no build has written such a byte.
    pub(crate) const fn from_byte(byte: u8) -> Option<Tag> {
        match byte {
            0x00 | 0x10 | 0x20 | 0x01 | 0x02 => Some(Tag(byte)),
            _ => None,
        }
    }

    /// The byte as it goes to disk.
    pub(crate) const fn to_byte(self) -> u8 {
        self.0
    }

    /// What the record says.
    pub(crate) const fn kind(self) -> ValueKind {
        match self.0 & 0x0f {
            0 => ValueKind::Put,
            1 => ValueKind::End,
            _ => ValueKind::Erase,
        }
    }

    /// How its value is to be read; [`ValueType::Octets`] for a tombstone.
    pub(crate) const fn value_type(self) -> ValueType {
        match self.0 >> 4 {
            1 => ValueType::Json,
            2 => ValueType::Text,
            _ => ValueType::Octets,
        }
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            ValueKind::Put => write!(f, "Put({:?})", self.value_type()),
            kind => write!(f, "{kind:?}"),
        }
    }
}

/// The hash of a key, for whoever asks whether a key is somewhere: computed once a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyHash(pub(crate) u64);

impl KeyHash {
    pub(crate) fn of(key: &[u8]) -> Self {
        KeyHash(xxh3_64(key))
    }
}

/// The first eight bytes of a key as a number: numbers compare as those bytes do. `suffix` is the key
/// without what all keys share that it is compared with, so that it tells most of them apart.
#[inline]
pub(crate) fn key_number(suffix: &[u8]) -> u64 {
    if let Some(whole) = suffix.first_chunk::<8>() {
        return u64::from_be_bytes(*whole);
    }
    let mut padded = [0; 8];
    padded[..suffix.len()].copy_from_slice(suffix);
    u64::from_be_bytes(padded)
}

/// How many bytes two keys share at their front.
pub(crate) fn shared_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// A value to be written: bytes and how to read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueRef<'a> {
    /// How the bytes are to be read.
    pub value_type: ValueType,
    /// The value itself.
    pub bytes: &'a [u8],
}

impl<'a> ValueRef<'a> {
    /// Any bytes.
    pub const fn octets(bytes: &'a [u8]) -> Self {
        ValueRef { value_type: ValueType::Octets, bytes }
    }

    /// JSON text. The caller vouches that it is JSON; the engine does not parse it.
    pub const fn json(text: &'a [u8]) -> Self {
        ValueRef { value_type: ValueType::Json, bytes: text }
    }

    /// Text, which a front end may send as UTF-8.
    pub const fn text(text: &'a str) -> Self {
        ValueRef { value_type: ValueType::Text, bytes: text.as_bytes() }
    }
}

impl<'a> From<&'a [u8]> for ValueRef<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        ValueRef::octets(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for ValueRef<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        ValueRef::octets(bytes)
    }
}

/// A version as a query answers it: the timestamp at which it was written, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The timestamp of the version that matched, which may lie before the one asked for.
    pub ts: Timestamp,
    /// How the bytes are to be read.
    pub value_type: ValueType,
    /// The value itself.
    pub value: Vec<u8>,
}

/// A version as a cursor shows it, still where the cursor holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// The timestamp of the version.
    pub ts: Timestamp,
    /// How the bytes are to be read.
    pub value_type: ValueType,
    /// The value itself.
    pub value: &'a [u8],
}

impl EntryRef<'_> {
    /// A number that tells this version from others of its key: it changes when the timestamp, the
    /// type or the value does. It says nothing of which is newer.
    pub fn etag(&self) -> u64 {
        let mut head = [self.value_type as u8; 9];
        head[1..].copy_from_slice(&self.ts.to_le_bytes());
        xxh3_64_with_seed(self.value, xxh3_64(&head))
    }
}

impl Entry {
    /// As [`EntryRef::etag`].
    pub fn etag(&self) -> u64 {
        EntryRef::from(self).etag()
    }
}

impl<'a> From<&'a Entry> for EntryRef<'a> {
    fn from(Entry { ts, value_type, value }: &'a Entry) -> Self {
        EntryRef { ts: *ts, value_type: *value_type, value }
    }
}

impl From<EntryRef<'_>> for Entry {
    fn from(EntryRef { ts, value_type, value }: EntryRef<'_>) -> Self {
        Entry { ts, value_type, value: value.to_vec() }
    }
}

/// The number in a file's name; given out in rising order and never used twice in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);

/// The greatest file id that is read in a name or a manifest. A database that has come so far is not gone
/// on with: what it gave out next could not be read.
pub(crate) const FILE_ID_MAX: u64 = (1 << 62) - 1;

impl FileId {
    /// `000123.sst`
    pub fn table_path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{:06}.sst", self.0))
    }

    /// `000123.wal`
    pub fn wal_path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{:06}.wal", self.0))
    }

    /// `MANIFEST-000123`
    pub fn manifest_path(self, dir: &Path) -> PathBuf {
        dir.join(format!("MANIFEST-{:06}", self.0))
    }
}

/// Drawn once, when a database is created, and bound into the checksums of all its files, so that a
/// file of another database is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DatabaseId(pub u64);

/// The place of a run among the runs of a version: the higher, the newer. A flush gives its run the
/// id of its first file; a compaction keeps the rank of its oldest input, whose tables are the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunRank(pub u64);

/// What a file of the data directory is, as its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `NNNNNN.sst`: an SSTable.
    Table(FileId),
    /// `NNNNNN.wal`: a segment of the write-ahead log.
    Wal(FileId),
    /// `MANIFEST-NNNNNN`: a log of version edits.
    Manifest(FileId),
    /// `CURRENT`: the name of the live manifest.
    Current,
    /// `LOCK`: held by the process that has the database open.
    Lock,
    /// `UNFINISHED`: a copy of a database was begun in the directory, and there is none before a
    /// `CURRENT` is.
    Unfinished,
    /// `REPAIRING`: a repair into the directory was begun and is not finished, also where a `CURRENT` is.
    Repairing,
    /// `*.tmp`: a file that was being made when the process ended.
    Temporary,
}

impl FileKind {
    /// Reads a file name; `None` for a name that the engine never gives.
    pub fn parse(name: &str) -> Option<FileKind> {
        // A second name of an id would make one file two.
        let id = |digits: &str| {
            let id: u64 = digits.parse().ok().filter(|&id| id <= FILE_ID_MAX)?;
            (format!("{id:06}") == digits).then_some(FileId(id))
        };
        match name {
            CURRENT_NAME => Some(FileKind::Current),
            LOCK_NAME => Some(FileKind::Lock),
            UNFINISHED_NAME => Some(FileKind::Unfinished),
            REPAIRING_NAME => Some(FileKind::Repairing),
            _ => {
                if let Some(digits) = name.strip_prefix("MANIFEST-") {
                    return id(digits).map(FileKind::Manifest);
                }
                match name.rsplit_once('.')? {
                    (digits, "sst") => id(digits).map(FileKind::Table),
                    (digits, "wal") => id(digits).map(FileKind::Wal),
                    (_, "tmp") => Some(FileKind::Temporary),
                    _ => None,
                }
            }
        }
    }
}

/// The file that names the live manifest.
pub(crate) const CURRENT_NAME: &str = "CURRENT";
/// A `CURRENT` in the making.
pub(crate) const CURRENT_TEMPORARY_NAME: &str = "CURRENT.tmp";
/// The file whose lock keeps a second process out.
pub(crate) const LOCK_NAME: &str = "LOCK";
/// The file that marks a directory in which a copy was begun.
pub(crate) const UNFINISHED_NAME: &str = "UNFINISHED";
/// The file that marks a directory in which a part of a damaged database is.
pub(crate) const REPAIRING_NAME: &str = "REPAIRING";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_survives_its_byte_and_unknown_bytes_are_refused() {
        let types = [ValueType::Octets, ValueType::Json, ValueType::Text];
        let known = types.map(Tag::put).into_iter().chain([Tag::END, Tag::ERASE]);
        for tag in known.clone() {
            assert_eq!(Tag::from_byte(tag.to_byte()), Some(tag));
        }
        assert_eq!((0..=u8::MAX).filter_map(Tag::from_byte).count(), known.count());
        for value_type in types {
            assert_eq!(Tag::put(value_type).value_type(), value_type);
        }
        assert_eq!(Tag::ERASE.kind(), ValueKind::Erase);
    }

    #[test]
    fn file_names_are_read_back_and_strangers_are_not_ours() {
        let dir = Path::new("");
        for (path, kind) in [
            (FileId(7).table_path(dir), FileKind::Table(FileId(7))),
            (FileId(1_234_567).wal_path(dir), FileKind::Wal(FileId(1_234_567))),
            (FileId(1).manifest_path(dir), FileKind::Manifest(FileId(1))),
        ] {
            assert_eq!(FileKind::parse(path.to_str().unwrap()), Some(kind));
        }
        assert_eq!(FileKind::parse("CURRENT.tmp"), Some(FileKind::Temporary));
        let strangers = ["notes.txt", "1.sst", "+00001.sst", "00000x.wal", "MANIFEST-", ".sst"];
        for stranger in strangers.into_iter().chain(["0000007.sst", "18446744073709551615.wal"]) {
            assert_eq!(FileKind::parse(stranger), None, "{stranger}");
        }
    }
}
