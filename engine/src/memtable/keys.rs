//! Walking the keys of a memtable in both directions.

use std::cmp::Ordering;
use std::ops::Bound;

use super::Memtable;
use super::arena::NULL;
use crate::iter::Order;

impl Memtable {
    /// Replaces `key` by the first key in this order that lies within `bound`; `false`, with `key` as
    /// it was, where there is none. All records of that key may be too new for the reader.
    pub(crate) fn first_key_within(
        &self,
        bound: Bound<&[u8]>,
        order: Order,
        key: &mut Vec<u8>,
    ) -> bool {
        let list = self.key_list();
        let (before, after) = match (bound, order) {
            (Bound::Unbounded, Order::Ascending) => list.split(|_| false),
            (Bound::Unbounded, Order::Descending) => list.split(|_| true),
            (Bound::Included(end), Order::Ascending)
            | (Bound::Excluded(end), Order::Descending) => {
                list.split(|node| self.compare_key(node, end) == Ordering::Less)
            }
            (Bound::Excluded(end), Order::Ascending)
            | (Bound::Included(end), Order::Descending) => {
                list.split(|node| self.compare_key(node, end) != Ordering::Greater)
            }
        };
        let node = if order == Order::Ascending { after } else { before };
        if node != NULL {
            self.key_into(node, key);
        }
        node != NULL
    }
}
