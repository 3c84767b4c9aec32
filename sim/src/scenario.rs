//! What follows from a seed: settings, and steps.
//!
//! Each step has a seed of its own, so that leaving out others does not change what it does.

use std::collections::BTreeSet;

use fastrand::Rng;
use kvtimedb_engine::fs::{Fault, FaultKind, FsOp, Survival};
use kvtimedb_engine::{BackgroundStep, Durability, Timestamp};

use crate::oracle::{Op, noise};

/// How a scenario is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The engine's.
    pub durability: Durability,
    /// The engine's, in bytes.
    pub memtable_bytes_max: usize,
    /// The engine's, in bytes.
    pub cache_bytes_max: usize,
    /// The engine's, in bytes.
    pub feed_bytes_max: u64,
    /// Calls fail.
    pub faulty: bool,
    /// Calls succeed that did not do what they say. From the first of these on an error is as good as
    /// an answer, but a wrong answer is as bad as ever.
    pub lying: bool,
    /// At one of so many calls the disk is crashed.
    pub visit_every: u64,
}

/// A step, and its place in the whole scenario.
#[derive(Clone, Debug)]
pub struct Step {
    pub(crate) number: usize,
    pub(crate) seed: u64,
    pub(crate) action: Action,
    /// What is done in its midst, at which of the calls that write a table.
    pub(crate) within: Vec<(u64, Action)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Write(Vec<Op>),
    /// On a condition.
    WriteIf(Vec<Op>),
    /// Is committed later, as a group with what else waits.
    Queue(Vec<Op>),
    Background(BackgroundStep),
    Flush,
    Compact,
    /// What was before is not needed any more.
    Retain(Timestamp),
    /// Reads every byte again.
    Scrub,
    /// Makes a copy of the database, and looks into it.
    Checkpoint,
    /// Begins a read that goes on while the database changes.
    BeginRead,
    /// Takes some reads further.
    ReadOn,
    /// Asks everything.
    Check,
    /// Damages a copy of the disk.
    Rot,
    Close,
    /// A reopen without a close.
    Reopen,
    Crash(Survival),
    Fail(Fault),
    /// The disk is sound again.
    Heal,
}

/// A run of the engine from an empty disk on.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// All of it follows from this.
    pub seed: u64,
    /// How it is run.
    pub settings: Settings,
    /// What is done.
    pub steps: Vec<Step>,
}

impl Scenario {
    /// The scenario of this seed.
    pub fn of(seed: u64) -> Scenario {
        let mut rng = Rng::with_seed(seed);
        let trouble = rng.u8(..4);
        // Few long ones, of which few calls are visited.
        let long = rng.u8(..10) == 0;
        let settings = Settings {
            durability: if rng.bool() { Durability::Sync } else { Durability::Buffered },
            memtable_bytes_max: [16 << 10, 16 << 10, 32 << 10, 128 << 10][rng.usize(..4)],
            cache_bytes_max: [0, 16 << 10, 1 << 20][rng.usize(..3)],
            feed_bytes_max: [0, 64 << 10, 4 << 20][rng.usize(..3)],
            faulty: trouble > 0,
            lying: trouble == 3,
            visit_every: if long { 100 } else { rng.u64(1..=4) },
        };
        let mut writing = Writing::new(&mut rng);
        let count = if long { rng.usize(400..1200) } else { rng.usize(20..100) };
        let mut steps = Vec::new();
        for number in 0..count {
            let mut rng = Rng::with_seed(rng.u64(..));
            let action = action(&mut rng, &settings, &mut writing);
            let within = within(&mut rng, &action, &mut writing);
            steps.push(Step { number, seed: rng.u64(..), action, within });
        }
        Scenario { seed, settings, steps }
    }

    /// The same without the steps that are not among these.
    #[must_use]
    pub fn only(&self, numbers: &BTreeSet<usize>) -> Scenario {
        let mut part = self.clone();
        part.steps.retain(|step| numbers.contains(&step.number));
        part
    }
}

fn action(rng: &mut Rng, settings: &Settings, writing: &mut Writing) -> Action {
    const SURVIVALS: [Survival; 3] = [Survival::Synced, Survival::Everything, Survival::Random];
    match rng.u8(..100) {
        0..25 => Action::Write(writing.batch(rng)),
        25..28 => Action::WriteIf(writing.batch(rng)),
        28..38 => Action::Queue(writing.batch(rng)),
        38..45 => Action::Background(BackgroundStep::Commit),
        45..55 => Action::Background(BackgroundStep::Flush),
        55..62 => Action::Background(BackgroundStep::Compact),
        62..66 => Action::Background(BackgroundStep::CompactIdle),
        66..68 => Action::Background(BackgroundStep::PrepareSegment),
        68..70 => Action::Background(BackgroundStep::SyncLog),
        70..75 => Action::Flush,
        75..78 => Action::Compact,
        78..81 => Action::BeginRead,
        81..84 => Action::ReadOn,
        84 => Action::Checkpoint,
        85 => Action::Scrub,
        86 => Action::Check,
        87 | 88 => Action::Rot,
        89 => Action::Retain(writing.horizon(rng)),
        90 => Action::Close,
        91 => Action::Reopen,
        92 => Action::Crash(SURVIVALS[rng.usize(..3)]),
        93..98 if settings.faulty => Action::Fail(fault(rng, settings.lying)),
        _ if settings.faulty => Action::Heal,
        _ => Action::Write(writing.batch(rng)),
    }
}

/// What happens in the midst of a flush or a merge, of those that hold no other lock meanwhile.
fn within(rng: &mut Rng, action: &Action, writing: &mut Writing) -> Vec<(u64, Action)> {
    let merges = match action {
        Action::Background(BackgroundStep::Compact | BackgroundStep::CompactIdle) => true,
        Action::Background(BackgroundStep::Flush) => false,
        _ => return Vec::new(),
    };
    let count = rng.usize(..4);
    let mut some = |_| {
        let action = match rng.u8(..10) {
            0..5 => Action::Write(writing.batch(rng)),
            5 => Action::Queue(writing.batch(rng)),
            6 => Action::Background(BackgroundStep::Commit),
            7 => Action::BeginRead,
            8 if rng.bool() => Action::ReadOn,
            8 => Action::Retain(writing.horizon(rng)),
            // A flush may come in the midst of a merge and the other way round, but of its own kind
            // there is one at a time.
            _ if merges => Action::Background(BackgroundStep::Flush),
            _ => Action::Background(BackgroundStep::Compact),
        };
        (rng.u64(..8), action)
    };
    (0..count).map(&mut some).collect()
}

fn fault(rng: &mut Rng, lying: bool) -> Fault {
    use FaultKind::{BitFlip, Eio, Emfile, Enospc, Misdirected, Short, Stale};
    const OPS: [FsOp; 10] = [
        FsOp::Write,
        FsOp::Write,
        FsOp::Write,
        FsOp::Sync,
        FsOp::SyncDir,
        FsOp::Create,
        FsOp::Rename,
        FsOp::Remove,
        FsOp::Open,
        FsOp::Read,
    ];
    const FILES: [&str; 5] = ["", ".wal", ".sst", "MANIFEST", "CURRENT"];
    let pattern = FILES[rng.usize(..FILES.len())].to_owned();
    if lying && rng.bool() {
        let op = if rng.u8(..3) > 0 { FsOp::Write } else { FsOp::Read };
        let kinds: &[FaultKind] = if op == FsOp::Write {
            &[BitFlip, Stale, Misdirected]
        } else {
            &[BitFlip, Misdirected]
        };
        return Fault { op, pattern, nth: rng.u64(1..10), kind: kinds[rng.usize(..kinds.len())] };
    }
    let op = OPS[rng.usize(..OPS.len())];
    let pattern = if op == FsOp::SyncDir { String::new() } else { pattern };
    let opens = matches!(op, FsOp::Create | FsOp::Open | FsOp::SyncDir);
    let kind = match rng.u8(..6) {
        0..3 => Enospc,
        3 if op == FsOp::Write => Short,
        4 if opens => Emfile,
        _ => Eio,
    };
    // A full disk is full for all.
    let nth = if kind == Enospc && rng.bool() { 0 } else { rng.u64(1..8) };
    Fault { op, pattern, nth, kind }
}

/// What is written: few keys, so that versions meet.
struct Writing {
    keys: Vec<Vec<u8>>,
    /// Timestamps go up with the steps, and some come late.
    now: Timestamp,
}

impl Writing {
    fn new(rng: &mut Rng) -> Writing {
        let edges: [&[u8]; 6] = [b"", b"\x00", b"a", b"a\x00", b"ab", b"\xff\xff"];
        let series = (0..rng.usize(1..12)).map(|n| format!("series/{n:02}").into_bytes());
        let mut keys: Vec<Vec<u8>> = edges.into_iter().map(<[u8]>::to_vec).chain(series).collect();
        rng.shuffle(&mut keys);
        keys.truncate(rng.usize(2..=keys.len()));
        Writing { keys, now: 0 }
    }

    /// One that leaves much, or little.
    fn horizon(&self, rng: &mut Rng) -> Timestamp {
        let most = [5, 60, 600][rng.usize(..3)];
        self.now - rng.i64(-2..=most)
    }

    fn batch(&mut self, rng: &mut Rng) -> Vec<Op> {
        self.now += 1;
        match rng.u8(..10) {
            // A key's versions in a row.
            0 => {
                let key = rng.choice(&self.keys).cloned().unwrap_or_default();
                let (from, step) = (self.now, rng.i64(1..4));
                let count = rng.i64(10..150);
                self.now += count * step;
                (0..count).map(|i| Op::json(&key, from + i * step, reading(rng))).collect()
            }
            // More than is left of a memtable.
            1..=3 => {
                let len = rng.usize(2000..9000);
                (0..rng.usize(1..4)).map(|_| self.op(rng, Some(len))).collect()
            }
            4..6 => vec![self.op(rng, None)],
            _ => (0..rng.usize(2..12)).map(|_| self.op(rng, None)).collect(),
        }
    }

    fn op(&mut self, rng: &mut Rng, noise_len: Option<usize>) -> Op {
        let key = rng.choice(&self.keys).cloned().unwrap_or_default();
        let ts = match rng.u8(..20) {
            0 => *rng.choice(&[i64::MIN, i64::MIN + 1, i64::MAX, 0]).unwrap_or(&0),
            1..6 => rng.i64(-20..=self.now),
            _ => self.now + rng.i64(-3..=3),
        };
        match rng.u8(..10) {
            0 => Op::end(key, ts),
            1 if rng.bool() => Op::erase(key, ts),
            1 => match rng.u8(..8) {
                0 => Op::erase_between(key, i64::MIN, i64::MAX),
                1 | 2 => Op::erase_between(key, i64::MIN, ts),
                3 => Op::rising(
                    "rising",
                    rng.i64(0..=self.now),
                    noise(rng.u64(..), rng.usize(..120)),
                ),
                _ => Op::erase_between(key, ts, ts.saturating_add(rng.i64(0..40))),
            },
            _ => match noise_len {
                Some(len) => Op::put(key, ts, noise(rng.u64(..), len)),
                None if rng.bool() => Op::json(key, ts, reading(rng)),
                None => Op::put(key, ts, noise(rng.u64(..), rng.usize(..120))),
            },
        }
    }
}

fn reading(rng: &mut Rng) -> String {
    let (whole, part) = (rng.u32(15..30), rng.u32(..100));
    let status = rng.choice(&["ok", "late", "failed"]).unwrap_or(&"ok");
    format!("{{\"temp\":{whole}.{part:02},\"status\":\"{status}\"}}")
}
