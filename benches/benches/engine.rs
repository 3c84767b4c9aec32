//! The engine's operations, each by itself. `cargo bench -p kvtimedb-benches --bench engine`.
//!
//! Writes are buffered here: what a sync costs is a matter of the disk, see `docs/benchmarks.md`.
#![allow(missing_docs)]

use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kvtimedb_benches::data::Telemetry;
use kvtimedb_benches::{BATCH_OPS, Rng};
use kvtimedb_engine::{Db, Durability, Options, Timestamp, ValueRef};

const DATA: Telemetry = Telemetry::new(10_000, 100);
const SMALL: Telemetry = Telemetry::new(1_000, 100);

/// All values fit the cache once they are decompressed: a warm database.
const WARM_BYTES: usize = 512 << 20;

fn options() -> Options {
    Options { durability: Durability::Buffered, cache_bytes_max: WARM_BYTES, ..Options::default() }
}

fn load(dir: &Path, data: Telemetry) -> Db {
    let db = Db::open(dir, options()).expect("an empty directory");
    for batch in data.batches() {
        db.write(batch).expect("a write");
    }
    db
}

fn put(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let db = Db::open(dir.path(), options()).expect("an empty directory");
    let mut group = c.benchmark_group("put");
    group.throughput(Throughput::Elements(1));
    let mut i = 0;
    group.bench_function("single, buffered", |b| {
        b.iter(|| {
            i += 1;
            let (sensor, version) = (i % DATA.keys, i / DATA.keys);
            let value = ValueRef::json(br#"{"temp":21.53,"humid":40,"status":"ok"}"#);
            db.put(&DATA.key(sensor), DATA.ts(sensor, version), value).expect("a put")
        });
    });
    group.throughput(Throughput::Elements(BATCH_OPS as u64));
    let endless = Telemetry::new(10_000, u64::MAX / 10_000);
    let mut batches = endless.batches();
    group.bench_function("batch of 1000, buffered", |b| {
        b.iter_batched(
            || batches.next().expect("a batch"),
            |batch| db.write(batch).expect("a write"),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn floor(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut db = load(dir.path(), DATA);
    for state in ["after the load", "compacted", "compacted, no cache of values"] {
        match state {
            "after the load" => {}
            "compacted" => db.compact().expect("a compaction"),
            _ => {
                db.close().expect("a close");
                let options = Options { cache_bytes_max: 0, ..options() };
                db = Db::open(dir.path(), options).expect("an open");
            }
        }
        let mut group = c.benchmark_group(format!("floor, {state}"));
        let mut rng = Rng::new(1);
        let mut bench = |name: &str, probe: fn(&mut Rng) -> (Vec<u8>, Timestamp)| {
            let probes: Vec<_> = (0..200_000).map(|_| probe(&mut rng)).collect();
            // Once through, so that what fits the cache is in it.
            for (key, at) in &probes {
                db.floor(key, *at).expect("a floor");
            }
            let mut next = probes.iter().cycle();
            group.bench_function(name, |b| {
                b.iter(|| {
                    let (key, at) = next.next().expect("a cycle");
                    black_box(db.floor(key, *at)).expect("a floor")
                });
            });
        };
        bench("historical", |r| (DATA.key(r.below(DATA.keys)), DATA.any_time(r)));
        bench("recent", |r| (DATA.key(r.below(DATA.keys)), Timestamp::MAX));
        bench("missing key", |r| (DATA.key(DATA.keys + r.below(90_000)), Timestamp::MAX));
        group.finish();
    }
}

fn flush(c: &mut Criterion) {
    let mut group = c.benchmark_group("flush");
    group.sample_size(10);
    group.throughput(Throughput::Elements(SMALL.points()));
    group.bench_function("100k points", |b| {
        b.iter_batched(
            || {
                let dir = tempfile::tempdir().expect("a directory");
                let db = load(dir.path(), SMALL);
                (dir, db)
            },
            |(dir, db)| {
                db.flush().expect("a flush");
                (dir, db)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn open(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let db = load(dir.path(), DATA);
    db.compact().expect("a compaction");
    db.close().expect("a close");
    drop(db);
    let mut group = c.benchmark_group("open");
    group.sample_size(20);
    group.bench_function("1M points, closed cleanly", |b| {
        b.iter(|| Db::open(dir.path(), options()).expect("an open").close().expect("a close"));
    });
    group.finish();
}

criterion_group!(benches, put, floor, flush, open);
criterion_main!(benches);
