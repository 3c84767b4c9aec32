//! fjall: an LSM tree in Rust.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use kvtimedb_engine::Timestamp;

use super::{CACHE_BYTES, Composite, KeyForm, Kind, Peer, Reader, Result, Setup, Writes};
use crate::data::Part;

pub(super) const KIND: Kind = Kind {
    name: "fjall",
    packages: &["fjall", "lsm-tree"],
    settings: "key ‖ inverted timestamp; cache 512 MiB, memtable 64 MiB, 2 workers, otherwise the \
               defaults (blocks of 4 KiB, lz4 from level 2 on); a floor is the first of a range. The \
               held view is one snapshot. Its journal, which it keeps after a clean close, is not \
               among its bytes.",
    merges: true,
    kept_log: "jnl",
    open,
};

fn open(dir: &Path, setup: Setup) -> Result<Box<dyn Peer>> {
    let db = Database::builder(dir).cache_size(CACHE_BYTES as u64).worker_threads(2).open()?;
    let options = || KeyspaceCreateOptions::default().max_memtable_size(setup.buffer_bytes as u64);
    let points = db.keyspace("points", options)?;
    let persist = match setup.writes {
        Writes::Buffered => PersistMode::Buffer,
        Writes::Durable => PersistMode::SyncData,
    };
    Ok(Box::new(Fjall { db, points, persist, form: setup.form }))
}

struct Fjall {
    db: Database,
    points: Keyspace,
    persist: PersistMode,
    form: KeyForm,
}

impl Peer for Fjall {
    fn write(&self, points: &Part<'_>) -> Result<()> {
        let mut batch = self.db.batch().durability(Some(self.persist));
        for point in points.iter() {
            let key = self.form.composite(point.key, point.ts);
            batch.insert(&self.points, &*key, point.value);
        }
        Ok(batch.commit()?)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(FreshReader(self)))
    }

    fn held_view(&self) -> Result<Option<Box<dyn Reader + '_>>> {
        Ok(Some(Box::new(HeldReader(self.db.snapshot(), self))))
    }

    fn compact(self: Box<Self>) -> Result<Box<dyn Peer>> {
        self.points.rotate_memtable_and_wait()?;
        self.points.major_compact()?;
        Ok(self)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.points.rotate_memtable_and_wait()?;
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }
}

struct FreshReader<'db>(&'db Fjall);

impl Reader for FreshReader<'_> {
    fn floor(&mut self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Vec<u8>)>> {
        let (first, last) = between(self.0.form, key, at, Timestamp::MIN);
        let Some(entry) = self.0.points.range(&*first..=&*last).next() else { return Ok(None) };
        let (k, value) = entry.into_inner()?;
        Ok(first.ts_of(&k).map(|ts| (ts, value.to_vec())))
    }

    fn history(
        &mut self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        visit: &mut dyn FnMut(Timestamp, &[u8]),
    ) -> Result<()> {
        let (first, last) = between(self.0.form, key, to, from);
        for entry in self.0.points.range(&*first..=&*last) {
            let (k, value) = entry.into_inner()?;
            if let Some(ts) = first.ts_of(&k) {
                visit(ts, &value);
            }
        }
        Ok(())
    }
}

struct HeldReader<'db>(Snapshot, &'db Fjall);

impl Reader for HeldReader<'_> {
    fn floor(&mut self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Vec<u8>)>> {
        let (first, last) = between(self.1.form, key, at, Timestamp::MIN);
        let Some(entry) = self.0.range(&self.1.points, &*first..=&*last).next() else {
            return Ok(None);
        };
        let (k, value) = entry.into_inner()?;
        Ok(first.ts_of(&k).map(|ts| (ts, value.to_vec())))
    }

    fn history(
        &mut self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        visit: &mut dyn FnMut(Timestamp, &[u8]),
    ) -> Result<()> {
        let (first, last) = between(self.1.form, key, to, from);
        for entry in self.0.range(&self.1.points, &*first..=&*last) {
            let (k, value) = entry.into_inner()?;
            if let Some(ts) = first.ts_of(&k) {
                visit(ts, &value);
            }
        }
        Ok(())
    }
}

/// The keys that bound the versions of `key` from `from` back to `to`.
fn between(form: KeyForm, key: &[u8], from: Timestamp, to: Timestamp) -> (Composite, Composite) {
    (form.composite(key, from), form.composite(key, to))
}
