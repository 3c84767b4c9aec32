//! `RocksDB`, tuned for seeks within one key: the user's key is the prefix that its filters know.

use std::path::Path;

use kvtimedb_engine::Timestamp;
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, CompactOptions, DB, DBCompressionType,
    DBRawIterator, Options, ReadOptions, SliceTransform, WriteBatch, WriteOptions,
};

use super::{
    BUFFER_BYTES, CACHE_BYTES, KEY_BYTES, Kind, Peer, Point, Reader, Result, Writes, composite,
    ts_if_of,
};

pub(super) const KIND: Kind = Kind {
    name: "RocksDB",
    packages: &["rocksdb", "librocksdb-sys"],
    settings: "key ‖ inverted timestamp; fixed prefix extractor of 29 bytes; prefix filters of 10 \
               bits, also for memtables (0.1); no whole-key filters; blocks of 16 KiB, zstd on all \
               levels, format 6; LRU block cache 512 MiB; write buffer 64 MiB; dynamic level sizes, 2 \
               background jobs; reads with prefix_same_as_start. A floor makes an iterator and seeks; \
               the held view is one iterator for all floors.",
    open,
};

fn open(dir: &Path, writes: Writes) -> Result<Box<dyn Peer>> {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    table.set_bloom_filter(10.0, false);
    table.set_whole_key_filtering(false);
    table.set_block_size(16 << 10);
    table.set_format_version(6);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_prefix_extractor(SliceTransform::create_fixed_prefix(KEY_BYTES));
    options.set_memtable_prefix_bloom_ratio(0.1);
    options.set_compression_type(DBCompressionType::Zstd);
    options.set_write_buffer_size(BUFFER_BYTES);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.increase_parallelism(2);
    let mut write_options = WriteOptions::default();
    write_options.set_sync(writes == Writes::Durable);
    Ok(Box::new(Rocks { db: DB::open(&options, dir)?, write_options }))
}

struct Rocks {
    db: DB,
    write_options: WriteOptions,
}

impl Rocks {
    fn iterator(&self) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_prefix_same_as_start(true);
        self.db.raw_iterator_opt(options)
    }
}

impl Peer for Rocks {
    fn write(&self, points: &[Point]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for point in points {
            batch.put(composite(&point.key, point.ts), &point.value);
        }
        Ok(self.db.write_opt(batch, &self.write_options)?)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(RocksReader(self)))
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

struct RocksReader<'db>(&'db Rocks);

impl Reader for RocksReader<'_> {
    fn floor(&mut self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Vec<u8>)>> {
        self.0.iterator().floor(key, at)
    }

    fn history(&mut self, key: &[u8], visit: &mut dyn FnMut(Timestamp, &[u8])) -> Result<()> {
        self.0.iterator().history(key, visit)
    }
}

impl Reader for DBRawIterator<'_> {
    fn floor(&mut self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Vec<u8>)>> {
        self.seek(composite(key, at));
        let found = self.item().and_then(|(k, value)| Some((ts_if_of(key, k)?, value.to_vec())));
        if found.is_none() {
            self.status()?;
        }
        Ok(found)
    }

    fn history(&mut self, key: &[u8], visit: &mut dyn FnMut(Timestamp, &[u8])) -> Result<()> {
        self.seek(composite(key, Timestamp::MAX));
        while let Some((k, value)) = self.item() {
            let Some(ts) = ts_if_of(key, k) else { break };
            visit(ts, value);
            self.next();
        }
        Ok(self.status()?)
    }
}
