//! The world of one scenario: a disk, a database on it, and what is known of both.
//!
//! *Locks*: those of the world are held for as long as it takes to look, and never while the engine is
//! called: each of its calls may come back through [`World::at_call`], on the same thread.

use std::sync::{Arc, Weak};

use fastrand::Rng;
use kvtimedb_engine::fs::{Fault, FaultKind, Fs, SimFs, Survival};
use kvtimedb_engine::{Background, BackgroundStep, Db, Durability, Error, Options, Result, SeqNo};
use parking_lot::Mutex;

use crate::crash::{Judge, SURVIVALS, damage, verify_finds_damage};
use crate::ledger::{Bounds, Ledger};
use crate::oracle::{DIR, Op, Oracle, batch};
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
    committed: Arc<Mutex<Vec<Result<SeqNo>>>>,
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
    /// The disk refused to go on after a lie, and the scenario is over.
    ended: bool,
    /// The disk as it once was.
    older: Option<SimFs>,
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
            ended: false,
            older: None,
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
            Action::Queue(ops) => self.queue(&db, ops),
            Action::Background(BackgroundStep::Commit) => self.commit(&db),
            Action::Background(step) => self.step(&db, *step),
            Action::Flush => self.flush(&db),
            Action::Compact => {
                self.flush(&db);
                self.maintained(&db, db.compact(), |_| {});
            }
            Action::BeginRead => self.begin_read(&db, rng),
            Action::ReadOn => self.read_on(rng),
            Action::Check => self.check(&db, rng),
            Action::Rot => self.rot(rng),
            Action::Close => {
                if db.close().is_ok() {
                    self.state.lock().ledger.synced();
                }
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
        let was_poisoned = db.poisoned().is_some();
        self.state.lock().ledger.begin([ops.to_vec()]);
        let result = db.write(batch(ops));
        self.settle(db, &result, was_poisoned);
    }

    fn queue(&self, db: &Db, ops: &[Op]) {
        if self.state.lock().ledger.queued() >= QUEUED_MAX {
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
        let results = std::mem::take(&mut *self.committed.lock());
        if !matches!(done, Ok(done) if done != group.is_empty()) || results.len() != group.len() {
            let (expected, found) = (group.len(), results.len());
            return self.fail(format!("{found} of {expected} batches were told of: {done:?}"));
        }
        if results.iter().any(|result| result.is_ok() != results[0].is_ok()) {
            return self.fail("a group was committed in part".to_owned());
        }
        if let Some(last) = results.last() {
            self.settle(db, last, was_poisoned);
        }
    }

    /// What a commit has said of the group that the ledger has begun.
    fn settle(&self, db: &Db, result: &Result<SeqNo>, was_poisoned: bool) {
        let state = &mut *self.state.lock();
        let last_seq = state.ledger.last_seq();
        let what = match result {
            Ok(seq) if *seq != last_seq => format!("sequence number {seq}, expected {last_seq}"),
            Ok(_) if was_poisoned => "a poisoned database took a write".to_owned(),
            Ok(_) => {
                return state.ledger.acknowledge(self.settings.durability == Durability::Sync);
            }
            Err(Error::DiskFull { .. } | Error::Busy) => return state.ledger.withdraw(),
            Err(Error::Poisoned { .. }) if was_poisoned => return state.ledger.withdraw(),
            Err(_) if db.poisoned().is_some() => return,
            Err(error) => format!("a write failed and did not poison the database: {error}"),
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
        self.maintained(db, db.flush(), Ledger::synced);
    }

    /// A failure must show, and last, unless the disk is full.
    fn maintained(&self, db: &Db, done: Result<()>, and_then: impl FnOnce(&mut Ledger)) {
        match done {
            Ok(()) => and_then(&mut self.state.lock().ledger),
            Err(Error::DiskFull { .. } | Error::Busy) => {}
            Err(_) if db.poisoned().is_some() || db.compaction_error().is_some() => {}
            // A merge that a caller asked for has told its caller.
            Err(Error::Io { .. } | Error::Corruption { .. }) => {}
            Err(error) => self.fail(format!("maintenance failed: {error}")),
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
        let state = &mut *self.state.lock();
        state.tally.checks += 1;
        if rng.bool() {
            state.older = Some(state.fs.fork());
        }
    }

    /// An answer was refused, which only a disk that has lied may cause, or a close under way.
    fn refused(&self, error: &Error) {
        if matches!(error, Error::Closed) {
            return;
        }
        let state = &mut *self.state.lock();
        state.tally.refused += 1;
        if state.lied.is_none() {
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
        let Some(done) = damage(&fs, older.as_ref(), rng) else { return };
        let (options, bounds, image) = (self.options(), self.bounds_of_rot(), fs.fork());
        let oracle_at = |seq| self.oracle_at(seq);
        let judge = Judge { options: &options, bounds, may_refuse: true, oracle_at: &oracle_at };
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

    /// Damage to the last record of the log, and under a buffered one to what was not synced, can't be
    /// told from a crash.
    fn bounds_of_rot(&self) -> Bounds {
        let ledger = &self.state.lock().ledger;
        ledger.bounds(true).after_lies(Some(ledger.before_last_group()))
    }

    fn inject(&self, fault: &Fault) {
        let state = &mut *self.state.lock();
        let lies =
            matches!(fault.kind, FaultKind::BitFlip | FaultKind::Stale | FaultKind::Misdirected);
        if lies {
            state.lied.get_or_insert(state.ledger.before_last_group());
        }
        state.tally.faults += 1;
        state.fs.inject(fault.clone());
    }

    /// Space has come back: without a reopen, writes go on.
    fn heal(&self, db: &Db) {
        self.state.lock().fs.clear_faults();
        if db.poisoned().is_none() && self.state.lock().lied.is_none() {
            let before = self.state.lock().ledger.acknowledged();
            self.write(db, &[Op::put("healed", 0, [1])]);
            let state = self.state.lock();
            if state.ledger.acknowledged() == before && state.failure.is_none() {
                drop(state);
                self.fail("a write failed on a disk that is sound again".to_owned());
            }
        }
    }

    /// Opens the database anew, after its last handle is gone.
    fn reopen(self: &Arc<Self>) {
        self.let_go();
        self.open(false);
    }

    fn let_go(&self) {
        let (db, readers) = {
            let state = &mut *self.state.lock();
            (state.db.take(), std::mem::take(&mut state.readers))
        };
        drop(readers);
        drop(db);
    }

    /// The process dies, and the power fails, if `survival` says so.
    fn crash(self: &Arc<Self>, survival: Survival, rng: &mut Rng) {
        let old = self.state.lock().fs.clone();
        let fs = old.fork();
        fs.reseed(rng.u64(..));
        fs.crash(survival);
        old.unwatch();
        // The old handle is not to do anything any more.
        old.stop_after(0);
        self.let_go();
        self.state.lock().fs = fs;
        self.watch();
        self.open(survival != Survival::Everything);
    }

    /// Opens the database, which recovers it. What fails by a fault goes well without it.
    fn open(self: &Arc<Self>, power_failed: bool) {
        if !self.foresee(power_failed) {
            return;
        }
        let first = Db::open(DIR, self.options());
        let opened = match first {
            Err(error) => {
                let fs = self.state.lock().fs.clone();
                fs.clear_faults();
                if fs.lock(format!("{DIR}/LOCK").as_ref(), "sim").is_ok_and(|lock| lock.is_err()) {
                    return self.fail(format!("an open that failed keeps the lock: {error}"));
                }
                Db::open(DIR, self.options())
            }
            opened => opened,
        };
        let mut failure = None;
        {
            let state = &mut *self.state.lock();
            match opened {
                Ok(db) => {
                    let (found, expected) = (db.visible_seq(), state.ledger.last_seq());
                    let lost = state.lied.is_some();
                    match state.ledger.batches_at(found) {
                        Some(batches) if lost || found == expected => {
                            state.ledger.recovered(batches, true);
                            state.db = Some(db);
                        }
                        _ => failure = Some(format!("up to {found}, expected {expected}")),
                    }
                }
                Err(_) if state.lied.is_some() => {
                    state.tally.refused += 1;
                    state.ended = true;
                }
                Err(error) => failure = Some(error.to_string()),
            }
        }
        if let Some(what) = failure {
            self.fail(format!("the reopen: {what}"));
        }
    }

    /// Learns from a copy which prefix a recovery will find, and holds every moment of it to that;
    /// `false`: the scenario is over.
    fn foresee(&self, power_failed: bool) -> bool {
        let (fs, bounds, lied) = {
            let state = self.state.lock();
            let bounds = state.ledger.bounds(power_failed).after_lies(state.lied);
            (state.fs.fork(), bounds, state.lied.is_some())
        };
        fs.clear_faults();
        let options = self.options();
        let oracle_at = |seq| self.oracle_at(seq);
        let judge = Judge { options: &options, bounds, may_refuse: lied, oracle_at: &oracle_at };
        let mut tally = Tally::default();
        let found = judge.recover(&fs, &mut Rng::with_seed(0), &mut tally);
        let state = &mut *self.state.lock();
        state.tally += tally;
        match found {
            Ok(Some(batches)) => {
                state.ledger.recovered(batches, power_failed);
                true
            }
            Ok(None) => {
                state.ended = true;
                false
            }
            Err(what) => {
                state.failure.get_or_insert(format!("the reopen: {what}"));
                false
            }
        }
    }

    fn watch(self: &Arc<Self>) {
        let world: Weak<World> = Arc::downgrade(self);
        let fs = self.state.lock().fs.clone();
        fs.watch(move |call| {
            if let Some(world) = world.upgrade() {
                world.at_call(call);
            }
        });
    }

    /// Before a call that changes the file system: reads, a crash of a copy, and what the step says is
    /// done in its midst.
    fn at_call(self: &Arc<Self>, call: &str) {
        let Some((mut rng, nested)) = self.note_call(call) else { return };
        if let Some(db) = self.db() {
            self.read_live(&db, &mut rng, call);
        }
        if rng.u64(..self.settings.visit_every) == 0 {
            self.visit(&mut rng, call);
        }
        if let Some(action) = nested {
            self.state.lock().under_way.nested = true;
            self.state.lock().tally.nested += 1;
            self.act(&action, &mut rng);
            self.state.lock().under_way.nested = false;
        }
    }

    /// What is to be done at this call; `None` where nothing is.
    fn note_call(&self, call: &str) -> Option<(Rng, Option<Action>)> {
        let state = &mut *self.state.lock();
        if state.failure.is_some() || state.ended {
            return None;
        }
        state.tally.calls += 1;
        let under_way = &mut state.under_way;
        under_way.calls += 1;
        let rng = Rng::with_seed(under_way.seed ^ under_way.calls.wrapping_mul(0x9E37_79B9));
        // Where tables are written, no lock is held but the one for flushes, or for merges.
        if under_way.nested || !call.contains(".sst") || call.starts_with("remove") {
            return Some((rng, None));
        }
        under_way.table_calls += 1;
        let due = under_way.within.iter().position(|(at, _)| *at < under_way.table_calls);
        let action = due.map(|index| under_way.within.remove(index).1);
        Some((rng, action))
    }

    /// A read beside whatever is under way.
    fn read_live(&self, db: &Db, rng: &mut Rng, call: &str) {
        let seq = db.visible_seq();
        let bounds = self.state.lock().ledger.bounds(false);
        let Some((batches, oracle)) = self.oracle_at(seq) else {
            return self.fail(format!("before {call}: {seq} is in the middle of a batch"));
        };
        if !(bounds.least..=bounds.tried).contains(&batches) {
            return self.fail(format!("before {call}: {batches} batches show, of {bounds:?}"));
        }
        let comparison = oracle.compare_some(db, rng);
        self.state.lock().tally.checks += 1;
        if let Some(error) = comparison.refused.first() {
            self.refused(error);
        }
        if !comparison.wrong.is_empty() {
            self.fail(format!("before {call}: {comparison}"));
        }
    }

    /// Crashes copies of the disk.
    fn visit(&self, rng: &mut Rng, call: &str) {
        for survival in SURVIVALS {
            let (fs, bounds, may_refuse) = {
                let state = self.state.lock();
                let bounds = state.ledger.bounds(survival != Survival::Everything);
                (state.fs.fork(), bounds.after_lies(state.lied), state.lied.is_some())
            };
            let (options, oracle_at) = (self.options(), |seq| self.oracle_at(seq));
            let judge = Judge { options: &options, bounds, may_refuse, oracle_at: &oracle_at };
            let mut tally = Tally::default();
            let judged = judge.crash(&fs, survival, rng, &mut tally);
            self.state.lock().tally += tally;
            if let Err(what) = judged {
                self.fail(format!("a crash before {call}, {survival:?} survives: {what}"));
            }
        }
    }

    fn oracle_at(&self, seq: SeqNo) -> Option<(usize, Arc<Oracle>)> {
        let ledger = &mut self.state.lock().ledger;
        let batches = ledger.batches_at(seq)?;
        Some((batches, ledger.oracle(batches)))
    }

    fn db(&self) -> Option<Db> {
        self.state.lock().db.clone()
    }

    fn options(&self) -> Options {
        Options {
            durability: self.settings.durability,
            memtable_bytes_max: self.settings.memtable_bytes_max,
            cache_bytes_max: self.settings.cache_bytes_max,
            background: Background::Stepped,
            fs: Arc::new(self.state.lock().fs.clone()),
        }
    }

    fn fail(&self, what: String) {
        self.state.lock().failure.get_or_insert(what);
    }
}
