//! A frozen memtable becomes an SSTable.

use std::sync::Arc;

use crate::error::Result;
use crate::iter::Cursor;
use crate::key::{RunRank, SEQ_NO_MAX, Timestamp};
use crate::memtable::{Memtable, MemtableCursor};
use crate::table::TableBuilder;
use crate::version::{Home, Table};

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
    id: crate::key::FileId,
    seqs: (u64, u64),
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
