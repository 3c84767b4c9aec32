//! What the benchmarks measure on: made-up telemetry, the same at every run.

use std::fmt::Write;

use kvtimedb_engine::{Timestamp, ValueRef, WriteBatch};

#[cfg(feature = "peers")]
pub mod peers;

/// Points of time of one key are about so far apart, in microseconds.
pub const STEP_US: i64 = 1_000_000;

/// The first point of time.
pub const EPOCH_US: i64 = 1_700_000_000_000_000;

/// Operations per batch of a load.
pub const BATCH_OPS: usize = 1000;

/// Random enough for probes and jitter, and the same everywhere (`SplitMix64`; Steele, Lea and Flood,
/// OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    /// The next number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// `versions` points of each of `keys` sensors, in order of time: keys of 29 bytes, JSON values of
/// about 68.
#[derive(Clone, Copy, Debug)]
pub struct Telemetry {
    /// How many sensors.
    pub keys: u64,
    /// How many points each.
    pub versions: u64,
}

impl Telemetry {
    /// The key of a sensor.
    pub fn key(self, sensor: u64) -> Vec<u8> {
        format!("plant-07/line-03/sensor-{sensor:05}").into_bytes()
    }

    /// The timestamp of a sensor's point, with up to 50 ms of jitter.
    pub fn ts(self, sensor: u64, version: u64) -> Timestamp {
        let jitter_us = Rng::new(sensor << 32 | version).below(50_000) as i64;
        EPOCH_US + version as i64 * STEP_US + jitter_us
    }

    /// A point of time among the versions of any key.
    pub fn any_time(self, rng: &mut Rng) -> Timestamp {
        let span_us = self.versions.max(1) * STEP_US as u64;
        EPOCH_US + STEP_US + rng.below(span_us) as i64
    }

    /// How many points there are.
    pub fn points(self) -> u64 {
        self.keys * self.versions
    }

    /// All points, in batches of [`BATCH_OPS`].
    pub fn batches(self) -> impl Iterator<Item = WriteBatch> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let mut batch = WriteBatch::new();
            let mut value = String::new();
            while next < self.points() && batch.len() < BATCH_OPS {
                let (version, sensor) = (next / self.keys, next % self.keys);
                write_value(&mut value, sensor, version);
                let value = ValueRef::json(value.as_bytes());
                batch.put(&self.key(sensor), self.ts(sensor, version), value).ok()?;
                next += 1;
            }
            (!batch.is_empty()).then_some(batch)
        })
    }
}

/// Makes `out` the value of a sensor's point.
pub fn write_value(out: &mut String, sensor: u64, version: u64) {
    let mut rng = Rng::new(sensor.wrapping_mul(0x5851_f42d) ^ version);
    out.clear();
    let (t, h, p) = (1500 + rng.below(1500), rng.below(100), 99_000 + rng.below(3000));
    let status = ["ok", "ok", "ok", "degraded"][rng.below(4) as usize];
    // Writing to a string can't fail.
    let _ = write!(
        out,
        r#"{{"temp":{}.{:02},"humid":{h},"press":{p},"status":"{status}","n":{version}}}"#,
        t / 100,
        t % 100
    );
}
