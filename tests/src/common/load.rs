//! A load of many connections that write at once, and remember what each of their writes was told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;
use kvtimedb_engine::Timestamp;

use super::server::{Client, Server};

/// Keys that all connections write to.
pub(crate) const KEYS: u64 = 6;

/// The most connections that write at once. A `(key, timestamp)` belongs to one of them, as the
/// timestamp modulo this tells, so that its last write is known.
pub(crate) const WRITERS_MAX: usize = 16;

/// A place that a value is written to.
pub(crate) type Place = (String, Timestamp);

/// A write, as its connection saw it.
pub(crate) struct Put {
    pub(crate) place: Place,
    pub(crate) value: String,
    pub(crate) sent: Instant,
    pub(crate) told: Instant,
    pub(crate) outcome: Outcome,
}

/// What the connection was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The status of the answer.
    Answered(u16),
    /// The connection broke.
    Broken,
}

impl Outcome {
    pub(crate) const ACKNOWLEDGED: Outcome = Outcome::Answered(200);
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
    /// As many as there may be, with random choices of their own.
    pub(crate) fn all(seed: u64) -> Vec<Writer> {
        let writer = |number| Writer {
            number,
            rng: Rng::with_seed(seed ^ number as u64),
            puts: 0,
            next_step: -100,
        };
        (0..WRITERS_MAX).map(writer).collect()
    }

    /// Which of the writers writes to this place.
    pub(crate) fn of(place: &Place) -> usize {
        place.1.rem_euclid(WRITERS_MAX as i64) as usize
    }

    /// Writes until the connection breaks, a write fails, or it is told to stop. A full disk is waited
    /// out.
    fn write(&mut self, client: &mut Client, stop: &AtomicBool) -> Vec<Put> {
        let mut puts = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let put = self.put(client);
            let outcome = put.outcome;
            puts.push(put);
            match outcome {
                Outcome::ACKNOWLEDGED => {}
                Outcome::Answered(507) => thread::sleep(Duration::from_millis(5)),
                _ => break,
            }
        }
        puts
    }

    /// Sends the next write, and waits for its answer.
    pub(crate) fn put(&mut self, client: &mut Client) -> Put {
        let (place, value) = self.next_put();
        let sent = Instant::now();
        let answer = client.put(&place.0, place.1, &value);
        let told = Instant::now();
        let outcome = answer.map_or(Outcome::Broken, |answer| Outcome::Answered(answer.status));
        Put { place, value, sent, told, outcome }
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
pub(crate) struct Load {
    threads: Vec<JoinHandle<(Writer, Vec<Put>)>>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Connects all writers, and sets them going.
    pub(crate) fn start(server: &Server, writers: Vec<Writer>) -> Load {
        let connected: Vec<_> =
            writers.into_iter().map(|writer| (writer, server.connect())).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let start = |(mut writer, mut client): (Writer, Client)| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let puts = writer.write(&mut client, &stop);
                (writer, puts)
            })
        };
        Load { threads: connected.into_iter().map(start).collect(), stop }
    }

    /// Lets each writer's present put be its last.
    pub(crate) fn stop(self) -> (Vec<Writer>, Vec<Put>) {
        self.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    /// Waits until all writers have ended; gives them back, and what they wrote, that of each one in
    /// its order.
    pub(crate) fn join(self) -> (Vec<Writer>, Vec<Put>) {
        let ended: Vec<_> = self.threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let (writers, puts): (Vec<_>, Vec<_>) = ended.into_iter().unzip();
        (writers, puts.into_iter().flatten().collect())
    }
}
