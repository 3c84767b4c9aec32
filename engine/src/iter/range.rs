//! Which keys a scan shows, and in which order.

use std::ops::{Bound, RangeBounds};

/// The order in which keys or timestamps are walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The least first.
    Ascending,
    /// The greatest first.
    Descending,
}

/// A range of keys, in the order of their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    start: Bound<Vec<u8>>,
    end: Bound<Vec<u8>>,
}

impl KeyRange {
    /// Every key.
    pub const fn all() -> Self {
        KeyRange { start: Bound::Unbounded, end: Bound::Unbounded }
    }

    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        while end.last() == Some(&u8::MAX) {
            end.pop();
        }
        let end = match end.last_mut() {
            Some(last) => {
                *last += 1;
                Bound::Excluded(end)
            }
            None => Bound::Unbounded,
        };
        KeyRange { start: Bound::Included(prefix.to_vec()), end }
    }

    /// The keys between two bounds. Where the end lies before the start there are none.
    ///
    /// ```
    /// use kvtimedb_engine::KeyRange;
    ///
    /// let hours = KeyRange::between("sensor/3".."sensor/5");
    /// let rest = KeyRange::between("sensor/5"..);
    /// # let _ = (hours, rest);
    /// ```
    pub fn between<K: AsRef<[u8]>>(bounds: impl RangeBounds<K>) -> Self {
        let owned = |bound: Bound<&K>| bound.map(|key| key.as_ref().to_vec());
        KeyRange { start: owned(bounds.start_bound()), end: owned(bounds.end_bound()) }
    }

    /// Where a walk in this order begins.
    pub(crate) fn first(&self, order: Order) -> Bound<&[u8]> {
        let bound = match order {
            Order::Ascending => &self.start,
            Order::Descending => &self.end,
        };
        bound.as_ref().map(Vec::as_slice)
    }

    /// Lets a walk in this order begin behind `key`.
    pub fn begin_behind(&mut self, key: &[u8], order: Order) {
        match order {
            Order::Ascending => self.start = Bound::Excluded(key.to_vec()),
            Order::Descending => self.end = Bound::Excluded(key.to_vec()),
        }
    }

    /// Whether a walk in this order that came to `key` has left the range.
    pub(crate) fn ends_before(&self, key: &[u8], order: Order) -> bool {
        match (order, &self.start, &self.end) {
            (Order::Ascending, _, Bound::Included(end)) => key > end.as_slice(),
            (Order::Ascending, _, Bound::Excluded(end)) => key >= end.as_slice(),
            (Order::Descending, Bound::Included(start), _) => key < start.as_slice(),
            (Order::Descending, Bound::Excluded(start), _) => key <= start.as_slice(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_the_range_of_the_keys_that_begin_with_it() {
        let keys: [&[u8]; 8] =
            [b"", b"a", b"a\xff", b"a\xff\xff", b"a\xff\xff\x00", b"b", b"\xff", b"\xff\xff"];
        for prefix in keys {
            let range = KeyRange::prefix(prefix);
            for key in keys {
                let begun = match range.first(Order::Ascending) {
                    Bound::Included(start) => key >= start,
                    _ => false,
                };
                let inside = begun && !range.ends_before(key, Order::Ascending);
                assert_eq!(inside, key.starts_with(prefix), "{prefix:?} {key:?}");
            }
        }
    }
}
