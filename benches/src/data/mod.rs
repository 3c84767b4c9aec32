//! What is measured on: data sets with a seed each, the same at every run.

mod nyc2013;
mod points;
mod scalars;
mod sparse;
mod telemetry;
mod text;
pub mod uniform;

use std::collections::HashSet;

use kvtimedb_engine::{Timestamp, ValueRef};

pub use self::points::{Model, Part, Point, Points};
pub use self::telemetry::{Stream, Telemetry};
use crate::rng::Rng;

/// Points of time of one key are about so far apart, in microseconds.
pub const STEP_US: i64 = 1_000_000;

/// The first point of time.
pub const EPOCH_US: i64 = 1_700_000_000_000_000;

/// Versions of each key of a dense data set.
const VERSIONS: u64 = 200;

/// The longest delay of late data, in microseconds.
const LATE_US_MAX: u64 = 100 * STEP_US as u64;

/// A data set that can be made.
#[derive(Clone, Copy, Debug)]
pub struct DataSet {
    /// What arguments and figures call it.
    pub name: &'static str,
    /// What it is, for the reader of a report.
    pub about: &'static str,
    /// How its values are to be read: as JSON, or as any bytes.
    pub json: bool,
    /// How many points a run makes of it, unless it is told otherwise.
    points: usize,
    make: fn(usize) -> Points,
}

/// All of them, the main one first.
pub const DATA_SETS: [DataSet; 11] = [
    DataSet {
        name: "telemetry",
        about: "JSON of sensors, a point a second each with ±50 ms of jitter, stamped with the \
                millisecond: temperature, humidity and pressure that walk slowly under the noise of a sensor, a \
                status that rarely changes, a counter",
        json: true,
        points: 2_000_000,
        make: |points| dense(points).collect(),
    },
    DataSet {
        name: "late20",
        about: "the telemetry, 20 % of the points late by up to 100 s",
        json: true,
        points: 2_000_000,
        make: |points| late(dense(points).collect(), 20),
    },
    DataSet {
        name: "late10",
        about: "the telemetry, 10 % of the points late by up to 100 s",
        json: true,
        points: 500_000,
        make: |points| late(dense(points).collect(), 10),
    },
    DataSet {
        name: "micros",
        about: "the telemetry, stamped with the microsecond",
        json: true,
        points: 500_000,
        make: |points| dense(points).to_the_microsecond().collect(),
    },
    DataSet {
        name: "uniform",
        about: "JSON whose every field is drawn anew and independently: the least that a codec can do",
        json: true,
        points: 500_000,
        make: |points| uniform::points(dense(points).to_the_microsecond()),
    },
    DataSet {
        name: "floats",
        about: "decimals of eight characters, four after the point, that walk",
        json: true,
        points: 500_000,
        make: |points| scalars::floats(dense(points)),
    },
    DataSet {
        name: "ints",
        about: "whole numbers: gauges that walk, and counters",
        json: true,
        points: 500_000,
        make: |points| scalars::ints(dense(points)),
    },
    DataSet {
        name: "status",
        about: "status words that change once in twenty points",
        json: true,
        points: 500_000,
        make: |points| scalars::status(dense(points)),
    },
    DataSet {
        name: "sparse",
        about: "long keys of one to five versions each within a year: what a service keeps of its users",
        json: true,
        points: 500_000,
        make: sparse::points,
    },
    DataSet {
        name: "text",
        about: "100 to 200 bytes of made-up words and of random letters and digits, half and half",
        json: false,
        points: 500_000,
        make: |points| text::points(dense(points)),
    },
    DataSet {
        name: "nyc2013",
        about: "real: a year of hourly weather at three airports",
        json: true,
        points: 26_115,
        make: |_| nyc2013::points(),
    },
];

/// A point a second of as many sensors as it takes.
fn dense(points: usize) -> Telemetry {
    let keys = (points as u64).div_ceil(VERSIONS);
    Telemetry::new(keys, (points as u64).div_ceil(keys))
}

/// Lets some points arrive later than their time.
fn late(mut points: Points, percent: u64) -> Points {
    points.arrive_at(|i, ts| {
        let mut rng = Rng::new(i as u64 ^ 0x1a7e);
        let is_late = rng.below(100) < percent;
        ts + if is_late { 1 + rng.below(LATE_US_MAX) as i64 } else { 0 }
    });
    points
}

impl DataSet {
    /// Makes it: of its usual size, or of as many points as `points` says.
    pub fn make(&self, points: Option<usize>) -> Data {
        Data::new(*self, (self.make)(points.unwrap_or(self.points)))
    }

    /// How `value` is to be written.
    pub fn value<'a>(&self, value: &'a [u8]) -> ValueRef<'a> {
        if self.json { ValueRef::json(value) } else { ValueRef::octets(value) }
    }
}

/// A data set in memory, with the answers.
#[derive(Clone, Debug)]
pub struct Data {
    /// Which one it is.
    pub set: DataSet,
    /// In the order in which they are written.
    pub points: Points,
    /// What the answers should be.
    pub model: Model,
    /// The first and the last moment of any point.
    times: (Timestamp, Timestamp),
    /// Keys without points, among those that have some.
    missing: Vec<Vec<u8>>,
}

/// A question for a floor: the key's index, and when.
pub type Probe = (usize, Timestamp);

impl Data {
    fn new(set: DataSet, points: Points) -> Data {
        let model = Model::new(&points);
        let (times, missing) = (points.times(), missing_keys(points.keys()));
        Data { set, points, model, times, missing }
    }

    /// The key at an index.
    pub fn key(&self, index: usize) -> &[u8] {
        &self.points.keys()[index]
    }

    /// Keys without points, each as long as one that has some and its neighbour.
    pub fn missing(&self) -> &[Vec<u8>] {
        &self.missing
    }

    /// Any key.
    pub fn any_key(&self, rng: &mut Rng) -> usize {
        rng.below(self.points.keys().len() as u64) as usize
    }

    /// A moment from the first point to the last.
    pub fn any_time(&self, rng: &mut Rng) -> Timestamp {
        let (first, last) = self.times;
        first + rng.below((last - first + 1) as u64) as Timestamp
    }

    /// `count` questions, uniform in key and time.
    pub fn uniform_probes(&self, rng: &mut Rng, count: usize) -> Vec<Probe> {
        (0..count).map(|_| (self.any_key(rng), self.any_time(rng))).collect()
    }

    /// The answer to a floor.
    pub fn floor(&self, (key, at): Probe) -> Option<Point<'_>> {
        self.model.floor(&self.points, key, at)
    }
}

/// Each key with another last byte, if there is no such key; the first 100,000.
fn missing_keys(keys: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let known: HashSet<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let mut rng = Rng::new(0x715);
    let changed = keys.iter().filter(|key| !key.is_empty()).map(|key| {
        let mut key = key.clone();
        if let Some(last) = key.last_mut() {
            *last = b'a' + rng.below(26) as u8;
        }
        key
    });
    changed.filter(|key| !known.contains(key.as_slice())).take(100_000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_can_be_made_small_and_answers() {
        for set in DATA_SETS {
            let data = set.make(Some(2_000));
            assert!(data.points.len() >= 2_000, "{}: {}", set.name, data.points.len());
            assert!(!data.missing().is_empty(), "{}", set.name);
            let point = data.points.get(data.points.len() / 2);
            let key = data.points.keys().iter().position(|key| key == point.key).unwrap();
            assert_eq!(data.floor((key, point.ts)), Some(point), "{}", set.name);
        }
    }

    #[test]
    fn a_fifth_is_late() {
        let points = DATA_SETS[1].make(Some(20_000)).points;
        let (mut newest, mut late) = (points.get(0).ts, 0);
        for point in points.part(0..points.len()).iter() {
            // By more than a second: jitter and its place in the second are not lateness.
            late += usize::from(point.ts < newest - STEP_US);
            newest = newest.max(point.ts);
        }
        // A hundredth of the late are so by less than that.
        assert!((3_700..4_100).contains(&late), "{late}");
    }
}
