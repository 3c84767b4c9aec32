//! The fence that late data can't widen.
//!
//! One late record moves a table's least timestamp far back, and then every floor of the past would look
//! into the table. So a table also tells from where on the bulk of its records lies, and has a small
//! filter over the keys that have earlier ones: a floor of the past asks that one instead.

use super::samples::Samples;
use crate::key::{KeyHash, Timestamp};

/// One record in so many may lie before the bulk.
const LATE_SHARE: u64 = 50;

/// One key in so many may have records before the bulk. Where more have, as in data that comes in order,
/// the fence would turn nobody away.
const LATE_KEYS_SHARE: usize = 4;

/// What is to be known of the records to draw the fence.
pub(super) struct LateFence {
    records: Samples,
    /// Each key with its least timestamp.
    keys: Vec<(KeyHash, Timestamp)>,
}

impl LateFence {
    pub(super) fn new() -> Self {
        LateFence { records: Samples::new(), keys: Vec::new() }
    }

    /// Takes the first record of a key.
    pub(super) fn add_key(&mut self, hash: KeyHash, ts: Timestamp) {
        self.keys.push((hash, ts));
    }

    /// Takes a record.
    pub(super) fn add(&mut self, ts: Timestamp) {
        self.records.add(ts);
    }

    /// The hashes of all keys.
    pub(super) fn keys(&self) -> Vec<KeyHash> {
        self.keys.iter().map(|&(hash, _)| hash).collect()
    }

    /// Where the bulk begins, and the keys that have earlier records; `None` where such a fence would
    /// not pay.
    pub(super) fn draw(mut self) -> Option<(Timestamp, Vec<KeyHash>)> {
        let bulk_min_ts = self.records.quantile(1, LATE_SHARE)?;
        let is_late = |&&(_, min_ts): &&(KeyHash, Timestamp)| min_ts < bulk_min_ts;
        let late: Vec<KeyHash> = self.keys.iter().filter(is_late).map(|&(hash, _)| hash).collect();
        (!late.is_empty() && late.len() * LATE_KEYS_SHARE <= self.keys.len())
            .then_some((bulk_min_ts, late))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(
        keys: i64,
        versions: i64,
        ts: impl Fn(i64, i64) -> Timestamp,
    ) -> Option<(Timestamp, usize)> {
        let mut fence = LateFence::new();
        for key in 0..keys {
            fence.add_key(KeyHash::of(&key.to_le_bytes()), ts(key, 0));
            (0..versions).for_each(|version| fence.add(ts(key, version)));
        }
        fence.draw().map(|(bulk_min_ts, late)| (bulk_min_ts, late.len()))
    }

    #[test]
    fn few_late_keys_are_fenced_off() {
        let late = |key: i64, version: i64| {
            if key % 100 == 7 && version == 0 { key } else { 5000 + version }
        };
        assert_eq!(fence(1000, 40, late), Some((5000, 10)));
        assert_eq!(fence(1000, 1, |key, _| if key < 10 { key } else { 5000 }), Some((5000, 10)));
    }

    #[test]
    fn data_in_order_needs_no_such_fence() {
        assert_eq!(fence(100, 100, |_, version| version), None);
        assert_eq!(fence(100, 1, |_, _| 1), None);
        assert_eq!(fence(1, 1, |_, _| 1), None);
    }
}
