//! What merges write and what they leave alone, in bytes, which the same calls make the same: all
//! work is done by the caller.

use std::path::Path;

use kvtimedb_engine::fs::SimFs;
use kvtimedb_engine::inspect::{Depth, verify_directory};
use kvtimedb_engine::{Background, Db, Entry, Options, Order, Timestamp};

use crate::oracle::{DIR, Op, Oracle, batch, noise, options};

/// A database, what it must answer, and its file system.
struct Subject {
    fs: SimFs,
    options: Options,
    db: Db,
    oracle: Oracle,
}

impl Subject {
    fn new(memtable_bytes_max: usize) -> Subject {
        let fs = SimFs::new(0);
        let options = Options { memtable_bytes_max, ..options(&fs) };
        let db = Db::open(DIR, options.clone()).unwrap();
        Subject { fs, options, db, oracle: Oracle::default() }
    }

    fn write(&mut self, ops: &[Op]) {
        self.db.write(batch(ops)).unwrap();
        self.oracle.apply(ops);
    }

    /// Writes and flushes; what is worth merging is merged by the next write.
    fn write_table(&mut self, ops: &[Op]) {
        self.write(ops);
        self.db.flush().unwrap();
    }

    fn moved_bytes(&self) -> u64 {
        self.db.metrics().compaction_bytes_moved.get()
    }

    fn rewritten_bytes(&self) -> u64 {
        self.db.metrics().compaction_bytes_written.get()
    }

    fn check(&self, context: &str) {
        self.oracle.assert_answers(&self.db, context);
        assert!(self.db.compaction_error().is_none(), "{context}");
    }

    /// Closes and looks into every file; the directory holds what it needs and nothing else.
    fn close_and_verify(self) -> Oracle {
        self.db.close().unwrap();
        let mut found = Vec::new();
        verify_directory(&self.fs, Path::new(DIR), Depth::Records, &mut |checked| {
            found.push((checked.path, checked.note, checked.error));
        })
        .unwrap();
        let is_sound = |(_, note, error): &(_, Option<String>, Option<_>)| {
            error.is_none() && note.as_ref().is_none_or(|note| !note.contains("left over"))
        };
        assert!(found.iter().all(is_sound), "{found:?}");
        drop(self.db);
        let db = Db::open(DIR, self.options).unwrap();
        self.oracle.assert_answers(&db, "reopened");
        self.oracle
    }
}

/// A table of a range of keys, of about 8 KB: half of the largest of a memtable of 16 KiB.
fn range(first: u32, ts: Timestamp) -> Vec<Op> {
    let op = |key| Op::put(format!("key/{key:04}"), ts, noise(u64::from(key) + ts as u64, 800));
    (first..first + 10).map(op).collect()
}

#[test]
fn tables_of_keys_in_their_order_move_and_are_not_rewritten() {
    let mut subject = Subject::new(16 << 10);
    for first in (0..100).step_by(10) {
        subject.write_table(&range(first, 1));
    }
    subject.write(&[Op::put("key/9999", 0, "so that what was flushed is merged")]);
    assert_eq!(subject.rewritten_bytes(), 0);
    assert!(subject.moved_bytes() > 0);
    subject.check("moved");
    subject.close_and_verify();
}

#[test]
fn a_local_change_rewrites_what_it_touches() {
    let mut subject = Subject::new(16 << 10);
    for first in (0..100).step_by(10) {
        subject.write_table(&range(first, 1));
    }
    subject.db.compact().unwrap();
    let table_bytes = subject.db.metrics().flush_bytes_written.get() / 10;
    // Late, early, on a key of its own, and one that never was.
    let change = [
        Op::put("key/0042", 0, "late"),
        Op::erase("key/0043", 1),
        Op::end("key/0044", 2),
        Op::put("key/0044x", 5, "between"),
    ];
    subject.write_table(&change);
    subject.db.compact().unwrap();
    assert!(subject.rewritten_bytes() <= 2 * table_bytes, "{}", subject.rewritten_bytes());
    subject.check("changed");
    subject.close_and_verify();
}

/// The erase is dropped only together with what it hides, also where their tables could move.
#[test]
fn an_erase_never_moves_away_from_what_it_hides() {
    let mut subject = Subject::new(16 << 10);
    subject.write_table(&range(0, 1));
    subject.write_table(&range(10, 1));
    subject.write_table(&range(20, 1));
    subject
        .write_table(&(0..30).map(|key| Op::erase(format!("key/{key:04}"), 1)).collect::<Vec<_>>());
    subject.write_table(&range(40, 1));
    subject.db.compact().unwrap();
    subject.check("erased");
    subject.write_table(&range(0, 0));
    subject.db.compact().unwrap();
    subject.check("written below what was erased");
    subject.close_and_verify();
}

#[test]
fn a_reader_goes_on_while_the_tables_it_reads_move_and_go() {
    let mut subject = Subject::new(16 << 10);
    for first in (0..40).step_by(10) {
        subject.write_table(&range(first, 1));
    }
    let expected = subject.oracle.history(b"key/0015", Timestamp::MIN, Timestamp::MAX);
    let (min, max) = (Timestamp::MIN, Timestamp::MAX);
    let mut history = subject.db.history(b"key/0015", min, max, Order::Ascending).unwrap();
    // Moves all, then rewrites all.
    subject.db.compact().unwrap();
    for first in (0..40).step_by(10) {
        subject.write_table(&range(first, 2));
    }
    subject.db.compact().unwrap();
    let mut found = Vec::new();
    while let Some(version) = history.next().unwrap() {
        found.push(Entry::from(version));
    }
    assert_eq!(found, expected);
    subject.check("rewritten");
    subject.close_and_verify();
}

/// Versions of so many of the times from `first` on that a template, compression or nothing fits, as the
/// key says.
fn many_versions(key: u64, first: i64, count: i64) -> Vec<Op> {
    let put = |ts: i64| match key % 3 {
        0 => telemetry(key, ts as u64),
        1 => Op::put(format!("device/{key:05}/noise"), ts * 1000, noise(ts as u64, 60)),
        _ => {
            let words = format!("{} of ", ts % 3).repeat(ts as usize % 7);
            Op::put(format!("device/{key:05}/words"), ts * 1000, words)
        }
    };
    (first..first + count).map(put).collect()
}

/// Later versions of the same keys: their chunks lie one behind the other, and few are decoded.
#[test]
fn chunks_between_which_nothing_comes_are_copied() {
    let mut subject = Subject::new(1 << 20);
    for (round, word) in ["ok", "bad", "on"].into_iter().enumerate() {
        let first = round as i64 * 400;
        for key in 0..6 {
            subject.write(&many_versions(key, first, 400));
        }
        // Skeletons and words that the other tables don't have, and keys that share chunks.
        let own: Vec<Op> = (0..300)
            .map(|at| Op::json("own", first + at, format!("{{\"{word}\":[{at},\"{word}\"]}}")))
            .chain((0..300).map(|i| telemetry(1000 * (1 + round as u64) + i / 5, i % 5)))
            .collect();
        subject.write_table(&own);
    }
    // Late, replacing, and erasing what one of the chunks has.
    subject.write_table(&[telemetry(0, 150), Op::erase("own", 7), Op::end("own", 401)]);
    subject.db.compact().unwrap();
    let copied = subject.db.metrics().chunks_copied.get();
    assert!(copied >= 8, "{copied} chunks");
    // Into a run that is itself made of copies.
    subject.write_table(&many_versions(0, 5000, 300));
    subject.db.compact().unwrap();
    assert!(subject.db.metrics().chunks_copied.get() >= 2 * copied - 4);
    let comparison = subject.oracle.compare_every(&subject.db, 29);
    assert!(comparison.is_right(), "{comparison}");
    subject.db.close().unwrap();
    let mut damaged = Vec::new();
    verify_directory(&subject.fs, Path::new(DIR), Depth::Records, &mut |checked| {
        damaged.extend(checked.error);
    })
    .unwrap();
    assert!(damaged.is_empty(), "{damaged:?}");
}

/// Of so many flushes: what is written in all, by what the flushes wrote.
fn write_amplification(flushes: u64, ops: impl Fn(u64) -> Vec<Op>) -> f64 {
    let subject = Subject::new(64 << 10);
    let mut at = 0;
    while subject.db.metrics().flushes.get() < flushes {
        subject.db.write(batch(&ops(at))).unwrap();
        at += 1;
    }
    subject.db.metrics().write_amplification().unwrap()
}

fn telemetry(key: u64, ts: u64) -> Op {
    let n = key * 31 + ts * 17;
    let text = format!("{{\"t\":{}.{:02},\"h\":{}}}", 18 + n % 9, n % 97, 40 + n % 23);
    Op::json(format!("device/{key:05}/climate"), ts as i64 * 1000 + (n % 7) as i64, text)
}

/// As many flushes as 50 million points of telemetry make with the memtable that is the default.
const FLUSHES: u64 = 85;

#[test]
fn telemetry_is_written_at_most_four_times() {
    let in_time =
        write_amplification(FLUSHES, |at| (0..100).map(|key| telemetry(key, at)).collect());
    assert!((2.0..=4.0).contains(&in_time), "{in_time}");
    let late = write_amplification(FLUSHES, |at| {
        (0..100).map(|key| telemetry(key, if key % 10 == 0 { at / 2 } else { at })).collect()
    });
    assert!((2.0..=4.0).contains(&late), "{late}");
}

#[test]
fn sparse_keys_are_written_at_most_five_times() {
    let scattered = write_amplification(FLUSHES, |at| {
        (0..100).map(|i| telemetry((at * 100 + i) * 7919 % 99_991, at)).collect()
    });
    assert!((2.0..=5.0).contains(&scattered), "{scattered}");
}

#[test]
fn keys_in_their_order_are_written_at_most_twice() {
    let in_order =
        write_amplification(FLUSHES, |at| (0..100).map(|i| telemetry(at * 100 + i, 0)).collect());
    assert!((1.0..=2.1).contains(&in_order), "{in_order}");
}

/// The long merge gives way to those of the runs that are flushed meanwhile.
#[test]
fn flushes_go_on_while_all_is_merged() {
    let fs = SimFs::new(0);
    let threads =
        Options { background: Background::Threads, memtable_bytes_max: 1 << 20, ..options(&fs) };
    let db = Db::open(DIR, threads).unwrap();
    let mut oracle = Oracle::default();
    let mut write = |round: u64, bytes: usize| {
        let value = |key: u64| noise(round << 8 | key, bytes);
        let put = |key| Op::put(format!("key/{key}"), round as Timestamp, value(key));
        let ops: Vec<Op> = (0..8).map(put).chain([Op::erase("key/1", round as i64 / 2)]).collect();
        db.write(batch(&ops)).unwrap();
        oracle.apply(&ops);
    };
    (0..40).for_each(|round| write(round, 40_000));
    let merge = std::thread::spawn({
        let db = db.clone();
        move || db.compact()
    });
    for round in 40..80 {
        write(round, 500);
        db.flush().unwrap();
    }
    merge.join().unwrap().unwrap();
    assert!(db.compaction_error().is_none());
    let comparison = oracle.compare_every(&db, 7);
    assert!(comparison.is_right(), "{comparison}");
    db.close().unwrap();
}
