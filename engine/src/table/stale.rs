//! What of a table a horizon makes garbage.
//!
//! A record is *stale* once the next version of its key in the table, a put or an end, is at or before the
//! horizon, and an end is so once it is before the horizon itself. A merge may leave stale records away,
//! unless what other sources hold forbids it. So what is stale already under the horizon that the table
//! was written under is there because it had to stay, and is not counted: whoever rewrites a table for
//! what is stale in it finds less of that in what he has written.

use super::samples::Samples;
use crate::key::{Tag, Timestamp, ValueKind};

/// Worth a merge is a table of which one in so many records is stale: each of those that are dropped costs
/// at most three others that are written anew.
const STALE_SHARE: u64 = 4;

/// No horizon makes anything stale.
pub(super) const NEVER: Timestamp = Timestamp::MAX;

/// Counts the records of a table that become stale, by the horizon at which they do.
pub(super) struct StaleFence {
    /// The table is written under it.
    horizon: Timestamp,
    /// The horizons above it at which a record becomes stale by the next one.
    succeeded: Samples,
    /// The least horizon above it at which any record is stale.
    min: Timestamp,
    /// Whether the last record was a put or an end.
    stands: bool,
}

impl StaleFence {
    pub(super) fn new(horizon: Timestamp) -> Self {
        StaleFence { horizon, succeeded: Samples::new(), min: NEVER, stands: false }
    }

    /// Takes the next record.
    pub(super) fn add(&mut self, is_new_key: bool, ts: Timestamp, tag: Tag) {
        let kind = tag.kind();
        if kind != ValueKind::Erase && self.stands && !is_new_key && ts > self.horizon {
            self.succeeded.add(ts);
            self.min = self.min.min(ts);
        }
        if kind == ValueKind::End && ts >= self.horizon {
            self.min = self.min.min(ts.saturating_add(1));
        }
        self.stands = kind != ValueKind::Erase;
    }

    /// From which horizon on anything of so many records is stale, and from which on a part that is worth
    /// a merge.
    pub(super) fn draw(mut self, records: u64) -> (Timestamp, Timestamp) {
        let worth = records.div_ceil(STALE_SHARE);
        let succeeded = self.succeeded.taken();
        let worth_at = (worth <= succeeded).then(|| self.succeeded.quantile(worth - 1, succeeded));
        (self.min, worth_at.flatten().unwrap_or(NEVER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::ValueType;

    const PUT: Tag = Tag::put(ValueType::Octets);

    /// Of keys with these records each.
    fn fence(horizon: Timestamp, keys: &[&[(Timestamp, Tag)]]) -> (Timestamp, Timestamp) {
        let mut fence = StaleFence::new(horizon);
        for records in keys {
            for (i, &(ts, tag)) in records.iter().enumerate() {
                fence.add(i == 0, ts, tag);
            }
        }
        fence.draw(keys.iter().map(|records| records.len() as u64).sum())
    }

    #[test]
    fn a_record_is_stale_once_the_horizon_reaches_the_next() {
        let row: Vec<_> = (1..=100).map(|ts| (ts * 10, PUT)).collect();
        assert_eq!(
            fence(Timestamp::MIN, &[&row]),
            (20, 260),
            "25 of 100 records have a next one by 260"
        );
        assert_eq!(
            fence(500, &[&row]),
            (510, 750),
            "what had to stay under 500 is not counted again"
        );
        assert_eq!(fence(900, &[&row]), (910, NEVER), "10 of 100 are too few");
        assert_eq!(fence(1000, &[&row]), (NEVER, NEVER));
    }

    #[test]
    fn the_only_version_of_a_key_is_never_stale_and_an_end_is() {
        let keys: [&[(Timestamp, Tag)]; 2] = [&[(1, PUT)], &[(5, PUT)]];
        assert_eq!(fence(Timestamp::MIN, &keys), (NEVER, NEVER));
        assert_eq!(fence(Timestamp::MIN, &[&[(1, Tag::END)]]), (2, NEVER));
        assert_eq!(fence(1, &[&[(1, Tag::END)]]), (2, NEVER), "one at the horizon is read");
        assert_eq!(fence(2, &[&[(1, Tag::END)]]), (NEVER, NEVER));
    }

    #[test]
    fn an_erase_makes_nothing_stale() {
        assert_eq!(
            fence(Timestamp::MIN, &[&[(1, PUT), (2, Tag::ERASE), (3, PUT)]]),
            (NEVER, NEVER)
        );
        assert_eq!(fence(Timestamp::MIN, &[&[(1, PUT), (2, PUT), (3, Tag::ERASE)]]), (2, 2));
    }

    #[test]
    fn the_least_and_the_greatest_timestamps_are_no_exception() {
        let edges = [(Timestamp::MIN, PUT), (Timestamp::MAX, PUT)];
        assert_eq!(fence(Timestamp::MIN, &[&edges]), (NEVER, NEVER));
        assert_eq!(fence(Timestamp::MAX, &[&edges]), (NEVER, NEVER));
        assert_eq!(fence(Timestamp::MIN, &[&[(Timestamp::MAX, Tag::END)]]), (NEVER, NEVER));
    }
}
