//! The change feed: the operations of the database, each once, in the order of their commits.
//!
//! The promise it guards: *what a reader was shown stands, and what it was not shown comes next or is told
//! to be gone*. Across flushes, merges, reopens and crashes the feed goes on where a reader left it,
//! without a gap and without a duplicate; an operation that it showed is never taken back by a power loss;
//! and where operations are missing it is an error, never a silence.
//!
//! The name of a bug of this kind elsewhere: events lost by a watcher that resumes (etcd 18089).

use std::thread;

use fastrand::Rng;
use kvtimedb_engine::fs::{SimFs, Survival};
use kvtimedb_engine::{
    Background, BackgroundStep, Change, Changes, Db, Durability, Error, Options, Result, SeqNo,
    ValueKind, ValueType, WriteBatch, backup,
};

use crate::common::setting;
use crate::oracle::{self, DIR, Op, batch, noise};

/// More than any test here writes.
const KEPT_BYTES: u64 = 256 << 20;

fn options(fs: &SimFs, durability: Durability) -> Options {
    Options { durability, feed_bytes_max: KEPT_BYTES, ..oracle::options(fs) }
}

fn op_of(change: &Change<'_>) -> Op {
    let (key, ts) = (change.key, change.ts);
    match (change.kind, change.value) {
        (ValueKind::Put, Some(value)) if value.value_type == ValueType::Json => {
            Op::json(key, ts, value.bytes)
        }
        (ValueKind::Put, Some(value)) => Op::put(key, ts, value.bytes),
        (ValueKind::End, None) => Op::end(key, ts),
        (ValueKind::Erase, None) => Op::erase(key, ts),
        other => panic!("a change of {other:?}"),
    }
}

/// Holds what the feed shows against `ops`, the first of which has sequence number 1, until it is caught up
/// or refuses.
fn read_on(changes: &mut Changes, ops: &[Op]) -> Result<()> {
    loop {
        let seq = changes.seq() + 1;
        let Some(change) = changes.next()? else { return Ok(()) };
        assert_eq!(change.seq, seq);
        assert_eq!(Some(&op_of(&change)), ops.get(seq as usize - 1), "at {seq}");
    }
}

/// All that can be read from `since` on; the last sequence number.
fn read_from(db: &Db, since: SeqNo, ops: &[Op]) -> Result<SeqNo> {
    let mut changes = db.changes(since)?;
    read_on(&mut changes, ops)?;
    Ok(changes.seq())
}

fn random_ops(rng: &mut Rng) -> Vec<Op> {
    let op = |rng: &mut Rng| {
        let key = [b'a' + rng.u8(..4)];
        let ts = rng.i64(-50..50);
        match rng.u8(..8) {
            0 => Op::end(key, ts),
            1 => Op::erase(key, ts),
            2 => Op::json(key, ts, "{\"t\":1}"),
            3 => Op::put(key, ts, noise(rng.u64(..), 3000)),
            _ => Op::put(key, ts, noise(rng.u64(..), 200)),
        }
    };
    (0..rng.usize(1..6)).map(|_| op(rng)).collect()
}

/// Writes values of a kilobyte, one a batch.
fn write_some(db: &Db, ops: &mut Vec<Op>, count: i64) {
    for _ in 0..count {
        let op = Op::put("key", ops.len() as i64, noise(ops.len() as u64, 1000));
        db.write(batch(std::slice::from_ref(&op))).unwrap();
        ops.push(op);
    }
}

fn segments(fs: &SimFs) -> Vec<std::path::PathBuf> {
    let mut files = fs.file_names();
    files.retain(|path| path.starts_with(DIR) && path.extension().is_some_and(|it| it == "wal"));
    files
}

#[test]
fn a_reader_goes_on_across_flushes_reopens_and_crashes() {
    for seed in 0..setting("KVTIMEDB_FEED_SEEDS", 30) {
        let mut rng = Rng::with_seed(seed);
        let durability = if rng.bool() { Durability::Sync } else { Durability::Buffered };
        let mut fs = SimFs::new(seed);
        let open = |fs: &SimFs| {
            let background = Background::Stepped;
            Db::open(DIR, Options { background, ..options(fs, durability) }).unwrap()
        };
        let mut db = open(&fs);
        let mut ops: Vec<Op> = Vec::new();
        let mut changes = db.changes(0).unwrap();
        let mut power_failed = false;
        for _ in 0..120 {
            match rng.u8(..20) {
                0..11 => {
                    let written = random_ops(&mut rng);
                    db.write(batch(&written)).unwrap();
                    ops.extend(written);
                }
                11 => db.flush().unwrap(),
                12 => drop(db.step(BackgroundStep::Flush).unwrap()),
                13 => drop(db.step(BackgroundStep::Compact).unwrap()),
                14 => drop(db.step(BackgroundStep::SyncLog).unwrap()),
                15 => drop(db.step(BackgroundStep::PrepareSegment).unwrap()),
                16 => changes = db.changes(changes.seq()).unwrap(),
                17..19 => {}
                _ => {
                    let since = changes.seq();
                    let survival =
                        [Survival::Synced, Survival::Everything, Survival::Random][rng.usize(..3)];
                    if rng.bool() {
                        db.close().unwrap();
                    }
                    drop((db, changes));
                    fs = fs.fork();
                    fs.crash(survival);
                    power_failed |= survival != Survival::Everything;
                    db = open(&fs);
                    let last = db.visible_seq();
                    assert!(last >= since, "seed {seed}: {since} was shown, of {last}");
                    ops.truncate(last as usize);
                    changes = match db.changes(since) {
                        Err(Error::Trimmed { oldest, .. }) if power_failed => {
                            db.changes(oldest - 1).unwrap()
                        }
                        opened => opened.unwrap(),
                    };
                }
            }
            match read_on(&mut changes, &ops) {
                Err(Error::Trimmed { oldest, .. }) if power_failed => {
                    assert!(oldest > changes.seq() + 1, "seed {seed}");
                    changes = db.changes(oldest - 1).unwrap();
                }
                read => read.unwrap_or_else(|error| panic!("seed {seed}: {error}")),
            }
            if durability == Durability::Sync {
                assert_eq!(changes.seq(), db.visible_seq(), "seed {seed}");
            }
        }
        let oldest = db.oldest_change_seq();
        db.step(BackgroundStep::SyncLog).unwrap();
        assert_eq!(read_from(&db, oldest - 1, &ops).unwrap(), db.visible_seq(), "seed {seed}");
    }
}

#[test]
fn it_begins_at_any_operation() {
    let fs = SimFs::new(0);
    let db = Db::open(DIR, options(&fs, Durability::Sync)).unwrap();
    let mut rng = Rng::with_seed(1);
    let mut ops = Vec::new();
    while ops.len() < 200 {
        let written = random_ops(&mut rng);
        db.write(batch(&written)).unwrap();
        ops.extend(written);
    }
    for since in 0..=ops.len() as u64 {
        assert_eq!(read_from(&db, since, &ops).unwrap(), db.visible_seq(), "{since}");
    }
    let ahead = db.changes(db.visible_seq() + 1);
    assert!(matches!(ahead, Err(Error::Unwritten { since, last }) if since == last + 1));
    assert!(matches!(db.changes(u64::MAX), Err(Error::Unwritten { .. })));
}

#[test]
fn segments_are_kept_up_to_the_budget_and_trimmed_from_the_oldest_on() {
    let fs = SimFs::new(0);
    let budget = 100_000;
    let with_budget = |feed_bytes_max| {
        let options = Options { feed_bytes_max, ..options(&fs, Durability::Buffered) };
        Db::open(DIR, options).unwrap()
    };
    let kept_bytes =
        || -> usize { segments(&fs).iter().map(|path| fs.read_file(path).unwrap().len()).sum() };
    let db = with_budget(budget);
    let mut ops = Vec::new();
    let mut slow = db.changes(0).unwrap();
    write_some(&db, &mut ops, 20);
    assert_eq!(slow.next().unwrap().unwrap().seq, 1);
    write_some(&db, &mut ops, 400);
    db.flush().unwrap();
    let oldest = db.oldest_change_seq();
    assert!(oldest > 300 && oldest < 400, "{oldest}");
    assert!(kept_bytes() > 70_000 && kept_bytes() <= budget as usize + 100, "{}", kept_bytes());
    assert!(matches!(
        db.changes(oldest - 2),
        Err(Error::Trimmed { since, oldest: told }) if since == oldest - 2 && told == oldest
    ));
    assert_eq!(read_from(&db, oldest - 1, &ops).unwrap(), 420);

    // Whoever stands in a segment that is removed comes to its end, and learns it there.
    let trimmed = read_on(&mut slow, &ops).unwrap_err();
    assert!(matches!(trimmed, Error::Trimmed { since, .. } if since == slow.seq()), "{trimmed}");
    assert!(slow.seq() > 5 && slow.seq() < 20);

    db.close().unwrap();
    drop(db);
    let db = with_budget(budget);
    assert_eq!(db.oldest_change_seq(), oldest, "a reopen keeps what there is");
    drop(db);
    let db = with_budget(budget / 2);
    assert!(db.oldest_change_seq() > oldest && db.oldest_change_seq() < 421);
    drop(db);
    let db = with_budget(0);
    assert_eq!((db.oldest_change_seq(), segments(&fs).len()), (421, 1));
    assert_eq!(read_from(&db, 420, &ops).unwrap(), 420);
}

#[test]
fn without_a_budget_it_shows_what_the_log_still_holds() {
    let fs = SimFs::new(0);
    let options = Options { feed_bytes_max: 0, ..options(&fs, Durability::Sync) };
    let db = Db::open(DIR, options).unwrap();
    let mut ops = Vec::new();
    let mut reader = db.changes(0).unwrap();
    write_some(&db, &mut ops, 3);
    read_on(&mut reader, &ops).unwrap();
    db.flush().unwrap();
    write_some(&db, &mut ops, 3);
    read_on(&mut reader, &ops).unwrap();
    assert_eq!(reader.seq(), 6);
    assert!(matches!(db.changes(0), Err(Error::Trimmed { since: 0, oldest: 4 })));
}

/// Sequence numbers that a power loss takes are given out again: a reader that had seen them would take
/// the new operations for the old ones.
#[test]
fn a_buffered_operation_shows_when_the_log_is_durable() {
    let fs = SimFs::new(0);
    let background = Background::Stepped;
    let options = Options { background, ..options(&fs, Durability::Buffered) };
    let db = Db::open(DIR, options).unwrap();
    let mut ops = Vec::new();
    let mut reader = db.changes(0).unwrap();
    write_some(&db, &mut ops, 2);
    read_on(&mut reader, &ops).unwrap();
    assert_eq!(reader.seq(), 0);
    db.step(BackgroundStep::SyncLog).unwrap();
    write_some(&db, &mut ops, 1);
    read_on(&mut reader, &ops).unwrap();
    assert_eq!(reader.seq(), 2);
    db.flush().unwrap();
    read_on(&mut reader, &ops).unwrap();
    assert_eq!(reader.seq(), 3);
}

/// A number that was given out must not come to mean another operation.
#[test]
fn a_feed_from_the_present_makes_the_present_durable() {
    let fs = SimFs::new(0);
    let background = Background::Stepped;
    let stepped = |fs: &SimFs| Options { background, ..options(fs, Durability::Buffered) };
    let db = Db::open(DIR, stepped(&fs)).unwrap();
    let mut ops = Vec::new();
    write_some(&db, &mut ops, 5);
    let present = db.changes(db.visible_seq()).unwrap().seq();
    let fs = fs.fork();
    fs.crash(Survival::Synced);
    let after = Db::open(DIR, stepped(&fs)).unwrap();
    assert_eq!((present, after.visible_seq()), (5, 5));
}

#[test]
fn damage_is_told_and_neither_hides_nor_ends_anything_else() {
    let fs = SimFs::new(0);
    let mut ops = Vec::new();
    let db = Db::open(DIR, options(&fs, Durability::Buffered)).unwrap();
    write_some(&db, &mut ops, 100);
    db.close().unwrap();
    drop(db);
    let kept = segments(&fs);
    assert!(kept.len() > 6);
    let damaged = &kept[2];
    let bytes = fs.read_file(damaged).unwrap();
    for offset in (36..bytes.len() as u64).step_by(97) {
        let fs = fs.fork();
        fs.corrupt(damaged, offset, 0x40);
        let db = Db::open(DIR, options(&fs, Durability::Buffered)).unwrap();
        assert_eq!(db.latest(b"key").unwrap().unwrap().ts, 99);
        let found = read_from(&db, 0, &ops).unwrap_err();
        match found {
            Error::Corruption { file, offset: told, .. } => {
                assert!(file == *damaged && told <= offset, "{told} of {offset}");
            }
            // The first record tells where a segment has its place.
            Error::Trimmed { oldest, .. } => {
                assert!(offset < 1200 && oldest > 1);
                assert_eq!(read_from(&db, oldest - 1, &ops).unwrap(), 100);
            }
            other => panic!("{other}"),
        }
    }
}

/// Names of removed segments come back with a power loss, in any order: what is missing between two must
/// not be passed over.
#[test]
fn a_segment_that_is_missing_is_a_gap() {
    let fs = SimFs::new(0);
    let mut ops = Vec::new();
    let db = Db::open(DIR, options(&fs, Durability::Buffered)).unwrap();
    write_some(&db, &mut ops, 100);
    db.close().unwrap();
    drop(db);
    let kept = segments(&fs);
    fs.remove_file(&kept[kept.len() / 2]);
    let db = Db::open(DIR, options(&fs, Durability::Buffered)).unwrap();
    let mut reader = db.changes(0).unwrap();
    let gap = read_on(&mut reader, &ops).unwrap_err();
    let Error::Trimmed { since, oldest } = gap else { panic!("{gap}") };
    assert!(since == reader.seq() && oldest > since + 1);
    assert_eq!(db.oldest_change_seq(), oldest);
    assert_eq!(read_from(&db, oldest - 1, &ops).unwrap(), 100);
    assert!(segments(&fs).len() < kept.len(), "what is older than a gap is removed");
}

/// The process dies before it has synced the log; the next one finds the log in the page cache, and puts it
/// into tables; then the power fails, which takes the end of the log that is kept.
#[test]
fn what_a_power_loss_takes_of_a_kept_segment_is_a_gap() {
    let fs = SimFs::new(0);
    let mut ops = Vec::new();
    let db = Db::open(DIR, options(&fs, Durability::Buffered)).unwrap();
    write_some(&db, &mut ops, 5);
    db.flush().unwrap();
    write_some(&db, &mut ops, 3);
    drop(db.clone());
    let fs = fs.fork();
    fs.crash(Survival::Everything);
    let reopened = Db::open(DIR, options(&fs, Durability::Buffered)).unwrap();
    assert_eq!(read_from(&reopened, 0, &ops).unwrap(), 8);
    let fs = fs.fork();
    fs.crash(Survival::Synced);
    let db = Db::open(DIR, options(&fs, Durability::Buffered)).unwrap();
    assert_eq!(db.visible_seq(), 8);
    assert!(matches!(db.changes(7), Ok(_) | Err(Error::Trimmed { .. })));
    let mut reader = db.changes(0).unwrap();
    let gap = read_on(&mut reader, &ops).unwrap_err();
    assert!(matches!(gap, Error::Trimmed { since: 5, oldest: 9 }), "{gap}");
}

#[test]
fn a_copy_has_no_feed_of_what_came_before_it() {
    let fs = SimFs::new(0);
    let options = options(&fs, Durability::Sync);
    let db = Db::open(DIR, options.clone()).unwrap();
    let mut ops = Vec::new();
    write_some(&db, &mut ops, 50);
    db.checkpoint("/checkpoint").unwrap();
    backup::backup(&options.fs, DIR.as_ref(), "/backup".as_ref(), &mut |_| {}).unwrap();
    for dir in ["/checkpoint", "/backup"] {
        let copy = Db::open(dir, options.clone()).unwrap();
        assert!(matches!(copy.changes(49), Err(Error::Trimmed { oldest: 51, .. })), "{dir}");
        let mut changes = copy.changes(50).unwrap();
        assert_eq!(copy.put(b"key", 0, b"").unwrap(), 51);
        assert_eq!(changes.next().unwrap().unwrap().seq, 51);
    }
}

#[test]
fn it_ends_with_the_database() {
    let fs = SimFs::new(0);
    let db = Db::open(DIR, options(&fs, Durability::Sync)).unwrap();
    db.put(b"key", 1, b"").unwrap();
    let mut changes = db.changes(0).unwrap();
    db.close().unwrap();
    assert!(matches!(changes.next(), Err(Error::Closed)));
    assert!(matches!(db.changes(0), Err(Error::Closed)));
}

/// Threads write, flush and merge; others read the feed from where they like to begin.
#[test]
fn readers_beside_writers_see_each_operation_once() {
    const WRITERS: i64 = 3;
    const BATCHES: i64 = 400;
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        durability: Durability::Sync,
        memtable_bytes_max: 16 << 10,
        feed_bytes_max: 1 << 30,
        ..Options::default()
    };
    let db = Db::open(dir.path(), options).unwrap();
    let last = (WRITERS * BATCHES * 2) as SeqNo;
    let read = |mut changes: Changes| {
        let mut next_of = [0; WRITERS as usize];
        loop {
            let expected = changes.seq() + 1;
            let Some(change) = changes.next().unwrap() else {
                thread::yield_now();
                continue;
            };
            assert_eq!(change.seq, expected);
            // Two operations a batch, side by side, and a writer's batches in their order.
            let (writer, number) = (usize::from(change.key[0] - b'0'), change.ts);
            if change.key.len() == 1 {
                assert!(next_of[writer] == 0 || number == next_of[writer]);
            }
            next_of[writer] = number + 1;
            if change.seq == last {
                return;
            }
        }
    };
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let db = &db;
            scope.spawn(move || {
                let value = noise(writer as u64, 300);
                for number in 0..BATCHES {
                    let mut batch = WriteBatch::new();
                    let key = writer.to_string();
                    batch.put(key.as_bytes(), number, value.as_slice()).unwrap();
                    batch.put(format!("{key}+").as_bytes(), number, value.as_slice()).unwrap();
                    db.write(batch).unwrap();
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| read(db.changes(0).unwrap()));
            scope.spawn(|| {
                while db.visible_seq() < last / 2 {
                    thread::yield_now();
                }
                read(db.changes(db.visible_seq()).unwrap());
            });
        }
    });
}
