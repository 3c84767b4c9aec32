//! What a batch asks for whose outcome depends on the state before it.
//!
//! Its operations are encoded like all others, and some have a [`Mark`]: they mean more than they say.
//! The commit makes a plain batch of it (`db/resolve.rs`), and only that goes to the log.

use super::{BATCH_OPS_MAX, Op, WriteBatch};
use crate::error::{Error, Result};
use crate::key::{KEY_BYTES_MAX, Tag, Timestamp, ValueRef};
use crate::lookup::Condition;

/// What makes a batch more than a plain one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unresolved {
    /// All must hold in the state before the batch.
    pub(crate) conditions: Vec<Condition>,
    /// Of some operations, counted from 0, what they mean; in their order.
    pub(crate) marks: Vec<(usize, Mark)>,
}

/// What an operation means beyond what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The put is at its timestamp or a later one, behind every version of the key.
    Rising,
    /// The erase is of every version from its timestamp up to this one.
    EraseTo(Timestamp),
}

impl WriteBatch {
    /// Puts `value` at `ts_min`, or just behind the newest version of `key`, ends included, where that
    /// is not before it: so that timestamps rise strictly. [`Committed::assigned`] tells which it is.
    ///
    /// The commit fails with [`Error::InvalidArgument`] if the key has a version at the greatest
    /// timestamp that there is.
    ///
    /// ```
    /// # use kvtimedb_engine::{Db, Options, WriteBatch};
    /// # let dir = tempfile::tempdir()?;
    /// # let db = Db::open(dir.path(), Options::default())?;
    /// let mut batch = WriteBatch::new();
    /// batch.put_rising(b"sensor/7", 100, b"19.0")?;
    /// batch.put_rising(b"sensor/7", 100, b"21.5")?;
    /// assert_eq!(db.write(batch)?.assigned, [100, 101]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [`Committed::assigned`]: crate::Committed::assigned
    pub fn put_rising<'v>(
        &mut self,
        key: &[u8],
        ts_min: Timestamp,
        value: impl Into<ValueRef<'v>>,
    ) -> Result<()> {
        let ValueRef { value_type, bytes } = value.into();
        self.push(&Op { tag: Tag::put(value_type), key, ts: ts_min, value: bytes })?;
        self.mark(Mark::Rising);
        Ok(())
    }

    /// The versions of `key` from `from` to `to`, both inclusive, never were: puts, ends, and what the
    /// batch wrote before. From [`Timestamp::MIN`] to [`Timestamp::MAX`] it is the whole key. Versions
    /// that are written later, also at these timestamps, stand.
    ///
    /// The commit looks for what is there and erases each version, so that it takes what as many puts
    /// would. It fails with [`Error::InvalidArgument`] where that is more than a batch may hold.
    ///
    /// ```
    /// # use kvtimedb_engine::{Db, Options, Timestamp, WriteBatch};
    /// # let dir = tempfile::tempdir()?;
    /// # let db = Db::open(dir.path(), Options::default())?;
    /// db.put(b"sensor/7", 100, b"19.0")?;
    /// db.put(b"sensor/7", 200, b"21.5")?;
    /// let mut batch = WriteBatch::new();
    /// batch.erase_between(b"sensor/7", 150, Timestamp::MAX)?;
    /// assert_eq!(db.write(batch)?.erased, 1);
    /// assert_eq!(db.latest(b"sensor/7")?.unwrap().ts, 100);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn erase_between(&mut self, key: &[u8], from: Timestamp, to: Timestamp) -> Result<()> {
        if from > to {
            return Err(Error::InvalidArgument(format!(
                "an erase from {from} to {to}: the range ends before it begins"
            )));
        }
        self.push(&Op { tag: Tag::ERASE, key, ts: from, value: &[] })?;
        if from > Timestamp::MIN {
            self.note_erase(from);
        }
        self.mark(Mark::EraseTo(to));
        Ok(())
    }

    /// Lets the batch be committed only if this holds in the state before it, whatever else it requires.
    /// Otherwise the commit fails with [`Error::ConditionFailed`], and nothing is written.
    ///
    /// ```
    /// # use kvtimedb_engine::{Condition, Db, Error, Expect, Lookup, Options, Timestamp, WriteBatch};
    /// # let dir = tempfile::tempdir()?;
    /// # let db = Db::open(dir.path(), Options::default())?;
    /// let mut batch = WriteBatch::new();
    /// let (key, lookup) = (b"leader".to_vec(), Lookup::floor(Timestamp::MAX));
    /// batch.require(Condition { key, lookup, expect: Expect::Absent })?;
    /// batch.put(b"leader", 100, b"us")?;
    /// db.write(batch.clone())?;
    /// let refused = db.write(batch).unwrap_err();
    /// assert!(matches!(refused, Error::ConditionFailed { condition: 0 }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn require(&mut self, condition: Condition) -> Result<()> {
        if condition.key.len() > KEY_BYTES_MAX {
            let len = condition.key.len();
            let what = format!("a condition on a key of {len} bytes: the limit is {KEY_BYTES_MAX}");
            return Err(Error::InvalidArgument(what));
        }
        let conditions = &mut self.unresolved.get_or_insert_default().conditions;
        if conditions.len() == BATCH_OPS_MAX {
            let what = format!("a batch of more than {BATCH_OPS_MAX} conditions: split it");
            return Err(Error::InvalidArgument(what));
        }
        conditions.push(condition);
        Ok(())
    }

    /// What is to be resolved before the batch can be logged; `None` for a plain batch.
    #[inline]
    pub(crate) fn unresolved(&self) -> Option<&Unresolved> {
        self.unresolved.as_deref()
    }

    /// Marks the last operation.
    fn mark(&mut self, mark: Mark) {
        let index = self.ops - 1;
        self.unresolved.get_or_insert_default().marks.push((index, mark));
    }
}
