//! One round: a fresh directory for each database, filled, asked, compacted, asked, opened again.

use std::path::PathBuf;
use std::time::Instant;

use kvtimedb_engine::Timestamp;

use super::check::check;
use super::floors::{questions, time_floors, time_histories};
use super::{Plan, bare, durable, mixed};
use crate::data::Data;
use crate::figures::Recorder;
use crate::machine::{disk_bytes, settle};
use crate::measures::{self, Measure};
use crate::peers::{Kind, Peer, Setup, Writes};
use crate::{BATCH_OPS, Result};

pub(super) struct Round<'a> {
    pub(super) plan: &'a Plan,
    pub(super) data: &'a Data,
    /// Who comes when.
    pub(super) kinds: Vec<Kind>,
    dir: tempfile::TempDir,
    /// The same in every round would warm the caches for the next.
    pub(super) seed: u64,
}

/// An open database and whose it is.
type Open = (Kind, Box<dyn Peer>);

impl<'a> Round<'a> {
    pub(super) fn new(plan: &'a Plan, data: &'a Data, round: usize) -> Result<Self> {
        let mut kinds = plan.kinds.clone();
        kinds.rotate_left(round % plan.kinds.len());
        let dir = tempfile::tempdir_in(&plan.dir)?;
        Ok(Round { plan, data, kinds, dir, seed: 100 * round as u64 })
    }

    pub(super) fn run(&self, recorder: &mut Recorder) -> Result<()> {
        // Everything is measured on the main data set, and on the others what depends on the data.
        let is_main = self.data.set.name == "telemetry";
        let mut peers = self.load(recorder)?;
        let loaded = [measures::LOADED_UNIFORM, measures::LOADED_RECENT, measures::LOADED_MISSING];
        let compacted = [measures::UNIFORM, measures::RECENT, measures::MISSING];
        let rows = if is_main { 3 } else { 1 };
        self.floors(&peers, &loaded[..rows], recorder)?;
        self.compact(&mut peers, recorder)?;
        self.floors(&peers, &compacted[..rows], recorder)?;
        if is_main {
            self.held_views(&peers, recorder)?;
            self.histories(&peers, recorder)?;
        }
        self.reopen(peers, recorder)?;
        if is_main {
            self.single_puts(recorder)?;
            for (threads, measure) in [1, 8, 64].into_iter().zip(measures::DURABLE) {
                durable::measure(self, threads, measure, recorder)?;
                let rate = bare::puts_a_second(self.dir.path(), threads, self.plan.sizes.durable)?;
                self.figure(recorder, measure, bare::NAME, rate)?;
            }
            mixed::measure(self, recorder)?;
        }
        Ok(())
    }

    pub(super) fn figure(
        &self,
        recorder: &mut Recorder,
        measure: Measure,
        who: &str,
        value: f64,
    ) -> Result<()> {
        recorder.figure(self.data.set.name, measure, who, value)
    }

    /// A directory for one database.
    pub(super) fn home(&self, kind: Kind, purpose: &str) -> Result<PathBuf> {
        let home = self.dir.path().join(format!("{}-{purpose}", kind.name));
        std::fs::create_dir_all(&home)?;
        Ok(home)
    }

    /// Ends a database and removes its files.
    pub(super) fn discard(&self, (kind, peer): Open, purpose: &str) -> Result<()> {
        peer.close()?;
        Ok(std::fs::remove_dir_all(self.home(kind, purpose)?)?)
    }

    fn load(&self, recorder: &mut Recorder) -> Result<Vec<Open>> {
        let mut peers = Vec::new();
        let points = &self.data.points;
        for &kind in &self.kinds {
            let setup = Setup::of(self.data, Writes::Buffered);
            let peer = (kind.open)(&self.home(kind, "load")?, setup)?;
            let began = Instant::now();
            for part in points.parts(BATCH_OPS) {
                peer.write(&part)?;
            }
            let taken = began.elapsed();
            let rested = settle().saturating_duration_since(began).max(taken);
            for (measure, time) in [(measures::INGEST, taken), (measures::INGEST_RESTED, rested)] {
                let rate = points.len() as f64 / time.as_secs_f64();
                self.figure(recorder, measure, kind.name, rate)?;
            }
            self.check(kind, peer.as_ref())?;
            peers.push((kind, peer));
        }
        Ok(peers)
    }

    fn check(&self, kind: Kind, peer: &dyn Peer) -> Result<()> {
        let name = kind.name;
        check(self.data, peer.reader()?.as_mut()).map_err(|error| format!("{name}: {error}"))?;
        if let Some(mut view) = peer.held_view()? {
            check(self.data, view.as_mut()).map_err(|e| format!("{name}, held view: {e}"))?;
        }
        Ok(())
    }

    fn floors(&self, peers: &[Open], rows: &[Measure], recorder: &mut Recorder) -> Result<()> {
        let sorts = questions(self.data, self.plan.sizes.probes, self.seed + 1);
        for (measure, questions) in rows.iter().zip(&sorts) {
            for (kind, peer) in peers {
                let each_us = time_floors(peer.reader()?.as_mut(), questions)?;
                self.figure(recorder, *measure, kind.name, each_us)?;
            }
        }
        Ok(())
    }

    fn compact(&self, peers: &mut Vec<Open>, recorder: &mut Recorder) -> Result<()> {
        for (kind, peer) in std::mem::take(peers) {
            let began = Instant::now();
            let peer = peer.compact()?;
            let seconds = began.elapsed().as_secs_f64();
            self.figure(recorder, measures::COMPACTION, kind.name, seconds)?;
            settle();
            self.check(kind, peer.as_ref())?;
            peers.push((kind, peer));
        }
        Ok(())
    }

    fn held_views(&self, peers: &[Open], recorder: &mut Recorder) -> Result<()> {
        let [uniform, ..] = questions(self.data, self.plan.sizes.probes, self.seed + 1);
        for (kind, peer) in peers {
            let mut reader = match peer.held_view()? {
                Some(view) => view,
                None => peer.reader()?,
            };
            let each_us = time_floors(reader.as_mut(), &uniform)?;
            self.figure(recorder, measures::HELD, kind.name, each_us)?;
        }
        Ok(())
    }

    fn histories(&self, peers: &[Open], recorder: &mut Recorder) -> Result<()> {
        let count = self.plan.sizes.histories;
        for (kind, peer) in peers {
            let mut reader = peer.reader()?;
            let timed = time_histories(self.data, reader.as_mut(), count, self.seed + 2)?;
            if let Some(each_us) = timed {
                self.figure(recorder, measures::HISTORY, kind.name, each_us)?;
            }
        }
        Ok(())
    }

    fn reopen(&self, peers: Vec<Open>, recorder: &mut Recorder) -> Result<()> {
        for (kind, peer) in peers {
            peer.close()?;
            let home = self.home(kind, "load")?;
            let each = disk_bytes(&home, kind.kept_log)? as f64 / self.data.points.len() as f64;
            self.figure(recorder, measures::BYTES, kind.name, each)?;
            let began = Instant::now();
            let peer = (kind.open)(&home, Setup::of(self.data, Writes::Buffered))?;
            peer.reader()?.floor(self.data.key(0), Timestamp::MAX)?;
            let taken_ms = began.elapsed().as_secs_f64() * 1e3;
            self.figure(recorder, measures::REOPEN, kind.name, taken_ms)?;
            self.check(kind, peer.as_ref())?;
            self.discard((kind, peer), "load")?;
        }
        Ok(())
    }

    fn single_puts(&self, recorder: &mut Recorder) -> Result<()> {
        let points = &self.data.points;
        let puts = self.plan.sizes.puts.min(points.len());
        for &kind in &self.kinds {
            let setup = Setup::of(self.data, Writes::Buffered);
            let peer = (kind.open)(&self.home(kind, "puts")?, setup)?;
            let began = Instant::now();
            for i in 0..puts {
                peer.write(&points.part(i..i + 1))?;
            }
            let rate = puts as f64 / began.elapsed().as_secs_f64();
            self.figure(recorder, measures::PUT, kind.name, rate)?;
            self.check_written(kind, peer.as_ref(), puts)?;
            self.discard((kind, peer), "puts")?;
        }
        Ok(())
    }

    /// Whether a sample of the first `count` points is there.
    pub(super) fn check_written(&self, kind: Kind, peer: &dyn Peer, count: usize) -> Result<()> {
        let mut reader = peer.reader()?;
        for i in (0..count).step_by(count.div_ceil(500).max(1)) {
            let point = self.data.points.get(i);
            let found = reader.floor(point.key, point.ts)?;
            if found != Some((point.ts, point.value.to_vec())) {
                return Err(
                    format!("{}: point {i} was acknowledged, got {found:?}", kind.name).into()
                );
            }
        }
        Ok(())
    }
}
