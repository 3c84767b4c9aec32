//! What a merge leaves away, because no read that is still allowed would show it.
//!
//! Reads before the horizon are refused. A read at or after it shows of each key what is after the horizon,
//! and of what is not the *base* only: the newest put or end at or before it. So
//! - a put or an end is dropped if a later one of its key, at or before the horizon, is in the merge too,
//!   and no newer source can hold an erase of that one;
//! - an end that is the base is dropped if it is before the horizon, nothing else of the key so early is
//!   kept, and no source outside of the merge can hold any: then its key is as if it had never been;
//! - an erase is dropped if no source is older than the merge: then it has nothing to hide.
//!
//! In doubt, a record stays. Why nothing that happens while the merge is under way makes this wrong:
//! `docs/decisions/0016-a-horizon.md`.

use std::marker::PhantomData;

use super::merge::{ChunkShape, MergeSink, MergeSource};
use crate::error::Result;
use crate::iter::Record;
use crate::key::{Tag, Timestamp, ValueKind};

/// What is known of the sources that a merge does not read.
pub(crate) trait Outside {
    /// Whether a source that is newer than the merge may hold an erase at `(key, ts)`.
    fn may_erase(&self, key: &[u8], ts: Timestamp) -> bool;

    /// Whether any source may hold a record of `key` at or before `ts`.
    fn may_hold(&self, key: &[u8], ts: Timestamp) -> bool;
}

/// What may be left away.
pub(crate) struct Rules<'a> {
    /// Reads before it are refused; the least timestamp: none are.
    pub(crate) horizon: Timestamp,
    /// No source is older.
    pub(crate) drops_erases: bool,
    pub(crate) outside: &'a dyn Outside,
}

impl Rules<'_> {
    /// Whether a chunk has to be looked into, record by record.
    pub(super) fn may_drop_of(&self, shape: &ChunkShape<'_>) -> bool {
        shape.may_be_stale || self.drops_erases && shape.has_erases
    }
}

/// Stands before a sink, and passes on what stays.
pub(super) struct Pruner<'a, S, K> {
    rules: &'a Rules<'a>,
    sink: &'a mut K,
    /// The key of the last record at or before the horizon.
    key: Vec<u8>,
    /// Whether such a record of that key was passed on.
    has_kept: bool,
    /// The last put or end of that key at or before the horizon, until it is known whether it is the base.
    held: Option<(Timestamp, Tag)>,
    held_value: Vec<u8>,
    source: PhantomData<S>,
}

impl<'a, S: MergeSource, K: MergeSink<S>> Pruner<'a, S, K> {
    pub(super) fn new(rules: &'a Rules<'a>, sink: &'a mut K) -> Self {
        Pruner {
            rules,
            sink,
            key: Vec::new(),
            has_kept: false,
            held: None,
            held_value: Vec::new(),
            source: PhantomData,
        }
    }

    /// Takes a record, which comes after all that was taken.
    pub(super) fn add_record(&mut self, record: &Record<'_>) -> Result<()> {
        let is_dropped_erase = self.rules.drops_erases && record.tag.kind() == ValueKind::Erase;
        if record.ts > self.rules.horizon {
            self.end_key()?;
        } else {
            self.come_to(record.key)?;
            if !is_dropped_erase {
                self.meet(record.ts, record.tag)?;
            }
            if record.tag.kind() != ValueKind::Erase {
                self.held = Some((record.ts, record.tag));
                self.held_value.clear();
                self.held_value.extend_from_slice(record.value);
                return Ok(());
            }
            self.has_kept |= !is_dropped_erase;
        }
        if is_dropped_erase { Ok(()) } else { self.sink.add_record(record) }
    }

    /// Takes a chunk of which nothing may be dropped, which comes after all that was taken.
    pub(super) fn add_chunk(
        &mut self,
        first: (&[u8], Timestamp),
        shape: &ChunkShape<'_>,
        chunk: S::Chunk<'_>,
    ) -> Result<()> {
        if first.1 > self.rules.horizon {
            self.end_key()?;
        } else {
            self.come_to(first.0)?;
            self.meet(first.1, shape.first_tag)?;
        }
        if shape.last_ts <= self.rules.horizon {
            self.key.clear();
            self.key.extend_from_slice(shape.last_key);
            self.has_kept = true;
        }
        self.sink.add_chunk(first, chunk)
    }

    /// The end of all.
    pub(super) fn finish(mut self) -> Result<()> {
        self.end_key()
    }

    /// The next record is one of `key` at or before the horizon.
    fn come_to(&mut self, key: &[u8]) -> Result<()> {
        if self.key != key {
            self.end_key()?;
            self.key.clear();
            self.key.extend_from_slice(key);
            self.has_kept = false;
        }
        Ok(())
    }

    /// The held record is not the newest of its key, as a further one follows: it goes if that one stands
    /// in its place. Behind it an erase that stays keeps it, so that they need not be kept in memory.
    fn meet(&mut self, ts: Timestamp, tag: Tag) -> Result<()> {
        if self.held.is_some() {
            if tag.kind() == ValueKind::Erase || self.rules.outside.may_erase(&self.key, ts) {
                self.keep_held()?;
            }
            self.held = None;
        }
        Ok(())
    }

    /// The held record is the base: no other one of its key comes at or before the horizon.
    fn end_key(&mut self) -> Result<()> {
        if let Some((ts, tag)) = self.held {
            let is_needed = tag.kind() != ValueKind::End
                || ts == self.rules.horizon
                || self.has_kept
                || self.rules.outside.may_hold(&self.key, ts);
            if is_needed {
                self.keep_held()?;
            }
            self.held = None;
        }
        Ok(())
    }

    fn keep_held(&mut self) -> Result<()> {
        if let Some((ts, tag)) = self.held {
            let value = &self.held_value;
            self.sink.add_record(&Record { key: &self.key, ts, tag, value })?;
            self.has_kept = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
