//! The report: a frame written by hand, and tables and plots made from figures.

mod http;
mod plot;
mod table;
mod targets;

use crate::figures::Figures;
use crate::measures::{self, ALL, Better, Measure};
use crate::{Result, ours};

/// The data set on which everything is measured.
const MAIN: &str = "telemetry";

/// The same, a fifth of it late.
const LATE: &str = "late20";

/// Puts what the figures say into the places of a frame: `{{name}}` on a line of its own. The error
/// names a place that nobody knows.
pub fn document(frame: &str, figures: &Figures) -> Result<String> {
    let mut out = String::new();
    for line in frame.lines() {
        match line.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")) {
            Some(name) => out.push_str(&part(name, figures)?),
            None => out.push_str(line),
        }
        out.push('\n');
    }
    Ok(out)
}

fn part(name: &str, figures: &Figures) -> Result<String> {
    let columns = databases(figures);
    Ok(match name {
        "machine" => table::machine(figures),
        "databases" => table::who(figures),
        "data sets" => table::data_sets(figures),
        "targets" => targets::table(figures),
        "main" => table::measures(figures, MAIN, &measures_of(figures, MAIN, &columns), &columns),
        "late" => table::late(
            figures,
            &[measures::LOADED_UNIFORM, measures::UNIFORM, measures::BYTES, measures::INGEST],
            &columns,
        ),
        "bytes" => table::by_data(figures, measures::BYTES, &columns),
        "floors" => table::by_data(figures, measures::UNIFORM, &columns),
        "ingest" => table::by_data(figures, measures::INGEST, &columns),
        "bare" => table::measures(figures, MAIN, &measures::DURABLE, &[ours::NAME, "bare loop"]),
        "asof" => {
            let asked = figures.figures.iter().filter(|f| f.measure == measures::ASOF.id);
            let mut columns: Vec<&str> = Vec::new();
            for who in asked.map(|figure| figure.who.as_str()) {
                if !columns.contains(&who) {
                    columns.push(who);
                }
            }
            table::measures(figures, MAIN, &[measures::ASOF], &columns)
        }
        "growth" => table::growth(figures),
        "http targets" => http::targets(figures),
        "http rates" => http::rates(figures),
        "http latencies" => http::latencies(figures),
        "http cpu" => http::cpu(figures),
        "http bulk" => http::bulk(figures),
        _ => return Err(format!("the frame asks for {name:?}").into()),
    })
}

/// The plots: the name of each file, and its text.
pub fn plots(figures: &Figures) -> [(&'static str, String); 2] {
    let columns = databases(figures);
    let others = &columns[1.min(columns.len())..];
    let rows = measures_of(figures, MAIN, &columns);
    // Either no question of better or worse, or said by another row.
    let left_out = [measures::MIXED_RATE, measures::COMPACTION, measures::HELD];
    let rows = rows.iter().filter(|measure| !left_out.contains(measure));
    let main: Vec<_> = rows
        .map(|measure| (short(measure.name), ratios(figures, MAIN, *measure, others)))
        .collect();
    let sets = figures.data.iter().map(|data| data.name.as_str());
    let bytes: Vec<_> = sets
        .map(|set| (set.to_owned(), ratios(figures, set, measures::BYTES, others)))
        .filter(|(_, ratios)| ratios.iter().any(Option::is_some))
        .collect();
    [
        ("telemetry.svg", plot::svg("How much better KVTimeDB is: telemetry", others, &main)),
        ("bytes.svg", plot::svg("How much smaller KVTimeDB is: each data set", others, &bytes)),
    ]
}

/// A measure without its unit.
fn short(name: &str) -> String {
    name.rsplit_once(", ").map_or(name, |(short, _)| short).to_owned()
}

/// Those that store points: ours first, then in the order of the figures.
fn databases(figures: &Figures) -> Vec<&str> {
    let names = figures.who.iter().map(|who| who.name.as_str());
    names.filter(|who| figures.median(MAIN, measures::BYTES, who).is_some()).collect()
}

/// What was measured on a data set of any of `columns`.
fn measures_of(figures: &Figures, data: &str, columns: &[&str]) -> Vec<Measure> {
    let measured =
        |measure: &Measure| columns.iter().any(|who| figures.median(data, *measure, who).is_some());
    ALL.into_iter().filter(|m| *m != measures::ASOF).filter(measured).collect()
}

/// How many times ours is better than each of `others`.
fn ratios(figures: &Figures, data: &str, measure: Measure, others: &[&str]) -> Vec<Option<f64>> {
    let ours = figures.median(data, measure, ours::NAME);
    let ratio = |who: &&str| ratio(measure.better, ours?, figures.median(data, measure, who)?);
    others.iter().map(ratio).collect()
}

/// Above 1 where `ours` is the better one.
fn ratio(better: Better, ours: f64, other: f64) -> Option<f64> {
    let ratio = if better == Better::Higher { ours / other } else { other / ours };
    ratio.is_finite().then_some(ratio)
}

/// A whole number in groups of three digits.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|g| str::from_utf8(g).ok()).collect();
    groups.join(",")
}

/// Three digits, or all before the point. No figure is negative.
fn shown(figure: f64) -> String {
    match figure {
        f if f >= 99.95 => count(f.round() as u64),
        f if f >= 9.995 => format!("{f:.1}"),
        f if f >= 0.9995 => format!("{f:.2}"),
        f => format!("{f:.3}"),
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
        of(99.96, "100");
        of(999.4, "999");
        of(1_234_567.8, "1,234,568");
    }

    #[test]
    fn better_is_above_one() {
        assert_eq!(ratio(Better::Higher, 2.0, 1.0), Some(2.0));
        assert_eq!(ratio(Better::Lower, 2.0, 1.0), Some(0.5));
        assert_eq!(ratio(Better::Higher, 2.0, 0.0), None);
    }

    #[test]
    fn a_frame_keeps_its_words_and_its_places_are_known() {
        let figures = Figures::default();
        let text = document("One.\n{{machine}}\nTwo {{machine}}.", &figures).unwrap();
        assert!(text.starts_with("One.\n") && text.ends_with("\nTwo {{machine}}.\n"), "{text}");
        assert!(document("{{weather}}", &figures).is_err());
    }
}
