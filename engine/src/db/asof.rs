//! Many floors in one view, answered in the order of the questions.
//!
//! 1. The questions are grouped by key, with a hash table, and the groups put in the order of the keys,
//!    those of a group in the order of time.
//! 2. Each source is walked once: it remembers its place from one question to the next.
//! 3. What an answer needs of a chunk is rendered when it is found, once for all questions that it
//!    answers; the rest stays as it is.

use smallvec::SmallVec;

use super::probe::{self, Hit, SourceProbe};
use super::questions::{Question, Questions};
use super::state::Core;
use crate::error::Result;
use crate::key::{EntryRef, Tag, Timestamp};

/// The answers to many questions; see [`Db::asof`](crate::Db::asof). In columns: the values lie one
/// behind the other.
#[derive(Debug)]
pub struct AsOf {
    answers: Vec<Answer>,
    values: Vec<u8>,
}

/// Where a value lies, if there is one.
#[derive(Clone, Copy, Debug)]
struct Answer {
    ts: Timestamp,
    start: u64,
    /// [`NONE`] where there is no answer.
    len: u32,
    tag: Tag,
}

const NONE: u32 = u32::MAX;

const NO_ANSWER: Answer = Answer { ts: 0, start: 0, len: NONE, tag: Tag::END };

impl AsOf {
    /// How many questions were asked.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether no question was asked.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// The answer to the question of this number, as [`Db::floor`](crate::Db::floor) would give it.
    ///
    /// # Panics
    /// If there was no such question.
    pub fn get(&self, question: usize) -> Option<EntryRef<'_>> {
        let Answer { ts, start, len, tag } = self.answers[question];
        (len != NONE).then(|| EntryRef {
            ts,
            value_type: tag.value_type(),
            value: &self.values[start as usize..start as usize + len as usize],
        })
    }
}

impl Core {
    pub(crate) fn asof(&self, lookups: &[(&[u8], Timestamp)]) -> Result<AsOf> {
        self.check_open()?;
        let (view, visible) = self.view();
        let memtables = view.memtables().map(|memtable| &**memtable);
        let runs = view.version.runs().iter().map(|run| &**run);
        let mut probes = probe::probes(memtables, runs, visible);
        let mut asof = AsOf { answers: vec![NO_ANSWER; lookups.len()], values: Vec::new() };
        let mut among = SmallVec::<[usize; 8]>::new();
        let mut questions = Questions::of(lookups);
        for group in 0..questions.groups() {
            let (key, hash, asked) = questions.group(group, lookups);
            let latest = asked.last().map_or(Timestamp::MIN, |question| question.at);
            among.clear();
            for (source, probe) in probes.iter_mut().enumerate() {
                if probe.begin(key, hash, latest) {
                    among.push(source);
                }
            }
            asof.answer(&mut probes, &among, key, asked)?;
        }
        Ok(asof)
    }
}

impl AsOf {
    /// Answers the questions about one key, which are in the order of time.
    fn answer(
        &mut self,
        probes: &mut [SourceProbe<'_>],
        among: &[usize],
        key: &[u8],
        asked: &[Question],
    ) -> Result<()> {
        let mut last = NO_ANSWER;
        for question in asked {
            let Some(Hit { source, ts, tag }) = probe::floor(probes, among, key, question.at)?
            else {
                continue;
            };
            // In one view a key has one version at a timestamp: what has it was rendered.
            if last.len == NONE || last.ts != ts {
                let start = self.values.len();
                probes[source].value_into(&mut self.values)?;
                let len = (self.values.len() - start) as u32;
                last = Answer { ts, start: start as u64, len, tag };
            }
            self.answers[question.number as usize] = last;
        }
        Ok(())
    }
}
