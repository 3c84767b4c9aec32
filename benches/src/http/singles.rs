//! One request at a time on each of some connections, as fast as answers come.

use std::path::Path;
use std::time::{Duration, Instant};

use kvtimedb_tools::loadtest::{self, Api, Distribution, Plan, Profile, Report, Workload};

use super::measures::{
    BUFFERED, DURABLE, GETS, NOOP, ORIGINAL, OURS_V1, REDIS, SINGLES_DATA, Single,
};
use super::servers::{Programs, Server};
use crate::figures::Recorder;
use crate::{Result, ours};

/// Keys, and versions of each that are there before anything is measured.
const KEYS: u64 = 10_000;
const VERSIONS: u64 = 10;

/// Keys of the original, which would take minutes for as many as the others have.
const ORIGINAL_KEYS: u64 = 200;

/// What puts of one measurement leave to those of the next.
const VERSIONS_APART: u64 = 1_000_000;

/// Values are about so long.
const VALUE_BYTES: usize = 100;

/// Threads of the client.
const THREADS: usize = 2;

/// How long is measured, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How often everything is measured.
    pub rounds: usize,
    /// Of one measurement.
    pub duration: Duration,
    /// Before each.
    pub warmup: Duration,
}

/// Someone who answers, and by which API.
struct Contender<'s> {
    who: &'static str,
    server: &'s Server,
    api: Api,
}

/// Everyone for every row; those of Redis and of the original are there if they are to be measured.
struct Field {
    noop: Server,
    /// Ours with data in its tables, which is only read.
    read: Server,
    buffered: Server,
    durable: Server,
    redis: Option<Server>,
    redis_durable: Option<Server>,
    original: Option<Server>,
}

/// Measures all rows, round by round, each by everyone before the next.
pub fn run(programs: &Programs, dir: &Path, effort: Effort, recorder: &mut Recorder) -> Result<()> {
    let field = Field::start(programs, dir)?;
    let mut first_version = VERSIONS;
    for round in 1..=effort.rounds {
        recorder.begin_round(round);
        let rows = [
            (Workload::Floor, &GETS, field.readers()),
            (Workload::Put, &BUFFERED, field.buffered()),
            (Workload::Put, &DURABLE, field.durable()),
        ];
        for (workload, rows, mut contenders) in rows {
            // Whoever comes first has the caches of someone else before it: by turns.
            let count = contenders.len();
            contenders.rotate_left(round % count);
            for single in rows {
                for contender in &contenders {
                    first_version += VERSIONS_APART;
                    let profile = contender.profile(workload, first_version);
                    measure(contender, single, profile, effort, recorder)?;
                }
            }
        }
    }
    Ok(())
}

impl Field {
    fn start(programs: &Programs, dir: &Path) -> Result<Field> {
        let home = dir.join("read");
        let loading = programs.kvtimedb(&home, "buffered")?;
        preload(&Contender { who: ours::NAME, server: &loading, api: Api::Root })?;
        // What was loaded is to be read from tables.
        loading.stop()?;
        let field = Field {
            noop: Programs::noop(&dir.join("noop"))?,
            read: programs.kvtimedb(&home, "buffered")?,
            buffered: programs.kvtimedb(&dir.join("buffered"), "buffered")?,
            durable: programs.kvtimedb(&dir.join("durable"), "sync")?,
            redis: programs.redis(&dir.join("redis"), "everysec")?,
            redis_durable: programs.redis(&dir.join("redis-durable"), "always")?,
            original: programs.original(&dir.join("original"))?,
        };
        for contender in field.readers() {
            if matches!(contender.who, REDIS | ORIGINAL) {
                preload(&contender)?;
            }
        }
        Ok(field)
    }

    fn contenders<'s>(&'s self, own: &'s Server, redis: Option<&'s Server>) -> Vec<Contender<'s>> {
        let contender = |who, server, api| Contender { who, server, api };
        let mut all = vec![
            contender(NOOP, &self.noop, Api::Root),
            contender(ours::NAME, own, Api::Root),
            contender(OURS_V1, own, Api::V1),
        ];
        all.extend(redis.map(|server| contender(REDIS, server, Api::Redis)));
        all.extend(self.original.as_ref().map(|server| contender(ORIGINAL, server, Api::Body)));
        all
    }

    fn readers(&self) -> Vec<Contender<'_>> {
        self.contenders(&self.read, self.redis.as_ref())
    }

    fn buffered(&self) -> Vec<Contender<'_>> {
        self.contenders(&self.buffered, self.redis.as_ref())
    }

    fn durable(&self) -> Vec<Contender<'_>> {
        self.contenders(&self.durable, self.redis_durable.as_ref())
    }
}

impl Contender<'_> {
    fn profile(&self, workload: Workload, first_version: u64) -> Profile {
        Profile {
            api: self.api,
            workload,
            keys: if self.who == ORIGINAL { ORIGINAL_KEYS } else { KEYS },
            versions: VERSIONS,
            first_version,
            distribution: Distribution::Uniform,
            read_share: 0.0,
            value_bytes: VALUE_BYTES,
            seed: first_version,
        }
    }

    fn plan(&self, profile: Profile, connections: usize) -> Result<Plan> {
        Ok(Plan {
            target: self.server.target()?,
            profile,
            connections,
            threads: THREADS,
            duration: None,
            operations: None,
            rate: None,
            warmup: Duration::ZERO,
            timeout: Duration::from_secs(30),
            preload: false,
            quiet: true,
        })
    }
}

/// Writes the versions that floors will ask for.
fn preload(contender: &Contender<'_>) -> Result<()> {
    let profile = contender.profile(Workload::Put, VERSIONS);
    let plan = Plan { preload: true, operations: Some(0), ..contender.plan(profile, 16)? };
    uninterrupted(&loadtest::run(&plan)?)
}

fn measure(
    contender: &Contender<'_>,
    single: &Single,
    profile: Profile,
    effort: Effort,
    recorder: &mut Recorder,
) -> Result<()> {
    let (began, cpu) = (Instant::now(), contender.server.cpu_seconds());
    let plan = Plan {
        duration: Some(effort.duration),
        warmup: effort.warmup,
        ..contender.plan(profile, single.connections)?
    };
    let report = loadtest::run(&plan)?;
    uninterrupted(&report)?;
    // A figure of failures would be a lie, and one that misses is seen in the report.
    if !report.complaints().is_empty() && contender.who != NOOP {
        eprintln!("{}, {}: {:?}", contender.who, single.rate.name, report.complaints());
        return Ok(());
    }
    let row = report.total();
    let mut figure = |measure, value| recorder.figure(SINGLES_DATA, measure, contender.who, value);
    figure(single.rate, row.rate)?;
    figure(single.p50, row.p50_us)?;
    figure(single.p99, row.p99_us)?;
    if let Some((before, after)) = cpu.zip(contender.server.cpu_seconds()) {
        // The warm-up computes as much for a request.
        let share = (after - before) / began.elapsed().as_secs_f64();
        figure(single.cpu, share * 1e6 / row.rate)?;
    }
    Ok(())
}

fn uninterrupted(report: &Report) -> Result<()> {
    if report.interrupted() { Err("interrupted".into()) } else { Ok(()) }
}
