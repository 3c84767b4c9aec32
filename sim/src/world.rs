//! The world of one scenario: a disk, a database on it, and what is known of both.
//!
//! *Locks*: those of the world are held for as long as it takes to look, and never while the engine is
//! called: each of its calls may come back through [`World::at_call`], on the same thread.

mod calls;
mod reopen;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use fastrand::Rng;
use kvtimedb_engine::fs::{Fault, FaultKind, SimFs, Survival};
use kvtimedb_engine::{
    Background, BackgroundStep, Committed, Condition, Db, Durability, Error, Expect, Lookup,
    Options, Result, SeqNo, Timestamp,
};
use parking_lot::Mutex;

use crate::crash::{Judge, damage, verify_finds_damage};
use crate::feed::FeedJudge;
use crate::ledger::Ledger;
use crate::oracle::{Op, Oracle, batch, taken};
use crate::readers::{READERS_MAX, Reader};
use crate::run::Tally;
use crate::scenario::{Action, Settings, Step};

/// The most batches that wait for a commit: fewer than a group may have.
const QUEUED_MAX: usize = 12;

/// One of so many damaged disks is held against a look at every byte.
const VERIFY_EVERY: u32 = 4;

pub(crate) struct World {
    settings: Settings,
    state: Mutex<State>,
    /// What the commits of queued batches have said.
    committed: Arc<Mutex<Vec<Result<Committed>>>>,
}

struct State {
    fs: SimFs,
    db: Option<Db>,
    ledger: Ledger,
    readers: Vec<Reader>,
    tally: Tally,
    /// What went wrong first.
    failure: Option<String>,
    /// Batches that the disk's lies can't have taken, once it has begun to lie.
    lied: Option<usize>,
    /// Calls may have failed since the database was opened.
    troubled: bool,
    /// A scrub has met what the disk could not read.
    unreadable: bool,
    /// How often the disk has lost power.
    power_cuts: u32,
    /// The disk refused to go on after a lie, and the scenario is over.
    ended: bool,
    /// The disk as it once was.
    older: Option<SimFs>,
    /// How many were tried.
    checkpoints: u64,
    under_way: UnderWay,
}

/// The step that is being taken.
#[derive(Default)]
struct UnderWay {
    seed: u64,
    /// Calls that change the file system, and those of them that write a table.
    calls: u64,
    table_calls: u64,
    within: Vec<(u64, Action)>,
    /// An action in the midst of the step is being taken.
    nested: bool,
}

impl World {
    /// An empty disk, and a new database on it.
    pub(crate) fn new(seed: u64, settings: Settings) -> Arc<World> {
        let state = State {
            fs: SimFs::new(seed),
            db: None,
            ledger: Ledger::default(),
            readers: Vec::new(),
            tally: Tally { scenarios: 1, ..Tally::default() },
            failure: None,
            lied: None,
            troubled: false,
            unreadable: false,
            power_cuts: 0,
            ended: false,
            older: None,
            checkpoints: 0,
            under_way: UnderWay { seed, ..UnderWay::default() },
        };
        let committed = Arc::default();
        let world = Arc::new(World { settings, state: Mutex::new(state), committed });
        world.watch();
        world.open(false);
        world
    }

    /// Takes a step; `false` once the scenario is over.
    pub(crate) fn take(self: &Arc<Self>, step: &Step) -> bool {
        {
            let state = &mut *self.state.lock();
            state.tally.steps += 1;
            let within = step.within.clone();
            state.under_way = UnderWay { seed: step.seed, within, ..UnderWay::default() };
        }
        let mut rng = Rng::with_seed(step.seed);
        self.act(&step.action, &mut rng);
        // Nothing but a reopen leads out of it.
        if self.db().is_some_and(|db| db.poisoned().is_some()) && rng.u8(..3) == 0 {
            self.act(&Action::Reopen, &mut rng);
        }
        let state = self.state.lock();
        state.failure.is_none() && !state.ended
    }

    /// Ends the scenario with a recovery on a sound disk. Returns what was done and what went wrong.
    pub(crate) fn end(self: &Arc<Self>) -> (Tally, Option<String>) {
        let over = { self.state.lock().failure.is_some() || self.state.lock().ended };
        if !over {
            let mut rng = Rng::with_seed(0);
            self.act(&Action::Heal, &mut rng);
            self.act(&Action::Reopen, &mut rng);
            self.act(&Action::Check, &mut rng);
        }
        let state = &mut *self.state.lock();
        state.fs.unwatch();
        state.tally.ops += state.ledger.ops();
        (state.tally, state.failure.take())
    }

    fn act(self: &Arc<Self>, action: &Action, rng: &mut Rng) {
        let Some(db) = self.db() else { return };
        match action {
            Action::Write(ops) => self.write(&db, ops),
            Action::WriteIf(ops) => self.write_if(&db, ops, rng),
            Action::Queue(ops) => self.queue(&db, ops),
            Action::Background(BackgroundStep::Commit) => self.commit(&db),
            Action::Background(step) => self.step(&db, *step),
            Action::Flush => self.flush(&db),
            Action::Compact => {
                self.flush(&db);
                self.maintained(&db, db.compact(), |_| {});
            }
            Action::Retain(horizon) => self.retain(&db, *horizon),
            Action::Checkpoint => self.checkpoint(&db, rng),
            Action::Scrub => self.scrub(&db),
            Action::BeginRead => self.begin_read(&db, rng),
            Action::ReadOn => self.read_on(rng),
            Action::Check => self.check(&db, rng),
            Action::Rot => self.rot(rng),
            Action::Close => {
                self.maintained(&db, db.close(), Ledger::flushed);
                drop(db);
                self.reopen();
            }
            Action::Reopen => {
                drop(db);
                self.reopen();
            }
            Action::Crash(survival) => {
                drop(db);
                self.crash(*survival, rng);
            }
            Action::Fail(fault) => self.inject(fault),
            Action::Heal => self.heal(&db),
        }
    }

    fn write(&self, db: &Db, ops: &[Op]) {
        let ops = &taken(ops, db.horizon())[..];
        if ops.is_empty() {
            return;
        }
        let was_poisoned = db.poisoned().is_some();
        self.state.lock().ledger.begin([ops.to_vec()]);
        let result = db.write(batch(ops));
        self.settle(db, &[result], was_poisoned);
    }

    /// Writes on a condition that holds, and is refused on one that does not.
    fn write_if(&self, db: &Db, ops: &[Op], rng: &mut Rng) {
        let ops = &taken(ops, db.horizon())[..];
        if ops.is_empty() {
            return;
        }
        let Some((_, oracle)) = self.oracle_at(db.visible_seq()) else { return };
        let keys: Vec<_> = oracle.keys().collect();
        let key = rng.choice(&keys).map(|key| key.to_vec()).unwrap_or_default();
        let since = db.horizon().unwrap_or(Timestamp::MIN);
        let lookup = Lookup::floor(rng.i64(-20..400).max(since));
        let entry = oracle.floor(&key, lookup.at);
        let expect = entry.map_or(Expect::Absent, |entry| Expect::Etag(entry.etag()));
        let mut conditional = batch(ops);
        let holds = conditional.require(Condition { key: key.clone(), lookup, expect });
        if holds.is_ok() && rng.bool() {
            let was_poisoned = db.poisoned().is_some();
            self.state.lock().ledger.begin([ops.to_vec()]);
            return self.settle(db, &[db.write(conditional)], was_poisoned);
        }
        let expect = if expect == Expect::Absent { Expect::Etag(0) } else { Expect::Absent };
        let broken = conditional.require(Condition { key, lookup, expect });
        match broken.and_then(|()| db.write(conditional)) {
            Err(Error::ConditionFailed { condition: 1 } | Error::Poisoned { .. }) => {}
            Err(error) => self.refused(&error),
            Ok(_) => {
                self.fail("a batch was committed on a condition that does not hold".to_owned());
            }
        }
    }

    fn queue(&self, db: &Db, ops: &[Op]) {
        if self.state.lock().ledger.queued() >= QUEUED_MAX {
            return;
        }
        let ops = &taken(ops, db.horizon())[..];
        if ops.is_empty() {
            return;
        }
        let committed = Arc::clone(&self.committed);
        let submitted = db.submit(batch(ops), move |result| committed.lock().push(result));
        match submitted {
            Ok(()) => self.state.lock().ledger.queue(ops.to_vec()),
            Err(Error::Poisoned { .. }) => {}
            Err(error) => self.fail(format!("a batch was not queued: {error}")),
        }
    }

    fn commit(&self, db: &Db) {
        let was_poisoned = db.poisoned().is_some();
        let group = {
            let ledger = &mut self.state.lock().ledger;
            let group = ledger.take_queued();
            if !group.is_empty() {
                ledger.begin(group.clone());
            }
            group
        };
        self.committed.lock().clear();
        let done = db.step(BackgroundStep::Commit);
        let mut results = std::mem::take(&mut *self.committed.lock());
        if !matches!(done, Ok(done) if done != group.is_empty()) || results.len() != group.len() {
            let (expected, found) = (group.len(), results.len());
            return self.fail(format!("{found} of {expected} batches were told of: {done:?}"));
        }
        if results.iter().any(|result| result.is_ok() != results[0].is_ok()) {
            let state = &mut *self.state.lock();
            if state.lied.is_none() && !state.unreadable {
                state.failure.get_or_insert("a group was committed in part".to_owned());
                return;
            }
            // Those that had to read what is damaged were refused.
            state.ledger.withdraw();
            let taken = group.into_iter().zip(&results).filter(|(_, result)| result.is_ok());
            state.ledger.begin(taken.map(|(ops, _)| ops));
            results.retain(Result::is_ok);
        }
        self.settle(db, &results, was_poisoned);
    }

    /// What a commit has said of the group that the ledger has begun.
    fn settle(&self, db: &Db, results: &[Result<Committed>], was_poisoned: bool) {
        let state = &mut *self.state.lock();
        let as_expected = |(found, expected): (&Result<Committed>, &Committed)| {
            found.as_ref().map_or(true, |found| found == expected)
        };
        let Some(last) = results.last() else { return };
        let what = match last {
            Ok(_) if !results.iter().zip(state.ledger.expected()).all(as_expected) => {
                let expected: Vec<_> = state.ledger.expected().collect();
                format!("a commit says {results:?}, expected {expected:?}")
            }
            Ok(_) if was_poisoned => "a poisoned database took a write".to_owned(),
            Ok(_) => {
                return state.ledger.acknowledge(self.settings.durability == Durability::Sync);
            }
            Err(error) if heals(error) && (state.troubled || state.under_way.nested) => {
                return state.ledger.withdraw();
            }
            Err(Error::Poisoned { .. }) if was_poisoned => return state.ledger.withdraw(),
            Err(_) if state.troubled && db.poisoned().is_some() => return,
            // What it had to read is damaged, or can't be read.
            Err(_) if state.lied.is_some() || state.unreadable => return state.ledger.withdraw(),
            Err(error) => format!("a write failed without a cause, or without a trace: {error}"),
        };
        state.failure.get_or_insert(what);
    }

    fn step(&self, db: &Db, step: BackgroundStep) {
        let done = db.step(step).map(drop);
        self.maintained(db, done, |ledger| {
            if step == BackgroundStep::SyncLog {
                ledger.synced();
            }
        });
    }

    fn flush(&self, db: &Db) {
        self.maintained(db, db.flush(), Ledger::flushed);
    }

    /// What waits for its commit is committed before, as it may be refused afterwards.
    fn retain(&self, db: &Db, horizon: Timestamp) {
        if self.state.lock().ledger.queued() > 0 {
            self.commit(db);
        }
        self.state.lock().ledger.begin_horizon(horizon);
        let done = db.set_horizon(horizon);
        let now = db.horizon();
        self.maintained(db, done, |ledger| ledger.set_horizon(now));
    }

    /// A copy holds all that was acknowledged, and answers as the database does.
    fn checkpoint(&self, db: &Db, rng: &mut Rng) {
        let dir = {
            let state = &mut *self.state.lock();
            state.checkpoints += 1;
            format!("/checkpoint-{}", state.checkpoints)
        };
        let made = db.checkpoint(&dir);
        let made_at = made.as_ref().map(|checkpoint| checkpoint.seq).ok();
        self.maintained(db, made.map(drop), Ledger::flushed);
        let (Some(seq), lied) = (made_at, self.state.lock().lied.is_some()) else { return };
        let fs = self.state.lock().fs.fork();
        fs.clear_faults();
        // What it is made of is durable.
        fs.crash(Survival::Synced);
        let options = Options { fs: Arc::new(fs), ..self.options() };
        let Some((_, oracle)) = self.oracle_at(seq).filter(|_| seq == db.visible_seq()) else {
            return self.fail(format!("a checkpoint is of sequence number {seq}"));
        };
        match Db::open(&dir, options) {
            Ok(copy) if copy.horizon() != db.horizon() => {
                self.fail(format!("a checkpoint has the horizon {:?}", copy.horizon()));
            }
            Ok(copy) => {
                let comparison = oracle.compare_some(&copy, rng);
                if !comparison.wrong.is_empty() || !(lied || comparison.refused.is_empty()) {
                    self.fail(format!("a checkpoint: {comparison}"));
                }
            }
            Err(_) if lied => {}
            Err(error) => self.fail(format!("a checkpoint: {error}")),
        }
    }

    /// On a disk that has not lied, a look at every byte finds nothing.
    fn scrub(&self, db: &Db) {
        let scrubbed = db.scrub(&mut |_| {});
        let state = &mut *self.state.lock();
        match scrubbed {
            Ok(report) if report.damaged == 0 => state.unreadable = false,
            Ok(_) | Err(_) if state.lied.is_some() => {}
            // What the disk failed to read is refused until a scrub can read it.
            Ok(report)
                if state.troubled
                    && report
                        .damage
                        .iter()
                        .all(|it| !matches!(it.error, Error::Corruption { .. })) =>
            {
                state.unreadable = true;
            }
            Err(error) if state.troubled && !matches!(error, Error::Corruption { .. }) => {}
            found => drop(state.failure.get_or_insert(format!("a scrub finds {found:?}"))),
        }
    }

    /// A failure must have a cause, and show, and last, unless it is one that heals.
    fn maintained(&self, db: &Db, done: Result<()>, and_then: impl FnOnce(&mut Ledger)) {
        let state = &mut *self.state.lock();
        match done {
            Ok(()) => and_then(&mut state.ledger),
            // Within a flush there is no other one.
            Err(Error::Busy) if state.under_way.nested => {}
            Err(error) if state.troubled && heals(&error) => {}
            Err(_) if state.troubled && has_stopped(db) => {}
            // A merge, or a checkpoint, that a caller asked for has told its caller.
            Err(Error::Io { .. }) if state.troubled => {}
            Err(Error::Corruption { .. }) if state.lied.is_some() || state.unreadable => {}
            Err(error) => {
                state.failure.get_or_insert(format!("maintenance failed without a cause: {error}"));
            }
        }
    }

    fn begin_read(&self, db: &Db, rng: &mut Rng) {
        let Some((_, oracle)) = self.oracle_at(db.visible_seq()) else { return };
        match Reader::begin(db, &oracle, rng) {
            Ok(reader) => {
                let readers = &mut self.state.lock().readers;
                readers.truncate(READERS_MAX - 1);
                readers.insert(0, reader);
            }
            Err(error) => self.refused(&error),
        }
    }

    fn read_on(&self, rng: &mut Rng) {
        let mut readers = std::mem::take(&mut self.state.lock().readers);
        readers.retain_mut(|reader| match reader.go_on(rng) {
            Ok(Ok(more)) => more,
            Ok(Err(error)) => {
                self.refused(&error);
                false
            }
            Err(what) => {
                self.fail(what);
                false
            }
        });
        self.state.lock().readers.append(&mut readers);
    }

    fn check(&self, db: &Db, rng: &mut Rng) {
        let seq = db.visible_seq();
        let Some((_, oracle)) = self.oracle_at(seq) else {
            return self.fail(format!("sequence number {seq} is in the middle of a batch"));
        };
        let comparison = oracle.compare_every(db, 3);
        if let Some(error) = comparison.refused.first() {
            self.refused(error);
        }
        if !comparison.wrong.is_empty() {
            self.fail(comparison.to_string());
        }
        let least = self.state.lock().ledger.durable_seq();
        let feed = FeedJudge { op_at: &|seq| self.op_at(seq), may_trim: self.may_trim(false) };
        match feed.read(db, least) {
            Ok(None) => {}
            // The log, unlike a table, is not read anew by a scrub, and a disk may fail to read at any time.
            Ok(Some(_)) if self.state.lock().troubled => self.state.lock().tally.refused += 1,
            Ok(Some(error)) => self.refused(&error),
            Err(what) => self.fail(what),
        }
        let state = &mut *self.state.lock();
        state.tally.checks += 1;
        if rng.bool() {
            state.older = Some(state.fs.fork());
        }
    }

    /// An answer was refused, which only a disk that has lied or can't read may cause, or a close under way.
    fn refused(&self, error: &Error) {
        if matches!(error, Error::Closed) {
            return;
        }
        let state = &mut *self.state.lock();
        state.tally.refused += 1;
        if state.lied.is_none() && !state.unreadable {
            state.failure.get_or_insert(format!("an answer was refused: {error}"));
        }
    }

    /// A copy of the disk is damaged, as it would be found after the death of the process.
    fn rot(&self, rng: &mut Rng) {
        let (fs, older) = {
            let state = self.state.lock();
            (state.fs.fork(), state.older.clone())
        };
        fs.clear_faults();
        fs.crash(Survival::Everything);
        let Some((done, may_end_log)) = damage(&fs, older.as_ref(), rng) else { return };
        let bounds = {
            let ledger = &self.state.lock().ledger;
            let witnessed = if may_end_log { 0 } else { ledger.witnessed() };
            ledger.bounds(true).after_lies(Some(witnessed))
        };
        let (options, image) = (self.options(), fs.fork());
        let oracle_at = |seq| self.oracle_at(seq);
        let feed = FeedJudge { op_at: &|seq| self.op_at(seq), may_trim: true };
        let judge =
            Judge { options: &options, bounds, may_refuse: true, oracle_at: &oracle_at, feed };
        let mut tally = Tally { damages: 1, ..Tally::default() };
        let judged = judge.recover(&fs, rng, &mut tally);
        let told = rng.u32(..VERIFY_EVERY) > 0 || tally.refused == 0 || verify_finds_damage(&image);
        self.state.lock().tally += tally;
        match judged {
            Err(what) => self.fail(format!("{done}: {what}")),
            Ok(_) if !told => self.fail(format!("{done}: a verify finds nothing")),
            Ok(_) => {}
        }
    }

    fn inject(&self, fault: &Fault) {
        let state = &mut *self.state.lock();
        let lies =
            matches!(fault.kind, FaultKind::BitFlip | FaultKind::Stale | FaultKind::Misdirected);
        if lies {
            state.lied.get_or_insert(state.ledger.witnessed());
        }
        state.tally.faults += 1;
        state.troubled = true;
        state.fs.inject(fault.clone());
    }

    /// Space has come back: without a reopen, writes go on.
    fn heal(&self, db: &Db) {
        self.state.lock().fs.clear_faults();
        if db.poisoned().is_none() && self.state.lock().lied.is_none() {
            let before = self.state.lock().ledger.acknowledged();
            self.write(db, &[Op::put("healed", db.horizon().unwrap_or(0), [1])]);
            let state = self.state.lock();
            if state.ledger.acknowledged() == before && state.failure.is_none() {
                drop(state);
                self.fail("a write failed on a disk that is sound again".to_owned());
            }
        }
    }

    fn oracle_at(&self, seq: SeqNo) -> Option<(usize, Arc<Oracle>)> {
        let ledger = &mut self.state.lock().ledger;
        let batches = ledger.batches_at(seq)?;
        Some((batches, ledger.oracle(batches)))
    }

    fn op_at(&self, seq: SeqNo) -> Option<Op> {
        self.state.lock().ledger.op(seq)
    }

    /// Whether operations may be missing from the feed, now or after a loss of power.
    fn may_trim(&self, power_fails: bool) -> bool {
        power_fails || self.settings.faulty || self.state.lock().power_cuts > 0
    }

    fn db(&self) -> Option<Db> {
        self.state.lock().db.clone()
    }

    fn options(&self) -> Options {
        Options {
            durability: self.settings.durability,
            memtable_bytes_max: self.settings.memtable_bytes_max,
            cache_bytes_max: self.settings.cache_bytes_max,
            feed_bytes_max: self.settings.feed_bytes_max,
            background: Background::Stepped,
            fs: Arc::new(self.state.lock().fs.clone()),
        }
    }

    fn fail(&self, what: String) {
        self.state.lock().failure.get_or_insert(what);
    }
}

/// Nothing was written, and a later try may succeed.
fn heals(error: &Error) -> bool {
    matches!(error, Error::DiskFull { .. } | Error::TooManyFiles { .. } | Error::Busy)
}

fn has_stopped(db: &Db) -> bool {
    db.poisoned().is_some() || db.compaction_error().is_some()
}
