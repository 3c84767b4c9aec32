//! A plot of ratios as SVG: horizontal bars in groups, on a logarithmic scale about 1.

use std::fmt::Write;

/// Colours that stand out from white and from black.
const COLOURS: [&str; 6] = ["#d95f02", "#1b9e77", "#7570b3", "#c73a86", "#8a7a10", "#4f81bd"];

const STYLE: &str = "
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .value { font-size: 10px }
  .middle { text-anchor: middle }
  .end { text-anchor: end }
  .ground { fill: #ffffff }
  .rule { stroke: #d0d7de }
  .one { stroke: #1f2328; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .ground { fill: #0d1117 }
    .rule { stroke: #3d444d }
    .one { stroke: #e6edf3 }
  }
";

const WIDTH: f64 = 900.0;
/// Where the bars may begin and end; labels stand before, figures after.
const LEFT: f64 = 325.0;
const RIGHT: f64 = 840.0;
const TOP: f64 = 96.0;
const BAR: f64 = 11.0;
const GAP: f64 = 9.0;

/// A group of bars: its label, and a ratio for each of the names, where there is one.
pub(super) type Group = (String, Vec<Option<f64>>);

/// The whole picture; `names` says whose bars there are.
pub(super) fn svg(title: &str, names: &[&str], groups: &[Group]) -> String {
    let scale = Scale::of(groups);
    let bars = |group: &Group| group.1.iter().flatten().count() as f64;
    let height: f64 = groups.iter().map(|group| bars(group) * BAR + GAP).sum();
    let bottom = TOP + height;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {total}\" role=\"img\" \
         aria-label=\"{title}\">\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{total}\"/>\n\
         <text class=\"title\" x=\"16\" y=\"26\">{title}</text>\n",
        total = bottom + 16.0,
    );
    legend(&mut out, names);
    axis(&mut out, &scale, bottom);
    let mut y = TOP + GAP / 2.0;
    for group in groups {
        let middle = y + bars(group) * BAR / 2.0 + 4.0;
        // Writing to a string can't fail, here and below.
        let _ = writeln!(
            out,
            "<text class=\"end\" x=\"{:.1}\" y=\"{middle:.1}\">{}</text>",
            LEFT - 12.0,
            group.0
        );
        for (ratio, colour) in group.1.iter().zip(COLOURS) {
            if let Some(ratio) = ratio {
                bar(&mut out, &scale, y, *ratio, colour);
                y += BAR;
            }
        }
        y += GAP;
    }
    out.push_str("</svg>\n");
    out
}

/// The decimal logarithms of the ends: a little beyond the least and the greatest ratio, with 1 between.
struct Scale {
    first: f64,
    last: f64,
}

impl Scale {
    fn of(groups: &[Group]) -> Scale {
        let decades = || groups.iter().flat_map(|group| &group.1).flatten().map(|r| r.log10());
        let first = decades().fold(0.0, f64::min) - 0.1;
        let last = decades().fold(1.0, f64::max) + 0.1;
        Scale { first, last }
    }

    fn x(&self, ratio: f64) -> f64 {
        let part = (ratio.log10() - self.first) / (self.last - self.first);
        LEFT + part * (RIGHT - LEFT)
    }
}

fn legend(out: &mut String, names: &[&str]) {
    let mut x = 16.0;
    let _ = writeln!(out, "<text x=\"{x}\" y=\"52\">beside</text>");
    x += 48.0;
    for (name, colour) in names.iter().zip(COLOURS) {
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"43\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"52\">{name}</text>",
            x + 15.0
        );
        x += 34.0 + 8.0 * name.len() as f64;
    }
}

fn axis(out: &mut String, scale: &Scale, bottom: f64) {
    for decade in scale.first.ceil() as i32..=scale.last.floor() as i32 {
        let (ratio, class) = (10f64.powi(decade), if decade == 0 { "one" } else { "rule" });
        let x = scale.x(ratio);
        let _ = writeln!(
            out,
            "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom:.1}\"/>\
             <text class=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{ratio}×</text>",
            TOP - 6.0
        );
    }
    let one = scale.x(1.0);
    let _ = writeln!(
        out,
        "<text class=\"middle\" x=\"{:.1}\" y=\"{:.1}\">better →</text>",
        f64::midpoint(one, RIGHT),
        TOP - 22.0
    );
    // Only where there is room for the words.
    if scale.first < -0.4 {
        let _ = writeln!(
            out,
            "<text class=\"middle\" x=\"{:.1}\" y=\"{:.1}\">← worse</text>",
            f64::midpoint(LEFT, one),
            TOP - 22.0
        );
    }
}

fn bar(out: &mut String, scale: &Scale, y: f64, ratio: f64, colour: &str) {
    let (one, end) = (scale.x(1.0), scale.x(ratio));
    let _ = writeln!(
        out,
        "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
         <text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}×</text>",
        one.min(end),
        y + 1.0,
        (end - one).abs().max(1.0),
        BAR - 2.0,
        one.max(end) + 4.0,
        y + BAR - 2.0,
        digits(ratio)
    );
}

fn digits(ratio: f64) -> String {
    match ratio {
        r if r >= 99.5 => format!("{r:.0}"),
        r if r >= 9.95 => format!("{r:.1}"),
        r => format!("{r:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ratio_has_a_bar_within_the_picture() {
        let groups = [
            ("floor".to_owned(), vec![Some(0.04), Some(1.0)]),
            ("bytes".to_owned(), vec![None, Some(250.0)]),
        ];
        let svg = svg("a title", &["A", "B"], &groups);
        assert_eq!(svg.matches("class=\"value\"").count(), 3);
        let scale = Scale::of(&groups);
        assert!(scale.x(0.04) > LEFT && scale.x(250.0) < RIGHT);
    }
}
