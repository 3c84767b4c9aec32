//! Stores that break in ways that databases have broken, each of which the checker must find out; and
//! one that doesn't, which it must not blame. Clients, store and crash take their steps in a random order
//! on one thread, so that a seed repeats a history.

use std::collections::BTreeMap;

use fastrand::Rng;
use kvtimedb_engine::Timestamp;

use super::checker::is_linearizable;
use super::history::{Action, Operation, shrunk, told};
use super::next_action;

const SEEDS: u64 = 200;
const CLIENTS: usize = 4;
const OPERATIONS_A_CLIENT: usize = 6;

/// How often a store that breaks does so: once in so many chances.
const RARELY: u8 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// A floor is answered from what was there two writes ago.
    StaleFloor,
    /// A value does not replace the one that is there.
    LostUpdate,
    /// An end does nothing.
    IgnoredEnd,
    /// A write is answered before it takes effect.
    AnsweredEarly,
    /// A crash takes the last write, answered or not.
    LostAtCrash,
}

/// What a client is at.
enum Step {
    Idle,
    Called(u64, Action),
    Done(u64, Action),
}

#[derive(Default)]
struct Store {
    content: BTreeMap<Timestamp, Option<String>>,
    /// The contents before each write.
    before: Vec<BTreeMap<Timestamp, Option<String>>>,
    /// Writes that take effect with the next operation.
    delayed: Vec<Action>,
}

impl Store {
    fn act(&mut self, action: &mut Action, fault: Fault, rng: &mut Rng) {
        let breaks = rng.u8(..RARELY) == 0;
        let delayed = std::mem::take(&mut self.delayed);
        match action {
            Action::Floor(at, answer) => {
                let stale = self.before.len().checked_sub(2).map(|old| &self.before[old]);
                let content = stale.filter(|_| breaks && fault == Fault::StaleFloor);
                let content = content.unwrap_or(&self.content);
                *answer = content.range(..=*at).next_back().and_then(|(_, value)| value.clone());
            }
            Action::End(_) if breaks && fault == Fault::IgnoredEnd => {}
            Action::Put(ts, _) if breaks && fault == Fault::LostUpdate => {
                if !self.content.contains_key(ts) {
                    self.write(action);
                }
            }
            _ if breaks && fault == Fault::AnsweredEarly => self.delayed.push(action.clone()),
            _ => self.write(action),
        }
        for action in &delayed {
            self.write(action);
        }
    }

    fn write(&mut self, action: &Action) {
        self.before.push(self.content.clone());
        match action {
            Action::Put(ts, value) => self.content.insert(*ts, Some(value.clone())),
            Action::End(ts) => self.content.insert(*ts, None),
            Action::Floor(..) => unreachable!("a floor writes nothing"),
        };
    }
}

/// What clients saw of a store with this fault.
fn history(fault: Fault, seed: u64) -> Vec<Operation> {
    let mut rng = Rng::with_seed(seed);
    let mut store = Store::default();
    let mut clients: Vec<(usize, Step)> = (0..CLIENTS).map(|_| (0, Step::Idle)).collect();
    let crash = rng.u64(20..40);
    let mut history = Vec::new();
    for moment in 0.. {
        if moment == crash {
            for (client, (_, step)) in clients.iter_mut().enumerate() {
                if let Step::Called(called, action) | Step::Done(called, action) =
                    std::mem::replace(step, Step::Idle)
                    && !matches!(action, Action::Floor(..))
                {
                    history.push(Operation { client, called, answered: None, action });
                }
            }
            if fault == Fault::LostAtCrash {
                store.content = store.before.pop().unwrap_or_default();
            }
        }
        let at_work = |(done, step): &(usize, Step)| {
            *done < OPERATIONS_A_CLIENT || !matches!(step, Step::Idle)
        };
        let at_work: Vec<usize> = (0..CLIENTS).filter(|&n| at_work(&clients[n])).collect();
        let Some(&client) = rng.choice(&at_work) else { break };
        let (done, step) = &mut clients[client];
        *step = match std::mem::replace(step, Step::Idle) {
            Step::Idle => {
                *done += 1;
                Step::Called(moment, next_action(&mut rng, format!("{client}.{done}")))
            }
            Step::Called(called, mut action) => {
                store.act(&mut action, fault, &mut rng);
                Step::Done(called, action)
            }
            Step::Done(called, action) => {
                history.push(Operation { client, called, answered: Some(moment), action });
                Step::Idle
            }
        };
    }
    history
}

#[test]
fn a_store_that_does_not_break_is_not_blamed() {
    for seed in 0..SEEDS {
        let history = history(Fault::None, seed);
        assert!(is_linearizable(&history), "seed {seed}:\n{}", told(&history));
    }
}

#[test]
fn a_store_that_breaks_is_found_out() {
    for fault in [
        Fault::StaleFloor,
        Fault::LostUpdate,
        Fault::IgnoredEnd,
        Fault::AnsweredEarly,
        Fault::LostAtCrash,
    ] {
        let histories = (0..SEEDS).map(|seed| history(fault, seed));
        let bad: Vec<_> = histories.filter(|history| !is_linearizable(history)).collect();
        let least = bad.iter().map(|bad| shrunk(bad, |history| !is_linearizable(history)));
        let least = least.min_by_key(Vec::len).unwrap_or_else(|| panic!("{fault:?}: not found"));
        println!("{fault:?}, {} of {SEEDS}:\n{}", bad.len(), told(&least));
        assert!(least.len() <= 4, "{fault:?} takes but a few operations:\n{}", told(&least));
    }
}
