//! Floors of one reader while one writer ingests at a fixed rate and runs are flushed and merged.
//!
//! The first half of the data is there before; the second is written meanwhile, on a schedule that does
//! not wait for the database. The reader has a schedule too, and sleeps in between: a floor's latency is
//! counted from when it was due, if the one before it had not ended by then, and otherwise from when the
//! reader woke, so that the operating system's late wake-ups are nobody's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use kvtimedb_engine::Timestamp;

use super::round::Round;
use crate::data::STEP_US;
use crate::figures::Recorder;
use crate::machine::settle;
use crate::measures;
use crate::peers::{Kind, Peer, Setup, Writes};
use crate::{BATCH_OPS, Result, Rng};

/// Points that are written in a second.
const WRITES_A_SECOND: usize = 100_000;

/// A floor is due so often.
const FLOOR_PERIOD: Duration = Duration::from_micros(200);

/// A write buffer, in bytes: so small that flushes and merges come often enough to be met.
const BUFFER_BYTES: usize = 16 << 20;

/// All databases that merge, one after the other.
pub(super) fn measure(round: &Round<'_>, recorder: &mut Recorder) -> Result<()> {
    for kind in round.kinds.iter().copied().filter(|kind| kind.merges) {
        let setup = Setup { buffer_bytes: BUFFER_BYTES, ..Setup::of(round.data, Writes::Buffered) };
        let peer = (kind.open)(&round.home(kind, "mixed")?, setup)?;
        let half = round.data.points.len() / 2;
        let mut at = 0;
        while at < half {
            let end = (at + BATCH_OPS).min(half);
            peer.write(&round.data.points.part(at..end))?;
            at = end;
        }
        settle();
        let (latencies, rate) = read_while_written(round, kind, peer.as_ref(), half)?;
        let percentiles = [
            (measures::MIXED_P50, 0.5),
            (measures::MIXED_P99, 0.99),
            (measures::MIXED_P999, 0.999),
        ];
        for (measure, quantile) in percentiles {
            let each_us = latencies.value_at_quantile(quantile) as f64 / 1e3;
            round.figure(recorder, measure, kind.name, each_us)?;
        }
        round.figure(recorder, measures::MIXED_RATE, kind.name, rate)?;
        round.check_written(kind, peer.as_ref(), round.data.points.len())?;
        round.discard((kind, peer), "mixed")?;
    }
    Ok(())
}

/// The latencies of floors in nanoseconds, and the points written in a second.
fn read_while_written(
    round: &Round<'_>,
    kind: Kind,
    peer: &dyn Peer,
    half: usize,
) -> Result<(Histogram<u64>, f64)> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let rate = write_on_schedule(round, peer, half);
            done.store(true, Ordering::Release);
            rate
        });
        let latencies = read_on_schedule(round, kind, peer, half, &done);
        let rate = writer.join().expect("a writer that ends")?;
        Ok((latencies?, rate))
    })
}

fn write_on_schedule(round: &Round<'_>, peer: &dyn Peer, half: usize) -> Result<f64> {
    let points = &round.data.points;
    let began = Instant::now();
    let mut at = half;
    while at < points.len() {
        let due = Duration::from_secs_f64((at - half) as f64 / WRITES_A_SECOND as f64);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let end = (at + BATCH_OPS).min(points.len());
        peer.write(&points.part(at..end))?;
        at = end;
    }
    Ok((points.len() - half) as f64 / began.elapsed().as_secs_f64())
}

/// By turns the floor at a moment of the first half, and the latest, whatever it is by then.
fn read_on_schedule(
    round: &Round<'_>,
    kind: Kind,
    peer: &dyn Peer,
    half: usize,
    done: &AtomicBool,
) -> Result<Histogram<u64>> {
    let data = round.data;
    let (first, last) = (data.points.get(0).ts, data.points.get(half.saturating_sub(1)).ts);
    // All that any key has before this moment is in the first half.
    let settled = (last - 2 * STEP_US).max(first + 1);
    let mut rng = Rng::new(round.seed + 3);
    let mut latencies = Histogram::new(3)?;
    let mut reader = peer.reader()?;
    let mut due = Instant::now();
    while !done.load(Ordering::Acquire) {
        due += FLOOR_PERIOD;
        let key = data.any_key(&mut rng);
        let past = first + rng.below((settled - first) as u64) as Timestamp;
        let at = if rng.once_in(2) { Timestamp::MAX } else { past };
        let wait = due.saturating_duration_since(Instant::now());
        let began = if wait.is_zero() {
            due
        } else {
            std::thread::sleep(wait);
            Instant::now()
        };
        let found = reader.floor(data.key(key), at)?;
        latencies.record(began.elapsed().as_nanos().max(1) as u64)?;
        let found = found.map(|(ts, _)| ts);
        let expected = data.floor((key, past)).map(|point| point.ts);
        if if at == past { found != expected } else { found < expected } {
            return Err(format!("{}: got {found:?} of {key} at {at}", kind.name).into());
        }
    }
    Ok(latencies)
}
