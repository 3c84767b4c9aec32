//! What a database must hold after everything that its clients were told, and the look whether it does.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use kvtimedb_engine::{Db, Order, Timestamp};

use super::load::{KEYS, Outcome, Place, Put, Writer};
use super::server::{Client, Server};
use crate::oracle::versions;

/// Random lookups of a check, beside those of what the last load touched.
const PROBES: usize = 200;

/// The model: every acknowledged write is there unless a later one of its place is, none that was
/// refused is, and nothing is invented.
#[derive(Default)]
pub(crate) struct Ledger {
    /// The last value acknowledged, or seen since.
    values: BTreeMap<Place, String>,
    /// Values sent and neither acknowledged nor refused, at most one a place: each is there or not,
    /// which the first look decides for good.
    pending: BTreeMap<Place, String>,
    /// Where the last load wrote.
    touched: BTreeSet<Place>,
    acknowledged: usize,
    lost: usize,
    survived_unacknowledged: usize,
}

impl Ledger {
    /// Enters what was written, each connection's puts in their order.
    pub(crate) fn enter(&mut self, puts: Vec<Put>) {
        self.touched.clear();
        for Put { place, value, outcome, .. } in puts {
            self.touched.insert(place.clone());
            match outcome {
                Outcome::ACKNOWLEDGED => {
                    self.acknowledged += 1;
                    self.values.insert(place, value);
                }
                // The server says of these that nothing was written.
                Outcome::Answered(503 | 507) => {}
                Outcome::Answered(500) | Outcome::Broken => {
                    let earlier = self.pending.insert(place, value);
                    assert!(earlier.is_none(), "two writes at once to one place");
                }
                Outcome::Answered(status) => panic!("a put was answered with {status}"),
            }
        }
    }

    /// Enters what is there of `puts` after a power cut under a buffered log, which must be a prefix
    /// of the order of commits: of each connection's puts the first ones, and none that was sent
    /// after one that is lost had been acknowledged.
    pub(crate) fn enter_prefix(&mut self, puts: Vec<Put>, server: &Server) {
        self.touched.clear();
        let mut client = server.connect();
        let mut by_writer: BTreeMap<usize, Vec<Put>> = BTreeMap::new();
        for put in puts {
            by_writer.entry(Writer::of(&put.place)).or_default().push(put);
        }
        let (mut last_sent, mut first_lost) = (None, None);
        for (_, mut puts) in by_writer {
            self.touched.extend(puts.iter().map(|put| put.place.clone()));
            let is_there = |put: &Put| client.floor(&put.place.0, put.place.1) == put.value;
            let kept = puts.iter().rposition(is_there).map_or(0, |last| last + 1);
            let lost = puts.split_off(kept);
            let lost = lost.iter().filter(|put| put.outcome == Outcome::ACKNOWLEDGED);
            self.lost += lost.clone().count();
            first_lost = first_lost.into_iter().chain(lost.map(|put| put.told)).min();
            last_sent = last_sent.max(puts.last().map(|put| put.sent));
            self.acknowledged += puts.len();
            self.values.extend(puts.into_iter().map(|put| (put.place, put.value)));
        }
        if let (Some(sent), Some(lost)) = (last_sent, first_lost) {
            assert!(sent <= lost, "a write is there that began after a lost one had been told");
        }
    }

    /// How many writes were acknowledged in all, without those that a buffered log lost.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// Looks up what the last load touched, and some more.
    pub(crate) fn check(&mut self, server: &Server, rng: &mut Rng) {
        let mut client = server.connect();
        // Ascending, so that what a place falls back to is decided before it.
        for ((key, timestamp), value) in std::mem::take(&mut self.pending) {
            let found = client.floor(&key, timestamp);
            if found == value {
                self.survived_unacknowledged += 1;
                self.values.insert((key, timestamp), value);
            } else {
                self.expect(&found, &key, timestamp);
            }
        }
        self.check_acknowledged(&mut client);
        let newest = self.values.keys().map(|(_, timestamp)| *timestamp).max().unwrap_or(0);
        for _ in 0..PROBES {
            let key = format!("key-{}", rng.u64(..=KEYS));
            let timestamp = rng.i64(-4000..=newest + 100);
            self.expect(&client.floor(&key, timestamp), &key, timestamp);
        }
    }

    /// Looks up what the last load touched, where nothing is pending at or before it.
    pub(crate) fn check_acknowledged(&self, client: &mut Client) {
        for (key, timestamp) in &self.touched {
            let pending = self.pending.keys().any(|(k, t)| k == key && t <= timestamp);
            if !pending {
                self.expect(&client.floor(key, *timestamp), key, *timestamp);
            }
        }
    }

    fn expect(&self, found: &str, key: &str, timestamp: Timestamp) {
        let until = (key.to_owned(), Timestamp::MIN)..=(key.to_owned(), timestamp);
        let expected = self.values.range(until).next_back();
        let expected = expected.map_or("null", |(_, value)| value.as_str());
        assert_eq!(found, expected, "{key} at {timestamp}");
    }

    /// Compares every version of every key, once no write is pending.
    pub(crate) fn check_all(&self, db: &Db) {
        assert!(self.pending.is_empty(), "writes are pending: look them up first");
        let mut found = BTreeMap::new();
        for key in (0..=KEYS).map(|key| format!("key-{key}")) {
            let all = db.history(key.as_bytes(), Timestamp::MIN, Timestamp::MAX, Order::Ascending);
            for entry in versions(all.unwrap()).unwrap() {
                found.insert((key.clone(), entry.ts), String::from_utf8(entry.value).unwrap());
            }
        }
        let missing = self.values.keys().find(|place| !found.contains_key(place));
        let invented = found.keys().find(|place| !self.values.contains_key(place));
        assert_eq!((missing, invented), (None, None));
        assert!(found == self.values, "a value is not the one that was written last");
    }

    /// What was written so far, in words.
    pub(crate) fn summary(&self) -> String {
        let Ledger { acknowledged, lost, survived_unacknowledged, .. } = self;
        let survived = format!("and {survived_unacknowledged} others survived");
        let lost = if *lost == 0 { String::new() } else { format!("; a buffered log lost {lost}") };
        format!("{acknowledged} writes were acknowledged, {survived}{lost}")
    }
}
