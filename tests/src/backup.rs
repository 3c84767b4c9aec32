//! Backups: what a backup or a restored directory holds is a state of the database that contains all
//! that was acknowledged before, whoever wrote to it meanwhile; and whatever goes wrong, the backup is
//! the one that it was or the one that it is to be.

pub(crate) mod meddled;
mod races;

use std::path::Path;
use std::sync::Arc;

use kvtimedb_engine::backup::{self, Copied, CopiedTable, Outcome};
use kvtimedb_engine::fs::{Fault, FaultKind, Fs, FsOp, SimFs, Survival};
use kvtimedb_engine::inspect::read_current_manifest;
use kvtimedb_engine::{Db, Durability, Error, Options, Result};

use crate::checkpoint::{COPY, SURVIVALS, assert_holds, assert_sound, batches, names, written};
use crate::oracle::{DIR, Op, Oracle, batch, options};

/// Where a backup is restored to.
const RESTORED: &str = "/restored";

fn seam(fs: &SimFs) -> Arc<dyn Fs> {
    Arc::new(fs.clone())
}

fn back_up(fs: &SimFs) -> Result<Copied> {
    backup::backup(&seam(fs), Path::new(DIR), Path::new(COPY), &mut |_| {})
}

fn restore(fs: &SimFs) -> Result<Copied> {
    backup::restore(&seam(fs), Path::new(COPY), Path::new(RESTORED), &mut |_| {})
}

/// The tables in a directory.
fn tables(fs: &SimFs, dir: &str) -> Vec<String> {
    files(fs, dir, "sst")
}

/// The files in a directory with this extension.
fn files(fs: &SimFs, dir: &str, extension: &str) -> Vec<String> {
    let mut names = names(fs, dir);
    names.retain(|name| Path::new(name).extension().is_some_and(|found| found == extension));
    names
}

/// The content of all files in a directory.
fn contents(fs: &SimFs, dir: &str) -> Vec<(String, Option<Vec<u8>>)> {
    let content = |name: &String| fs.read_file(Path::new(dir).join(name));
    names(fs, dir).into_iter().map(|name| (name.clone(), content(&name))).collect()
}

/// What is acknowledged is durable, so that a crash can't take from the source what a backup has.
fn synced(fs: &SimFs) -> Options {
    Options { durability: Durability::Sync, ..options(fs) }
}

/// A database that is open, with tables and a log that no table holds.
fn source(fs: &SimFs) -> (Db, Oracle) {
    written(&synced(fs), &batches(30))
}

#[test]
fn a_backup_is_a_database_and_a_restored_one_answers_alike() {
    let fs = SimFs::new(1);
    let (db, oracle) = source(&fs);
    let before = contents(&fs, DIR);
    let copied = back_up(&fs).unwrap();
    assert_eq!(contents(&fs, DIR), before, "the source is only read");
    assert_eq!(copied.seq, oracle.last_seq());
    assert_eq!((copied.tables_copied + copied.tables_of_log, copied.passes), (copied.tables, 1));
    assert!(copied.tables_copied > 1 && copied.log_operations > 0, "{copied:?}");
    assert_sound(&fs, COPY);

    let restored = restore(&fs).unwrap();
    assert_eq!((restored.seq, restored.tables_copied), (copied.seq, copied.tables));
    assert_eq!(tables(&fs, RESTORED), tables(&fs, COPY));
    fs.crash(Survival::Synced);
    assert_sound(&fs, RESTORED);
    assert_holds(&fs, RESTORED, &oracle, "restored");
    assert_holds(&fs, COPY, &oracle, "the backup");
    drop(db);
}

#[test]
fn a_second_backup_copies_what_is_new() {
    let fs = SimFs::new(1);
    let (db, mut oracle) = source(&fs);
    let first = back_up(&fs).unwrap();
    let again = back_up(&fs).unwrap();
    assert_eq!((again.tables_copied, again.bytes_copied, again.seq), (0, 0, first.seq));

    let there = tables(&fs, COPY);
    let ops = [Op::put("new", 1, "table"), Op::end("key/3", 9)];
    db.write(batch(&ops)).unwrap();
    oracle.apply(&ops);
    db.flush().unwrap();
    let mut outcomes = Vec::new();
    let mut told = |CopiedTable { path, outcome, .. }: CopiedTable| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(there.contains(&name), outcome == Outcome::AlreadyThere, "{name}: {outcome:?}");
        outcomes.push(outcome);
    };
    let copied = backup::backup(&seam(&fs), Path::new(DIR), Path::new(COPY), &mut told).unwrap();
    assert!(outcomes.contains(&Outcome::AlreadyThere) && outcomes.contains(&Outcome::Copied));
    assert_eq!(outcomes.len() as u64, copied.tables);

    db.compact().unwrap();
    back_up(&fs).unwrap();
    assert_eq!(tables(&fs, COPY), tables(&fs, DIR), "what is needed no more is removed");
    assert_sound(&fs, COPY);
    assert_holds(&fs, COPY, &oracle, "after a merge");
}

/// Its new tables have ids that none of the backup's own has.
#[test]
fn a_restored_database_goes_on_with_its_backup() {
    let fs = SimFs::new(1);
    let (db, mut oracle) = source(&fs);
    assert!(back_up(&fs).unwrap().tables_of_log > 0);
    drop(db);
    restore(&fs).unwrap();
    let restored = Db::open(RESTORED, options(&fs)).unwrap();
    for ts in 0..3 {
        let ops = [Op::put("restored", ts, "and written to")];
        restored.write(batch(&ops)).unwrap();
        oracle.apply(&ops);
        let to_backup =
            || backup::backup(&seam(&fs), Path::new(RESTORED), Path::new(COPY), &mut |_| {});
        let copied = to_backup().unwrap();
        assert_eq!((copied.seq, copied.tables_replaced), (oracle.last_seq(), 0));
        assert_holds(&fs.fork(), COPY, &oracle, "after the backup");
        restored.flush().unwrap();
        assert_eq!(to_backup().unwrap().tables_copied, 1);
    }
}

/// A flipped bit anywhere, a cut, a missing file: the next backup finds and mends it.
#[test]
fn what_is_damaged_in_a_backup_is_replaced() {
    let image = SimFs::new(1);
    let (db, oracle) = source(&image);
    back_up(&image).unwrap();
    drop(db);
    let table = Path::new(COPY).join(&tables(&image, COPY)[0]);
    let bytes = image.read_file(&table).unwrap().len() as u64;
    let damages: [&dyn Fn(&SimFs); 6] = [
        &|fs| fs.corrupt(&table, 10, 1),
        &|fs| fs.corrupt(&table, bytes / 2, 0x80),
        &|fs| fs.corrupt(&table, bytes - 1, 1),
        &|fs| fs.truncate(&table, bytes - 100),
        &|fs| fs.truncate(&table, 0),
        &|fs| fs.put_file(&table, vec![7; bytes as usize + 1]),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let fs = image.fork();
        damage(&fs);
        let copied = back_up(&fs).unwrap();
        assert_eq!((copied.tables_copied, copied.tables_replaced), (1, 1), "damage {number}");
        assert_holds(&fs, COPY, &oracle, &format!("damage {number}"));
    }
    let fs = image.fork();
    fs.remove_file(&table);
    let copied = back_up(&fs).unwrap();
    assert_eq!((copied.tables_copied, copied.tables_replaced), (1, 0));

    // Its log, which is empty, is begun anew each time.
    let fs = image.fork();
    let segment = files(&fs, COPY, "wal").remove(0);
    fs.corrupt(Path::new(COPY).join(segment), 10, 1);
    back_up(&fs).unwrap();
    assert_sound(&fs, COPY);
    assert_holds(&fs, COPY, &oracle, "the log");
}

/// A sound copy is never replaced by a damaged one, and nothing damaged is copied.
#[test]
fn damage_in_the_source_is_an_error_and_the_backup_stays() {
    let image = SimFs::new(1);
    let (db, oracle) = source(&image);
    back_up(&image).unwrap();
    db.put(b"more", 1, b"than the backup has").unwrap();
    drop(db);
    let table = tables(&image, DIR).remove(0);
    let segment = files(&image, DIR, "wal").remove(0);
    for (name, offset) in [(&table, 40), (&segment, 60)] {
        let fs = image.fork();
        fs.corrupt(Path::new(DIR).join(name), offset, 1);
        let before = contents(&fs, COPY);
        let error = back_up(&fs).unwrap_err();
        let is_named = matches!(&error, Error::Corruption { file, .. } if file.ends_with(name));
        assert!(is_named && error.to_string().contains(DIR), "{error}");
        assert_eq!(contents(&fs, COPY), before, "{name}");
        assert_holds(&fs, COPY, &oracle, name);
    }
    // Neither is a damaged backup restored, and the mark says why there is nothing.
    let fs = image.fork();
    fs.corrupt(Path::new(COPY).join(&table), 40, 1);
    assert!(matches!(restore(&fs), Err(Error::Corruption { file, .. }) if file.ends_with(&table)));
    let error = Db::open(RESTORED, options(&fs)).unwrap_err();
    assert!(error.to_string().contains("UNFINISHED"), "{error}");
    fs.corrupt(Path::new(COPY).join(&table), 40, 1);
    restore(&fs).unwrap();
    assert_holds(&fs, RESTORED, &oracle, "restored after all");
}

#[test]
fn what_a_copy_must_not_touch_is_refused() {
    let fs = SimFs::new(1);
    let (_db, oracle) = source(&fs);
    let refused = |done: Result<Copied>, word: &str| {
        let error = done.unwrap_err();
        let is_told = matches!(&error, Error::InvalidArgument(what) if what.contains(word));
        assert!(is_told, "{word}: {error}");
    };
    let to = |dir: &str| backup::backup(&seam(&fs), Path::new(DIR), Path::new(dir), &mut |_| {});

    refused(to(DIR), "onto itself");
    fs.put_file("/notes/notes.txt", "mine");
    refused(to("/notes"), "notes.txt");
    Db::open("/other", options(&fs)).unwrap().close().unwrap();
    let before = contents(&fs, "/other");
    refused(to("/other"), "holds the database");
    assert_eq!(contents(&fs, "/other"), before);

    back_up(&fs).unwrap();
    let onto =
        |dir: &str| backup::restore(&seam(&fs), Path::new(COPY), Path::new(dir), &mut |_| {});
    for dir in [DIR, "/other", "/notes"] {
        refused(onto(dir), "empty");
    }
    let missing = backup::backup(&seam(&fs), Path::new("/no"), Path::new("/made"), &mut |_| {});
    assert!(matches!(missing, Err(Error::Io { .. })));
    assert!(!names(&fs, "/").contains(&"made".to_owned()));

    // Restored, and written to, it has what the database has not.
    restore(&fs).unwrap();
    let restored = Db::open(RESTORED, options(&fs)).unwrap();
    restored.put(b"ahead", 1, b"of the source").unwrap();
    restored.close().unwrap();
    refused(to(RESTORED), "was opened");
    assert_holds(&fs, COPY, &oracle, "the backup");
}

/// A server that ran on the backup was told that its writes are durable; the next backup, of a database
/// that was further on, replaced them without a word.
#[test]
fn what_was_written_to_a_backup_is_not_overwritten() {
    type Way<'a> = &'a dyn Fn(&SimFs, Db);
    let image = SimFs::new(1);
    let (db, _) = source(&image);
    back_up(&image).unwrap();
    for i in 0..100 {
        db.put(b"ahead", i, b"of the backup").unwrap();
    }
    let put = |db: &Db| assert!(db.put(b"key", 1, b"acknowledged").is_ok());
    let ways: [Way<'_>; 5] = [
        &|_, db| put(&db),
        &|_, db| {
            put(&db);
            db.flush().unwrap();
        },
        &|_, db| {
            put(&db);
            db.close().unwrap();
        },
        &|fs, db| {
            put(&db);
            drop(db);
            Db::open(COPY, synced(fs)).unwrap();
        },
        &|fs, db| {
            put(&db);
            drop(db);
            let segment = files(fs, COPY, "wal").remove(0);
            fs.corrupt(Path::new(COPY).join(segment), 10, 1);
        },
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let fs = image.fork();
        way(&fs, Db::open(COPY, synced(&fs)).unwrap());
        let before = contents(&fs, COPY);
        let error = back_up(&fs).unwrap_err();
        let is_told = matches!(&error, Error::InvalidArgument(what) if what.contains("was opened"));
        assert!(is_told, "way {number}: {error}");
        assert_eq!(contents(&fs, COPY), before, "way {number}");
    }
}

/// A file that could not be read for once, as when there are too many open, is no damage.
#[test]
fn a_backup_that_can_not_be_read_is_not_taken_for_damaged() {
    let fs = SimFs::new(1);
    let (_db, oracle) = source(&fs);
    back_up(&fs).unwrap();
    let segment = files(&fs, COPY, "wal").remove(0);
    fs.inject(Fault { op: FsOp::Open, pattern: segment, nth: 1, kind: FaultKind::Eio });
    let before = contents(&fs, COPY);
    assert!(matches!(back_up(&fs), Err(Error::Io { .. })));
    assert_eq!(contents(&fs, COPY), before);
    back_up(&fs).unwrap();
    assert_holds(&fs, COPY, &oracle, "the next one");
}

/// As after the restore of an older backup.
#[test]
fn a_newer_backup_is_not_replaced_by_an_older_state() {
    let fs = SimFs::new(1);
    let (db, _) = source(&fs);
    let older = fs.fork();
    db.put(b"k", 1, b"newer").unwrap();
    back_up(&fs).unwrap();
    for (name, content) in contents(&fs, COPY) {
        older.put_file(Path::new(COPY).join(name), content.unwrap());
    }
    let error = back_up(&older).unwrap_err();
    assert!(error.to_string().contains("newer state"), "{error}");
    assert_eq!(contents(&older, COPY), contents(&fs, COPY));
}

/// Two histories of one database give the same ids to tables of their own, of the same length, and with
/// the same footer. A backup of the one must not become a mixture.
#[test]
fn tables_of_two_histories_are_told_apart() {
    let image = SimFs::new(1);
    let (db, _) = written(&options(&image), &batches(20));
    drop(db);
    let write = |fs: &SimFs, value: &[u8]| {
        let db = Db::open(DIR, options(fs)).unwrap();
        db.put(b"k", 1, value).unwrap();
        db.close().unwrap();
    };
    let (fs, other) = (image.fork(), image.fork());
    write(&fs, b"one history");
    write(&other, b"the second!");
    assert_eq!(tables(&fs, DIR), tables(&other, DIR));
    back_up(&other).unwrap();
    for (name, content) in contents(&other, COPY) {
        fs.put_file(Path::new(COPY).join(name), content.unwrap());
    }
    let before = contents(&fs, COPY);
    let error = back_up(&fs).unwrap_err();
    assert!(error.to_string().contains("another state"), "{error}");
    assert_eq!(contents(&fs, COPY), before);
}

/// A crash after and within each call of a first backup, and of one that brings it up to date.
#[test]
fn a_crash_leaves_the_old_backup_the_new_one_or_none() {
    let image = SimFs::new(5);
    let (db, new) = source(&image);
    let first = image.fork();
    drop(db);
    // An older state, of other tables.
    let old_fs = SimFs::new(5);
    let (db, old) = written(&synced(&old_fs), &batches(16));
    back_up(&old_fs).unwrap();
    for ops in &batches(30)[16..] {
        db.write(batch(ops)).unwrap();
    }
    db.compact().unwrap();
    let second = old_fs.fork();
    drop(db);

    let (mut points, mut seen) = (0, [0; 3]);
    for (image, has_old) in [(first, false), (second, true)] {
        let whole = image.fork();
        let before = whole.mutations();
        back_up(&whole).unwrap();
        for call in before + 1..=whole.mutations() {
            for within in [false, true] {
                let stopped = image.fork();
                if within {
                    stopped.stop_within(call);
                } else {
                    stopped.stop_after(call);
                }
                let told = back_up(&stopped);
                for survival in SURVIVALS {
                    points += 1;
                    let point = format!("{has_old} call {call}, within {within}, {survival:?}");
                    let fs = stopped.fork();
                    fs.crash(survival);
                    let found = read_current_manifest(&fs, Path::new(COPY));
                    let seq = found
                        .as_ref()
                        .ok()
                        .map(|_| Db::open(COPY, options(&fs.fork())).unwrap().visible_seq());
                    match seq {
                        None => {
                            assert!(!has_old && told.is_err(), "{point}: {found:?}");
                            seen[0] += 1;
                        }
                        Some(seq) if seq == new.last_seq() => {
                            assert_holds(&fs.fork(), COPY, &new, &point);
                            seen[1] += 1;
                        }
                        Some(_) => {
                            assert!(has_old && told.is_err(), "{point}: it was told");
                            assert_holds(&fs.fork(), COPY, &old, &point);
                            seen[2] += 1;
                        }
                    }
                    back_up(&fs).unwrap_or_else(|error| panic!("{point}: {error}"));
                    assert_holds(&fs, COPY, &new, &point);
                    assert!(!names(&fs, COPY).iter().any(|name| name.contains("UNFINISHED")));
                }
            }
        }
    }
    assert!(points > 300 && seen.iter().all(|&count| count > 20), "{points} {seen:?}");
}

/// Any call fails once: the backup is as it was, and the next one succeeds.
#[test]
fn a_failure_costs_the_backup_and_nothing_else() {
    use FsOp::{Create, CreateDir, List, Lock, Open, Read, Remove, Rename, Sync, SyncDir, Write};
    let image = SimFs::new(5);
    let (db, old) = written(&options(&image), &batches(16));
    back_up(&image).unwrap();
    let all = batches(30);
    for ops in &all[16..] {
        db.write(batch(ops)).unwrap();
    }
    db.flush().unwrap();
    drop(db);
    let new = Oracle::of(&all.concat());
    let mut failed = 0;
    for op in [CreateDir, Create, Open, Read, Write, Sync, Rename, Remove, SyncDir, List, Lock] {
        for kind in [FaultKind::Eio, FaultKind::Enospc] {
            for nth in 1..=16 {
                let fs = image.fork();
                fs.inject(Fault { op, pattern: String::new(), nth, kind });
                let done = back_up(&fs);
                fs.clear_faults();
                failed += u32::from(done.is_err());
                let point = format!("{op:?} {nth} {kind:?}: {done:?}");
                let seq = Db::open(COPY, options(&fs.fork())).unwrap().visible_seq();
                let there = if seq == new.last_seq() { &new } else { &old };
                assert!(done.is_err() || seq == new.last_seq(), "{point}");
                assert_holds(&fs.fork(), COPY, there, &point);
                back_up(&fs).unwrap_or_else(|error| panic!("{point}: {error}"));
                assert_holds(&fs, COPY, &new, &point);
            }
        }
    }
    assert!(failed > 100, "only {failed} of them failed");
}

/// What a database whose writes are refused still has on its disk can be saved.
#[test]
fn a_database_whose_writes_are_refused_can_be_backed_up() {
    let fs = SimFs::new(1);
    let (db, oracle) = source(&fs);
    fs.inject(Fault { op: FsOp::Write, pattern: ".wal".into(), nth: 1, kind: FaultKind::Eio });
    db.put(b"k", 1, b"v").unwrap_err();
    assert!(db.poisoned().is_some());
    back_up(&fs).unwrap();
    assert_holds(&fs, COPY, &oracle, "of a poisoned one");
}
