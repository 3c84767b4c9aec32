//! LMDB: a copy-on-write B+tree in a memory map.
//!
//! Its open is `unsafe` since nobody else may change the mapped file meanwhile.
#![allow(unsafe_code)]

use std::ops::Bound;
use std::path::{Path, PathBuf};

use heed::types::Bytes;
use heed::{
    CommitOrAbort, CompactionOption, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, WithTls,
};
use kvtimedb_engine::Timestamp;

use super::{KeyForm, Kind, Peer, Reader, Result, Setup, Writes};
use crate::data::Part;

pub(super) const KIND: Kind = Kind {
    name: "LMDB",
    packages: &["heed", "lmdb-master-sys"],
    settings: "key ‖ inverted timestamp; map 64 GiB, no WRITEMAP; buffered writes with NOSYNC (a power \
               loss may then damage the whole file); a floor is a read transaction and a \
               set-range. Compacted by a compacting copy. The held view is one read transaction.",
    merges: false,
    kept_log: "",
    open,
};

/// Address space, not memory: the most that the file may grow to, in bytes.
const MAP_BYTES: usize = 64 << 30;

type Points = Database<'static, Bytes, Bytes>;

fn open(dir: &Path, setup: Setup) -> Result<Box<dyn Peer>> {
    Ok(Box::new(Lmdb::open(dir, setup)?))
}

struct Lmdb {
    env: Env,
    points: Points,
    dir: PathBuf,
    setup: Setup,
}

impl Lmdb {
    fn open(dir: &Path, setup: Setup) -> Result<Lmdb> {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES);
        if setup.writes == Writes::Buffered {
            // SAFETY: without a sync only a crash of the system damages the file, and a benchmark
            // does not open it again after one.
            unsafe { options.flags(EnvFlags::NO_SYNC) };
        }
        // SAFETY: the directory belongs to this run, which opens it once at a time.
        let env = unsafe { options.open(dir)? };
        let txn = env.write_txn()?;
        let points = env
            .create_databases_and_commit(txn, |databases, txn| -> heed::Result<_> {
                let points = databases.create_database::<Bytes, Bytes>(txn, None)?;
                Ok(CommitOrAbort::<_, ()>::Commit(points))
            })?
            .unwrap_commit();
        Ok(Lmdb { env, points, dir: dir.to_owned(), setup })
    }
}

impl Lmdb {
    fn view(&self) -> Result<HeldReader<'_>> {
        Ok(HeldReader(self.env.read_txn()?, self.points, self.setup.form))
    }
}

impl Peer for Lmdb {
    fn write(&self, points: &Part<'_>) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        for point in points.iter() {
            let key = self.setup.form.composite(point.key, point.ts);
            self.points.put(&mut txn, &key, point.value)?;
        }
        Ok(txn.commit()?)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(FreshReader(self)))
    }

    fn held_view(&self) -> Result<Option<Box<dyn Reader + '_>>> {
        Ok(Some(Box::new(self.view()?)))
    }

    fn compact(self: Box<Self>) -> Result<Box<dyn Peer>> {
        let Lmdb { env, dir, setup, .. } = *self;
        let copy = dir.join("copy");
        env.copy_to_path(&copy, CompactionOption::Enabled)?.sync_all()?;
        env.prepare_for_closing().wait();
        std::fs::rename(copy, dir.join("data.mdb"))?;
        open(&dir, setup)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.env.force_sync()?;
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}

struct FreshReader<'db>(&'db Lmdb);

impl Reader for FreshReader<'_> {
    fn floor(&mut self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Vec<u8>)>> {
        self.0.view()?.floor(key, at)
    }

    fn history(
        &mut self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        visit: &mut dyn FnMut(Timestamp, &[u8]),
    ) -> Result<()> {
        self.0.view()?.history(key, from, to, visit)
    }
}

struct HeldReader<'db>(RoTxn<'db, WithTls>, Points, KeyForm);

impl Reader for HeldReader<'_> {
    fn floor(&mut self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Vec<u8>)>> {
        let HeldReader(txn, points, form) = self;
        let start = form.composite(key, at);
        let found = points.get_greater_than_or_equal_to(txn, &start)?;
        Ok(found.and_then(|(k, value)| Some((start.ts_of(k)?, value.to_vec()))))
    }

    fn history(
        &mut self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        visit: &mut dyn FnMut(Timestamp, &[u8]),
    ) -> Result<()> {
        let HeldReader(txn, points, form) = self;
        let (first, last) = (form.composite(key, to), form.composite(key, from));
        for entry in points.range(txn, &(Bound::Included(&*first), Bound::Included(&*last)))? {
            let (k, value) = entry?;
            if let Some(ts) = first.ts_of(k) {
                visit(ts, value);
            }
        }
        Ok(())
    }
}
