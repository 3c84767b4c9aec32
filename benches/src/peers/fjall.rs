//! fjall: an LSM tree in Rust.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use kvtimedb_engine::Timestamp;

use super::{
    BUFFER_BYTES, CACHE_BYTES, Kind, Peer, Point, Reader, Result, Writes, composite, ts_if_of,
};

pub(super) const KIND: Kind = Kind {
    name: "fjall",
    packages: &["fjall", "lsm-tree"],
    settings: "key ‖ inverted timestamp; cache 512 MiB, memtable 64 MiB, 2 workers, otherwise the \
               defaults (blocks of 4 KiB, lz4 from level 2 on); a floor is the first of a range. The \
               held view is one snapshot.",
    open,
};

fn open(dir: &Path, writes: Writes) -> Result<Box<dyn Peer>> {
    let db = Database::builder(dir).cache_size(CACHE_BYTES as u64).worker_threads(2).open()?;
    let options = || KeyspaceCreateOptions::default().max_memtable_size(BUFFER_BYTES as u64);
    let points = db.keyspace("points", options)?;
    let persist = match writes {
        Writes::Buffered => PersistMode::Buffer,
        Writes::Durable => PersistMode::SyncData,
    };
    Ok(Box::new(Fjall { db, points, persist }))
}

struct Fjall {
    db: Database,
    points: Keyspace,
    persist: PersistMode,
}

impl Peer for Fjall {
    fn write(&self, points: &[Point]) -> Result<()> {
        let mut batch = self.db.batch().durability(Some(self.persist));
        for point in points {
            batch.insert(&self.points, composite(&point.key, point.ts), point.value.as_slice());
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
        let range = composite(key, at)..=composite(key, Timestamp::MIN);
        first(key, self.0.points.range(range))
    }

    fn history(&mut self, key: &[u8], visit: &mut dyn FnMut(Timestamp, &[u8])) -> Result<()> {
        all(key, self.0.points.prefix(key), visit)
    }
}

struct HeldReader<'db>(Snapshot, &'db Fjall);

impl Reader for HeldReader<'_> {
    fn floor(&mut self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Vec<u8>)>> {
        let range = composite(key, at)..=composite(key, Timestamp::MIN);
        first(key, self.0.range(&self.1.points, range))
    }

    fn history(&mut self, key: &[u8], visit: &mut dyn FnMut(Timestamp, &[u8])) -> Result<()> {
        all(key, self.0.prefix(&self.1.points, key), visit)
    }
}

fn first(key: &[u8], mut entries: fjall::Iter) -> Result<Option<(Timestamp, Vec<u8>)>> {
    let Some(entry) = entries.next() else { return Ok(None) };
    let (k, value) = entry.into_inner()?;
    Ok(ts_if_of(key, &k).map(|ts| (ts, value.to_vec())))
}

fn all(key: &[u8], entries: fjall::Iter, visit: &mut dyn FnMut(Timestamp, &[u8])) -> Result<()> {
    for entry in entries {
        let (k, value) = entry.into_inner()?;
        if let Some(ts) = ts_if_of(key, &k) {
            visit(ts, &value);
        }
    }
    Ok(())
}
