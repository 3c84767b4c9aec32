//! Telemetry: JSON as sensors send it, once a second each.
//!
//! Each field is what an environmental sensor beside a machine reads: a truth that walks slowly, noise
//! of moving air and of the sensor on top of it (0.2 °C, 0.5 % of humidity, 0.2 hPa), and the digits that
//! such parts print. The status is one of the three words of OPC UA, and rarely changes.

use std::fmt::Write;

use kvtimedb_engine::{Timestamp, ValueRef, WriteBatch};

use super::{EPOCH_US, Points, STEP_US};
use crate::BATCH_OPS;
use crate::rng::Rng;

/// A point comes up to so much too early or too late, in microseconds: the scheduler of the gateway that
/// asks one sensor after the other.
pub(super) const JITTER_US: i64 = 50_000;

/// The resolution of most devices' clocks, in microseconds.
const MILLISECOND_US: i64 = 1_000;

/// `versions` points of each of `keys` sensors, in order of time: keys of 29 bytes, JSON values of
/// about 68, timestamps in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Telemetry {
    /// How many sensors, 100,000 at most: then all keys have one length.
    pub keys: u64,
    /// How many points each.
    pub versions: u64,
    /// The resolution of the clock that stamps them, in microseconds.
    tick_us: i64,
}

impl Telemetry {
    /// Stamped with the millisecond, as most devices do.
    pub const fn new(keys: u64, versions: u64) -> Self {
        Telemetry { keys, versions, tick_us: MILLISECOND_US }
    }

    /// The same, stamped with the microsecond.
    pub(super) const fn to_the_microsecond(self) -> Self {
        Telemetry { tick_us: 1, ..self }
    }

    /// The key of a sensor.
    pub fn key(self, sensor: u64) -> Vec<u8> {
        format!("plant-07/line-03/sensor-{sensor:05}").into_bytes()
    }

    /// The timestamp of a sensor's point. Sensors are asked in turn within the second.
    pub fn ts(self, sensor: u64, version: u64) -> Timestamp {
        let phase_us = sensor as i64 * STEP_US / self.keys as i64;
        let jitter_us = Rng::new(sensor << 32 | version).below(2 * JITTER_US as u64) as i64;
        let exact_us = EPOCH_US + version as i64 * STEP_US + phase_us + jitter_us - JITTER_US;
        exact_us - exact_us % self.tick_us
    }

    /// A point of time among the versions of any key.
    pub fn any_time(self, rng: &mut Rng) -> Timestamp {
        EPOCH_US + STEP_US + rng.below(self.versions.max(1) * STEP_US as u64) as i64
    }

    /// How many points there are.
    pub fn points(self) -> u64 {
        self.keys * self.versions
    }

    /// All points one after the other, made as they are asked for.
    pub fn stream(self) -> Stream {
        let sensors = (0..self.keys).map(Sensor::new).collect();
        Stream { of: self, sensors, next: 0 }
    }

    /// All points, in batches of [`BATCH_OPS`].
    pub fn batches(self) -> impl Iterator<Item = WriteBatch> {
        let keys: Vec<Vec<u8>> = (0..self.keys).map(|sensor| self.key(sensor)).collect();
        let (mut stream, mut value) = (self.stream(), String::new());
        std::iter::from_fn(move || {
            let mut batch = WriteBatch::new();
            while batch.len() < BATCH_OPS
                && let Some((sensor, ts)) = stream.next(&mut value)
            {
                batch.put(&keys[sensor], ts, ValueRef::json(value.as_bytes())).ok()?;
            }
            (!batch.is_empty()).then_some(batch)
        })
    }

    /// All points in memory.
    pub fn collect(self) -> Points {
        let mut points = Points::of_keys((0..self.keys).map(|sensor| self.key(sensor)).collect());
        let (mut stream, mut value) = (self.stream(), String::new());
        while let Some((sensor, ts)) = stream.next(&mut value) {
            points.push(sensor, ts, value.as_bytes());
        }
        points
    }
}

/// The points of a [`Telemetry`]; what it remembers is where each sensor's walk is.
#[derive(Clone, Debug)]
pub struct Stream {
    of: Telemetry,
    sensors: Vec<Sensor>,
    next: u64,
}

impl Stream {
    /// The next point's sensor and timestamp; `value` becomes its value.
    pub fn next(&mut self, value: &mut String) -> Option<(usize, Timestamp)> {
        if self.next == self.of.points() {
            return None;
        }
        let (version, sensor) = (self.next / self.of.keys, self.next % self.of.keys);
        self.next += 1;
        self.sensors[sensor as usize].write_next(value, version);
        Some((sensor as usize, self.of.ts(sensor, version)))
    }
}

/// A sensor's truth, without its noise.
#[derive(Clone, Debug)]
struct Sensor {
    rng: Rng,
    celsius: f64,
    humidity_percent: f64,
    pressure_hpa: f64,
    status: &'static str,
}

impl Sensor {
    fn new(sensor: u64) -> Self {
        let mut rng = Rng::new(sensor.wrapping_mul(0x5851_f42d_4c95_7f2d));
        Sensor {
            celsius: 22.0 + rng.noise(4.0),
            humidity_percent: 45.0 + rng.noise(8.0),
            pressure_hpa: 1008.0 + rng.noise(3.0),
            status: "good",
            rng,
        }
    }

    fn write_next(&mut self, out: &mut String, version: u64) {
        let rng = &mut self.rng;
        self.celsius += rng.noise(0.05);
        self.humidity_percent += rng.noise(0.1);
        self.pressure_hpa += rng.noise(0.05);
        if rng.once_in(500) {
            self.status = rng.choice(&["good", "good", "good", "uncertain", "bad"]);
        }
        let celsius = self.celsius + rng.noise(0.2);
        let humidity_percent = self.humidity_percent + rng.noise(0.5);
        let pressure_hpa = self.pressure_hpa + rng.noise(0.2);
        let status = self.status;
        out.clear();
        // Writing to a string can't fail.
        let _ = write!(
            out,
            r#"{{"temp":{celsius:.2},"humid":{humidity_percent:.2},"press":{pressure_hpa:.2},"#,
        );
        let _ = write!(out, r#""status":"{status}","n":{version}}}"#);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sensor_is_in_order_of_time_and_the_same_at_every_run() {
        let data = Telemetry::new(7, 50);
        let points = data.collect();
        assert_eq!(points.len(), 350);
        let again = data.collect();
        for i in 0..points.len() {
            assert_eq!(points.get(i), again.get(i));
            if i >= 7 {
                assert!(points.get(i - 7).ts < points.get(i).ts);
            }
        }
        assert!((60.0..76.0).contains(&points.value_bytes()), "{}", points.value_bytes());
    }
}
