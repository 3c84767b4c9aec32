//! SSTables: immutable sorted files.
//!
//! All numbers are little endian. Every part ends in an xxh3-64 checksum whose seed is made of the
//! database's id, the file's id and the part's offset: a part that was moved, or that belongs to
//! another file, does not verify. `docs/format.md` has every field.
//!
//! ```text
//! file:   data block* | filter block | late filter block? | dictionary block? | index block
//!         | properties block | footer (104 bytes)
//! block:  type u8 | contents | checksum u64
//!
//! data block: type u8 = 1 | chunks, one after the other | pad 8 | checksum u64
//! chunk: head:  first key's rest (length varint | bytes) | codec u8
//!               | rows varint | keys varint | values length varint | where keys > 1: keys length varint
//!               | ts model | tag model | values' head (length varint | bytes, as the codec says)
//!        data:  where keys > 1: shared varint | suffix ends column | suffixes | row starts column
//!               ts residuals | tag residuals | values' data (as the codec says)
//! values in runs:  head: model of their ends   data: residuals of their ends | the run
//!
//! filter block:      type u8 = 2 | the bloom filter's bytes | checksum u64
//! late filter block: type u8 = 5 | the same over the keys with early records, see `late` | checksum u64
//! dictionary block:  type u8 = 6 | skeletons and words of the templates | checksum u64
//! index block:       type u8 = 3 | blocks u32 | a row a block, with its chunks, see `index` | checksum u64
//! properties block:  type u8 = 4 | see `format::TableProperties` | checksum u64
//! ```
//! A chunk holds rows in order of `(key, ts)`: one key's versions, or those of several keys that have
//! few. Of its first key the block stores once what all first keys share; the other keys share some
//! first bytes with the first one. The chunk is what is encoded, its values as skeletons and bits or in a
//! run, raw or compressed; the block is what is checksummed and indexed.

mod block;
mod block_builder;
mod builder;
mod chunk;
mod chunk_builder;
mod filter;
mod format;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod history;
mod index;
mod iter;
mod late;
mod place;
mod probe;
mod reader;
mod samples;
mod scrub;
mod search;
mod stale;
mod stored;
#[cfg(test)]
mod tests;

pub(crate) use builder::TableBuilder;
pub(crate) use format::{FOOTER_BYTES, FORMAT_VERSION};
pub use format::{TableMeta, TableProperties};
pub(crate) use history::{TableHistory, Wanted};
pub(crate) use iter::{DecodedChunk, TableCursor};
pub(crate) use place::ChunkPlace;
pub(crate) use probe::TableProbe;
pub(crate) use reader::{TableContext, TableReader, TableVersion, ValueCache};
pub use scrub::Damage;
pub(crate) use stored::StoredChunk;
