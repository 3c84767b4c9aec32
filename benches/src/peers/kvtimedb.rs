//! Ours.

use std::path::Path;

use kvtimedb_engine::{Db, Durability, Options, Order, Timestamp, ValueRef, WriteBatch};

use super::{BUFFER_BYTES, CACHE_BYTES, Kind, Peer, Point, Reader, Result, Writes};

pub(super) const KIND: Kind = Kind {
    name: "KVTimeDB",
    packages: &["kvtimedb-engine"],
    settings: "memtable 64 MiB, cache 512 MiB, otherwise the defaults.",
    open,
};

fn open(dir: &Path, writes: Writes) -> Result<Box<dyn Peer>> {
    let durability = match writes {
        Writes::Buffered => Durability::Buffered,
        Writes::Durable => Durability::Sync,
    };
    let options = Options {
        durability,
        cache_bytes_max: CACHE_BYTES,
        memtable_bytes_max: BUFFER_BYTES,
        ..Options::default()
    };
    Ok(Box::new(Ours(Db::open(dir, options)?)))
}

struct Ours(Db);

impl Peer for Ours {
    fn write(&self, points: &[Point]) -> Result<()> {
        let mut batch = WriteBatch::new();
        for point in points {
            batch.put(&point.key, point.ts, ValueRef::json(&point.value))?;
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

    fn history(&mut self, key: &[u8], visit: &mut dyn FnMut(Timestamp, &[u8])) -> Result<()> {
        let order = Order::Ascending;
        let mut history = self.0.history(key, Timestamp::MIN, Timestamp::MAX, order)?;
        while let Some(version) = history.next()? {
            visit(version.ts, version.value);
        }
        Ok(())
    }
}
