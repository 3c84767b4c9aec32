//! redb: a copy-on-write B+tree in Rust.

use std::path::Path;

use kvtimedb_engine::Timestamp;
use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, TableDefinition};

use super::{CACHE_BYTES, KeyForm, Kind, Peer, Reader, Result, Setup, Writes};
use crate::data::Part;

pub(super) const KIND: Kind = Kind {
    name: "redb",
    packages: &["redb"],
    settings: "key ‖ inverted timestamp; cache 512 MiB; buffered writes with Durability::None, which \
               even the death of the process may take back until a later durable commit; a floor is \
               a read transaction, an open table and the first of a range. The held view is one open \
               table.",
    merges: false,
    kept_log: "",
    open,
};

const POINTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("points");

fn open(dir: &Path, setup: Setup) -> Result<Box<dyn Peer>> {
    let db = Database::builder().set_cache_size(CACHE_BYTES).create(dir.join("points.redb"))?;
    let txn = db.begin_write()?;
    txn.open_table(POINTS)?;
    txn.commit()?;
    let durability = match setup.writes {
        Writes::Buffered => Durability::None,
        Writes::Durable => Durability::Immediate,
    };
    Ok(Box::new(Redb { db, durability, form: setup.form }))
}

struct Redb {
    db: Database,
    durability: Durability,
    form: KeyForm,
}

impl Redb {
    fn table(&self) -> Result<HeldReader> {
        Ok(HeldReader(self.db.begin_read()?.open_table(POINTS)?, self.form))
    }
}

impl Peer for Redb {
    fn write(&self, points: &Part<'_>) -> Result<()> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(self.durability)?;
        let mut table = txn.open_table(POINTS)?;
        for point in points.iter() {
            table.insert(&*self.form.composite(point.key, point.ts), point.value)?;
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

    fn history(
        &mut self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        visit: &mut dyn FnMut(Timestamp, &[u8]),
    ) -> Result<()> {
        self.0.table()?.history(key, from, to, visit)
    }
}

struct HeldReader(ReadOnlyTable<&'static [u8], &'static [u8]>, KeyForm);

impl Reader for HeldReader {
    fn floor(&mut self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Vec<u8>)>> {
        let HeldReader(table, form) = self;
        let (first, last) = (form.composite(key, at), form.composite(key, Timestamp::MIN));
        let Some(entry) = table.range::<&[u8]>(&*first..=&*last)?.next() else { return Ok(None) };
        let (k, value) = entry?;
        Ok(first.ts_of(k.value()).map(|ts| (ts, value.value().to_vec())))
    }

    fn history(
        &mut self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        visit: &mut dyn FnMut(Timestamp, &[u8]),
    ) -> Result<()> {
        let HeldReader(table, form) = self;
        let (first, last) = (form.composite(key, to), form.composite(key, from));
        for entry in table.range::<&[u8]>(&*first..=&*last)? {
            let (k, value) = entry?;
            if let Some(ts) = first.ts_of(k.value()) {
                visit(ts, value.value());
            }
        }
        Ok(())
    }
}
