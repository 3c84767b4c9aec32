//! The versions of one key in a table, decoded a chunk at a time.

use std::ops::Range;
use std::sync::Arc;

use super::place::ChunkPlace;
use super::reader::TableReader;
use crate::error::Result;
use crate::iter::{Order, Versions};
use crate::key::Timestamp;

/// A place among the chunks of one key. It goes past the cache, which it would fill with what is read
/// once.
#[derive(Debug)]
pub(crate) struct TableHistory {
    table: Arc<TableReader>,
    next: Next,
}

/// The chunk to decode next.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// Not looked for yet.
    First,
    /// By its block's number and its own.
    Chunk(usize, usize),
    None,
}

/// What a history asks for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) key: Vec<u8>,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    pub(crate) order: Order,
}

impl TableHistory {
    pub(crate) fn new(table: Arc<TableReader>) -> Self {
        TableHistory { table, next: Next::First }
    }

    /// Replaces `versions` by the next ones that are wanted, tombstones included; by none, where no
    /// more are left.
    pub(crate) fn read(&mut self, wanted: &Wanted, versions: &mut Versions) -> Result<()> {
        versions.clear();
        while versions.left.is_empty() {
            let Some(place) = Self::place(&self.table, self.next, wanted)? else {
                self.next = Next::None;
                return Ok(());
            };
            self.next = take(&place, wanted, versions)?;
        }
        Ok(())
    }

    fn place<'t>(
        table: &'t TableReader,
        next: Next,
        wanted: &Wanted,
    ) -> Result<Option<ChunkPlace<'t>>> {
        match (next, wanted.order) {
            (Next::First, Order::Descending) => ChunkPlace::find(table, &wanted.key, wanted.to),
            (Next::First, Order::Ascending) => {
                match ChunkPlace::find(table, &wanted.key, wanted.from)? {
                    None => ChunkPlace::first(table).map(Some),
                    found => Ok(found),
                }
            }
            (Next::Chunk(block_no, chunk_no), _) => {
                ChunkPlace::at(table, block_no, chunk_no).map(Some)
            }
            (Next::None, _) => Ok(None),
        }
    }
}

/// Decodes what the chunk has of the wanted versions; returns where there may be more.
fn take(place: &ChunkPlace<'_>, wanted: &Wanted, versions: &mut Versions) -> Result<Next> {
    let chunk = &place.chunk;
    let index = chunk.find_key(&wanted.key).map_err(|m| place.malformed(&m))?;
    let rows = match index {
        Some(index) => chunk.rows_of(index).map_err(|m| place.malformed(&m))?,
        // The key may begin with the next chunk.
        None => chunk.rows()..chunk.rows(),
    };
    let start = match wanted.from.checked_sub(1) {
        Some(before) => chunk.rows_upto(rows.clone(), before),
        None => rows.start,
    };
    let end = chunk.rows_upto(start..rows.end, wanted.to);
    decode(place, start..end, versions)?;
    match wanted.order {
        Order::Ascending => {
            let is_last = end == rows.end && index.is_none_or(|i| i + 1 == chunk.keys());
            let goes_on =
                is_last && place.next_ts_of(&wanted.key)?.is_some_and(|next| next <= wanted.to);
            Ok(if goes_on { beside(place.next()?.as_ref()) } else { Next::None })
        }
        Order::Descending => {
            let goes_on = start == rows.start && index == Some(0);
            Ok(if goes_on { beside(place.prev()?.as_ref()) } else { Next::None })
        }
    }
}

fn beside(place: Option<&ChunkPlace<'_>>) -> Next {
    place.map(ChunkPlace::number).map_or(Next::None, |(block, chunk)| Next::Chunk(block, chunk))
}

fn decode(place: &ChunkPlace<'_>, rows: Range<usize>, versions: &mut Versions) -> Result<()> {
    let chunk = &place.chunk;
    if rows.is_empty() {
        return Ok(());
    }
    versions.ts.extend(chunk.timestamps(rows.clone()));
    chunk.tags_into(rows.clone(), &mut versions.tags).map_err(|m| place.malformed(&m))?;
    versions.show_all();
    let decoded = chunk.decode_rows(rows, &mut versions.values, &mut versions.ends);
    decoded.map_err(|what| place.corruption(what))
}
