//! What readers take instead of locks.
//!
//! # Thread safety
//! Any number of readers. One committer at a time, who holds the lock `writer`, stores to the active
//! memtable, then publishes; whoever swaps does so at any time, also at once with others.
//!
//! # Invariants
//! - A super-version that lacks an operation's memtable as the active one, has it among the immutable
//!   ones or has its table, once that operation is published. Freezes and installs keep this: a
//!   memtable is frozen only when all its operations are published, and leaves in the swap that brings
//!   its table.
//! - So each view shows the operations up to one of them, whole: up to `visible` or, if its active
//!   memtable was frozen meanwhile, up to the last one in there. That is at least what was published
//!   before the view was loaded, and at most `visible`.

#[cfg(all(test, loom))]
mod loom_tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::key::SeqNo;
use crate::sync::{ArcSwap, AtomicU64, Guard};

/// A super-version `S` and the last operation that readers may see in it.
#[derive(Debug)]
pub(crate) struct ReadView<S> {
    super_version: ArcSwap<S>,
    /// Every operation up to this one is in the super-version, and in the log as durably as the
    /// options say.
    visible_seq: AtomicU64,
}

impl<S: Clone> ReadView<S> {
    pub(crate) fn new(super_version: S, visible_seq: SeqNo) -> Self {
        ReadView {
            super_version: ArcSwap::from_pointee(super_version),
            visible_seq: AtomicU64::new(visible_seq),
        }
    }

    /// A view for one read, and the last operation that it may show. The super-version is loaded first:
    /// then what it lacks is newer than the read's beginning, and what it has above `visible` is in its
    /// active memtable, which hides it. A table could not.
    pub(crate) fn load(&self) -> (Guard<Arc<S>>, SeqNo) {
        let super_version = self.super_version.load();
        (super_version, self.visible_seq())
    }

    /// The super-version alone, for those who look at its shape.
    pub(crate) fn super_version(&self) -> Guard<Arc<S>> {
        self.super_version.load()
    }

    /// The last operation that readers see.
    pub(crate) fn visible_seq(&self) -> SeqNo {
        self.visible_seq.load(Ordering::Acquire)
    }

    /// Shows readers the operations up to this one, which are in the active memtable. For the committer
    /// only.
    pub(crate) fn publish(&self, last: SeqNo) {
        self.visible_seq.store(last, Ordering::Release);
    }

    /// Changes the super-version, starting from what is there. `change` is called again if another
    /// swap comes first.
    pub(crate) fn swap(&self, change: impl Fn(&mut S)) {
        self.super_version.rcu(|old| {
            let mut new = S::clone(old);
            change(&mut new);
            new
        });
    }
}
