//! What can be read of a table: block by block, each of which is taken as a whole or not at all.

use std::path::{Path, PathBuf};

use super::report::{Lost, Returns, Salvaged};
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::iter::Record;
use crate::key::{DatabaseId, FileId, SeqNo};
use crate::table::{DecodedChunk, TableContext, TableMeta, TableProperties, TableReader};

/// A table that is looked for.
pub(super) struct TableSource<'a> {
    pub(super) path: PathBuf,
    pub(super) id: FileId,
    /// What the manifest says of it.
    pub(super) described: Option<&'a TableMeta>,
    /// Whether no other source is older.
    pub(super) is_oldest: bool,
}

impl TableSource<'_> {
    /// Hands the table's records to `take`, whose error ends the salvage.
    pub(super) fn read(
        &self,
        fs: &dyn Fs,
        database: DatabaseId,
        salvaged: &mut Salvaged,
        take: &mut dyn FnMut(&Record<'_>) -> Result<()>,
    ) -> Result<()> {
        let (reader, gone_without) = match self.open(fs, database) {
            Ok(opened) => opened,
            Err(error) => {
                salvaged.lose(self.lost_as_a_whole(fs, error));
                return Ok(());
            }
        };
        let without = |error: &Error| format!("{error}: all records are there without it");
        salvaged.notes.extend(gone_without.iter().map(without));
        salvaged.tables += 1;
        salvaged.horizon = salvaged.horizon.max(reader.properties().horizon);
        let mut chunks = Vec::new();
        for block in 0..reader.index().len() {
            if let Err(error) = decode_block(&reader, block, &mut chunks) {
                salvaged.lose(self.lost_block(&reader, block, error));
                continue;
            }
            for record in chunks.iter().flat_map(DecodedChunk::records) {
                take(&record)?;
                salvaged.records += 1;
            }
        }
        Ok(())
    }

    /// The table without what its records can be read without, and what that is.
    fn open(&self, fs: &dyn Fs, database: DatabaseId) -> Result<(TableReader, Vec<Error>)> {
        let described = self.described.map(|meta| &meta.properties);
        let (reader, without) =
            TableReader::salvage(fs, &self.path, TableContext::unshared(), described)?;
        match self.described {
            Some(meta) => reader.check_described(database, meta)?,
            None => check_identity(&reader, database, self.id)?,
        }
        Ok((reader, without))
    }

    fn lost_as_a_whole(&self, fs: &dyn Fs, error: Error) -> Lost {
        let bytes = fs.open(&self.path).and_then(|file| file.len()).unwrap_or(0);
        let properties = self.described.map(|meta| &meta.properties);
        Lost {
            error: error.damage_if_missing("the manifest names it"),
            file: self.path.clone(),
            offset: 0,
            bytes,
            blocks: 0,
            keys: properties.map(|p| (p.first_key.clone(), p.last_key.clone())),
            times: properties.map(|p| (p.min_ts, p.max_ts)),
            seqs: properties.map(|p| (p.min_seq, p.max_seq)),
            returns: self.returns(properties),
        }
    }

    fn lost_block(&self, reader: &TableReader, block: usize, error: Error) -> Lost {
        let damage = reader.block_damage(block, error);
        let (row, properties) = (reader.index().row(block), reader.properties());
        Lost {
            error: damage.error,
            file: self.path.clone(),
            offset: row.handle.offset,
            bytes: u64::from(row.handle.len),
            blocks: 1,
            keys: Some((damage.first_key, damage.last_key)),
            times: Some((row.min_ts, row.max_ts)),
            seqs: Some((properties.min_seq, properties.max_seq)),
            returns: self.returns(Some(properties)),
        }
    }

    fn returns(&self, properties: Option<&TableProperties>) -> Returns {
        let replaced = !self.is_oldest;
        properties.map_or(Returns { replaced, ..Returns::ANY }, |p| Returns {
            replaced,
            ended: p.ends > 0,
            erased: p.erases > 0,
        })
    }
}

/// That the table is of this database and has this id.
pub(super) fn check_identity(reader: &TableReader, database: DatabaseId, id: FileId) -> Result<()> {
    let found = reader.footer().identity;
    if (found.database, found.file) == (database, id) {
        return Ok(());
    }
    let what = format!("expected table {} of database {:016x}, found {found:?}", id.0, database.0);
    Err(reader.corruption(reader.footer().file_bytes - crate::table::FOOTER_BYTES as u64, what))
}

fn decode_block(reader: &TableReader, block_no: usize, out: &mut Vec<DecodedChunk>) -> Result<()> {
    let block = reader.block(block_no)?;
    let offset = reader.index().row(block_no).handle.offset;
    out.resize_with(block.chunks(), DecodedChunk::default);
    for (chunk_no, decoded) in out.iter_mut().enumerate() {
        let chunk = block.chunk(chunk_no).map_err(|m| reader.corruption(offset, m.to_string()))?;
        decoded.decode(&chunk).map_err(|what| reader.corruption(offset, what))?;
    }
    Ok(())
}

/// The tables in the order of recency, as far as sequence numbers tell it, the oldest first; those that
/// can't be read come first, as they hold nothing that could be written. And up to which sequence number
/// tables hold what was written.
pub(super) fn by_sequence(fs: &dyn Fs, dir: &Path, mut ids: Vec<FileId>) -> (Vec<FileId>, SeqNo) {
    let mut last_seq = 0;
    ids.sort_by_cached_key(|id| {
        let reader =
            TableReader::salvage(fs, &id.table_path(dir), TableContext::unshared(), None).ok();
        let seqs = reader.map(|(reader, _)| {
            let properties = reader.properties();
            (properties.max_seq, properties.min_seq)
        });
        last_seq = last_seq.max(seqs.map_or(0, |(max, _)| max));
        (seqs, *id)
    });
    (ids, last_seq)
}

/// The operations that a table of this database holds; `None` where it can't be read.
pub(super) fn seq_range(
    fs: &dyn Fs,
    path: &Path,
    database: DatabaseId,
    id: FileId,
) -> Option<(SeqNo, SeqNo)> {
    let (reader, _) = TableReader::salvage(fs, path, TableContext::unshared(), None).ok()?;
    check_identity(&reader, database, id).ok()?;
    Some((reader.properties().min_seq, reader.properties().max_seq))
}
