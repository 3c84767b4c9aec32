//! Walking the records of a source in order.

mod range;
mod versions;

pub use range::{KeyRange, Order};
pub(crate) use versions::Versions;

use crate::error::Result;
use crate::key::{Tag, Timestamp};

/// A record as a cursor shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) ts: Timestamp,
    pub(crate) tag: Tag,
    pub(crate) value: &'a [u8],
}

/// A place among the records of one source, which are ordered by `(key, ts)` ascending and hold one
/// record per `(key, ts)`, tombstones included. A new cursor stands nowhere until it seeks. After an
/// error it stands nowhere again.
pub(crate) trait Cursor {
    /// Goes to the first record at or after `(key, ts)`. `(b"", Timestamp::MIN)` is the very first.
    fn seek(&mut self, key: &[u8], ts: Timestamp) -> Result<()>;

    /// Goes to the following record. It must stand on one.
    fn next(&mut self) -> Result<()>;

    /// The record it stands on; `None` past the end.
    fn record(&self) -> Option<Record<'_>>;
}
