//! The load tester: sends puts and floors to a running server and reports rates and latencies.
//!
//! A run has up to three phases (preload, warm-up, measured), each on the same connections. In a
//! phase every connection has a worker, and the workers take numbered requests from one counter.
//!
//! - **Closed loop**: a worker sends its next request when the last one is answered. Latency is
//!   service time. When the server stalls, so does the sending, and few requests see the stall.
//! - **Open loop**: request `i` is due `i / rate` seconds after the start, whatever the server
//!   does. Due requests wait in one queue for a free connection, and latency counts from the moment
//!   that they were due: the wait of requests behind a stall is not left out ("coordinated
//!   omission", as Gil Tene named it).

mod client;
mod redis;
mod report;
mod workload;

use std::io::{self, IsTerminal, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub use client::Target;
pub use report::{Report, Row};
pub use workload::{Api, Distribution, Profile, TIMESTAMP_STEP, Workload};

use client::{Client, Failure, Outcome};
use report::{Tally, failures_text, grouped};
use workload::{Generator, Stream};

/// How long a worker rests after a server could not be reached, or refused for being busy.
const PAUSE: Duration = Duration::from_millis(50);

/// A run, as the command line asks for it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server under test.
    pub target: Target,
    /// What to send.
    pub profile: Profile,
    /// How many connections, each with one request at a time; at least 1.
    pub connections: usize,
    /// How many threads of this process drive them; at least 1.
    pub threads: usize,
    /// How long requests are measured. Without it the run ends by `operations`.
    pub duration: Option<Duration>,
    /// How many requests are measured. Without it the run ends by `duration`.
    pub operations: Option<u64>,
    /// Requests a second of an open loop, above 0; a closed loop without it.
    pub rate: Option<f64>,
    /// How long requests are sent before they are measured.
    pub warmup: Duration,
    /// How long an answer may take, and how long after its end a run still sends what was due.
    pub timeout: Duration,
    /// Whether every key's versions are written first.
    pub preload: bool,
    /// Whether progress is kept from stderr.
    pub quiet: bool,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be opened at the start.
    #[error("cannot reach {url}: {source}; is the server running there?")]
    Unreachable {
        /// The server, as it was given.
        url: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The preload is not complete, so floors would measure something else.
    #[error("the preload failed: {failures}")]
    Preload {
        /// What its requests met, with counts.
        failures: String,
    },
    /// The user ended the run before anything was measured.
    #[error("interrupted before anything was measured")]
    Interrupted,
    /// This process could not start its threads.
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
}

/// Runs a plan to its end, or to the first Ctrl-C. Progress goes to stderr.
pub fn run(plan: &Plan) -> Result<Report, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(plan.threads)
        .enable_all()
        .build()
        .map_err(Error::Threads)?
        .block_on(run_phases(plan))
}

async fn run_phases(plan: &Plan) -> Result<Report, Error> {
    assert!(plan.duration.is_some() || plan.operations.is_some(), "a plan has an end");
    // The generator first: a large one takes seconds, in which connections would grow old.
    let generator = Arc::new(Generator::new(plan.profile.clone()));
    let clients = connect(plan).await?;
    let mut run = Run { plan, generator, clients, stop: stop_on_interrupt() };

    if plan.preload {
        let versions = run.generator.preload_count();
        let (tally, _) = run.phase(Stream::Preload, Pace::Closed, Some(versions), None).await?;
        let failures = tally.failures();
        if !failures.is_empty() {
            return Err(Error::Preload { failures: failures_text(&failures) });
        }
    }
    let pace = plan.rate.map_or(Pace::Closed, |rate| Pace::Open { rate });
    if !plan.warmup.is_zero() && plan.operations != Some(0) {
        run.phase(Stream::Warmup, pace, None, Some(plan.warmup)).await?;
    }
    if run.stop.load(Ordering::Relaxed) {
        return Err(Error::Interrupted);
    }
    let (tally, scheduled) =
        run.phase(Stream::Measured, pace, plan.operations, plan.duration).await?;
    let interrupted = run.stop.load(Ordering::Relaxed);
    // The schedule runs on after the last start: at 1/s ten requests take ten seconds.
    let elapsed = if interrupted { Duration::ZERO } else { scheduled }.max(tally.last_answer);
    Ok(Report::new(plan, &tally, elapsed, interrupted))
}

async fn connect(plan: &Plan) -> Result<Vec<Client>, Error> {
    let target = Arc::new(plan.target.clone());
    let mut clients = Vec::with_capacity(plan.connections);
    for _ in 0..plan.connections {
        let client = Client::open(Arc::clone(&target), plan.timeout).await;
        clients.push(
            client.map_err(|source| Error::Unreachable { url: target.url().to_owned(), source })?,
        );
    }
    Ok(clients)
}

/// The first Ctrl-C ends the run with a report, the second one at once.
fn stop_on_interrupt() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        }
    });
    stop
}

/// When requests are sent, and from when their latency counts. Times are from the phase's start.
#[derive(Clone, Copy, Debug)]
enum Pace {
    /// As soon as a connection is free.
    Closed,
    /// Request `i` at `i / rate` seconds.
    Open { rate: f64 },
}

impl Pace {
    /// When request `index` is to be sent: at once in a closed loop.
    fn due(self, index: u64) -> Duration {
        match self {
            Pace::Closed => Duration::ZERO,
            Pace::Open { rate } => Duration::from_secs_f64(index as f64 / rate),
        }
    }

    /// How many requests are due by `time`.
    fn due_count(self, time: Duration) -> u64 {
        match self {
            Pace::Closed => u64::MAX,
            Pace::Open { rate } => (time.as_secs_f64() * rate) as u64 + 1,
        }
    }

    /// How many requests a phase may have that ends by a number, a time or both.
    fn limit(self, operations: Option<u64>, duration: Option<Duration>) -> u64 {
        let scheduled = match (self, duration) {
            (Pace::Open { rate }, Some(time)) => (time.as_secs_f64() * rate).ceil() as u64,
            _ => u64::MAX,
        };
        operations.unwrap_or(u64::MAX).min(scheduled)
    }

    /// What a request's caller waited for its answer.
    fn latency(self, index: u64, sent: Duration, done: Duration) -> Duration {
        match self {
            Pace::Closed => done.saturating_sub(sent),
            Pace::Open { .. } => done.saturating_sub(self.due(index)),
        }
    }
}

/// A run between its phases.
struct Run<'a> {
    plan: &'a Plan,
    generator: Arc<Generator>,
    clients: Vec<Client>,
    stop: Arc<AtomicBool>,
}

impl Run<'_> {
    /// Runs a phase on all connections until its last answer. Also tells how long its schedule
    /// is; zero in a closed loop.
    async fn phase(
        &mut self,
        stream: Stream,
        pace: Pace,
        operations: Option<u64>,
        duration: Option<Duration>,
    ) -> Result<(Tally, Duration), Error> {
        let phase = Arc::new(Phase {
            stream,
            pace,
            limit: pace.limit(operations, duration),
            duration,
            timeout: self.plan.timeout,
            generator: Arc::clone(&self.generator),
            stop: Arc::clone(&self.stop),
            start: Instant::now(),
            next: AtomicU64::new(0),
            due: Semaphore::new(0),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let progress = (!self.plan.quiet).then(|| tokio::spawn(show_progress(Arc::clone(&phase))));
        let pacer = match pace {
            Pace::Closed => None,
            Pace::Open { .. } => {
                let (phase, workers) = (Arc::clone(&phase), self.clients.len());
                let pacer = thread::Builder::new().name("pacer".into());
                Some(pacer.spawn(move || release_due(&phase, workers)).map_err(Error::Threads)?)
            }
        };
        let mut workers = JoinSet::new();
        for client in self.clients.drain(..) {
            workers.spawn(work(client, Arc::clone(&phase)));
        }
        let mut tally = Tally::new();
        for (client, of_worker) in workers.join_all().await {
            self.clients.push(client);
            tally.merge(&of_worker);
        }
        if let Some(pacer) = pacer {
            pacer.join().expect("the pacer does not panic");
        }
        if let Some(progress) = progress {
            progress.abort();
            show(&phase.summary(), true);
        }
        Ok((tally, pace.due(phase.limit)))
    }
}

/// What the workers of a phase share.
struct Phase {
    stream: Stream,
    pace: Pace,
    /// How many requests there are at most.
    limit: u64,
    /// After this a closed loop sends no more.
    duration: Option<Duration>,
    timeout: Duration,
    generator: Arc<Generator>,
    stop: Arc<AtomicBool>,
    start: Instant,
    /// The number of the request that is taken next.
    next: AtomicU64,
    /// Open loop: a permit for every request that is due and not yet taken.
    due: Semaphore,
    /// Requests with an outcome so far, and how many of them failed: for the progress line.
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Phase {
    /// The number of the next request, once it is due; `None` when there is none.
    async fn take(&self) -> Option<u64> {
        if let Pace::Open { .. } = self.pace {
            self.due.acquire().await.ok()?.forget();
        } else if self.duration.is_some_and(|duration| self.start.elapsed() >= duration) {
            return None;
        }
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        (index < self.limit).then_some(index)
    }

    /// Whether a schedule's requests that still wait are given up.
    fn given_up(&self) -> bool {
        match self.pace {
            Pace::Closed => false,
            Pace::Open { .. } => self.start.elapsed() > self.pace.due(self.limit) + self.timeout,
        }
    }

    fn count(&self, outcome: Outcome) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        if let Outcome::Failed(_) = outcome {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn name(&self) -> &'static str {
        match self.stream {
            Stream::Preload => "preload",
            Stream::Warmup => "warm-up",
            Stream::Measured => "measure",
        }
    }

    fn summary(&self) -> String {
        let answered = self.answered.load(Ordering::Relaxed);
        let seconds = self.start.elapsed().as_secs_f64();
        let rate = answered as f64 / seconds.max(f64::MIN_POSITIVE);
        progress_line(self, answered, rate)
    }
}

/// A worker: sends the requests that it takes, one at a time, over its own connection.
async fn work(mut client: Client, phase: Arc<Phase>) -> (Client, Tally) {
    let mut tally = Tally::new();
    while let Some(index) = phase.take().await {
        if phase.given_up() {
            phase.count(Outcome::Failed(Failure::Unsent));
            tally.record_unsent();
            continue;
        }
        let operation = phase.generator.operation(phase.stream, index);
        let message = client.message(&phase.generator, &operation);
        let sent = phase.start.elapsed();
        let mut outcome = client.send(message).await;
        if let Stream::Preload = phase.stream {
            // A preload has no rate to keep: where the server asks it to wait, it waits.
            while outcome == Outcome::Failed(Failure::Status(503))
                && phase.start.elapsed() < sent + phase.timeout
            {
                tokio::time::sleep(PAUSE).await;
                outcome = client.send(client.message(&phase.generator, &operation)).await;
            }
        }
        let done = phase.start.elapsed();
        tally.record(operation.kind, phase.pace.latency(index, sent, done), outcome);
        if let Pace::Open { .. } = phase.pace {
            tally.record_send_lag(sent.saturating_sub(phase.pace.due(index)));
        }
        tally.last_answer = done;
        phase.count(outcome);
        if outcome == Outcome::Failed(Failure::Connect) {
            // Without a rest a dead server would be asked a million times a second.
            tokio::time::sleep(PAUSE).await;
        }
    }
    (client, tally)
}

/// Releases the requests of an open loop as they become due, on a thread of its own: the timers of
/// the runtime have a grain of a millisecond, which would be added to every latency.
fn release_due(phase: &Phase, workers: usize) {
    sharpen_sleep();
    let mut released = 0;
    while released < phase.limit && !phase.stop.load(Ordering::Relaxed) {
        let now = phase.start.elapsed();
        let due = phase.pace.due_count(now).min(phase.limit);
        if due > released {
            phase.due.add_permits((due - released) as usize);
            released = due;
        } else {
            // Short sleeps, so that an interrupt is seen.
            let wait = phase.pace.due(released).saturating_sub(now);
            thread::sleep(wait.min(Duration::from_millis(100)));
        }
    }
    // One more for each worker, by which it finds that there is nothing left.
    phase.due.add_permits(workers);
}

/// Linux lets sleeps run over by 50 µs to save wake-ups; the pacer is not to.
#[cfg(target_os = "linux")]
fn sharpen_sleep() {
    // Without it sends are a little later, which the report shows as send lag.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

#[cfg(not(target_os = "linux"))]
fn sharpen_sleep() {}

/// Tells how a phase goes, until it is aborted.
async fn show_progress(phase: Arc<Phase>) {
    let seconds = if io::stderr().is_terminal() { 1 } else { 10 };
    let period = Duration::from_secs(seconds);
    let mut before = 0;
    loop {
        tokio::time::sleep(period).await;
        let answered = phase.answered.load(Ordering::Relaxed);
        show(&progress_line(&phase, answered, (answered - before) as f64 / seconds as f64), false);
        before = answered;
    }
}

/// `preload  12 s  34%  340,000 requests  28,333/s  0 failed`
fn progress_line(phase: &Phase, answered: u64, rate: f64) -> String {
    let elapsed = phase.start.elapsed();
    let by_count = answered as f64 / phase.limit.max(1) as f64;
    let by_time = phase.duration.map_or(0.0, |duration| elapsed.div_duration_f64(duration));
    format!(
        "{}  {} s  {:.0}%  {} requests  {}/s  {} failed",
        phase.name(),
        elapsed.as_secs(),
        (by_count.max(by_time) * 100.0).min(100.0),
        grouped(answered),
        grouped(rate as u64),
        grouped(phase.failed.load(Ordering::Relaxed)),
    )
}

/// On a terminal a line replaces the one before it, unless that was the last of its phase.
fn show(line: &str, last: bool) {
    let mut stderr = io::stderr().lock();
    // Nobody reads progress from a stderr that is gone.
    let _ = match (stderr.is_terminal(), last) {
        (true, false) => write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush()),
        (true, true) => writeln!(stderr, "\r\x1b[K{line}"),
        (false, _) => writeln!(stderr, "{line}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan for tests of what is told about one.
    pub(super) fn plan(workload: Workload) -> Plan {
        Plan {
            target: "http://127.0.0.1:1".parse().unwrap(),
            profile: Profile {
                api: Api::Root,
                workload,
                keys: 1_000,
                versions: 10,
                first_version: 10,
                distribution: Distribution::Zipf(0.99),
                read_share: 0.9,
                value_bytes: 100,
                seed: 1,
            },
            connections: 2,
            threads: 1,
            duration: None,
            operations: Some(10),
            rate: None,
            warmup: Duration::ZERO,
            timeout: Duration::from_secs(1),
            preload: false,
            quiet: true,
        }
    }

    const OPEN: Pace = Pace::Open { rate: 100.0 };

    /// The latencies, in ms, of requests over one connection to a server on a fake clock, which
    /// needs 1 ms for each, and 500 ms for the eleventh.
    fn latencies_beside_a_stall(pace: Pace) -> Vec<u128> {
        let mut free = Duration::ZERO;
        let request = |index| {
            let service = Duration::from_millis(if index == 10 { 500 } else { 1 });
            let sent = free.max(pace.due(index));
            free = sent + service;
            pace.latency(index, sent, free).as_millis()
        };
        (0..100).map(request).collect()
    }

    #[test]
    fn an_open_loop_counts_the_wait_behind_a_stall() {
        let open = latencies_beside_a_stall(OPEN);
        assert!(open[..10].iter().all(|&latency| latency == 1));
        // Due every 10 ms and served in 1 ms: each waits 9 ms less than the one before it.
        let behind: Vec<u128> = (0..=55).map(|nth| 500 - 9 * nth).collect();
        assert_eq!(open[10..=65], behind);
        assert!(open[66..].iter().all(|&latency| latency <= 5));

        let closed = latencies_beside_a_stall(Pace::Closed);
        assert_eq!(closed.iter().filter(|&&latency| latency > 1).count(), 1);
    }

    #[test]
    fn a_schedule_has_as_many_requests_as_its_time_holds() {
        assert_eq!(OPEN.due(250), Duration::from_millis(2_500));
        assert_eq!(OPEN.due_count(Duration::ZERO), 1);
        assert_eq!(OPEN.due_count(Duration::from_millis(9)), 1);
        assert_eq!(OPEN.due_count(Duration::from_millis(2_505)), 251);
        assert_eq!(OPEN.limit(None, Some(Duration::from_secs(2))), 200);
        assert_eq!(OPEN.limit(Some(50), Some(Duration::from_secs(2))), 50);
        assert_eq!(OPEN.limit(Some(500), Some(Duration::from_secs(2))), 200);
        assert_eq!(OPEN.limit(Some(500), None), 500);
        assert_eq!(Pace::Open { rate: 0.1 }.limit(None, Some(Duration::from_secs(1))), 1);
        assert_eq!(Pace::Closed.limit(None, Some(Duration::from_secs(2))), u64::MAX);
    }

    #[test]
    fn a_server_that_is_not_there_is_unreachable() {
        assert!(matches!(run(&plan(Workload::Put)), Err(Error::Unreachable { .. })));
    }
}
