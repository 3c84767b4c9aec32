//! How much a client may take of the server: time, connections, memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// How long an upload waits for memory, and how often it looks.
const MEMORY_WAIT: Duration = Duration::from_secs(10);
const MEMORY_LOOK: Duration = Duration::from_millis(10);

/// The bounds of the HTTP front. The defaults are the server's; tests have shorter ones.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Connections at once; further ones wait in the listen queue.
    pub(crate) connections_max: usize,
    /// From the connection to its first bytes.
    pub(crate) first_bytes_timeout: Duration,
    /// From the end of one request to the end of the next one's headers: also how long a connection
    /// may be idle.
    pub(crate) headers_timeout: Duration,
    /// Between two pieces of a body.
    pub(crate) body_gap_timeout: Duration,
    /// For a whole body.
    pub(crate) body_timeout: Duration,
    /// For a request, from its headers to the start of its answer.
    pub(crate) request_timeout: Duration,
    /// For a client to take the next piece of its answer.
    pub(crate) write_timeout: Duration,
    /// How long the rest of a refused request is read, so that the client gets to see the refusal.
    pub(crate) linger: Duration,
    /// How long requests under way may go on after the server was told to stop.
    pub(crate) drain: Duration,
    /// The largest body, in bytes.
    pub(crate) body_bytes_max: usize,
    /// All request bodies in memory, in bytes.
    pub(crate) requests_bytes_max: usize,
    /// All answers in memory, in bytes. Apart from the requests' budget, so that clients who are slow
    /// to take their answers can't stop writes.
    pub(crate) answers_bytes_max: usize,
    /// What all bodies that are read while they arrive take of memory, in bytes. Apart from the requests'
    /// budget, so that clients who send them slowly can't stop writes.
    pub(crate) uploads_bytes_max: usize,
    /// Long reads at once; further ones wait for their turn.
    pub(crate) reads_max: usize,
    /// Bodies that are read while they arrive, at once; further ones wait for their turn.
    pub(crate) uploads_max: usize,
    /// Watches at once; further ones are refused.
    pub(crate) watches_max: usize,
    /// How long a read or an upload may wait for its turn.
    pub(crate) reads_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 1024,
            first_bytes_timeout: Duration::from_secs(10),
            headers_timeout: Duration::from_secs(10),
            body_gap_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_mins(2),
            request_timeout: Duration::from_secs(150),
            write_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(1),
            drain: Duration::from_secs(10),
            body_bytes_max: 64 << 20,
            requests_bytes_max: 256 << 20,
            answers_bytes_max: 256 << 20,
            uploads_bytes_max: 256 << 20,
            reads_max: 16,
            uploads_max: 16,
            watches_max: 256,
            reads_wait: Duration::from_secs(10),
        }
    }
}

/// Bytes that may be in memory at once, over all connections.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    bytes: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Arc<Budget> {
        Arc::new(Budget { bytes_max, bytes: AtomicUsize::new(0) })
    }

    /// A share of nothing, to be [grown](Charge::grow).
    pub(crate) fn share(self: &Arc<Self>) -> Charge {
        Charge { budget: Arc::clone(self), bytes: 0 }
    }
}

/// A share of a [`Budget`], given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// Takes `bytes` more, or fails with [`Error::Overloaded`] and keeps what it had.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<()> {
        let Budget { bytes_max, bytes: total } = &*self.budget;
        total
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |total| {
                total.checked_add(bytes).filter(|total| total <= bytes_max)
            })
            .map_err(|_| Error::Overloaded)?;
        self.bytes += bytes;
        Ok(())
    }

    /// As [`grow`](Charge::grow), to `bytes` in all; it never shrinks.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<()> {
        self.grow(bytes.saturating_sub(self.bytes))
    }

    /// As [`grow_to`](Charge::grow_to), and waits a while for others to give theirs back: only on a thread
    /// that may block.
    pub(crate) fn grow_to_in_time(&mut self, bytes: usize) -> Result<()> {
        let begun = Instant::now();
        loop {
            match self.grow_to(bytes) {
                Err(Error::Overloaded) if begun.elapsed() < MEMORY_WAIT => {
                    thread::sleep(MEMORY_LOOK);
                }
                outcome => return outcome,
            }
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_exceeded_and_comes_back() {
        let budget = Budget::new(10);
        let mut first = budget.share();
        first.grow(4).unwrap();
        first.grow(4).unwrap();
        let mut second = budget.share();
        assert!(second.grow(3).is_err());
        assert!(second.grow(usize::MAX).is_err());
        second.grow(2).unwrap();
        drop(first);
        second.grow_to(10).unwrap();
        second.grow_to(3).unwrap();
        assert!(second.grow_to(11).is_err());
        drop(second);
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 0);
    }
}
