//! The read view under loom: commits, a freeze and installs beside a reader, in every order that
//! threads and memory allow. Each view must show the operations up to one of them, whole.
//!
//! Memtables and tables are stand-ins that keep no order of their own: what a reader sees in them is
//! what the view's order of loads and stores makes sure of. The memtable has models of its own.
//!
//! Explored up to `PREEMPTIONS_MAX` switches between threads at any place, or as many as
//! `LOOM_MAX_PREEMPTIONS` says.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize as Count;

use loom::model::Builder;
use loom::thread;

use super::*;

const PREEMPTIONS_MAX: usize = 3;

/// Two operations a batch and a batch a memtable; the operations have the seqs 1, 2, 3 and so on.
const BATCH_OPS: u64 = 2;

#[derive(Debug)]
struct Memtable {
    number: u64,
    seqs: [AtomicU64; BATCH_OPS as usize],
}

impl Memtable {
    fn new(number: u64) -> Arc<Memtable> {
        Arc::new(Memtable { number, seqs: Default::default() })
    }

    fn last_seq(&self) -> SeqNo {
        (self.number + 1) * BATCH_OPS
    }

    fn insert_batch(&self) {
        for (seq, place) in (self.number * BATCH_OPS + 1..).zip(&self.seqs) {
            place.store(seq, Ordering::Relaxed);
        }
    }

    fn seqs(&self) -> impl Iterator<Item = SeqNo> {
        self.seqs.iter().map(|seq| seq.load(Ordering::Relaxed)).filter(|&seq| seq != 0)
    }
}

#[derive(Clone, Debug)]
struct SuperVersion {
    active: Arc<Memtable>,
    /// Newest first.
    immutables: Vec<Arc<Memtable>>,
    /// What the tables hold. They tell no seqs: all that is in there shows.
    tables: BTreeSet<SeqNo>,
}

fn new_view() -> Arc<ReadView<SuperVersion>> {
    let (immutables, tables) = (Vec::new(), BTreeSet::new());
    Arc::new(ReadView::new(SuperVersion { active: Memtable::new(0), immutables, tables }, 0))
}

/// Commits the batch of this number, to the memtable that was made for it.
fn commit(view: &ReadView<SuperVersion>, number: u64) -> SeqNo {
    let active = Arc::clone(&view.super_version().active);
    assert_eq!(active.number, number, "a freeze is lost");
    active.insert_batch();
    view.publish(active.last_seq());
    active.last_seq()
}

fn freeze(view: &ReadView<SuperVersion>) {
    let active = Memtable::new(view.super_version().active.number + 1);
    view.swap(|new| {
        let frozen = std::mem::replace(&mut new.active, Arc::clone(&active));
        new.immutables.insert(0, frozen);
    });
}

/// Writes the oldest immutable memtable to a table, if there is one.
fn flush(view: &ReadView<SuperVersion>) {
    let old = view.super_version();
    let Some(frozen) = old.immutables.last() else { return };
    let table: Vec<SeqNo> = frozen.seqs().collect();
    assert_eq!(table.len() as u64, BATCH_OPS, "a flush misses what was committed");
    view.swap(|new| {
        new.immutables.pop();
        new.tables.extend(&table);
    });
}

/// Reads everything; returns the last operation shown.
fn read(view: &ReadView<SuperVersion>) -> SeqNo {
    let (sources, visible) = view.load();
    let memtables = std::iter::once(&sources.active).chain(&sources.immutables);
    let mut shown = sources.tables.clone();
    shown.extend(memtables.flat_map(|memtable| memtable.seqs()).filter(|&seq| seq <= visible));
    let last = visible.min(sources.active.last_seq());
    assert!(shown.iter().copied().eq(1..=last), "visible {visible}: {sources:?}");
    last
}

/// Runs `commits` on this thread, flushes on a second one and reads on a third one. A reader who has
/// heard of an acknowledgement sees what was acknowledged, and never less than before.
fn explore(
    flushes: usize,
    commits: impl Fn(&ReadView<SuperVersion>, &AtomicU64) + Send + Sync + 'static,
) {
    let executions = Arc::new(Count::new(0));
    let counted = Arc::clone(&executions);
    let mut model = Builder::new();
    model.preemption_bound = model.preemption_bound.or(Some(PREEMPTIONS_MAX));
    model.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let view = new_view();
        let acknowledged = Arc::new(AtomicU64::new(0));
        let install = thread::spawn({
            let view = Arc::clone(&view);
            move || (0..flushes).for_each(|_| flush(&view))
        });
        let reader = thread::spawn({
            let (view, acknowledged) = (Arc::clone(&view), Arc::clone(&acknowledged));
            move || {
                let least = acknowledged.load(Ordering::Acquire);
                let first = read(&view);
                let second = read(&view);
                assert!(least <= first && first <= second, "{least}, {first}, {second}");
            }
        });
        commits(&view, &acknowledged);
        install.join().unwrap();
        reader.join().unwrap();
    });
    println!("{} executions", executions.load(Ordering::Relaxed));
}

#[test]
fn loom_a_view_shows_a_prefix_across_a_freeze_and_a_flush() {
    explore(1, |view, acknowledged| {
        acknowledged.store(commit(view, 0), Ordering::Release);
        freeze(view);
        acknowledged.store(commit(view, 1), Ordering::Release);
    });
}

#[test]
fn loom_freezes_and_installs_that_meet_lose_nothing() {
    explore(2, |view, _| {
        for number in 0..2 {
            commit(view, number);
            freeze(view);
        }
        commit(view, 2);
    });
}
