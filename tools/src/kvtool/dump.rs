//! `kvtool dump`: what SSTables hold.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use kvtimedb_engine::fs::RealFs;
use kvtimedb_engine::inspect::{FileKind, TableRecord, TableView};
use kvtimedb_engine::{Error, Timestamp};

use super::rows::{BloomRow, ChunkRow, IndexRow, KeyRow, MetaRow, Properties, RecordRow, Section};
use super::text::{Key, Value};
use super::{Session, kind_name, say, type_name};

// A flag a listing: each is asked for by itself, and several may be.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Args)]
pub(super) struct Options {
    /// An SSTable, or a directory: then every .sst in it
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,

    /// Identity, footer, properties and sections; this is the default
    #[arg(long)]
    meta: bool,

    /// The data blocks and their chunks: keys, records, codec, bytes of values
    #[arg(long)]
    blocks: bool,

    /// The rows of the index
    #[arg(long)]
    index: bool,

    /// The bloom filter: size, fill, estimated rate of false positives
    #[arg(long)]
    bloom: bool,

    /// The keys, with their number of versions
    #[arg(long)]
    keys: bool,

    /// The records, with their values
    #[arg(long)]
    values: bool,

    /// Of --keys and --values: this key only; \xNN and \\ are escapes
    #[arg(long, value_name = "KEY", conflicts_with = "prefix")]
    key: Option<Key>,

    /// Of --keys and --values: keys that begin so; \xNN and \\ are escapes
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<Key>,

    /// Of --keys and --values: records at this timestamp and later
    #[arg(long, value_name = "TS", allow_negative_numbers = true, default_value_t = Timestamp::MIN,
          hide_default_value = true)]
    from: Timestamp,

    /// Of --keys and --values: records at this timestamp and earlier
    #[arg(long, value_name = "TS", allow_negative_numbers = true, default_value_t = Timestamp::MAX,
          hide_default_value = true)]
    to: Timestamp,

    /// At most so many rows of each listing of each file
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    limit: usize,
}

pub(super) fn run(session: &mut Session, options: &Options) -> io::Result<()> {
    let tables = session.files(&options.path, |kind| match kind {
        FileKind::Table(id) => Some(id),
        _ => None,
    })?;
    if tables.is_empty() {
        say(&format!("there is no .sst in {}", options.path.display()));
    }
    for path in tables {
        session.out.heading(path.display().to_string())?;
        match TableView::open(&RealFs, &path) {
            Ok(table) => {
                Dump { session: &mut *session, options, path: &path, table: &table }.listings()?;
            }
            Err(error) => session.complain(&error)?,
        }
    }
    Ok(())
}

struct Dump<'d> {
    session: &'d mut Session,
    options: &'d Options,
    path: &'d Path,
    table: &'d TableView,
}

impl Dump<'_> {
    fn listings(&mut self) -> io::Result<()> {
        let Options { meta, blocks, index, bloom, keys, values, .. } = *self.options;
        if meta || !(blocks || index || bloom || keys || values) {
            self.meta()?;
        }
        if bloom {
            self.bloom()?;
        }
        if index {
            self.index()?;
        }
        if blocks {
            self.blocks()?;
        }
        if keys {
            self.keys()?;
        }
        if values {
            self.values()?;
        }
        Ok(())
    }

    fn file(&self) -> String {
        self.path.display().to_string()
    }

    fn meta(&mut self) -> io::Result<()> {
        let table = self.table;
        let sections = table.sections();
        let sections =
            sections.iter().map(|s| Section { name: s.name, offset: s.offset, bytes: s.bytes });
        let row = MetaRow {
            file: self.file(),
            id: table.id().0,
            database: format!("{:016x}", table.database().0),
            format_version: table.format_version(),
            file_bytes: table.file_bytes(),
            checksum: format!("{:016x}", table.checksum()),
            blocks: table.blocks(),
            sections: sections.collect(),
            properties: Properties::of(table.properties()),
        };
        self.session.out.row(&row)
    }

    fn bloom(&mut self) -> io::Result<()> {
        let filter = self.table.filter();
        let row = BloomRow {
            file: self.file(),
            bits: filter.bits,
            bits_per_key: filter.bits as f64 / self.table.properties().keys.max(1) as f64,
            hash_functions: filter.hash_functions,
            fill: filter.fill,
            false_positive_rate: filter.false_positive_rate,
        };
        self.session.out.row(&row)
    }

    fn index(&mut self) -> io::Result<()> {
        for block in 0..self.table.blocks().min(self.options.limit) {
            let row = self.table.index_row(block);
            let row = IndexRow {
                file: self.file(),
                block,
                offset: row.offset,
                bytes: row.bytes,
                first_key: row.first_key.into(),
                first_ts: row.first_ts,
                min_ts: row.min_ts,
                max_ts: row.max_ts,
            };
            self.session.out.row(&row)?;
        }
        Ok(())
    }

    fn blocks(&mut self) -> io::Result<()> {
        let mut left = self.options.limit;
        for block_no in 0..self.table.blocks() {
            if left == 0 {
                break;
            }
            let block = match self.table.block(block_no) {
                Ok(block) => block,
                Err(error) => {
                    self.session.complain(&error)?;
                    continue;
                }
            };
            for (chunk_no, chunk) in block.chunks.into_iter().take(left).enumerate() {
                left -= 1;
                let row = ChunkRow {
                    file: self.file(),
                    block: block_no,
                    block_offset: block.row.offset,
                    block_bytes: block.row.bytes,
                    chunk: chunk_no,
                    first_key: chunk.first_key.into(),
                    first_ts: chunk.first_ts,
                    keys: chunk.keys,
                    records: chunk.records,
                    codec: chunk.codec,
                    value_bytes: chunk.value_bytes,
                    stored_bytes: chunk.stored_bytes,
                };
                self.session.out.row(&row)?;
            }
        }
        Ok(())
    }

    fn keys(&mut self) -> io::Result<()> {
        let mut left = self.options.limit;
        let mut pending: Option<KeyRow> = None;
        for record in selected(self.table, self.options) {
            let record = match record {
                Ok(record) => record,
                Err(error) => return self.session.complain(&error),
            };
            match &mut pending {
                Some(row) if *row.key.0 == *record.key => {
                    row.records += 1;
                    row.last_ts = record.ts;
                }
                _ => {
                    if let Some(row) = pending.take() {
                        self.session.out.row(&row)?;
                    }
                    if left == 0 {
                        return Ok(());
                    }
                    left -= 1;
                    let (ts, key) = (record.ts, record.key.into());
                    let row =
                        KeyRow { file: self.file(), key, records: 1, first_ts: ts, last_ts: ts };
                    pending = Some(row);
                }
            }
        }
        pending.map_or(Ok(()), |row| self.session.out.row(&row))
    }

    fn values(&mut self) -> io::Result<()> {
        for record in selected(self.table, self.options).take(self.options.limit) {
            match record {
                Ok(record) => {
                    let row = RecordRow {
                        file: self.file(),
                        key: record.key.into(),
                        ts: record.ts,
                        kind: kind_name(record.kind),
                        value_type: type_name(record.kind, record.value_type),
                        bytes: record.value.len(),
                        value: Value::of(record.kind, record.value_type, record.value),
                    };
                    self.session.out.row(&row)?;
                }
                Err(error) => return self.session.complain(&error),
            }
        }
        Ok(())
    }
}

/// The records that the options choose, in order.
fn selected<'d>(
    table: &TableView,
    options: &'d Options,
) -> impl Iterator<Item = Result<TableRecord, Error>> + 'd {
    let start = match (&options.key, &options.prefix) {
        (Some(key), _) => (&*key.0, options.from),
        (None, Some(prefix)) => (&*prefix.0, Timestamp::MIN),
        (None, None) => (&b""[..], Timestamp::MIN),
    };
    let in_range = |record: &TableRecord| match (&options.key, &options.prefix) {
        (Some(key), _) => record.key == key.0,
        (None, Some(prefix)) => record.key.starts_with(&prefix.0),
        (None, None) => true,
    };
    let in_time = |record: &TableRecord| (options.from..=options.to).contains(&record.ts);
    table
        .records(start.0, start.1)
        .take_while(move |record| record.as_ref().map_or(true, in_range))
        .filter(move |record| record.as_ref().map_or(true, in_time))
}
