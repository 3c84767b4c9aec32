//! What is measured, and how it is told: latencies in histograms of three significant digits, one
//! per kind of operation, then a table for people or one line of JSON for programs.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::Plan;
use super::client::{Failure, Outcome};
use super::workload::{Api, Distribution, OperationKind, Workload};

/// What one worker saw, or all of them together. Latencies are of answered requests only;
/// the others are counted.
pub(crate) struct Tally {
    puts: Kind,
    floors: Kind,
    /// How long after its intended start each request was sent; empty in a closed loop.
    send_lag: Histogram<u64>,
    failures: BTreeMap<Failure, u64>,
    /// When the last answer was complete, from the start of the phase.
    pub(crate) last_answer: Duration,
}

struct Kind {
    latency: Histogram<u64>,
    nulls: u64,
    failed: u64,
}

/// Nanoseconds, growing as needed: from a microsecond to minutes in about 100 KiB.
fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("3 significant digits are within 0 to 5")
}

fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    histogram.record(nanos).expect("a histogram that resizes takes any number");
}

fn merge(into: &mut Histogram<u64>, other: &Histogram<u64>) {
    into.add(other).expect("a histogram that resizes holds what another one does");
}

impl Tally {
    pub(crate) fn new() -> Tally {
        let kind = || Kind { latency: histogram(), nulls: 0, failed: 0 };
        Tally {
            puts: kind(),
            floors: kind(),
            send_lag: histogram(),
            failures: BTreeMap::new(),
            last_answer: Duration::ZERO,
        }
    }

    /// Counts a request that was sent.
    pub(crate) fn record(&mut self, kind: OperationKind, latency: Duration, outcome: Outcome) {
        let of_kind = match kind {
            OperationKind::Put => &mut self.puts,
            OperationKind::Floor => &mut self.floors,
        };
        match outcome {
            Outcome::Answered => record(&mut of_kind.latency, latency),
            Outcome::Null => {
                record(&mut of_kind.latency, latency);
                // The answer to a put is no value, whatever it says.
                of_kind.nulls += u64::from(kind == OperationKind::Floor);
            }
            Outcome::Failed(failure) => {
                of_kind.failed += 1;
                *self.failures.entry(failure).or_default() += 1;
            }
        }
    }

    /// Notes how late a request of a schedule was sent.
    pub(crate) fn record_send_lag(&mut self, lag: Duration) {
        record(&mut self.send_lag, lag);
    }

    /// Counts a request that the run had no time left to send.
    pub(crate) fn record_unsent(&mut self) {
        *self.failures.entry(Failure::Unsent).or_default() += 1;
    }

    pub(crate) fn merge(&mut self, other: &Tally) {
        for (into, from) in [(&mut self.puts, &other.puts), (&mut self.floors, &other.floors)] {
            merge(&mut into.latency, &from.latency);
            into.nulls += from.nulls;
            into.failed += from.failed;
        }
        merge(&mut self.send_lag, &other.send_lag);
        for (failure, count) in &other.failures {
            *self.failures.entry(*failure).or_default() += count;
        }
        self.last_answer = self.last_answer.max(other.last_answer);
    }

    pub(crate) fn failures(&self) -> BTreeMap<String, u64> {
        self.failures.iter().map(|(failure, count)| (failure.name(), *count)).collect()
    }

    /// The total of two kinds is a kind too.
    fn all(&self) -> Kind {
        let mut latency = self.puts.latency.clone();
        merge(&mut latency, &self.floors.latency);
        let failed = self.failures.values().sum();
        Kind { latency, nulls: self.puts.nulls + self.floors.nulls, failed }
    }
}

/// The result of a run. Its JSON form is stable: fields are added, never renamed or removed.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    api: Api,
    workload: Workload,
    distribution: &'static str,
    zipf_theta: Option<f64>,
    keys: u64,
    versions: u64,
    read_share: Option<f64>,
    value_bytes: usize,
    seed: u64,
    connections: usize,
    threads: usize,
    #[serde(rename = "loop")]
    pacing: &'static str,
    target_rate: Option<f64>,
    latency_from: &'static str,
    elapsed_s: f64,
    interrupted: bool,
    operations: Vec<Row>,
    send_lag_us: Option<SendLag>,
    failures: BTreeMap<String, u64>,
}

/// What was measured of one kind of operation. Latencies are of those that were answered.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    kind: &'static str,
    count: u64,
    /// Answers a second.
    pub rate: f64,
    mean_us: f64,
    /// The median latency.
    pub p50_us: f64,
    p90_us: f64,
    /// The latency that one in a hundred exceeds.
    pub p99_us: f64,
    p999_us: f64,
    max_us: f64,
    nulls: u64,
    failed: u64,
}

#[derive(Clone, Debug, Serialize)]
struct SendLag {
    p50: f64,
    p99: f64,
    max: f64,
}

impl Row {
    fn new(kind: &'static str, of_kind: &Kind, elapsed: Duration) -> Row {
        let latency = &of_kind.latency;
        let quantile = |q| micros(latency.value_at_quantile(q) as f64);
        let count = latency.len();
        let seconds = elapsed.as_secs_f64();
        Row {
            kind,
            count,
            rate: if seconds > 0.0 { tenths(count as f64 / seconds) } else { 0.0 },
            mean_us: micros(latency.mean()),
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: micros(latency.max() as f64),
            nulls: of_kind.nulls,
            failed: of_kind.failed,
        }
    }
}

/// Microseconds with one decimal: the histogram knows no more.
fn micros(nanos: f64) -> f64 {
    tenths(nanos / 1_000.0)
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

impl Report {
    /// `elapsed` is the time that the counted requests took together; rates are told by it.
    pub(crate) fn new(plan: &Plan, tally: &Tally, elapsed: Duration, interrupted: bool) -> Report {
        let profile = &plan.profile;
        let (distribution, zipf_theta) = match profile.distribution {
            Distribution::Uniform => ("uniform", None),
            Distribution::Zipf(theta) => ("zipf", Some(theta)),
        };
        let mut operations = Vec::new();
        if profile.workload != Workload::Floor {
            operations.push(Row::new("put", &tally.puts, elapsed));
        }
        if profile.workload != Workload::Put {
            operations.push(Row::new("floor", &tally.floors, elapsed));
        }
        operations.push(Row::new("all", &tally.all(), elapsed));
        let lag = |q| micros(tally.send_lag.value_at_quantile(q) as f64);
        Report {
            api: profile.api,
            workload: profile.workload,
            distribution,
            zipf_theta,
            keys: profile.keys,
            versions: profile.versions,
            read_share: (profile.workload == Workload::Mixed).then_some(profile.read_share),
            value_bytes: profile.value_bytes,
            seed: profile.seed,
            connections: plan.connections,
            threads: plan.threads,
            pacing: if plan.rate.is_some() { "open" } else { "closed" },
            target_rate: plan.rate,
            latency_from: if plan.rate.is_some() { "intended_start" } else { "send" },
            elapsed_s: (elapsed.as_secs_f64() * 1_000.0).round() / 1_000.0,
            interrupted,
            operations,
            send_lag_us: plan.rate.map(|_| SendLag {
                p50: lag(0.5),
                p99: lag(0.99),
                max: lag(1.0),
            }),
            failures: tally.failures(),
        }
    }

    /// All kinds of operations together.
    pub fn total(&self) -> &Row {
        self.operations.last().expect("the last one is of all, and is always there")
    }

    /// How many requests did not get their 200.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Whether the run was ended before its time by the user.
    pub fn interrupted(&self) -> bool {
        self.interrupted
    }

    /// What went wrong, in words for people; one sentence a line, empty where nothing did.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        if self.failed() > 0 {
            complaints.push(format!(
                "{} requests failed: {}",
                grouped(self.failed()),
                failures_text(&self.failures)
            ));
        }
        if self.failures.contains_key(&Failure::Unsent.name()) {
            complaints.push("the server did not sustain the rate: lower --rate".to_owned());
        }
        let floors = self.operations.iter().find(|row| row.kind == "floor");
        if let Some(row) = floors.filter(|row| row.nulls > 0) {
            complaints.push(format!(
                "{} of {} floors found no value: was every key preloaded (--preload)?",
                grouped(row.nulls),
                grouped(row.count)
            ));
        }
        complaints
    }

    /// One line, without a line end.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a report is made of strings and numbers")
    }
}

/// `503 × 12, timeout × 1`
pub(crate) fn failures_text(failures: &BTreeMap<String, u64>) -> String {
    let each: Vec<String> =
        failures.iter().map(|(name, count)| format!("{name} × {}", grouped(*count))).collect();
    each.join(", ")
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The table. Ends with a line end.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.heading())?;
        writeln!(f, "{}", self.meaning())?;
        writeln!(f)?;
        let latencies = ["mean µs", "p50", "p90", "p99", "p99.9", "max"];
        write!(f, "{:<9}{:>12}{:>12}", "operation", "count", "rate/s")?;
        for name in latencies {
            write!(f, "{name:>12}")?;
        }
        writeln!(f, "{:>9}", "failed")?;
        // With one kind of operation its total says nothing new, unless some were never sent.
        let rows = match &self.operations[..] {
            [only, all] if only.failed == all.failed => std::slice::from_ref(only),
            rows => rows,
        };
        for row in rows {
            write!(f, "{:<9}{:>12}{:>12.0}", row.kind, grouped(row.count), row.rate)?;
            for latency in
                [row.mean_us, row.p50_us, row.p90_us, row.p99_us, row.p999_us, row.max_us]
            {
                write!(f, "{latency:>12.1}")?;
            }
            writeln!(f, "{:>9}", grouped(row.failed))?;
        }
        if let Some(lag) = &self.send_lag_us {
            writeln!(
                f,
                "\nsent after the intended start by: p50 {:.1} µs, p99 {:.1} µs, max {:.1} µs",
                lag.p50, lag.p99, lag.max
            )?;
        }
        Ok(())
    }
}

impl Report {
    fn heading(&self) -> String {
        let mut text = format!("{:?} · {}", self.workload, self.distribution).to_lowercase();
        if let Some(theta) = self.zipf_theta {
            let _ = write!(text, " {theta}");
        }
        if let Some(share) = self.read_share {
            let _ = write!(text, " · {:.0}% reads", share * 100.0);
        }
        let (keys, versions) = (grouped(self.keys), grouped(self.versions));
        let _ = write!(text, " · {keys} keys × {versions} versions · {} B", self.value_bytes);
        let plural = if self.connections == 1 { "" } else { "s" };
        let _ = write!(text, " · {} connection{plural}", self.connections);
        match self.target_rate {
            Some(rate) => {
                let _ = write!(text, " · open loop at {rate}/s");
            }
            None => text.push_str(" · closed loop"),
        }
        let _ = write!(text, " · {:.1} s", self.elapsed_s);
        if self.interrupted {
            text.push_str(" · interrupted");
        }
        text
    }

    fn meaning(&self) -> &'static str {
        if self.target_rate.is_some() {
            "latency: from the intended start on a fixed schedule to the end of the answer; \
             waiting for a free connection counts"
        } else {
            "latency: service time, from sending to the end of the answer; \
             a slow answer also delays the next request, which does not show here"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loadtest::tests::plan;

    fn tally() -> Tally {
        let mut tally = Tally::new();
        for millis in 1..=1_000 {
            let latency = Duration::from_millis(millis);
            tally.record(OperationKind::Floor, latency, Outcome::Answered);
        }
        tally.record(OperationKind::Floor, Duration::from_micros(100), Outcome::Null);
        tally.record(OperationKind::Put, Duration::from_micros(50), Outcome::Null);
        let busy = Outcome::Failed(Failure::Status(503));
        tally.record(OperationKind::Put, Duration::from_secs(9), busy);
        tally
    }

    fn near(value: &serde_json::Value, expected: f64) -> bool {
        (value.as_f64().unwrap() - expected).abs() <= expected / 1_000.0
    }

    #[test]
    fn json_tells_each_kind_to_three_digits() {
        let report = Report::new(&plan(Workload::Mixed), &tally(), Duration::from_secs(4), false);
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert!(!report.to_json().contains('\n'));
        assert_eq!(json["loop"], "closed");
        assert_eq!(json["latency_from"], "send");
        assert_eq!(json["send_lag_us"], serde_json::Value::Null);
        let [put, floor, all] = &json["operations"].as_array().unwrap()[..] else { panic!() };
        let kinds = [&put["kind"], &floor["kind"], &all["kind"]];
        assert_eq!(kinds, ["put", "floor", "all"]);
        assert_eq!([&put["count"], &put["failed"]], [1, 1]);
        assert!(near(&put["max_us"], 50.0), "the failed put is no latency");
        assert_eq!([&floor["count"], &floor["nulls"]], [1_001, 1]);
        assert!(near(&floor["rate"], 1_001.0 / 4.0));
        assert!(near(&floor["p50_us"], 500_000.0) && near(&floor["p90_us"], 900_000.0));
        assert!(near(&floor["p99_us"], 990_000.0) && near(&floor["p999_us"], 999_000.0));
        assert!(near(&floor["max_us"], 1_000_000.0));
        assert_eq!([&all["count"], &all["failed"]], [1_002, 1]);
        assert_eq!(json["failures"], serde_json::json!({"503": 1}));
    }

    #[test]
    fn the_table_says_which_loop_it_measured() {
        let closed = Report::new(&plan(Workload::Mixed), &tally(), Duration::from_secs(4), false);
        let text = closed.to_string();
        assert!(text.starts_with("mixed · zipf 0.99 · 90% reads · 1,000 keys × 10 versions"));
        assert!(text.contains("closed loop · 4.0 s\nlatency: service time"), "{text}");
        let widths: Vec<usize> = text.lines().skip(3).map(|line| line.chars().count()).collect();
        assert_eq!(widths, [widths[0]; 4], "{text}");

        let plan = Plan { rate: Some(500.0), ..plan(Workload::Mixed) };
        let mut tally = tally();
        tally.record_send_lag(Duration::from_millis(2));
        let text = Report::new(&plan, &tally, Duration::from_secs(4), true).to_string();
        assert!(text.contains("open loop at 500/s · 4.0 s · interrupted\n"), "{text}");
        assert!(text.contains("latency: from the intended start"), "{text}");
        assert!(text.contains("intended start by: p50 200"), "{text}");
    }

    #[test]
    fn an_empty_run_is_a_report_too() {
        let report = Report::new(&plan(Workload::Put), &Tally::new(), Duration::ZERO, false);
        assert_eq!((report.failed(), report.complaints().len()), (0, 0));
        assert_eq!(report.to_string().lines().count(), 5, "one kind needs no total");
    }

    #[test]
    fn failures_and_missing_values_are_complained_about() {
        let mut tally = tally();
        tally.record_unsent();
        let report = Report::new(&plan(Workload::Mixed), &tally, Duration::from_secs(1), false);
        assert_eq!(report.failed(), 2);
        let complaints = report.complaints();
        assert_eq!(complaints[0], "2 requests failed: 503 × 1, unsent × 1");
        assert!(complaints[1].contains("lower --rate"));
        assert!(complaints[2].starts_with("1 of 1,001 floors found no value"));
    }

    #[test]
    fn merging_adds_up() {
        let (mut one, mut other) = (tally(), tally());
        other.last_answer = Duration::from_secs(3);
        other.record_unsent();
        one.merge(&other);
        assert_eq!(one.last_answer, Duration::from_secs(3));
        let all = one.all();
        assert_eq!((all.latency.len(), all.nulls, all.failed), (2_004, 2, 3));
    }

    #[test]
    fn digits_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
