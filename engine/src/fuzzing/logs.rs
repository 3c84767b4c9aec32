//! The log, the manifest, and what their records hold.

use std::path::Path;

use crate::batch::{Op, Ops, WriteBatch};
use crate::key::{FileId, Tag, Timestamp, ValueKind, ValueRef};
use crate::record::{LogEnd, LogKind, RecordReader, fuzzing::put_right};
use crate::version::{Manifest, VersionEdit, parse_current};
use crate::wal::{SegmentReader, SegmentRecord};

/// Most manifests have fewer tables, and what an edit does to a state takes time with their square.
const TABLES_MAX: usize = 64;

/// A log file that says which of its records are sound: so many of the first ones, but one.
fn log(data: &[u8], kind: LogKind) -> Option<(Vec<u8>, FileId)> {
    let ([records, skipped], file) = data.split_first_chunk()?;
    let mut file = file.to_vec();
    let file_id = put_right(&mut file, kind, (*records).into(), (*skipped).into());
    Some((file, file_id.unwrap_or(FileId(0))))
}

fn open(file: &[u8], kind: LogKind, file_id: FileId) -> Option<RecordReader> {
    RecordReader::of_bytes(file.to_vec(), Path::new(""), kind, None, file_id).ok().flatten()
}

type OwnedOp = (u64, Tag, Vec<u8>, Timestamp, Vec<u8>);

/// A segment, read to its end: its records, their operations, and how it ends.
fn segment(file: &[u8], file_id: FileId) -> Option<(Vec<SegmentRecord>, Vec<OwnedOp>, LogEnd)> {
    let reader = open(file, LogKind::Wal, file_id)?;
    let mut segment = SegmentReader::of_records(reader, Path::new(""), file_id);
    let (mut records, mut ops) = (Vec::new(), Vec::new());
    let mut take = |seq, op: Op<'_>| {
        ops.push((seq, op.tag, op.key.to_vec(), op.ts, op.value.to_vec()));
        Ok(())
    };
    while let Some(record) = segment.next(&mut take).ok()? {
        records.push(record);
    }
    Some((records, ops, segment.end()))
}

/// A segment of the log.
pub(super) fn wal(data: &[u8]) {
    let Some((file, file_id)) = log(data, LogKind::Wal) else { return };
    let Some((records, ops, end)) = segment(&file, file_id) else { return };
    let mut offset = records.first().map_or(end.offset, |record| record.offset);
    for record in &records {
        assert_eq!(record.offset, offset);
        offset += record.bytes;
    }
    assert_eq!(offset, end.offset);
    assert!(ops.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0));
    // What was cut off changes nothing.
    let end = LogEnd { torn: false, ..end };
    let cut = segment(&file[..end.offset as usize], file_id);
    assert_eq!(cut, Some((records, ops, end)));
}

/// The operations of a batch.
pub(super) fn batch(data: &[u8]) {
    let ops: Vec<Op<'_>> = Ops::new(data).map_while(Result::ok).collect();
    let mut batch = WriteBatch::new();
    for op in &ops {
        let pushed = match op.tag.kind() {
            ValueKind::Put => {
                let value = ValueRef { value_type: op.tag.value_type(), bytes: op.value };
                batch.put(op.key, op.ts, value)
            }
            ValueKind::End => batch.end(op.key, op.ts),
            ValueKind::Erase => batch.erase(op.key, op.ts),
        };
        pushed.expect("an operation that was read");
    }
    assert_eq!(batch.len(), ops.len());
    // A number may be written in more bytes than it takes.
    assert!(batch.encoded_bytes() <= data.len());
    assert!(batch.ops().eq(ops));
}

/// A manifest.
pub(super) fn manifest(data: &[u8]) {
    let Some((file, file_id)) = log(data, LogKind::Manifest) else { return };
    let Some(reader) = open(&file, LogKind::Manifest, file_id) else { return };
    let Ok(manifest) = Manifest::of_records(reader, Path::new("")) else { return };
    assert!(!manifest.edits.is_empty());
    let tables: usize = manifest.edits.iter().map(|(_, edit)| edit.added.len()).sum();
    if tables > TABLES_MAX {
        return;
    }
    let Ok(state) = manifest.state() else { return };
    let by_run = state.tables_by_run();
    assert_eq!(by_run.len(), state.tables.len());
    assert!(by_run.is_sorted_by(|a, b| a.rank >= b.rank));
    let last = &manifest.edits[manifest.edits.len() - 1].1;
    assert_eq!((state.next_file, state.flushed_seq), (last.next_file.0, last.flushed_seq));
}

/// A version edit.
pub(super) fn edit(data: &[u8]) {
    let Ok(edit) = VersionEdit::decode(data) else { return };
    let encoded = edit.encode();
    assert!(encoded.len() <= data.len());
    assert_eq!(VersionEdit::decode(&encoded), Ok(edit));
}

/// `CURRENT`. Where the first byte is even, its checksum is put in.
pub(super) fn current(data: &[u8]) {
    let Some((as_it_is, text)) = data.split_first() else { return };
    let mut text = text.to_vec();
    if as_it_is & 1 == 0 {
        let crc = crc32c::crc32c(&text);
        text.extend_from_slice(format!(" {crc:08x}\n").as_bytes());
    }
    if let Some((manifest, database)) = parse_current(&text) {
        let name = manifest.manifest_path(Path::new(""));
        let name = name.to_str().expect("a name of digits");
        let found = String::from_utf8(text).expect("what was read as a text");
        assert!(found.starts_with(&format!("{name} {:016x} ", database.0)));
    }
}
