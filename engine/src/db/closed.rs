//! A closed database as a read would find it, without opening it: no file is changed.

use std::path::Path;
use std::sync::Arc;

use super::explain::Explanation;
use super::state::{ImmutableMemtable, SuperVersion};
use crate::batch::Op;
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::key::{FileId, FileKind, SeqNo, Timestamp};
use crate::memtable::Memtable;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::table::{TableContext, TableReader, ValueCache};
use crate::version::{Manifest, Table, Version, directory};
use crate::wal;

/// As [`Db::explain`](crate::Db::explain), over the live tables of `manifest`, and over the log, whose
/// operations are put into memtables. `files` are those of `dir`, whose lock the caller holds.
pub(crate) fn explain_closed(
    fs: &dyn Fs,
    dir: &Path,
    files: &[FileKind],
    manifest: &Manifest,
    key: &[u8],
    at: Timestamp,
) -> Result<Explanation> {
    let state = manifest.state()?;
    let horizon = state.horizon;
    let metrics = Arc::new(Metrics::default());
    let context = TableContext { cache: Arc::new(ValueCache::new(0)), metrics };
    let tables = state.tables.into_iter().map(|meta| {
        let reader = TableReader::open(fs, dir, manifest.database, &meta, context.clone())
            .map_err(|error| error.damage_if_missing("the manifest names it"))?;
        Ok(Arc::new(Table { meta, reader: Arc::new(reader) }))
    });
    let tables: Vec<_> = tables.collect::<Result<_>>()?;
    let version = Version::new(tables).map_err(|what| Error::corruption(dir, 0, what))?;

    let oldest = state.oldest_wal.unwrap_or(FileId(0));
    let segments = directory::wal_segments(files, oldest);
    let mut log = Log { memtables: Vec::new() };
    let mut apply = |seq, op: Op<'_>| {
        log.apply(seq, &op);
        Ok(())
    };
    let first_seq = state.flushed_seq + 1;
    let replayed =
        wal::replay(fs, dir, manifest.database, &segments, oldest, first_seq, &mut apply)?;
    log.view(version, horizon).explain(key, at, replayed.last_seq)
}

/// The operations of the log.
struct Log {
    /// Oldest first.
    memtables: Vec<Arc<Memtable>>,
}

impl Log {
    fn apply(&mut self, seq: SeqNo, op: &Op<'_>) {
        let encoded_bytes = op.encoded_bytes_max();
        let has_room = |memtable: &Arc<Memtable>| memtable.has_room_for(1, encoded_bytes);
        if !self.memtables.last().is_some_and(has_room) {
            let needed = Memtable::insert_bytes_max(1, encoded_bytes);
            let capacity_bytes = needed.max(Options::default().memtable_bytes_max);
            self.memtables.push(Arc::new(Memtable::new(capacity_bytes)));
        }
        if let Some(memtable) = self.memtables.last() {
            memtable.writer().insert(seq, op);
        }
    }

    fn view(self, version: Version, horizon: Timestamp) -> SuperVersion {
        let mut newest_first = self.memtables.into_iter().rev();
        let active = newest_first.next().unwrap_or_else(|| Arc::new(Memtable::new(0)));
        // Nothing is flushed here, so that the segments don't matter.
        let frozen = |memtable| ImmutableMemtable { memtable, wal: FileId(0), next_wal: FileId(0) };
        let immutables = newest_first.map(|memtable| Arc::new(frozen(memtable))).collect();
        SuperVersion { active, immutables, version: Arc::new(version), horizon }
    }
}
