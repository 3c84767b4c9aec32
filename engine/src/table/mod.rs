//! SSTables: immutable sorted files.
//!
//! All numbers are little endian. Every part ends in an xxh3-64 checksum whose seed is made of the
//! database's id, the file's id and the part's offset: a part that was moved, or that belongs to
//! another file, does not verify. `docs/format.md` has every field.
//!
//! ```text
//! file:   data block* | filter block | index block | properties block | footer (80 bytes)
//! block:  type u8 | contents | checksum u64
//!
//! data block:
//!   type u8 = 1 | zero u8 | chunks u16
//!   directory, a row a chunk: first ts i64 | key end u32 | body end u32 | codec u8
//!   first keys of the chunks, one after the other   (ends in the directory, from here)
//!   chunk bodies, one after the other               (ends in the directory, from here)
//!   pad 8 | checksum u64
//!
//! chunk body: rows varint | keys varint | values length varint
//!   where keys > 1:  shared varint | suffix ends column | suffixes | row starts column
//!   ts column | tag column | where in runs: value ends column | values (as the codec says)
//!
//! filter block:      type u8 = 2 | the bloom filter's bytes | checksum u64
//! index block:       type u8 = 3 | blocks u32 | a row a block | checksum u64
//! properties block:  type u8 = 4 | see `format::TableProperties` | checksum u64
//! ```
//! A chunk holds rows in order of `(key, ts)`: one key's versions, or those of several keys that have
//! few. Its first key stands in the directory; the other keys share the first `shared` bytes with it.
//! The chunk is what is encoded, its values as skeletons and columns or in a run, raw or compressed; the
//! block is what is checksummed and indexed.

mod block;
mod block_builder;
mod builder;
mod chunk;
mod chunk_builder;
mod filter;
mod format;
mod index;
mod iter;
mod reader;
#[cfg(test)]
mod tests;

pub(crate) use builder::TableBuilder;
pub(crate) use format::{FOOTER_BYTES, FORMAT_VERSION};
pub use format::{TableMeta, TableProperties};
pub(crate) use iter::{DecodedChunk, TableCursor};
pub(crate) use reader::{TableContext, TableReader, TableVersion, ValueCache};
