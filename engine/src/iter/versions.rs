//! Some versions of one key, decoded: what a history shows from.

use crate::key::{EntryRef, Tag, Timestamp};

/// Versions as columns, reused from one stretch of a history to the next. Those that are `left` are
/// yet to be shown.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    pub(crate) ts: Vec<Timestamp>,
    pub(crate) tags: Vec<Tag>,
    /// The values, one after the other, and bytes of no meaning behind them, which a source may write over.
    pub(crate) values: Vec<u8>,
    /// Where each value ends.
    pub(crate) ends: Vec<i64>,
    pub(crate) left: std::ops::Range<usize>,
}

impl Versions {
    /// Takes all of them away; what `values` holds is of no meaning then.
    pub(crate) fn clear(&mut self) {
        self.ts.clear();
        self.tags.clear();
        self.ends.clear();
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
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        EntryRef {
            ts: self.ts[index],
            value_type: self.tags[index].value_type(),
            value: &self.values[start as usize..self.ends[index] as usize],
        }
    }
}
