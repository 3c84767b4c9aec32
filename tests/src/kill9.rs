//! `kill -9` under load: the real server, killed at any moment while many connections write, must
//! come back with every write that it acknowledged, and with nothing that was never sent.
//!
//! Guards against: acknowledging before the log was written, a log that is given up before its
//! table is installed, a recovery that drops or doubles a segment, a crash during recovery, and
//! files of unfinished flushes and merges that get into the way of the next open.
//!
//! `KVTIMEDB_KILL9_CYCLES` sets how often, `KVTIMEDB_KILL9_SEED` where the random choices start.
//! The moment of the kill depends on the machine too, so that a seed repeats the load and not the
//! outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fastrand::Rng;
use kvtimedb_engine::{Db, Options, Order, Timestamp};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::common::server::{Client, Process, Server, command};
use crate::oracle::versions;

/// So small that each cycle flushes, and some merge.
const MEMTABLE_SIZE: &str = "16KiB";

/// Keys that all connections write to.
const KEYS: u64 = 6;

/// The most connections that write at once. A `(key, timestamp)` belongs to one of them, as the
/// timestamp modulo this tells, so that its last write is known.
const WRITERS_MAX: usize = 16;

/// Random lookups after each restart, beside those of what the last load touched.
const PROBES: usize = 200;

/// A place that a value is written to.
type Place = (String, Timestamp);

/// A write, as its connection saw it.
pub(crate) struct Put {
    place: Place,
    value: String,
    acknowledged: bool,
}

/// One connection's share of the load: at each place mostly newer timestamps, some late ones, and
/// some written before.
pub(crate) struct Writer {
    number: usize,
    rng: Rng,
    puts: u64,
    next_step: i64,
}

impl Writer {
    /// `seed` may be the same for all.
    pub(crate) fn new(number: usize, seed: u64) -> Writer {
        assert!(number < WRITERS_MAX, "writer {number}: the last one is {}", WRITERS_MAX - 1);
        Writer { number, rng: Rng::with_seed(seed ^ number as u64), puts: 0, next_step: -100 }
    }

    /// Writes until the connection breaks.
    fn write(&mut self, client: &mut Client) -> Vec<Put> {
        let mut puts = Vec::new();
        loop {
            let (place, value) = self.next_put();
            let answer = client.put(&place.0, place.1, &value);
            let acknowledged = answer.is_ok();
            puts.push(Put { place, value, acknowledged });
            match answer {
                Ok(answer) => assert_eq!((answer.status, answer.body.as_str()), (200, "")),
                Err(_) => return puts,
            }
        }
    }

    /// No value is ever written twice, so that each one tells where it comes from.
    fn next_put(&mut self) -> (Place, String) {
        self.puts += 1;
        let step = if self.rng.u8(..10) < 3 {
            self.rng.i64(-200..self.next_step)
        } else {
            self.next_step += 1;
            self.next_step
        };
        let timestamp = step * WRITERS_MAX as i64 + self.number as i64;
        let key = format!("key-{}", self.rng.u64(..KEYS));
        let padding = "p".repeat(self.rng.usize(..400));
        let value = format!(r#"{{"writer":{},"put":{},"{padding}":0}}"#, self.number, self.puts);
        ((key, timestamp), value)
    }
}

/// A load under way: a thread for each connection.
pub(crate) struct Load(Vec<JoinHandle<(Writer, Vec<Put>)>>);

impl Load {
    /// Connects all writers, and sets them going.
    pub(crate) fn start(server: &Server, writers: Vec<Writer>) -> Load {
        let connected: Vec<_> =
            writers.into_iter().map(|writer| (writer, server.connect())).collect();
        let start = |(mut writer, mut client): (Writer, Client)| {
            thread::spawn(move || {
                let puts = writer.write(&mut client);
                (writer, puts)
            })
        };
        Load(connected.into_iter().map(start).collect())
    }

    /// Waits until all connections are broken; gives back the writers, and what they wrote.
    pub(crate) fn join(self) -> (Vec<Writer>, Vec<Put>) {
        let ended: Vec<_> = self.0.into_iter().map(|thread| thread.join().unwrap()).collect();
        let (writers, puts): (Vec<_>, Vec<_>) = ended.into_iter().unzip();
        (writers, puts.into_iter().flatten().collect())
    }
}

/// What the database must hold.
#[derive(Default)]
pub(crate) struct Ledger {
    /// The last value acknowledged, or seen since.
    values: BTreeMap<Place, String>,
    /// Values sent and not acknowledged, at most one a place: each is there or not, which the first
    /// look decides for good.
    pending: BTreeMap<Place, String>,
    /// Where the last load wrote.
    touched: BTreeSet<Place>,
    acknowledged: usize,
    survived_unacknowledged: usize,
}

impl Ledger {
    /// Enters what was written, each connection's puts in their order.
    pub(crate) fn enter(&mut self, puts: Vec<Put>) {
        self.touched.clear();
        for Put { place, value, acknowledged } in puts {
            self.touched.insert(place.clone());
            if acknowledged {
                self.acknowledged += 1;
                self.values.insert(place, value);
            } else {
                let earlier = self.pending.insert(place, value);
                assert!(earlier.is_none(), "two writes at once to one place");
            }
        }
    }

    /// How many writes were acknowledged in all.
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
        for (key, timestamp) in &self.touched {
            self.expect(&client.floor(key, *timestamp), key, *timestamp);
        }
        let newest = self.values.keys().map(|(_, timestamp)| *timestamp).max().unwrap_or(0);
        for _ in 0..PROBES {
            let key = format!("key-{}", rng.u64(..=KEYS));
            let timestamp = rng.i64(-4000..=newest + 100);
            self.expect(&client.floor(&key, timestamp), &key, timestamp);
        }
    }

    fn expect(&self, found: &str, key: &str, timestamp: Timestamp) {
        let until = (key.to_owned(), Timestamp::MIN)..=(key.to_owned(), timestamp);
        let expected = self.values.range(until).next_back();
        let expected = expected.map_or("null", |(_, value)| value.as_str());
        assert_eq!(found, expected, "{key} at {timestamp}");
    }

    /// Compares every version of every key, once no write is pending.
    fn check_all(&self, db: &Db) {
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
}

/// A number from the environment.
pub(crate) fn setting<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")),
        Err(_) => default,
    }
}

#[test]
fn every_acknowledged_write_survives_kill_9() {
    let cycles = setting("KVTIMEDB_KILL9_CYCLES", 12);
    let seed = setting("KVTIMEDB_KILL9_SEED", 2013);
    let mut rng = Rng::with_seed(seed);
    // Kept if this fails, to be looked into.
    let dir = TempDir::new().unwrap().keep();
    println!("KVTIMEDB_KILL9_SEED={seed}, data in {}", dir.display());
    let mut ledger = Ledger::default();
    let mut writers: Vec<Writer> = (0..WRITERS_MAX).map(|n| Writer::new(n, seed)).collect();
    for cycle in 0..cycles {
        let durability = ["sync", "buffered"][cycle % 2];
        println!("cycle {cycle}, {durability}: {} acknowledged so far", ledger.acknowledged());
        let flags = ["--durability", durability, "--memtable-size", MEMTABLE_SIZE];
        // Some die before they have recovered from the last time.
        if rng.u8(..3) == 0 {
            let mut command = command(flags);
            command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(&dir);
            let recovering = Process::spawn(command);
            thread::sleep(Duration::from_millis(rng.u64(..40)));
            recovering.signal(Signal::KILL);
            recovering.wait();
        }
        let server = Server::start(&dir, &flags);
        ledger.check(&server, &mut rng);

        rng.shuffle(&mut writers);
        let resting = writers.split_off(rng.usize(WRITERS_MAX / 2..=WRITERS_MAX));
        let load = Load::start(&server, writers);
        thread::sleep(Duration::from_millis(rng.u64(20..=150)));
        server.kill();
        let (wrote, puts) = load.join();
        ledger.enter(puts);
        writers = wrote.into_iter().chain(resting).collect();
    }
    let server = Server::start(&dir, &[]);
    ledger.check(&server, &mut rng);
    assert_eq!(server.stop().code, Some(0));
    ledger.check_all(&Db::open(&dir, Options::default()).unwrap());
    println!(
        "{cycles} kills, {} writes acknowledged, and {} more survived",
        ledger.acknowledged(),
        ledger.survived_unacknowledged
    );
    assert!(ledger.acknowledged() > 0, "no write was ever acknowledged: nothing was tested");
    std::fs::remove_dir_all(dir).unwrap();
}
