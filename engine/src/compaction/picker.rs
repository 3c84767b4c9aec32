//! Which runs to merge next, and what becomes of each of their tables: a pure function of what the
//! manifest says of them.
//!
//! `picker/cases.txt` reads as its specification.

use std::ops::Range;

use crate::key::Timestamp;
use crate::version::Run;

/// So many runs of one tier are merged. Four keeps 1.0 blocks per floor of dense keys at a write
/// amplification of 3.6 (see `docs/decisions/0004-tiered-compaction.md`).
const TIER_RUNS: usize = 4;

/// A table of at least one in so many parts of the largest size is not rewritten for its size's sake:
/// it moves. A smaller one is joined with what lies beside it, so that a run has few tables for its
/// size.
const MOVE_PART: u64 = 4;

/// A table of more than so many times the largest size is divided, as a merge ends its tables.
pub(super) const TABLE_OVERSIZE: u64 = 2;

/// A record's place in the order of a run.
type Place<'a> = (&'a [u8], Timestamp);

/// A table, as far as the choice depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableShape<'a> {
    pub(crate) file_bytes: u64,
    pub(crate) first: Place<'a>,
    pub(crate) last: Place<'a>,
    pub(crate) has_erases: bool,
    /// The horizon has made some of its records garbage since it was written.
    pub(crate) is_stale: bool,
    /// So many that it is worth to rewrite it.
    pub(crate) is_worth_pruning: bool,
}

/// The tables of a run, in their order.
#[derive(Clone, Debug)]
pub(crate) struct RunShape<'a> {
    pub(crate) tables: Vec<TableShape<'a>>,
}

impl<'a> RunShape<'a> {
    /// The run as it is under this horizon.
    pub(crate) fn of(run: &'a Run, horizon: Timestamp) -> Self {
        let tables = run.tables().iter().map(|table| {
            let p = &table.meta.properties;
            TableShape {
                file_bytes: table.meta.file_bytes,
                first: (&p.first_key, p.first_ts),
                last: (&p.last_key, p.last_ts),
                has_erases: p.erases > 0,
                is_stale: p.is_stale_under(horizon),
                is_worth_pruning: p.is_worth_pruning_under(horizon),
            }
        });
        RunShape { tables: tables.collect() }
    }

    fn file_bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.file_bytes).sum()
    }
}

/// A table of a run, both as positions: of the run among the picker's runs, of the table in the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TablePlace {
    pub(crate) run: usize,
    pub(crate) table: usize,
}

/// What becomes of tables that lie one behind the other in the merged run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The table goes into the merged run as it is.
    Move(TablePlace),
    /// The records of these tables are written anew. None of them lies in the range of another part.
    Merge(Vec<TablePlace>),
}

/// Make one run of neighbours in rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompactionTask {
    /// Positions among the picker's runs, newest first.
    pub(crate) runs: Range<usize>,
    /// What the merged run consists of, in the order of `(key, ts)`: each table of `runs` once.
    pub(crate) parts: Vec<Part>,
    /// No run is older than these: what an erase hid is gone with the merge, and the erase with it.
    pub(crate) drops_erases: bool,
}

/// How far to merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// What is worth its cost while others read and write: what costs nothing, or else a tier, or else
    /// what is full of garbage.
    Worthwhile,
    /// What is proportionate while nobody writes.
    Idle,
    /// All runs into one, without any garbage.
    Full,
}

/// Chooses merges.
#[derive(Clone, Debug)]
pub(crate) struct Picker<'a> {
    /// Newest first.
    pub(crate) runs: Vec<RunShape<'a>>,
    /// Whether the last of `runs` is the oldest of all.
    pub(crate) to_oldest: bool,
    /// The size at which a merge begins a new table.
    pub(crate) table_bytes_max: u64,
}

impl Picker<'_> {
    /// The next merge; `None` where there is none to this extent.
    pub(crate) fn pick(&self, effort: Effort) -> Option<CompactionTask> {
        match effort {
            Effort::Worthwhile => {
                self.pick_free().or_else(|| self.pick_tier()).or_else(|| self.pick_stale())
            }
            Effort::Idle => self.pick_proportionate().or_else(|| self.pick_stale()),
            Effort::Full => self.pick_all(),
        }
    }

    /// All runs, where there are several, or where any garbage is.
    fn pick_all(&self) -> Option<CompactionTask> {
        let mut tables = self.runs.iter().flat_map(|run| &run.tables);
        let is_needed = self.runs.len() > 1 || tables.any(|table| table.is_stale);
        is_needed.then(|| self.parted(0..self.runs.len(), |table| table.is_stale))
    }

    /// The oldest run with tables that are worth to be rewritten: those, and no others but small ones.
    ///
    /// This ends: what is written under a horizon is not worth it under the same one, whatever had to
    /// stay.
    fn pick_stale(&self) -> Option<CompactionTask> {
        let is_worth = |run: &RunShape<'_>| run.tables.iter().any(|table| table.is_worth_pruning);
        self.runs.iter().rposition(is_worth).map(|run| self.task(run..run + 1))
    }

    /// The merge of as many of the newest runs as is proportionate: that rewrites of no run more than
    /// of all the others together. Then a record that is rewritten ends among at least twice as many,
    /// and a small flush never has a large run rewritten, however often there is one.
    fn pick_proportionate(&self) -> Option<CompactionTask> {
        let mut tasks = (2..=self.runs.len()).rev().map(|end| self.task(0..end));
        tasks.find(|task| {
            let rewritten: Vec<u64> =
                task.runs.clone().map(|run| self.rewritten_bytes(task, run)).collect();
            let most = rewritten.iter().max().copied().unwrap_or(0);
            most <= rewritten.iter().sum::<u64>() - most
        })
    }

    /// Two neighbours that become one run by moves alone; the oldest such. A run of small tables waits
    /// for others that it can be joined with.
    fn pick_free(&self) -> Option<CompactionTask> {
        let has_grown = |run: &RunShape<'_>| {
            run.file_bytes() >= run.tables.len() as u64 * self.move_bytes_min()
        };
        let pairs = (1..self.runs.len()).rev().map(|older| older - 1..older + 1);
        let grown = pairs.filter(|pair| self.runs[pair.clone()].iter().all(has_grown));
        grown
            .map(|pair| self.task(pair))
            .find(|task| task.parts.iter().all(|part| matches!(part, Part::Move(_))))
    }

    /// Worth its cost is a merge of at least [`TIER_RUNS`] neighbours that holds so many times the
    /// size of the highest tier among them: then each record in it climbs a tier. Of several it is
    /// the one of the lowest tier, because that frees most runs per byte; of those, the oldest,
    /// because newer runs are still being joined by others.
    fn pick_tier(&self) -> Option<CompactionTask> {
        let sizes: Vec<u64> = self.runs.iter().map(RunShape::file_bytes).collect();
        let tiers: Vec<u32> = sizes.iter().map(|&bytes| tier(bytes)).collect();
        let mut candidates = tiers.clone();
        candidates.sort_unstable();
        candidates.dedup();
        candidates.into_iter().find_map(|tier| {
            let worth_bytes = (TIER_RUNS as u64).saturating_mul(tier_bytes(tier));
            let worthwhile = |group: &Range<usize>| {
                let bytes: u64 = sizes[group.clone()].iter().sum();
                group.len() >= TIER_RUNS && bytes >= worth_bytes
            };
            groups_up_to(tier, &tiers).rfind(worthwhile).map(|runs| self.task(runs))
        })
    }

    fn move_bytes_min(&self) -> u64 {
        self.table_bytes_max / MOVE_PART
    }

    fn task(&self, runs: Range<usize>) -> CompactionTask {
        self.parted(runs, |table| table.is_worth_pruning)
    }

    /// The merge of `runs` that lets no table with garbage move that it `is_to_prune`.
    fn parted(
        &self,
        runs: Range<usize>,
        is_to_prune: impl Fn(&TableShape<'_>) -> bool,
    ) -> CompactionTask {
        let drops_erases = self.to_oldest && runs.end == self.runs.len();
        let is_rewritten = |table: &TableShape<'_>| {
            let is_oversized =
                table.file_bytes > TABLE_OVERSIZE.saturating_mul(self.table_bytes_max);
            drops_erases && table.has_erases || is_oversized || is_to_prune(table)
        };
        let parts = self.parts(runs.clone(), &is_rewritten);
        CompactionTask { runs, parts, drops_erases }
    }

    /// Divides the tables of `runs` into those that move and those that are merged.
    ///
    /// Tables whose ranges of `(key, ts)` overlap, also by way of others, are a *knot* and merged.
    /// A table that is a knot by itself may move, because in the merged run no other record comes
    /// between its own; unless it has something to drop, or is too large to be one table. If it is small,
    /// it moves only where rewriting would join it with nothing: between two tables that move.
    fn parts(
        &self,
        runs: Range<usize>,
        is_rewritten: &dyn Fn(&TableShape<'_>) -> bool,
    ) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut joined: Vec<Knot<'_>> = Vec::new();
        for knot in self.knots(runs, is_rewritten) {
            if knot.may_move && knot.file_bytes >= self.move_bytes_min() {
                parts.extend(join(std::mem::take(&mut joined)));
                parts.push(Part::Move(knot.tables[0]));
            } else {
                joined.push(knot);
            }
        }
        parts.extend(join(joined));
        parts
    }

    /// The knots of `runs`, in the order of `(key, ts)`.
    fn knots(
        &self,
        runs: Range<usize>,
        is_rewritten: &dyn Fn(&TableShape<'_>) -> bool,
    ) -> Vec<Knot<'_>> {
        let places = runs.flat_map(|run| {
            let tables = 0..self.runs[run].tables.len();
            tables.map(move |table| TablePlace { run, table })
        });
        let mut tables: Vec<_> = places.map(|place| (self.shape(place), place)).collect();
        tables.sort_by_key(|(shape, _)| shape.first);
        let mut knots: Vec<Knot<'_>> = Vec::new();
        for (shape, place) in tables {
            match knots.last_mut() {
                Some(knot) if shape.first <= knot.last => {
                    knot.tables.push(place);
                    knot.last = knot.last.max(shape.last);
                    knot.may_move = false;
                }
                _ => knots.push(Knot {
                    tables: vec![place],
                    last: shape.last,
                    file_bytes: shape.file_bytes,
                    may_move: !is_rewritten(shape),
                }),
            }
        }
        knots
    }

    fn shape(&self, place: TablePlace) -> &TableShape<'_> {
        &self.runs[place.run].tables[place.table]
    }

    /// How many bytes of `run` are written anew by `task`.
    fn rewritten_bytes(&self, task: &CompactionTask, run: usize) -> u64 {
        let merged = task.parts.iter().filter_map(|part| match part {
            Part::Merge(tables) => Some(tables),
            Part::Move(_) => None,
        });
        let of_run = merged.flatten().filter(|place| place.run == run);
        of_run.map(|&place| self.shape(place).file_bytes).sum()
    }
}

/// Tables that overlap one another, or a table that overlaps none.
struct Knot<'a> {
    tables: Vec<TablePlace>,
    last: Place<'a>,
    /// The size of its first table.
    file_bytes: u64,
    may_move: bool,
}

/// The part that knots become which lie beside each other and should not move one by one.
fn join(mut knots: Vec<Knot<'_>>) -> Option<Part> {
    if let [knot] = &knots[..]
        && knot.may_move
    {
        return Some(Part::Move(knot.tables[0]));
    }
    (!knots.is_empty()).then(|| Part::Merge(knots.drain(..).flat_map(|knot| knot.tables).collect()))
}

/// The longest sequences of neighbours that are of this tier or lower.
fn groups_up_to(tier: u32, tiers: &[u32]) -> impl DoubleEndedIterator<Item = Range<usize>> {
    let mut ends: Vec<usize> = (0..tiers.len()).filter(|&i| tiers[i] > tier).collect();
    ends.push(tiers.len());
    let mut start = 0;
    let groups: Vec<_> =
        ends.into_iter().map(|end| std::mem::replace(&mut start, end + 1)..end).collect();
    groups.into_iter()
}

/// Sizes of one tier are within a factor of four of each other.
fn tier(file_bytes: u64) -> u32 {
    file_bytes.max(1).ilog2() / 2
}

/// The least size of a tier.
fn tier_bytes(tier: u32) -> u64 {
    1 << (2 * tier)
}

#[cfg(test)]
mod tests;
