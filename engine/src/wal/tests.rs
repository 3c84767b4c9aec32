//! What a replay makes of whole logs: round trips, damage, and every state that a rotation can stop
//! in.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::batch::WriteBatch;
use crate::fs::SimFs;
use crate::record::HEADER_BYTES;

const DATABASE: DatabaseId = DatabaseId(42);

fn test_fs() -> SimFs {
    SimFs::new(1)
}

fn dir() -> &'static Path {
    Path::new("db")
}

fn create(sim: &SimFs, file_id: u64, durability: Durability) -> WalWriter {
    let fs: Arc<dyn Fs> = Arc::new(sim.clone());
    fs.create_dir_all(dir()).unwrap();
    WalWriter::create(&fs, dir(), DATABASE, FileId(file_id), durability).unwrap()
}

/// A segment without zero filling, which keeps the tests of every byte short.
fn segment(sim: &SimFs, file_id: u64) -> WalWriter {
    create(sim, file_id, Durability::Buffered)
}

/// A batch of `ops` operations, each of which tells its sequence number.
fn batch(first_seq: SeqNo, ops: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for seq in first_seq..first_seq + ops {
        match seq % 5 {
            3 => batch.end(b"key", seq as i64).unwrap(),
            4 => batch.erase(b"", seq as i64).unwrap(),
            _ => batch.put(b"key", seq as i64, &[7; 3]).unwrap(),
        }
    }
    batch
}

/// Appends and syncs one group of one batch.
fn commit(wal: &mut WalWriter, first_seq: SeqNo, ops: u64) {
    let batch = batch(first_seq, ops);
    wal.append_group(first_seq, batch.len(), [batch.encoded()].into_iter()).unwrap();
    wal.sync().unwrap();
}

/// Replays from segment `oldest` and sequence number `first`, and checks that what is applied is
/// what [`batch`] wrote. Returns the number of operations applied, even where the replay fails.
fn replay_from(
    sim: &SimFs,
    segments: &[u64],
    oldest: u64,
    first: SeqNo,
) -> (u64, Result<Replayed>) {
    let ids: Vec<FileId> = segments.iter().copied().map(FileId).collect();
    let mut applied = 0;
    let mut apply = |seq: SeqNo, op: Op<'_>| {
        assert_eq!(seq, first + applied);
        let expected = batch(seq, 1);
        assert_eq!(Some(Ok(op)), Ops::new(expected.encoded()).next());
        applied += 1;
        Ok(())
    };
    let replayed = replay(sim, dir(), DATABASE, &ids, FileId(oldest), first, &mut apply);
    (applied, replayed)
}

fn replay_all(sim: &SimFs, segments: &[u64]) -> Result<Replayed> {
    let (applied, replayed) = replay_from(sim, segments, segments[0], 1);
    if let Ok(replayed) = &replayed {
        assert_eq!(replayed.last_seq, applied);
    }
    replayed
}

fn open_end(last_seq: SeqNo) -> Replayed {
    Replayed { last_seq, sealed_cleanly: false, torn_at: None }
}

#[track_caller]
fn assert_corruption(result: Result<Replayed>, file_id: u64, hint: &str) {
    match result {
        Err(Error::Corruption { file, what, .. }) => {
            assert_eq!(file, FileId(file_id).wal_path(dir()), "{what}");
            assert!(what.contains(hint), "{what}");
        }
        other => panic!("expected corruption, found {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_was_committed_is_replayed(
        segments in vec(vec(vec(1_u64..4, 1..4), 0..5), 1..4),
        first in 1_u64..1000,
        clean: bool,
        zero_fill: bool,
    ) {
        let durability = if zero_fill { Durability::Sync } else { Durability::Buffered };
        let sim = test_fs();
        let mut next_seq = first;
        let mut wal = create(&sim, 10, durability);
        let mut ids = vec![10];
        for (i, groups) in segments.iter().enumerate() {
            for group in groups {
                let mut at = next_seq;
                let mut batches = Vec::new();
                for &ops in group {
                    batches.push(batch(at, ops));
                    at += ops;
                }
                let encoded: Vec<_> = batches.iter().map(WriteBatch::encoded).collect();
                wal.append_group(next_seq, (at - next_seq) as usize, encoded.iter().copied()).unwrap();
                next_seq = at;
            }
            if i + 1 < segments.len() {
                let id = 10 + 3 * ids.len() as u64;
                let next = create(&sim, id, durability);
                wal.seal(next_seq - 1, Some(FileId(id))).unwrap();
                wal = next;
                ids.push(id);
            }
        }
        if clean {
            wal.seal(next_seq - 1, None).unwrap();
        }
        // An obsolete segment, which is not read.
        ids.insert(0, 9);
        let (applied, replayed) = replay_from(&sim, &ids, 10, first);
        prop_assert_eq!(applied, next_seq - first);
        let expected = Replayed { last_seq: next_seq - 1, sealed_cleanly: clean, torn_at: None };
        prop_assert_eq!(replayed.unwrap(), expected);
    }
}

#[test]
fn every_truncation_of_the_last_segment_is_a_prefix_of_whole_groups() {
    let sim = test_fs();
    let mut first = segment(&sim, 1);
    commit(&mut first, 1, 2);
    let mut last = segment(&sim, 2);
    first.seal(2, Some(FileId(2))).unwrap();
    let mut ends = vec![(last.bytes_appended(), 2)];
    for seq in [3, 6, 9] {
        let batch = batch(seq, 3);
        last.append_group(seq, 3, [batch.encoded()].into_iter()).unwrap();
        ends.push((last.bytes_appended(), seq + 2));
    }
    let path = FileId(2).wal_path(dir());
    for len in (0..=last.bytes_appended()).rev() {
        sim.truncate(&path, len);
        let replayed = replay_all(&sim, &[1, 2]);
        if len < HEADER_BYTES as u64 {
            assert_corruption(replayed, 2, "header");
            continue;
        }
        let &(end, last_seq) = ends.iter().rfind(|(end, _)| *end <= len).unwrap();
        let torn_at = (end < len).then_some((FileId(2), end));
        assert_eq!(replayed.unwrap(), Replayed { last_seq, sealed_cleanly: false, torn_at });
    }
}

/// Only the last group of the last segment has no witness that it was durable.
#[test]
fn a_flipped_bit_anywhere_is_corruption_or_costs_the_last_group_only() {
    let sim = test_fs();
    let mut first = segment(&sim, 1);
    commit(&mut first, 1, 2);
    commit(&mut first, 3, 1);
    let mut last = segment(&sim, 2);
    first.seal(3, Some(FileId(2))).unwrap();
    commit(&mut last, 4, 2);
    let unproven = last.bytes_appended();
    commit(&mut last, 6, 3);
    for (id, wal) in [(1, &first), (2, &last)] {
        for pos in 0..wal.bytes_appended() {
            let path = FileId(id).wal_path(dir());
            let bit = 1 << (pos % 8);
            sim.corrupt(&path, pos, bit);
            let replayed = replay_all(&sim, &[1, 2]);
            if id == 2 && pos >= unproven {
                let torn_at = Some((FileId(2), unproven));
                let expected = Replayed { last_seq: 5, sealed_cleanly: false, torn_at };
                assert_eq!(replayed.unwrap(), expected, "{pos}");
            } else {
                assert_corruption(replayed, id, "");
            }
            sim.corrupt(&path, pos, bit);
        }
    }
    assert_eq!(replay_all(&sim, &[1, 2]).unwrap(), open_end(8));
}

/// A log that was closed after buffered writes: the SEAL is the witness of all before it.
#[test]
fn damage_before_a_seal_is_corruption_even_if_no_group_was_synced_by_itself() {
    let sim = test_fs();
    let mut wal = segment(&sim, 1);
    for seq in [1, 2, 3] {
        wal.append_group(seq, 1, [batch(seq, 1).encoded()].into_iter()).unwrap();
    }
    let seal_at = wal.bytes_appended();
    wal.seal(3, None).unwrap();
    for pos in 0..seal_at {
        sim.corrupt(FileId(1).wal_path(dir()), pos, 0x10);
        assert_corruption(replay_all(&sim, &[1]), 1, "");
        sim.corrupt(FileId(1).wal_path(dir()), pos, 0x10);
    }
    assert!(replay_all(&sim, &[1]).unwrap().sealed_cleanly);
    let bytes = sim.read_file(FileId(1).wal_path(dir())).unwrap();
    sim.put_file(FileId(1).wal_path(dir()), [&bytes[..], &[0, 0, 9]].concat());
    assert_corruption(replay_all(&sim, &[1]), 1, "zeros after the SEAL");
}

/// The states in which a crash can leave a rotation from segment 1 to segment 2.
#[test]
fn a_rotation_may_stop_anywhere() {
    let sim = test_fs();
    let second = FileId(2).wal_path(dir());
    let mut first = segment(&sim, 1);
    commit(&mut first, 1, 2);
    assert_eq!(replay_all(&sim, &[1]).unwrap(), open_end(2));
    segment(&sim, 2);
    let header = sim.read_file(&second).unwrap();
    for unfinished in [&header[..0], &header[..20], &[0; HEADER_BYTES], &[0; 100], &header] {
        sim.put_file(&second, unfinished.to_vec());
        assert_eq!(replay_all(&sim, &[1, 2]).unwrap(), open_end(2));
    }
    // A second rotation after one that failed; segment 2 stays what it is.
    sim.put_file(&second, header[..9].to_vec());
    let mut third = segment(&sim, 3);
    first.seal(2, Some(FileId(3))).unwrap();
    assert_eq!(replay_all(&sim, &[1, 2, 3]).unwrap(), open_end(2));
    commit(&mut third, 3, 1);
    assert_eq!(replay_all(&sim, &[1, 2, 3]).unwrap(), open_end(3));
    // A recovery that made its new segment and stopped; after a clean end, too.
    segment(&sim, 4);
    assert_eq!(replay_all(&sim, &[1, 2, 3, 4]).unwrap(), open_end(3));
    third.seal(3, None).unwrap();
    assert!(replay_all(&sim, &[1, 2, 3, 4]).unwrap().sealed_cleanly);
}

#[test]
fn segments_that_are_missing_or_out_of_order_are_corruption() {
    let sim = test_fs();
    let mut first = segment(&sim, 1);
    commit(&mut first, 1, 2);
    let mut second = segment(&sim, 2);
    let unsealed = sim.read_file(FileId(1).wal_path(dir())).unwrap();
    first.seal(2, Some(FileId(2))).unwrap();
    commit(&mut second, 3, 1);
    segment(&sim, 3);
    second.seal(3, Some(FileId(3))).unwrap();
    assert_eq!(replay_all(&sim, &[1, 2, 3]).unwrap(), open_end(3));

    assert_corruption(replay_from(&sim, &[2, 3], 1, 1).1, 1, "the MANIFEST needs");
    assert_corruption(replay_from(&sim, &[], 1, 1).1, 1, "missing");
    assert_corruption(replay_all(&sim, &[1, 3]), 2, "segment 1 goes on in");
    assert_corruption(replay_all(&sim, &[1, 2]), 3, "segment 2 goes on in");
    assert_corruption(replay_from(&sim, &[2, 3], 2, 1).1, 2, "expected to go on with");
    assert_corruption(replay_from(&sim, &[2, 3], 2, 4).1, 2, "expected to go on with");
    let seq_three_on = replay_from(&sim, &[2, 3], 2, 3);
    assert_eq!((seq_three_on.0, seq_three_on.1.unwrap()), (1, open_end(3)));

    // The next segment exists but its header is lost.
    let third_path = FileId(3).wal_path(dir());
    let third_bytes = sim.read_file(&third_path).unwrap();
    sim.put_file(&third_path, vec![0; 100]);
    assert_corruption(replay_all(&sim, &[1, 2, 3]), 3, "header");
    sim.put_file(&third_path, third_bytes);

    // The SEAL is lost, and a later segment was used.
    sim.put_file(FileId(1).wal_path(dir()), unsealed);
    assert_corruption(replay_all(&sim, &[1, 2, 3]), 1, "later segment 2 was used");
}

#[test]
fn a_segment_that_was_used_after_the_log_was_closed_is_corruption() {
    let sim = test_fs();
    let mut first = segment(&sim, 1);
    commit(&mut first, 1, 2);
    first.seal(2, None).unwrap();
    commit(&mut segment(&sim, 2), 3, 1);
    assert_corruption(replay_all(&sim, &[1, 2]), 2, "segment 1 does not go on here");
}

/// Writes records that a [`WalWriter`] never would, and replays them. Nothing of a bad one may be
/// applied.
fn replay_records(records: &[(RecordType, Vec<u8>)]) -> (u64, Result<Replayed>) {
    let sim = test_fs();
    let fs: Arc<dyn Fs> = Arc::new(sim.clone());
    fs.create_dir_all(dir()).unwrap();
    let path = FileId(5).wal_path(dir());
    let mut log =
        RecordWriter::create(&fs, &path, LogKind::Wal, DATABASE, FileId(5), false).unwrap();
    for (record_type, payload) in records {
        log.append(*record_type, &[payload]).unwrap();
    }
    replay_from(&sim, &[5], 5, 1)
}

fn raw_batch(first_seq: u64, count: u32, ops: &[u8]) -> (RecordType, Vec<u8>) {
    (RecordType::Batch, [&first_seq.to_le_bytes()[..], &count.to_le_bytes(), ops].concat())
}

fn raw_seal(last_seq: u64, next: u64) -> (RecordType, Vec<u8>) {
    (RecordType::Seal, [last_seq.to_le_bytes(), next.to_le_bytes()].concat())
}

#[test]
fn payloads_that_contradict_themselves_are_corruption_and_not_applied() {
    let good = raw_batch(1, 2, batch(1, 2).encoded());
    let ops = batch(3, 3);
    let ops = ops.encoded();
    let (applied, replayed) = replay_records(&[good.clone(), raw_batch(3, 3, ops)]);
    assert_eq!((applied, replayed.unwrap().last_seq), (5, 5));
    for (bad, hint) in [
        (raw_batch(3, 2, ops), "as many operations"),
        (raw_batch(3, 4, ops), "as many operations"),
        (raw_batch(3, u32::MAX, ops), "as many operations"),
        (raw_batch(3, 0, &[]), "sequence numbers"),
        (raw_batch(u64::MAX, 3, ops), "sequence numbers"),
        (raw_batch(SEQ_NO_MAX - 1, 3, ops), "sequence numbers"),
        (raw_batch(3, 3, &ops[..ops.len() - 1]), "malformed"),
        (raw_batch(3, 3, &[ops, &[9]].concat()), "malformed"),
        (raw_batch(4, 3, ops), "go on with sequence number 3"),
        (raw_batch(2, 3, ops), "go on with sequence number 3"),
        ((RecordType::Batch, vec![1; 11]), "malformed"),
        ((RecordType::Edit, vec![]), "version edit"),
        ((RecordType::Seal, vec![0; 15]), "malformed"),
        ((RecordType::Seal, vec![0; 17]), "end of a SEAL"),
        (raw_seal(1, 0), "go on with sequence number 3"),
        (raw_seal(u64::MAX, 0), "go on with sequence number 3"),
        (raw_seal(2, 5), "higher id"),
    ] {
        let (applied, replayed) = replay_records(&[good.clone(), bad]);
        assert_eq!(applied, 2, "{hint}");
        assert_corruption(replayed, 5, hint);
    }
    let after_seal = [good, raw_seal(2, 0), raw_batch(3, 3, ops)];
    assert_corruption(replay_records(&after_seal).1, 5, "nothing after the SEAL");
}

#[test]
fn the_last_sequence_numbers_can_be_replayed() {
    let first = SEQ_NO_MAX - 1;
    let sim = test_fs();
    let mut wal = segment(&sim, 1);
    commit(&mut wal, first, 2);
    wal.seal(SEQ_NO_MAX, None).unwrap();
    let (applied, replayed) = replay_from(&sim, &[1], 1, first);
    assert_eq!((applied, replayed.unwrap().last_seq), (2, SEQ_NO_MAX));
}

#[test]
fn an_error_of_apply_ends_the_replay() {
    let sim = test_fs();
    commit(&mut segment(&sim, 1), 1, 3);
    let mut calls = 0;
    let replayed = replay(&sim, dir(), DATABASE, &[FileId(1)], FileId(1), 1, &mut |seq, _| {
        calls += 1;
        if seq == 2 { Err(Error::Busy) } else { Ok(()) }
    });
    assert!(matches!(replayed, Err(Error::Busy)));
    assert_eq!(calls, 2);
}

#[test]
fn the_inspector_shows_records_of_any_database() {
    let sim = test_fs();
    let mut wal = segment(&sim, 1);
    commit(&mut wal, 4, 2);
    let seal_at = wal.bytes_appended();
    wal.seal(5, Some(FileId(9))).unwrap();
    let path = FileId(1).wal_path(dir());
    let mut inspector = SegmentReader::open(&sim, &path, None, FileId(1)).unwrap().unwrap();
    let header = HEADER_BYTES as u64;
    let content = WalContent::Batch { first_seq: 4, count: 2 };
    let expected = SegmentRecord { offset: header, bytes: seal_at - header, content };
    assert_eq!(inspector.next(&mut |_, _| Ok(())).unwrap(), Some(expected));
    let content = WalContent::Seal { last_seq: 5, next: Some(FileId(9)) };
    let bytes = wal.bytes_appended() - seal_at;
    assert_eq!(
        inspector.next(&mut |_, _| Ok(())).unwrap(),
        Some(SegmentRecord { offset: seal_at, bytes, content })
    );
    assert_eq!(inspector.next(&mut |_, _| Ok(())).unwrap(), None);
    assert_eq!(inspector.end(), LogEnd { offset: wal.bytes_appended(), torn: false });
    sim.put_file(&path, vec![0; 4]);
    assert!(SegmentReader::open(&sim, &path, None, FileId(1)).unwrap().is_none());
}
