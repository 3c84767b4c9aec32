//! Copies of a database on a disk: backups, made from outside of a database that may be open, and
//! restored. A backup is a data directory as any other; the copy that an open database makes of itself
//! is [`Db::checkpoint`](crate::Db::checkpoint).
//!
//! # How files are copied that are written to meanwhile
//! The directory's lock is not taken: whoever has the database open holds it. A *pass* goes
//! 1. `CURRENT` and the manifest: the live tables, and the segment at which the log begins;
//! 2. the tables that the target does not have yet;
//! 3. the log from that segment on, which is replayed as an open would, into tables of the target's own.
//!
//! What is needed and not there, or does not verify, ends the pass, and another one begins. While it
//! goes on,
//! - *a flush* names its table in the manifest, and then removes its segment. Either the segment is
//!   missing, or manifest and log are as whole as before the flush;
//! - *a merge* removes its inputs after the manifest names its outputs: likewise;
//! - *a freeze* seals a segment and goes on in the next one. If the first was read before the seal and
//!   the second is found used, the replay refuses it; a next segment that was not listed is missing;
//! - *an append* may be seen by half, and is cut off as a torn record. It was not acknowledged when the
//!   pass began, and neither was anything behind it. If a later one is seen whole, the replay refuses
//!   it, or, under `buffered`, cuts it off as well: what is left is a prefix either way;
//! - *a manifest that is begun anew* removes the one that `CURRENT` named: it is missing;
//! - *an end of the process and a recovery* leave everything in its place until `CURRENT` names the new
//!   manifest, and remove it before anything is written to the new log.
//!
//! So a pass without an error has read a prefix of the commit order, which contains all that was
//! acknowledged when it began. Tables are immutable, and what one pass has copied the next one need not:
//! the second has only what was flushed and merged during the first, and so on.
//!
//! # When the target changes
//! Tables and manifest are durable, and the tables were read back, before `CURRENT` names the manifest;
//! what only the old one needs is removed after that is durable. So a target that is cut short is the
//! backup that it was before, or, the first time, marked as unfinished.
//!
//! No log is copied as a log. Two states lie in the directory for a while, and the segments of the newer
//! one would be found behind the end of the older one's log, which is damage.

mod target;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use self::target::Target;
use crate::error::{Error, IoContext, Result};
use crate::flush::{Log, flush_log};
use crate::fs::Fs;
use crate::key::{DatabaseId, FileId, SeqNo};
use crate::table::{TableContext, TableMeta, TableReader};
use crate::version::{ManifestState, Table, Version, directory};

/// The memory for the operations of the log, and so about the size of the tables that are made of it.
const MEMTABLE_BYTES: usize = 64 << 20;

/// A database that changes faster than this many passes can copy it is given up.
const PASSES_MAX: u32 = 20;

/// What a copy holds, and what it took to make it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// It holds every operation up to this one, and no other.
    pub seq: SeqNo,
    /// Its SSTables.
    pub tables: u64,
    /// The length of all of them, in bytes.
    pub table_bytes: u64,
    /// Those that were copied, because they were not there or were damaged.
    pub tables_copied: u64,
    /// Of these, those in whose place there was another file, or a damaged one.
    pub tables_replaced: u64,
    /// Those that were made of the log.
    pub tables_of_log: u64,
    /// Operations that were in the log and in no SSTable.
    pub log_operations: u64,
    /// What was written of SSTables in all passes, in bytes, without those that were made of the log.
    pub bytes_copied: u64,
    /// How often it was begun; more than once where the database changed meanwhile.
    pub passes: u32,
}

/// What became of a table in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedTable {
    /// Its file in the target.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// What was done.
    pub outcome: Outcome,
}

/// What was done about a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there.
    Copied,
    /// What was there was not the right one, byte for byte.
    Replaced,
    /// It was there, byte for byte.
    AlreadyThere,
}

/// Brings the backup in `to` up to the state of the database in `from`, which may be open, or makes one
/// in an empty directory. `told` hears of each table when it is there.
///
/// Every table is read whole on both sides: what the source can't read back as it was written is an
/// error, and what the backup holds otherwise is replaced. What was copied is read back and verified
/// before the backup names it.
///
/// Errors: [`Error::Corruption`] if a file of the source is damaged, [`Error::InvalidArgument`] if `to`
/// holds anything but an older state of the same database, or was opened as a database since it was made,
/// [`Error::Locked`] while another backup goes there, [`Error::DiskFull`], [`Error::Io`]. After any of them
/// the backup is the one that it was, and the next one need not copy again what this one has.
///
/// ```
/// use kvtimedb_engine::fs::{Fs, RealFs};
/// use kvtimedb_engine::{Db, Options, backup};
/// # use std::sync::Arc;
///
/// # let dir = tempfile::tempdir()?;
/// # let (data, copy, restored) = (dir.path().join("data"), dir.path().join("b"), dir.path().join("r"));
/// let fs: Arc<dyn Fs> = Arc::new(RealFs);
/// let db = Db::open(&data, Options::default())?;
/// db.put(b"sensor/7", 100, b"19.0")?;
/// assert_eq!(backup::backup(&fs, &data, &copy, &mut |_| {})?.seq, 1);
///
/// backup::restore(&fs, &copy, &restored, &mut |_| {})?;
/// let restored = Db::open(&restored, Options::default())?;
/// assert_eq!(restored.floor(b"sensor/7", 150)?, db.floor(b"sensor/7", 150)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn backup(
    fs: &Arc<dyn Fs>,
    from: &Path,
    to: &Path,
    told: &mut dyn FnMut(CopiedTable),
) -> Result<Copied> {
    copy(fs, from, to, Target::update, told)
}

/// Makes a database in `to`, a new or empty directory, of the backup in `from`: everything is verified,
/// copied, and read back. As [`backup`] otherwise.
pub fn restore(
    fs: &Arc<dyn Fs>,
    from: &Path,
    to: &Path,
    told: &mut dyn FnMut(CopiedTable),
) -> Result<Copied> {
    copy(fs, from, to, Target::create, told)
}

fn copy(
    fs: &Arc<dyn Fs>,
    from: &Path,
    to: &Path,
    target: fn(&Arc<dyn Fs>, &Path, DatabaseId) -> Result<Target>,
    told: &mut dyn FnMut(CopiedTable),
) -> Result<Copied> {
    if from == to {
        let what = format!("{}: a database is not copied onto itself", to.display());
        return Err(Error::InvalidArgument(what));
    }
    let mut passes = Passes { from, begun: 1, last: None };
    // Before anything is made: where there is no database, nothing is.
    directory::check_repaired(from, &directory::list(&**fs, from)?)?;
    let database = loop {
        match directory::read_manifest(&**fs, from) {
            Ok(manifest) => break manifest.database,
            Err(error) => passes.next(error)?,
        }
    };
    let target = target(fs, to, database)?;
    let mut run = Copier { fs: &**fs, from, target, there: BTreeMap::new(), written: 0, told };
    loop {
        match run.pass() {
            Ok(copied) => return Ok(Copied { passes: passes.begun, ..copied }),
            Err(error) => passes.next(error)?,
        }
    }
}

/// The passes so far.
struct Passes<'a> {
    from: &'a Path,
    begun: u32,
    /// What ended the last one.
    last: Option<String>,
}

impl Passes<'_> {
    /// Begins another pass if the database has changed under the last one. An error that comes again as
    /// it was is none of that kind: the file is damaged.
    fn next(&mut self, error: Error) -> Result<()> {
        let file = match &error {
            Error::Corruption { file, .. } => Some(file),
            Error::Io { path, source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some(path)
            }
            _ => None,
        };
        let is_of_source = file.is_some_and(|file| file.parent() == Some(self.from));
        let text = error.to_string();
        if !is_of_source || self.last.as_ref() == Some(&text) {
            return Err(error);
        }
        if self.begun == PASSES_MAX {
            let what =
                format!("it changed {PASSES_MAX} times while it was copied; at last: {text}");
            return Err(io::Error::other(what)).at("copy", self.from);
        }
        self.begun += 1;
        self.last = Some(text);
        Ok(())
    }
}

struct Copier<'a> {
    fs: &'a dyn Fs,
    from: &'a Path,
    target: Target,
    /// The tables that this copy has verified in the target.
    there: BTreeMap<FileId, Outcome>,
    /// Bytes of tables that were written.
    written: u64,
    told: &'a mut dyn FnMut(CopiedTable),
}

impl Copier<'_> {
    fn pass(&mut self) -> Result<Copied> {
        let state = directory::read_manifest(self.fs, self.from)?.state()?;
        for meta in &state.tables {
            if !self.there.contains_key(&meta.id) {
                self.table(meta)?;
            }
        }
        self.target.skip_file_ids(state.next_file);
        let files = directory::list(self.fs, self.from)?;
        let log = Log { fs: self.fs, dir: self.from, files: &files, state: &state };
        let home = self.target.home();
        let (of_log, seq) = flush_log(home, MEMTABLE_BYTES, &log)?;
        let version = self.check_erases(&state, &of_log);
        let version =
            version.and_then(|()| self.version(&state, &of_log, seq)).inspect_err(|_| {
                home.remove_tables(of_log.iter().map(|table| table.meta.id));
            })?;
        let tables = || version.tables().map(|table| &table.meta);
        let count = |outcome| {
            let is_such = |meta: &&TableMeta| self.there.get(&meta.id) == Some(&outcome);
            tables().filter(is_such).count() as u64
        };
        let copied = Copied {
            seq,
            tables: tables().count() as u64,
            table_bytes: tables().map(|meta| meta.file_bytes).sum(),
            tables_copied: count(Outcome::Copied) + count(Outcome::Replaced),
            tables_replaced: count(Outcome::Replaced),
            tables_of_log: of_log.len() as u64,
            log_operations: seq - state.flushed_seq,
            bytes_copied: self.written,
            passes: 0,
        };
        // From here on the target may name the tables, so that they stay, whatever happens.
        self.target.install(version, seq, state.horizon)?;
        Ok(copied)
    }

    /// An erase of all that lies before some moment names, below the horizon, what merges had left of it
    /// by then. Tables from before such a merge hold more, which would come to light in the copy.
    fn check_erases(&self, state: &ManifestState, of_log: &[Arc<Table>]) -> Result<()> {
        let now = directory::read_manifest(self.fs, self.from)?.state()?;
        let erases_below = |table: &Arc<Table>| {
            table.meta.properties.erases > 0 && table.meta.properties.min_ts <= now.horizon
        };
        if !of_log.iter().any(erases_below) {
            return Ok(());
        }
        let is_live = |id: FileId| now.tables.iter().any(|meta| meta.id == id);
        match state.tables.iter().find(|meta| !is_live(meta.id)) {
            None => Ok(()),
            Some(gone) => {
                let what = "a merge has replaced it since the manifest was read";
                Err(Error::corruption(&gone.id.table_path(self.from), 0, what))
            }
        }
    }

    /// What the target is to hold, opened as the next open will.
    fn version(&self, state: &ManifestState, of_log: &[Arc<Table>], seq: SeqNo) -> Result<Version> {
        self.target.check_not_newer_than(seq)?;
        let copied = self.target.home().open_tables(state)?;
        Version::new(copied.iter().chain(of_log).cloned())
            .map_err(|what| Error::corruption(self.target.dir(), 0, what))
    }

    /// Sees to it that the target has the table.
    fn table(&mut self, meta: &TableMeta) -> Result<()> {
        // In memory and not mapped: a disk that can't read is an error here.
        let (path, database) = (meta.id.table_path(self.from), self.target.home().database);
        let table = TableReader::load(self.fs, &path, TableContext::unshared(), Some(meta))
            .and_then(|table| table.check_described(database, meta).map(|()| table))
            .map_err(|error| error.damage_if_missing("the manifest names it"))?;
        table.verify_blocks()?;
        let outcome = self.target.put_table(meta.id, table.bytes())?;
        if outcome != Outcome::AlreadyThere {
            self.written += meta.file_bytes;
        }
        self.there.insert(meta.id, outcome);
        let path = meta.id.table_path(self.target.dir());
        (self.told)(CopiedTable { path, bytes: meta.file_bytes, outcome });
        Ok(())
    }
}
