//! Telemetry whose every field is drawn anew: what no codec can make smaller than its entropy.

use std::fmt::Write;

use super::telemetry::JITTER_US;
use super::{Points, Telemetry};
use crate::rng::Rng;

/// The hundredths of a degree, the percents and the pascals from which is drawn, and the status words.
const FIELDS: [u64; 3] = [1500, 100, 3000];
const STATUS: [&str; 4] = ["ok", "ok", "ok", "degraded"];

/// As many points of as many sensors as `shape` has.
pub(super) fn points(shape: Telemetry) -> Points {
    let mut points = Points::of_keys((0..shape.keys).map(|sensor| shape.key(sensor)).collect());
    let mut value = String::new();
    for version in 0..shape.versions {
        for sensor in 0..shape.keys {
            write_value(&mut value, sensor, version);
            points.push(sensor as usize, shape.ts(sensor, version), value.as_bytes());
        }
    }
    points
}

fn write_value(out: &mut String, sensor: u64, version: u64) {
    let mut rng = Rng::new(sensor.wrapping_mul(0x5851_f42d) ^ version);
    let [t, h, p] = FIELDS.map(|bound| rng.below(bound));
    let (t, p, status) = (1500 + t, 99_000 + p, rng.choice(&STATUS));
    out.clear();
    // Writing to a string can't fail.
    let _ = write!(
        out,
        r#"{{"temp":{}.{:02},"humid":{h},"press":{p},"status":"{status}","n":{version}}}"#,
        t / 100,
        t % 100
    );
}

/// The entropy of a point, in bytes: of its fields and of its timestamp's jitter. The rest of it
/// follows from the point before.
pub fn entropy_bytes() -> f64 {
    let fields: f64 = FIELDS.iter().map(|bound| (*bound as f64).log2()).sum();
    let degraded = 0.25f64;
    let status = -degraded * degraded.log2() - (1.0 - degraded) * (1.0 - degraded).log2();
    let jitter = (2.0 * JITTER_US as f64).log2();
    (fields + status + jitter) / 8.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entropy_is_the_sum_of_what_is_drawn() {
        // 10.55 + 6.64 + 11.55 + 0.81 bits, and 16.61 of jitter.
        assert!((entropy_bytes() - 5.77).abs() < 0.01, "{}", entropy_bytes());
    }
}
