//! Points in memory, in the order in which they are written, and a model that answers for them.

use std::ops::Range;

use kvtimedb_engine::Timestamp;

/// One version to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point<'a> {
    /// Whose value it is.
    pub key: &'a [u8],
    /// Since when the value holds.
    pub ts: Timestamp,
    /// The value's bytes.
    pub value: &'a [u8],
}

/// Where a point's parts are.
#[derive(Clone, Copy, Debug)]
struct Entry {
    ts: Timestamp,
    key: u32,
    start: u32,
    bytes: u32,
}

/// Points in the order in which they are written; the keys once, the values end to end.
#[derive(Clone, Debug, Default)]
pub struct Points {
    keys: Vec<Vec<u8>>,
    entries: Vec<Entry>,
    values: Vec<u8>,
}

impl Points {
    /// None yet, of these keys. A key may stay without points.
    pub fn of_keys(keys: Vec<Vec<u8>>) -> Self {
        Points { keys, ..Points::default() }
    }

    /// Appends a point of the key at index `key`.
    pub fn push(&mut self, key: usize, ts: Timestamp, value: &[u8]) {
        let start = u32::try_from(self.values.len()).expect("less than 4 GiB of values");
        self.values.extend_from_slice(value);
        self.entries.push(Entry { ts, key: key as u32, start, bytes: value.len() as u32 });
    }

    /// How many points there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All keys.
    pub fn keys(&self) -> &[Vec<u8>] {
        &self.keys
    }

    /// The `i`-th point.
    pub fn get(&self, i: usize) -> Point<'_> {
        let Entry { ts, key, start, bytes } = self.entries[i];
        let (start, end) = (start as usize, start as usize + bytes as usize);
        Point { key: &self.keys[key as usize], ts, value: &self.values[start..end] }
    }

    /// Those in `range`.
    pub fn part(&self, range: Range<usize>) -> Part<'_> {
        assert!(range.end <= self.len(), "{range:?} of {} points", self.len());
        Part { points: self, range }
    }

    /// All of them, `points` at a time.
    pub fn parts(&self, points: usize) -> impl Iterator<Item = Part<'_>> {
        let starts = (0..self.len()).step_by(points);
        starts.map(move |start| self.part(start..self.len().min(start + points)))
    }

    /// The first and the last moment of any.
    pub fn times(&self) -> (Timestamp, Timestamp) {
        let times = || self.entries.iter().map(|entry| entry.ts);
        (times().min().unwrap_or_default(), times().max().unwrap_or_default())
    }

    /// Puts them into the order of `arrival`, which gives each its moment.
    pub fn arrive_at(&mut self, arrival: impl Fn(usize, Timestamp) -> Timestamp) {
        let mut order: Vec<(Timestamp, u32)> =
            (0..self.len()).map(|i| (arrival(i, self.entries[i].ts), i as u32)).collect();
        order.sort_unstable();
        self.entries = order.iter().map(|&(_, i)| self.entries[i as usize]).collect();
    }

    /// The mean length of a value, in bytes.
    pub fn value_bytes(&self) -> f64 {
        self.values.len() as f64 / self.len().max(1) as f64
    }

    /// The mean length of the keys of the points, in bytes.
    pub fn key_bytes(&self) -> f64 {
        let all: usize = self.entries.iter().map(|entry| self.keys[entry.key as usize].len()).sum();
        all as f64 / self.len().max(1) as f64
    }
}

/// Some neighbouring points.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    points: &'a Points,
    range: Range<usize>,
}

impl<'a> Part<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Point<'a>> + use<'a> {
        let points = self.points;
        self.range.clone().map(move |i| points.get(i))
    }
}

/// What [`Points`] hold, in the order of key and time.
#[derive(Clone, Debug)]
pub struct Model {
    /// Indexes of points, key by key, ascending in time.
    order: Vec<u32>,
    /// Where in `order` a key's versions begin; one more than there are keys.
    starts: Vec<usize>,
}

impl Model {
    /// The model of all of `points`; no `(key, ts)` may be among them twice.
    pub fn new(points: &Points) -> Self {
        let entry = |i: &u32| &points.entries[*i as usize];
        let mut order: Vec<u32> = (0..points.len() as u32).collect();
        order.sort_unstable_by_key(|i| (entry(i).key, entry(i).ts));
        let same = |pair: &[u32]| {
            let (a, b) = (entry(&pair[0]), entry(&pair[1]));
            (a.key, a.ts) == (b.key, b.ts)
        };
        assert!(!order.windows(2).any(same), "a version was made twice");
        let keys = 0..=points.keys.len() as u32;
        let starts = keys.map(|key| order.partition_point(|i| entry(i).key < key)).collect();
        Model { order, starts }
    }

    /// The indexes of all points of the key at index `key`, ascending in time.
    pub fn history(&self, key: usize) -> &[u32] {
        &self.order[self.starts[key]..self.starts[key + 1]]
    }

    /// The newest point of the key at index `key`, at or before `at`.
    pub fn floor<'a>(&self, points: &'a Points, key: usize, at: Timestamp) -> Option<Point<'a>> {
        let history = self.history(key);
        let after = history.partition_point(|i| points.entries[*i as usize].ts <= at);
        Some(points.get(history[after.checked_sub(1)?] as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_finds_the_newest_that_is_not_later() {
        let mut points = Points::of_keys(vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]);
        points.push(0, 20, b"two");
        points.push(2, 15, b"other");
        points.push(0, 10, b"one");
        points.arrive_at(|i, _| i as Timestamp);
        let model = Model::new(&points);
        let floor = |key, at| model.floor(&points, key, at).map(|point| point.value);
        assert_eq!(floor(0, 9), None);
        assert_eq!(floor(0, 19), Some(b"one".as_slice()));
        assert_eq!(floor(0, 20), Some(b"two".as_slice()));
        assert_eq!(floor(1, 99), None);
        assert_eq!(model.history(0), [2, 0]);
        assert_eq!(points.times(), (10, 20));
    }

    #[test]
    fn points_come_in_the_order_of_their_arrival() {
        let mut points = Points::of_keys(vec![b"a".to_vec()]);
        (0..4).for_each(|ts| points.push(0, ts, &[ts as u8]));
        points.arrive_at(|i, ts| if i == 1 { ts + 2 } else { ts });
        let order: Vec<_> =
            points.part(0..4).iter().map(|point| (point.ts, point.value[0])).collect();
        assert_eq!(order, [(0, 0), (2, 2), (1, 1), (3, 3)]);
    }
}
