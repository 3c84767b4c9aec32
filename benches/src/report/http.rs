//! The tables of what was measured through HTTP.

use std::fmt::Write;

use super::table::{cell, header};
use super::targets::{Check, Row, verdicts};
use super::{ratio, shown};
use crate::figures::Figures;
use crate::http::measures::{
    ARROW, BUFFERED, Bulk, DURABLE, GETS, NDJSON, NOOP, ORIGINAL, OURS_V1, REDIS, SINGLES_DATA,
    Single,
};
use crate::measures::Measure;
use crate::ours;

/// Everyone, in the order of the columns.
const WHO: [&str; 5] = [NOOP, ours::NAME, OURS_V1, REDIS, ORIGINAL];

/// Whom ours is compared with.
const OTHERS: [&str; 3] = [NOOP, REDIS, ORIGINAL];

/// The data set on which questions and exports are measured.
const MAIN: &str = "telemetry";

fn singles() -> impl Iterator<Item = Single> {
    GETS.into_iter().chain(BUFFERED).chain(DURABLE)
}

/// Answers a second, and how many times those of each of the others ours are, by `/` and by `/v1`.
pub(super) fn rates(figures: &Figures) -> String {
    let mut names = vec!["answers a second"];
    names.extend(WHO);
    let compared = OTHERS.map(|other| format!("ours to {other}: `/`, `/v1`"));
    names.extend(compared.iter().map(String::as_str));
    let mut out = header(&names);
    for Single { rate, .. } in singles() {
        // Writing to a string can't fail, here and below.
        let _ = write!(out, "\n| {} |{}", rate.name, cells(figures, rate));
        for other in OTHERS {
            let ratios = [ours::NAME, OURS_V1].map(|who| {
                times(figures, rate, who, other)
                    .map_or("–".to_owned(), |times| format!("{times:.2}"))
            });
            let _ = write!(out, " {} |", ratios.join(", "));
        }
    }
    out
}

/// Latencies.
pub(super) fn latencies(figures: &Figures) -> String {
    let mut names = vec!["latency, µs: p50, p99"];
    names.extend(WHO);
    let mut out = header(&names);
    for single in singles() {
        let _ = write!(out, "\n| {} |", single.rate.name);
        for who in WHO {
            let median = |measure| {
                let median = figures.median(SINGLES_DATA, measure, who);
                median.map_or("–".to_owned(), shown)
            };
            let _ = write!(out, " {}, {} |", median(single.p50), median(single.p99));
        }
    }
    out
}

/// What the processes of the servers compute.
pub(super) fn cpu(figures: &Figures) -> String {
    let mut names = vec!["of the server's processor time a request, µs"];
    names.extend(WHO);
    let rows = singles()
        .map(|Single { rate, cpu, .. }| format!("\n| {} |{}", rate.name, cells(figures, cpu)));
    header(&names) + &rows.collect::<String>()
}

fn cells(figures: &Figures, measure: Measure) -> String {
    WHO.map(|who| cell(&figures.of(SINGLES_DATA, measure, who))).concat()
}

/// Many rows in one request.
pub(super) fn bulk(figures: &Figures) -> String {
    let sets: Vec<&str> = figures.data.iter().map(|data| data.name.as_str()).collect();
    let mut names = vec!["what"];
    names.extend(&sets);
    let rows = [NDJSON, ARROW].into_iter().flat_map(|bulk| {
        let Bulk { import, import_stopped, asof, export, .. } = bulk;
        [import, import_stopped, asof, export]
    });
    let rows = rows.map(|measure| {
        let cells = sets.iter().map(|set| cell(&figures.of(set, measure, ours::NAME)));
        format!("\n| {} |{}", measure.name, cells.collect::<String>())
    });
    header(&names) + &rows.collect::<String>()
}

/// How many times the rate of `other` that of `who` is.
fn times(figures: &Figures, rate: Measure, who: &str, other: &str) -> Option<f64> {
    let median = |who| figures.median(SINGLES_DATA, rate, who);
    ratio(rate.better, median(who)?, median(other)?)
}

/// What was aimed at, and whether it was reached.
pub(super) fn targets(figures: &Figures) -> String {
    let against = |single: Single, bounds: &[(&str, f64)]| {
        let mut checks = Vec::new();
        for (other, bound) in bounds {
            for (api, who) in [("/", ours::NAME), ("/v1", OURS_V1)] {
                let of = format!("× {other}, by `{api}`");
                checks.push(Check::least(&of, times(figures, single.rate, who, other), *bound));
            }
        }
        checks
    };
    // Of an import the slowest of the data sets counts.
    let least = |measure: Measure| {
        let medians: Option<Vec<f64>> = figures
            .data
            .iter()
            .map(|data| figures.median(&data.name, measure, ours::NAME))
            .collect();
        medians?.into_iter().reduce(f64::min)
    };
    let import = |bulk: Bulk, bound| {
        vec![
            Check::least("points/s acknowledged", least(bulk.import), bound),
            Check::least("points/s until all is in tables", least(bulk.import_stopped), bound),
        ]
    };
    let asof = |bulk: Bulk, bound| {
        vec![Check::least("lookups/s", figures.median(MAIN, bulk.asof, ours::NAME), bound)]
    };
    let rows: Vec<Row> = vec![
        ("GET, 64 connections", against(GETS[2], &[(NOOP, 0.9), (REDIS, 1.0), (ORIGINAL, 100.0)])),
        ("PUT, buffered, 64 connections", against(BUFFERED[2], &[(NOOP, 0.8)])),
        ("PUT, durable, 64 connections", against(DURABLE[2], &[(NOOP, 0.5), (ORIGINAL, 50.0)])),
        ("import of NDJSON, the slowest data set", import(NDJSON, 500_000.0)),
        ("import of Arrow, the slowest data set", import(ARROW, 1_000_000.0)),
        ("asof, NDJSON", asof(NDJSON, 300_000.0)),
        ("asof, Arrow", asof(ARROW, 1_000_000.0)),
    ];
    verdicts(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figure;

    fn figures(all: &[(&str, Measure, &str, f64)]) -> Figures {
        let figures = all.iter().map(|(data, measure, who, value)| Figure {
            data: (*data).to_owned(),
            measure: measure.id.to_owned(),
            who: (*who).to_owned(),
            value: *value,
        });
        Figures { figures: figures.collect(), ..Figures::default() }
    }

    #[test]
    fn a_row_compares_both_of_ours_with_each_of_the_others() {
        let rate = GETS[2].rate;
        let figures = figures(&[
            (SINGLES_DATA, rate, NOOP, 100.0),
            (SINGLES_DATA, rate, ours::NAME, 90.0),
            (SINGLES_DATA, rate, OURS_V1, 95.0),
            (SINGLES_DATA, rate, ORIGINAL, 0.5),
        ]);
        let table = rates(&figures);
        let row = table.lines().find(|line| line.starts_with("| GET, 64")).unwrap();
        assert!(row.ends_with("| 0.90, 0.95 | –, – | 180.00, 190.00 |"), "{row}");
        let table = targets(&figures);
        assert!(table.contains("0.900 × no-op, by `/` (≥ 0.9)<br>0.950 × no-op"), "{table}");
    }

    #[test]
    fn nothing_is_claimed_without_figures() {
        let figures = Figures::default();
        assert!(!targets(&figures).contains("reached"), "{}", targets(&figures));
        for table in [rates(&figures), latencies(&figures), cpu(&figures), bulk(&figures)] {
            assert!(!table.contains('*'), "{table}");
        }
    }

    #[test]
    fn the_slowest_data_set_of_an_import_counts() {
        let mut figures = figures(&[
            ("floats", NDJSON.import, ours::NAME, 9e5),
            ("status", NDJSON.import, ours::NAME, 4e5),
        ]);
        for name in ["floats", "status"] {
            figures.data.push(crate::figures::DataNote {
                name: name.to_owned(),
                about: String::new(),
                points: 1,
                keys: 1,
                key_bytes: 1.0,
                value_bytes: 1.0,
                entropy_bytes: None,
            });
        }
        assert!(targets(&figures).contains("400,000 points/s acknowledged (≥ 500000)"));
    }
}
