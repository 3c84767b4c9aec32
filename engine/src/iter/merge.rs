//! Many sources as one: the newest source that holds a `(key, ts)` answers for it.

use std::cmp::Ordering;

use super::{Cursor, Record};
use crate::error::Result;
use crate::key::Timestamp;

/// Merges cursors that are given newest first. The number of sources is small (memtables and runs),
/// so the least is found by looking at each: no heap to keep right.
pub(crate) struct MergeCursor<'c> {
    sources: Vec<Box<dyn Cursor + 'c>>,
    least: Option<usize>,
}

impl<'c> MergeCursor<'c> {
    /// `sources` are ordered newest first (invariant I1 of `docs/architecture.md`).
    pub(crate) fn new(sources: Vec<Box<dyn Cursor + 'c>>) -> Self {
        MergeCursor { sources, least: None }
    }

    /// The source with the least `(key, ts)`; among equals the newest, which is the first.
    fn find_least(&self) -> Option<usize> {
        let mut least: Option<(usize, Record<'_>)> = None;
        for (i, source) in self.sources.iter().enumerate() {
            let Some(record) = source.record() else { continue };
            if least.is_none_or(|(_, best)| compare(&record, &best) == Ordering::Less) {
                least = Some((i, record));
            }
        }
        least.map(|(i, _)| i)
    }
}

fn compare(a: &Record<'_>, b: &Record<'_>) -> Ordering {
    a.key.cmp(b.key).then(a.ts.cmp(&b.ts))
}

impl Cursor for MergeCursor<'_> {
    fn seek(&mut self, key: &[u8], ts: Timestamp) -> Result<()> {
        self.least = None;
        for source in &mut self.sources {
            source.seek(key, ts)?;
        }
        self.least = self.find_least();
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        let least = self.least.take().expect("a cursor that stands on a record");
        // Every older source that stands on the same (key, ts) is shadowed and goes along.
        let (upto, older) = self.sources.split_at_mut(least + 1);
        let source = &mut upto[least];
        if let Some(record) = source.record() {
            for other in older {
                if other.record().is_some_and(|o| compare(&o, &record) == Ordering::Equal) {
                    other.next()?;
                }
            }
        }
        source.next()?;
        self.least = self.find_least();
        Ok(())
    }

    fn record(&self) -> Option<Record<'_>> {
        self.sources[self.least?].record()
    }
}
