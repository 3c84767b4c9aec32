//! Linearizability: whatever clients do at once, what they are answered is what some order of their
//! operations would have answered, one after the other, in which whatever was answered before another
//! was asked also comes before it; across restarts too.
//!
//! Guards against: a read that misses what was acknowledged before, or goes back behind what another one
//! has shown; a write to a place that is written at the same time that gets lost although it came last;
//! an end that a flush or merge forgets; a write that shows, and is gone after a crash; one that was in
//! flight at a crash and comes twice.
//!
//! `KVTIMEDB_HISTORIES` sets how many, `KVTIMEDB_HISTORIES_SEED` where the random choices start. How the
//! operations meet depends on the machine too; a history that has no order is printed, made as small as
//! it goes.

mod broken;
mod checker;
mod history;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use kvtimedb_engine::Timestamp;
use rustix::process::Signal;
use tempfile::TempDir;

use self::checker::is_linearizable;
use self::history::{Action, Operation, drawn, shrunk, told};
use crate::common::server::{Client, Server};
use crate::common::setting;

/// So small that memtables are frozen and flushed all the time, in the midst of histories too.
const MEMTABLE_SIZE: &str = "16KiB";

/// The server is killed in one history of so many.
const HISTORIES_A_LIFE: usize = 10;

/// The keys of a history.
const KEYS: usize = 2;

/// So few that most writes meet others.
const TIMESTAMPS: Timestamp = 4;

/// What a client does next to a key. Its values are its own, so that each tells where it comes from.
fn next_action(rng: &mut Rng, value: String) -> Action {
    let ts = rng.i64(0..TIMESTAMPS);
    match rng.u8(..20) {
        0..9 => Action::Put(ts, value),
        9..12 => Action::End(ts),
        _ => Action::Floor(ts, None),
    }
}

/// What is stored for a value's name: of lengths that fill memtables soon.
fn stored(name: &str) -> String {
    let len = name.bytes().map(usize::from).sum::<usize>() * 37 % 500;
    format!(r#""{name} {}""#, "p".repeat(len))
}

/// The name of what is stored.
fn name(answer: &str) -> Option<String> {
    if answer == "null\n" {
        return None;
    }
    let name = answer.trim_start_matches('"').split(' ').next().unwrap_or_default();
    assert_eq!(answer, format!("{}\n", stored(name)), "a value that nobody wrote");
    Some(name.to_owned())
}

/// One client: a connection, and its part of the history.
struct Part {
    client: usize,
    connection: Client,
    rng: Rng,
    /// How many operations it has yet to do.
    left: usize,
    /// With the number of their keys.
    done: Vec<(usize, Operation)>,
}

impl Part {
    /// Does what is left, until the connection breaks.
    fn play(&mut self, number: usize, clock: &AtomicU64) {
        while self.left > 0 {
            self.left -= 1;
            let key = self.rng.usize(..KEYS);
            let value = format!("{number}.{}.{}", self.client, self.left);
            let action = next_action(&mut self.rng, value);
            if !self.act(number, key, action, clock) {
                return;
            }
        }
    }

    /// Asks for the floor at each timestamp of each key.
    fn look_at_all(&mut self, number: usize, clock: &AtomicU64) {
        for key in 0..KEYS {
            for at in 0..TIMESTAMPS {
                assert!(self.act(number, key, Action::Floor(at, None), clock), "not answered");
            }
        }
    }

    /// Does one operation and notes it. Returns whether it was answered.
    fn act(&mut self, number: usize, key: usize, mut action: Action, clock: &AtomicU64) -> bool {
        let key_name = format!("{number}.{key}");
        let called = clock.fetch_add(1, Ordering::SeqCst);
        let answer = match &action {
            Action::Put(ts, value) => self.connection.put(&key_name, *ts, &stored(value)),
            Action::End(ts) => {
                self.connection.try_to("DELETE", &format!("/v1/kv/{key_name}?at={ts}"))
            }
            Action::Floor(at, _) => {
                self.connection.try_to("GET", &format!("/?key={key_name}&timestamp={at}"))
            }
        };
        let answered = answer.is_ok().then(|| clock.fetch_add(1, Ordering::SeqCst));
        if let Ok(answer) = &answer {
            assert_eq!(answer.status, 200, "{action:?}: {answer:?}");
            if let Action::Floor(_, found) = &mut action {
                *found = name(&answer.body);
            }
        }
        // A floor without an answer tells nothing.
        if answered.is_some() || !matches!(action, Action::Floor(..)) {
            self.done.push((key, Operation { client: self.client, called, answered, action }));
        }
        answered.is_some()
    }
}

/// What was tried, to see that something was.
#[derive(Default)]
struct Tally {
    histories: usize,
    operations: usize,
    unanswered: usize,
    overlapping: usize,
}

impl Tally {
    /// Checks a history, each of its keys for itself.
    fn check(&mut self, parts: &[Part], context: &str) {
        self.histories += 1;
        for key in 0..KEYS {
            let on_key =
                |(n, operation): &(usize, Operation)| (*n == key).then(|| operation.clone());
            let history: Vec<Operation> =
                parts.iter().flat_map(|part| part.done.iter().filter_map(on_key)).collect();
            self.operations += history.len();
            self.unanswered += history.iter().filter(|o| o.answered.is_none()).count();
            self.overlapping += history.iter().filter(|o| overlaps_one(o, &history)).count();
            if !is_linearizable(&history) {
                let least = shrunk(&history, |history| !is_linearizable(history));
                panic!("{context}, key {key}: no order explains\n{}", told(&least));
            }
        }
    }
}

fn overlaps_one(operation: &Operation, history: &[Operation]) -> bool {
    let answered = operation.answered.unwrap_or(u64::MAX);
    history.iter().any(|other| operation.called < other.called && other.called < answered)
}

/// Plays one history with these clients; `meanwhile` is done while they are at it.
fn play(parts: &mut [Part], number: usize, clock: &AtomicU64, meanwhile: impl FnOnce()) {
    thread::scope(|scope| {
        for part in &mut *parts {
            scope.spawn(|| part.play(number, clock));
        }
        meanwhile();
    });
}

#[test]
fn concurrent_requests_can_be_told_one_after_the_other() {
    let histories = setting("KVTIMEDB_HISTORIES", 300);
    let seed = setting("KVTIMEDB_HISTORIES_SEED", 2013);
    let mut rng = Rng::with_seed(seed);
    // Kept if this fails, to be looked into.
    let dir = TempDir::new().unwrap().keep();
    println!("KVTIMEDB_HISTORIES_SEED={seed}, data in {}", dir.display());
    let clock = AtomicU64::new(0);
    let mut tally = Tally::default();
    let start = |life: usize| {
        let durability = ["sync", "buffered"][life % 2];
        Server::start(&dir, &["--durability", durability, "--memtable-size", MEMTABLE_SIZE])
    };
    let mut server = start(0);
    for number in 0..histories {
        let context = format!("KVTIMEDB_HISTORIES_SEED={seed}, history {number}");
        let mut parts: Vec<Part> = (0..rng.usize(4..=8))
            .map(|client| {
                let (connection, left) = (server.connect(), rng.usize(8..=12));
                Part { client, connection, rng: rng.fork(), left, done: Vec::new() }
            })
            .collect();
        if (number + 1) % HISTORIES_A_LIFE == 0 {
            let pause = Duration::from_micros(rng.u64(..6000));
            play(&mut parts, number, &clock, || {
                thread::sleep(pause);
                server.signal(Signal::KILL);
            });
            server.wait();
            server = start(number / HISTORIES_A_LIFE + 1);
            for part in &mut parts {
                part.connection = server.connect();
            }
        }
        play(&mut parts, number, &clock, || ());
        parts[0].look_at_all(number, &clock);
        tally.check(&parts, &context);
        if tally.histories.is_multiple_of(1000) {
            println!("{} histories", tally.histories);
        }
    }
    assert_eq!(server.stop().code, Some(0));
    let Tally { histories, operations, unanswered, overlapping } = tally;
    println!(
        "{histories} histories of {operations} operations: {overlapping} while another one began, \
         {unanswered} writes without an answer"
    );
    assert!(overlapping * 4 > operations, "the operations came one after the other");
    assert!(unanswered > 0 || histories < 100, "no kill met a write");
    let mut files = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    assert!(files.any(|path| path.extension().is_some_and(|e| e == "sst")), "nothing was flushed");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn drawn_histories_have_an_order_or_not() {
    let text = include_str!("../../testdata/linearizable.txt");
    let mut cases = 0;
    for case in text.split("\n\n").skip(1) {
        let (head, picture) = case.split_once('\n').unwrap();
        let (expected, name) = head.split_once(": ").unwrap();
        let history = drawn(picture);
        assert!(!history.is_empty(), "{name}");
        let found = if is_linearizable(&history) { "yes" } else { "no" };
        assert_eq!(found, expected, "{name}:\n{}", told(&history));
        cases += 1;
    }
    assert!(cases > 20, "{cases} cases: the file is read wrong");
}

/// A history that can only be told as it was is made no smaller; what does not matter is left out.
#[test]
fn a_history_without_an_order_is_shrunk_to_what_contradicts_itself() {
    let history = drawn(
        "a: [put 1 x] [put 2 z] [floor 2 -> z]\n\
         b:                     [put 1 y]      [floor 1 -> y]\n\
         c: [end 3]                             [floor 9 -> null] [floor 1 -> x]",
    );
    let least = shrunk(&history, |history| !is_linearizable(history));
    let expected = drawn(
        "a: [put 1 x]\n\
         b:                     [put 1 y]\n\
         c:                                                       [floor 1 -> x]",
    );
    assert_eq!(told(&least), told(&expected));
}
