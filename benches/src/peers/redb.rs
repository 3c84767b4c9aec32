//! redb: a copy-on-write B+tree in Rust.

use std::path::Path;

use kvtimedb_engine::Timestamp;
use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};

use super::{CACHE_BYTES, Kind, Peer, Point, Reader, Result, Writes, composite, ts_if_of};

pub(super) const KIND: Kind = Kind {
    name: "redb",
    packages: &["redb"],
    settings: "key ‖ inverted timestamp; cache 512 MiB; buffered writes with Durability::None, which \
               even the death of the process may take back until a later durable commit; a floor is \
               a read transaction, an open table and the first of a range. The held view is one open \
               table.",
    open,
};

const POINTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("points");

fn open(dir: &Path, writes: Writes) -> Result<Box<dyn Peer>> {
    let db = Database::builder().set_cache_size(CACHE_BYTES).create(dir.join("points.redb"))?;
    let txn = db.begin_write()?;
    txn.open_table(POINTS)?;
    txn.commit()?;
    let durability = match writes {
        Writes::Buffered => Durability::None,
        Writes::Durable => Durability::Immediate,
    };
    Ok(Box::new(Redb { db, durability }))
}

struct Redb {
    db: Database,
    durability: Durability,
}

impl Redb {
    fn table(&self) -> Result<HeldReader> {
        Ok(HeldReader(self.db.begin_read()?.open_table(POINTS)?))
    }
}

impl Peer for Redb {
    fn write(&self, points: &[Point]) -> Result<()> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(self.durability)?;
        let mut table = txn.open_table(POINTS)?;
        for point in points {
            table.insert(composite(&point.key, point.ts).as_slice(), point.value.as_slice())?;
        }
        drop(table);
        Ok(txn.commit()?)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(FreshReader(self)))
    }

    fn held_view(&self) -> Result<Option<Box<dyn Reader + '_>>> {
        Ok(Some(Box::new(self.table()?)))
    }

    fn compact(mut self: Box<Self>) -> Result<Box<dyn Peer>> {
        self.db.begin_write()?.commit()?;
        self.db.compact()?;
        Ok(self)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.db.begin_write()?.commit()?;
        Ok(self.db.close()?)
    }
}

struct FreshReader<'db>(&'db Redb);

impl Reader for FreshReader<'_> {
    fn floor(&mut self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Vec<u8>)>> {
        self.0.table()?.floor(key, at)
    }

    fn history(&mut self, key: &[u8], visit: &mut dyn FnMut(Timestamp, &[u8])) -> Result<()> {
        self.0.table()?.history(key, visit)
    }
}

struct HeldReader(ReadOnlyTable<&'static [u8], &'static [u8]>);

impl HeldReader {
    fn range(
        &self,
        key: &[u8],
        at: Timestamp,
    ) -> Result<redb::Range<'_, &'static [u8], &'static [u8]>> {
        let (first, last) = (composite(key, at), composite(key, Timestamp::MIN));
        Ok(ReadableTable::range::<&[u8]>(&self.0, first.as_slice()..=last.as_slice())?)
    }
}

impl Reader for HeldReader {
    fn floor(&mut self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Vec<u8>)>> {
        let Some(entry) = self.range(key, at)?.next() else { return Ok(None) };
        let (k, value) = entry?;
        Ok(ts_if_of(key, k.value()).map(|ts| (ts, value.value().to_vec())))
    }

    fn history(&mut self, key: &[u8], visit: &mut dyn FnMut(Timestamp, &[u8])) -> Result<()> {
        for entry in self.range(key, Timestamp::MAX)? {
            let (k, value) = entry?;
            if let Some(ts) = ts_if_of(key, k.value()) {
                visit(ts, value.value());
            }
        }
        Ok(())
    }
}
