//! The atomics and locks by which threads see each other's work without waiting, so that loom can
//! take their place and run the code above this in every order that threads and memory allow:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p kvtimedb-engine --lib --target-dir target/loom -- loom
//! ```
//!
//! Arcs are the standard library's there too: who may free what is the compiler's concern.

#[cfg(not(loom))]
mod real {
    pub(crate) use std::sync::atomic::{AtomicI64, AtomicU64, AtomicU64 as Word, AtomicUsize};

    pub(crate) use arc_swap::{ArcSwap, Guard};
    pub(crate) use parking_lot::{Mutex, MutexGuard};

    /// So many words of zeros, which the operating system backs with memory when they are first
    /// stored to.
    pub(crate) fn zeroed_words(len: usize) -> Box<[Word]> {
        bytemuck::zeroed_slice_box(len)
    }
}

#[cfg(loom)]
mod modelled {
    use std::ops::Deref;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64 as Shadow, Ordering};

    pub(crate) use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize};
    use parking_lot::Mutex as Untracked;

    pub(crate) fn zeroed_words(len: usize) -> Box<[Word]> {
        (0..len).map(|_| Word { word: AtomicU64::new(0), last: Shadow::new(0) }).collect()
    }

    /// A word of an arena. One that is read relaxed must be settled: nobody stores to it any more, and
    /// the reader has come by an order that shows it the last store.
    pub(crate) struct Word {
        word: AtomicU64,
        last: Shadow,
    }

    impl Word {
        pub(crate) fn load(&self, order: Ordering) -> u64 {
            let word = self.word.load(order);
            if order == Ordering::Relaxed {
                let last = self.last.load(Ordering::SeqCst);
                assert_eq!(word, last, "a word is read relaxed that isn't settled for the reader");
            }
            word
        }

        pub(crate) fn store(&self, word: u64, order: Ordering) {
            self.last.store(word, Ordering::SeqCst);
            self.word.store(word, order);
        }
    }

    /// A lock that can't be poisoned, as ours can't.
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("a model that panics ends")
        }
    }

    /// What a load gives.
    #[derive(Debug)]
    pub(crate) struct Guard<T>(T);

    impl<T> Deref for Guard<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }

    /// An [`arc_swap::ArcSwap`] that promises less than that does: its operations order memory as an
    /// acquiring load and an acquiring and releasing exchange of a pointer.
    #[derive(Debug)]
    pub(crate) struct ArcSwap<T> {
        /// The place of the current one in `all`.
        current: AtomicUsize,
        /// Each one that ever was. Loom wants the end of what it tracks ordered, and an Arc's isn't.
        all: Untracked<Vec<Arc<T>>>,
    }

    impl<T> ArcSwap<T> {
        pub(crate) fn from_pointee(first: T) -> Self {
            ArcSwap { current: AtomicUsize::new(0), all: Untracked::new(vec![Arc::new(first)]) }
        }

        pub(crate) fn load(&self) -> Guard<Arc<T>> {
            let current = self.current.load(Ordering::Acquire);
            Guard(Arc::clone(&self.all.lock()[current]))
        }

        pub(crate) fn rcu(&self, change: impl Fn(&T) -> T) {
            let mut current = self.current.load(Ordering::Acquire);
            loop {
                let old = Arc::clone(&self.all.lock()[current]);
                let new = Arc::new(change(&old));
                let place = {
                    let mut all = self.all.lock();
                    all.push(new);
                    all.len() - 1
                };
                let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
                match self.current.compare_exchange(current, place, success, failure) {
                    Ok(_) => return,
                    Err(changed) => current = changed,
                }
            }
        }
    }
}

#[cfg(loom)]
pub(crate) use modelled::*;
#[cfg(not(loom))]
pub(crate) use real::*;
