//! Crashes of copies of the disk, and their recovery held against the ledger; and damage to copies.

use fastrand::Rng;
use kvtimedb_engine::fs::{SimFs, Survival};
use kvtimedb_engine::inspect::{Depth, verify_directory};
use kvtimedb_engine::{Background, Db, Durability, Options};

use crate::feed::FeedJudge;
use crate::ledger::Bounds;
use crate::oracle::{DIR, Op, Oracle, batch};
use crate::run::Tally;

pub(crate) const SURVIVALS: [Survival; 3] =
    [Survival::Synced, Survival::Everything, Survival::Random];

/// One of so many recoveries is crashed in its midst.
const RECOVERY_CRASH_EVERY: u32 = 6;

/// One of so many recovered databases is written to.
const GO_ON_EVERY: u32 = 8;

/// One of so many recovered databases is asked everything.
const ASK_ALL_EVERY: u32 = 40;

/// The feed of one of so many recovered databases is read.
const READ_FEED_EVERY: u32 = 8;

/// What a recovered database is held against.
pub(crate) struct Judge<'a> {
    pub(crate) options: &'a Options,
    pub(crate) bounds: Bounds,
    /// The disk has lied: an error is as good as an answer.
    pub(crate) may_refuse: bool,
    /// What the first so many batches amount to, of as many as end at a sequence number.
    pub(crate) oracle_at: &'a dyn Fn(u64) -> Option<(usize, std::sync::Arc<Oracle>)>,
    /// What its feed is held against.
    pub(crate) feed: FeedJudge<'a>,
}

impl Judge<'_> {
    /// Crashes the disk, which is a copy, and looks at what is left.
    pub(crate) fn crash(
        &self,
        fs: &SimFs,
        survival: Survival,
        rng: &mut Rng,
        tally: &mut Tally,
    ) -> Result<(), String> {
        tally.crash_points += 1;
        fs.clear_faults();
        fs.reseed(rng.u64(..));
        fs.crash(survival);
        let image = fs.fork();
        let before = fs.mutations();
        let Some(batches) = self.recover(fs, rng, tally)? else { return Ok(()) };
        let calls = fs.mutations() - before;
        if rng.u32(..RECOVERY_CRASH_EVERY) == 0 {
            let durable = match survival {
                Survival::Everything => self.bounds.durable.min(batches),
                Survival::Synced | Survival::Random => batches,
            };
            let bounds = Bounds { least: batches, durable, tried: batches, ..self.bounds };
            Judge { bounds, ..*self }.crash_recovery(&image, calls, rng, tally)?;
        }
        if rng.u32(..GO_ON_EVERY) == 0 && !self.may_refuse {
            self.go_on(fs)?;
        }
        Ok(())
    }

    /// Crashes the recovery, and maybe the next one too: the last one finds the same. Or less, where the
    /// process died first, and then the power failed: what was neither acknowledged nor synced.
    fn crash_recovery(
        &self,
        image: &SimFs,
        calls: u64,
        rng: &mut Rng,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let mut bounds = self.bounds;
        for _ in 0..rng.u8(1..3) {
            tally.crash_points += 1;
            tally.recovery_crashes += 1;
            let stop = image.mutations() + rng.u64(1..=calls.max(1));
            if rng.bool() {
                image.stop_within(stop);
            } else {
                image.stop_after(stop);
            }
            // It may come to its end without that call, and then it has done more, not less.
            drop(Db::open(DIR, self.options_for(image)));
            let survival = SURVIVALS[rng.usize(..SURVIVALS.len())];
            if survival != Survival::Everything {
                bounds.least = bounds.durable;
            }
            image.reseed(rng.u64(..));
            image.crash(survival);
            let power_failed = survival != Survival::Everything;
            let may_trim = self.feed.may_trim || power_failed;
            let judge = Judge { bounds, feed: FeedJudge { may_trim, ..self.feed }, ..*self };
            judge
                .recover(&image.fork(), rng, tally)
                .map_err(|what| format!("{what}, after a recovery that was crashed at {stop}"))?;
        }
        Ok(())
    }

    /// Opens the database and asks it questions. Returns how many batches it holds; `None` where it
    /// refuses to tell, and may.
    pub(crate) fn recover(
        &self,
        fs: &SimFs,
        rng: &mut Rng,
        tally: &mut Tally,
    ) -> Result<Option<usize>, String> {
        let db = match Db::open(DIR, self.options_for(fs)) {
            Ok(db) => db,
            Err(_) if self.may_refuse => {
                tally.refused += 1;
                return Ok(None);
            }
            Err(error) => return Err(format!("the recovery failed: {error}")),
        };
        let seq = db.visible_seq();
        let Some((batches, oracle)) = (self.oracle_at)(seq) else {
            return Err(format!("sequence number {seq} is in the middle of a batch"));
        };
        let Bounds { least, tried, .. } = self.bounds;
        if !(least..=tried).contains(&batches) {
            return Err(format!("{batches} batches were recovered, of {least} to {tried}"));
        }
        let (horizon, (least, tried)) = (db.horizon(), self.bounds.horizons);
        if !(least..=tried).contains(&horizon) {
            return Err(format!("the horizon is {horizon:?}, and was from {least:?} to {tried:?}"));
        }
        if rng.u32(..READ_FEED_EVERY) == 0 {
            // Of what was recovered all is durable.
            match self.feed.read(&db, seq)? {
                Some(error) if !self.may_refuse => {
                    return Err(format!("the feed was refused: {error}"));
                }
                refused => tally.refused += u64::from(refused.is_some()),
            }
        }
        let all = rng.u32(..ASK_ALL_EVERY) == 0;
        let comparison =
            if all { oracle.compare_every(&db, 3) } else { oracle.compare_some(&db, rng) };
        tally.refused += comparison.refused.len() as u64;
        if comparison.wrong.is_empty() && (self.may_refuse || comparison.refused.is_empty()) {
            return Ok(Some(batches));
        }
        Err(format!("{comparison}, after {batches} batches"))
    }

    /// A recovered database takes writes, and keeps them.
    fn go_on(&self, fs: &SimFs) -> Result<(), String> {
        let failed = |error| format!("after a recovery, writing failed: {error}");
        let db = Db::open(DIR, self.options_for(fs)).map_err(failed)?;
        let now = db.horizon().unwrap_or(0).max(0);
        let ops = [
            Op::put("a", now + 7, "after the crash"),
            Op::erase("ab", now + 3),
            Op::end("new", now),
        ];
        let found = (self.oracle_at)(db.visible_seq());
        let mut oracle = found.map(|(_, oracle)| Oracle::clone(&oracle)).unwrap_or_default();
        db.write(batch(&ops)).and_then(|_| db.flush()).map_err(failed)?;
        oracle.apply(&ops);
        drop(db);
        fs.crash(Survival::Synced);
        let db = Db::open(DIR, self.options_for(fs)).map_err(failed)?;
        let comparison = oracle.compare_every(&db, 5);
        let is_right = comparison.is_right() && db.visible_seq() == oracle.last_seq();
        is_right.then_some(()).ok_or_else(|| format!("{comparison}, after a recovery and a write"))
    }

    /// Without a log of zeros: what a log must hold doesn't depend on how it is gone on with.
    fn options_for(&self, fs: &SimFs) -> Options {
        Options {
            durability: Durability::Buffered,
            background: Background::Stepped,
            fs: std::sync::Arc::new(fs.clone()),
            ..self.options.clone()
        }
    }
}

/// Damages one file of a disk at rest; `older` is an earlier state of it. Returns what was done, and
/// whether that may pass for the end of the log: where it takes several records at once, and no sound
/// one is left behind them, it can't be told from a crash before they were written.
pub(crate) fn damage(fs: &SimFs, older: Option<&SimFs>, rng: &mut Rng) -> Option<(String, bool)> {
    const SECTOR: usize = 512;
    let mut files = fs.file_names();
    files.retain(|path| path.starts_with(DIR) && !path.ends_with("LOCK"));
    let path = rng.choice(&files)?.clone();
    let mut bytes = fs.read_file(&path)?;
    let sectors = bytes.len().div_ceil(SECTOR).max(1);
    let mut sector = || {
        let from = rng.usize(..sectors) * SECTOR;
        from..bytes.len().min(from + SECTOR)
    };
    let (to, from) = (sector(), sector());
    let done = match rng.u8(..7) {
        0 | 1 if !bytes.is_empty() => {
            let at = rng.usize(..bytes.len());
            bytes[at] ^= 1 << rng.u8(..8);
            format!("bit flipped at {at}")
        }
        2 => {
            bytes[to.clone()].fill(0);
            format!("sector zeroed at {}", to.start)
        }
        3 if to.len() == from.len() => {
            bytes.copy_within(from.clone(), to.start);
            format!("sector at {} is the one at {}", to.start, from.start)
        }
        4 => {
            let old = older?.read_file(&path)?;
            bytes[to.clone()].copy_from_slice(old.get(to.clone())?);
            format!("stale sector at {}", to.start)
        }
        5 => {
            bytes.truncate(rng.usize(..=bytes.len()));
            format!("cut at {}", bytes.len())
        }
        6 => {
            fs.remove_file(&path);
            return Some((format!("{}: removed", path.display()), false));
        }
        _ => return None,
    };
    let may_end_log = path.extension().is_some_and(|it| it == "wal") && !done.starts_with("bit");
    fs.put_file(&path, bytes);
    Some((format!("{}: {done}", path.display()), may_end_log))
}

/// Whether a look at every byte finds something wrong.
pub(crate) fn verify_finds_damage(fs: &SimFs) -> bool {
    let mut found = false;
    let checked = verify_directory(fs, DIR.as_ref(), Depth::Records, &mut |file| {
        found |= file.error.is_some();
    });
    checked.is_err() || found
}
