//! Numbers over windows of time, from one walk through a key's timeline.

use super::history::Timeline;
use super::state::SuperVersion;
use crate::error::{Error, Result};
use crate::iter::Order;
use crate::key::{EntryRef, SeqNo, Timestamp, ValueRef, ValueType};

/// Aggregates over windows of time; see [`Snapshot::aggregate`](crate::Snapshot::aggregate). It shows
/// the database as it was when it was made.
#[derive(Debug)]
pub struct Aggregate {
    timeline: Timeline,
    /// The next change of the timeline, which lies in a window to come.
    ahead: Option<(Timestamp, Option<f64>)>,
    /// The value in force where the next window begins.
    in_force: Option<f64>,
    /// Where the next window begins; wider than a timestamp, so that there is always a next one.
    from: i128,
    to: Timestamp,
    every: u64,
}

/// What the versions in a window come to. Sums and means are of the versions in it, each counting the
/// same; the time-weighted average is of the values in force, each counting as long as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Its first timestamp.
    pub from: Timestamp,
    /// Its last timestamp.
    pub to: Timestamp,
    /// How many versions lie in it.
    pub count: u64,
    /// Their sum; 0 where there are none.
    pub sum: f64,
    /// The least of them.
    pub min: Option<f64>,
    /// The greatest of them.
    pub max: Option<f64>,
    /// The newest of them.
    pub last: Option<f64>,
    /// The time-weighted average of what was in force, also of the value that was there before the
    /// window. Times without a value, before the first one and after an end, don't count; `None` where
    /// nothing was in force.
    pub twa: Option<f64>,
}

impl Window {
    /// The mean of the versions in it, if there are any.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

impl SuperVersion {
    pub(super) fn aggregate(
        &self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        every: u64,
        visible: SeqNo,
    ) -> Result<Aggregate> {
        if every == 0 {
            return Err(Error::InvalidArgument("windows of length 0: every is at least 1".into()));
        }
        self.check_horizon(from)?;
        // The value before the first window, which an erase or an end may have taken away.
        let carried = self.floor_entry(key, from, visible)?;
        let in_force = carried.map(|entry| number_of_entry(&EntryRef::from(&entry))).transpose()?;
        let timeline = self.timeline(key, from, to, Order::Ascending, visible)?;
        let mut aggregate =
            Aggregate { timeline, ahead: None, in_force, from: from.into(), to, every };
        aggregate.look_ahead()?;
        Ok(aggregate)
    }
}

impl Aggregate {
    /// The next window. After an error there should be no further call.
    ///
    /// Errors: [`Error::NotNumeric`] where a version is not a JSON number that an `f64` can take.
    #[expect(clippy::should_implement_trait, reason = "it fails, and ends with its first error")]
    pub fn next(&mut self) -> Result<Option<Window>> {
        if self.from > i128::from(self.to) {
            return Ok(None);
        }
        let from = self.from as Timestamp;
        let end = (self.from + i128::from(self.every)).min(i128::from(self.to) + 1);
        let to = (end - 1) as Timestamp;
        let mut window =
            Window { from, to, count: 0, sum: 0.0, min: None, max: None, last: None, twa: None };
        let mut weighted = Weighted::default();
        let mut since = self.from;
        while let Some((ts, value)) = self.ahead.filter(|&(ts, _)| ts <= to) {
            weighted.add(self.in_force, i128::from(ts) - since);
            since = ts.into();
            self.in_force = value;
            if let Some(value) = value {
                window.add(value);
            }
            self.look_ahead()?;
        }
        weighted.add(self.in_force, end - since);
        window.twa = weighted.average();
        self.from = end;
        Ok(Some(window))
    }

    fn look_ahead(&mut self) -> Result<()> {
        self.ahead = match self.timeline.next()? {
            Some((ts, value)) => Some((ts, value.map(|value| number(ts, value)).transpose()?)),
            None => None,
        };
        Ok(())
    }
}

impl Window {
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.min = Some(self.min.map_or(value, |min| min.min(value)));
        self.max = Some(self.max.map_or(value, |max| max.max(value)));
        self.last = Some(value);
    }
}

/// Values with the lengths of time that they were in force. The average is carried along, because a sum
/// of products could be too large where each value is not.
#[derive(Default)]
struct Weighted {
    average: f64,
    time: f64,
}

impl Weighted {
    fn add(&mut self, value: Option<f64>, time: i128) {
        let Some(value) = value.filter(|_| time > 0) else { return };
        let time = time as f64;
        self.time += time;
        let share = time / self.time;
        // Not by their difference, which could be too large as well.
        self.average = self.average * (1.0 - share) + value * share;
    }

    fn average(&self) -> Option<f64> {
        (self.time > 0.0).then_some(self.average)
    }
}

fn number_of_entry(entry: &EntryRef<'_>) -> Result<f64> {
    number(entry.ts, ValueRef { value_type: entry.value_type, bytes: entry.value })
}

/// A JSON number. What begins like one in JSON text is one.
fn number(ts: Timestamp, value: ValueRef<'_>) -> Result<f64> {
    let text = (value.value_type == ValueType::Json)
        .then(|| std::str::from_utf8(value.bytes).ok())
        .flatten()
        .filter(|text| text.starts_with(|first: char| first == '-' || first.is_ascii_digit()));
    let number = text.and_then(|text| text.parse::<f64>().ok());
    number.filter(|number| number.is_finite()).ok_or(Error::NotNumeric { ts })
}
