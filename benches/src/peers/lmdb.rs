//! LMDB: a copy-on-write B+tree in a memory map.
//!
//! Its open is `unsafe` since nobody else may change the mapped file meanwhile.
#![allow(unsafe_code)]

use std::path::{Path, PathBuf};

use heed::types::Bytes;
use heed::{
    CommitOrAbort, CompactionOption, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, WithTls,
};
use kvtimedb_engine::Timestamp;

use super::{Kind, Peer, Point, Reader, Result, Writes, composite, ts_if_of};

pub(super) const KIND: Kind = Kind {
    name: "LMDB",
    packages: &["heed", "lmdb-master-sys"],
    settings: "key ‖ inverted timestamp; map 64 GiB, no WRITEMAP; buffered writes with NOSYNC (a power \
               loss may then damage the whole file); a floor is a read transaction and a \
               set-range. Compacted by a compacting copy. The held view is one read transaction.",
    open,
};

/// Address space, not memory: the most that the file may grow to, in bytes.
const MAP_BYTES: usize = 64 << 30;

type Points = Database<'static, Bytes, Bytes>;

fn open(dir: &Path, writes: Writes) -> Result<Box<dyn Peer>> {
    Ok(Box::new(Lmdb::open(dir, writes)?))
}

struct Lmdb {
    env: Env,
    points: Points,
    dir: PathBuf,
    writes: Writes,
}

impl Lmdb {
    fn open(dir: &Path, writes: Writes) -> Result<Lmdb> {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES);
        if writes == Writes::Buffered {
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
        Ok(Lmdb { env, points, dir: dir.to_owned(), writes })
    }
}

impl Peer for Lmdb {
    fn write(&self, points: &[Point]) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        for point in points {
            self.points.put(&mut txn, &composite(&point.key, point.ts), &point.value)?;
        }
        Ok(txn.commit()?)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(FreshReader(self)))
    }

    fn held_view(&self) -> Result<Option<Box<dyn Reader + '_>>> {
        Ok(Some(Box::new(HeldReader(self.env.read_txn()?, self.points))))
    }

    fn compact(self: Box<Self>) -> Result<Box<dyn Peer>> {
        let Lmdb { env, dir, writes, .. } = *self;
        let copy = dir.join("copy");
        env.copy_to_path(&copy, CompactionOption::Enabled)?.sync_all()?;
        env.prepare_for_closing().wait();
        std::fs::rename(copy, dir.join("data.mdb"))?;
        open(&dir, writes)
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
        HeldReader(self.0.env.read_txn()?, self.0.points).floor(key, at)
    }

    fn history(&mut self, key: &[u8], visit: &mut dyn FnMut(Timestamp, &[u8])) -> Result<()> {
        HeldReader(self.0.env.read_txn()?, self.0.points).history(key, visit)
    }
}

struct HeldReader<'db>(RoTxn<'db, WithTls>, Points);

impl Reader for HeldReader<'_> {
    fn floor(&mut self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Vec<u8>)>> {
        let found = self.1.get_greater_than_or_equal_to(&self.0, &composite(key, at))?;
        Ok(found.and_then(|(k, value)| Some((ts_if_of(key, k)?, value.to_vec()))))
    }

    fn history(&mut self, key: &[u8], visit: &mut dyn FnMut(Timestamp, &[u8])) -> Result<()> {
        for entry in self.1.prefix_iter(&self.0, key)? {
            let (k, value) = entry?;
            if let Some(ts) = ts_if_of(key, k) {
                visit(ts, value);
            }
        }
        Ok(())
    }
}
