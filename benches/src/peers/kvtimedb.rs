//! Ours.

use std::path::Path;

use kvtimedb_engine::{Db, Durability, Timestamp, WriteBatch};

use super::{CACHE_BYTES, Kind, Peer, Reader, Result, Setup, Writes};
use crate::data::{DataSet, Part};
use crate::ours;

pub(super) const KIND: Kind = Kind {
    name: ours::NAME,
    packages: &["kvtimedb-engine"],
    settings: "memtable 64 MiB, cache 512 MiB, otherwise the defaults. A history ascends, the others' \
               descend.",
    merges: true,
    kept_log: "",
    open,
};

fn open(dir: &Path, setup: Setup) -> Result<Box<dyn Peer>> {
    let durability = match setup.writes {
        Writes::Buffered => Durability::Buffered,
        Writes::Durable => Durability::Sync,
    };
    let db = ours::open(dir, durability, setup.buffer_bytes, CACHE_BYTES)?;
    Ok(Box::new(Ours(db, setup.set)))
}

struct Ours(Db, DataSet);

impl Peer for Ours {
    fn write(&self, points: &Part<'_>) -> Result<()> {
        let mut batch = WriteBatch::new();
        for point in points.iter() {
            batch.put(point.key, point.ts, self.1.value(point.value))?;
        }
        self.0.write(batch)?;
        Ok(())
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(OurReader(&self.0)))
    }

    fn compact(self: Box<Self>) -> Result<Box<dyn Peer>> {
        self.0.compact()?;
        Ok(self)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.0.close()?)
    }
}

struct OurReader<'db>(&'db Db);

impl Reader for OurReader<'_> {
    fn floor(&mut self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Vec<u8>)>> {
        Ok(self.0.floor(key, at)?.map(|entry| (entry.ts, entry.value)))
    }

    fn history(
        &mut self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        visit: &mut dyn FnMut(Timestamp, &[u8]),
    ) -> Result<()> {
        ours::history(self.0, key, from, to, visit)
    }
}
