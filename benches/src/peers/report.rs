//! A table of what was measured, as Markdown.

use std::fmt::Write;

use super::{Kind, machine, version_of};

/// Which of two figures is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// As of a rate.
    Higher,
    /// As of a duration or a size.
    Lower,
}

/// What is measured of every database, once a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// With its unit.
    pub name: &'static str,
    /// Which figure is the better one.
    pub better: Better,
}

impl Measure {
    /// Of which more is better.
    pub const fn higher(name: &'static str) -> Self {
        Measure { name, better: Better::Higher }
    }

    /// Of which less is better.
    pub const fn lower(name: &'static str) -> Self {
        Measure { name, better: Better::Lower }
    }
}

/// Figures as they come in.
#[derive(Debug)]
pub struct Report {
    kinds: Vec<Kind>,
    rows: Vec<(Measure, Vec<Vec<f64>>)>,
}

impl Report {
    /// An empty one of these databases, of which the first is ours.
    pub fn new(kinds: &[Kind]) -> Self {
        Report { kinds: kinds.to_vec(), rows: Vec::new() }
    }

    /// Adds a figure of the database at `index`. Rows stand in the order of their first figure.
    pub fn add(&mut self, measure: Measure, index: usize, figure: f64) {
        eprintln!("{}: {}: {}", measure.name, self.kinds[index].name, shown(figure));
        let row = self.rows.iter().position(|(known, _)| *known == measure).unwrap_or_else(|| {
            self.rows.push((measure, vec![Vec::new(); self.kinds.len()]));
            self.rows.len() - 1
        });
        self.rows[row].1[index].push(figure);
    }

    /// The whole report; `setting` says on what data, and how often.
    pub fn to_markdown(&self, setting: &str) -> String {
        let mut out = format!("{}. {setting}\n\n", machine());
        for kind in &self.kinds {
            let versions: Vec<String> =
                kind.packages.iter().map(|name| format!("{name} {}", version_of(name))).collect();
            // Writing to a string can't fail, here and below.
            let _ =
                writeln!(out, "- **{}** ({}): {}", kind.name, versions.join(", "), kind.settings);
        }
        out.push_str(
            "\nThe median, and under it the least and the greatest of the rounds.\n\n| what |",
        );
        for kind in &self.kinds {
            let _ = write!(out, " {} |", kind.name);
        }
        let rocksdb = self.kinds.iter().position(|kind| kind.name == "RocksDB");
        out.push_str(" ours to the best of the others |");
        out.push_str(if rocksdb.is_some() { " ours to RocksDB |\n" } else { "\n" });
        let columns = 2 + self.kinds.len() + usize::from(rocksdb.is_some());
        let _ = writeln!(out, "|{}", "---|".repeat(columns));
        for (measure, figures) in &self.rows {
            let medians: Vec<Option<f64>> = figures.iter().map(|f| median(f)).collect();
            let _ = write!(out, "| {} |", measure.name);
            for (figures, median) in figures.iter().zip(&medians) {
                out.push_str(&cell(figures, *median));
            }
            let best = medians[1..].iter().flatten().copied().reduce(|a, b| match measure.better {
                Better::Higher => a.max(b),
                Better::Lower => a.min(b),
            });
            out.push_str(&ratio(measure.better, medians[0], best));
            if let Some(rocksdb) = rocksdb {
                out.push_str(&ratio(measure.better, medians[0], medians[rocksdb]));
            }
            out.push('\n');
        }
        out.push_str("\nA ratio above 1 means that ours is the better one.\n");
        out
    }
}

fn cell(figures: &[f64], median: Option<f64>) -> String {
    let Some(median) = median else { return " – |".to_owned() };
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!(" **{}**<br>{}–{} |", shown(median), shown(least), shown(greatest))
}

fn ratio(better: Better, ours: Option<f64>, other: Option<f64>) -> String {
    match (ours, other) {
        (Some(ours), Some(other)) if ours > 0.0 && other > 0.0 => {
            let ratio = if better == Better::Higher { ours / other } else { other / ours };
            format!(" {ratio:.2} |")
        }
        _ => " – |".to_owned(),
    }
}

fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Three digits, or all before the point.
fn shown(figure: f64) -> String {
    match figure.abs() {
        f if f >= 100.0 => {
            let digits = format!("{figure:.0}");
            let groups: Vec<&str> =
                digits.as_bytes().rchunks(3).rev().filter_map(|g| str::from_utf8(g).ok()).collect();
            groups.join(",")
        }
        f if f >= 10.0 => format!("{figure:.1}"),
        f if f >= 1.0 => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let of = |figure, expected: &str| assert_eq!(shown(figure), expected);
        of(0.1234, "0.123");
        of(1.234, "1.23");
        of(12.34, "12.3");
        of(999.4, "999");
        of(1_234_567.8, "1,234,568");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn better_is_above_one() {
        assert_eq!(ratio(Better::Higher, Some(2.0), Some(1.0)), " 2.00 |");
        assert_eq!(ratio(Better::Lower, Some(2.0), Some(1.0)), " 0.50 |");
        assert_eq!(ratio(Better::Lower, Some(2.0), None), " – |");
    }
}
