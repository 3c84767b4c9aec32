//! What a database must answer, as a `BTreeMap`, and how a [`Db`] is held against it.
//!
//! The whole semantics in three lines: a put or an end at `(key, ts)` replaces what was there; an
//! erase takes it away; a floor is the entry with the greatest timestamp at or before the one asked
//! for, and nothing if that is an end.

mod horizon;
mod lookups;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use fastrand::Rng;
use kvtimedb_engine::fs::SimFs;
use kvtimedb_engine::{
    Background, Db, Durability, Entry, Error, History, KeyRange, Options, Order, Scan, SeqNo,
    Timestamp,
};

pub use self::horizon::taken;
use self::horizon::{since, since_of};
pub use self::writes::{Change, Op, batch};

/// How many keys [`Oracle::compare_some`] asks about.
const QUESTIONS: usize = 3;

/// Where the database of a simulated file system lives.
pub const DIR: &str = "/db";

/// Small and single-stepped: the smallest memtable, so that flushes and merges happen; all work on
/// the caller's thread; and a log without a zero-filled megabyte per segment.
pub fn options(fs: &SimFs) -> Options {
    Options {
        durability: Durability::Buffered,
        memtable_bytes_max: 16 << 10,
        cache_bytes_max: 0,
        feed_bytes_max: 0,
        background: Background::Inline,
        fs: Arc::new(fs.clone()),
    }
}

/// Bytes that don't compress, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// What is left of a history.
pub fn versions(mut history: History) -> kvtimedb_engine::Result<Vec<Entry>> {
    let mut versions = Vec::new();
    while let Some(version) = history.next()? {
        versions.push(version.into());
    }
    Ok(versions)
}

/// What is left of a scan.
pub fn state(mut scan: Scan) -> kvtimedb_engine::Result<Vec<(Vec<u8>, Entry)>> {
    let mut state = Vec::new();
    while let Some((key, version)) = scan.next()? {
        state.push((key.to_vec(), version.into()));
    }
    Ok(state)
}

/// One key: what is there, where `None` is an end, and every timestamp that was ever written to.
#[derive(Clone, Debug, Default)]
struct Timeline {
    versions: BTreeMap<Timestamp, Option<Entry>>,
    moments: BTreeSet<Timestamp>,
}

/// The right answers.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    keys: BTreeMap<Vec<u8>, Timeline>,
    last_seq: SeqNo,
}

impl Oracle {
    /// After these operations on an empty database.
    pub fn of(ops: &[Op]) -> Oracle {
        let mut oracle = Oracle::default();
        oracle.apply(ops);
        oracle
    }

    /// The sequence number of the last operation.
    pub fn last_seq(&self) -> SeqNo {
        self.last_seq
    }

    /// The keys that were ever written to.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.keys().map(Vec::as_slice)
    }

    /// What `Db::floor` must answer.
    pub fn floor(&self, key: &[u8], at: Timestamp) -> Option<Entry> {
        self.keys.get(key)?.versions.range(..=at).next_back()?.1.clone()
    }

    /// What `Db::exact` must answer.
    pub fn exact(&self, key: &[u8], ts: Timestamp) -> Option<Entry> {
        self.keys.get(key)?.versions.get(&ts)?.clone()
    }

    /// What `Db::latest` must answer.
    pub fn latest(&self, key: &[u8]) -> Option<Entry> {
        self.floor(key, Timestamp::MAX)
    }

    /// What `Db::history` must show, ascending.
    pub fn history(&self, key: &[u8], from: Timestamp, to: Timestamp) -> Vec<Entry> {
        let Some(timeline) = self.keys.get(key).filter(|_| from <= to) else { return Vec::new() };
        timeline.versions.range(from..=to).filter_map(|(_, version)| version.clone()).collect()
    }

    /// The floors of all keys, in their order.
    pub fn scan(&self, at: Timestamp) -> Vec<(Vec<u8>, Entry)> {
        let floor = |key: &Vec<u8>| Some((key.clone(), self.floor(key, at)?));
        self.keys.keys().filter_map(floor).collect()
    }

    /// The timestamps at which the answers for a key may change, with their neighbours and the ends
    /// of time.
    pub fn moments(&self, key: &[u8]) -> BTreeSet<Timestamp> {
        let written = self.keys.get(key).into_iter().flat_map(|timeline| &timeline.moments);
        let around = written.flat_map(|&ts| [ts.saturating_sub(1), ts, ts.saturating_add(1)]);
        around.chain([Timestamp::MIN, 0, Timestamp::MAX]).collect()
    }

    /// Asks the database everything, also about keys that it was never told.
    pub fn compare(&self, db: &Db) -> Comparison {
        self.compare_every(db, 1)
    }

    /// As [`compare`](Self::compare), but of the moments only every `nth`: all versions are read, by
    /// their histories, in less time.
    pub fn compare_every(&self, db: &Db, nth: usize) -> Comparison {
        let mut comparison = Comparison::default();
        for key in self.keys() {
            self.compare_moments(db, key, nth, &mut comparison);
            let stranger = [key, b"\x00?"].concat();
            if !self.keys.contains_key(&stranger) {
                comparison.add(db.latest(&stranger), None, || format!("latest {stranger:?}"));
            }
        }
        self.compare_keys(db, nth, &mut comparison);
        comparison
    }

    /// Asks the database everything about one key.
    pub fn compare_key(&self, db: &Db, key: &[u8], comparison: &mut Comparison) {
        self.compare_moments(db, key, 1, comparison);
    }

    /// Asks the database a few questions, by chance.
    pub fn compare_some(&self, db: &Db, rng: &mut Rng) -> Comparison {
        let (mut comparison, since) = (Comparison::default(), since(db));
        let keys: Vec<_> = self.keys().collect();
        for _ in 0..QUESTIONS.min(keys.len()) {
            let key = keys[rng.usize(..keys.len())];
            let moments = self.moments_since(key, since);
            let at = moments.iter().nth(rng.usize(..moments.len())).copied().unwrap_or(0);
            comparison.add(db.latest(key), self.latest(key).as_ref(), || {
                format!("latest {}", shown(key))
            });
            comparison.add(db.floor(key, at), self.floor(key, at).as_ref(), || {
                format!("floor {} {at}", shown(key))
            });
            let order = if rng.bool() { Order::Ascending } else { Order::Descending };
            let from = if rng.bool() { Timestamp::MIN } else { at };
            self.compare_history(db, key, (from, Timestamp::MAX), order, &mut comparison);
        }
        let at = if rng.bool() { Timestamp::MAX } else { rng.i64(-20..400).max(since) };
        self.compare_scan(db, &KeyRange::all(), at, |_| true, &mut comparison);
        comparison
    }

    fn compare_moments(&self, db: &Db, key: &[u8], nth: usize, comparison: &mut Comparison) {
        let name = || shown(key);
        comparison.add(db.latest(key), self.latest(key).as_ref(), || format!("latest {}", name()));
        horizon::compare_earlier(db, key, comparison);
        let since = since(db);
        let moments = self.moments_since(key, since);
        // In no order, some of them twice.
        let some = |n| moments.iter().skip(n).step_by(3 * nth).map(|&at| (key, at));
        let lookups: Vec<_> = some(2).chain(some(0)).chain(some(1)).chain(some(0)).collect();
        self.compare_asof(db, &lookups, comparison);
        for &at in moments.iter().step_by(nth) {
            let what = || format!("floor {} {at}", name());
            comparison.add(db.floor(key, at), self.floor(key, at).as_ref(), what);
            let explained = db.explain(key, at).map(|explanation| explanation.answer);
            let what = || format!("explain {} {at}", name());
            comparison.add(explained, self.floor(key, at).as_ref(), what);
            let what = || format!("exact {} {at}", name());
            comparison.add(db.exact(key, at), self.exact(key, at).as_ref(), what);
        }
        let every = moments.iter().step_by(nth).copied();
        match db.snapshot() {
            Ok(snapshot) => self.compare_lookups(&snapshot, key, every, comparison),
            Err(error) => comparison.refused.push(error),
        }
        let nth = |n: usize| moments.iter().nth(n).copied().unwrap_or(Timestamp::MAX);
        let (low, high) = (nth(moments.len() / 4), nth(moments.len() * 3 / 4));
        for (from, to) in [
            (Timestamp::MIN, Timestamp::MAX),
            (low, high),
            (high, low.saturating_sub(1).max(since)),
        ] {
            for order in [Order::Ascending, Order::Descending] {
                self.compare_history(db, key, (from, to), order, comparison);
            }
        }
    }

    /// Questions of all kinds about all keys.
    fn compare_keys(&self, db: &Db, nth: usize, comparison: &mut Comparison) {
        let since = since(db);
        let moments: BTreeSet<_> =
            self.keys().flat_map(|key| self.moments_since(key, since)).collect();
        let every = |n: usize| moments.iter().copied().step_by(n.max(1));
        let asked = every(nth).flat_map(|at| self.keys().map(move |key| (key, at)));
        self.compare_asof(db, &asked.collect::<Vec<_>>(), comparison);
        match db.snapshot() {
            Ok(snapshot) => self.compare_diffs(&snapshot, &moments, comparison),
            Err(error) => comparison.refused.push(error),
        }
        let keys: Vec<_> = self.keys().collect();
        for at in every(moments.len() / 3).chain([Timestamp::MAX]) {
            self.compare_scan(db, &KeyRange::all(), at, |_| true, comparison);
            let (Some(first), Some(middle)) = (keys.first(), keys.get(keys.len() / 2)) else {
                return;
            };
            let is_between = |key: &[u8]| key > *first && key <= *middle;
            let range = (Bound::Excluded(first), Bound::Included(middle));
            self.compare_scan(db, &KeyRange::between::<&[u8]>(range), at, is_between, comparison);
            let range = KeyRange::between::<&[u8]>(middle..first);
            self.compare_scan(db, &range, at, |_| false, comparison);
            let prefix = &middle[..middle.len() / 2];
            let has_prefix = |key: &[u8]| key.starts_with(prefix);
            self.compare_scan(db, &KeyRange::prefix(prefix), at, has_prefix, comparison);
        }
    }

    fn compare_asof(&self, db: &Db, lookups: &[(&[u8], Timestamp)], comparison: &mut Comparison) {
        let answers = match db.asof(lookups) {
            Ok(answers) => answers,
            Err(error) => return comparison.refused.push(error),
        };
        assert_eq!(answers.len(), lookups.len());
        for (number, (key, at)) in lookups.iter().enumerate() {
            let found = answers.get(number).map(Entry::from);
            let what = || format!("asof {} {at}", shown(key));
            comparison.add(Ok(found), self.floor(key, *at).as_ref(), what);
        }
    }

    fn compare_scan(
        &self,
        db: &Db,
        keys: &KeyRange,
        at: Timestamp,
        within: impl Fn(&[u8]) -> bool,
        comparison: &mut Comparison,
    ) {
        let mut expected = self.scan(at);
        expected.retain(|(key, _)| within(key));
        for order in [Order::Ascending, Order::Descending] {
            let what = format!("scan {keys:?} {at} {order:?}");
            comparison.add_state(db.scan(keys.clone(), at, order), &expected, &what);
            expected.reverse();
        }
    }

    /// An error may end a history, but what it has shown by then must be right.
    fn compare_history(
        &self,
        db: &Db,
        key: &[u8],
        (from, to): (Timestamp, Timestamp),
        order: Order,
        comparison: &mut Comparison,
    ) {
        let mut history = match db.history(key, from, to, order) {
            Ok(history) => history,
            Err(error) => return comparison.refused.push(error),
        };
        let mut expected = self.history(key, from.max(since(db)), to);
        if order == Order::Descending {
            expected.reverse();
        }
        let mut expected = expected.into_iter();
        loop {
            let found = history.next().map(|version| version.map(Entry::from));
            let ended = !matches!(found, Ok(Some(_)));
            let what = || format!("history {} {from} {to} {order:?}", shown(key));
            comparison.add(found, expected.next().as_ref(), what);
            if ended {
                return;
            }
        }
    }

    /// Panics unless every answer is right.
    #[track_caller]
    pub fn assert_answers(&self, db: &Db, context: impl fmt::Display) {
        let comparison = self.compare(db);
        assert!(comparison.is_right(), "{context}: {comparison}");
    }
}

/// How a database's answers differ from the right ones.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Answers that are not the right ones.
    pub wrong: Vec<String>,
    /// Questions that were answered with an error.
    pub refused: Vec<Error>,
}

impl Comparison {
    /// Whether every question was answered, and rightly.
    pub fn is_right(&self) -> bool {
        self.wrong.is_empty() && self.refused.is_empty()
    }

    /// As a history, a scan may end with an error.
    fn add_state(
        &mut self,
        scan: kvtimedb_engine::Result<Scan>,
        expected: &[(Vec<u8>, Entry)],
        what: &str,
    ) {
        let mut scan = match scan {
            Ok(scan) => scan,
            Err(error) => return self.refused.push(error),
        };
        let mut expected = expected.iter();
        loop {
            let (found, expected) = (scan.next(), expected.next());
            match (found, expected) {
                (Err(error), _) => return self.refused.push(error),
                (Ok(None), None) => return,
                (Ok(Some((key, version))), Some((expected_key, expected)))
                    if key == expected_key && Entry::from(version) == *expected => {}
                (Ok(found), expected) => {
                    let found = found.map(|(key, version)| (shown(key), version.ts));
                    let expected = expected.map(|(key, version)| (shown(key), version.ts));
                    self.wrong.push(format!("{what} shows {found:?}, expected {expected:?}"));
                    return;
                }
            }
        }
    }

    fn add(
        &mut self,
        found: kvtimedb_engine::Result<Option<Entry>>,
        expected: Option<&Entry>,
        what: impl FnOnce() -> String,
    ) {
        match found {
            Err(error) => self.refused.push(error),
            Ok(found) if found.as_ref() == expected => {}
            Ok(found) => {
                let (found, expected) = (shown_entry(found.as_ref()), shown_entry(expected));
                self.wrong.push(format!("{} is {found}, expected {expected}", what()));
            }
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wrong, refused) = (self.wrong.len(), self.refused.len());
        write!(f, "{wrong} wrong answers, {refused} errors")?;
        if let Some(first) = self.wrong.first() {
            write!(f, "; {first}")?;
        }
        if let Some(first) = self.refused.first() {
            write!(f, "; {first}")?;
        }
        Ok(())
    }
}

fn shown_entry(entry: Option<&Entry>) -> String {
    entry.map_or("none".to_owned(), |entry| {
        format!("{}:{:?}:{}", entry.ts, entry.value_type, shown(&entry.value))
    })
}

/// Bytes for a message: escaped, and cut short.
fn shown(bytes: &[u8]) -> String {
    const BYTES_MAX: usize = 40;
    let text = bytes[..bytes.len().min(BYTES_MAX)].escape_ascii();
    let more =
        if bytes.len() > BYTES_MAX { format!("...[{}]", bytes.len()) } else { String::new() };
    format!("\"{text}\"{more}")
}
