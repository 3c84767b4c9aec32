//! Tables of figures, as Markdown.

use std::fmt::Write;

use super::{LATE, MAIN, count, shown};
use crate::figures::Figures;
use crate::measures::{self, Better, Measure};
use crate::ours;

/// The machine and the build of each bench that was run.
pub(super) fn machine(figures: &Figures) -> String {
    let lines = figures.runs.iter().map(|(bench, machine)| format!("- `{bench}`: {machine}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Everyone's versions and settings.
pub(super) fn who(figures: &Figures) -> String {
    let lines = figures
        .who
        .iter()
        .map(|who| format!("- **{}** ({}): {}", who.name, who.versions, who.settings));
    lines.collect::<Vec<_>>().join("\n")
}

/// What was measured on.
pub(super) fn data_sets(figures: &Figures) -> String {
    let mut out =
        header(&["data set", "points", "keys", "a key, bytes", "a value, bytes", "what it is"]);
    for data in figures.data.iter().filter(|data| !data.name.starts_with("growth")) {
        let entropy = data.entropy_bytes.map(|e| format!("; entropy {} bytes a point", shown(e)));
        let (points, keys) = (count(data.points), count(data.keys));
        let (key, value) = (shown(data.key_bytes), shown(data.value_bytes));
        let (name, about, entropy) = (&data.name, &data.about, entropy.unwrap_or_default());
        // Writing to a string can't fail, here and below.
        let _ =
            write!(out, "\n| `{name}` | {points} | {keys} | {key} | {value} | {about}{entropy} |");
    }
    out
}

/// A row a measure, with the ratio of ours to the best of the others.
pub(super) fn measures(
    figures: &Figures,
    data: &str,
    rows: &[Measure],
    columns: &[&str],
) -> String {
    let rows = rows.iter().map(|measure| (measure.name.to_owned(), data, *measure));
    ratios(figures, "what", rows, columns)
}

/// A row a data set, of one measure.
pub(super) fn by_data(figures: &Figures, measure: Measure, columns: &[&str]) -> String {
    let sets = figures.data.iter().map(|data| data.name.as_str()).filter(|name| {
        !name.starts_with("growth")
            && columns.iter().any(|who| figures.median(name, measure, who).is_some())
    });
    ratios(figures, "data set", sets.map(|name| (format!("`{name}`"), name, measure)), columns)
}

/// The late data beside the same in order, of each measure.
pub(super) fn late(figures: &Figures, rows: &[Measure], columns: &[&str]) -> String {
    let rows = rows.iter().flat_map(|measure| {
        [("in order", MAIN), ("20 % late", LATE)]
            .map(|(order, data)| (format!("{}: {order}", measure.name), data, *measure))
    });
    ratios(figures, "what", rows, columns)
}

/// Rows of a label, a data set and a measure.
fn ratios<'a>(
    figures: &Figures,
    first: &str,
    rows: impl Iterator<Item = (String, &'a str, Measure)>,
    columns: &[&str],
) -> String {
    let mut names = vec![first];
    names.extend(columns);
    names.push("ours to the best of the others");
    let mut out = header(&names);
    for (label, data, measure) in rows {
        let _ = write!(out, "\n| {label} |{}", cells(figures, data, measure, columns));
    }
    out
}

/// The figures of ours at each size.
pub(super) fn growth(figures: &Figures) -> String {
    let sizes: Vec<_> =
        figures.data.iter().filter(|data| data.name.starts_with("growth")).collect();
    let points: Vec<String> =
        sizes.iter().map(|data| format!("{} points", count(data.points))).collect();
    let mut names = vec!["what"];
    names.extend(points.iter().map(String::as_str));
    let mut out = header(&names);
    let rows = [
        measures::LOADED_UNIFORM,
        measures::UNIFORM,
        measures::BYTES,
        measures::WRITE_AMPLIFICATION,
        measures::MEMORY,
        measures::REOPEN,
        measures::COMPACTION,
    ];
    for measure in rows {
        let _ = write!(out, "\n| {} |", measure.name);
        for data in &sizes {
            let _ = write!(out, "{}", cell(&figures.of(&data.name, measure, ours::NAME)));
        }
    }
    out
}

/// The first two lines of a table.
pub(super) fn header(names: &[&str]) -> String {
    format!("| {} |\n|{}", names.join(" | "), "---|".repeat(names.len()))
}

fn cells(figures: &Figures, data: &str, measure: Measure, columns: &[&str]) -> String {
    let mut out = String::new();
    for who in columns {
        out.push_str(&cell(&figures.of(data, measure, who)));
    }
    let ours = figures.median(data, measure, ours::NAME);
    let ratio = ours.zip(best_of_others(figures, data, measure, columns));
    let ratio = ratio.and_then(|(ours, best)| super::ratio(measure.better, ours, best));
    let _ = write!(out, " {} |", ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}")));
    out
}

/// The best median among `columns` that aren't ours.
pub(super) fn best_of_others(
    figures: &Figures,
    data: &str,
    measure: Measure,
    columns: &[&str],
) -> Option<f64> {
    let others = columns.iter().filter(|who| !who.starts_with(ours::NAME));
    let medians = others.filter_map(|who| figures.median(data, measure, who));
    medians.reduce(|a, b| if measure.better == Better::Higher { a.max(b) } else { a.min(b) })
}

/// The median, and under it the least and the greatest.
pub(super) fn cell(figures: &[f64]) -> String {
    let Some(median) = crate::figures::median(figures) else { return " – |".to_owned() };
    if figures.len() == 1 {
        return format!(" **{}** |", shown(median));
    }
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!(" **{}**<br>{}–{} |", shown(median), shown(least), shown(greatest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_median_spread_and_ratio() {
        let mut figures = Figures::default();
        for (who, value) in [(ours::NAME, 2.0), (ours::NAME, 4.0), ("redb", 9.0), ("LMDB", 6.0)] {
            figures.figures.push(crate::figures::Figure {
                data: "ints".to_owned(),
                measure: measures::BYTES.id.to_owned(),
                who: who.to_owned(),
                value,
            });
        }
        let columns = [ours::NAME, "redb", "LMDB", "fjall"];
        let table = measures(&figures, "ints", &[measures::BYTES], &columns);
        let row = table.lines().last().unwrap();
        assert_eq!(
            row,
            "| bytes a point on disk, compacted | **3.00**<br>2.00–4.00 | **9.00** | **6.00** | – | \
             2.00 |"
        );
    }
}
