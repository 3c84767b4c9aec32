//! Lookups of every mode, timelines and differences.

use std::collections::BTreeSet;
use std::ops::Bound::{self, Excluded, Included, Unbounded};

use kvtimedb_engine::{Entry, KeyRange, Lookup, Mode, Order, Snapshot, Timestamp};

use super::{Comparison, Oracle, shown, since_of};

/// A key, and its versions at two moments.
type Sides = (Vec<u8>, [Option<Entry>; 2]);

const MODES: [Mode; 6] =
    [Mode::Floor, Mode::Ceiling, Mode::Exact, Mode::Before, Mode::After, Mode::Nearest];

impl Oracle {
    /// What `Snapshot::find` must answer.
    pub fn find(&self, key: &[u8], lookup: Lookup) -> Option<Entry> {
        let versions = &self.keys.get(key)?.versions;
        let at = lookup.at;
        let newest = |to: Bound<Timestamp>| versions.range((Unbounded, to)).next_back()?.1.clone();
        let oldest =
            |from: Bound<Timestamp>| versions.range((from, Unbounded)).find_map(|(_, v)| v.clone());
        let found = match lookup.mode {
            Mode::Floor => newest(Included(at)),
            Mode::Before => newest(Excluded(at)),
            Mode::Ceiling => oldest(Included(at)),
            Mode::After => oldest(Excluded(at)),
            Mode::Exact => versions.get(&at)?.clone(),
            Mode::Nearest => {
                let both = [newest(Included(at)), oldest(Included(at))];
                both.into_iter().flatten().min_by_key(|entry| (entry.ts.abs_diff(at), entry.ts))
            }
        };
        found.filter(|found| lookup.max_age.is_none_or(|age| found.ts.abs_diff(at) <= age))
    }

    /// What `Snapshot::timeline` must show, ascending: `None` is an end.
    fn timeline(&self, key: &[u8]) -> Vec<(Timestamp, Option<Vec<u8>>)> {
        let versions = self.keys.get(key).into_iter().flat_map(|timeline| &timeline.versions);
        versions.map(|(&ts, entry)| (ts, entry.as_ref().map(|entry| entry.value.clone()))).collect()
    }

    /// What `Snapshot::diff` must show of all keys.
    fn diff(&self, from: Timestamp, to: Timestamp) -> Vec<Sides> {
        let value = |entry: &Option<Entry>| {
            entry.as_ref().map(|entry| (entry.value_type, entry.value.clone()))
        };
        let sides = |key: &[u8]| [self.floor(key, from), self.floor(key, to)];
        let of_key = |key: &[u8]| (key.to_vec(), sides(key));
        self.keys().map(of_key).filter(|(_, [a, b])| value(a) != value(b)).collect()
    }

    /// A question at each of the moments, of each mode in turn, and the whole timeline.
    pub(super) fn compare_lookups(
        &self,
        snapshot: &Snapshot,
        key: &[u8],
        moments: impl Iterator<Item = Timestamp>,
        comparison: &mut Comparison,
    ) {
        let ages = [None, Some(0), Some(1), Some(u64::MAX), Some(20)];
        let since = since_of(snapshot);
        for (number, at) in moments.enumerate() {
            let mode = MODES[number % MODES.len()];
            // Before the horizon is what can't be asked for.
            let at =
                if mode == Mode::Before && since > Timestamp::MIN { at.max(since + 1) } else { at };
            let lookup = Lookup { at, mode, max_age: ages[number % ages.len()] };
            let expected = self.find(key, lookup);
            comparison.add(snapshot.find(key, lookup), expected.as_ref(), || {
                format!("find {} {lookup:?}", shown(key))
            });
        }
        let mut expected = self.timeline(key);
        expected.retain(|(ts, _)| *ts >= since);
        for order in [Order::Ascending, Order::Descending] {
            match timeline_of(snapshot, key, order) {
                Ok(found) if found == expected => {}
                Ok(found) => comparison.wrong.push(format!(
                    "timeline {} {order:?} shows {} versions, expected {}",
                    shown(key),
                    found.len(),
                    expected.len()
                )),
                Err(error) => comparison.refused.push(error),
            }
            expected.reverse();
        }
    }

    /// The differences between some of the moments, both ways.
    pub(super) fn compare_diffs(
        &self,
        snapshot: &Snapshot,
        moments: &BTreeSet<Timestamp>,
        comparison: &mut Comparison,
    ) {
        let some: Vec<_> = moments.iter().step_by(1 + moments.len() / 3).copied().collect();
        for pair in some.windows(2) {
            for (from, to) in [(pair[0], pair[1]), (pair[1], pair[0])] {
                match diff_of(snapshot, from, to) {
                    Ok(found) if found == self.diff(from, to) => {}
                    Ok(found) => comparison.wrong.push(format!(
                        "diff {from} {to} shows {} keys, expected {}",
                        found.len(),
                        self.diff(from, to).len()
                    )),
                    Err(error) => comparison.refused.push(error),
                }
            }
        }
    }
}

fn timeline_of(
    snapshot: &Snapshot,
    key: &[u8],
    order: Order,
) -> kvtimedb_engine::Result<Vec<(Timestamp, Option<Vec<u8>>)>> {
    let mut timeline = snapshot.timeline(key, Timestamp::MIN, Timestamp::MAX, order)?;
    let mut shown = Vec::new();
    while let Some((ts, value)) = timeline.next()? {
        shown.push((ts, value.map(|value| value.bytes.to_vec())));
    }
    Ok(shown)
}

fn diff_of(
    snapshot: &Snapshot,
    from: Timestamp,
    to: Timestamp,
) -> kvtimedb_engine::Result<Vec<Sides>> {
    let mut diff = snapshot.diff(KeyRange::all(), from, to)?;
    let mut shown = Vec::new();
    while let Some(changed) = diff.next()? {
        let sides = [changed.before.map(Entry::from), changed.after.map(Entry::from)];
        shown.push((changed.key.to_vec(), sides));
    }
    Ok(shown)
}
