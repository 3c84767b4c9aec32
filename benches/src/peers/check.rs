//! Whether a database answers as it should: no figure of one that doesn't means anything.

use kvtimedb_engine::Timestamp;

use super::{Reader, Result};
use crate::{EPOCH_US, Rng, Telemetry, write_value};

/// How many floors are compared, of each sort.
const FLOORS: u64 = 2_000;

/// How many histories are compared.
const HISTORIES: u64 = 50;

/// A key that has no versions, but lies among those that do and is as long as they are.
pub fn missing_key(data: Telemetry, rng: &mut Rng) -> Vec<u8> {
    let mut key = data.key(rng.below(data.keys));
    if let Some(last) = key.last_mut() {
        *last = b'a' + rng.below(26) as u8;
    }
    key
}

/// Compares a sample of answers with what `data` holds; the error names the first that differs.
pub fn check(data: Telemetry, reader: &mut dyn Reader) -> Result<()> {
    let mut rng = Rng::new(7);
    for i in 0..FLOORS {
        let sensor = rng.below(data.keys);
        let at = match i % 8 {
            0 => Timestamp::MAX,
            1 => EPOCH_US - 1,
            2 => data.ts(sensor, rng.below(data.versions)),
            3 => data.ts(sensor, rng.below(data.versions)) - 1,
            _ => data.any_time(&mut rng),
        };
        let found = reader.floor(&data.key(sensor), at)?;
        let expected = model_floor(data, sensor, at);
        if found != expected {
            return Err(differs(&format!("floor of sensor {sensor} at {at}"), &found, &expected));
        }
        let key = missing_key(data, &mut rng);
        let found = reader.floor(&key, at)?;
        if found.is_some() {
            return Err(differs("floor of a missing key", &found, &None::<()>));
        }
    }
    for _ in 0..HISTORIES {
        let sensor = rng.below(data.keys);
        let mut found = Vec::new();
        reader.history(&data.key(sensor), &mut |ts, value| found.push((ts, value.to_vec())))?;
        found.sort();
        let expected: Vec<_> = (0..data.versions).map(|v| version(data, sensor, v)).collect();
        if found != expected {
            return Err(differs(&format!("history of sensor {sensor}"), &found, &expected));
        }
    }
    Ok(())
}

fn model_floor(data: Telemetry, sensor: u64, at: Timestamp) -> Option<(Timestamp, Vec<u8>)> {
    let newest = (0..data.versions).rev().find(|&v| data.ts(sensor, v) <= at)?;
    Some(version(data, sensor, newest))
}

fn version(data: Telemetry, sensor: u64, version: u64) -> (Timestamp, Vec<u8>) {
    let mut value = String::new();
    write_value(&mut value, sensor, version);
    (data.ts(sensor, version), value.into_bytes())
}

fn differs(
    what: &str,
    found: &dyn std::fmt::Debug,
    expected: &dyn std::fmt::Debug,
) -> Box<dyn std::error::Error + Send + Sync> {
    format!("{what}: got {found:?}, expected {expected:?}").into()
}
