//! Many floors in one view, answered in the order of the questions.
//!
//! 1. The questions are grouped by key, with a hash table, and the groups put in the order of the keys,
//!    those of a group in the order of time.
//! 2. Each source is walked once: it remembers its place from one question to the next.
//! 3. What an answer needs of a chunk is rendered when it is found, once for all questions that it
//!    answers; the rest stays as it is.
//!
//! Many questions are shared out by their keys among as many threads as there are processors, each of
//! which does all three for its share.

use std::sync::atomic::{AtomicU32, Ordering};

use smallvec::SmallVec;

use super::probe::{self, Hit, SourceProbe};
use super::questions::{Question, Questions, Share};
use super::state::SuperVersion;
use crate::error::{Error, Result};
use crate::key::{EntryRef, SeqNo, Tag, Timestamp};

/// A thread more is worth its start for so many questions.
const QUESTIONS_PER_THREAD: usize = 32 << 10;

/// The number of an answer in its share, and above it that of the share.
const SHARE_SHIFT: u32 = 28;
const SHARES_MAX: usize = 8;

/// The most questions of one call.
const QUESTIONS_MAX: usize = (1 << SHARE_SHIFT) - 1;

/// Where there is no answer.
const NONE: u32 = u32::MAX;

/// The answers to many questions; see [`Snapshot::asof`](crate::Snapshot::asof). In columns: the values lie one
/// behind the other.
#[derive(Debug, Default)]
pub struct AsOf {
    /// For each question which answer is its, or [`NONE`]. Small, because it is written in no order.
    answer_of: Vec<AtomicU32>,
    shares: Vec<Answers>,
}

/// The answers of a share.
#[derive(Debug, Default)]
struct Answers {
    answers: Vec<Answer>,
    values: Vec<u8>,
}

/// A version that answers some questions.
#[derive(Clone, Copy, Debug)]
struct Answer {
    ts: Timestamp,
    start: usize,
    len: u32,
    tag: Tag,
}

impl AsOf {
    /// How many questions were asked.
    pub fn len(&self) -> usize {
        self.answer_of.len()
    }

    /// Whether no question was asked.
    pub fn is_empty(&self) -> bool {
        self.answer_of.is_empty()
    }

    /// The answer to the question of this number, as [`Db::floor`](crate::Db::floor) would give it.
    ///
    /// # Panics
    /// If there was no such question.
    pub fn get(&self, question: usize) -> Option<EntryRef<'_>> {
        let answer = self.answer_of[question].load(Ordering::Relaxed);
        if answer == NONE {
            return None;
        }
        let share = &self.shares[(answer >> SHARE_SHIFT) as usize];
        let number = answer & ((1 << SHARE_SHIFT) - 1);
        let Answer { ts, start, len, tag } = share.answers[number as usize];
        let value = &share.values[start..start + len as usize];
        Some(EntryRef { ts, value_type: tag.value_type(), value })
    }
}

impl SuperVersion {
    /// Shared out among no more than `threads_max` threads. `None`: the values of a share came to more than
    /// `bytes_max`, and are more than one.
    pub(super) fn asof(
        &self,
        lookups: &[(&[u8], Timestamp)],
        visible: SeqNo,
        threads_max: usize,
        bytes_max: usize,
    ) -> Result<Option<AsOf>> {
        if lookups.len() > QUESTIONS_MAX {
            let what = format!("{} lookups at once: the limit is {QUESTIONS_MAX}", lookups.len());
            return Err(Error::InvalidArgument(what));
        }
        let earliest = lookups.iter().map(|&(_, at)| at).min();
        earliest.map_or(Ok(()), |earliest| self.check_horizon(earliest))?;
        let answer_of: Vec<AtomicU32> = lookups.iter().map(|_| AtomicU32::new(NONE)).collect();
        let of = threads_max.min(1 + lookups.len() / QUESTIONS_PER_THREAD).min(SHARES_MAX);
        let answer = |number| {
            let share = Share { number, of };
            Answers::of(share, self, visible, lookups, &answer_of, bytes_max).transpose()
        };
        let shares: Option<Result<Vec<Answers>>> = std::thread::scope(|scope| {
            let others: Vec<_> = (1..of).map(|share| scope.spawn(move || answer(share))).collect();
            let first = std::iter::once(answer(0));
            let others = others.into_iter().map(|other| {
                // A panic is a bug there, and goes on as one here.
                other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            first.chain(others).collect()
        });
        Ok(shares.transpose()?.map(|shares| AsOf { answer_of, shares }))
    }
}

impl Answers {
    /// Answers the questions of a share, and tells each which answer is its; `None`: there is too much to
    /// tell.
    fn of(
        share: Share,
        view: &SuperVersion,
        visible: SeqNo,
        lookups: &[(&[u8], Timestamp)],
        answer_of: &[AtomicU32],
        bytes_max: usize,
    ) -> Result<Option<Answers>> {
        let memtables = view.memtables().map(|memtable| &**memtable);
        let runs = view.version.runs().iter().map(|run| &**run);
        let mut probes = probe::probes(memtables, runs, visible);
        let mut answers = Answers::default();
        let mut among = SmallVec::<[usize; 8]>::new();
        let mut questions = Questions::of(lookups, share);
        for group in 0..questions.groups() {
            let (key, hash, asked) = questions.group(group, lookups);
            let latest = asked.last().map_or(Timestamp::MIN, |question| question.at);
            among.clear();
            for (source, probe) in probes.iter_mut().enumerate() {
                if probe.begin(key, hash, latest) {
                    among.push(source);
                }
            }
            let first = answers.answers.len();
            for question in asked {
                let found = answers.answer(&mut probes, &among, key, first, question)?;
                if let Some(number) = found {
                    let answer = (share.number << SHARE_SHIFT) as u32 | number as u32;
                    answer_of[question.number as usize].store(answer, Ordering::Relaxed);
                }
                if answers.values.len() > bytes_max && answers.answers.len() > 1 {
                    return Ok(None);
                }
            }
        }
        Ok(Some(answers))
    }

    /// The number of the answer to a question about a key, whose answers begin with number `first`. A
    /// key's questions are asked in the order of time.
    fn answer(
        &mut self,
        probes: &mut [SourceProbe<'_>],
        among: &[usize],
        key: &[u8],
        first: usize,
        question: &Question,
    ) -> Result<Option<usize>> {
        let hit = probe::floor(probes, among, key, question.at)?;
        let Some(Hit { source, ts, tag }) = hit else { return Ok(None) };
        // In one view a key has one version at a timestamp: what has it was rendered.
        if self.answers[first..].last().is_none_or(|last| last.ts != ts) {
            let start = self.values.len();
            probes[source].value_into(&mut self.values)?;
            let len = (self.values.len() - start) as u32;
            self.answers.push(Answer { ts, start, len, tag });
        }
        Ok(Some(self.answers.len() - 1))
    }
}
