//! Durable puts, one point each, of some threads at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::round::Round;
use crate::Result;
use crate::figures::Recorder;
use crate::machine::write_back;
use crate::measures::Measure;
use crate::peers::{Peer, Setup, Writes};

/// All databases, one after the other, each for the same time.
pub(super) fn measure(
    round: &Round<'_>,
    threads: usize,
    measure: Measure,
    recorder: &mut Recorder,
) -> Result<()> {
    let purpose = format!("durable-{threads}");
    for &kind in &round.kinds {
        let setup = Setup::of(round.data, Writes::Durable);
        let peer = (kind.open)(&round.home(kind, &purpose)?, setup)?;
        // What others left unwritten would be written during the syncs of this one.
        write_back();
        let began = Instant::now();
        let written = puts(round, peer.as_ref(), threads)?;
        let rate = written as f64 / began.elapsed().as_secs_f64();
        round.figure(recorder, measure, kind.name, rate)?;
        round.check_written(kind, peer.as_ref(), written)?;
        round.discard((kind, peer), &purpose)?;
    }
    Ok(())
}

/// Writes the data's first points, and returns how many.
fn puts(round: &Round<'_>, peer: &dyn Peer, threads: usize) -> Result<usize> {
    let points = &round.data.points;
    let next = AtomicUsize::new(0);
    let until = Instant::now() + round.plan.sizes.durable;
    let write = || -> Result<usize> {
        let mut written = 0;
        while Instant::now() < until {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= points.len() {
                break;
            }
            peer.write(&points.part(i..i + 1))?;
            written += 1;
        }
        Ok(written)
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..threads).map(|_| scope.spawn(write)).collect();
        writers.into_iter().map(|writer| writer.join().expect("a writer that ends")).sum()
    })
}
