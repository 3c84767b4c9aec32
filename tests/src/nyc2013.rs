//! A year of real observations and every lookup of it, against an answer from outside: a hash that
//! was made without this database. Wherever the data is, in the log, in memory, in one table or in
//! hundreds, and in whatever order it came, the hash is the same.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::ops::Bound;
use std::path::Path;
use std::thread;

use flate2::read::GzDecoder;
use kvtimedb_engine::{Db, Durability, Entry, Options, Timestamp, ValueRef, ValueType, WriteBatch};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::common::server::{Client, Server};

/// Of all answers, see the README of the data.
const ANSWERS_SHA256: &str = "56a26e87538c4537cc5ce4d508a5b37e3b5c29365520cc34b3738ea6e6ab620b";

/// Connections that write at once, and threads that look up.
const CLIENTS: usize = 8;

struct Observation {
    key: String,
    timestamp: Timestamp,
    /// JSON text as in the source.
    value: String,
}

struct Lookup {
    key: String,
    timestamp: Timestamp,
}

/// What a lookup found: the timestamp that matched, and the value's JSON text.
type Found = (Timestamp, String);

fn lines(name: &str) -> impl Iterator<Item = String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/nyc2013");
    let file = std::fs::File::open(dir.join(name)).unwrap();
    BufReader::new(GzDecoder::new(file)).lines().map(Result::unwrap)
}

/// All observations, in an order that is neither theirs nor any other.
fn shuffled_observations(seed: u64) -> Vec<Observation> {
    let mut observations: Vec<Observation> = lines("observations.ndjson.gz")
        .map(|line| {
            let members: HashMap<&str, &RawValue> = serde_json::from_str(&line).unwrap();
            Observation {
                key: serde_json::from_str(members["key"].get()).unwrap(),
                timestamp: members["timestamp"].get().parse().unwrap(),
                value: members["value"].get().to_owned(),
            }
        })
        .collect();
    assert_eq!(observations.len(), 26_115);
    fastrand::Rng::with_seed(seed).shuffle(&mut observations);
    observations
}

fn lookups() -> Vec<Lookup> {
    let lookups: Vec<Lookup> = lines("lookups.csv.gz")
        .skip(1)
        .map(|line| {
            let (key, timestamp) = line.split_once(',').unwrap();
            Lookup { key: key.to_owned(), timestamp: timestamp.parse().unwrap() }
        })
        .collect();
    assert_eq!(lookups.len(), 336_776);
    lookups
}

/// The same questions asked of an ordered map.
struct Model(HashMap<String, BTreeMap<Timestamp, String>>);

impl Model {
    fn new(observations: &[Observation]) -> Model {
        let mut keys: HashMap<String, BTreeMap<Timestamp, String>> = HashMap::new();
        for Observation { key, timestamp, value } in observations {
            keys.entry(key.clone()).or_default().insert(*timestamp, value.clone());
        }
        Model(keys)
    }

    fn floor(&self, lookup: &Lookup) -> Found {
        let until = (Bound::Unbounded, Bound::Included(lookup.timestamp));
        let found = self.0[&lookup.key].range(until).next_back();
        found.map(|(timestamp, value)| (*timestamp, value.clone())).unwrap()
    }
}

/// The hash of answers in their canonical form, as hexadecimal text.
fn sha256(answers: impl IntoIterator<Item = Found>) -> String {
    let mut hash = Sha256::new();
    // There are ten times as many lookups as values.
    let mut canonical: HashMap<String, String> = HashMap::new();
    for (timestamp, value) in answers {
        let value = match canonical.get(&value) {
            Some(canonical) => canonical,
            None => canonical.entry(value.clone()).or_insert(with_sorted_keys(&value)),
        };
        hash.update(format!("{{\"ts\":{timestamp},\"value\":{value}}}\n"));
    }
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// A flat object with its members in order, each spelt as it was.
fn with_sorted_keys(object: &str) -> String {
    let members: BTreeMap<&str, &RawValue> = serde_json::from_str(object).unwrap();
    serde_json::to_string(&members).unwrap()
}

/// Looks all of them up in the engine, from several threads at once.
fn look_up(db: &Db, lookups: &[Lookup]) -> Vec<Found> {
    let floor = |lookup: &Lookup| {
        let found = db.floor(lookup.key.as_bytes(), lookup.timestamp).unwrap();
        let Some(Entry { ts, value_type: ValueType::Json, value }) = found else {
            panic!("{} at {}: {found:?}", lookup.key, lookup.timestamp);
        };
        (ts, String::from_utf8(value).unwrap())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = lookups
            .chunks(lookups.len().div_ceil(CLIENTS))
            .map(|part| scope.spawn(move || part.iter().map(floor).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Writes to the engine, a batch of some at a time.
fn write(db: &Db, observations: &[Observation]) {
    for observations in observations.chunks(100) {
        let mut batch = WriteBatch::new();
        for Observation { key, timestamp, value } in observations {
            batch.put(key.as_bytes(), *timestamp, ValueRef::json(value.as_bytes())).unwrap();
        }
        db.write(batch).unwrap();
    }
}

/// Writes over HTTP, on several connections at once.
fn write_over_http(server: &Server, observations: &[Observation]) {
    let write = |mut client: Client, part: &[Observation]| {
        for Observation { key, timestamp, value } in part {
            let answer = client.put(key, *timestamp, value).unwrap();
            assert_eq!((answer.status, answer.body.as_str()), (200, ""));
        }
    };
    thread::scope(|scope| {
        for part in observations.chunks(observations.len().div_ceil(CLIENTS)) {
            let client = server.connect();
            scope.spawn(move || write(client, part));
        }
    });
}

/// Every hundredth lookup over HTTP, in a body and in a query by turns.
fn check_over_http(server: &Server, lookups: &[Lookup], model: &Model) {
    let mut client = server.connect();
    for (turn, lookup) in lookups.iter().step_by(100).enumerate() {
        let Lookup { key, timestamp } = lookup;
        let value = if turn % 2 == 0 {
            client.floor(key, *timestamp)
        } else {
            let query = format!("/?key={key}&timestamp={timestamp}");
            client.send("GET", &query, "").body.trim_end().to_owned()
        };
        assert_eq!(value, model.floor(lookup).1, "{key} at {timestamp}");
    }
}

fn options(memtable_bytes_max: usize) -> Options {
    Options { durability: Durability::Buffered, memtable_bytes_max, ..Options::default() }
}

#[test]
fn the_model_gives_the_hash() {
    let model = Model::new(&shuffled_observations(1));
    assert_eq!(sha256(lookups().iter().map(|lookup| model.floor(lookup))), ANSWERS_SHA256);
}

#[test]
fn written_over_http_killed_recovered_compacted_and_served_again() {
    let dir = TempDir::new().unwrap();
    let (observations, lookups) = (shuffled_observations(2), lookups());
    let model = Model::new(&observations);
    let flags = ["--durability", "buffered"];

    let server = Server::start(dir.path(), &flags);
    write_over_http(&server, &observations);
    check_over_http(&server, &lookups, &model);
    // Not stopped, which would flush: what comes back comes from the log.
    server.kill();
    let db = Db::open(dir.path(), options(64 << 20)).unwrap();
    assert_eq!(sha256(look_up(&db, &lookups)), ANSWERS_SHA256);
    db.compact().unwrap();
    db.close().unwrap();

    let server = Server::start(dir.path(), &flags);
    check_over_http(&server, &lookups, &model);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn the_answers_are_the_same_in_memory_in_tables_compacted_and_reopened() {
    let dir = TempDir::new().unwrap();
    let (observations, lookups) = (shuffled_observations(3), lookups());
    let db = Db::open(dir.path(), options(64 << 20)).unwrap();
    let metrics = || (db.metrics().flushes.get(), db.metrics().compactions.get());

    write(&db, &observations);
    assert_eq!(metrics(), (0, 0), "all of it is in memory");
    assert_eq!(sha256(look_up(&db, &lookups)), ANSWERS_SHA256);

    db.flush().unwrap();
    assert_eq!(metrics(), (1, 0), "all of it is in one table");
    assert_eq!(sha256(look_up(&db, &lookups)), ANSWERS_SHA256);

    // Late data, all of it: the second run covers the same keys and times as the first.
    write(&db, &observations[..10_000]);
    db.compact().unwrap();
    assert_eq!(metrics(), (2, 1), "two runs became one");
    assert_eq!(sha256(look_up(&db, &lookups)), ANSWERS_SHA256);

    db.close().unwrap();
    let db = Db::open(dir.path(), options(64 << 20)).unwrap();
    assert_eq!(sha256(look_up(&db, &lookups)), ANSWERS_SHA256);
}

#[test]
fn the_answers_are_the_same_over_many_small_runs() {
    let dir = TempDir::new().unwrap();
    let observations = shuffled_observations(4);
    let model = Model::new(&observations);
    let lookups: Vec<Lookup> = lookups().into_iter().step_by(10).collect();
    let expected = sha256(lookups.iter().map(|lookup| model.floor(lookup)));

    let db = Db::open(dir.path(), options(32 << 10)).unwrap();
    write(&db, &observations);
    assert_eq!(sha256(look_up(&db, &lookups)), expected);
    let flushes = db.metrics().flushes.get();
    assert!(flushes > 50, "{flushes}");
    assert!(db.compaction_error().is_none());
    db.close().unwrap();
    let db = Db::open(dir.path(), options(32 << 10)).unwrap();
    assert_eq!(sha256(look_up(&db, &lookups)), expected);
}
