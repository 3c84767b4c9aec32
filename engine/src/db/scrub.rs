//! Bit rot is found before it is read: a scrub reads every live table again.
//!
//! A read verifies a block at its first touch only, and what nobody reads is never verified: without a
//! scrub, damage is found when the last good copy is long gone. The scrub holds no lock while it reads,
//! and no table beyond the one that it is at: what is merged away meanwhile is passed by. It reads through
//! the page cache: of what is cached, it verifies the copy that reads see too.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::state::Core;
use crate::error::{Error, Result};
use crate::key::FileId;
use crate::table::Damage;
use crate::version::Table;

/// How fast the background scrub reads, in bytes a second: a hundredth of what a cheap disk reads, and
/// 2.5 TB in a week.
const SCRUB_BYTES_PER_SECOND: u64 = 4 << 20;

/// The background scrub sleeps whenever it has read so much, in bytes: 16 times a second.
const SCRUB_STEP_BYTES: u64 = 256 << 10;

/// After an open the disk has other things to do.
const SCRUB_DELAY: Duration = Duration::from_mins(1);

/// From the end of a pass to the beginning of the next one.
const SCRUB_PERIOD: Duration = Duration::from_hours(7 * 24);

/// From a pass that could not be ended, as where there were too many open files, to the next one.
const SCRUB_RETRY: Duration = Duration::from_hours(1);

/// The most damaged parts that are remembered with their key ranges; all are counted.
const DAMAGE_MAX: usize = 1000;

/// What a scrub has read and found.
#[derive(Clone, Debug, Default)]
pub struct ScrubReport {
    /// Tables read.
    pub tables: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Damaged parts of tables.
    pub damaged: u64,
    /// The first thousand of them.
    pub damage: Vec<Damage>,
}

impl Core {
    /// One pass over the live tables. `pace` is told of all bytes read; its error ends the pass.
    pub(crate) fn scrub(&self, pace: &mut dyn FnMut(u64) -> Result<()>) -> Result<ScrubReport> {
        let metrics = self.metrics();
        let mut report = ScrubReport::default();
        let version = self.view.super_version().version.clone();
        let ids: Vec<FileId> = version.tables().map(|table| table.meta.id).collect();
        drop(version);
        for id in ids {
            let Some(table) = self.live_table(id) else { continue };
            let (mut found, mut damaged) = (Vec::new(), 0);
            table.reader.scrub(
                &*self.home.fs,
                &mut |bytes| {
                    report.bytes += bytes;
                    metrics.scrub_bytes_read.add(bytes);
                    self.check_open()?;
                    pace(bytes)
                },
                &mut |damage| {
                    damaged += 1;
                    if found.len() < DAMAGE_MAX {
                        found.push(damage);
                    }
                },
            )?;
            report.tables += 1;
            drop(table);
            // A file that was merged away may be gone, which is no damage.
            if self.live_table(id).is_some() {
                report.damaged += damaged;
                self.remember_damage(id, &found);
                let room = DAMAGE_MAX - report.damage.len();
                report.damage.extend(found.into_iter().take(room));
            }
        }
        metrics.scrub_passes.add(1);
        metrics.scrub_damage_found.add(report.damaged);
        Ok(report)
    }

    fn live_table(&self, id: FileId) -> Option<Arc<Table>> {
        let view = self.view.super_version();
        view.version.tables().find(|table| table.meta.id == id).cloned()
    }

    /// `found` is what is known of this table from now on. What is known of tables that are dead makes room.
    fn remember_damage(&self, id: FileId, found: &[Damage]) {
        let view = self.view.super_version();
        let is_live = |id: FileId| view.version.tables().any(|table| table.meta.id == id);
        let mut damage = self.damage.lock();
        damage.retain(|(of, _)| *of != id && is_live(*of));
        let room = DAMAGE_MAX - damage.len();
        damage.extend(found.iter().take(room).map(|found| (id, found.clone())));
    }

    /// What scrubs have found in tables that are live.
    pub(crate) fn damage(&self) -> Vec<Damage> {
        self.live_damage(|damage| damage.cloned().collect())
    }

    /// How much that is.
    pub(crate) fn damaged_parts(&self) -> usize {
        self.live_damage(|damage| damage.count())
    }

    fn live_damage<T>(&self, look: impl FnOnce(&mut dyn Iterator<Item = &Damage>) -> T) -> T {
        let view = self.view.super_version();
        let is_live = |id: FileId| view.version.tables().any(|table| table.meta.id == id);
        let damage = self.damage.lock();
        look(&mut damage.iter().filter(|(id, _)| is_live(*id)).map(|(_, damage)| damage))
    }

    /// The body of the thread that scrubs: a pass a minute after the open, and one a week.
    pub(crate) fn serve_scrubs(&self, wake: &Receiver<()>) {
        let mut sleep = SCRUB_DELAY;
        while self.sleeps_on(wake, sleep) {
            let mut owed = 0;
            let mut pace = |bytes| {
                owed += bytes;
                if owed < SCRUB_STEP_BYTES {
                    return Ok(());
                }
                let nap = Duration::from_micros(owed * 1_000_000 / SCRUB_BYTES_PER_SECOND);
                owed = 0;
                if self.sleeps_on(wake, nap) { Ok(()) } else { Err(Error::Closed) }
            };
            // What it finds is remembered.
            sleep = if self.scrub(&mut pace).is_ok() { SCRUB_PERIOD } else { SCRUB_RETRY };
        }
    }

    /// Waits so long; `false` at once where the database is closing.
    fn sleeps_on(&self, wake: &Receiver<()>, period: Duration) -> bool {
        wake.recv_timeout(period) == Err(RecvTimeoutError::Timeout) && !self.is_closing()
    }
}
