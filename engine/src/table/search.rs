//! Finding a place among sorted first records: those of a table's blocks, and of a block's chunks.
//!
//! All keys of such a list share some first bytes; the eight bytes behind those are kept as a number, so
//! that most of a search compares numbers that lie side by side. Only where such numbers are equal are
//! keys and timestamps looked at.

use std::cmp::Ordering;
use std::ops::Range;

use crate::key::{Timestamp, key_number};

/// Records in rising order of key and timestamp, one at least.
pub(super) trait FirstRecords {
    type Error;

    /// How many there are.
    fn len(&self) -> usize;

    /// What all keys begin with.
    fn shared(&self) -> &[u8];

    /// The number of a key, see [`key_number`].
    fn number(&self, index: usize) -> u64;

    /// The timestamp of a record.
    fn ts(&self, index: usize) -> Timestamp;

    /// Tells that a record's place will probably be read.
    fn prefetch(&self, _index: usize) {}

    /// The key of a record, without what all share.
    fn suffix(&self, index: usize) -> Result<&[u8], Self::Error>;
}

/// The last record that is not after `(key, ts)`; `None` where all are.
#[inline]
pub(super) fn find_last<R: FirstRecords>(
    records: &R,
    key: &[u8],
    ts: Timestamp,
) -> Result<Option<usize>, R::Error> {
    let shared = records.shared();
    let Some(suffix) = key.strip_prefix(shared) else {
        let all_before = key.cmp(shared) == Ordering::Greater;
        return Ok(all_before.then(|| records.len() - 1));
    };
    let number = key_number(suffix);
    let low = partition_point(0..records.len(), |i| records.number(i) < number);
    let is_likely = low < records.len() && records.number(low) == number;
    records.prefetch(if is_likely { low } else { low.saturating_sub(1) });
    let equal = |index: usize| index < records.len() && records.number(index) == number;
    let high = match (equal(low), equal(low + 1)) {
        (false, _) => low,
        (true, false) => low + 1,
        (true, true) => partition_point(low..records.len(), equal),
    };
    let after = after_equals(records, low..high, suffix, ts)?;
    Ok(after.checked_sub(1))
}

/// Among records whose numbers are those of the key, the first one that is after `(key, ts)`.
#[inline]
fn after_equals<R: FirstRecords>(
    records: &R,
    equals: Range<usize>,
    suffix: &[u8],
    ts: Timestamp,
) -> Result<usize, R::Error> {
    let (mut low, mut high) = (equals.start, equals.end);
    if low == high {
        return Ok(low);
    }
    // The versions of one key may fill many blocks: then timestamps tell by themselves.
    if records.suffix(low)? == suffix && (high - low == 1 || records.suffix(high - 1)? == suffix) {
        return Ok(partition_point(low..high, |i| records.ts(i) <= ts));
    }
    while low < high {
        let middle = usize::midpoint(low, high);
        if (records.suffix(middle)?, records.ts(middle)) <= (suffix, ts) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// The end of the leading places for which `holds` holds; it must hold for a prefix.
#[inline]
fn partition_point(range: Range<usize>, holds: impl Fn(usize) -> bool) -> usize {
    let (mut start, mut len) = (range.start, range.len());
    while len > 1 {
        let half = len / 2;
        // Which way a search goes can't be foretold: a choice of numbers, not of branches.
        start = if holds(start + half - 1) { start + half } else { start };
        len -= half;
    }
    start + usize::from(len == 1 && holds(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_point_is_found_wherever_it_is() {
        for len in 0..40 {
            for expected in 0..=len {
                assert_eq!(partition_point(7..7 + len, |i| i < 7 + expected), 7 + expected);
            }
        }
    }
}
