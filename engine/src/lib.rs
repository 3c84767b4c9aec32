//! KVTimeDB's storage engine: `(key, timestamp, value)` in, and the answer to one question out: what
//! was the value of this key at that moment?
//!
//! A log-structured merge tree. A write goes to a log and to a sorted buffer in memory; full buffers
//! become immutable sorted files, which background threads merge. [`Db`] is the whole of it:
//!
//! ```
//! use kvtimedb_engine::{Db, Options, ValueRef, WriteBatch};
//!
//! let dir = tempfile::tempdir()?;
//! let db = Db::open(dir.path(), Options::default())?;
//!
//! // Timestamps are any i64, in any order; the same (key, timestamp) written again replaces.
//! let mut batch = WriteBatch::new();
//! batch.put(b"sensor/7", 200, ValueRef::json(b"21.5"))?;
//! batch.put(b"sensor/7", 100, ValueRef::json(b"19.0"))?;
//! db.write(batch)?;
//!
//! let entry = db.floor(b"sensor/7", 150)?.expect("a value at or before 150");
//! assert_eq!((entry.ts, entry.value.as_slice()), (100, b"19.0".as_slice()));
//! assert_eq!(db.floor(b"sensor/7", 99)?, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What was acknowledged survives a crash, as durably as [`Durability`] says. Damage to a file is an
//! [`Error::Corruption`], never a wrong answer. Every file operation goes through [`fs::Fs`], of which
//! [`fs::SimFs`] is one that fails on demand. [`inspect`] looks into the files of a database, and
//! [`backup`] copies them.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("sizes and offsets of files are taken for 64-bit numbers");

pub mod backup;
mod batch;
mod codec;
mod coding;
mod compaction;
mod db;
mod error;
mod flush;
pub mod fs;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod inspect;
mod iter;
mod key;
mod lookup;
mod memtable;
mod metrics;
mod options;
mod record;
mod sync;
mod table;
mod version;
mod wal;

pub use batch::{BATCH_BYTES_MAX, BATCH_OPS_MAX, BytesColumn, Columns, ValueTypes, WriteBatch};
pub use db::{
    Aggregate, AsOf, Change, Changed, Changes, Checkpoint, Committed, Db, Diff, ExplainedOutcome,
    ExplainedPlace, ExplainedSource, ExplainedStep, Explanation, Export, Exported, History, Scan,
    ScrubReport, Snapshot, Timeline, Window,
};
pub use error::{Error, Result};
pub use iter::{KeyRange, Order};
pub use key::{
    Entry, EntryRef, KEY_BYTES_MAX, SeqNo, Timestamp, VALUE_BYTES_MAX, ValueKind, ValueRef,
    ValueType,
};
pub use lookup::{Condition, Expect, Lookup, Mode};
pub use metrics::{Counter, Metrics};
pub use options::{Background, BackgroundStep, Durability, Options, WAL_SYNC_PERIOD_MS};
pub use table::Damage;
