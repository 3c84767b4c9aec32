//! Backpressure: how long a write waits where flush or compaction lag.
//!
//! The delay rises with the square of the debt, from nothing, so that ingest slows smoothly to what
//! flush and compaction can bear (see the issues 1966 and 9423 of `RocksDB` for what a cliff does
//! instead). It is in proportion to the bytes written: what is throttled is the rate of ingest, not
//! the call, and a small put beside big batches pays little.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::options::IMMUTABLE_MEMTABLES_MAX;

/// The longest sleep of one call. What is owed beyond it is left to the calls after it.
const SLEEP_MAX: Duration = Duration::from_millis(5);

/// Less than that is not slept at once but added up: a sleep is rounded up by more.
const SLEEP_MIN: Duration = Duration::from_micros(500);

/// At the highest debt so many bytes owe [`SLEEP_MAX`]: 20 MB/s, which any flush keeps up with.
const BYTES_PER_SLEEP_MAX: usize = 100 << 10;

/// Memtables, the active one by the share of it that is full: one that is flushed and one that fills
/// are no debt, and all that may wait and a full one are the highest.
const MEMTABLES_LOW: f64 = 2.0;
const MEMTABLES_HIGH: f64 = IMMUTABLE_MEMTABLES_MAX as f64 + 1.0;

const RUNS_LOW: f64 = 16.0;
const RUNS_HIGH: f64 = 32.0;

/// The delay that writing so many bytes owes, with this many memtables and runs.
fn delay(memtables: f64, runs: usize, bytes: usize) -> Duration {
    let debt = |amount: f64, low: f64, high: f64| ((amount - low) / (high - low)).clamp(0.0, 1.0);
    let memory = debt(memtables, MEMTABLES_LOW, MEMTABLES_HIGH);
    let debt = memory.max(debt(runs as f64, RUNS_LOW, RUNS_HIGH));
    SLEEP_MAX.mul_f64(debt * debt * bytes as f64 / BYTES_PER_SLEEP_MAX as f64)
}

/// What the writes of a database owe.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    owed_ns: AtomicU64,
}

impl Throttle {
    /// How long the one who wrote so many bytes sleeps now. Any thread may call it.
    pub(crate) fn sleep_after(&self, memtables: f64, runs: usize, bytes: usize) -> Duration {
        let delay = delay(memtables, runs, bytes);
        let owed_before = self.owed_ns.load(Ordering::Relaxed);
        if delay.is_zero() {
            if owed_before > 0 {
                self.owed_ns.store(0, Ordering::Relaxed);
            }
            return Duration::ZERO;
        }
        // Two callers at a time may lose a part of what is owed, which is no harm.
        let owed = Duration::from_nanos(owed_before).saturating_add(delay);
        let sleep = if owed < SLEEP_MIN { Duration::ZERO } else { owed.min(SLEEP_MAX) };
        self.owed_ns.store(owed.saturating_sub(sleep).as_nanos() as u64, Ordering::Relaxed);
        sleep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memtables, runs, bytes written → microseconds of delay.
    const CASES: &[(f64, usize, usize, u128)] = &[
        // No debt: one memtable fills while one is flushed, and as many runs as a compaction leaves.
        (0.0, 0, 100 << 10, 0),
        (2.0, 16, 100 << 10, 0),
        // It begins from nothing, and rises with the square: in the fill of the active memtable ...
        (2.1, 0, 100 << 10, 5),
        (2.5, 0, 100 << 10, 138),
        (3.5, 0, 100 << 10, 1250),
        (5.0, 0, 100 << 10, 5000),
        // ... and in the runs; the worse of both counts.
        (0.0, 17, 100 << 10, 19),
        (0.0, 24, 100 << 10, 1250),
        (3.5, 20, 100 << 10, 1250),
        (0.0, 32, 100 << 10, 5000),
        (9.0, 99, 100 << 10, 5000),
        // In proportion to the bytes.
        (5.0, 0, 100, 4),
        (5.0, 0, 1 << 10, 50),
        (5.0, 0, 10 << 20, 512_000),
    ];

    #[test]
    fn delays_ramp_with_the_debt_in_proportion_to_the_bytes() {
        for &(memtables, runs, bytes, expected_us) in CASES {
            let found = delay(memtables, runs, bytes).as_micros();
            assert_eq!(found, expected_us, "{memtables} memtables, {runs} runs, {bytes} bytes");
        }
    }

    #[test]
    fn small_delays_add_up_to_a_sleep_and_long_ones_are_shared() {
        let throttle = Throttle::default();
        let sleeps: Vec<_> = (0..100).map(|_| throttle.sleep_after(5.0, 0, 1 << 10)).collect();
        let slept = sleeps.iter().filter(|sleep| !sleep.is_zero());
        assert!(slept.clone().all(|sleep| *sleep >= SLEEP_MIN));
        assert_eq!((slept.count(), sleeps.iter().sum()), (10, Duration::from_millis(5)));
        // One large batch: ten calls in a row sleep for it, and no longer each than the longest.
        assert_eq!(throttle.sleep_after(5.0, 0, 1000 << 10), SLEEP_MAX);
        for _ in 0..9 {
            assert_eq!(throttle.sleep_after(5.0, 0, 1), SLEEP_MAX);
        }
        assert_eq!(throttle.sleep_after(5.0, 0, 1), Duration::ZERO);
    }

    #[test]
    fn what_is_owed_is_forgotten_when_nothing_lags_any_more() {
        let throttle = Throttle::default();
        assert_eq!(throttle.sleep_after(5.0, 0, 10 << 20), SLEEP_MAX);
        assert_eq!(throttle.sleep_after(2.0, 0, 10 << 20), Duration::ZERO);
        assert_eq!(throttle.sleep_after(5.0, 0, 100), Duration::ZERO);
    }
}
