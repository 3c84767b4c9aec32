//! Whether a history can be told as one where each operation takes effect at one moment.
//!
//! The search of Wing and Gong with the memory of Lowe. It builds an order from the front: next may
//! come whatever was called before any operation that is left was answered, if it fits what the key
//! holds by then. Where nothing fits it goes back; a set of operations that led to the same content
//! before is not tried again.
//!
//! Linearizability is local: a history of many keys has such an order if that of each key has one.

use std::collections::{BTreeMap, HashSet};

use kvtimedb_engine::Timestamp;

use super::history::{Action, Operation};

/// The most operations on one key.
const OPERATIONS_MAX: usize = u128::BITS as usize;

/// What the key holds: the value from each timestamp on, or that it has ended.
type Content<'h> = BTreeMap<Timestamp, Option<&'h str>>;

/// Whether the operations on one key have an order.
pub(crate) fn is_linearizable(history: &[Operation]) -> bool {
    assert!(history.len() <= OPERATIONS_MAX, "{} operations on a key", history.len());
    Search { history, tried: HashSet::new() }.completes(0, &Content::new())
}

struct Search<'h> {
    history: &'h [Operation],
    /// Operations that were ordered, and what they led to.
    tried: HashSet<(u128, Content<'h>)>,
}

impl<'h> Search<'h> {
    /// Whether what isn't `ordered` yet can follow on this content.
    fn completes(&mut self, mut ordered: u128, content: &Content<'h>) -> bool {
        // A floor that fits changes nothing, so it is never wrong to take it at once.
        while let Some(floor) = self.next(ordered).find(|&n| self.is_fitting_floor(n, content)) {
            ordered |= 1 << floor;
        }
        // What was not answered need not have taken effect, and a floor without an answer tells nothing.
        let is_open = |n: usize| ordered >> n & 1 == 0 && self.history[n].answered.is_some();
        if !(0..self.history.len()).any(is_open) {
            return true;
        }
        if !self.tried.insert((ordered, content.clone())) {
            return false;
        }
        let next: Vec<usize> = self.next(ordered).collect();
        next.into_iter().any(|n| {
            let (ts, entry) = match &self.history[n].action {
                Action::Put(ts, value) => (*ts, Some(&**value)),
                Action::End(ts) => (*ts, None),
                Action::Floor(..) => return false,
            };
            let mut content = content.clone();
            content.insert(ts, entry);
            self.completes(ordered | 1 << n, &content)
        })
    }

    /// The operations that may come next.
    fn next(&self, ordered: u128) -> impl Iterator<Item = usize> + use<'h> {
        let history = self.history;
        let left = (0..history.len()).filter(move |n| ordered >> n & 1 == 0);
        let first_answer = left.clone().filter_map(|n| history[n].answered).min();
        left.filter(move |&n| first_answer.is_none_or(|first| history[n].called < first))
    }

    fn is_fitting_floor(&self, n: usize, content: &Content<'h>) -> bool {
        let Action::Floor(at, answer) = &self.history[n].action else { return false };
        let entry = content.range(..=*at).next_back();
        entry.and_then(|(_, value)| *value) == answer.as_deref()
    }
}
