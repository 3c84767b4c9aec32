//! Looking into the files of a database, for tools: one SSTable ([`TableView`]), one segment of the
//! log ([`WalView`]), one manifest ([`read_manifest`]), or the whole of a directory
//! ([`verify_directory`], [`explain`]). And getting out of a damaged database what can be read, into a new
//! one ([`salvage`]).
//!
//! Nothing here opens the database, and nothing in it is written but the holder's name in a lock file. A
//! file of any database is taken, wherever it lies; damage is
//! [`Error::Corruption`](crate::Error::Corruption) with file and offset.
//!
//! ```
//! use kvtimedb_engine::fs::RealFs;
//! use kvtimedb_engine::inspect::{Depth, TableView, verify_directory};
//! use kvtimedb_engine::{Db, Options};
//!
//! let dir = tempfile::tempdir()?;
//! let db = Db::open(dir.path(), Options::default())?;
//! db.put(b"sensor/7", 100, b"19.0")?;
//! db.close()?;
//!
//! let mut tables = 0;
//! verify_directory(&RealFs, dir.path(), Depth::Records, &mut |file| {
//!     assert!(file.error.is_none(), "{file:?}");
//!     if file.path.extension().is_some_and(|name| name == "sst") {
//!         let table = TableView::open(&RealFs, &file.path).unwrap();
//!         tables += table.properties().records;
//!     }
//! })?;
//! assert_eq!(tables, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod salvage;
mod table;
#[cfg(test)]
mod tests;
mod verify;
mod wal;

use std::path::Path;

#[cfg(any(test, fuzzing))]
pub(crate) use self::check::check_table;
pub use self::salvage::{Lost, Returns, Salvaged, salvage};
pub use self::table::{
    Block, Chunk, FilterShape, IndexRow, Section, TableRecord, TableRecords, TableView,
};
pub use self::verify::{Checked, Counts, Depth, verify_directory, verify_file};
pub use self::wal::{WalEnd, WalOperation, WalRecord, WalView};
pub use crate::key::{DatabaseId, FileId, FileKind, RunRank};
pub use crate::table::{Damage, TableMeta, TableProperties};
pub use crate::version::{Manifest, ManifestState, VersionEdit};
pub use crate::wal::WalContent;

use crate::db::{Explanation, explain_closed};
use crate::error::Result;
use crate::fs::Fs;
use crate::key::Timestamp;
use crate::record::LogKind;
use crate::table::FORMAT_VERSION;
use crate::version::directory;

/// Reads a manifest, which has the name that the engine gave it.
pub fn read_manifest(fs: &dyn Fs, path: &Path) -> Result<Manifest> {
    Manifest::read(fs, path, None)
}

/// Reads the manifest that the `CURRENT` of a data directory names.
///
/// Errors: [`Error::Io`](crate::Error::Io) where there is no database, and
/// [`Error::Corruption`](crate::Error::Corruption) where there is one without its `CURRENT`.
pub fn read_current_manifest(fs: &dyn Fs, dir: &Path) -> Result<Manifest> {
    directory::read_manifest(fs, dir)
}

/// What a floor costs in a database that is not open: see [`Db::explain`](crate::Db::explain). What
/// lies in the log shows as memtables.
///
/// Errors: [`Error::Locked`](crate::Error::Locked) while the database is open anywhere; those of
/// [`read_current_manifest`].
pub fn explain(fs: &dyn Fs, dir: &Path, key: &[u8], at: Timestamp) -> Result<Explanation> {
    let files = directory::list(fs, dir)?;
    let _lock = verify::lock(fs, dir, &files, &mut |_| {})?;
    explain_closed(fs, dir, &files, &read_current_manifest(fs, dir)?, key, at)
}

/// The version that this build writes of each file format, with the format's name: `sstable`, `wal`,
/// `manifest`.
pub fn format_versions() -> [(&'static str, u32); 3] {
    [
        ("sstable", FORMAT_VERSION),
        ("wal", LogKind::Wal.format_version()),
        ("manifest", LogKind::Manifest.format_version()),
    ]
}

/// What a file is, as its name tells; `None` for a name that the engine never gives.
fn kind_of(path: &Path) -> Option<FileKind> {
    FileKind::parse(path.file_name()?.to_str()?)
}
