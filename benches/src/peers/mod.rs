//! Other databases under one interface, so that all are asked the same questions.
//!
//! A peer stores `(key, timestamp, value)` as well as its data model allows. [`kinds`] lists them; each
//! has a file of its own, which says what its settings are and what it can't promise.

mod check;
mod fjall;
mod kvtimedb;
mod lmdb;
mod machine;
mod redb;
mod report;
mod rocksdb;
mod sqlite;

use std::error::Error;
use std::path::Path;

use kvtimedb_engine::Timestamp;

pub use self::check::{check, missing_key};
pub use self::machine::{disk_bytes, machine, settle, version_of};
pub use self::report::{Better, Measure, Report};
use crate::{Telemetry, write_value};

/// What any of the databases may answer.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Memory for cached data, in bytes, for each that has a cache of its own: enough for all of it.
pub const CACHE_BYTES: usize = 512 << 20;

/// The size of a write buffer in memory, in bytes, for each that has one.
pub const BUFFER_BYTES: usize = 64 << 20;

/// The length of every key, in bytes. As it is the same for all, a key followed by a timestamp needs
/// no separator.
pub const KEY_BYTES: usize = 29;

/// One version to be written.
#[derive(Clone, Debug)]
pub struct Point {
    /// Of [`KEY_BYTES`] bytes.
    pub key: Vec<u8>,
    /// Since when the value holds, in microseconds.
    pub ts: Timestamp,
    /// JSON text.
    pub value: Vec<u8>,
}

impl Point {
    /// All points of `data`, in order of time.
    pub fn all(data: Telemetry) -> Vec<Point> {
        let mut text = String::new();
        let points = (0..data.points()).map(|i| {
            let (version, sensor) = (i / data.keys, i % data.keys);
            write_value(&mut text, sensor, version);
            let value = text.clone().into_bytes();
            Point { key: data.key(sensor), ts: data.ts(sensor, version), value }
        });
        points.collect()
    }
}

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// After it was handed to the operating system, or as close to that as the database can do.
    Buffered,
    /// After it is on disk.
    Durable,
}

/// A database that can be measured.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// What tables call it.
    pub name: &'static str,
    /// The packages whose versions matter.
    pub packages: &'static [&'static str],
    /// Its settings, and where its promises differ.
    pub settings: &'static str,
    /// Opens the database in a directory that exists, or creates it there.
    pub open: fn(&Path, Writes) -> Result<Box<dyn Peer>>,
}

/// All of them, ours first.
pub fn kinds() -> [Kind; 6] {
    [kvtimedb::KIND, rocksdb::KIND, fjall::KIND, lmdb::KIND, redb::KIND, sqlite::KIND]
}

/// An open database. Any thread may write.
pub trait Peer: Send + Sync {
    /// Writes all points in one batch or transaction.
    fn write(&self, points: &[Point]) -> Result<()>;

    /// Whoever asks it sees every write that returned before.
    fn reader(&self) -> Result<Box<dyn Reader + '_>>;

    /// Whoever asks it sees the database as it is now. `None` where that would save nothing.
    fn held_view(&self) -> Result<Option<Box<dyn Reader + '_>>> {
        Ok(None)
    }

    /// Brings everything into the form that is the smallest and the quickest to read.
    fn compact(self: Box<Self>) -> Result<Box<dyn Peer>>;

    /// Ends it in good order: the next open has nothing to recover.
    fn close(self: Box<Self>) -> Result<()>;
}

/// Answers questions.
pub trait Reader {
    /// The newest version of `key` at or before `at`, its value copied out.
    fn floor(&mut self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Vec<u8>)>>;

    /// Shows all versions of `key`, in the order in which the database has them.
    fn history(&mut self, key: &[u8], visit: &mut dyn FnMut(Timestamp, &[u8])) -> Result<()>;
}

/// The key of a version in a database of ordered keys: the user's key, then the timestamp, the later
/// the smaller, so that a floor is the first entry at or after its own key.
fn composite(key: &[u8], ts: Timestamp) -> [u8; KEY_BYTES + 8] {
    let mut out = [0; KEY_BYTES + 8];
    out[..KEY_BYTES].copy_from_slice(key);
    out[KEY_BYTES..].copy_from_slice(&(!(ts as u64 ^ SIGN)).to_be_bytes());
    out
}

/// The timestamp of a composite key, if that is one of `key`.
fn ts_if_of(key: &[u8], composite: &[u8]) -> Option<Timestamp> {
    let inverted = composite.strip_prefix(key)?.try_into().ok()?;
    Some((!u64::from_be_bytes(inverted) ^ SIGN) as Timestamp)
}

/// Puts negative timestamps before the others.
const SIGN: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composite_keys_fall_as_time_grows() {
        let key = [b'k'; KEY_BYTES];
        let times = [i64::MIN, -1, 0, 1, i64::MAX];
        let keys = times.map(|ts| composite(&key, ts));
        assert!(keys.is_sorted_by(|a, b| a > b));
        assert_eq!(keys.map(|k| ts_if_of(&key, &k)), times.map(Some));
        assert_eq!(ts_if_of(&[b'j'; KEY_BYTES], &keys[0]), None);
    }
}
