//! Which runs to merge next: a pure function of their sizes.

use std::ops::Range;

/// So many runs of one tier are merged. Four keeps 1.0 blocks per floor of dense keys at a write
/// amplification of 3.6 (see `docs/decisions/0004-tiered-compaction.md`).
const TIER_RUNS: usize = 4;

/// The size of a run, as far as the choice depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunSize {
    pub(crate) file_bytes: u64,
}

/// Merge these runs, which are neighbours in rank, into one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompactionTask {
    /// Positions among the version's runs, newest first.
    pub(crate) runs: Range<usize>,
}

/// The next merge that is worth its cost. `runs` are newest first.
///
/// Worth its cost is a merge of at least [`TIER_RUNS`] neighbours that holds so many times the size
/// of the highest tier among them: then each record in it climbs a tier. Of several it is the one of
/// the lowest tier, because that frees most runs per byte; of those, the oldest, because newer runs
/// are still being joined by others.
pub(crate) fn pick(runs: &[RunSize]) -> Option<CompactionTask> {
    let tiers: Vec<u32> = runs.iter().map(|run| tier(run.file_bytes)).collect();
    let mut candidates = tiers.clone();
    candidates.sort_unstable();
    candidates.dedup();
    candidates.into_iter().find_map(|tier| {
        let worth_bytes = (TIER_RUNS as u64).saturating_mul(tier_bytes(tier));
        let worthwhile = |group: &Range<usize>| {
            let bytes: u64 = runs[group.clone()].iter().map(|run| run.file_bytes).sum();
            group.len() >= TIER_RUNS && bytes >= worth_bytes
        };
        groups_up_to(tier, &tiers).rfind(worthwhile).map(|runs| CompactionTask { runs })
    })
}

/// The longest sequences of neighbours that are of this tier or lower.
fn groups_up_to(tier: u32, tiers: &[u32]) -> impl DoubleEndedIterator<Item = Range<usize>> {
    let mut ends: Vec<usize> = (0..tiers.len()).filter(|&i| tiers[i] > tier).collect();
    ends.push(tiers.len());
    let mut start = 0;
    let groups: Vec<_> =
        ends.into_iter().map(|end| std::mem::replace(&mut start, end + 1)..end).collect();
    groups.into_iter()
}

/// The merge of all runs into one; `None` where there is nothing to merge.
pub(crate) fn pick_all(runs: &[RunSize]) -> Option<CompactionTask> {
    (runs.len() > 1).then_some(CompactionTask { runs: 0..runs.len() })
}

/// Sizes of one tier are within a factor of four of each other.
fn tier(file_bytes: u64) -> u32 {
    file_bytes.max(1).ilog2() / 2
}

/// The least size of a tier.
fn tier_bytes(tier: u32) -> u64 {
    1 << (2 * tier)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line: sizes newest first, then the runs that are merged, in brackets.
    const CASES: &str = "
        nothing to do          :
        one run                : 16
        three of a tier        : 16 16 16
        four of a tier         : [16 16 16 16]
        a tier fills up        : [20 16 31 16]
        older, larger ones stay: [16 16 16 16] 64 256
        four of a higher tier  : [64 64 64 64]
        newer ones go along    : [16 64 64 64 64]
        the lower tier first   : [16 16 16 16] 64 64 64 64
        a large one in between : 16 16 256 16 16
        not yet a tier's worth : 16 64 64 64
        small ones in between  : [16 64 16 64 64 64]
        small ones behind it   : 256 [16 16 16 16]
        all that are small     : [16 16 16 16 16 16] 4096
        tiny ones of a test    : [1 1 2 3]
    ";

    #[test]
    fn cases() {
        for line in CASES.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (name, list) = line.split_once(':').unwrap();
            let sizes: Vec<RunSize> = list
                .split_whitespace()
                .map(|word| word.trim_matches(['[', ']']).parse().unwrap())
                .map(|file_bytes| RunSize { file_bytes })
                .collect();
            let words: Vec<_> = list.split_whitespace().collect();
            let start = words.iter().position(|word| word.starts_with('['));
            let end = words.iter().position(|word| word.ends_with(']'));
            let expected =
                start.zip(end).map(|(start, end)| CompactionTask { runs: start..end + 1 });
            assert_eq!(pick(&sizes), expected, "{name}");
        }
    }

    #[test]
    fn merging_ends() {
        let mut runs: Vec<RunSize> = Vec::new();
        for flush in 0..1000_u64 {
            runs.insert(0, RunSize { file_bytes: 1000 + flush % 700 });
            while let Some(task) = pick(&runs) {
                let file_bytes = runs[task.runs.clone()].iter().map(|run| run.file_bytes).sum();
                runs.splice(task.runs, [RunSize { file_bytes }]);
            }
            assert!(runs.len() <= 18, "{} runs after {flush} flushes", runs.len());
        }
    }

    #[test]
    fn a_full_merge_takes_all() {
        let runs = [RunSize { file_bytes: 1 }; 3];
        assert_eq!(pick_all(&runs), Some(CompactionTask { runs: 0..3 }));
        assert_eq!(pick_all(&runs[..1]), None);
    }
}
