//! How long a floor takes, and a history.

use std::hint::black_box;
use std::time::{Duration, Instant};

use kvtimedb_engine::Timestamp;

use crate::data::Data;
use crate::peers::Reader;
use crate::{Result, Rng};

/// Versions a history has, where it is measured.
const HISTORY_VERSIONS: usize = 100;

/// A figure is of at least so much time, in as many passes as that takes.
const TIMED_MIN: Duration = Duration::from_millis(250);

/// A question for a floor: whose, and when. The keys are made one after the other, so that reading them
/// costs little beside the answer.
pub(super) type Question = (Vec<u8>, Timestamp);

/// Uniform in time, the latest, and of keys that aren't there.
pub(super) fn questions(data: &Data, count: usize, seed: u64) -> [Vec<Question>; 3] {
    let mut rng = Rng::new(seed);
    let probes = data.uniform_probes(&mut rng, count);
    let uniform = probes.iter().map(|(key, at)| (data.key(*key).to_vec(), *at)).collect();
    let mut any_key = || data.key(data.any_key(&mut rng)).to_vec();
    let recent = (0..count).map(|_| (any_key(), Timestamp::MAX)).collect();
    let missing = probes.iter().map(|(_, at)| {
        (data.missing()[rng.below(data.missing().len() as u64) as usize].clone(), *at)
    });
    [uniform, recent, missing.collect()]
}

/// Microseconds a floor, after one pass over the same questions.
pub(super) fn time_floors(reader: &mut dyn Reader, questions: &[Question]) -> Result<f64> {
    time_each(questions.len(), &mut || {
        for (key, at) in questions {
            black_box(reader.floor(key, *at)?);
        }
        Ok(())
    })
}

/// Microseconds a history of [`HISTORY_VERSIONS`] versions, after one pass over the same; `None` where
/// keys have fewer.
pub(super) fn time_histories(
    data: &Data,
    reader: &mut dyn Reader,
    count: usize,
    seed: u64,
) -> Result<Option<f64>> {
    let mut rng = Rng::new(seed);
    let mut ranges = Vec::new();
    for _ in 0..count {
        let key = data.any_key(&mut rng);
        let versions = data.model.history(key);
        let Some(spare) = versions.len().checked_sub(HISTORY_VERSIONS) else { return Ok(None) };
        let first = rng.below(spare as u64 + 1) as usize;
        let ts = |at: usize| data.points.get(versions[at] as usize).ts;
        ranges.push((data.key(key), ts(first), ts(first + HISTORY_VERSIONS - 1)));
    }
    let each_us = time_each(count, &mut || {
        for (key, from, to) in &ranges {
            let mut versions = 0;
            reader.history(key, *from, *to, &mut |ts, value| {
                black_box((ts, value));
                versions += 1;
            })?;
            assert_eq!(versions, HISTORY_VERSIONS, "versions of a history");
        }
        Ok(())
    })?;
    Ok(Some(each_us))
}

/// Microseconds for each of `count`, in the passes after the first.
fn time_each(count: usize, pass: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
    pass()?;
    let began = Instant::now();
    let mut passes = 0;
    while passes == 0 || began.elapsed() < TIMED_MIN {
        pass()?;
        passes += 1;
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / (passes * count) as f64)
}
