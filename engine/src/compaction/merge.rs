//! Several sources into one sequence: chunk by chunk where no other record comes between a chunk's
//! own, and record by record elsewhere.

use super::retention::{Pruner, Rules};
use crate::error::Result;
use crate::iter::Record;
use crate::key::{Tag, Timestamp};

/// A chunk of so many rows is as good as any that a merge would make of them, and is copied.
const COPY_ROWS_MIN: usize = 256;

/// So is one whose keys and values have this size before encoding, in bytes.
const COPY_RAW_BYTES_MIN: usize = 16 << 10;

/// How much is merged between two looks at what else there is to do, in bytes before encoding.
const GIVE_WAY_BYTES: usize = 1 << 20;

/// What a record counts for beside its key and value, in those bytes.
const RECORD_BYTES: usize = 256;

/// A chunk at whose first record a source stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkShape<'a> {
    /// No record of the chunk comes after this place.
    pub(crate) last_key: &'a [u8],
    pub(crate) last_ts: Timestamp,
    pub(crate) rows: usize,
    /// Its keys and values before encoding, in bytes.
    pub(crate) raw_bytes: usize,
    pub(crate) first_tag: Tag,
    pub(crate) has_erases: bool,
    /// A record of it may be one that the horizon makes garbage.
    pub(crate) may_be_stale: bool,
}

/// Where a merge reads: records in order of `(key, ts)`, one for each.
pub(crate) trait MergeSource {
    /// A chunk as it is stored.
    type Chunk<'c>
    where
        Self: 'c;

    /// Where the source stands; `None` past its end.
    fn head(&self) -> Option<(&[u8], Timestamp)>;

    /// The chunk that begins where the source stands, if one does, as it is under this horizon.
    fn chunk(&self, horizon: Timestamp) -> Option<(ChunkShape<'_>, Self::Chunk<'_>)>;

    /// Goes behind the chunk that begins here.
    fn pass_chunk(&mut self) -> Result<()>;

    /// The record at the head, of a source that has one.
    fn record(&mut self) -> Result<Record<'_>>;

    /// Goes to the following record.
    fn pass_record(&mut self) -> Result<()>;
}

/// Where a merge writes.
pub(crate) trait MergeSink<S: MergeSource> {
    /// Takes a record, which comes after all that was taken.
    fn add_record(&mut self, record: &Record<'_>) -> Result<()>;

    /// Takes a chunk whose first record is at `first`, which comes after all that was taken.
    fn add_chunk(&mut self, first: (&[u8], Timestamp), chunk: S::Chunk<'_>) -> Result<()>;
}

/// Merges `sources`, newest first: of a `(key, ts)` that several hold, the first one's record stands.
/// Without what the rules drop.
///
/// `give_way` is called now and then; its error ends the merge.
pub(crate) fn merge<S: MergeSource, K: MergeSink<S>>(
    sources: &mut [S],
    sink: &mut K,
    rules: &Rules<'_>,
    give_way: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let mut pace = Pace { bytes: 0, give_way };
    let mut bound = Bound::default();
    let mut pruner = Pruner::new(rules, sink);
    while let Some(least) = find_least(sources) {
        bound.set_to_least_beside(sources, least);
        let source = &mut sources[least];
        if source.head().is_some_and(|head| bound.is_before_or_at(head)) {
            pass_shadowed(sources, least, &mut pace)?;
            continue;
        }
        while let Some(head) = source.head().filter(|&head| !bound.is_before_or_at(head)) {
            let copied = match source.chunk(rules.horizon) {
                Some((shape, chunk)) if is_worth_copying(&shape, rules, &bound) => {
                    pruner.add_chunk(head, &shape, chunk)?;
                    Some(shape.raw_bytes)
                }
                _ => None,
            };
            if let Some(raw_bytes) = copied {
                source.pass_chunk()?;
                pace.went(raw_bytes)?;
            } else {
                let record = source.record()?;
                let raw_bytes = record.key.len() + record.value.len();
                pruner.add_record(&record)?;
                source.pass_record()?;
                pace.went(raw_bytes)?;
            }
        }
    }
    pruner.finish()
}

/// Small chunks are decoded, so that they grow into larger ones.
fn is_worth_copying(shape: &ChunkShape<'_>, rules: &Rules<'_>, bound: &Bound) -> bool {
    let is_large = shape.rows >= COPY_ROWS_MIN || shape.raw_bytes >= COPY_RAW_BYTES_MIN;
    let last = (shape.last_key, shape.last_ts);
    is_large && !bound.is_before_or_at(last) && !rules.may_drop_of(shape)
}

/// The source with the least head; among equals the newest, which is the first.
fn find_least<S: MergeSource>(sources: &[S]) -> Option<usize> {
    let heads = sources.iter().enumerate().filter_map(|(i, source)| Some((source.head()?, i)));
    heads.min().map(|(_, i)| i)
}

/// Sources behind `least` that stand where it stands go on: it holds what is newer.
fn pass_shadowed<S: MergeSource>(
    sources: &mut [S],
    least: usize,
    pace: &mut Pace<'_>,
) -> Result<()> {
    let (upto, older) = sources.split_at_mut(least + 1);
    let head = upto[least].head();
    for other in older {
        if other.head() == head {
            other.pass_record()?;
            pace.went(0)?;
        }
    }
    Ok(())
}

/// The least head of the sources beside the one that is read; `None` where they have none.
#[derive(Default)]
struct Bound {
    key: Vec<u8>,
    ts: Option<Timestamp>,
}

impl Bound {
    fn set_to_least_beside<S: MergeSource>(&mut self, sources: &[S], read: usize) {
        let others = sources.iter().enumerate().filter(|&(i, _)| i != read);
        let least = others.filter_map(|(_, source)| source.head()).min();
        self.ts = least.map(|(key, ts)| {
            self.key.clear();
            self.key.extend_from_slice(key);
            ts
        });
    }

    fn is_before_or_at(&self, place: (&[u8], Timestamp)) -> bool {
        self.ts.is_some_and(|ts| (self.key.as_slice(), ts) <= place)
    }
}

/// Calls `give_way` after so much work.
struct Pace<'f> {
    bytes: usize,
    give_way: &'f dyn Fn() -> Result<()>,
}

impl Pace<'_> {
    fn went(&mut self, raw_bytes: usize) -> Result<()> {
        self.bytes += raw_bytes + RECORD_BYTES;
        if self.bytes >= GIVE_WAY_BYTES {
            self.bytes = 0;
            (self.give_way)()?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests;
