//! Other databases under one interface, so that all are asked the same questions.
//!
//! A peer stores `(key, timestamp, value)` as well as its data model allows. [`kinds`] lists them; each
//! has a file of its own, which says what its settings are and what it can't promise.

mod composite;
mod fjall;
mod kvtimedb;
mod lmdb;
mod redb;
mod rocksdb;
mod sqlite;

use std::path::Path;

use kvtimedb_engine::Timestamp;

use self::composite::Composite;
pub use self::composite::KeyForm;
pub use crate::Result;
use crate::data::{Data, DataSet, Part};
use crate::figures::Who;
use crate::machine::version_of;

/// Memory for cached data, in bytes, for each that has a cache of its own: enough for all of it.
pub const CACHE_BYTES: usize = 512 << 20;

/// The size of a write buffer in memory, in bytes, for each that has one.
pub const BUFFER_BYTES: usize = 64 << 20;

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// After it was handed to the operating system, or as close to that as the database can do.
    Buffered,
    /// After it is on disk.
    Durable,
}

/// How a database is opened.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// When a write is acknowledged.
    pub writes: Writes,
    /// How keys of versions are made, where there are such.
    pub form: KeyForm,
    /// The size of a write buffer, in bytes, where there is one.
    pub buffer_bytes: usize,
    /// What is stored.
    pub set: DataSet,
}

impl Setup {
    /// The usual one for `data`.
    pub fn of(data: &Data, writes: Writes) -> Setup {
        let form = KeyForm::of(&data.points);
        Setup { writes, form, buffer_bytes: BUFFER_BYTES, set: data.set }
    }
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
    /// Whether it writes sorted runs and merges them behind the reader's back.
    pub merges: bool,
    /// The extension of its log's files, where it keeps them after a clean close: they are as long for
    /// few points as for many, and no part of the bytes a point.
    pub kept_log: &'static str,
    /// Opens the database in a directory that exists, or creates it there.
    pub open: fn(&Path, Setup) -> Result<Box<dyn Peer>>,
}

impl Kind {
    /// What a report says of it.
    pub fn who(&self) -> Who {
        let versions: Vec<String> =
            self.packages.iter().map(|name| format!("{name} {}", version_of(name))).collect();
        Who {
            name: self.name.to_owned(),
            versions: versions.join(", "),
            settings: self.settings.to_owned(),
        }
    }
}

/// All of them, ours first.
pub fn kinds() -> [Kind; 6] {
    [kvtimedb::KIND, rocksdb::KIND, fjall::KIND, lmdb::KIND, redb::KIND, sqlite::KIND]
}

/// An open database. Any thread may write, and any may make a reader for itself.
pub trait Peer: Send + Sync {
    /// Writes all points in one batch or transaction.
    fn write(&self, points: &Part<'_>) -> Result<()>;

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

    /// Shows the versions of `key` from `from` to `to`, both inclusive, in the order in which the
    /// database has them; values are lent where it can do that.
    fn history(
        &mut self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        visit: &mut dyn FnMut(Timestamp, &[u8]),
    ) -> Result<()>;
}
