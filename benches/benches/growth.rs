//! What ours costs as it grows: `cargo bench -p kvtimedb-benches --bench growth -- [--sizes 1,10,50]
//! [--out FILE] [--dir DIR] [--quick]`, sizes in millions of points.
//!
//! The points are made as they are written, so that the memory seen is the database's own.

use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use kvtimedb_benches::arguments::Arguments;
use kvtimedb_benches::data::{DATA_SETS, Telemetry};
use kvtimedb_benches::figures::{DataNote, Recorder};
use kvtimedb_benches::machine::{anonymous_bytes, disk_bytes, machine, settle};
use kvtimedb_benches::{BATCH_OPS, Result, Rng, measures, ours};
use kvtimedb_engine::{Db, Durability, Timestamp, ValueRef, WriteBatch};

/// Sensors; a larger size is a longer time.
const KEYS: u64 = 10_000;

/// Floors a figure; as many before them to warm up.
const PROBES: usize = 50_000;

/// Figures of each measure.
const FIGURES: usize = 3;

/// One sensor in so many is remembered, to compare answers with: few, since that is memory too.
const REMEMBERED: usize = 2_500;

/// The default of the engine.
const MEMTABLE_BYTES: usize = 64 << 20;

/// The default of the engine.
const CACHE_BYTES: usize = 64 << 20;

fn main() -> Result<()> {
    let arguments = Arguments::parse(&["--sizes", "--out", "--dir"])?;
    let sizes: Vec<&str> = arguments.text("--sizes").unwrap_or("1,10,50").split(',').collect();
    if sizes.len() > 1 {
        // Each in a process of its own, whose memory no other has touched.
        for size in sizes {
            let mut command = Command::new(std::env::current_exe()?);
            let status = command.args(std::env::args().skip(1)).args(["--sizes", size]).status()?;
            if !status.success() {
                return Err(format!("size {size}: {status}").into());
            }
        }
        return Ok(());
    }
    let mut recorder = Recorder::new(arguments.path("--out").as_deref())?;
    recorder.run("growth", &machine())?;
    let millions: u64 = sizes[0].parse()?;
    let scale = if arguments.quick { 100 } else { 1 };
    let data = Telemetry::new(KEYS / scale, millions * 1_000_000 / KEYS);
    let name = format!("growth-{millions}M{}", if scale == 1 { "" } else { "/100" });
    let home = tempfile::tempdir_in(arguments.dir())?;
    grow(&name, data, home.path(), &mut recorder)
}

fn grow(name: &str, data: Telemetry, dir: &Path, recorder: &mut Recorder) -> Result<()> {
    let before = anonymous_bytes();
    let open = || ours::open(dir, Durability::Buffered, MEMTABLE_BYTES, CACHE_BYTES);
    let db = open()?;
    let began = Instant::now();
    let (model, value_bytes) = load(&db, data)?;
    let rate = data.points() as f64 / began.elapsed().as_secs_f64();
    recorder.note(&DataNote {
        name: name.to_owned(),
        about: format!("{}, over a longer time", DATA_SETS[0].about),
        points: data.points(),
        keys: data.keys,
        key_bytes: data.key(0).len() as f64,
        value_bytes,
        entropy_bytes: None,
    })?;
    recorder.figure(name, measures::INGEST, ours::NAME, rate)?;
    db.flush()?;
    settle();
    let metrics = db.metrics();
    let (flushed, merged) =
        (metrics.flush_bytes_written.get(), metrics.compaction_bytes_written.get());
    let amplification = (flushed + merged) as f64 / flushed as f64;
    recorder.figure(name, measures::WRITE_AMPLIFICATION, ours::NAME, amplification)?;
    for figure in 1..=FIGURES {
        recorder.begin_round(figure);
        floors(name, data, &db, measures::LOADED_UNIFORM, recorder)?;
    }
    check(data, &model, &db)?;
    // What the load left behind counts: nothing is in memtables now.
    if let (Some(before), Some(after)) = (before, anonymous_bytes()) {
        let mib = after.saturating_sub(before) as f64 / f64::from(1 << 20);
        recorder.figure(name, measures::MEMORY, ours::NAME, mib)?;
    }
    let began = Instant::now();
    db.compact()?;
    let seconds = began.elapsed().as_secs_f64();
    recorder.figure(name, measures::COMPACTION, ours::NAME, seconds)?;
    settle();
    for figure in 1..=FIGURES {
        recorder.begin_round(figure);
        floors(name, data, &db, measures::UNIFORM, recorder)?;
    }
    check(data, &model, &db)?;
    db.close()?;
    drop(db);
    let each = disk_bytes(dir, "")? as f64 / data.points() as f64;
    recorder.figure(name, measures::BYTES, ours::NAME, each)?;
    for figure in 1..=FIGURES {
        recorder.begin_round(figure);
        let began = Instant::now();
        let db = open()?;
        db.latest(&data.key(0))?;
        recorder.figure(name, measures::REOPEN, ours::NAME, began.elapsed().as_secs_f64() * 1e3)?;
        check(data, &model, &db)?;
        db.close()?;
    }
    Ok(())
}

/// All versions of a sensor, ascending.
type History = (usize, Vec<(Timestamp, Vec<u8>)>);

/// Writes all points; returns what some sensors sent, and the mean length of a value.
fn load(db: &Db, data: Telemetry) -> Result<(Vec<History>, f64)> {
    let keys: Vec<Vec<u8>> = (0..data.keys).map(|sensor| data.key(sensor)).collect();
    let mut model: Vec<History> =
        (0..keys.len()).step_by(REMEMBERED).map(|sensor| (sensor, Vec::new())).collect();
    let (mut stream, mut value, mut bytes) = (data.stream(), String::new(), 0);
    let mut batch = WriteBatch::new();
    while let Some((sensor, ts)) = stream.next(&mut value) {
        batch.put(&keys[sensor], ts, ValueRef::json(value.as_bytes()))?;
        bytes += value.len();
        if sensor % REMEMBERED == 0 {
            model[sensor / REMEMBERED].1.push((ts, value.clone().into_bytes()));
        }
        if batch.len() == BATCH_OPS {
            db.write(std::mem::take(&mut batch))?;
        }
    }
    db.write(batch)?;
    Ok((model, bytes as f64 / data.points() as f64))
}

fn floors(
    name: &str,
    data: Telemetry,
    db: &Db,
    measure: measures::Measure,
    recorder: &mut Recorder,
) -> Result<()> {
    let mut rng = Rng::new(1);
    let probes: Vec<_> =
        (0..PROBES).map(|_| (data.key(rng.below(data.keys)), data.any_time(&mut rng))).collect();
    let mut seconds = 0.0;
    for _ in 0..2 {
        let began = Instant::now();
        for (key, at) in &probes {
            black_box(db.floor(key, *at)?);
        }
        seconds = began.elapsed().as_secs_f64();
    }
    recorder.figure(name, measure, ours::NAME, seconds * 1e6 / PROBES as f64)
}

/// Compares the floors of the sensors that are remembered, at moments of their own and any others.
fn check(data: Telemetry, model: &[History], db: &Db) -> Result<()> {
    let mut rng = Rng::new(2);
    for (sensor, history) in model {
        for i in 0..200 {
            let at = match i % 4 {
                0 => history[rng.below(history.len() as u64) as usize].0,
                _ => data.any_time(&mut rng),
            };
            let after = history.partition_point(|(ts, _)| *ts <= at);
            let expected = after.checked_sub(1).map(|newest| &history[newest]);
            let found = db.floor(&data.key(*sensor as u64), at)?;
            let found = found.map(|entry| (entry.ts, entry.value));
            if found.as_ref() != expected {
                return Err(format!("sensor {sensor} at {at}: {found:?}, not {expected:?}").into());
            }
        }
    }
    Ok(())
}
