//! The database as it was at one moment: every question can be asked of it.

use std::sync::Arc;

use super::aggregate::Aggregate;
use super::asof::AsOf;
use super::diff::Diff;
use super::explain::Explanation;
use super::export::Export;
use super::history::{History, Timeline};
use super::scan::Scan;
use super::state::{Core, SuperVersion};
use crate::error::Result;
use crate::iter::{KeyRange, Order};
use crate::key::{Entry, SeqNo, Timestamp};
use crate::lookup::Lookup;

/// The database as it was when the snapshot was made: later writes don't show, however many questions
/// are asked of it. Clones are of the same moment; any thread may ask. It keeps the memtables and
/// SSTables of its moment alive, and their files on disk, so it should not outlive its use.
///
/// A moment before the [`horizon`](Self::horizon) of the snapshot can't be asked for:
/// [`Error::BelowHorizon`](crate::Error::BelowHorizon).
///
/// ```
/// use kvtimedb_engine::{Db, Lookup, Mode, Options};
///
/// let dir = tempfile::tempdir()?;
/// let db = Db::open(dir.path(), Options::default())?;
/// db.put(b"sensor/7", 100, b"19.0")?;
/// let snapshot = db.snapshot()?;
/// db.put(b"sensor/7", 200, b"21.5")?;
///
/// assert_eq!(snapshot.floor(b"sensor/7", 300)?.unwrap().ts, 100);
/// assert_eq!(db.floor(b"sensor/7", 300)?.unwrap().ts, 200);
/// assert_eq!(db.find(b"sensor/7", Lookup::new(101, Mode::Ceiling))?.unwrap().ts, 200);
/// let recent = Lookup { max_age: Some(50), ..Lookup::floor(300) };
/// assert_eq!(db.find(b"sensor/7", recent)?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Snapshot {
    view: Arc<SuperVersion>,
    visible: SeqNo,
    /// Among how many threads many lookups are shared out.
    threads_max: usize,
}

impl Core {
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        self.check_open()?;
        loop {
            let (view, visible) = self.view.load();
            // After a swap between the two loads the view may lack the last operations before
            // `visible`, and then nobody could go on from there.
            if Arc::ptr_eq(&view, &self.view.super_version()) {
                let threads_max = self.asof_threads_max;
                return Ok(Snapshot { view: Arc::clone(&view), visible, threads_max });
            }
        }
    }
}

impl Snapshot {
    /// The newest version of `key` at or before `at`; `None` if there is none, or if the key had
    /// ended by then.
    pub fn floor(&self, key: &[u8], at: Timestamp) -> Result<Option<Entry>> {
        self.view.floor_entry(key, at, self.visible)
    }

    /// The version of `key` that `lookup` means.
    pub fn find(&self, key: &[u8], lookup: Lookup) -> Result<Option<Entry>> {
        self.view.find(key, lookup, self.visible)
    }

    /// The versions of `key` from `from` to `to`, both inclusive. Ends and erased versions are not among
    /// them. [`Timestamp::MIN`] begins with the horizon, if there is one.
    ///
    /// ```
    /// # use kvtimedb_engine::{Db, Options, Order, Timestamp};
    /// # let dir = tempfile::tempdir()?;
    /// # let db = Db::open(dir.path(), Options::default())?;
    /// for (ts, value) in [(100, b"19.0"), (200, b"21.5")] {
    ///     db.put(b"sensor/7", ts, value)?;
    /// }
    /// let snapshot = db.snapshot()?;
    /// let mut history =
    ///     snapshot.history(b"sensor/7", Timestamp::MIN, Timestamp::MAX, Order::Descending)?;
    /// let mut seen = Vec::new();
    /// while let Some(version) = history.next()? {
    ///     seen.push((version.ts, version.value.to_vec()));
    /// }
    /// assert_eq!(seen, [(200, b"21.5".to_vec()), (100, b"19.0".to_vec())]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn history(
        &self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        order: Order,
    ) -> Result<History> {
        self.view.history(key, from, to, order, self.visible)
    }

    /// As [`history`](Self::history), with the ends: from an end on the key had no value.
    ///
    /// ```
    /// # use kvtimedb_engine::{Db, Options, Order, ValueRef, WriteBatch};
    /// # let dir = tempfile::tempdir()?;
    /// # let db = Db::open(dir.path(), Options::default())?;
    /// let mut batch = WriteBatch::new();
    /// batch.put(b"sensor/7", 100, b"19.0")?;
    /// batch.end(b"sensor/7", 200)?;
    /// db.write(batch)?;
    /// let mut timeline = db.snapshot()?.timeline(b"sensor/7", 0, 300, Order::Ascending)?;
    /// assert_eq!(timeline.next()?, Some((100, Some(ValueRef::octets(b"19.0")))));
    /// assert_eq!(timeline.next()?, Some((200, None)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn timeline(
        &self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        order: Order,
    ) -> Result<Timeline> {
        self.view.timeline(key, from, to, order, self.visible)
    }

    /// The state as of `at`: the floor of each of `keys` that has one, in the order of the keys' bytes.
    ///
    /// ```
    /// # use kvtimedb_engine::{Db, KeyRange, Options, Order};
    /// # let dir = tempfile::tempdir()?;
    /// # let db = Db::open(dir.path(), Options::default())?;
    /// db.put(b"sensor/7", 100, b"19.0")?;
    /// db.put(b"sensor/8", 100, b"20.0")?;
    /// db.put(b"sensor/8", 200, b"21.5")?;
    /// let snapshot = db.snapshot()?;
    /// let mut scan = snapshot.scan(KeyRange::prefix(b"sensor/"), 150, Order::Ascending)?;
    /// let mut seen = Vec::new();
    /// while let Some((key, version)) = scan.next()? {
    ///     seen.push((key.to_vec(), version.value.to_vec()));
    /// }
    /// assert_eq!(seen[1], (b"sensor/8".to_vec(), b"20.0".to_vec()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn scan(&self, keys: KeyRange, at: Timestamp, order: Order) -> Result<Scan> {
        self.view.scan(keys, at, order, self.visible)
    }

    /// Those of `keys` whose value at `to` is another one than at `from`, in the order of the keys'
    /// bytes: also a key that has a value at one of the two only.
    ///
    /// ```
    /// # use kvtimedb_engine::{Db, KeyRange, Options};
    /// # let dir = tempfile::tempdir()?;
    /// # let db = Db::open(dir.path(), Options::default())?;
    /// db.put(b"sensor/7", 100, b"19.0")?;
    /// db.put(b"sensor/8", 100, b"20.0")?;
    /// db.put(b"sensor/8", 200, b"21.5")?;
    /// let mut diff = db.snapshot()?.diff(KeyRange::all(), 150, 250)?;
    /// let changed = diff.next()?.unwrap();
    /// assert_eq!(changed.key, b"sensor/8");
    /// assert_eq!(changed.before.unwrap().value, b"20.0");
    /// assert_eq!(changed.after.unwrap().value, b"21.5");
    /// assert_eq!(diff.next()?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn diff(&self, keys: KeyRange, from: Timestamp, to: Timestamp) -> Result<Diff> {
        self.view.diff(keys, from, to, self.visible)
    }

    /// All versions of `keys` from `from` to `to`, both inclusive, and their ends: in the order of the
    /// keys' bytes, those of a key in the order of time. Written to another database, they make it answer
    /// as this one does. [`Timestamp::MIN`] begins with the horizon, if there is one: there it shows of each
    /// key also what was in force.
    ///
    /// ```
    /// # use kvtimedb_engine::{Db, KeyRange, Options, Timestamp};
    /// # let dir = tempfile::tempdir()?;
    /// # let db = Db::open(dir.path(), Options::default())?;
    /// db.put(b"sensor/8", 100, b"20.0")?;
    /// db.put(b"sensor/7", 200, b"21.5")?;
    /// db.put(b"sensor/7", 100, b"19.0")?;
    /// let mut export = db.snapshot()?.export(KeyRange::all(), Timestamp::MIN, Timestamp::MAX)?;
    /// let mut seen = Vec::new();
    /// while let Some(version) = export.next()? {
    ///     seen.push((version.key.to_vec(), version.ts));
    /// }
    /// assert_eq!(seen[1..], [(b"sensor/7".to_vec(), 200), (b"sensor/8".to_vec(), 100)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn export(&self, keys: KeyRange, from: Timestamp, to: Timestamp) -> Result<Export> {
        self.view.export(keys, from, to, self.visible)
    }

    /// Many floors at once, each at its own key and timestamp, in any order. Quicker than one floor
    /// after the other by as much as they lie close together.
    ///
    /// ```
    /// # use kvtimedb_engine::{Db, Options};
    /// # let dir = tempfile::tempdir()?;
    /// # let db = Db::open(dir.path(), Options::default())?;
    /// db.put(b"sensor/7", 100, b"19.0")?;
    /// db.put(b"sensor/8", 200, b"21.5")?;
    /// let lookups: [(&[u8], i64); 3] = [(b"sensor/8", 250), (b"sensor/8", 199), (b"sensor/7", 150)];
    /// let answers = db.snapshot()?.asof(&lookups)?;
    /// assert_eq!(answers.get(0).unwrap().value, b"21.5");
    /// assert_eq!(answers.get(1), None);
    /// assert_eq!(answers.get(2).unwrap().ts, 100);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn asof(&self, lookups: &[(&[u8], Timestamp)]) -> Result<AsOf> {
        let answers = self.view.asof(lookups, self.visible, self.threads_max, usize::MAX)?;
        // No values have more bytes than there can be.
        Ok(answers.unwrap_or_default())
    }

    /// As [`asof`](Snapshot::asof), or `None` once the values of one of its threads come to more than
    /// `bytes_max` bytes: ask for fewer at once. A single lookup is always answered.
    ///
    /// ```
    /// # use kvtimedb_engine::{Db, Options};
    /// # let dir = tempfile::tempdir()?;
    /// # let db = Db::open(dir.path(), Options::default())?;
    /// db.put(b"sensor/7", 100, b"19.0")?;
    /// db.put(b"sensor/8", 200, b"21.5")?;
    /// let lookups: [(&[u8], i64); 2] = [(b"sensor/8", 250), (b"sensor/7", 150)];
    /// let snapshot = db.snapshot()?;
    /// assert!(snapshot.asof_within(&lookups, 8)?.is_some());
    /// assert!(snapshot.asof_within(&lookups, 7)?.is_none());
    /// assert!(snapshot.asof_within(&lookups[..1], 1)?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn asof_within(
        &self,
        lookups: &[(&[u8], Timestamp)],
        bytes_max: usize,
    ) -> Result<Option<AsOf>> {
        self.view.asof(lookups, self.visible, self.threads_max, bytes_max)
    }

    /// Numbers over windows of `every` from `from` on, up to `to`, inclusive; the last window may be
    /// shorter. There are as many as fit between the two, also empty ones: the caller may stop.
    ///
    /// Errors: [`Error::InvalidArgument`](crate::Error::InvalidArgument) if `every` is 0; a value that is
    /// no JSON number is [`Error::NotNumeric`](crate::Error::NotNumeric).
    ///
    /// ```
    /// # use kvtimedb_engine::{Db, Options, ValueRef};
    /// # let dir = tempfile::tempdir()?;
    /// # let db = Db::open(dir.path(), Options::default())?;
    /// db.put(b"sensor/7", 90, ValueRef::json(b"10"))?;
    /// db.put(b"sensor/7", 130, ValueRef::json(b"30"))?;
    /// let mut windows = db.snapshot()?.aggregate(b"sensor/7", 100, 199, 40)?;
    /// let first = windows.next()?.unwrap();
    /// assert_eq!((first.from, first.to, first.count, first.mean()), (100, 139, 1, Some(30.0)));
    /// // 10 was in force for 30 of the 40, and 30 for the other 10.
    /// assert_eq!(first.twa, Some(15.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn aggregate(
        &self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        every: u64,
    ) -> Result<Aggregate> {
        self.view.aggregate(key, from, to, every, self.visible)
    }

    /// Answers as [`floor`](Self::floor) does, and tells what it cost: which sources were skipped, by
    /// which fence or filter, and which blocks were read.
    ///
    /// ```
    /// # use kvtimedb_engine::{Db, Options};
    /// # let dir = tempfile::tempdir()?;
    /// # let db = Db::open(dir.path(), Options::default())?;
    /// db.put(b"sensor/7", 100, b"19.0")?;
    /// let snapshot = db.snapshot()?;
    /// let explanation = snapshot.explain(b"sensor/7", 150)?;
    /// assert_eq!(explanation.answer, snapshot.floor(b"sensor/7", 150)?);
    /// assert_eq!(
    ///     explanation.to_string(),
    ///     "floor of \"sensor/7\" at 150\n  \
    ///      active memtable: read, found a value at 100\n  \
    ///      answer: 4 bytes, from 100"
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn explain(&self, key: &[u8], at: Timestamp) -> Result<Explanation> {
        self.view.explain(key, at, self.visible)
    }

    /// The sequence number of the last operation that it shows; it shows all up to there.
    pub fn visible_seq(&self) -> SeqNo {
        self.visible
    }

    /// The earliest moment that can be asked for; `None`: any can.
    pub fn horizon(&self) -> Option<Timestamp> {
        (self.view.horizon > Timestamp::MIN).then_some(self.view.horizon)
    }
}
