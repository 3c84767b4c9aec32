//! The simulator must be able to fail: each way in which a database could break its promise is played
//! to it, by a disk whose lies it is not told of, and by answers that are not those of its model.

use kvtimedb_engine::fs::FsOp;

use super::*;
use crate::scenario::Scenario;

/// A world without faults whose every call is visited, and some steps.
fn world() -> (Arc<World>, Vec<Step>) {
    let Scenario { mut settings, mut steps, .. } = Scenario::of(1);
    steps.retain(|step| !matches!(step.action, Action::Fail(_) | Action::Heal));
    (settings.faulty, settings.lying) = (false, false);
    settings.durability = Durability::Sync;
    settings.visit_every = 1;
    (World::new(7, settings), steps)
}

/// What it says at the end, after these steps.
fn failure_of(world: &Arc<World>, steps: &[Step]) -> Option<String> {
    for step in steps {
        if !world.take(step) {
            break;
        }
    }
    world.end().1
}

fn step(action: Action) -> Step {
    Step { number: 0, seed: 1, action, within: Vec::new() }
}

fn put(ts: i64) -> Step {
    step(Action::Write(vec![Op::put("k", ts, "v")]))
}

fn inject(world: &World, op: FsOp, pattern: &str, kind: FaultKind) {
    let fault = Fault { op, pattern: pattern.to_owned(), nth: 0, kind };
    world.state.lock().fs.inject(fault);
}

#[test]
fn an_honest_disk_passes() {
    let (world, steps) = world();
    assert_eq!(failure_of(&world, &steps), None);
}

#[test]
fn a_sync_that_makes_nothing_durable_is_noticed() {
    let (world, _) = world();
    inject(&world, FsOp::Sync, ".wal", FaultKind::Stale);
    let what = failure_of(&world, &[put(1), put(2)]).unwrap();
    assert!(what.contains("batches were recovered"), "{what}");
}

#[test]
fn a_write_that_is_lost_is_noticed() {
    let (world, _) = world();
    inject(&world, FsOp::Write, ".wal", FaultKind::Stale);
    assert!(failure_of(&world, &[put(1), put(2)]).is_some());
}

#[test]
fn an_answer_that_is_not_the_models_is_noticed() {
    for lie in [Op::put("k", 1, "another"), Op::end("k", 5), Op::erase("k", 1)] {
        let (world, _) = world();
        // Written behind the back of the ledger, which counts another operation in its place.
        let db = world.db().unwrap();
        world.take(&put(1));
        world.state.lock().ledger.begin([vec![Op::put("k", 2, "v")]]);
        db.write(batch(&[lie])).unwrap();
        world.state.lock().ledger.acknowledge(true);
        drop(db);
        assert!(failure_of(&world, &[step(Action::Check)]).is_some());
    }
}

#[test]
fn what_was_not_acknowledged_may_be_missing_and_nothing_else() {
    let (world, _) = world();
    world.take(&put(1));
    // Claimed, and never written.
    world.state.lock().ledger.begin([vec![Op::put("k", 2, "v")]]);
    world.state.lock().ledger.acknowledge(true);
    let what = failure_of(&world, &[step(Action::Crash(Survival::Everything))]).unwrap();
    assert!(what.contains("batches were recovered"), "{what}");
}

/// The disk fails, and the simulator does not know: as if the engine failed by itself.
#[test]
fn a_failure_without_a_cause_is_noticed() {
    for (op, pattern, kind) in [
        (FsOp::Write, ".wal", FaultKind::Eio),
        (FsOp::Write, ".wal", FaultKind::Enospc),
        (FsOp::Create, ".sst", FaultKind::Eio),
        (FsOp::Rename, "CURRENT", FaultKind::Eio),
    ] {
        let (world, _) = world();
        inject(&world, op, pattern, kind);
        let steps = [put(1), step(Action::Flush), step(Action::Reopen)];
        let what = failure_of(&world, &steps).unwrap_or_default();
        assert!(what.contains("without a cause"), "{op:?} {pattern} {kind:?}: {what}");
    }
}
