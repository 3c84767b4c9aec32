//! What was aimed at, and whether it was reached: computed from the figures.

use super::table::{best_of_others, header};
use super::{LATE, MAIN, databases, ratio, shown};
use crate::figures::Figures;
use crate::measures::{self, Better, Measure};
use crate::ours;

/// Rates that differ by less are taken for equal: rounds of one measure differ by as much.
const LATE_EQUAL: f64 = 0.95;

/// A figure that is aimed at.
pub(super) struct Check {
    /// What comes after the figure, such as "× LMDB".
    of: String,
    value: Option<f64>,
    better: Better,
    bound: f64,
}

impl Check {
    pub(super) fn least(of: &str, value: Option<f64>, bound: f64) -> Check {
        Check { of: of.to_owned(), value, better: Better::Higher, bound }
    }

    fn most(of: &str, value: Option<f64>, bound: f64) -> Check {
        Check { of: of.to_owned(), value, better: Better::Lower, bound }
    }

    /// How far the bound is missed: above 1; `None` where nothing was measured.
    fn miss(&self) -> Option<f64> {
        Some(match self.better {
            Better::Higher => self.bound / self.value?,
            Better::Lower => self.value? / self.bound,
        })
    }

    fn text(&self) -> String {
        let sign = if self.better == Better::Higher { '≥' } else { '≤' };
        let value = self.value.map_or("–".to_owned(), shown);
        // A bound is shown as it is written.
        format!("{value} {} ({sign} {})", self.of, self.bound)
    }
}

/// The verdict on all checks of a row.
fn verdict(checks: &[Check]) -> String {
    let misses: Option<Vec<f64>> = checks.iter().map(Check::miss).collect();
    match misses.map(|misses| misses.into_iter().fold(0.0, f64::max)) {
        None => "not measured".to_owned(),
        Some(worst) if worst <= 1.0 => "**reached**".to_owned(),
        Some(worst) => format!("missed by a factor of {worst:.2}"),
    }
}

pub(super) fn table(figures: &Figures) -> String {
    verdicts(rows(figures))
}

/// A row for each target.
pub(super) fn verdicts(rows: Vec<Row>) -> String {
    let rows = rows.into_iter().map(|(what, checks)| {
        let texts: Vec<String> = checks.iter().map(Check::text).collect();
        format!("\n| {what} | {} | {} |", texts.join("<br>"), verdict(&checks))
    });
    header(&["measure", "measured (target)", "verdict"]) + &rows.collect::<String>()
}

/// A target: what is measured, and its checks.
pub(super) type Row = (&'static str, Vec<Check>);

fn rows(figures: &Figures) -> Vec<Row> {
    let of = Source { figures, columns: databases(figures) };
    [sizes(&of), reads(&of), writes(&of), growth(&of)].into_iter().flatten().collect()
}

fn sizes(of: &Source<'_>) -> Vec<Row> {
    let sqlite = "times smaller than the original's schema in SQLite";
    vec![
        (
            "bytes a point after compaction, telemetry JSON",
            vec![
                Check::most("bytes", of.ours(MAIN, measures::BYTES), 5.0),
                Check::most("× RocksDB", of.part(MAIN, measures::BYTES, "RocksDB"), 0.3),
                Check::least(sqlite, of.times(measures::BYTES, "SQLite"), 35.0),
            ],
        ),
        (
            "bytes a point, random text",
            vec![Check::most("× RocksDB", of.part("text", measures::BYTES, "RocksDB"), 1.1)],
        ),
    ]
}

fn reads(of: &Source<'_>) -> Vec<Row> {
    use measures::{
        ASOF, HISTORY, LOADED_MISSING, LOADED_RECENT, LOADED_UNIFORM, MISSING, MIXED_P999, RECENT,
        UNIFORM,
    };
    vec![
        (
            "floor, uniform in time, resident, 1 thread",
            vec![
                Check::least("× RocksDB", of.times(UNIFORM, "RocksDB"), 5.0),
                Check::least("× LMDB", of.times(UNIFORM, "LMDB"), 2.0),
            ],
        ),
        ("floor, recent", vec![Check::least("× LMDB", of.times(RECENT, "LMDB"), 1.5)]),
        (
            "floor right after the load (not compacted)",
            vec![
                Check::least("× LMDB, uniform", of.times(LOADED_UNIFORM, "LMDB"), 1.0),
                Check::least("× LMDB, recent", of.times(LOADED_RECENT, "LMDB"), 1.0),
            ],
        ),
        (
            "floor, missing key",
            vec![
                Check::least("× the best peer", of.best(MISSING), 1.0),
                Check::least("× the best, not compacted", of.best(LOADED_MISSING), 1.0),
            ],
        ),
        (
            "floor p99.9 while ingest and compaction run",
            vec![Check::least("× the best LSM peer", of.best(MIXED_P999), 1.0)],
        ),
        ("history of 100 versions", vec![Check::least("× LMDB", of.times(HISTORY, "LMDB"), 3.0)]),
        (
            "asof of 1M random probes",
            vec![
                Check::least("× one floor at a time", of.times(ASOF, ours::ONE_AT_A_TIME), 5.0),
                Check::least("× DuckDB", of.times(ASOF, "DuckDB"), 1.0),
                Check::least("× polars", of.times(ASOF, "polars"), 1.0),
            ],
        ),
        (
            "20 % late data",
            vec![
                Check::least("of the in-order rate, not compacted", of.late(LOADED_UNIFORM), 0.7),
                Check::least("of it, compacted", of.late(UNIFORM), LATE_EQUAL),
            ],
        ),
    ]
}

fn writes(of: &Source<'_>) -> Vec<Row> {
    let fastest = "× the fastest peer";
    vec![
        (
            "ingest, batches of 1,000, log not synced",
            vec![Check::least(fastest, of.best(measures::INGEST), 3.0)],
        ),
        (
            "ingest, single puts, log not synced",
            vec![Check::least(fastest, of.best(measures::PUT), 2.0)],
        ),
        ("durable puts, 8 callers", durable(of, measures::DURABLE[1])),
        ("durable puts, 64 callers", durable(of, measures::DURABLE[2])),
    ]
}

fn durable(of: &Source<'_>, measure: Measure) -> Vec<Check> {
    vec![
        Check::least("× the best peer", of.best(measure), 2.0),
        Check::least("of the bare loop", of.times(measure, "bare loop"), 0.8),
    ]
}

fn growth(of: &Source<'_>) -> Vec<Row> {
    let [small, medium, large] = ["growth-1M", "growth-10M", "growth-50M"];
    let floor = |size| of.ours(size, measures::UNIFORM);
    let growth = floor(large).zip(floor(small)).map(|(large, small)| large / small);
    let written = of.ours(large, measures::WRITE_AMPLIFICATION);
    vec![
        (
            "reopen after a clean close, 10M points",
            vec![Check::most("ms", of.ours(medium, measures::REOPEN), 20.0)],
        ),
        (
            "memory beside memtables and page cache, 50M points",
            vec![Check::most("MiB", of.ours(large, measures::MEMORY), 64.0)],
        ),
        (
            "cost growth",
            vec![
                Check::most("× a floor at 1M points, at 50M", growth, 1.5),
                Check::most("bytes written a byte flushed, 50M points", written, 5.0),
            ],
        ),
    ]
}

/// Ratios of ours to others.
struct Source<'a> {
    figures: &'a Figures,
    /// The databases that store points.
    columns: Vec<&'a str>,
}

impl Source<'_> {
    fn ours(&self, data: &str, measure: Measure) -> Option<f64> {
        self.figures.median(data, measure, ours::NAME)
    }

    /// How many times ours is better than `who`.
    fn times(&self, measure: Measure, who: &str) -> Option<f64> {
        let ours = self.ours(MAIN, measure)?;
        ratio(measure.better, ours, self.figures.median(MAIN, measure, who)?)
    }

    /// Which part of `who`'s figure ours is.
    fn part(&self, data: &str, measure: Measure, who: &str) -> Option<f64> {
        let ours = self.ours(data, measure)?;
        Some(ours / self.figures.median(data, measure, who)?)
    }

    /// How many times ours is better than the best of the others.
    fn best(&self, measure: Measure) -> Option<f64> {
        let ours = self.ours(MAIN, measure)?;
        let best = best_of_others(self.figures, MAIN, measure, &self.columns)?;
        ratio(measure.better, ours, best)
    }

    /// The rate on late data to the rate on the same data in order.
    fn late(&self, measure: Measure) -> Option<f64> {
        ratio(measure.better, self.ours(LATE, measure)?, self.ours(MAIN, measure)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_that_of_the_worst_check() {
        let reached = || Check::least("", Some(5.0), 5.0);
        assert_eq!(verdict(&[reached()]), "**reached**");
        let missed = Check::most("", Some(6.0), 5.0);
        assert_eq!(verdict(&[reached(), missed]), "missed by a factor of 1.20");
        let unknown = Check::most("", None, 5.0);
        assert_eq!(verdict(&[reached(), unknown]), "not measured");
    }

    #[test]
    fn nothing_is_claimed_without_figures() {
        let table = table(&Figures::default());
        assert!(!table.contains("reached"), "{table}");
        assert_eq!(table.matches("not measured").count(), table.lines().count() - 2);
    }
}
