//! Reading an SSTable through a map of its file.
//!
//! *Thread safety*: a reader is shared by all threads; nothing in it changes but the bits that say
//! which blocks were verified, and the cache, which has its own locks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;

use super::block::Block;
use super::chunk::{ChunkValues, StoredValues, ValueRun};
use super::chunk_builder::RUN_VALUE_BYTES;
use super::filter::Filter;
use super::format::{
    BlockHandle, BlockType, FOOTER_BYTES, Footer, TableIdentity, TableMeta, TableProperties,
};
use super::index::Index;
use crate::codec::template::Dictionary;
use crate::coding::Decoder;
use crate::error::{Error, IoContext, Malformed, Result};
use crate::fs::{AROUND_BYTES, FileMap, Fs, Unreadable, read_around};
use crate::key::{DatabaseId, FileId, KeyHash, Tag, Timestamp};
use crate::metrics::Metrics;

/// Decompressed values of chunks, shared by all tables of a database.
pub(crate) struct ValueCache {
    chunks: Option<Cache<ChunkPlace, Arc<[u8]>, ChunkBytes>>,
}

/// A chunk, named by its file, its block's offset and its own offset in that block.
type ChunkPlace = (FileId, u64, usize);

#[derive(Clone)]
struct ChunkBytes;

impl quick_cache::Weighter<ChunkPlace, Arc<[u8]>> for ChunkBytes {
    fn weight(&self, _: &ChunkPlace, values: &Arc<[u8]>) -> u64 {
        // What an entry costs beside its values: key, pointers, the reference counts.
        const ENTRY_BYTES: u64 = 96;
        values.len() as u64 + ENTRY_BYTES
    }
}

impl ValueCache {
    /// A cache of at most `bytes_max` bytes; 0 keeps nothing.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let entries = bytes_max / RUN_VALUE_BYTES;
        let cache = || Cache::with_weighter(entries, bytes_max as u64, ChunkBytes);
        ValueCache { chunks: (bytes_max > 0).then(cache) }
    }

    fn get(&self, place: &ChunkPlace) -> Option<Arc<[u8]>> {
        self.chunks.as_ref()?.get(place)
    }

    fn insert(&self, place: ChunkPlace, values: Arc<[u8]>) {
        if let Some(chunks) = &self.chunks {
            chunks.insert(place, values);
        }
    }
}

impl std::fmt::Debug for ValueCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ValueCache").finish_non_exhaustive()
    }
}

/// What all the tables of a database share.
#[derive(Clone, Debug)]
pub(crate) struct TableContext {
    pub(crate) cache: Arc<ValueCache>,
    pub(crate) metrics: Arc<Metrics>,
}

impl TableContext {
    /// Of a table that is looked at once: no cache, and counters that nobody reads.
    pub(crate) fn unshared() -> TableContext {
        TableContext { cache: Arc::new(ValueCache::new(0)), metrics: Arc::new(Metrics::default()) }
    }
}

/// An open SSTable: its index and filter in memory, its blocks in a map.
#[derive(Debug)]
pub(crate) struct TableReader {
    path: PathBuf,
    map: FileMap,
    identity: TableIdentity,
    filter: Filter,
    late_filter: Option<Filter>,
    dictionary: Dictionary,
    index: Index,
    properties: TableProperties,
    footer: Footer,
    footer_checksum: u64,
    /// A bit a block: its checksum was verified through this map. Relaxed, because a bit that is seen
    /// late costs a second verification and nothing else; and a bit is taken back so that reads to come
    /// verify again, not those that are under way.
    verified: Box<[AtomicU64]>,
    /// A bit a block: the disk could not read it when it was asked last, so a touch of the map may end the
    /// process. It is looked at where the block is not verified.
    unreadable: Box<[AtomicU64]>,
    context: TableContext,
}

/// For a table that is opened though parts of it are damaged.
pub(super) struct Mend<'a> {
    described: Option<&'a TableProperties>,
    mended: Vec<Error>,
}

/// A version found in a table; its value is still where it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableVersion<'t> {
    pub(crate) ts: Timestamp,
    pub(crate) tag: Tag,
    table: &'t TableReader,
    values: StoredValues<'t>,
    place: ChunkPlace,
    row: usize,
}

impl TableReader {
    /// Opens the table that the manifest describes, and holds the file against that description.
    pub(crate) fn open(
        fs: &dyn Fs,
        dir: &Path,
        database: DatabaseId,
        meta: &TableMeta,
        context: TableContext,
    ) -> Result<Self> {
        let reader = Self::inspect(fs, &meta.id.table_path(dir), context)?;
        reader.check_described(database, meta)?;
        Ok(reader)
    }

    /// Opens any table, believing what it says of its own identity: for tools.
    pub(crate) fn inspect(fs: &dyn Fs, path: &Path, context: TableContext) -> Result<Self> {
        let map = fs.open(path).at("open", path)?.map().at("map", path)?;
        Self::of_bytes(map, path, context, None)
    }

    /// Like [`inspect`](Self::inspect), but with the whole file in memory and no map, so that a disk
    /// that can't read it is an error and no `SIGBUS`: for whoever looks for damage. One that is longer
    /// than it is `described` is not read.
    pub(crate) fn load(
        fs: &dyn Fs,
        path: &Path,
        context: TableContext,
        described: Option<&TableMeta>,
    ) -> Result<Self> {
        if let Some(expected) = described.map(|meta| meta.file_bytes) {
            let found = fs.open(path).and_then(|file| file.len()).at("open", path)?;
            if found > expected {
                let what =
                    format!("expected {expected} bytes, as the manifest says; found {found}");
                return Err(Error::corruption(path, expected, what));
            }
        }
        Self::load_with(fs, path, context, None)
    }

    /// Like [`load`](Self::load), but goes without filters that are damaged, and without properties where
    /// they are `described`; tells what was wrong with those. For whoever reads blocks only.
    pub(crate) fn salvage(
        fs: &dyn Fs,
        path: &Path,
        context: TableContext,
        described: Option<&TableProperties>,
    ) -> Result<(Self, Vec<Error>)> {
        let mut mend = Mend { described, mended: Vec::new() };
        let reader = Self::load_with(fs, path, context, Some(&mut mend))?;
        Ok((reader, mend.mended))
    }

    fn load_with(
        fs: &dyn Fs,
        path: &Path,
        context: TableContext,
        mend: Option<&mut Mend<'_>>,
    ) -> Result<Self> {
        let file = fs.open(path).at("open", path)?;
        let (bytes, unreadable) = read_around(&*file, u64::MAX).at("read", path)?;
        let reader = Self::of_bytes(FileMap::from(Arc::new(bytes)), path, context, mend);
        let Some(Unreadable { pages, error }) = unreadable else { return reader };
        let Ok(reader) = reader else { return Err(error).at("read", path) };
        for block in 0..reader.index.len() {
            let BlockHandle { offset, len } = reader.index.row(block).handle;
            let (end, page_bytes) = (offset + u64::from(len), AROUND_BYTES as u64);
            if pages.iter().any(|&page| page < end && offset < page + page_bytes) {
                reader.set_unreadable(block, true);
            }
        }
        Ok(reader)
    }

    /// Holds the file against what the manifest says of it.
    pub(crate) fn check_described(&self, database: DatabaseId, meta: &TableMeta) -> Result<()> {
        let expected = TableIdentity { database, file: meta.id };
        if self.identity != expected || self.footer_checksum != meta.checksum {
            let what = format!(
                "expected {expected:?} with footer checksum {:016x}, as the manifest says; found \
                 {:?} with {:016x}",
                meta.checksum, self.identity, self.footer_checksum
            );
            return Err(self.corruption(self.footer.file_bytes - FOOTER_BYTES as u64, what));
        }
        if self.footer.file_bytes != meta.file_bytes {
            let (expected, found) = (meta.file_bytes, self.footer.file_bytes);
            let what = format!("expected {expected} bytes, as the manifest says; found {found}");
            return Err(self.corruption(0, what));
        }
        if self.properties != meta.properties {
            let what = "expected the properties that the manifest says";
            return Err(self.corruption(self.footer.properties.offset, what));
        }
        Ok(())
    }

    /// Reads all but the data blocks; with `mend`, what can do without others.
    pub(super) fn of_bytes(
        map: FileMap,
        path: &Path,
        context: TableContext,
        mut mend: Option<&mut Mend<'_>>,
    ) -> Result<Self> {
        let (footer, footer_checksum) = Footer::decode(&map, path)?;
        let identity = footer.identity;
        let filter_of = |handle: BlockHandle, block_type| -> Result<Filter> {
            let bytes = identity.verify(&map, path, handle, block_type)?;
            Filter::parse(bytes).map_err(|what| Error::corruption(path, handle.offset, what))
        };
        let filter = filter_of(footer.filter, BlockType::Filter).or_else(|error| {
            let mend = mend.as_mut().ok_or_else(|| error.clone())?;
            mend.mended.push(error);
            let corrupt = |what| Error::corruption(path, footer.filter.offset, what);
            Filter::build(&[KeyHash(0)]).map_err(corrupt)
        })?;
        let late_filter = match footer.late_filter {
            BlockHandle { len: 0, .. } => None,
            handle => match (filter_of(handle, BlockType::LateFilter), &mut mend) {
                (Err(error), Some(mend)) => {
                    mend.mended.push(error);
                    None
                }
                (filter, _) => Some(filter?),
            },
        };
        let dictionary = match footer.dictionary {
            BlockHandle { len: 0, .. } => Dictionary::default(),
            handle => {
                let bytes = identity.verify(&map, path, handle, BlockType::Dictionary)?;
                Dictionary::parse(bytes).map_err(|m| m.in_file(path, handle.offset + 1))?
            }
        };
        let index = identity.verify(&map, path, footer.index, BlockType::Index)?;
        // Where the filter is gone without, nothing has held its place against the file yet.
        let data_end = footer.filter.offset.min(map.len() as u64);
        let index =
            Index::parse(index, data_end).map_err(|m| m.in_file(path, footer.index.offset + 1))?;
        let properties = identity
            .verify(&map, path, footer.properties, BlockType::Properties)
            .and_then(|properties| {
                let decoded = TableProperties::decode(&mut Decoder::new(properties));
                decoded.map_err(|m| m.in_file(path, footer.properties.offset + 1))
            });
        let properties = match (properties, mend) {
            (Err(error), Some(Mend { described: Some(described), mended })) => {
                mended.push(error);
                described.clone()
            }
            (properties, _) => properties?,
        };
        let bits = || (0..index.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(TableReader {
            path: path.to_owned(),
            identity,
            filter,
            late_filter,
            dictionary,
            properties,
            footer,
            footer_checksum,
            verified: bits(),
            unreadable: bits(),
            index,
            map,
            context,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The whole file. Only what was verified of it is known to be what was written.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    pub(crate) fn properties(&self) -> &TableProperties {
        &self.properties
    }

    pub(crate) fn footer(&self) -> &Footer {
        &self.footer
    }

    pub(crate) fn footer_checksum(&self) -> u64 {
        self.footer_checksum
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    pub(crate) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Which filter tells of versions at or before `at`.
    fn filter_at(&self, at: Timestamp) -> &Filter {
        match &self.late_filter {
            Some(late) if at < self.properties.bulk_min_ts => late,
            _ => &self.filter,
        }
    }

    /// `false`: no version of the key at or before `at` is in this table, for certain.
    #[inline]
    pub(crate) fn may_contain(&self, hash: KeyHash, at: Timestamp) -> bool {
        let may_contain = self.filter_at(at).may_contain(hash);
        if !may_contain {
            self.context.metrics.filter_misses.add(1);
        }
        may_contain
    }

    /// The newest version of `key` at or before `at`, tombstones included.
    pub(crate) fn floor(&self, key: &[u8], at: Timestamp) -> Result<Option<TableVersion<'_>>> {
        let Some(block_no) = self.index.find(key, at) else { return Ok(None) };
        let row = self.index.row(block_no);
        // The floor may be of another key, or its block may begin with the key and hold later
        // versions only; a fence can tell the second without a look.
        if row.min_ts > at {
            return Ok(None);
        }
        let offset = row.handle.offset;
        let block = self.block(block_no)?;
        self.context.metrics.blocks_read.add(1);
        self.floor_in_block(&block, offset, key, at).map_err(|m| m.in_file(&self.path, offset))
    }

    fn floor_in_block<'t>(
        &'t self,
        block: &Block<'t>,
        offset: u64,
        key: &[u8],
        at: Timestamp,
    ) -> Result<Option<TableVersion<'t>>, Malformed> {
        let Some(chunk_no) = block.find(key, at)? else { return Ok(None) };
        let chunk = block.chunk(chunk_no)?;
        let Some(row) = chunk.floor(key, at)? else { return Ok(None) };
        Ok(Some(TableVersion {
            ts: chunk.ts(row),
            tag: chunk.tag(row)?,
            table: self,
            values: chunk.values(),
            place: (self.identity.file, offset, block.chunk_offset(chunk_no)),
            row,
        }))
    }

    /// Data block `block`, one of the index's, verified at the first touch.
    pub(crate) fn block(&self, block: usize) -> Result<Block<'_>> {
        let handle = self.index.row(block).handle;
        let (word, bit) = (&self.verified[block / 64], 1 << (block % 64));
        let contents = if word.load(Ordering::Relaxed) & bit == 0 {
            if self.unreadable[block / 64].load(Ordering::Relaxed) & bit != 0 {
                let what = "expected a block that the disk can read";
                return Err(self.corruption(handle.offset, what));
            }
            let contents = self.verify_block(handle)?;
            word.fetch_or(bit, Ordering::Relaxed);
            contents
        } else {
            let (start, len) = (handle.offset as usize, handle.len as usize);
            &self.map[start + 1..start + len - super::format::CHECKSUM_BYTES]
        };
        Ok(self.index.block(block, contents, &self.dictionary))
    }

    /// Lets data block `block` be verified once more at the next touch.
    pub(crate) fn distrust(&self, block: usize) {
        self.verified[block / 64].fetch_and(!(1 << (block % 64)), Ordering::Relaxed);
    }

    /// Whether reads that would have to verify data block `block` are refused.
    pub(super) fn set_unreadable(&self, block: usize, unreadable: bool) {
        let (word, bit) = (&self.unreadable[block / 64], 1 << (block % 64));
        if unreadable {
            word.fetch_or(bit, Ordering::Relaxed);
        } else {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// Verifies the checksums of all data blocks.
    pub(crate) fn verify_blocks(&self) -> Result<()> {
        (0..self.index.len()).try_for_each(|block| self.block(block).map(drop))
    }

    fn verify_block(&self, handle: BlockHandle) -> Result<&[u8]> {
        self.identity.verify(&self.map, &self.path, handle, BlockType::Data)
    }

    /// An [`Error::Corruption`] of the block at `offset`.
    pub(crate) fn corruption(&self, offset: u64, what: impl Into<String>) -> Error {
        Error::corruption(&self.path, offset, what)
    }
}

impl TableVersion<'_> {
    /// Its value; empty for a tombstone.
    pub(crate) fn value(&self) -> Result<Vec<u8>> {
        let (_, offset, _) = self.place;
        let values = self.values.by_codec().map_err(|m| m.in_file(&self.table.path, offset))?;
        match values {
            ChunkValues::Template(template) => {
                let mut value = Vec::with_capacity(self.values.value_bytes_about());
                let rendered = template.value_into(self.row, &mut value);
                rendered.map_err(|m| m.in_file(&self.table.path, offset))?;
                Ok(value)
            }
            ChunkValues::Run(run) => self.value_of_run(&run),
        }
    }

    fn value_of_run(&self, run: &ValueRun<'_>) -> Result<Vec<u8>> {
        let (_, offset, _) = self.place;
        let range = run.range(self.row).map_err(|m| m.in_file(&self.table.path, offset))?;
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let TableContext { cache, metrics } = &self.table.context;
        if let Some(values) = cache.get(&self.place) {
            return Ok(values[range].to_vec());
        }
        let values = run.bytes().map_err(|what| self.table.corruption(offset, what))?;
        let value = values[range].to_vec();
        if let std::borrow::Cow::Owned(values) = values {
            metrics.chunks_decompressed.add(1);
            cache.insert(self.place, values.into());
        }
        Ok(value)
    }
}
