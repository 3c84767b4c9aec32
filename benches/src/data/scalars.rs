//! Values that are one number or one word, once a second for each key.

use std::fmt::Write;

use super::{Points, Telemetry};
use crate::rng::Rng;

/// What writes the next value of a key.
type Next = Box<dyn FnMut(&mut String)>;

/// As many points of as many keys as `shape` has; `begin` gives each key its values.
fn points(shape: Telemetry, name: &str, begin: fn(usize, Rng) -> Next) -> Points {
    let keys = 0..shape.keys as usize;
    let mut points = Points::of_keys(
        keys.clone().map(|i| format!("fleet-2/unit-{i:05}/{name}").into_bytes()).collect(),
    );
    let mut all: Vec<Next> =
        keys.map(|i| begin(i, Rng::new((i as u64 + 1).wrapping_mul(0x5851_f42d)))).collect();
    let mut value = String::new();
    for version in 0..shape.versions {
        for (i, next) in all.iter_mut().enumerate() {
            value.clear();
            next(&mut value);
            points.push(i, shape.ts(i as u64, version), value.as_bytes());
        }
    }
    points
}

/// Decimals of eight characters, four of them after the point, that walk.
pub(super) fn floats(shape: Telemetry) -> Points {
    points(shape, "flow", |_, mut rng| {
        let mut value = 550.0 + rng.noise(80.0);
        Box::new(move |out| {
            value = f64::clamp(value + rng.noise(0.05), 100.0, 999.0);
            let _ = write!(out, "{value:.4}");
        })
    })
}

/// Whole numbers: every other key a gauge that walks, and a counter that rises.
pub(super) fn ints(shape: Telemetry) -> Points {
    points(shape, "count", |i, mut rng| {
        let mut value = 10_000 + rng.below(90_000) as i64;
        Box::new(move |out| {
            value += if i % 2 == 0 { rng.noise(20.0) as i64 } else { rng.below(50) as i64 };
            let _ = write!(out, "{value}");
        })
    })
}

/// Status words, each a JSON string, that change once in twenty points.
pub(super) fn status(shape: Telemetry) -> Points {
    const WORDS: [&str; 6] = ["ok", "ok", "warming up", "degraded", "maintenance", "offline"];
    points(shape, "state", |_, mut rng| {
        let mut word = WORDS[0];
        Box::new(move |out| {
            if rng.once_in(20) {
                word = rng.choice(&WORDS);
            }
            let _ = write!(out, "\"{word}\"");
        })
    })
}
