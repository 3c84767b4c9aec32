//! What a floor costs: the same floor as ever, with an observer that writes down its way.

use std::fmt;

use super::read::{Found, Observer, Source};
use super::state::SuperVersion;
use crate::error::Result;
use crate::key::{Entry, FileId, RunRank, SeqNo, Timestamp, ValueKind};
use crate::memtable::Memtable;
use crate::table::ChunkPlace;
use crate::version::Run;

/// The way of a floor: see [`Db::explain`](crate::Db::explain). Its text has a line a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The key that was asked for.
    pub key: Vec<u8>,
    /// The moment that was asked for.
    pub at: Timestamp,
    /// The sources, in the order in which the floor met them: first those that it passed by without
    /// a search. After an erase it begins anew, with a lower bound.
    pub steps: Vec<ExplainedStep>,
    /// What the floor answers.
    pub answer: Option<Entry>,
}

/// What became of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedStep {
    /// Versions at or before this were looked for.
    pub bound: Timestamp,
    /// Where.
    pub source: ExplainedSource,
    /// With what outcome.
    pub outcome: ExplainedOutcome,
}

/// A source of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExplainedSource {
    /// The active memtable has number 0, those before it 1, 2 ...
    Memtable(usize),
    /// A run, none of whose tables came into question.
    Run(RunRank),
    /// The one table of a run that came into question.
    Table(FileId, RunRank),
}

/// How a source was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExplainedOutcome {
    /// Skipped: it has no records at all.
    Empty,
    /// Skipped: the key lies outside of its ranges of keys.
    OtherKeys,
    /// Skipped by its fence: its versions, or those of the block that would hold the floor, begin later.
    Later,
    /// Skipped: its filter says that the key is not there.
    Filtered,
    /// Skipped by its fence: it has no version that is later than the one found before it, or none
    /// as late in a newer source.
    Beaten,
    /// Read.
    Read {
        /// Which part of a table was read.
        place: Option<ExplainedPlace>,
        /// Timestamp and kind of the newest version at or before the bound.
        found: Option<(Timestamp, ValueKind)>,
    },
}

/// A chunk of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExplainedPlace {
    /// Offset of the block in its file, in bytes.
    pub block_offset: u64,
    /// The chunk's number in the block, from 0.
    pub chunk: usize,
    /// How the chunk's values are stored.
    pub codec: &'static str,
}

impl SuperVersion {
    pub(super) fn explain(&self, key: &[u8], at: Timestamp, visible: SeqNo) -> Result<Explanation> {
        let memtables = self.memtables().map(|memtable| &**memtable).collect();
        let mut notes = Notes { key, memtables, steps: Vec::new() };
        let found = self.floor(key, at, visible, &mut notes)?;
        let steps = notes.steps;
        let answer = found.map(Found::into_entry).transpose()?;
        Ok(Explanation { key: key.to_vec(), at, steps, answer })
    }
}

/// Writes down what a floor does.
struct Notes<'v> {
    key: &'v [u8],
    memtables: Vec<&'v Memtable>,
    steps: Vec<ExplainedStep>,
}

impl Notes<'_> {
    fn add(&mut self, source: Source<'_>, bound: Timestamp, outcome: ExplainedOutcome) {
        let source = match source {
            Source::Memtable(memtable) => {
                let number = self.memtables.iter().position(|other| std::ptr::eq(*other, memtable));
                ExplainedSource::Memtable(number.expect("a memtable of the view"))
            }
            Source::Table(table) => ExplainedSource::Table(table.meta.id, table.meta.rank),
        };
        self.steps.push(ExplainedStep { bound, source, outcome });
    }
}

impl Observer for Notes<'_> {
    fn run_passed(&mut self, run: &Run, bound: Timestamp) {
        let outcome = match run.tables_with(self.key) {
            [] => ExplainedOutcome::OtherKeys,
            _ => ExplainedOutcome::Later,
        };
        let source = ExplainedSource::Run(run.rank());
        self.steps.push(ExplainedStep { bound, source, outcome });
    }

    fn too_late(&mut self, source: Source<'_>, bound: Timestamp) {
        let outcome = match source {
            Source::Memtable(memtable) if memtable.is_empty() => ExplainedOutcome::Empty,
            _ => ExplainedOutcome::Later,
        };
        self.add(source, bound, outcome);
    }

    fn beaten(&mut self, source: Source<'_>, bound: Timestamp) {
        self.add(source, bound, ExplainedOutcome::Beaten);
    }

    fn filtered(&mut self, source: Source<'_>, bound: Timestamp) {
        self.add(source, bound, ExplainedOutcome::Filtered);
    }

    fn asked(
        &mut self,
        source: Source<'_>,
        bound: Timestamp,
        found: Option<&Found<'_>>,
    ) -> Result<()> {
        let place = match source {
            Source::Memtable(_) => None,
            Source::Table(table) => ChunkPlace::find_floor(&table.reader, self.key, bound)?,
        };
        let outcome = match (source, place) {
            (Source::Table(_), None) => ExplainedOutcome::Later,
            _ => ExplainedOutcome::Read {
                place: place.map(|place| ExplainedPlace {
                    block_offset: place.block_offset(),
                    chunk: place.chunk_no(),
                    codec: place.codec().name(),
                }),
                found: found.map(|found| (found.ts(), found.tag().kind())),
            },
        };
        self.add(source, bound, outcome);
        Ok(())
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "floor of \"{}\" at {}", self.key.escape_ascii(), self.at)?;
        let mut bound = self.at;
        for step in &self.steps {
            if step.bound != bound {
                bound = step.bound;
                writeln!(f, "  erased: once more, at {bound}")?;
            }
            writeln!(f, "  {}: {}", step.source, step.outcome)?;
        }
        match &self.answer {
            Some(entry) => write!(f, "  answer: {} bytes, from {}", entry.value.len(), entry.ts),
            None => write!(f, "  answer: none"),
        }
    }
}

impl fmt::Display for ExplainedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExplainedSource::Memtable(0) => write!(f, "active memtable"),
            ExplainedSource::Memtable(number) => write!(f, "immutable memtable {number}"),
            ExplainedSource::Run(rank) => write!(f, "run {}", rank.0),
            ExplainedSource::Table(id, rank) => write!(f, "run {}, {:06}.sst", rank.0, id.0),
        }
    }
}

impl fmt::Display for ExplainedOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExplainedOutcome::Empty => write!(f, "skipped, empty"),
            ExplainedOutcome::OtherKeys => write!(f, "skipped, has other keys"),
            ExplainedOutcome::Later => write!(f, "skipped, its versions are later"),
            ExplainedOutcome::Filtered => write!(f, "skipped, not in its filter"),
            ExplainedOutcome::Beaten => write!(f, "skipped, has none that is later"),
            ExplainedOutcome::Read { place, found } => {
                write!(f, "read")?;
                if let Some(ExplainedPlace { block_offset, chunk, codec }) = place {
                    write!(f, ", block at {block_offset}, chunk {chunk} ({codec})")?;
                }
                match found {
                    Some((ts, ValueKind::Put)) => write!(f, ", found a value at {ts}"),
                    Some((ts, ValueKind::End)) => write!(f, ", found an end at {ts}"),
                    Some((ts, ValueKind::Erase)) => write!(f, ", found an erase at {ts}"),
                    None => write!(f, ", found nothing"),
                }
            }
        }
    }
}
