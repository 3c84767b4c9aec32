//! Many floors at once, ours: `cargo bench -p kvtimedb-benches --bench asof -- [--rounds N] [--points N]
//! [--out FILE] [--dir DIR] [--export DIR] [--quick]`.
//!
//! With `--export` the points, the probes and the checksums of the answers are left in a directory, for
//! those that join tables; `benches/asof/run.sh` runs both.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use flate2::Crc;
use kvtimedb_benches::arguments::Arguments;
use kvtimedb_benches::data::{DATA_SETS, Data, Probe};
use kvtimedb_benches::figures::Recorder;
use kvtimedb_benches::machine::{machine, settle};
use kvtimedb_benches::{BATCH_OPS, Result, Rng, measures, ours};
use kvtimedb_engine::{Db, Durability, Timestamp, WriteBatch};
use serde_json::json;

/// How many floors are asked for at once.
const PROBES: usize = 1_000_000;

fn main() -> Result<()> {
    let arguments =
        Arguments::parse(&["--rounds", "--points", "--probes", "--out", "--dir", "--export"])?;
    let (points, probes) = if arguments.quick { (Some(40_000), 20_000) } else { (None, PROBES) };
    let points = arguments.number("--points")?.or(points);
    let rounds = arguments.number("--rounds")?.unwrap_or(if arguments.quick { 1 } else { 3 });
    let count = arguments.number("--probes")?.unwrap_or(probes);
    let data = DATA_SETS[0].make(points);
    let probes = data.uniform_probes(&mut Rng::new(0xa50f), count);
    let expected = Sums::of(
        probes.iter().map(|probe| data.floor(*probe).map(|point| (point.ts, point.value))),
    );
    if let Some(dir) = arguments.path("--export") {
        export(&data, &probes, &expected, &dir)?;
    }
    let home = tempfile::tempdir_in(arguments.dir())?;
    let db = load(&data, home.path())?;
    let mut recorder = Recorder::new(arguments.path("--out").as_deref())?;
    recorder.run("asof", &machine())?;
    let lookups: Vec<(&[u8], Timestamp)> =
        probes.iter().map(|(key, at)| (data.key(*key), *at)).collect();
    // Warm, and right, before anything is timed.
    let answers = ours::asof(&db, &lookups)?;
    let found =
        Sums::of((0..lookups.len()).map(|i| answers.get(i).map(|entry| (entry.ts, entry.value))));
    drop(answers);
    assert_eq!(found, expected, "answers");
    for round in 1..=rounds {
        recorder.begin_round(round);
        let mut figure = |who, began: Instant| {
            let rate = lookups.len() as f64 / began.elapsed().as_secs_f64();
            recorder.figure(data.set.name, measures::ASOF, who, rate)
        };
        let began = Instant::now();
        std::hint::black_box(ours::asof(&db, &lookups)?);
        figure(ours::NAME, began)?;
        let began = Instant::now();
        for (key, at) in &lookups {
            std::hint::black_box(db.floor(key, *at)?);
        }
        figure(ours::ONE_AT_A_TIME, began)?;
    }
    Ok(db.close()?)
}

fn load(data: &Data, dir: &Path) -> Result<Db> {
    let db = ours::open(dir, Durability::Buffered, 64 << 20, 512 << 20)?;
    for part in data.points.parts(BATCH_OPS) {
        let mut batch = WriteBatch::new();
        for point in part.iter() {
            batch.put(point.key, point.ts, data.set.value(point.value))?;
        }
        db.write(batch)?;
    }
    db.compact()?;
    settle();
    Ok(db)
}

/// What all answers come to, in the order of the probes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    found: u64,
    /// CRC-32 of the timestamps that matched, eight little-endian bytes each.
    timestamps: u32,
    /// CRC-32 of the values, end to end.
    values: u32,
}

impl Sums {
    fn of<'a>(answers: impl Iterator<Item = Option<(Timestamp, &'a [u8])>>) -> Sums {
        let (mut found, mut timestamps, mut values) = (0, Crc::new(), Crc::new());
        for (ts, value) in answers.flatten() {
            found += 1;
            timestamps.update(&ts.to_le_bytes());
            values.update(value);
        }
        Sums { found, timestamps: timestamps.sum(), values: values.sum() }
    }
}

/// Tab-separated `points.tsv` (key, ts, value; in order of time) and `probes.tsv` (key, ts), and
/// `expected.json`.
fn export(data: &Data, probes: &[Probe], expected: &Sums, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let create = |name: &str| File::create(dir.join(name)).map(BufWriter::new);
    let mut out = create("points.tsv")?;
    let all = data.points.part(0..data.points.len());
    let mut in_order: Vec<_> = all.iter().collect();
    in_order.sort_by_key(|point| point.ts);
    for point in in_order {
        let (key, value) = (str::from_utf8(point.key)?, str::from_utf8(point.value)?);
        writeln!(out, "{key}\t{}\t{value}", point.ts)?;
    }
    out.flush()?;
    let mut out = create("probes.tsv")?;
    for (key, at) in probes {
        writeln!(out, "{}\t{at}", str::from_utf8(data.key(*key))?)?;
    }
    out.flush()?;
    let Sums { found, timestamps, values } = expected;
    let expected = json!({"found": found, "timestamps": timestamps, "values": values});
    Ok(std::fs::write(dir.join("expected.json"), expected.to_string())?)
}
