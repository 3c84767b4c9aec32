//! Doing a merge: the records of some runs, in order, into new tables.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::iter::{Cursor, MergeCursor, Record};
use crate::key::{FileId, RunRank, SeqNo, Timestamp, ValueKind};
use crate::table::TableBuilder;
use crate::version::{Home, Run, RunCursor, Table};

/// Merges `inputs`, newest first and neighbours in rank, into tables of about `table_bytes_max`. The
/// files are durable; their names in the directory are not yet. After an error no output is left.
///
/// `oldest` says that no run is older than the inputs: then what an erase hid is gone with the merge,
/// and the erase with it.
///
/// `stop` is asked now and then; `true` ends the merge with [`Error::Closed`].
pub(crate) fn run_compaction(
    home: &Home,
    inputs: &[Arc<Run>],
    oldest: bool,
    table_bytes_max: u64,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<Arc<Table>>> {
    let mut outputs = Outputs {
        home,
        rank: inputs[0].rank(),
        seqs: seq_range(inputs),
        table_bytes_max,
        builder: None,
        last_key: Vec::new(),
        ids: Vec::new(),
        tables: Vec::new(),
    };
    let merged = merge(inputs, oldest, stop, &mut outputs);
    if let Err(error) = merged {
        home.remove_tables(outputs.ids);
        return Err(error);
    }
    let metrics = &home.tables.metrics;
    metrics.compactions.add(1);
    metrics.compaction_bytes_read.add(inputs.iter().map(|run| run.file_bytes()).sum());
    metrics.compaction_bytes_written.add(outputs.tables.iter().map(|t| t.meta.file_bytes).sum());
    Ok(outputs.tables)
}

fn seq_range(inputs: &[Arc<Run>]) -> (SeqNo, SeqNo) {
    let min = inputs.iter().map(|run| run.min_seq()).min().unwrap_or(0);
    let max = inputs.iter().map(|run| run.max_seq()).max().unwrap_or(0);
    (min, max)
}

fn merge(
    inputs: &[Arc<Run>],
    oldest: bool,
    stop: &dyn Fn() -> bool,
    outputs: &mut Outputs<'_>,
) -> Result<()> {
    /// How many records go by between two looks at `stop`.
    const STOP_RECORDS: u64 = 4096;
    let sources = inputs.iter().map(|run| Box::new(RunCursor::new(Arc::clone(run))) as _);
    let mut cursor = MergeCursor::new(sources.collect());
    cursor.seek(b"", Timestamp::MIN)?;
    let mut records = 0_u64;
    while let Some(record) = cursor.record() {
        records += 1;
        if records.is_multiple_of(STOP_RECORDS) && stop() {
            return Err(Error::Closed);
        }
        if !(oldest && record.tag.kind() == ValueKind::Erase) {
            outputs.add(&record)?;
        }
        cursor.next()?;
    }
    outputs.end_table()
}

/// The tables that a merge writes, one after the other.
struct Outputs<'h> {
    home: &'h Home,
    rank: RunRank,
    seqs: (SeqNo, SeqNo),
    table_bytes_max: u64,
    builder: Option<TableBuilder>,
    last_key: Vec<u8>,
    ids: Vec<FileId>,
    tables: Vec<Arc<Table>>,
}

impl Outputs<'_> {
    fn add(&mut self, record: &Record<'_>) -> Result<()> {
        if self.should_end_table(record) {
            self.end_table()?;
        }
        if self.last_key != record.key {
            self.last_key.clear();
            self.last_key.extend_from_slice(record.key);
        }
        let builder = match &mut self.builder {
            Some(builder) => builder,
            none => {
                let id = self.home.new_file_id();
                self.ids.push(id);
                let Home { fs, dir, database, .. } = self.home;
                none.insert(TableBuilder::create(&**fs, dir, *database, id)?)
            }
        };
        builder.add(record)
    }

    /// A full table ends with its key, so that a key's versions lie in one table, unless they are
    /// many: then it ends anywhere.
    fn should_end_table(&self, next: &Record<'_>) -> bool {
        let bytes = self.builder.as_ref().map_or(0, TableBuilder::file_bytes);
        let new_key = self.last_key != next.key;
        bytes >= self.table_bytes_max && (new_key || bytes >= 2 * self.table_bytes_max)
    }

    fn end_table(&mut self) -> Result<()> {
        if let Some(builder) = self.builder.take() {
            let table = self.home.open_table(builder.finish(self.rank, self.seqs)?)?;
            table.reader.verify_blocks()?;
            self.tables.push(table);
        }
        Ok(())
    }
}
