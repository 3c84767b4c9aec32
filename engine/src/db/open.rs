//! Opening a database: lock → manifest → tables → replay of the log → new log → new manifest → what
//! nobody needs is removed.
//!
//! Each step leaves a directory that the next open can start from: until `CURRENT` names the new
//! manifest, the old one and the whole log still stand.

use std::path::Path;
use std::sync::Arc;

use super::feed::{Feed, FeedSegment, kept_segments};
use super::signals::{Receivers, Signals};
use super::state::{Core, SuperVersion, Writer};
use crate::error::{Error, IoContext, Result};
use crate::flush::{Log, flush_log};
use crate::fs::FileLock;
use crate::key::{DatabaseId, FileId, FileKind, SeqNo, Timestamp, UNFINISHED_NAME};
use crate::memtable::Memtable;
use crate::metrics::Metrics;
use crate::options::{MEMTABLE_BYTES_MAX, MEMTABLE_BYTES_MIN, Options};
use crate::table::{TableContext, ValueCache};
use crate::version::{Home, Manifest, ManifestState, Marks, Table, Version, VersionSet, directory};
use crate::wal::WalWriter;

/// An open database, before its threads are started.
pub(crate) struct Opened {
    pub(crate) core: Arc<Core>,
    pub(crate) receivers: Receivers,
    pub(crate) lock: Box<dyn FileLock>,
}

/// Opens the database in `dir`, or creates one where there is none. One that a repair is not done with is
/// opened by the repair only.
pub(crate) fn open(dir: &Path, options: Options, is_repair: bool) -> Result<Opened> {
    let memtable_bytes = MEMTABLE_BYTES_MIN..=MEMTABLE_BYTES_MAX;
    if !memtable_bytes.contains(&options.memtable_bytes_max) {
        return Err(Error::InvalidArgument(format!(
            "a memtable of {} bytes: it has from {MEMTABLE_BYTES_MIN} to {MEMTABLE_BYTES_MAX}",
            options.memtable_bytes_max
        )));
    }
    let fs = Arc::clone(&options.fs);
    fs.create_dir_all(dir).at("create", dir)?;
    let lock = directory::lock(&*fs, dir)?;
    let files = directory::list(&*fs, dir)?;
    if !is_repair {
        directory::check_repaired(dir, &files)?;
    }
    let manifest = Manifest::read_current(&*fs, dir)?;
    let (home, recovered) = match manifest {
        None => {
            directory::check_no_data(&*fs, dir, &files)?;
            let next_file = directory::next_file(dir, &files, 1)?;
            let home = home(dir, &options, DatabaseId(fs.random()), next_file);
            (home, Recovered::none())
        }
        Some(manifest) => {
            let state = manifest.state()?;
            let next_file = directory::next_file(dir, &files, state.next_file)?;
            let home = home(dir, &options, manifest.database, next_file);
            let recovered = recover(&home, &options, &files, &state)?;
            (home, recovered)
        }
    };
    let (core, receivers) = begin(home, options, recovered)?;
    remove_obsolete(&core, &files);
    Ok(Opened { core, receivers, lock })
}

fn home(dir: &Path, options: &Options, database: DatabaseId, next_file: FileId) -> Home {
    let cache = Arc::new(ValueCache::new(options.cache_bytes_max));
    let tables = TableContext { cache, metrics: Arc::new(Metrics::default()) };
    Home::new(Arc::clone(&options.fs), dir.to_owned(), database, tables, next_file)
}

/// What stood in the directory: all of it is in tables now.
struct Recovered {
    tables: Vec<Arc<Table>>,
    last_seq: SeqNo,
    /// What is kept of the log for the change feed.
    kept: Vec<FeedSegment>,
    horizon: Timestamp,
}

impl Recovered {
    /// Of a database that is created.
    fn none() -> Self {
        Recovered { tables: Vec::new(), last_seq: 0, kept: Vec::new(), horizon: Timestamp::MIN }
    }
}

fn recover(
    home: &Home,
    options: &Options,
    files: &[FileKind],
    state: &ManifestState,
) -> Result<Recovered> {
    let mut tables: Vec<_> = home.open_tables(state)?;
    let log = Log { fs: &*home.fs, dir: &home.dir, files, state };
    remove_unnamed(home, &log)?;
    let (flushed, last_seq) = flush_log(home, options.memtable_bytes_max, &log)?;
    tables.extend(flushed);
    let kept = kept_segments(home, files, last_seq, options.feed_bytes_max)?;
    Ok(Recovered { tables, last_seq, kept, horizon: state.horizon })
}

/// Removes tables that no edit has named: on a full disk, what failed opens left may be what fills it.
///
/// Not those that the manifest gives up: the edit that does may be in the page cache alone, and a power
/// failure brings it back without the edit. And none before the log is known to hold what they do: the
/// edit that named them may be the one that is damaged.
fn remove_unnamed(home: &Home, log: &Log<'_>) -> Result<()> {
    let unnamed = log.files.iter().filter_map(|file| match file {
        FileKind::Table(id) if id.0 >= log.state.next_file => Some(*id),
        _ => None,
    });
    let unnamed: Vec<FileId> = unnamed.collect();
    if !unnamed.is_empty() {
        log.replay(home.database, &mut |_, _| Ok(()))?;
        home.remove_tables(unnamed);
    }
    Ok(())
}

/// Begins a new log and a new manifest over what was recovered.
fn begin(home: Home, options: Options, recovered: Recovered) -> Result<(Arc<Core>, Receivers)> {
    let Recovered { tables, last_seq, kept, horizon } = recovered;
    let version = Version::new(tables).map_err(|what| Error::corruption(&home.dir, 0, what))?;
    let wal_id = home.new_file_id();
    let Home { fs, dir, database, .. } = &home;
    let wal = WalWriter::create(fs, dir, *database, wal_id, options.durability);
    let wal = wal.and_then(|wal| home.sync_dir().map(|()| wal));
    let remove_wal = || drop(fs.remove(&wal_id.wal_path(dir)));
    let wal = wal.inspect_err(|_| remove_wal())?;
    let marks = Marks { flushed_seq: last_seq, oldest_wal: wal_id, horizon };
    let versions = VersionSet::begin(home.clone(), version, marks);
    let versions = versions.inspect_err(|error| {
        // After any other failure the new manifest, which names it, may be the live one.
        if error.heals() {
            remove_wal();
        }
    })?;
    let view = SuperVersion {
        active: Arc::new(Memtable::new(options.memtable_bytes_max)),
        immutables: Vec::new(),
        version: Arc::clone(versions.version()),
        horizon,
    };
    let (signals, receivers) = Signals::new(wal.sync_handle());
    let writer = Writer { wal, next_seq: last_seq + 1, crowd: 0 };
    let feed = Feed::new(kept, wal_id, last_seq, options.feed_bytes_max);
    let core = Core::new(home, options, view, versions, writer, signals, feed);
    Ok((Arc::new(core), receivers))
}

/// Removes the files that stood in the directory before and that the new manifest does not need.
/// One that can't be removed is tried again at the next open.
fn remove_obsolete(core: &Core, files: &[FileKind]) {
    let view = core.view.super_version();
    let dir = &core.home.dir;
    for file in files {
        let path = match file {
            FileKind::Table(id) if !view.version.tables().any(|t| t.meta.id == *id) => {
                id.table_path(dir)
            }
            FileKind::Wal(id) if !core.feed.holds(*id) => id.wal_path(dir),
            FileKind::Manifest(id) => id.manifest_path(dir),
            FileKind::Unfinished => dir.join(UNFINISHED_NAME),
            _ => continue,
        };
        let _ = core.home.fs.remove(&path);
    }
}
