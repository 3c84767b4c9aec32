//! A frozen memtable becomes an SSTable, and so does a log that is replayed.

use std::path::Path;
use std::sync::Arc;

use crate::batch::Op;
use crate::error::Result;
use crate::fs::Fs;
use crate::iter::Cursor;
use crate::key::{DatabaseId, FileId, FileKind, RunRank, SEQ_NO_MAX, SeqNo, Timestamp};
use crate::memtable::{Memtable, MemtableCursor};
use crate::table::TableBuilder;
use crate::version::{Home, ManifestState, Table, directory};
use crate::wal::{self, Replayed};

/// Writes the records of a memtable that nobody writes to any more, and reads the file back before
/// anyone relies on it. The file is durable; its name in the directory is not yet. `None` where the
/// memtable is empty.
pub(crate) fn flush_memtable(home: &Home, memtable: &Arc<Memtable>) -> Result<Option<Arc<Table>>> {
    let Some(seqs) = memtable.seq_range() else { return Ok(None) };
    let id = home.new_file_id();
    let written = write_table(home, memtable, id, seqs);
    if written.is_err() {
        home.remove_tables([id]);
    }
    let table = written?;
    let metrics = &home.tables.metrics;
    metrics.flushes.add(1);
    metrics.flush_bytes_written.add(table.meta.file_bytes);
    Ok(Some(table))
}

fn write_table(
    home: &Home,
    memtable: &Arc<Memtable>,
    id: FileId,
    seqs: (SeqNo, SeqNo),
) -> Result<Arc<Table>> {
    let mut builder = TableBuilder::create(&*home.fs, &home.dir, home.database, id)?;
    let mut cursor = MemtableCursor::new(Arc::clone(memtable), SEQ_NO_MAX);
    cursor.seek(b"", Timestamp::MIN)?;
    while let Some(record) = cursor.record() {
        builder.add(&record)?;
        cursor.next()?;
    }
    let table = home.open_table(builder.finish(RunRank(id.0), seqs)?)?;
    table.reader.verify_blocks()?;
    Ok(table)
}

/// A log, wherever it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log<'a> {
    pub(crate) fs: &'a dyn Fs,
    pub(crate) dir: &'a Path,
    /// The files of `dir`.
    pub(crate) files: &'a [FileKind],
    /// What the manifest says, which tells where the log begins.
    pub(crate) state: &'a ManifestState,
}

impl Log<'_> {
    /// Hands every operation that no table holds to `apply`; errors are those of [`wal::replay`].
    pub(crate) fn replay(
        &self,
        database: DatabaseId,
        apply: &mut dyn FnMut(SeqNo, Op<'_>) -> Result<()>,
    ) -> Result<Replayed> {
        let oldest = self.state.oldest_wal.unwrap_or(FileId(0));
        let segments = directory::wal_segments(self.files, oldest);
        let first_seq = self.state.flushed_seq + 1;
        wal::replay(self.fs, self.dir, database, &segments, oldest, first_seq, apply)
    }
}

/// Replays a log of the home's database into tables of the home. Returns them, oldest first, and the
/// last sequence number. The tables are as [`flush_memtable`] leaves them; after an error none is left.
pub(crate) fn flush_log(
    home: &Home,
    memtable_bytes_max: usize,
    log: &Log<'_>,
) -> Result<(Vec<Arc<Table>>, SeqNo)> {
    let mut replay = Replay { home, memtable_bytes_max, memtable: None, tables: Vec::new() };
    let replayed = log.replay(home.database, &mut |seq, op| replay.apply(seq, &op));
    let replayed = replayed.and_then(|replayed| replay.flush().map(|()| replayed));
    let replayed = replayed.inspect_err(|_| {
        home.remove_tables(replay.tables.iter().map(|table| table.meta.id));
    })?;
    Ok((replay.tables, replayed.last_seq))
}

/// Puts the log's operations into memtables, and those into tables.
struct Replay<'h> {
    home: &'h Home,
    memtable_bytes_max: usize,
    memtable: Option<Arc<Memtable>>,
    tables: Vec<Arc<Table>>,
}

impl Replay<'_> {
    fn apply(&mut self, seq: SeqNo, op: &Op<'_>) -> Result<()> {
        let encoded_bytes = op.encoded_bytes_max();
        if self.memtable.as_ref().is_some_and(|m| !m.has_room_for(1, encoded_bytes)) {
            self.flush()?;
        }
        let capacity_bytes = || {
            let needed = Memtable::insert_bytes_max(1, encoded_bytes);
            needed.max(self.memtable_bytes_max)
        };
        let memtable =
            self.memtable.get_or_insert_with(|| Arc::new(Memtable::new(capacity_bytes())));
        memtable.writer().insert(seq, op);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if let Some(memtable) = self.memtable.take() {
            self.tables.extend(flush_memtable(self.home, &memtable)?);
        }
        Ok(())
    }
}
