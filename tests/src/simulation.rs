//! A slice of the simulator's seeds. The long mode, and the replay of a seed that fails, are the
//! `sim` program's: `cargo run --release -p kvtimedb-sim -- --help`.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use kvtimedb_sim::{Scenario, replay, search};

use crate::common::setting;

/// What a slice comes to; `KVTIMEDB_CRASH_POINTS` changes it.
const CRASH_POINTS: u64 = 6000;

#[test]
fn nothing_acknowledged_is_lost_and_nothing_wrong_is_answered() {
    let crash_points = setting("KVTIMEDB_CRASH_POINTS", CRASH_POINTS);
    let threads = available_parallelism().map_or(1, NonZeroUsize::get);
    match search(0, crash_points, threads) {
        Ok(tally) => {
            assert!(tally.recovery_crashes > 0 && tally.nested > 0 && tally.faults > 0, "{tally}");
            println!("{tally}");
        }
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn a_seed_does_the_same_each_time() {
    for seed in 0..4 {
        let scenario = Scenario::of(seed);
        assert_eq!(replay(&scenario), replay(&scenario), "seed {seed}");
    }
}
