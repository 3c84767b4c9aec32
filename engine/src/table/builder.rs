//! Writing an SSTable: records in, in order; a synced file out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block_builder::BlockBuilder;
use super::filter::Filter;
use super::format::{
    BlockHandle, BlockType, CHECKSUM_BYTES, Footer, TableIdentity, TableMeta, TableProperties,
};
use super::index::IndexBuilder;
use super::late::LateFence;
use super::stale::StaleFence;
use super::stored::StoredChunk;
use crate::error::{Error, IoContext, Result};
use crate::fs::{Fs, WritableFile};
use crate::iter::Record;
use crate::key::{DatabaseId, FileId, KeyHash, RunRank, SeqNo, Tag, Timestamp};

/// Finished blocks are handed to the operating system in pieces of about this size, in bytes.
const WRITE_BYTES: usize = 1 << 20;

/// An SSTable that is being written. One that is dropped unfinished leaves a file that no manifest
/// names: it is removed by whoever asked for it, or at the next open.
pub(crate) struct TableBuilder {
    path: PathBuf,
    file: Arc<dyn WritableFile>,
    identity: TableIdentity,
    block: BlockBuilder,
    index: IndexBuilder,
    late: LateFence,
    horizon: Timestamp,
    stale: StaleFence,
    properties: Option<TableProperties>,
    /// Bytes that follow the `written` ones and are still in memory.
    pending: Vec<u8>,
    written: u64,
}

impl TableBuilder {
    pub(crate) fn create(
        fs: &dyn Fs,
        dir: &Path,
        database: DatabaseId,
        file: FileId,
    ) -> Result<Self> {
        let path = file.table_path(dir);
        Ok(TableBuilder {
            file: fs.create(&path).at("create", &path)?,
            identity: TableIdentity { database, file },
            block: BlockBuilder::new().at("prepare zstd for", &path)?,
            index: IndexBuilder::default(),
            late: LateFence::new(),
            horizon: Timestamp::MIN,
            stale: StaleFence::new(Timestamp::MIN),
            properties: None,
            pending: Vec::new(),
            written: 0,
            path,
        })
    }

    /// What this horizon makes garbage may be missing in the table, of which nothing is written yet.
    pub(crate) fn under(mut self, horizon: Timestamp) -> Self {
        self.horizon = horizon;
        self.stale = StaleFence::new(horizon);
        self
    }

    /// Adds a record, which must come after all that were added.
    pub(crate) fn add(&mut self, record: &Record<'_>) -> Result<()> {
        if self.block.should_end_before(record.key) {
            self.end_block()?;
        }
        self.account(record.key, &[record.ts], &[record.tag], record.value.len());
        self.block.add(record);
        Ok(())
    }

    /// Adds a chunk of another table, which must come after all that was added, by its bytes; by its
    /// records, where the dictionary has no room for what they refer to. Tells whether it was by the bytes.
    pub(crate) fn add_chunk(&mut self, chunk: &StoredChunk<'_>) -> Result<bool> {
        if self.block.should_end_before_chunk() {
            self.end_block()?;
        }
        let copied = self.block.add_chunk(chunk).map_err(|m| chunk.malformed(&m))?;
        if !copied {
            chunk.decode()?.records().try_for_each(|record| self.add(&record))?;
            return Ok(false);
        }
        let mut value_bytes = chunk.value_bytes();
        for (key, ts, tags) in chunk.places.by_key() {
            self.account(key, ts, tags, std::mem::take(&mut value_bytes));
        }
        Ok(true)
    }

    /// The size of the file so far, in bytes, without the block that is being filled.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// Writes what is left and makes the file durable; its name in the directory is not yet. Every
    /// record's sequence number lies in `seqs`, which is inclusive. At least one record was added.
    pub(crate) fn finish(mut self, rank: RunRank, seqs: (SeqNo, SeqNo)) -> Result<TableMeta> {
        let mut properties = self.properties.take().expect("a table of at least one record");
        (properties.min_seq, properties.max_seq) = seqs;
        self.end_block()?;
        let late = std::mem::replace(&mut self.late, LateFence::new());
        let filter = self.write_filter(BlockType::Filter, &late.keys())?;
        let late_filter = match late.draw() {
            Some((bulk_min_ts, keys)) => {
                properties.bulk_min_ts = bulk_min_ts;
                self.write_filter(BlockType::LateFilter, &keys)?
            }
            None => self.no_block(),
        };
        let stale = std::mem::replace(&mut self.stale, StaleFence::new(self.horizon));
        properties.horizon = self.horizon;
        (properties.stale_min, properties.stale_worth) = stale.draw(properties.records);
        let dictionary = match self.block.dictionary() {
            Some(dictionary) => self.write_block(&typed(BlockType::Dictionary, &dictionary))?,
            None => self.no_block(),
        };
        let index = std::mem::take(&mut self.index).finish();
        let index = self.write_block(&index)?;
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let properties_handle = self.write_block(&typed(BlockType::Properties, &encoded))?;
        let file_bytes = self.file_bytes() + super::format::FOOTER_BYTES as u64;
        let identity = self.identity;
        let footer = Footer {
            filter,
            late_filter,
            dictionary,
            index,
            properties: properties_handle,
            identity,
            file_bytes,
        };
        let (footer, checksum) = footer.encode();
        self.pending.extend_from_slice(&footer);
        self.write_pending()?;
        self.file.sync().at("sync", &self.path)?;
        Ok(TableMeta { id: identity.file, rank, file_bytes, checksum, properties })
    }

    /// Counts the next records, which are of one key, and whose values have that length in all.
    fn account(&mut self, key: &[u8], ts: &[Timestamp], tags: &[Tag], value_bytes: usize) {
        let is_first = self.properties.is_none();
        let properties =
            self.properties.get_or_insert_with(|| TableProperties::beginning_at(key, ts[0]));
        let rises = ts.is_sorted_by(|a, b| a < b) && (is_first || properties.precede(key, ts[0]));
        assert!(rises, "records of a table rise in (key, ts)");
        let mut is_new_key = properties.add_rows(key, ts, tags) || is_first;
        if is_new_key {
            self.late.add_key(KeyHash::of(key), ts[0]);
        }
        properties.raw_bytes += value_bytes as u64;
        for (&ts, &tag) in ts.iter().zip(tags) {
            self.late.add(ts);
            self.stale.add(std::mem::take(&mut is_new_key), ts, tag);
        }
    }

    fn write_filter(&mut self, block_type: BlockType, keys: &[KeyHash]) -> Result<BlockHandle> {
        let filter = Filter::build(keys)
            .map_err(|what| Error::InvalidArgument(format!("a filter can't be made: {what}")))?;
        self.write_block(&typed(block_type, &filter.to_bytes()))
    }

    /// Where a block would stand that the table does without.
    fn no_block(&self) -> BlockHandle {
        BlockHandle { offset: self.file_bytes(), len: 0 }
    }

    fn end_block(&mut self) -> Result<()> {
        if let Some((block, fences)) = self.block.finish() {
            let handle = self.write_block(&block)?;
            self.index.add(fences, handle);
        }
        Ok(())
    }

    /// Appends a block, which lacks its checksum only.
    fn write_block(&mut self, block: &[u8]) -> Result<BlockHandle> {
        let offset = self.file_bytes();
        let handle = BlockHandle { offset, len: (block.len() + CHECKSUM_BYTES) as u32 };
        let checksum = self.identity.checksum(offset, block);
        self.pending.extend_from_slice(block);
        self.pending.extend_from_slice(&checksum.to_le_bytes());
        if self.pending.len() >= WRITE_BYTES {
            self.write_pending()?;
        }
        Ok(handle)
    }

    fn write_pending(&mut self) -> Result<()> {
        self.file.write_at(self.written, &self.pending).at("write", &self.path)?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}

/// A block up to its checksum.
fn typed(block_type: BlockType, contents: &[u8]) -> Vec<u8> {
    let mut block = Vec::with_capacity(1 + contents.len());
    block.push(block_type as u8);
    block.extend_from_slice(contents);
    block
}
