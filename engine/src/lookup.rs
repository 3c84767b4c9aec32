//! What is asked of a key: a moment, and which version near it.

use crate::key::Timestamp;

/// Which version of a key answers a lookup at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// The newest at or before the moment; none if the key had ended by then.
    #[default]
    Floor,
    /// The oldest at or after the moment.
    Ceiling,
    /// The one at exactly the moment.
    Exact,
    /// The newest before the moment; none if the key had ended by then.
    Before,
    /// The oldest after the moment.
    After,
    /// The floor or the ceiling, whichever lies nearer: of two equally near, the floor.
    Nearest,
}

/// A question about one key.
///
/// ```
/// use kvtimedb_engine::{Lookup, Mode};
///
/// let floor = Lookup::floor(150);
/// let next_minute = Lookup { max_age: Some(60), ..Lookup::new(150, Mode::Ceiling) };
/// # let _ = (floor, next_minute);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lookup {
    /// The moment.
    pub at: Timestamp,
    /// Which version answers.
    pub mode: Mode,
    /// The most that the version may lie from the moment, in units of the timestamps: what lies farther
    /// is no answer, so that a stale value does not look fresh. `None`: any distance.
    pub max_age: Option<u64>,
}

impl Lookup {
    /// The newest version at or before `at`.
    pub const fn floor(at: Timestamp) -> Self {
        Lookup::new(at, Mode::Floor)
    }

    /// The version that `mode` says, at any distance.
    pub const fn new(at: Timestamp, mode: Mode) -> Self {
        Lookup { at, mode, max_age: None }
    }

    /// Whether a version at `ts` is near enough.
    pub(crate) fn allows(&self, ts: Timestamp) -> bool {
        self.max_age.is_none_or(|max_age| ts.abs_diff(self.at) <= max_age)
    }
}

/// What a batch demands of the state before it: see [`WriteBatch`](crate::WriteBatch).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// The key.
    pub key: Vec<u8>,
    /// Which of its versions.
    pub lookup: Lookup,
    /// What it has to be.
    pub expect: Expect,
}

/// What a [`Condition`] expects of a lookup's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expect {
    /// There is no answer.
    Absent,
    /// The version with this [`etag`](crate::EntryRef::etag).
    Etag(u64),
}
