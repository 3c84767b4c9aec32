//! Random operations, maintenance and reopens, in random settings, against the oracle.
//!
//! `PROPTEST_CASES` raises the number of cases. A case that failed is kept in
//! `tests/proptest-regressions/`, and is run first from then on.

use kvtimedb_engine::fs::SimFs;
use kvtimedb_engine::{
    Background, Condition, Db, Durability, Error, Expect, Lookup, Mode, Options, Timestamp,
    ValueType,
};
use proptest::prelude::*;

use crate::oracle::{Change, Comparison, DIR, Op, Oracle, batch, noise, options};

/// Few keys, so that they meet often: prefixes of each other, the edges of what a byte can be, and
/// some that are long.
fn keys() -> Vec<Vec<u8>> {
    let long = b"long/".repeat(80);
    let longer = [long.as_slice(), b"x"].concat();
    let short: [&[u8]; 11] = [
        b"",
        b"\x00",
        b"\x00\x00",
        b"\x00\xff",
        b"a",
        b"a\x00",
        b"ab",
        b"abc",
        b"b",
        b"\xff",
        b"\xff\xff",
    ];
    short.into_iter().map(<[u8]>::to_vec).chain([long, longer]).collect()
}

/// A value by its shape, so that a failed case is short to read.
#[derive(Clone, Copy, Debug)]
enum Value {
    Empty,
    Short(u8),
    Json(i16),
    /// Compresses to nothing.
    Run(u16),
    /// Doesn't compress.
    Noise(u16),
    /// Larger than a memtable.
    Huge(u8),
}

impl Value {
    fn change(self) -> Change {
        let octets = |bytes| Change::Put(ValueType::Octets, bytes);
        match self {
            Value::Empty => octets(Vec::new()),
            Value::Short(byte) => octets(vec![byte; 1 + usize::from(byte % 7)]),
            Value::Json(n) => {
                let text = format!("{{\"t\":{}.{},\"h\":40}}", n / 10, n.unsigned_abs() % 10);
                Change::Put(ValueType::Json, text.into_bytes())
            }
            Value::Run(len) => octets(vec![b'r'; usize::from(len)]),
            Value::Noise(len) => octets(noise(u64::from(len), usize::from(len))),
            Value::Huge(seed) => octets(noise(u64::from(seed), 20_000 + usize::from(seed) * 100)),
        }
    }

    fn rising(self) -> Change {
        match self.change() {
            Change::Put(value_type, value) => Change::Rising(value_type, value),
            other => other,
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        2 => Just(Value::Empty),
        4 => any::<u8>().prop_map(Value::Short),
        8 => any::<i16>().prop_map(Value::Json),
        2 => (50_u16..2000).prop_map(Value::Run),
        3 => (50_u16..2000).prop_map(Value::Noise),
        1 => any::<u8>().prop_map(Value::Huge),
    ]
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        16 => -3_i64..20,
        2 => prop::sample::select(vec![i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX]),
        1 => any::<i64>(),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let change = prop_oneof![
        8 => value().prop_map(Value::change),
        2 => Just(Change::End),
        3 => Just(Change::Erase),
        2 => timestamp().prop_map(Change::EraseTo),
        1 => value().prop_map(Value::rising),
    ];
    let op = (prop::sample::select(keys()), timestamp(), change);
    op.prop_map(|(key, ts, change)| match change {
        Change::EraseTo(to) if to < ts => Op { key, ts: to, change: Change::EraseTo(ts) },
        change => Op { key, ts, change },
    })
}

/// Many versions of one key in the order of time: a chunk of its own, and tables that it spans.
fn series() -> impl Strategy<Value = Vec<Op>> {
    let series = (prop::sample::select(keys()), -100_i64..100, 1_i64..5, 20_i64..200, value());
    series.prop_map(|(key, from, step, count, value)| {
        let change = match value {
            Value::Huge(seed) | Value::Short(seed) => Value::Noise(u16::from(seed)).change(),
            small => small.change(),
        };
        let op = |i| Op { key: key.clone(), ts: from + i * step, change: change.clone() };
        (0..count).map(op).collect()
    })
}

/// Values for keys that lie beside each other, as large together as a table that may move: where
/// ranges are apart, their tables move, and where they meet, they are merged.
fn range() -> impl Strategy<Value = Vec<Op>> {
    let range = (0_u8..12, 1_u8..4, timestamp(), any::<bool>());
    range.prop_map(|(first, keys, ts, erases)| {
        let put = |key: u8| Op::put(format!("range/{key:02}"), ts, noise(u64::from(key), 2500));
        let erase = |key: u8| Op::erase(format!("range/{key:02}"), ts);
        let op = |key| if erases && key % 2 == 0 { erase(key) } else { put(key) };
        (first..first + keys).map(op).collect()
    })
}

/// A condition on what is found, which is what is claimed of it or is not.
#[derive(Clone, Debug)]
struct Claim {
    key: Vec<u8>,
    lookup: Lookup,
    holds: bool,
}

impl Claim {
    fn condition(&self, oracle: &Oracle) -> Condition {
        let expect = match oracle.find(&self.key, self.lookup) {
            Some(entry) if self.holds => Expect::Etag(entry.etag()),
            Some(entry) if entry.ts % 2 == 0 => Expect::Etag(!entry.etag()),
            None if !self.holds => Expect::Etag(0),
            _ => Expect::Absent,
        };
        Condition { key: self.key.clone(), lookup: self.lookup, expect }
    }
}

fn claim() -> impl Strategy<Value = Claim> {
    let modes = [Mode::Floor, Mode::Ceiling, Mode::Exact, Mode::Before, Mode::After, Mode::Nearest];
    let claim = (
        prop::sample::select(keys()),
        timestamp(),
        prop::sample::select(modes.to_vec()),
        prop::option::of(0_u64..10),
        prop::bool::weighted(0.8),
    );
    claim.prop_map(|(key, at, mode, max_age, holds)| {
        let lookup = Lookup { max_age, ..Lookup::new(at, mode) };
        Claim { key, lookup, holds }
    })
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Op>),
    WriteIf(Vec<Claim>, Vec<Op>),
    /// Flushes before and after.
    WriteTable(Vec<Op>),
    Flush,
    Compact,
    /// Closes, which flushes, and opens again.
    Close,
    /// Opens again after no more than a drop: the log is replayed.
    Drop,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec(op(), 1..2).prop_map(Step::Write),
        12 => prop::collection::vec(op(), 2..12).prop_map(Step::Write),
        // The same (key, ts) several times in one batch: the last one stands.
        3 => (op(), prop::collection::vec(value(), 1..4)).prop_map(|(op, values)| {
            let again = |value: Value| Op { change: value.change(), ..op.clone() };
            Step::Write(std::iter::once(op.clone()).chain(values.into_iter().map(again)).collect())
        }),
        2 => series().prop_map(Step::Write),
        4 => (prop::collection::vec(claim(), 1..3), prop::collection::vec(op(), 1..6))
            .prop_map(|(claims, ops)| Step::WriteIf(claims, ops)),
        4 => range().prop_map(Step::WriteTable),
        4 => Just(Step::Flush),
        2 => Just(Step::Compact),
        1 => Just(Step::Close),
        2 => Just(Step::Drop),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    durability: Durability,
    background: Background,
    cache_bytes_max: usize,
    memtable_bytes_max: usize,
}

fn settings() -> impl Strategy<Value = Settings> {
    let settings = (
        prop::sample::select(vec![Durability::Sync, Durability::Buffered]),
        prop::sample::select(vec![Background::Threads, Background::Inline]),
        prop::sample::select(vec![0, 4 << 10, 1 << 20]),
        prop::sample::select(vec![16 << 10, 64 << 10]),
    );
    settings.prop_map(|(durability, background, cache_bytes_max, memtable_bytes_max)| Settings {
        durability,
        background,
        cache_bytes_max,
        memtable_bytes_max,
    })
}

/// A database and its oracle.
struct Pair {
    options: Options,
    /// `None` only within a reopen: the old handle goes first, because it holds the lock.
    db: Option<Db>,
    oracle: Oracle,
}

impl Pair {
    fn new(settings: Settings) -> Pair {
        let Settings { durability, background, cache_bytes_max, memtable_bytes_max } = settings;
        let options = Options {
            durability,
            background,
            cache_bytes_max,
            memtable_bytes_max,
            ..options(&SimFs::new(1))
        };
        let db = Some(Db::open(DIR, options.clone()).unwrap());
        Pair { options, db, oracle: Oracle::default() }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("a database outside of a reopen")
    }

    fn reopen(&mut self) {
        self.db = None;
        self.db = Some(Db::open(DIR, self.options.clone()).unwrap());
    }

    fn write(&mut self, conditions: &[Condition], ops: &[Op]) {
        let mut conditional = batch(ops);
        for condition in conditions {
            conditional.require(condition.clone()).unwrap();
        }
        let committed = self.db().write(conditional);
        if let Some(failed) = conditions.iter().position(|it| !self.oracle.holds(it)) {
            let refused = committed.unwrap_err();
            assert!(matches!(refused, Error::ConditionFailed { condition } if condition == failed));
            return;
        }
        match self.oracle.try_apply(ops) {
            Some(expected) => assert_eq!(committed.unwrap(), expected),
            None => assert!(matches!(committed, Err(Error::InvalidArgument(_)))),
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Write(ops) => self.write(&[], ops),
            Step::WriteIf(claims, ops) => {
                let conditions: Vec<_> =
                    claims.iter().map(|claim| claim.condition(&self.oracle)).collect();
                self.write(&conditions, ops);
            }
            Step::WriteTable(ops) => {
                self.db().flush().unwrap();
                self.take(&Step::Write(ops.clone()));
                self.db().flush().unwrap();
            }
            Step::Flush => self.db().flush().unwrap(),
            Step::Compact => self.db().compact().unwrap(),
            Step::Close => {
                self.db().close().unwrap();
                self.reopen();
            }
            Step::Drop => self.reopen(),
        }
    }

    /// After a write it is enough to ask about the keys that it touched.
    fn check(&self, step: &Step) -> Comparison {
        let (Step::Write(ops) | Step::WriteIf(_, ops)) = step else {
            return self.oracle.compare(self.db());
        };
        let mut comparison = Comparison::default();
        let last = ops.last().expect("a step writes something");
        self.oracle.compare_key(self.db(), &last.key, &mut comparison);
        comparison
    }
}

fn cases() -> u32 {
    let cases = std::env::var("PROPTEST_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]
    #[test]
    fn a_database_answers_as_the_oracle(
        settings in settings(),
        steps in prop::collection::vec(step(), 1..50),
    ) {
        let mut pair = Pair::new(settings);
        for (at, step) in steps.iter().enumerate() {
            pair.take(step);
            prop_assert_eq!(pair.db().visible_seq(), pair.oracle.last_seq());
            let comparison = pair.check(step);
            prop_assert!(comparison.is_right(), "after step {}: {}", at, comparison);
        }
        pair.reopen();
        let comparison = pair.oracle.compare(pair.db());
        prop_assert!(comparison.is_right(), "at the end: {}", comparison);
        prop_assert!(pair.db().poisoned().is_none() && pair.db().compaction_error().is_none());
    }
}
