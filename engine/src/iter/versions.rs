//! Some versions of one key, decoded: what a history shows from.

use crate::key::{EntryRef, Tag, Timestamp};

/// Versions as columns, reused from one stretch of a history to the next. Those that are `left` are
/// yet to be shown.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    pub(crate) ts: Vec<Timestamp>,
    pub(crate) tags: Vec<Tag>,
    /// The values, and perhaps others before and behind them.
    pub(crate) values: Vec<u8>,
    /// Where each value ends; the first version's is at `ends_before`.
    pub(crate) ends: Vec<i64>,
    pub(crate) ends_before: usize,
    pub(crate) left: std::ops::Range<usize>,
}

impl Versions {
    pub(crate) fn clear(&mut self) {
        self.ts.clear();
        self.tags.clear();
        self.values.clear();
        self.ends.clear();
        self.ends_before = 0;
        self.left = 0..0;
    }

    /// Adds a version whose value was appended to `values`.
    pub(crate) fn push(&mut self, ts: Timestamp, tag: Tag) {
        self.ts.push(ts);
        self.tags.push(tag);
        self.ends.push(self.values.len() as i64);
    }

    /// Lets all be shown.
    pub(crate) fn show_all(&mut self) {
        self.left = 0..self.ts.len();
    }

    /// One of them, as an entry.
    #[inline]
    pub(crate) fn entry(&self, index: usize) -> EntryRef<'_> {
        let end = index + self.ends_before;
        let start = end.checked_sub(1).map_or(0, |before| self.ends[before]);
        EntryRef {
            ts: self.ts[index],
            value_type: self.tags[index].value_type(),
            value: &self.values[start as usize..self.ends[end] as usize],
        }
    }
}
