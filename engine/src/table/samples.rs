//! Quantiles of timestamps of which there are too many to keep.

use crate::key::Timestamp;

/// The most timestamps that are kept.
const SAMPLES_MAX: usize = 8192;

/// One in `stride` of the timestamps that it was given.
pub(super) struct Samples {
    kept: Vec<Timestamp>,
    stride: u64,
    taken: u64,
}

impl Samples {
    pub(super) fn new() -> Self {
        Samples { kept: Vec::new(), stride: 1, taken: 0 }
    }

    pub(super) fn add(&mut self, ts: Timestamp) {
        if self.taken.is_multiple_of(self.stride) {
            if self.kept.len() == SAMPLES_MAX {
                let mut even = false;
                self.kept.retain(|_| {
                    even = !even;
                    even
                });
                self.stride *= 2;
            }
            self.kept.push(ts);
        }
        self.taken += 1;
    }

    /// How many it was given.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// The timestamp before which about `part` of `whole` of them lie; `None` where there are not as many.
    pub(super) fn quantile(&mut self, part: u64, whole: u64) -> Option<Timestamp> {
        self.kept.sort_unstable();
        let at = u128::from(part) * self.kept.len() as u128 / u128::from(whole.max(1));
        self.kept.get(usize::try_from(at).ok()?).copied()
    }
}
