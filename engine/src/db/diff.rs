//! What has changed between two moments: two scans, side by side.

use std::cmp::Ordering;

use super::scan::Scan;
use super::state::SuperVersion;
use crate::error::Result;
use crate::iter::{KeyRange, Order};
use crate::key::{EntryRef, SeqNo, Timestamp};

/// The keys whose values differ between two moments; see [`Snapshot::diff`](crate::Snapshot::diff). It
/// shows the database as it was when it was made.
#[derive(Debug)]
pub struct Diff {
    before: Scan,
    after: Scan,
    /// Which of them stand on the key that was shown last.
    shown: (bool, bool),
}

/// A key whose value is another one at the second moment than at the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its version at the first moment, if it had one.
    pub before: Option<EntryRef<'a>>,
    /// Its version at the second moment, if it has one.
    pub after: Option<EntryRef<'a>>,
}

impl SuperVersion {
    pub(super) fn diff(
        &self,
        keys: KeyRange,
        from: Timestamp,
        to: Timestamp,
        visible: SeqNo,
    ) -> Result<Diff> {
        let before = self.scan(keys.clone(), from, Order::Ascending, visible)?;
        let after = self.scan(keys, to, Order::Ascending, visible)?;
        Ok(Diff { before, after, shown: (true, true) })
    }
}

impl Diff {
    /// The next key whose values differ. After an error it may lack some, so there should be no further
    /// call.
    #[expect(clippy::should_implement_trait, reason = "an iterator can't lend")]
    pub fn next(&mut self) -> Result<Option<Changed<'_>>> {
        loop {
            if self.shown.0 {
                self.before.step()?;
            }
            if self.shown.1 {
                self.after.step()?;
            }
            self.shown = match (self.before.current(), self.after.current()) {
                (None, None) => return Ok(None),
                (Some(_), None) => (true, false),
                (None, Some(_)) => (false, true),
                (Some((before, _)), Some((after, _))) => match before.cmp(after) {
                    Ordering::Less => (true, false),
                    Ordering::Greater => (false, true),
                    Ordering::Equal => (true, true),
                },
            };
            if !self.is_unchanged() {
                break;
            }
        }
        let before = self.before.current().filter(|_| self.shown.0);
        let after = self.after.current().filter(|_| self.shown.1);
        let key = before.or(after).map(|(key, _)| key);
        Ok(key.map(|key| Changed {
            key,
            before: before.map(|(_, version)| version),
            after: after.map(|(_, version)| version),
        }))
    }

    /// Whether both stand on the same key, with the same value. A value that was written again is no
    /// change.
    fn is_unchanged(&self) -> bool {
        let (Some((_, before)), Some((_, after))) = (self.before.current(), self.after.current())
        else {
            return false;
        };
        let is_same = (before.value_type, before.value) == (after.value_type, after.value);
        self.shown == (true, true) && is_same
    }
}
