//! Doing a merge: the tables of some runs into those of one.

use std::sync::Arc;

use super::merge::{ChunkShape, MergeSink, MergeSource, merge};
use super::outside::Sources;
use super::picker::{CompactionTask, Part, TABLE_OVERSIZE, TablePlace};
use super::retention::Rules;
use crate::error::Result;
use crate::iter::Record;
use crate::key::{FileId, RunRank, SeqNo, Timestamp};
use crate::table::{StoredChunk, TableBuilder, TableMeta};
use crate::version::{Home, Run, RunCursor, Table};

/// What a merge makes of its inputs. A table of the oldest input that is in none of the lists stays
/// where it is: the merged run has that one's rank.
#[derive(Debug, Default)]
pub(crate) struct Compacted {
    /// Tables whose records are in `written`.
    pub(crate) merged: Vec<FileId>,
    /// Tables that were written. They are durable; their names in the directory are not yet.
    pub(crate) written: Vec<Arc<Table>>,
    /// Tables of newer inputs, as tables of the merged run: the same files with another rank.
    pub(crate) moved: Vec<Arc<Table>>,
}

impl Compacted {
    /// The files that were made, for whoever can't install them.
    pub(crate) fn written_ids(&self) -> impl Iterator<Item = FileId> {
        self.written.iter().map(|table| table.meta.id)
    }
}

/// Does what `task` says of the newest runs of `sources`, those that it was picked from, and writes tables
/// of about `table_bytes_max`. After an error no output is left.
///
/// `give_way` is called now and then; its error ends the merge.
pub(crate) fn run_compaction(
    home: &Home,
    sources: &Sources,
    task: &CompactionTask,
    table_bytes_max: u64,
    give_way: &dyn Fn() -> Result<()>,
) -> Result<Compacted> {
    let runs = sources.version.runs();
    let rank = runs[task.runs.end - 1].rank();
    let mut outputs = Outputs::new(home, rank, sources.horizon, table_bytes_max);
    let mut compacted = Compacted::default();
    let mut bytes = Bytes::default();
    for part in &task.parts {
        let done = match part {
            Part::Move(place) => {
                let table = table_at(runs, *place);
                bytes.moved += table.meta.file_bytes;
                compacted.moved.extend(moved_to(rank, table));
                Ok(())
            }
            Part::Merge(places) => {
                let tables: Vec<_> = places.iter().map(|&place| table_at(runs, place)).collect();
                bytes.read += tables.iter().map(|table| table.meta.file_bytes).sum::<u64>();
                compacted.merged.extend(tables.iter().map(|table| table.meta.id));
                outputs.seqs = seq_range(&tables);
                let outside = sources.outside(&tables, task.runs.end);
                let rules = Rules {
                    horizon: sources.horizon,
                    drops_erases: task.drops_erases,
                    outside: &outside,
                };
                merge_tables(&tables, &rules, &mut outputs, give_way)
            }
        };
        if let Err(error) = done {
            home.remove_tables(outputs.ids);
            return Err(error);
        }
    }
    compacted.written = outputs.tables;
    bytes.count(home, &compacted);
    Ok(compacted)
}

/// What goes to the metrics.
#[derive(Default)]
struct Bytes {
    read: u64,
    moved: u64,
}

impl Bytes {
    fn count(&self, home: &Home, compacted: &Compacted) {
        let metrics = &home.tables.metrics;
        metrics.compactions.add(1);
        metrics.compaction_bytes_read.add(self.read);
        metrics.compaction_bytes_moved.add(self.moved);
        let written = compacted.written.iter().map(|table| table.meta.file_bytes);
        metrics.compaction_bytes_written.add(written.sum());
    }
}

fn table_at(runs: &[Arc<Run>], place: TablePlace) -> &Arc<Table> {
    &runs[place.run].tables()[place.table]
}

/// The table in the run of this rank; `None` where it is in that run already.
fn moved_to(rank: RunRank, table: &Table) -> Option<Arc<Table>> {
    let meta = TableMeta { rank, ..table.meta.clone() };
    (table.meta.rank != rank).then(|| Arc::new(Table { meta, reader: Arc::clone(&table.reader) }))
}

fn seq_range(tables: &[&Arc<Table>]) -> (SeqNo, SeqNo) {
    let properties = || tables.iter().map(|table| &table.meta.properties);
    let min = properties().map(|p| p.min_seq).min().unwrap_or(0);
    (min, properties().map(|p| p.max_seq).max().unwrap_or(0))
}

/// Merges tables that are given in any order: those of a higher rank are newer.
fn merge_tables(
    tables: &[&Arc<Table>],
    rules: &Rules<'_>,
    outputs: &mut Outputs<'_>,
    give_way: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let mut ranks: Vec<RunRank> = tables.iter().map(|table| table.meta.rank).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let sources = ranks.iter().rev().map(|&rank| {
        let of_run = tables.iter().filter(|table| table.meta.rank == rank);
        let run = Run::new(of_run.map(|&table| Arc::clone(table)).collect());
        let run = run.expect("tables of one run don't overlap, so neither do some of them");
        RunCursor::new(Arc::new(run))
    });
    let mut sources: Vec<RunCursor> = sources.collect::<Result<_>>()?;
    merge(&mut sources, outputs, rules, give_way)?;
    outputs.end_table()
}

impl MergeSource for RunCursor {
    type Chunk<'c> = StoredChunk<'c>;

    fn head(&self) -> Option<(&[u8], Timestamp)> {
        self.place()
    }

    fn chunk(&self, horizon: Timestamp) -> Option<(ChunkShape<'_>, StoredChunk<'_>)> {
        let chunk = self.stored_chunk()?;
        let (last_key, last_ts) = chunk.last();
        let shape = ChunkShape {
            last_key,
            last_ts,
            rows: chunk.rows(),
            raw_bytes: chunk.raw_bytes(),
            first_tag: chunk.first_tag(),
            has_erases: chunk.has_erases(),
            may_be_stale: chunk.may_be_stale(horizon),
        };
        Some((shape, chunk))
    }

    fn pass_chunk(&mut self) -> Result<()> {
        RunCursor::pass_chunk(self)
    }

    fn record(&mut self) -> Result<Record<'_>> {
        self.read_record()
    }

    fn pass_record(&mut self) -> Result<()> {
        self.next_place()
    }
}

/// The tables that a merge writes, one after the other.
struct Outputs<'h> {
    home: &'h Home,
    rank: RunRank,
    horizon: Timestamp,
    /// The sequence numbers of the part that is being merged.
    seqs: (SeqNo, SeqNo),
    table_bytes_max: u64,
    builder: Option<TableBuilder>,
    last_key: Vec<u8>,
    ids: Vec<FileId>,
    tables: Vec<Arc<Table>>,
}

impl<'h> Outputs<'h> {
    fn new(home: &'h Home, rank: RunRank, horizon: Timestamp, table_bytes_max: u64) -> Self {
        Outputs {
            home,
            rank,
            horizon,
            seqs: (0, 0),
            table_bytes_max,
            builder: None,
            last_key: Vec::new(),
            ids: Vec::new(),
            tables: Vec::new(),
        }
    }

    /// The builder of the table that a record of `key` goes to.
    fn builder_for(&mut self, key: &[u8]) -> Result<&mut TableBuilder> {
        if self.should_end_table(key) {
            self.end_table()?;
        }
        if self.last_key != key {
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
        }
        match &mut self.builder {
            Some(builder) => Ok(builder),
            none => {
                let id = self.home.new_file_id();
                self.ids.push(id);
                let Home { fs, dir, database, .. } = self.home;
                let builder = TableBuilder::create(&**fs, dir, *database, id)?.under(self.horizon);
                Ok(none.insert(builder))
            }
        }
    }

    /// A full table ends with its key, so that a key's versions lie in one table, unless they are
    /// many: then it ends anywhere.
    fn should_end_table(&self, next_key: &[u8]) -> bool {
        let bytes = self.builder.as_ref().map_or(0, TableBuilder::file_bytes);
        let new_key = self.last_key != next_key;
        bytes >= self.table_bytes_max && (new_key || bytes >= TABLE_OVERSIZE * self.table_bytes_max)
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

impl MergeSink<RunCursor> for Outputs<'_> {
    fn add_record(&mut self, record: &Record<'_>) -> Result<()> {
        self.builder_for(record.key)?.add(record)
    }

    fn add_chunk(&mut self, (key, _): (&[u8], Timestamp), chunk: StoredChunk<'_>) -> Result<()> {
        if self.builder_for(key)?.add_chunk(&chunk)? {
            self.home.tables.metrics.chunks_copied.add(1);
        }
        let (last_key, _) = chunk.last();
        self.last_key.clear();
        self.last_key.extend_from_slice(last_key);
        Ok(())
    }
}
