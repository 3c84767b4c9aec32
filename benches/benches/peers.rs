//! Ours beside other databases, in one run: `cargo bench -p kvtimedb-benches --features peers --bench
//! peers -- [--keys N] [--versions N] [--rounds N] [--only ours,theirs] [--out FILE] [--dir DIR]`.
//!
//! The same data and the same questions for all; one thread, except where a measure says otherwise. In
//! each round every step is made by all of them, one after the other, before the next step, and each
//! round begins with another one, so that a machine that drifts wrongs nobody. Nothing is timed before
//! its answers were compared with a model.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kvtimedb_benches::peers::{
    Kind, Measure, Peer, Point, Reader, Report, Result, Writes, check, disk_bytes, kinds,
    missing_key, settle,
};
use kvtimedb_benches::{BATCH_OPS, Rng, Telemetry};
use kvtimedb_engine::Timestamp;

/// Floors a figure.
const PROBES: usize = 50_000;

/// Histories a figure.
const HISTORIES: usize = 3_000;

/// Single writes a figure, buffered.
const PUTS: usize = 20_000;

/// Single writes of each thread a figure, durable.
const DURABLE_PUTS: usize = 200;

fn main() -> Result<()> {
    let arguments = Arguments::parse()?;
    let data = arguments.data;
    let points = Point::all(data);
    let mut report = Report::new(&arguments.kinds);
    let mut markdown = String::new();
    for round in 1..=arguments.rounds {
        eprintln!("round {round} of {}", arguments.rounds);
        Round::new(&arguments, round)?.run(&points, &mut report)?;
        markdown = report.to_markdown(&setting(data, round));
        // After each round, so that a run that is cut short leaves what it has.
        if let Some(out) = &arguments.out {
            std::fs::write(out, &markdown)?;
        }
    }
    println!("{markdown}");
    Ok(())
}

fn setting(data: Telemetry, rounds: usize) -> String {
    format!(
        "{} points: {} keys of 29 bytes × {} versions in order of time, JSON values of about 68 \
         bytes. Rounds: {rounds}. {PROBES} floors a figure after as many to warm up.",
        data.points(),
        data.keys,
        data.versions,
    )
}

struct Arguments {
    data: Telemetry,
    rounds: usize,
    kinds: Vec<Kind>,
    out: Option<PathBuf>,
    dir: PathBuf,
}

impl Arguments {
    fn parse() -> Result<Arguments> {
        let mut parsed = Arguments {
            data: Telemetry { keys: 10_000, versions: 100 },
            rounds: 3,
            kinds: kinds().to_vec(),
            out: None,
            dir: std::env::temp_dir(),
        };
        // Cargo runs a benchmark in its package and says `--bench`; paths are meant from the workspace.
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name}: a value is missing"))?;
            match name.as_str() {
                "--keys" => parsed.data.keys = value.parse()?,
                "--versions" => parsed.data.versions = value.parse()?,
                "--rounds" => parsed.rounds = value.parse()?,
                "--out" => parsed.out = Some(root.join(value)),
                "--dir" => parsed.dir = root.join(value),
                "--only" => {
                    let names: Vec<&str> = value.split(',').collect();
                    parsed
                        .kinds
                        .retain(|kind| names.iter().any(|n| n.eq_ignore_ascii_case(kind.name)));
                }
                _ => return Err(format!("{name}: no such argument").into()),
            }
        }
        let Arguments { data, rounds, kinds, .. } = &parsed;
        // Keys of more than five digits would be longer than the others.
        let accepted = (1..=100_000).contains(&data.keys) && data.versions > 0;
        if !accepted || *rounds == 0 || kinds.is_empty() {
            return Err("keys are 1 to 100000; versions, rounds and databases at least 1".into());
        }
        Ok(parsed)
    }
}

/// One round: a fresh directory for each database, filled, asked, compacted, asked, opened again.
struct Round<'a> {
    data: Telemetry,
    kinds: &'a [Kind],
    /// Who comes when.
    order: Vec<usize>,
    dir: tempfile::TempDir,
    /// The same in every round would warm the caches for the next.
    seed: u64,
}

type Probe = (Vec<u8>, Timestamp);

impl<'a> Round<'a> {
    fn new(arguments: &'a Arguments, round: usize) -> Result<Self> {
        let mut order: Vec<usize> = (0..arguments.kinds.len()).collect();
        order.rotate_left(round % arguments.kinds.len());
        Ok(Round {
            data: arguments.data,
            kinds: &arguments.kinds,
            order,
            dir: tempfile::tempdir_in(&arguments.dir)?,
            seed: round as u64,
        })
    }

    fn run(&self, points: &[Point], report: &mut Report) -> Result<()> {
        let mut peers = self.load(points, report)?;
        self.floors(&peers, AFTER_LOAD, report)?;
        self.compact(&mut peers, report)?;
        self.floors(&peers, COMPACTED, report)?;
        self.held_views(&peers, report)?;
        self.histories(&peers, report)?;
        self.reopen(peers, report)?;
        self.single_puts(points, report)?;
        self.durable_puts(points, 1, Measure::higher("durable puts, 1 thread, a second"), report)?;
        self.durable_puts(points, 8, Measure::higher("durable puts, 8 threads, a second"), report)
    }

    /// An empty directory for one database.
    fn home(&self, index: usize, purpose: &str) -> Result<PathBuf> {
        let home = self.dir.path().join(format!("{}-{purpose}", self.kinds[index].name));
        std::fs::create_dir_all(&home)?;
        Ok(home)
    }

    /// The opened and filled databases, in [`Round::order`].
    fn load(&self, points: &[Point], report: &mut Report) -> Result<Vec<Box<dyn Peer>>> {
        let mut peers = Vec::new();
        for &index in &self.order {
            let peer = (self.kinds[index].open)(&self.home(index, "load")?, Writes::Buffered)?;
            let began = Instant::now();
            for batch in points.chunks(BATCH_OPS) {
                peer.write(batch)?;
            }
            let rate = points.len() as f64 / began.elapsed().as_secs_f64();
            report.add(Measure::higher("ingest in batches of 1,000, points/s"), index, rate);
            let rested = settle().saturating_duration_since(began);
            let rate = points.len() as f64 / rested.as_secs_f64();
            report.add(Measure::higher("the same until the background rests"), index, rate);
            self.check(index, peer.as_ref())?;
            peers.push(peer);
        }
        Ok(peers)
    }

    fn check(&self, index: usize, peer: &dyn Peer) -> Result<()> {
        let name = self.kinds[index].name;
        check(self.data, peer.reader()?.as_mut()).map_err(|error| format!("{name}: {error}"))?;
        if let Some(mut view) = peer.held_view()? {
            check(self.data, view.as_mut()).map_err(|e| format!("{name}, held view: {e}"))?;
        }
        Ok(())
    }

    fn floors(
        &self,
        peers: &[Box<dyn Peer>],
        measures: [Measure; 3],
        report: &mut Report,
    ) -> Result<()> {
        for (measure, probes) in measures.into_iter().zip(self.probes()) {
            for (&index, peer) in self.order.iter().zip(peers) {
                report.add(measure, index, time_floors(peer.reader()?.as_mut(), &probes)?);
            }
        }
        Ok(())
    }

    /// Uniform in time, the latest, and of keys that aren't there.
    fn probes(&self) -> [Vec<Probe>; 3] {
        let data = self.data;
        let mut rng = Rng::new(self.seed + 1);
        let mut make = |probe: fn(Telemetry, &mut Rng) -> Probe| -> Vec<Probe> {
            (0..PROBES).map(|_| probe(data, &mut rng)).collect()
        };
        [
            make(|data, rng| (data.key(rng.below(data.keys)), data.any_time(rng))),
            make(|data, rng| (data.key(rng.below(data.keys)), Timestamp::MAX)),
            make(|data, rng| (missing_key(data, rng), data.any_time(rng))),
        ]
    }

    fn compact(&self, peers: &mut Vec<Box<dyn Peer>>, report: &mut Report) -> Result<()> {
        let loaded = std::mem::take(peers);
        for (&index, peer) in self.order.iter().zip(loaded) {
            let began = Instant::now();
            let peer = peer.compact()?;
            report.add(Measure::lower("compaction, s"), index, began.elapsed().as_secs_f64());
            settle();
            self.check(index, peer.as_ref())?;
            peers.push(peer);
        }
        Ok(())
    }

    fn held_views(&self, peers: &[Box<dyn Peer>], report: &mut Report) -> Result<()> {
        let [uniform, ..] = self.probes();
        for (&index, peer) in self.order.iter().zip(peers) {
            let mut reader = match peer.held_view()? {
                Some(view) => view,
                None => peer.reader()?,
            };
            report.add(HELD_VIEW, index, time_floors(reader.as_mut(), &uniform)?);
        }
        Ok(())
    }

    fn histories(&self, peers: &[Box<dyn Peer>], report: &mut Report) -> Result<()> {
        let mut rng = Rng::new(self.seed + 2);
        let keys: Vec<_> =
            (0..HISTORIES).map(|_| self.data.key(rng.below(self.data.keys))).collect();
        for (&index, peer) in self.order.iter().zip(peers) {
            let mut reader = peer.reader()?;
            let mut pass = || -> Result<Duration> {
                let began = Instant::now();
                for key in &keys {
                    reader.history(key, &mut |ts, value| {
                        black_box((ts, value));
                    })?;
                }
                Ok(began.elapsed())
            };
            pass()?;
            let each_us = pass()?.as_secs_f64() * 1e6 / HISTORIES as f64;
            report.add(Measure::lower("history of all versions, compacted, µs"), index, each_us);
        }
        Ok(())
    }

    fn reopen(&self, peers: Vec<Box<dyn Peer>>, report: &mut Report) -> Result<()> {
        for (&index, peer) in self.order.iter().zip(peers) {
            peer.close()?;
            let home = self.home(index, "load")?;
            let each = disk_bytes(&home)? as f64 / self.data.points() as f64;
            report.add(Measure::lower("bytes a point on disk, compacted"), index, each);
            let began = Instant::now();
            let peer = (self.kinds[index].open)(&home, Writes::Buffered)?;
            peer.reader()?.floor(&self.data.key(0), Timestamp::MAX)?;
            let measure = Measure::lower("open after a clean close, first floor included, ms");
            report.add(measure, index, began.elapsed().as_secs_f64() * 1e3);
            self.check(index, peer.as_ref())?;
            peer.close()?;
        }
        Ok(())
    }

    fn single_puts(&self, points: &[Point], report: &mut Report) -> Result<()> {
        let points = &points[..points.len().min(PUTS)];
        for &index in &self.order {
            let peer = (self.kinds[index].open)(&self.home(index, "puts")?, Writes::Buffered)?;
            let began = Instant::now();
            for point in points {
                peer.write(std::slice::from_ref(point))?;
            }
            let each_us = began.elapsed().as_secs_f64() * 1e6 / points.len() as f64;
            report.add(Measure::lower("single put, buffered, µs"), index, each_us);
            peer.close()?;
        }
        Ok(())
    }

    fn durable_puts(
        &self,
        points: &[Point],
        threads: usize,
        measure: Measure,
        report: &mut Report,
    ) -> Result<()> {
        let parts: Vec<&[Point]> = points.chunks(DURABLE_PUTS).take(threads).collect();
        for &index in &self.order {
            let home = self.home(index, &format!("durable-{threads}"))?;
            let peer = (self.kinds[index].open)(&home, Writes::Durable)?;
            let began = Instant::now();
            std::thread::scope(|scope| -> Result<()> {
                let write = |part: &[Point]| -> Result<()> {
                    part.iter().try_for_each(|point| peer.write(std::slice::from_ref(point)))
                };
                let writers: Vec<_> =
                    parts.iter().map(|part| scope.spawn(move || write(part))).collect();
                writers.into_iter().try_for_each(|w| w.join().expect("a writer that ends"))
            })?;
            let puts: usize = parts.iter().map(|part| part.len()).sum();
            report.add(measure, index, puts as f64 / began.elapsed().as_secs_f64());
            peer.close()?;
        }
        Ok(())
    }
}

const AFTER_LOAD: [Measure; 3] = [
    Measure::lower("floor, after the load, uniform in time, µs"),
    Measure::lower("floor, after the load, latest, µs"),
    Measure::lower("floor, after the load, missing key, µs"),
];
const COMPACTED: [Measure; 3] = [
    Measure::lower("floor, compacted, uniform in time, µs"),
    Measure::lower("floor, compacted, latest, µs"),
    Measure::lower("floor, compacted, missing key, µs"),
];
const HELD_VIEW: Measure =
    Measure::lower("floor, compacted, uniform in time, over one held view of theirs, µs");

/// Microseconds a floor, in a second pass over the same probes.
fn time_floors(reader: &mut dyn Reader, probes: &[Probe]) -> Result<f64> {
    let mut pass = || -> Result<Duration> {
        let began = Instant::now();
        for (key, at) in probes {
            black_box(reader.floor(key, *at)?);
        }
        Ok(began.elapsed())
    };
    pass()?;
    Ok(pass()?.as_secs_f64() * 1e6 / probes.len() as f64)
}
