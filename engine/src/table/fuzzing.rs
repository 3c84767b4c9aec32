//! What holds of the parts of a table, whatever their bytes are.

use std::path::Path;
use std::sync::Arc;

use super::block::Block;
use super::block_builder::BlockBuilder;
use super::chunk::{Chunk, ChunkValues};
use super::filter::Filter;
use super::format::{
    BlockHandle, CHECKSUM_BYTES, FOOTER_BYTES, Footer, TableIdentity, TableProperties,
};
use super::index::{Index, IndexBuilder};
use super::{DecodedChunk, TableContext, TableCursor, TableReader, ValueCache};
use crate::codec::fuzzing::padded;
#[cfg(test)]
use crate::codec::ints::PAD_BYTES;
use crate::codec::template::Dictionary;
use crate::coding::Decoder;
use crate::error::Result;
use crate::fs::FileMap;
use crate::iter::Record;
use crate::key::{DatabaseId, FileId, KeyHash, Tag, Timestamp, key_number};
use crate::metrics::Metrics;

/// What the values of a chunk may take for all of them to be read one by one, in bytes.
const VALUES_BYTES_MAX: usize = 1 << 16;

/// Where the fields that a fixed-up footer gets lie in it.
const FILE_BYTES_AT: usize = 76;
const VERSION_AT: usize = 84;
const CHECKSUM_AT: usize = 88;
const MAGIC_AT: usize = 96;

/// Properties as they are stored.
pub(crate) fn properties(data: &[u8]) {
    let Ok(properties) = TableProperties::decode(&mut Decoder::new(data)) else { return };
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    assert!(encoded.len() <= data.len());
    assert_eq!(TableProperties::decode(&mut Decoder::new(&encoded)), Ok(properties));
}

/// A filter as it is stored, or keys for a filter.
pub(crate) fn filter(data: &[u8]) {
    let Some((is_stored, rest)) = data.split_first() else { return };
    if is_stored & 1 == 1 {
        let Ok(filter) = Filter::parse(rest) else { return };
        for key in 0_u64..4 {
            filter.may_contain(KeyHash(key.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        }
        assert!((0.0..=1.0).contains(&filter.fill()));
        let again = Filter::parse(&filter.to_bytes()).expect("what was encoded");
        assert_eq!(again.shape(), filter.shape());
        return;
    }
    let hashes: Vec<KeyHash> = rest.chunks(2).map(KeyHash::of).collect();
    if hashes.is_empty() {
        return;
    }
    let filter = Filter::build(&hashes).expect("a filter of few keys");
    let filter = Filter::parse(&filter.to_bytes()).expect("what was encoded");
    assert!(hashes.iter().all(|&hash| filter.may_contain(hash)));
}

/// The end of a file. Bits of the first byte say what is put right: magic, length, version, checksum.
pub(crate) fn footer(data: &[u8]) {
    let Some((fixes, file)) = data.split_first() else { return };
    let mut file = file.to_vec();
    if file.len() >= FOOTER_BYTES {
        fix_footer(&mut file, *fixes);
    }
    let Ok((footer, checksum)) = Footer::decode(&file, Path::new("")) else { return };
    let (encoded, again) = footer.encode();
    assert_eq!((again, &encoded[..]), (checksum, &file[file.len() - FOOTER_BYTES..]));
}

fn fix_footer(file: &mut [u8], fixes: u8) {
    let (file_bytes, start) = (file.len() as u64, file.len() - FOOTER_BYTES);
    let footer = &mut file[start..];
    if fixes & 1 == 0 {
        footer[MAGIC_AT..].copy_from_slice(b"KVTDBSST");
    }
    if fixes & 2 == 0 {
        footer[FILE_BYTES_AT..VERSION_AT].copy_from_slice(&file_bytes.to_le_bytes());
    }
    if fixes & 4 == 0 {
        footer[VERSION_AT..CHECKSUM_AT].copy_from_slice(&super::FORMAT_VERSION.to_le_bytes());
    }
    if fixes & 8 == 0 {
        let checksum = identity(footer).checksum(start as u64, &footer[..CHECKSUM_AT]);
        footer[CHECKSUM_AT..MAGIC_AT].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// What a footer says of whose it is.
fn identity(footer: &[u8]) -> TableIdentity {
    let mut input = Decoder::new(&footer[60..]);
    let mut id = || input.u64("").expect("a whole footer");
    TableIdentity { database: DatabaseId(id()), file: FileId(id()) }
}

/// The bytes of a whole file, put right where a checksum, the magic or the length stands.
pub(crate) fn put_right(file: &mut [u8]) {
    if file.len() < FOOTER_BYTES {
        return;
    }
    fix_footer(file, 0);
    let Ok((footer, _)) = Footer::decode(file, Path::new("")) else { return };
    let Footer { filter, late_filter, dictionary, index, properties, identity, .. } = footer;
    let mut blocks = vec![filter, late_filter, dictionary, properties, index];
    if let Some(contents) = super::format::slice_of(file, index)
        && contents.len() > CHECKSUM_BYTES
        && let Ok(index) =
            Index::parse(&contents[1..contents.len() - CHECKSUM_BYTES], filter.offset)
    {
        blocks.extend((0..index.len()).map(|block| index.row(block).handle));
    }
    for handle in blocks {
        if super::format::slice_of(file, handle).is_some_and(|block| block.len() > CHECKSUM_BYTES) {
            let end = handle.offset as usize + handle.len as usize;
            let (block, checksum) = (handle.offset as usize..end - CHECKSUM_BYTES, end);
            let found = identity.checksum(handle.offset, &file[block]);
            file[checksum - CHECKSUM_BYTES..checksum].copy_from_slice(&found.to_le_bytes());
        }
    }
}

/// Opens a whole file.
pub(crate) fn open(file: Vec<u8>) -> Result<TableReader> {
    let cache = Arc::new(ValueCache::new(0));
    let context = TableContext { cache, metrics: Arc::new(Metrics::default()) };
    TableReader::of_bytes(FileMap::from(Arc::new(file)), Path::new(""), context, None)
}

/// An index as it is stored.
pub(crate) fn index(data: &[u8]) {
    let Ok(index) = Index::parse(data, data.len() as u64 * 64) else { return };
    let mut end = 0;
    for block in 0..index.len() {
        let row = index.row(block);
        assert_eq!(row.handle.offset, end);
        end += u64::from(row.handle.len);
        let (key, ts) = (index.first_key(block), index.first_ts(block));
        assert_eq!(index.find(key, ts), Some(block));
        if let Some(before) = ts.checked_sub(1)
            && let Some(found) = index.find(key, before)
        {
            assert!(found < block);
        }
        let found = index.find(&[key, &[0]].concat(), Timestamp::MIN);
        assert!(found.is_some_and(|found| found >= block));
    }
    assert!(end <= data.len() as u64 * 64);
}

/// A data block of chunks as they are stored. A dictionary, what the first keys share, and the chunks
/// are byte strings, each with its length.
pub(crate) fn block(data: &[u8]) {
    let mut input = Decoder::new(data);
    let mut next = || input.bytes(data.len(), "").ok();
    let (Some(dictionary), Some(shared)) = (next(), next()) else { return };
    let Ok(dictionary) = Dictionary::parse(dictionary) else { return };
    let (mut contents, mut ends) = (Vec::new(), Vec::new());
    while let Some(chunk) = next().filter(|chunk| !chunk.is_empty()) {
        contents.extend_from_slice(chunk);
        ends.push(contents.len() as u32);
    }
    if ends.is_empty() {
        return;
    }
    let contents = padded(&contents);
    let (mut numbers, mut first_ts, mut start) = (Vec::new(), Vec::new(), 0);
    for &end in &ends {
        let chunk =
            Chunk::parse(shared, &contents[start..padded(&[]).len() + end as usize], &dictionary);
        let suffix = Chunk::first_suffix(&contents[start..]).unwrap_or_default();
        numbers.push(key_number(suffix));
        first_ts.push(chunk.map_or(0, |chunk| chunk.ts(0)));
        start = end as usize;
    }
    let block = Block::new(shared, &numbers, &first_ts, &ends, &contents, &dictionary);
    for number in 0..block.chunks() {
        if let Ok(chunk) = block.chunk(number) {
            read_chunk(&block, number, &chunk);
        }
    }
}

/// Reads all of a chunk in every way there is. What can be read at once is what is read one by one.
pub(crate) fn read_chunk(block: &Block<'_>, number: usize, chunk: &Chunk<'_>) {
    let rows = chunk.rows();
    block.bytes_of(number, chunk).expect("the bytes of what was read");
    let mut decoded = DecodedChunk::default();
    let is_decoded = decoded.decode(chunk).is_ok();
    if !is_decoded {
        let mut key = Vec::new();
        for index in 0..chunk.keys() {
            key.clear();
            let _ = (chunk.key_into(index, &mut key), chunk.rows_of(index));
        }
        let _ = (chunk.find_key(b"k"), chunk.floor(&key, 0), block.find(&key, 0));
        let some = || (0..rows).step_by(1 + rows / 16);
        some().for_each(|row| drop(chunk.tag(row)));
        let _ = read_values(chunk, some(), |_, _| ());
        return;
    }
    let records: Vec<Record<'_>> = decoded.records().collect();
    assert_eq!(records.len(), rows);
    let is_small = chunk.values_bytes().0 <= VALUES_BYTES_MAX;
    let singly = (0..rows).rev().filter(|row| is_small || row + 1 == rows);
    read_values(chunk, singly, |row, value| {
        assert_eq!(value.expect("a value that was read with others"), records[row].value);
    })
    .expect("values that were read together");
    for (row, record) in records.iter().enumerate() {
        assert_eq!((chunk.ts(row), chunk.tag(row)), (record.ts, Ok(record.tag)));
    }
    let rises = records.is_sorted_by(|a, b| (a.key, a.ts) < (b.key, b.ts));
    for record in records.iter().step_by(1 + rows / 16) {
        let found = chunk.floor(record.key, record.ts);
        assert!(!rises || found.is_ok_and(|row| row.is_some_and(|r| records[r] == *record)));
        let _ = block.find(record.key, record.ts);
    }
    let (values, ends) = (&mut Vec::new(), &mut Vec::new());
    let middle = rows / 2;
    chunk.decode_rows(middle..rows, values, ends).expect("rows that were read with others");
    for (row, record) in records[middle..].iter().enumerate() {
        assert_eq!(crate::codec::fuzzing::value(values, ends, row), record.value);
    }
}

/// Hands over the values of some rows, each read by itself.
fn read_values(
    chunk: &Chunk<'_>,
    rows: impl Iterator<Item = usize>,
    mut take: impl FnMut(usize, Option<&[u8]>),
) -> Result<(), String> {
    match chunk.values().by_codec().map_err(|m| m.to_string())? {
        ChunkValues::Template(template) => {
            let mut value = Vec::new();
            for row in rows {
                value.clear();
                let is_read = template.value_into(row, &mut value).is_ok();
                take(row, is_read.then_some(&value));
            }
        }
        ChunkValues::Run(run) => {
            let bytes = run.bytes()?;
            rows.for_each(|row| take(row, run.range(row).ok().map(|range| &bytes[range])));
        }
    }
    Ok(())
}

/// What a merge makes of a table's chunks where it copies them, read back.
pub(crate) fn copy_chunks(table: &Arc<TableReader>) -> Result<Vec<OwnedRecord>> {
    let mut builder = BlockBuilder::new().expect("a compressor");
    let mut cursor = TableCursor::new(Arc::clone(table));
    cursor.seek_place(b"", Timestamp::MIN)?;
    while let Some(chunk) = cursor.stored_chunk() {
        let is_copied = builder.add_chunk(&chunk).map_err(|m| chunk.malformed(&m))?;
        assert!(is_copied, "a dictionary has room for a smaller one");
        cursor.pass_chunk()?;
    }
    let mut records = Vec::new();
    let Some((block, fences)) = builder.finish() else { return Ok(records) };
    let dictionary = builder.dictionary().map(|bytes| Dictionary::parse(&bytes).expect("encoded"));
    let (mut index, offset) = (IndexBuilder::default(), 0);
    let len = (block.len() + CHECKSUM_BYTES) as u32;
    index.add(fences, BlockHandle { offset, len });
    let index = Index::parse(&index.finish()[1..], len.into()).expect("what was encoded");
    let dictionary = dictionary.unwrap_or_default();
    let block = index.block(0, &block[1..], &dictionary);
    for number in 0..block.chunks() {
        let mut decoded = DecodedChunk::default();
        let read = block.chunk(number).map_err(|m| m.to_string());
        read.and_then(|chunk| decoded.decode(&chunk)).map_err(|what| table.corruption(0, what))?;
        let owned = |r: Record<'_>| (r.key.to_vec(), r.ts, r.tag, r.value.to_vec());
        records.extend(decoded.records().map(owned));
    }
    Ok(records)
}

/// Records, built into blocks, come back. A record is what of the key before it keeps, the rest, a step in
/// time, a tag, and a value.
pub(crate) fn records(data: &[u8]) {
    let records = records_of(data);
    let Some(mut builder) = BlockBuilder::new().ok().filter(|_| !records.is_empty()) else {
        return;
    };
    let (mut index, mut blocks, mut offset) = (IndexBuilder::default(), Vec::new(), 0);
    let mut end_block = |builder: &mut BlockBuilder, offset: &mut u64| {
        let Some((block, fences)) = builder.finish() else { return };
        let len = (block.len() + CHECKSUM_BYTES) as u32;
        index.add(fences, BlockHandle { offset: *offset, len });
        *offset += u64::from(len);
        blocks.push(block);
    };
    for (key, ts, tag, value) in &records {
        if builder.should_end_before(key) {
            end_block(&mut builder, &mut offset);
        }
        builder.add(&Record { key, ts: *ts, tag: *tag, value });
    }
    end_block(&mut builder, &mut offset);
    let dictionary = builder.dictionary().map(|bytes| Dictionary::parse(&bytes).expect("encoded"));
    let dictionary = dictionary.unwrap_or_default();
    let index = Index::parse(&index.finish()[1..], offset).expect("what was encoded");
    let mut expected = records.iter();
    let mut decoded = DecodedChunk::default();
    for (number, block) in blocks.iter().enumerate() {
        let block = index.block(number, &block[1..], &dictionary);
        for chunk_no in 0..block.chunks() {
            let chunk = block.chunk(chunk_no).expect("what was encoded");
            decoded.decode(&chunk).expect("what was encoded");
            for found in decoded.records() {
                let (key, ts, tag, value) = expected.next().expect("a record for each");
                assert_eq!(found, Record { key, ts: *ts, tag: *tag, value });
            }
            let first = decoded.records().next().expect("a chunk of records");
            assert_eq!(index.find(first.key, first.ts), Some(number));
            assert_eq!(block.find(first.key, first.ts), Ok(Some(chunk_no)));
            read_chunk(&block, chunk_no, &chunk);
        }
    }
    assert_eq!(expected.next(), None);
}

type OwnedRecord = (Vec<u8>, Timestamp, Tag, Vec<u8>);

/// The records that these bytes stand for, in order.
fn records_of(data: &[u8]) -> Vec<OwnedRecord> {
    let mut input = Decoder::new(data);
    let mut records: Vec<OwnedRecord> = Vec::new();
    while let Some(record) = next_record(&mut input, records.last()) {
        records.push(record);
    }
    records.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    records.dedup_by(|a, b| (&a.0, a.1) == (&b.0, b.1));
    records
}

fn next_record(input: &mut Decoder<'_>, last: Option<&OwnedRecord>) -> Option<OwnedRecord> {
    let (last_key, last_ts) = last.map_or((&[][..], 0), |(key, ts, ..)| (key, *ts));
    let kept = usize::from(input.u8("").ok()?).min(last_key.len());
    let key = [&last_key[..kept], input.bytes(64, "").ok()?].concat();
    let ts = last_ts.wrapping_add(input.zigzag("").ok()?);
    let tag = Tag::from_byte(input.u8("").ok()?)?;
    let value = input.bytes(1 << 12, "").ok()?.to_vec();
    Some((key, ts, tag, value))
}

/// How a writer of [`records`]' input goes on from the key before.
#[cfg(test)]
pub(crate) fn encode_records<'r>(records: impl Iterator<Item = Record<'r>>) -> Vec<u8> {
    use crate::coding::{put_bytes, put_zigzag};
    use crate::key::shared_len;
    let (mut out, mut last_key, mut last_ts) = (Vec::new(), Vec::new(), 0_i64);
    for record in records {
        let kept = shared_len(&last_key, record.key).min(255);
        out.push(kept as u8);
        put_bytes(&mut out, &record.key[kept..]);
        put_zigzag(&mut out, record.ts.wrapping_sub(last_ts));
        out.push(record.tag.to_byte());
        put_bytes(&mut out, record.value);
        (last_key, last_ts) = (record.key.to_vec(), record.ts);
    }
    out
}

/// A table's file as a seed, and those that its parts are: names of targets and inputs.
#[cfg(test)]
pub(crate) fn seeds_of_table(file: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    use super::format::BlockType;
    use super::search::FirstRecords;
    use crate::coding::put_bytes;
    let (footer, _) = Footer::decode(file, Path::new("")).expect("a whole table");
    let part = |handle: BlockHandle, expected: BlockType| {
        let block = footer.identity.verify(file, Path::new(""), handle, expected);
        block.expect("a block").to_vec()
    };
    let dictionary = match footer.dictionary {
        BlockHandle { len: 0, .. } => Vec::new(),
        handle => part(handle, BlockType::Dictionary),
    };
    let index = part(footer.index, BlockType::Index);
    let filter = part(footer.filter, BlockType::Filter);
    let mut seeds = vec![
        ("footer", [&[0], &file[file.len() - FOOTER_BYTES - 7..]].concat()),
        ("filter", [&[1], &filter[..]].concat()),
    ];
    if file.len() < 1 << 14 {
        seeds.push(("table", file.to_vec()));
    }
    let table = open(file.to_vec()).expect("a whole table");
    for number in 0..table.index().len() {
        let block = table.block(number).expect("a block");
        let mut seed = Vec::new();
        put_bytes(&mut seed, &dictionary);
        put_bytes(&mut seed, block.shared());
        for chunk_no in 0..block.chunks().min(4) {
            let padded = block.padded(chunk_no);
            put_bytes(&mut seed, &padded[..padded.len() - PAD_BYTES]);
            let chunk = block.chunk(chunk_no).expect("a chunk");
            let bytes = block.bytes_of(chunk_no, &chunk).expect("a chunk");
            if let ChunkValues::Template(_) = chunk.values().by_codec().expect("values") {
                let rows = (chunk.rows() as u16 - 1).to_le_bytes();
                let mut seed = [&[1], &rows[..]].concat();
                put_bytes(&mut seed, &dictionary);
                put_bytes(&mut seed, &bytes.padded_head[..bytes.padded_head.len() - PAD_BYTES]);
                // Behind the keys' columns, which stand before them.
                let data = chunk.values_bytes().1 + PAD_BYTES - bytes.padded_head.len();
                seed.extend_from_slice(&bytes.data[bytes.data.len() - data..]);
                seeds.push(("template", seed));
            }
        }
        seeds.push(("block", seed));
    }
    seeds.extend([("dictionary", dictionary), ("index", index)]);
    seeds.retain(|(_, seed)| !seed.is_empty());
    seeds
}
