//! `loadtest`: measures a running server with puts and floors.

use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, ValueEnum};
use kvtimedb_tools::loadtest::{self, Api, Distribution, Error, Plan, Profile, Target, Workload};

const FAILED: u8 = 1;
const UNAVAILABLE: u8 = 5;
const INTERRUPTED: u8 = 130;

const ABOUT: &str = "Measure a running KVTimeDB server with puts and floors";

const AFTER_HELP: &str = "\
Loops:
  Closed (no --rate): each connection sends its next request when the last one
  is answered. Latency is service time, from sending to the end of the answer.
  Open (--rate): requests start on a fixed schedule, whatever the server does.
  Latency is from the intended start, so the wait for a free connection counts.
  What still waits --timeout after the end is given up and counted as `unsent`.

Data:
  Keys are `sensor-00000000` and so on; version v of a key has the timestamp
  v * 1000; values are JSON objects of sensor readings. --preload writes the
  versions 0 to --versions - 1 of every key. Floors ask at a random time among
  these, so that each has an answer; puts write the versions above them.
  The same seed gives the same requests.

JSON (-o json), one line; fields are added, never renamed or removed:
  api root|body|v1|redis, workload put|floor|mixed, distribution uniform|zipf, zipf_theta or null,
  keys, versions, read_share or null, value_bytes, seed, connections, threads,
  loop closed|open, target_rate or null, latency_from send|intended_start,
  elapsed_s, interrupted,
  operations: a list, by kind, the last one is `all`:
    kind put|floor|all, count (answered with 200 or 201), rate (count per second),
    mean_us, p50_us, p90_us, p99_us, p999_us, max_us (of the answered),
    nulls (answered, but no value there), failed
  send_lag_us: p50, p99, max of how late requests were sent, open loop only
  failures: counts by status (\"503\"), or connect, broken, timeout, unsent

Exit codes:
  0 all requests were answered with 200, 1 some were not, 2 usage,
  5 the server can't be reached, 130 interrupted";

/// The command line. Its own comments are the help.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, about = ABOUT, after_long_help = AFTER_HELP)]
struct Options {
    /// The server, as http://HOST:PORT, or redis://HOST:PORT to compare with
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: Target,

    /// How operations are told to an HTTP server
    #[arg(long, value_enum, default_value_t = ApiName::Root)]
    api: ApiName,

    /// Which operations to send
    #[arg(long, value_enum, default_value_t = WorkloadName::Mixed)]
    workload: WorkloadName,

    /// How many keys there are
    #[arg(long, value_name = "N", default_value_t = 100_000,
          value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    keys: u64,

    /// How many versions of each key were preloaded: floors ask about these
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..))]
    versions: u64,

    /// The first version that puts write [default: as --versions]
    #[arg(long, value_name = "N")]
    first_version: Option<u64>,

    /// How keys are chosen
    #[arg(long, value_enum, default_value_t = DistributionName::Uniform)]
    distribution: DistributionName,

    /// How skewed zipf is, between 0 and 1
    #[arg(long, value_name = "THETA", default_value_t = 0.99)]
    zipf_theta: f64,

    /// How many connections, each with one request at a time
    #[arg(long, value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u64).range(1..=65_536))]
    connections: u64,

    /// How many threads drive them [default: one per core]
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=1_024))]
    threads: Option<u64>,

    /// How long to measure: 250ms, 10s, 5m, 1h [default: 10s, or by --operations alone]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,

    /// How many requests to measure; 0 to preload only
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u64).range(..=1_000_000_000_000_000))]
    operations: Option<u64>,

    /// Requests per second of an open loop; without it the loop is closed
    #[arg(long, value_name = "OPS_PER_S", value_parser = parse_rate)]
    rate: Option<f64>,

    /// The share of floors in a mixed workload, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.9)]
    read_share: f64,

    /// About how long values are
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u64).range(..=64 * 1024 * 1024))]
    value_bytes: u64,

    /// The same seed gives the same requests
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// How long to send before measuring
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    warmup: Duration,

    /// How long to wait for an answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    timeout: Duration,

    /// Write every key's versions first
    #[arg(long)]
    preload: bool,

    /// How to print the report
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    /// No progress on stderr
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ApiName {
    /// GET /?key&timestamp and PUT /
    Root,
    /// The same, with a JSON body in the GET
    Body,
    /// GET /v1/kv/{key}?at and PUT /v1/kv/{key}?ts
    V1,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WorkloadName {
    /// Puts only
    Put,
    /// Floors only
    Floor,
    /// Both, by --read-share
    Mixed,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DistributionName {
    /// Every key as likely as any other
    Uniform,
    /// Few keys take most requests
    Zipf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    Json,
}

impl Options {
    /// The plan, or what is wrong with the options.
    fn plan(&self) -> Result<Plan, String> {
        let api = match self.api {
            _ if self.url.is_redis() => Api::Redis,
            ApiName::Root => Api::Root,
            ApiName::Body => Api::Body,
            ApiName::V1 => Api::V1,
        };
        let profile = Profile {
            api,
            workload: match self.workload {
                WorkloadName::Put => Workload::Put,
                WorkloadName::Floor => Workload::Floor,
                WorkloadName::Mixed => Workload::Mixed,
            },
            keys: self.keys,
            versions: self.versions,
            first_version: self.first_version.unwrap_or(self.versions),
            distribution: match self.distribution {
                DistributionName::Uniform => Distribution::Uniform,
                DistributionName::Zipf => Distribution::Zipf(self.zipf_theta),
            },
            read_share: self.read_share,
            value_bytes: self.value_bytes as usize,
            seed: self.seed,
        };
        profile.check()?;
        if self.duration == Some(Duration::ZERO) || self.timeout.is_zero() {
            return Err("--duration and --timeout are longer than nothing".into());
        }
        let by_default = self.operations.is_none().then_some(Duration::from_secs(10));
        let cores = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Ok(Plan {
            target: self.url.clone(),
            profile,
            connections: self.connections as usize,
            threads: self.threads.map_or_else(cores, |threads| threads as usize),
            duration: self.duration.or(by_default),
            operations: self.operations,
            rate: self.rate,
            warmup: self.warmup,
            timeout: self.timeout,
            preload: self.preload,
            quiet: self.quiet,
        })
    }
}

/// A whole number and a unit: `250ms`, `10s`, `5m`, `1h`, `7d`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("a number and a unit are expected: 250ms, 10s, 5m, 1h, 7d".into()),
    };
    let number: u64 = number.parse().map_err(|_| "not a number of that unit".to_owned())?;
    // A century is as good as for ever, and keeps sums of times far from their range.
    let most = 100 * 365 * 86_400_000;
    let millis = number.checked_mul(millis).filter(|&millis| millis <= most);
    millis.map(Duration::from_millis).ok_or_else(|| "longer than a century".to_owned())
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.001..=10_000_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("a rate lies between 0.001 and 10,000,000 per second".into())
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let plan = match options.plan() {
        Ok(plan) => plan,
        Err(what) => Options::command().error(ErrorKind::ValueValidation, what).exit(),
    };
    let report = match loadtest::run(&plan) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("loadtest: {error}");
            return ExitCode::from(match error {
                Error::Unreachable { .. } => UNAVAILABLE,
                Error::Interrupted => INTERRUPTED,
                Error::Preload { .. } | Error::Threads(_) => FAILED,
            });
        }
    };
    let text = match options.output {
        Output::Table => report.to_string(),
        Output::Json => report.to_json() + "\n",
    };
    let printed = io::stdout().write_all(text.as_bytes());
    for complaint in report.complaints() {
        eprintln!("loadtest: {complaint}");
    }
    match printed {
        // A reader that has seen enough is no error.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("loadtest: cannot print the report: {error}");
            ExitCode::from(FAILED)
        }
        _ if report.interrupted() => ExitCode::from(INTERRUPTED),
        _ if report.failed() > 0 => ExitCode::from(FAILED),
        _ => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "10", "s", "-1s", "1.5s", "10 s", "10S", "99999999999999999999s", "99999d"]
        {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    fn plan(arguments: &[&str]) -> Result<Plan, String> {
        let all = ["loadtest"].iter().chain(arguments);
        Options::try_parse_from(all).map_err(|error| error.to_string())?.plan()
    }

    #[test]
    fn a_run_ends_after_ten_seconds_unless_told_otherwise() {
        let end = |arguments: &[&str]| plan(arguments).map(|plan| (plan.duration, plan.operations));
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(end(&[]), Ok((seconds(10), None)));
        assert_eq!(end(&["--operations", "5"]), Ok((None, Some(5))));
        assert_eq!(end(&["--duration", "3s"]), Ok((seconds(3), None)));
        assert_eq!(end(&["--duration", "3s", "--operations", "5"]), Ok((seconds(3), Some(5))));
    }

    #[test]
    fn puts_go_on_after_the_preload() {
        let first = |arguments: &[&str]| plan(arguments).unwrap().profile.first_version;
        assert_eq!(first(&["--versions", "7"]), 7);
        assert_eq!(first(&["--versions", "7", "--first-version", "0"]), 0);
    }

    #[test]
    fn the_scheme_chooses_redis() {
        let api = |arguments: &[&str]| plan(arguments).unwrap().profile.api;
        assert_eq!(api(&[]), Api::Root);
        assert_eq!(api(&["--api", "v1"]), Api::V1);
        assert_eq!(api(&["--url", "redis://db:1", "--api", "v1"]), Api::Redis);
    }

    #[test]
    fn nonsense_is_refused() {
        Options::command().debug_assert();
        for bad in [
            ["--keys", "0"],
            ["--rate", "0"],
            ["--rate", "NaN"],
            ["--duration", "0s"],
            ["--timeout", "0s"],
            ["--read-share", "2"],
            ["--url", "https://db"],
            ["--connections", "0"],
            ["--workload", "scan"],
        ] {
            assert!(plan(&bad).is_err(), "{bad:?}");
        }
        assert!(plan(&["--distribution", "zipf", "--zipf-theta", "1"]).is_err());
    }
}
