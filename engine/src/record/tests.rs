//! What a log file gives back after everything that a crash, a disk or a stranger may do to it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;

use super::writer::ZERO_FILL_BYTES;
use super::*;
use crate::fs::{FileLock, Fs, ReadableFile, SimFs, WritableFile};

const DATABASE: DatabaseId = DatabaseId(0x1122_3344_5566_7788);
const FILE: FileId = FileId(7);

fn test_fs() -> SimFs {
    SimFs::new(1)
}

fn path() -> PathBuf {
    let dir = Path::new("db");
    FILE.wal_path(dir)
}

fn create(sim: &SimFs, zero_fill: bool) -> RecordWriter {
    let fs: Arc<dyn Fs> = Arc::new(sim.clone());
    fs.create_dir_all(Path::new("db")).unwrap();
    RecordWriter::create(&fs, &path(), LogKind::Wal, DATABASE, FILE, zero_fill).unwrap()
}

/// The offsets and payloads of a log, and how it ends; `None` if it was never finished.
type Contents = Option<(Vec<(u64, Vec<u8>)>, LogEnd)>;

fn read(fs: &dyn Fs) -> Result<Contents> {
    let Some(mut reader) = RecordReader::open(fs, &path(), LogKind::Wal, Some(DATABASE), FILE)?
    else {
        return Ok(None);
    };
    let mut records = Vec::new();
    while let Some(record) = reader.next()? {
        assert_eq!(record.record_type, RecordType::Batch);
        records.push((record.offset, record.payload.to_vec()));
    }
    assert!(reader.next()?.is_none());
    Ok(Some((records, reader.end())))
}

fn read_bytes(bytes: &[u8]) -> Result<Contents> {
    let sim = test_fs();
    sim.put_file(path(), bytes.to_vec());
    read(&sim)
}

fn read_finished(bytes: &[u8]) -> (Vec<(u64, Vec<u8>)>, LogEnd) {
    read_bytes(bytes).unwrap().expect("a finished log")
}

/// A log of these payloads, synced after each one or never: its bytes and its records.
fn log_of(payloads: &[&[u8]], sync_each: bool) -> (Vec<u8>, Vec<(u64, Vec<u8>)>) {
    let sim = test_fs();
    let mut log = create(&sim, false);
    let mut records = Vec::new();
    for payload in payloads {
        records.push((log.offset(), payload.to_vec()));
        log.append(RecordType::Batch, &[payload]).unwrap();
        if sync_each {
            log.sync().unwrap();
        }
    }
    (sim.read_file(path()).unwrap(), records)
}

fn corruption_offset<T: std::fmt::Debug>(result: Result<T>) -> u64 {
    match result {
        Err(Error::Corruption { file, offset, .. }) => {
            assert_eq!(file, path());
            offset
        }
        other => panic!("expected corruption, found {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_come_back(
        payloads in vec((any::<Vec<u8>>(), any::<Vec<u8>>(), any::<bool>()), 0..12),
        zero_fill: bool,
    ) {
        let sim = test_fs();
        let mut log = create(&sim, zero_fill);
        let mut expected = Vec::new();
        for (first, second, sync) in &payloads {
            expected.push((log.offset(), [&first[..], second].concat()));
            log.append(RecordType::Batch, &[first, &[], second]).unwrap();
            if *sync {
                log.sync().unwrap();
            }
        }
        let end = LogEnd { offset: log.offset(), torn: false };
        prop_assert_eq!(read(&sim).unwrap(), Some((expected, end)));
    }

    /// Buffered durability under power failure: what was synced stays, the rest survives in pieces.
    #[test]
    fn holes_in_what_was_never_synced_leave_a_prefix(
        payloads in vec((vec(any::<u8>(), 0..60), prop::bool::weighted(0.3)), 1..14),
        lost in vec(any::<bool>(), 64),
        len_lost in 0_usize..64,
    ) {
        let sim = test_fs();
        let mut log = create(&sim, false);
        let mut records = Vec::new();
        for (payload, sync) in &payloads {
            records.push((log.offset(), payload.clone()));
            log.append(RecordType::Batch, &[payload]).unwrap();
            if *sync {
                log.sync().unwrap();
            }
        }
        let synced = log.sync_handle().synced() as usize;
        let mut bytes = sim.read_file(path()).unwrap();
        for (chunk, _) in bytes[synced..].chunks_mut(16).zip(&lost).filter(|(_, lost)| **lost) {
            chunk.fill(0);
        }
        bytes.truncate((bytes.len() - len_lost.min(bytes.len())).max(synced));
        let (survivors, end) = read_finished(&bytes);
        prop_assert_eq!(&survivors[..], &records[..survivors.len()]);
        prop_assert!(end.offset as usize >= synced);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, pos: prop::sample::Index, len: u32) {
        let (mut log, _) = log_of(&[b"one", b"two"], true);
        log.extend_from_slice(&bytes);
        let _ = read_bytes(&log);
        let pos = pos.index(log.len() - 4);
        log[pos..pos + 4].copy_from_slice(&len.to_le_bytes());
        let _ = read_bytes(&log);
        let _ = read_bytes(&bytes);
    }
}

#[test]
fn every_truncation_of_an_unsynced_log_is_a_prefix() {
    let (bytes, records) = log_of(&[b"first", b"", &[0; 40], b"last"], false);
    for len in 0..bytes.len() {
        let contents = read_bytes(&bytes[..len]).unwrap();
        if len < HEADER_BYTES {
            assert_eq!(contents, None, "{len}");
            continue;
        }
        let (survivors, end) = contents.unwrap();
        let is_whole = |(offset, payload): &&(u64, Vec<u8>)| {
            *offset as usize + RECORD_HEADER_BYTES + payload.len() <= len
        };
        assert_eq!(survivors, records[..records.iter().filter(is_whole).count()], "{len}");
        assert_eq!(end.torn, end.offset < len as u64, "{len}");
    }
}

#[test]
fn a_flipped_bit_is_corruption_except_in_the_last_record() {
    let (mut bytes, records) = log_of(&[b"first", b"", &[0; 40], b"last"], true);
    let end = bytes.len();
    let last = records[3].0 as usize;
    bytes.extend_from_slice(&[0; 50]);
    for pos in 0..bytes.len() {
        for bit in 0..8 {
            bytes[pos] ^= 1 << bit;
            let contents = read_bytes(&bytes);
            if pos < HEADER_BYTES {
                assert_eq!(corruption_offset(contents), 0, "{pos}.{bit}");
            } else if pos < last {
                let damaged = records.iter().rfind(|(offset, _)| *offset as usize <= pos).unwrap();
                assert_eq!(corruption_offset(contents), damaged.0, "{pos}.{bit}");
            } else {
                let whole = if pos < end { 3 } else { 4 };
                let offset = (if pos < end { last } else { end }) as u64;
                let expected = (records[..whole].to_vec(), LogEnd { offset, torn: true });
                assert_eq!(contents.unwrap(), Some(expected), "{pos}.{bit}");
            }
            bytes[pos] ^= 1 << bit;
        }
    }
}

#[test]
fn damage_to_what_was_synced_is_found_behind_records_that_were_not() {
    let sim = test_fs();
    let mut log = create(&sim, false);
    for payload in [b"aaaa", b"bbbb"] {
        log.append(RecordType::Batch, &[payload]).unwrap();
    }
    let synced = log.offset();
    log.sync().unwrap();
    let mut offsets = Vec::new();
    for payload in [b"cccc", b"dddd", b"eeee"] {
        offsets.push(log.offset());
        log.append(RecordType::Batch, &[payload]).unwrap();
    }
    let whole = sim.read_file(path()).unwrap();

    let mut bytes = whole.clone();
    bytes[offsets[0] as usize..offsets[2] as usize].fill(0);
    let (survivors, end) = read_finished(&bytes);
    assert_eq!((survivors.len(), end), (2, LogEnd { offset: synced, torn: true }));

    bytes[HEADER_BYTES + RECORD_HEADER_BYTES] ^= 1;
    assert_eq!(corruption_offset(read_bytes(&bytes)), HEADER_BYTES as u64);

    let mut bytes = whole;
    bytes[offsets[1] as usize + 20] = 99;
    assert_eq!(read_finished(&bytes).0.len(), 3);
}

#[test]
fn a_sound_record_out_of_its_place_is_corruption() {
    let (bytes, records) = log_of(&[b"aaaa", b"bbbb", b"cccc"], true);
    let at = |i: usize| records[i].0 as usize;
    let without_second = [&bytes[..at(1)], &bytes[at(2)..]].concat();
    assert_eq!(corruption_offset(read_bytes(&without_second)), records[1].0);
    let swapped =
        [&bytes[..at(0)], &bytes[at(1)..at(2)], &bytes[at(0)..at(1)], &bytes[at(2)..]].concat();
    assert_eq!(corruption_offset(read_bytes(&swapped)), records[0].0);
    let repeated = [&bytes[..], &bytes[at(2)..]].concat();
    assert_eq!(corruption_offset(read_bytes(&repeated)), bytes.len() as u64);
}

#[test]
fn forged_lengths_are_not_believed() {
    let (bytes, records) = log_of(&[b"aaaa", b"bbbb"], true);
    for len in [0, 3, 5, 100, i32::MAX as u32, u32::MAX] {
        for (i, (offset, _)) in records.iter().enumerate() {
            let mut bytes = bytes.clone();
            bytes[*offset as usize + 16..][..4].copy_from_slice(&len.to_le_bytes());
            if i == 0 {
                assert_eq!(corruption_offset(read_bytes(&bytes)), *offset, "{len}");
            } else {
                assert_eq!(read_finished(&bytes).0, records[..1], "{len}");
            }
        }
    }
}

/// A torn value may hold a copy of the very log that it is in; that proves nothing about the value.
#[test]
fn records_inside_a_torn_payload_prove_nothing() {
    let sim = test_fs();
    let mut log = create(&sim, false);
    for payload in [b"aaaa", b"bbbb", b"cccc"] {
        log.append(RecordType::Batch, &[payload]).unwrap();
        log.sync().unwrap();
    }
    let copy = sim.read_file(path()).unwrap();
    let torn_at = log.offset();
    log.append(RecordType::Batch, &[&copy, &copy]).unwrap();
    sim.corrupt(path(), torn_at + RECORD_HEADER_BYTES as u64, 1);
    let (records, end) = read(&sim).unwrap().unwrap();
    assert_eq!((records.len(), end), (3, LogEnd { offset: torn_at, torn: true }));
}

/// Whoever writes the values may make a look ahead meet a candidate at every few bytes.
#[test]
fn a_payload_full_of_candidates_is_looked_through() {
    let sim = test_fs();
    let mut log = create(&sim, false);
    log.append(RecordType::Batch, &[b"aaaa"]).unwrap();
    let torn_at = log.offset();
    let mut candidate = [0; RECORD_HEADER_BYTES];
    candidate[8..16].copy_from_slice(&(torn_at + 1).to_le_bytes());
    candidate[20] = RecordType::Batch as u8;
    let mut payload = Vec::new();
    for i in 0..1000_u32 {
        candidate[16..20].copy_from_slice(&((999 - i) * 21).to_le_bytes());
        payload.extend_from_slice(&candidate);
    }
    log.append(RecordType::Batch, &[&payload]).unwrap();
    sim.corrupt(path(), torn_at, 1);
    let (records, end) = read(&sim).unwrap().unwrap();
    assert_eq!((records.len(), end), (1, LogEnd { offset: torn_at, torn: true }));
}

#[test]
fn a_file_of_another_database_place_kind_or_version_is_refused() {
    let (bytes, _) = log_of(&[b"aaaa"], true);
    let sim = test_fs();
    sim.put_file(path(), bytes.clone());
    let open = |kind, database, file_id| {
        RecordReader::open(&sim, &path(), kind, database, file_id).map(|reader| reader.is_some())
    };
    assert!(open(LogKind::Wal, None, FILE).unwrap());
    assert_eq!(corruption_offset(open(LogKind::Wal, Some(DatabaseId(1)), FILE)), 16);
    assert_eq!(corruption_offset(open(LogKind::Wal, Some(DATABASE), FileId(8))), 24);
    assert_eq!(corruption_offset(open(LogKind::Manifest, Some(DATABASE), FILE)), 0);

    let mut newer = bytes.clone();
    newer[8] = 2;
    let crc = crc32c::crc32c(&newer[..32]);
    newer[32..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    let error = read_bytes(&newer).unwrap_err();
    assert!(
        matches!(error, Error::UnsupportedFormat { what: "WAL", found: 2, supported: 1, .. }),
        "{error}"
    );
    assert_eq!(corruption_offset(read_bytes(b"[package]\nname = \"not a log of ours\"\n")), 0);

    // A record of another file at the place of a lost one: its salt is another one.
    let other = FileId(8);
    let fs: Arc<dyn Fs> = Arc::new(sim.clone());
    let other_path = other.wal_path(Path::new("db"));
    let mut log =
        RecordWriter::create(&fs, &other_path, LogKind::Wal, DATABASE, other, false).unwrap();
    log.append(RecordType::Batch, &[b"aaaa"]).unwrap();
    let foreign = sim.read_file(other_path).unwrap();
    let mixed = [&bytes[..HEADER_BYTES], &foreign[HEADER_BYTES..]].concat();
    assert!(read_finished(&mixed).0.is_empty());
}

#[test]
fn a_record_of_an_unknown_type_is_corruption() {
    let (mut bytes, records) = log_of(&[b"aaaa"], true);
    let start = records[0].0 as usize;
    bytes[start + 20] = 77;
    let crc = crc32c::crc32c_append(salt_crc(DATABASE, FILE), &bytes[start + 4..]);
    bytes[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(corruption_offset(read_bytes(&bytes)), records[0].0);
}

#[test]
fn a_creation_cut_short_is_no_log_but_a_damaged_header_is_corruption() {
    let (bytes, _) = log_of(&[b"aaaa"], true);
    let header = &bytes[..HEADER_BYTES];
    for kept in 0..HEADER_BYTES {
        let short = header[..kept].to_vec();
        let zero_padded = [&short[..], &vec![0; 200 - kept]].concat();
        assert_eq!(read_bytes(&short).unwrap(), None, "{kept}");
        assert_eq!(read_bytes(&zero_padded).unwrap(), None, "{kept}");
        // Records follow: the header was durable once.
        let used = [&short[..], &vec![0; HEADER_BYTES - kept], &bytes[HEADER_BYTES..]].concat();
        assert_eq!(corruption_offset(read_bytes(&used)), 0, "{kept}");
    }
    let sim = test_fs();
    let manifest = FILE.manifest_path(Path::new("db"));
    for len in [0, 10, 100] {
        sim.put_file(&manifest, vec![0; len]);
        let opened = RecordReader::open(&sim, &manifest, LogKind::Manifest, Some(DATABASE), FILE);
        assert!(matches!(opened, Err(Error::Corruption { offset: 0, .. })), "{len}");
    }
}

#[test]
fn zero_filling_runs_ahead_of_the_records() {
    let sim = test_fs();
    let mut log = create(&sim, true);
    let file_bytes = || sim.read_file(path()).unwrap().len() as u64;
    assert_eq!(file_bytes(), ZERO_FILL_BYTES);
    log.append(RecordType::Batch, &[b"small"]).unwrap();
    assert_eq!(file_bytes(), ZERO_FILL_BYTES);
    let large = vec![0xee; 2 * ZERO_FILL_BYTES as usize];
    log.append(RecordType::Batch, &[&large]).unwrap();
    assert_eq!(file_bytes(), 3 * ZERO_FILL_BYTES);
    log.append(RecordType::Batch, &[b"small"]).unwrap();
    log.sync().unwrap();
    let (records, end) = read(&sim).unwrap().unwrap();
    assert_eq!(records.len(), 3);
    assert_eq!(records[1].1, large);
    assert_eq!(end, LogEnd { offset: log.offset(), torn: false });
}

#[test]
fn another_thread_may_sync() {
    let sim = test_fs();
    let mut log = create(&sim, false);
    let handle = log.sync_handle();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while handle.synced() < HEADER_BYTES as u64 + 200 * (RECORD_HEADER_BYTES as u64 + 1) {
                handle.sync().unwrap();
            }
        });
        for i in 0..200 {
            log.append(RecordType::Batch, &[&[i]]).unwrap();
        }
    });
    assert_eq!(log.sync_handle().synced(), log.offset());
    assert_eq!(read(&sim).unwrap().unwrap().0.len(), 200);
}

/// A file system whose next write or sync can be made to fail.
#[derive(Debug)]
struct FlakyFs {
    inner: SimFs,
    faults: Arc<Faults>,
}

#[derive(Debug)]
struct Faults {
    /// How many bytes of the next write get through before it fails; `usize::MAX` lets it be.
    write_bytes: AtomicUsize,
    /// How many of the next syncs fail.
    syncs: AtomicUsize,
}

#[derive(Debug)]
struct FlakyFile {
    inner: Arc<dyn WritableFile>,
    faults: Arc<Faults>,
}

impl WritableFile for FlakyFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let len = self.faults.write_bytes.swap(usize::MAX, Ordering::Relaxed);
        self.inner.write_at(offset, &data[..len.min(data.len())])?;
        if len == usize::MAX { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn sync(&self) -> io::Result<()> {
        let failures = self.faults.syncs.load(Ordering::Relaxed);
        self.faults.syncs.store(failures.saturating_sub(1), Ordering::Relaxed);
        if failures > 0 { Err(io::ErrorKind::StorageFull.into()) } else { self.inner.sync() }
    }
}

impl Fs for FlakyFs {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>> {
        let inner = self.inner.create(path)?;
        Ok(Arc::new(FlakyFile { inner, faults: self.faults.clone() }))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadableFile>> {
        self.inner.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.link(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }
    fn random(&self) -> u64 {
        self.inner.random()
    }
    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<Box<dyn FileLock>, String>> {
        self.inner.lock(path, holder)
    }
}

fn create_flaky(sim: &SimFs, zero_fill: bool) -> (RecordWriter, Arc<Faults>) {
    let faults =
        Arc::new(Faults { write_bytes: AtomicUsize::new(usize::MAX), syncs: AtomicUsize::new(0) });
    let fs: Arc<dyn Fs> = Arc::new(FlakyFs { inner: sim.clone(), faults: faults.clone() });
    fs.create_dir_all(Path::new("db")).unwrap();
    let log = RecordWriter::create(&fs, &path(), LogKind::Wal, DATABASE, FILE, zero_fill).unwrap();
    (log, faults)
}

/// Prometheus #13027: what a failed append had left corrupted what was acknowledged after it.
#[test]
fn the_record_after_a_failed_append_takes_its_place_and_nothing_of_it_stays() {
    let refused = [0xaa; 300];
    for (zero_fill, written) in
        [false, true].into_iter().flat_map(|fill| [0, 1, 25, 200, 321].map(|len| (fill, len)))
    {
        let sim = test_fs();
        let (mut log, faults) = create_flaky(&sim, zero_fill);
        log.append(RecordType::Batch, &[b"before"]).unwrap();
        let offset = log.offset();
        faults.write_bytes.store(written, Ordering::Relaxed);
        let error = log.append(RecordType::Batch, &[&refused]).unwrap_err();
        assert!(matches!(error, Error::DiskFull { .. }), "{error}");
        assert_eq!(log.offset(), offset);
        let file_bytes = sim.read_file(path()).unwrap().len();
        log.append(RecordType::Batch, &[b"after"]).unwrap();
        assert!(sim.read_file(path()).unwrap().len() <= file_bytes.max(log.offset() as usize));
        let (records, end) = read(&sim).unwrap().unwrap();
        assert_eq!(records[1], (offset, b"after".to_vec()), "{written}");
        // The zeros were durable before the record was written: else the disk might keep the
        // refused record, if all of it got there, and a record chained to the one that took its
        // place.
        assert_eq!(log.sync_handle().synced(), offset, "{written}");
        assert_eq!(end, LogEnd { offset: log.offset(), torn: false }, "{written}");
    }
}

#[test]
fn a_failed_sync_is_final_even_if_a_later_one_would_succeed() {
    let sim = test_fs();
    let (mut log, faults) = create_flaky(&sim, false);
    log.append(RecordType::Batch, &[b"lost"]).unwrap();
    let synced = log.sync_handle().synced();
    faults.syncs.store(1, Ordering::Relaxed);
    assert!(matches!(log.sync(), Err(Error::Io { op: "sync", .. })));
    assert!(matches!(log.sync(), Err(Error::Poisoned { .. })));
    assert!(matches!(log.append(RecordType::Batch, &[b"x"]), Err(Error::Poisoned { .. })));
    assert_eq!(log.sync_handle().synced(), synced);
}
