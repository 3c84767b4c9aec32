//! Directed cases, as text: `testdata/floor.txt`, whose head explains the lines.
//!
//! Each case is run in several [`Mode`]s, which flush, compact and reopen at other places than it
//! says: where a version lies must never change an answer.

use std::collections::BTreeSet;
use std::ops::Range;

use kvtimedb_engine::fs::SimFs;
use kvtimedb_engine::{Db, Entry, KeyRange, Options, Order, Timestamp, ValueType};

use crate::oracle::{Change, DIR, Op, Oracle, batch, noise, options, state, versions};

/// Where versions lie when a question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    AsWritten,
    /// Nothing is flushed, unless the memtable is full.
    InMemory,
    /// Every write has a run of its own.
    FlushEach,
    /// All is in one run.
    CompactEach,
    /// Every write is recovered from the log.
    ReopenEach,
}

/// A question and its right answer.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    key: Vec<u8>,
    asked: Asked,
    expected: Vec<Entry>,
}

/// The right answers to a question about several keys.
#[derive(Clone, Debug)]
enum Many {
    /// The state as of a moment.
    Scan(KeyRange, Timestamp, Vec<(Vec<u8>, Entry)>),
    AsOf(Vec<(Vec<u8>, Timestamp)>, Vec<Option<Entry>>),
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    Floor(Timestamp),
    Exact(Timestamp),
    Latest,
    History(Timestamp, Timestamp),
}

#[derive(Clone, Debug)]
enum Line {
    Write(Vec<Op>),
    Flush,
    Compact,
    Reopen,
    /// At least so many tables are there now, where the case is run as written.
    Tables(usize),
    /// At least so many merges were done since it was opened, where the case is run as written.
    Merges(u64),
    Ask(Question),
    AskMany(Many),
}

/// Lines under one `case` line.
#[derive(Debug)]
struct Case {
    name: String,
    /// Each with its number in the file.
    lines: Vec<(usize, Line)>,
}

impl Question {
    /// Reads `floor KEY TS = ANSWER` and its kin; `None` where the line is no question.
    pub(crate) fn parse(line: &str) -> Option<Question> {
        let (question, answer) = line.split_once(" = ")?;
        let words: Vec<&str> = question.split_whitespace().collect();
        let (key, asked) = match words[..] {
            ["floor", key, at] => (key, Asked::Floor(timestamp(at))),
            ["exact", key, ts] => (key, Asked::Exact(timestamp(ts))),
            ["latest", key] => (key, Asked::Latest),
            ["history", key, from, to] => (key, Asked::History(timestamp(from), timestamp(to))),
            _ => return None,
        };
        let key = bytes(key);
        let entries = answer.split_whitespace().filter(|&word| word != "none");
        let expected = entries.map(|word| entry(&key, word)).collect();
        Some(Question { key, asked, expected })
    }

    /// What the database answers.
    pub(crate) fn ask(&self, db: &Db) -> kvtimedb_engine::Result<Vec<Entry>> {
        let one = |entry: Option<Entry>| entry.into_iter().collect();
        match self.asked {
            Asked::Floor(at) => db.floor(&self.key, at).map(one),
            Asked::Exact(ts) => db.exact(&self.key, ts).map(one),
            Asked::Latest => db.latest(&self.key).map(one),
            Asked::History(from, to) => {
                let mut descending =
                    versions(db.history(&self.key, from, to, Order::Descending)?)?;
                descending.reverse();
                let ascending = versions(db.history(&self.key, from, to, Order::Ascending)?)?;
                assert_eq!(ascending, descending, "a history in both orders");
                Ok(ascending)
            }
        }
    }

    /// The right answer.
    pub(crate) fn expected(&self) -> &[Entry] {
        &self.expected
    }

    fn ask_oracle(&self, oracle: &Oracle) -> Vec<Entry> {
        let one = |entry: Option<Entry>| entry.into_iter().collect();
        match self.asked {
            Asked::Floor(at) => one(oracle.floor(&self.key, at)),
            Asked::Exact(ts) => one(oracle.exact(&self.key, ts)),
            Asked::Latest => one(oracle.latest(&self.key)),
            Asked::History(from, to) => oracle.history(&self.key, from, to),
        }
    }
}

impl Many {
    /// Reads `scan RANGE TS = ANSWER` and `asof KEY@TS.. = ANSWER`; `None` where the line is neither.
    fn parse(line: &str) -> Option<Many> {
        let (question, answer) = line.split_once(" = ")?;
        let answers = answer.split_whitespace();
        match question.split_whitespace().collect::<Vec<_>>()[..] {
            ["scan", range, at] => {
                let shown = answers.filter(|&word| word != "none").map(|word| {
                    let (key, version) = word.split_once('@').expect("an answer KEY@TS:VALUE");
                    let key = bytes(key);
                    (key.clone(), entry(&key, version))
                });
                Some(Many::Scan(key_range(range), timestamp(at), shown.collect()))
            }
            ["asof", ref lookups @ ..] => {
                let lookup = |word: &&str| {
                    let (key, at) = word.split_once('@').expect("a lookup KEY@TS");
                    (bytes(key), timestamp(at))
                };
                let lookups: Vec<_> = lookups.iter().map(lookup).collect();
                let answer = |(word, (key, _)): (&str, &(Vec<u8>, Timestamp))| {
                    (word != "none").then(|| entry(key, word))
                };
                let answers = answers.zip(&lookups).map(answer).collect();
                Some(Many::AsOf(lookups, answers))
            }
            _ => None,
        }
    }

    /// Holds the database and the oracle against the right answers.
    fn check(&self, db: &Db, oracle: &Oracle, place: &str) {
        match self {
            Many::Scan(range, at, expected) => {
                let scan = |order| state(db.scan(range.clone(), *at, order).unwrap()).unwrap();
                assert_eq!(scan(Order::Ascending), *expected, "{place}");
                let mut descending = scan(Order::Descending);
                descending.reverse();
                assert_eq!(descending, *expected, "{place}, descending");
                let all = oracle.scan(*at);
                assert!(expected.iter().all(|shown| all.contains(shown)), "{place}: the oracle");
            }
            Many::AsOf(lookups, expected) => {
                let asked: Vec<_> = lookups.iter().map(|(key, at)| (&key[..], *at)).collect();
                let found = db.asof(&asked).unwrap();
                let found: Vec<_> =
                    (0..found.len()).map(|n| found.get(n).map(Entry::from)).collect();
                assert_eq!(found, *expected, "{place}");
                let right = asked.iter().map(|(key, at)| oracle.floor(key, *at));
                assert_eq!(right.collect::<Vec<_>>(), *expected, "{place}: the oracle");
            }
        }
    }
}

/// `all`, `PREFIX*`, `FROM..TO`, `FROM..=TO`, `FROM..` or `..TO`.
fn key_range(word: &str) -> KeyRange {
    if word == "all" {
        return KeyRange::all();
    }
    if let Some(prefix) = word.strip_suffix('*') {
        return KeyRange::prefix(&bytes(prefix));
    }
    let (from, to) = word.split_once("..").expect("a range of keys");
    let included = to.strip_prefix('=');
    let from = bytes(from);
    match (included, to) {
        (Some(to), _) => KeyRange::between(from..=bytes(to)),
        (None, "") => KeyRange::between(from..),
        (None, to) if from.is_empty() => KeyRange::between(..bytes(to)),
        (None, to) => KeyRange::between(from..bytes(to)),
    }
}

fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("case ") {
            cases.push(Case { name: name.to_owned(), lines: Vec::new() });
            continue;
        }
        let case = cases.last_mut().expect("a line before the first case");
        let parsed =
            parse_line(line).unwrap_or_else(|| panic!("line {number} says nothing: {line}"));
        case.lines.push((number, parsed));
    }
    cases
}

fn parse_line(line: &str) -> Option<Line> {
    if let Some(question) = Question::parse(line) {
        return Some(Line::Ask(question));
    }
    if let Some(many) = Many::parse(line) {
        return Some(Line::AskMany(many));
    }
    if let Some(ops) = line.strip_prefix("batch ") {
        return ops
            .split(';')
            .map(parse_write)
            .collect::<Option<Vec<_>>>()
            .map(|ops| Line::Write(ops.concat()));
    }
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["flush"] => Some(Line::Flush),
        ["compact"] => Some(Line::Compact),
        ["reopen"] => Some(Line::Reopen),
        ["merges", least] => Some(Line::Merges(least.parse().expect("a count of merges"))),
        ["tables", least] => Some(Line::Tables(least.parse().expect("a count of tables"))),
        _ => parse_write(line).map(Line::Write),
    }
}

fn parse_write(line: &str) -> Option<Vec<Op>> {
    let number = |word: &str| word.parse::<i64>().expect("a number");
    let noisy = |key: &[u8], ts, len: &str| Op::put(key, ts, filler(key, ts, number(len) as usize));
    Some(match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["put", key, ts, value] => {
            let (value_type, value) = typed(value);
            let change = Change::Put(value_type, value);
            vec![Op { key: bytes(key), ts: timestamp(ts), change }]
        }
        ["end", key, ts] => vec![Op::end(bytes(key), timestamp(ts))],
        ["erase", key, ts] => vec![Op::erase(bytes(key), timestamp(ts))],
        ["series", key, times, step, len] => {
            let (key, step) = (bytes(key), number(step) as usize);
            range(times).step_by(step).map(|ts| noisy(&key, ts, len)).collect()
        }
        ["keys", prefix, numbers, ts, len] => {
            let key = |n| format!("{prefix}{n:05}").into_bytes();
            range(numbers).map(|n| noisy(&key(n), timestamp(ts), len)).collect()
        }
        _ => return None,
    })
}

fn range(word: &str) -> Range<i64> {
    let (from, to) = word.split_once("..").expect("a range FROM..TO");
    timestamp(from)..timestamp(to)
}

/// `min`, `max`, one beside them, or a number.
fn timestamp(word: &str) -> Timestamp {
    match word {
        "min" => Timestamp::MIN,
        "min+1" => Timestamp::MIN + 1,
        "max-1" => Timestamp::MAX - 1,
        "max" => Timestamp::MAX,
        _ => word.parse().unwrap_or_else(|_| panic!("{word} is no timestamp")),
    }
}

/// `""`, a text with `\xNN` for any byte, or such a text `*N` times.
pub(crate) fn bytes(word: &str) -> Vec<u8> {
    if word == "\"\"" {
        return Vec::new();
    }
    let (text, times) = match word.rsplit_once('*') {
        Some((text, times)) => (text, times.parse().expect("a count after *")),
        None => (word, 1),
    };
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).expect("two hex digits after \\x"));
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes.repeat(times)
}

fn typed(word: &str) -> (ValueType, Vec<u8>) {
    match word.strip_prefix("json:") {
        Some(text) => (ValueType::Json, bytes(text)),
        None => (ValueType::Octets, bytes(word)),
    }
}

/// `TS:VALUE`, where the value `#N` is the one that `series` and `keys` make of N bytes.
fn entry(key: &[u8], word: &str) -> Entry {
    let (ts, value) = word.split_once(':').expect("an answer TS:VALUE");
    let ts = timestamp(ts);
    let (value_type, value) = match value.strip_prefix('#') {
        Some(len) => (ValueType::Octets, filler(key, ts, len.parse().expect("a length after #"))),
        None => typed(value),
    };
    Entry { ts, value_type, value }
}

/// A value that doesn't compress, so that few of them fill a block.
fn filler(key: &[u8], ts: Timestamp, len: usize) -> Vec<u8> {
    let seed = key.iter().fold(ts as u64, |seed, &byte| seed.wrapping_mul(31) + u64::from(byte));
    noise(seed, len)
}

/// A case that is being run.
struct Run {
    fs: SimFs,
    mode: Mode,
    options: Options,
    /// `None` only within a reopen.
    db: Option<Db>,
    oracle: Oracle,
}

impl Run {
    fn new(mode: Mode) -> Run {
        let fs = SimFs::new(1);
        let memtable_bytes_max = if mode == Mode::InMemory { 8 << 20 } else { 16 << 10 };
        let options = Options { memtable_bytes_max, ..options(&fs) };
        let db = Some(Db::open(DIR, options.clone()).unwrap());
        Run { fs, mode, options, db, oracle: Oracle::default() }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("a database outside of a reopen")
    }

    fn reopen(&mut self) {
        self.db = None;
        self.db = Some(Db::open(DIR, self.options.clone()).unwrap());
    }

    fn take(&mut self, line: &Line, place: &str) {
        let as_written = self.mode == Mode::AsWritten;
        match line {
            Line::Write(ops) => {
                self.db().write(batch(ops)).unwrap();
                self.oracle.apply(ops);
                self.maintain();
            }
            Line::Flush if as_written => self.db().flush().unwrap(),
            Line::Compact if as_written => self.db().compact().unwrap(),
            Line::Reopen if as_written => self.reopen(),
            Line::Tables(least) if as_written => {
                let tables = self.tables();
                assert!(tables >= *least, "{place}: {tables} tables");
            }
            Line::Merges(least) if as_written => {
                let merges = self.db().metrics().compactions.get();
                assert!(merges >= *least, "{place}: {merges} merges");
            }
            Line::Ask(question) => {
                let oracle = question.ask_oracle(&self.oracle);
                assert_eq!(oracle, question.expected(), "{place}: the oracle");
                assert_eq!(question.ask(self.db()).unwrap(), question.expected(), "{place}");
            }
            Line::AskMany(many) => many.check(self.db(), &self.oracle, place),
            _ => {}
        }
    }

    fn maintain(&mut self) {
        match self.mode {
            Mode::AsWritten | Mode::InMemory => {}
            Mode::FlushEach => self.db().flush().unwrap(),
            Mode::CompactEach => self.db().compact().unwrap(),
            Mode::ReopenEach => self.reopen(),
        }
    }

    fn tables(&self) -> usize {
        let files = self.fs.file_names();
        files.iter().filter(|path| path.extension().is_some_and(|end| end == "sst")).count()
    }
}

fn run(mode: Mode) {
    let mut names = BTreeSet::new();
    for case in parse(include_str!("../testdata/floor.txt")) {
        let mut run = Run::new(mode);
        for (number, line) in &case.lines {
            run.take(line, &format!("floor.txt line {number}, {} ({mode:?})", case.name));
        }
        let place = format!("{} ({mode:?})", case.name);
        run.oracle.assert_answers(run.db(), &place);
        assert!(names.insert(case.name), "{place}: two cases of this name");
    }
    assert!(!names.is_empty());
}

#[test]
fn cases_as_written() {
    run(Mode::AsWritten);
}

#[test]
fn cases_in_memory() {
    run(Mode::InMemory);
}

#[test]
fn cases_with_a_run_per_write() {
    run(Mode::FlushEach);
}

#[test]
fn cases_in_one_run() {
    run(Mode::CompactEach);
}

#[test]
fn cases_from_the_log() {
    run(Mode::ReopenEach);
}
