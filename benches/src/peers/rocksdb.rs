//! `RocksDB`, tuned for seeks within one key: the user's key is the prefix that its filters know.

use std::path::Path;

use kvtimedb_engine::Timestamp;
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, CompactOptions, DB, DBCompressionType,
    DBRawIterator, Options, ReadOptions, SliceTransform, WriteBatch, WriteOptions,
};

use super::composite::without_ts;
use super::{CACHE_BYTES, KeyForm, Kind, Peer, Reader, Result, Setup, Writes};
use crate::data::Part;

pub(super) const KIND: Kind = Kind {
    name: "RocksDB",
    packages: &["rocksdb", "librocksdb-sys"],
    settings: "key ‖ inverted timestamp; a prefix extractor of the user's key (fixed where all keys \
               have one length, else all but the timestamp); prefix filters of 10 bits, also for \
               memtables (0.1), no whole-key filters; index and filters in memory, not in the cache; \
               blocks of 16 KiB, zstd on all levels, format 6; LRU block cache 512 MiB; write buffer \
               64 MiB; dynamic level sizes, 2 background jobs; reads with prefix_same_as_start. A floor \
               makes an iterator and seeks; the held view is one iterator for all floors.",
    merges: true,
    kept_log: "",
    open,
};

fn open(dir: &Path, setup: Setup) -> Result<Box<dyn Peer>> {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    table.set_bloom_filter(10.0, false);
    table.set_whole_key_filtering(false);
    table.set_block_size(16 << 10);
    table.set_format_version(6);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_prefix_extractor(match setup.form {
        KeyForm::Fixed(length) => SliceTransform::create_fixed_prefix(length),
        KeyForm::Ended => SliceTransform::create("all but the timestamp", without_ts, None),
    });
    options.set_memtable_prefix_bloom_ratio(0.1);
    options.set_compression_type(DBCompressionType::Zstd);
    options.set_write_buffer_size(setup.buffer_bytes);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.increase_parallelism(2);
    let mut write_options = WriteOptions::default();
    write_options.set_sync(setup.writes == Writes::Durable);
    Ok(Box::new(Rocks { db: DB::open(&options, dir)?, write_options, form: setup.form }))
}

struct Rocks {
    db: DB,
    write_options: WriteOptions,
    form: KeyForm,
}

impl Rocks {
    fn iterator(&self) -> HeldReader<'_> {
        let mut options = ReadOptions::default();
        options.set_prefix_same_as_start(true);
        HeldReader(self.db.raw_iterator_opt(options), self.form)
    }
}

impl Peer for Rocks {
    fn write(&self, points: &Part<'_>) -> Result<()> {
        let mut batch = WriteBatch::default();
        for point in points.iter() {
            batch.put(&*self.form.composite(point.key, point.ts), point.value);
        }
        Ok(self.db.write_opt(batch, &self.write_options)?)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(FreshReader(self)))
    }

    fn held_view(&self) -> Result<Option<Box<dyn Reader + '_>>> {
        Ok(Some(Box::new(self.iterator())))
    }

    fn compact(self: Box<Self>) -> Result<Box<dyn Peer>> {
        self.db.flush()?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
        Ok(self)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.db.flush()?;
        self.db.cancel_all_background_work(true);
        Ok(())
    }
}

struct FreshReader<'db>(&'db Rocks);

impl Reader for FreshReader<'_> {
    fn floor(&mut self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Vec<u8>)>> {
        self.0.iterator().floor(key, at)
    }

    fn history(
        &mut self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        visit: &mut dyn FnMut(Timestamp, &[u8]),
    ) -> Result<()> {
        self.0.iterator().history(key, from, to, visit)
    }
}

struct HeldReader<'db>(DBRawIterator<'db>, KeyForm);

impl Reader for HeldReader<'_> {
    fn floor(&mut self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Vec<u8>)>> {
        let HeldReader(iterator, form) = self;
        let start = form.composite(key, at);
        iterator.seek(&*start);
        let found = iterator.item().and_then(|(k, value)| Some((start.ts_of(k)?, value.to_vec())));
        if found.is_none() {
            iterator.status()?;
        }
        Ok(found)
    }

    fn history(
        &mut self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        visit: &mut dyn FnMut(Timestamp, &[u8]),
    ) -> Result<()> {
        let HeldReader(iterator, form) = self;
        let start = form.composite(key, to);
        iterator.seek(&*start);
        while let Some((k, value)) = iterator.item() {
            let Some(ts) = start.ts_of(k).filter(|ts| *ts >= from) else { break };
            visit(ts, value);
            iterator.next();
        }
        Ok(iterator.status()?)
    }
}
