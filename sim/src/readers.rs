//! Reads that go on while the database changes: each shows the moment at which it was begun.

use fastrand::Rng;
use kvtimedb_engine::{Db, Entry, History, KeyRange, Order, Result, Scan, Timestamp};

use crate::oracle::Oracle;

/// The most that are under way at once.
pub(crate) const READERS_MAX: usize = 6;

/// The most that a reader takes at once.
const STRIDE_MAX: usize = 20;

/// A read under way, and what it must still show, the next last.
pub(crate) struct Reader {
    read: Read,
    rest: Vec<(Vec<u8>, Entry)>,
}

enum Read {
    History(Vec<u8>, History),
    Scan(Scan),
}

impl Reader {
    /// Begins a read of the database, which is what the oracle says.
    pub(crate) fn begin(db: &Db, oracle: &Oracle, rng: &mut Rng) -> Result<Reader> {
        let order = if rng.bool() { Order::Ascending } else { Order::Descending };
        let keys: Vec<_> = oracle.keys().collect();
        let since = db.horizon().unwrap_or(Timestamp::MIN);
        let (read, mut rest) = if !keys.is_empty() && rng.bool() {
            let key = keys[rng.usize(..keys.len())];
            let history = db.history(key, Timestamp::MIN, Timestamp::MAX, order)?;
            let versions = oracle.history(key, since, Timestamp::MAX);
            let rest = versions.into_iter().map(|version| (key.to_vec(), version)).collect();
            (Read::History(key.to_vec(), history), rest)
        } else {
            let at = if rng.bool() { Timestamp::MAX } else { rng.i64(-20..400).max(since) };
            (Read::Scan(db.scan(KeyRange::all(), at, order)?), oracle.scan(at))
        };
        if order == Order::Ascending {
            rest.reverse();
        }
        Ok(Reader { read, rest })
    }

    /// Takes some more; `Ok(false)` at the end. The outer error is a wrong answer.
    pub(crate) fn go_on(&mut self, rng: &mut Rng) -> std::result::Result<Result<bool>, String> {
        for _ in 0..rng.usize(1..=STRIDE_MAX) {
            let found = match self.read.next() {
                Ok(found) => found,
                Err(error) => return Ok(Err(error)),
            };
            let expected = self.rest.pop();
            if found != expected {
                let place = |item: &Option<(Vec<u8>, Entry)>| {
                    item.as_ref().map(|(key, version)| (key.escape_ascii().to_string(), version.ts))
                };
                let (found, expected) = (place(&found), place(&expected));
                return Err(format!("a read under way shows {found:?}, expected {expected:?}"));
            }
            if found.is_none() {
                return Ok(Ok(false));
            }
        }
        Ok(Ok(true))
    }
}

impl Read {
    fn next(&mut self) -> Result<Option<(Vec<u8>, Entry)>> {
        match self {
            Read::History(key, history) => {
                Ok(history.next()?.map(|version| (key.clone(), version.into())))
            }
            Read::Scan(scan) => {
                Ok(scan.next()?.map(|(key, version)| (key.to_vec(), version.into())))
            }
        }
    }
}
