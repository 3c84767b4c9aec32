//! All versions of many keys, in the order of the keys and of time: the sources side by side, each walked
//! once.

use std::ops::Bound;
use std::sync::Arc;

use super::state::SuperVersion;
use crate::error::Result;
use crate::iter::{Cursor as _, KeyRange, Order};
use crate::key::{SeqNo, Tag, Timestamp, ValueKind, ValueRef};
use crate::memtable::MemtableCursor;
use crate::version::RunCursor;

/// The versions and ends of many keys; see [`Snapshot::export`](crate::Snapshot::export). It shows the
/// database as it was when it was made.
pub struct Export {
    /// Newest first.
    sources: Vec<Source>,
    keys: KeyRange,
    from: Timestamp,
    to: Timestamp,
    /// Whether a key begins with what was in force at `from`.
    carries: bool,
    /// The source whose record was shown last, and which is to go on.
    shown: Option<usize>,
    held: Held,
}

/// A version of a key, or its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported<'a> {
    /// The key.
    pub key: &'a [u8],
    /// From when on it has the value.
    pub ts: Timestamp,
    /// Its value; `None`: from then on it has none.
    pub value: Option<ValueRef<'a>>,
}

enum Source {
    Memtable(MemtableCursor),
    Run(RunCursor),
}

/// What is in force at the beginning, of the key at which the walk is, as far as it is known.
#[derive(Default)]
struct Held {
    is_some: bool,
    key: Vec<u8>,
    ts: Timestamp,
    tag: Option<Tag>,
    value: Vec<u8>,
}

/// What comes next.
enum Step {
    /// The record at which this source stands.
    Show(usize),
    /// What is held.
    ShowHeld,
    End,
}

impl SuperVersion {
    pub(super) fn export(
        &self,
        keys: KeyRange,
        from: Timestamp,
        to: Timestamp,
        visible: SeqNo,
    ) -> Result<Export> {
        let carries = from == Timestamp::MIN && self.horizon > Timestamp::MIN;
        let from = if carries { self.horizon } else { from };
        self.check_horizon(from.min(to))?;
        let (first, is_excluded) = match keys.first(Order::Ascending) {
            Bound::Included(key) => (key.to_vec(), false),
            Bound::Excluded(key) => (key.to_vec(), true),
            Bound::Unbounded => (Vec::new(), false),
        };
        let mut sources = Vec::new();
        for memtable in self.memtables() {
            let mut cursor = MemtableCursor::new(Arc::clone(memtable), visible);
            cursor.seek(&first, Timestamp::MIN)?;
            sources.push(Source::Memtable(cursor));
        }
        for run in self.version.runs() {
            sources.push(Source::Run(RunCursor::at(Arc::clone(run), &first, Timestamp::MIN)?));
        }
        for source in &mut sources {
            while is_excluded && source.head().is_some_and(|(key, _)| key == first) {
                source.pass()?;
            }
        }
        let held = Held::default();
        Ok(Export { sources, keys, from, to, carries, shown: None, held })
    }
}

impl Export {
    /// The next version or end. After an error it may lack some, so there should be no further call.
    #[expect(clippy::should_implement_trait, reason = "an iterator can't lend")]
    pub fn next(&mut self) -> Result<Option<Exported<'_>>> {
        match self.step()? {
            Step::End => Ok(None),
            Step::ShowHeld => Ok(Some(self.held.show())),
            Step::Show(source) => {
                self.shown = Some(source);
                self.sources[source].read().map(Some)
            }
        }
    }

    fn step(&mut self) -> Result<Step> {
        loop {
            if let Some(shown) = self.shown.take() {
                self.sources[shown].pass()?;
            }
            let least = self.find_least();
            let head = least.and_then(|least| self.sources[least].head());
            let head = head.filter(|(key, _)| !self.keys.ends_before(key, Order::Ascending));
            let is_behind = head.is_none_or(|(key, ts)| key != self.held.key || ts > self.from);
            if self.held.is_some && is_behind {
                return Ok(Step::ShowHeld);
            }
            let (Some(least), Some((_, ts))) = (least, head) else { return Ok(Step::End) };
            self.pass_hidden(least)?;
            let kind = self.sources[least].kind();
            if self.carries && ts <= self.from && kind != Some(ValueKind::Erase) && ts <= self.to {
                self.sources[least].hold(&mut self.held)?;
            } else if self.from <= ts && ts <= self.to && kind != Some(ValueKind::Erase) {
                return Ok(Step::Show(least));
            }
            self.shown = Some(least);
        }
    }

    /// The source with the least record; of several that have the same place the newest.
    fn find_least(&self) -> Option<usize> {
        if let [only] = &self.sources[..] {
            return only.head().map(|_| 0);
        }
        let heads = self.sources.iter().enumerate();
        let heads = heads.filter_map(|(number, source)| Some((source.head()?, number)));
        heads.min().map(|(_, number)| number)
    }

    /// What older sources have at the same place is hidden.
    fn pass_hidden(&mut self, least: usize) -> Result<()> {
        let (upto, older) = self.sources.split_at_mut(least + 1);
        let head = upto[least].head();
        for source in older {
            if source.head() == head {
                source.pass()?;
            }
        }
        Ok(())
    }
}

impl Source {
    fn head(&self) -> Option<(&[u8], Timestamp)> {
        match self {
            Source::Memtable(cursor) => cursor.record().map(|record| (record.key, record.ts)),
            Source::Run(cursor) => cursor.place(),
        }
    }

    fn pass(&mut self) -> Result<()> {
        match self {
            Source::Memtable(cursor) => cursor.next(),
            Source::Run(cursor) => cursor.next_place(),
        }
    }

    fn kind(&self) -> Option<ValueKind> {
        match self {
            Source::Memtable(cursor) => cursor.record().map(|record| record.tag.kind()),
            Source::Run(cursor) => cursor.kind(),
        }
    }

    fn read(&mut self) -> Result<Exported<'_>> {
        let record = match self {
            Source::Memtable(cursor) => cursor.record().expect("a cursor that stands on a record"),
            Source::Run(cursor) => cursor.read_record()?,
        };
        Ok(Exported { key: record.key, ts: record.ts, value: value_of(record.tag, record.value) })
    }

    fn hold(&mut self, held: &mut Held) -> Result<()> {
        let Exported { key, ts, value } = self.read()?;
        held.key.clear();
        held.key.extend_from_slice(key);
        held.ts = ts;
        held.value.clear();
        held.tag = value.map(|value| Tag::put(value.value_type));
        held.value.extend_from_slice(value.map_or(b"", |value| value.bytes));
        // That a key had ended by then needs no saying.
        held.is_some = value.is_some();
        Ok(())
    }
}

impl Held {
    fn show(&mut self) -> Exported<'_> {
        self.is_some = false;
        let value = self.tag.and_then(|tag| value_of(tag, &self.value));
        Exported { key: &self.key, ts: self.ts, value }
    }
}

fn value_of(tag: Tag, bytes: &[u8]) -> Option<ValueRef<'_>> {
    let is_put = tag.kind() == ValueKind::Put;
    is_put.then_some(ValueRef { value_type: tag.value_type(), bytes })
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export")
            .field("keys", &self.keys)
            .field("from", &self.from)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}
