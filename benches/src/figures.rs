//! Figures as a run leaves them: a file of JSON lines, from which every table can be made again.
//!
//! A line has a `kind`: `run` (the machine and the build), `who` (a database and its settings), `data`
//! (a data set), or `figure` (one measurement). Later lines of the first three replace earlier ones of
//! the same name; figures add up.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::Result;
use crate::data::{Data, uniform};
use crate::measures::Measure;

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// On which data set.
    pub data: String,
    /// [`Measure::id`].
    pub measure: String,
    /// Whose.
    pub who: String,
    /// In the unit of the measure.
    pub value: f64,
}

/// Who was measured, and how it was set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// What figures call it.
    pub name: String,
    /// Packages and their versions.
    pub versions: String,
    /// Its settings, and where its promises differ.
    pub settings: String,
}

/// A data set as it was measured on.
#[derive(Clone, Debug, PartialEq)]
pub struct DataNote {
    /// What figures call it.
    pub name: String,
    /// What it is.
    pub about: String,
    /// How many points.
    pub points: u64,
    /// How many keys.
    pub keys: u64,
    /// The mean length of a point's key, in bytes.
    pub key_bytes: f64,
    /// The mean length of a value, in bytes.
    pub value_bytes: f64,
    /// The entropy of a point, in bytes, where it is known.
    pub entropy_bytes: Option<f64>,
}

/// Appends to a file of figures, and shows each.
#[derive(Debug)]
pub struct Recorder {
    file: Option<File>,
    round: usize,
}

impl Recorder {
    /// One that appends to the file at `path`, or only shows.
    pub fn new(path: Option<&Path>) -> Result<Recorder> {
        let open = |path| OpenOptions::new().create(true).append(true).open(path);
        Ok(Recorder { file: path.map(open).transpose()?, round: 0 })
    }

    /// From now on figures are of this round.
    pub fn begin_round(&mut self, round: usize) {
        self.round = round;
    }

    /// The machine and the build; `what` names the bench.
    pub fn run(&mut self, what: &str, machine: &str) -> Result<()> {
        self.line(&json!({"kind": "run", "name": what, "machine": machine}))
    }

    /// Who is measured.
    pub fn who(&mut self, who: &Who) -> Result<()> {
        let Who { name, versions, settings } = who;
        self.line(&json!({"kind": "who", "name": name, "versions": versions, "settings": settings}))
    }

    /// On what.
    pub fn data(&mut self, data: &Data) -> Result<()> {
        let (name, points) = (data.set.name, &data.points);
        let entropy = (name == "uniform").then(uniform::entropy_bytes);
        self.note(&DataNote {
            name: name.to_owned(),
            about: data.set.about.to_owned(),
            points: points.len() as u64,
            keys: points.keys().len() as u64,
            key_bytes: points.key_bytes(),
            value_bytes: points.value_bytes(),
            entropy_bytes: entropy,
        })
    }

    /// The same of data that is not in memory.
    pub fn note(&mut self, note: &DataNote) -> Result<()> {
        let DataNote { name, about, points, keys, key_bytes, value_bytes, entropy_bytes } = note;
        self.line(&json!({
            "kind": "data", "name": name, "about": about, "points": points, "keys": keys,
            "key_bytes": key_bytes, "value_bytes": value_bytes, "entropy_bytes": entropy_bytes,
        }))
    }

    /// A measurement.
    pub fn figure(&mut self, data: &str, measure: Measure, who: &str, value: f64) -> Result<()> {
        self.line(&json!({
            "kind": "figure", "round": self.round, "data": data, "measure": measure.id, "who": who,
            "value": value,
        }))
    }

    fn line(&mut self, line: &Value) -> Result<()> {
        eprintln!("{line}");
        if let Some(file) = &mut self.file {
            writeln!(file, "{line}")?;
        }
        Ok(())
    }
}

/// All that a file of figures holds.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// What was run, and on which machine.
    pub runs: Vec<(String, String)>,
    /// Who was measured, in the order of the file.
    pub who: Vec<Who>,
    /// On what, in the order of the file.
    pub data: Vec<DataNote>,
    /// The measurements.
    pub figures: Vec<Figure>,
}

impl Figures {
    /// Reads the lines of a file.
    pub fn parse(text: &str) -> Result<Figures> {
        let mut all = Figures::default();
        for (number, line) in text.lines().enumerate() {
            let line: Value = serde_json::from_str(line)?;
            all.add(&line).ok_or_else(|| format!("line {}: not a figure: {line}", number + 1))?;
        }
        Ok(all)
    }

    fn add(&mut self, line: &Value) -> Option<()> {
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        match line["kind"].as_str()? {
            "run" => {
                let run = (text("name")?, text("machine")?);
                replace(&mut self.runs, run, |a, b| a.0 == b.0);
            }
            "who" => {
                let (name, versions, settings) =
                    (text("name")?, text("versions")?, text("settings")?);
                replace(&mut self.who, Who { name, versions, settings }, |a, b| a.name == b.name);
            }
            "data" => {
                let note = DataNote {
                    name: text("name")?,
                    about: text("about")?,
                    points: line["points"].as_u64()?,
                    keys: line["keys"].as_u64()?,
                    key_bytes: line["key_bytes"].as_f64()?,
                    value_bytes: line["value_bytes"].as_f64()?,
                    entropy_bytes: line["entropy_bytes"].as_f64(),
                };
                replace(&mut self.data, note, |a, b| a.name == b.name);
            }
            "figure" => self.figures.push(Figure {
                data: text("data")?,
                measure: text("measure")?,
                who: text("who")?,
                value: line["value"].as_f64()?,
            }),
            _ => return None,
        }
        Some(())
    }

    /// Every figure of a measure.
    pub fn of(&self, data: &str, measure: Measure, who: &str) -> Vec<f64> {
        let same = |f: &&Figure| f.data == data && f.measure == measure.id && f.who == who;
        self.figures.iter().filter(same).map(|figure| figure.value).collect()
    }

    /// The median of a measure.
    pub fn median(&self, data: &str, measure: Measure, who: &str) -> Option<f64> {
        median(&self.of(data, measure, who))
    }
}

/// Puts `new` in the place of its namesake, or at the end.
fn replace<T>(all: &mut Vec<T>, new: T, same: impl Fn(&T, &T) -> bool) {
    match all.iter().position(|old| same(old, &new)) {
        Some(at) => all[at] = new,
        None => all.push(new),
    }
}

/// The figure in the middle.
pub fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measures::BYTES;

    #[test]
    fn what_is_recorded_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("figures.jsonl");
        let mut recorder = Recorder::new(Some(&path)).unwrap();
        recorder.run("peers", "a machine").unwrap();
        for (round, value) in [(1, 3.0), (2, 1.0), (3, 2.0)] {
            recorder.begin_round(round);
            recorder.figure("ints", BYTES, "redb", value).unwrap();
        }
        let read = Figures::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(read.runs, [("peers".to_owned(), "a machine".to_owned())]);
        assert_eq!(read.of("ints", BYTES, "redb"), [3.0, 1.0, 2.0]);
        assert_eq!(read.median("ints", BYTES, "redb"), Some(2.0));
        assert_eq!(read.median("ints", BYTES, "LMDB"), None);
        assert!(Figures::parse("{}").is_err());
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
