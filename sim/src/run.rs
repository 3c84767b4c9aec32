//! Running scenarios, many or one, and making one that fails shorter.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::AddAssign;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use parking_lot::Mutex;

use crate::scenario::Scenario;
use crate::world::World;

/// How often a scenario that fails is run to make it shorter.
const SHORTENING_RUNS_MAX: usize = 300;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Scenarios, one a seed.
    pub scenarios: u64,
    /// Steps of them.
    pub steps: u64,
    /// Operations committed.
    pub ops: u64,
    /// Calls that changed the file system.
    pub calls: u64,
    /// Crashes, each followed by a recovery that was held against the model.
    pub crash_points: u64,
    /// Those of them that struck within a recovery.
    pub recovery_crashes: u64,
    /// Actions in the midst of a flush or merge.
    pub nested: u64,
    /// Times that the running database was held against the model.
    pub checks: u64,
    /// Failures and lies of the disk that were laid out; some never struck.
    pub faults: u64,
    /// Damaged copies.
    pub damages: u64,
    /// Answers refused after a lie or damage.
    pub refused: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.scenarios += other.scenarios;
        self.steps += other.steps;
        self.ops += other.ops;
        self.calls += other.calls;
        self.crash_points += other.crash_points;
        self.recovery_crashes += other.recovery_crashes;
        self.nested += other.nested;
        self.checks += other.checks;
        self.faults += other.faults;
        self.damages += other.damages;
        self.refused += other.refused;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { scenarios, steps, ops, calls, crash_points, recovery_crashes, .. } = self;
        let Tally { nested, checks, faults, damages, refused, .. } = self;
        write!(
            f,
            "{scenarios} scenarios, {steps} steps, {nested} more in the midst of others, {ops} \
             operations, {calls} calls to the file system, {crash_points} crash points, of which \
             {recovery_crashes} within a recovery, {checks} checks of the running database, {faults} \
             faults, {damages} damaged copies, {refused} answers refused after those"
        )
    }
}

/// A scenario that fails, as short as it was made.
#[derive(Debug)]
pub struct Failure {
    /// The scenario.
    pub scenario: Scenario,
    /// What went wrong.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario { seed, settings, steps } = &self.scenario;
        let numbers: Vec<_> = steps.iter().map(|step| step.number.to_string()).collect();
        writeln!(f, "seed {seed} fails: {}", self.what)?;
        writeln!(f, "{settings:?}")?;
        for step in steps {
            let text = format!("{:?} {:?}", step.action, step.within);
            let shown: String = text.chars().take(200).collect();
            writeln!(f, "  {:4}  {shown}", step.number)?;
        }
        let steps = numbers.join(",");
        let steps = if steps.is_empty() { steps } else { format!("STEPS={steps} ") };
        write!(f, "replay: SEED={seed} {steps}cargo run --release -p kvtimedb-sim")
    }
}

/// Runs one scenario.
pub fn replay(scenario: &Scenario) -> Result<Tally, String> {
    let run = || {
        let world = World::new(scenario.seed, scenario.settings.clone());
        let mut at = "before the first step".to_owned();
        for step in &scenario.steps {
            at = format!("in step {}", step.number);
            if !world.take(step) {
                break;
            }
        }
        let (tally, failure) = world.end();
        failure.map_or(Ok(tally), |what| Err(format!("{at}: {what}")))
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
        Err(format!("a panic: {text}"))
    })
}

/// Runs the scenarios of the seeds from `from` on, on so many threads, until they have come to
/// `crash_points` together, or one fails.
pub fn search(from: u64, crash_points: u64, threads: usize) -> Result<Tally, Box<Failure>> {
    let next_seed = AtomicU64::new(from);
    let total = Mutex::new(Tally::default());
    let failed = Mutex::new(None);
    let work = || {
        while total.lock().crash_points < crash_points && failed.lock().is_none() {
            let scenario = Scenario::of(next_seed.fetch_add(1, Ordering::Relaxed));
            match replay(&scenario) {
                Ok(tally) => *total.lock() += tally,
                Err(what) => {
                    failed.lock().get_or_insert((scenario, what));
                }
            }
        }
    };
    thread::scope(|scope| (0..threads.max(1)).for_each(|_| drop(scope.spawn(work))));
    match failed.into_inner() {
        Some((scenario, what)) => Err(Box::new(shorten(scenario, what))),
        None => Ok(total.into_inner()),
    }
}

/// Leaves out steps, many at a time and then fewer, as long as the rest fails.
fn shorten(scenario: Scenario, what: String) -> Failure {
    let mut failure = Failure { scenario, what };
    let mut runs = 0;
    let mut chunk = failure.scenario.steps.len().div_ceil(2).max(1);
    loop {
        let mut from = 0;
        let mut shortened = false;
        while from < failure.scenario.steps.len() && runs < SHORTENING_RUNS_MAX {
            let steps = &failure.scenario.steps;
            let rest = steps.iter().enumerate().filter(|(i, _)| !(from..from + chunk).contains(i));
            let numbers: BTreeSet<_> = rest.map(|(_, step)| step.number).collect();
            let shorter = failure.scenario.only(&numbers);
            runs += 1;
            match replay(&shorter) {
                Err(what) => {
                    failure = Failure { scenario: shorter, what };
                    shortened = true;
                }
                Ok(_) => from += chunk,
            }
        }
        if runs >= SHORTENING_RUNS_MAX || (chunk == 1 && !shortened) {
            return failure;
        }
        chunk = (chunk / 2).max(1);
    }
}
