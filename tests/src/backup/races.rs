//! Backups of databases that are written to, flushed, merged, closed and opened meanwhile.
//!
//! What every test here guards: a backup holds all that was acknowledged when it was begun, and a prefix
//! of the commit order, however the files changed between the calls that read them.
//!
//! `KVTIMEDB_BACKUP_SEEDS` raises the number of runs, each with other changes at other moments.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use fastrand::Rng;
use kvtimedb_engine::backup;
use kvtimedb_engine::fs::{Fs, RealFs, SimFs};
use kvtimedb_engine::{Background, Db, Durability, Error, Options, ValueRef};

use super::meddled::Meddled;
use super::{back_up, contents, tables};
use crate::checkpoint::{COPY, assert_holds, assert_sound, batches, prefix_of, written};
use crate::common::setting;
use crate::oracle::{DIR, Op, Oracle, batch, noise, options};

/// A database that does something between two calls of the backup.
struct Busy {
    fs: SimFs,
    db: Option<Db>,
    /// All that it ever writes, and how much of it is written.
    batches: Vec<Vec<Op>>,
    written: usize,
    rng: Rng,
    /// Fewer than the passes of a backup, because each may cost it one.
    steps_left: usize,
}

impl Busy {
    fn step(&mut self) {
        if self.steps_left == 0 || self.rng.u8(..3) > 0 {
            return;
        }
        self.steps_left -= 1;
        let db = self.db.take().unwrap();
        match self.rng.u8(..12) {
            0..=1 => db.flush().unwrap(),
            2 => db.compact().unwrap(),
            3 => db.close().unwrap(),
            // As after a crash of the process.
            4 => {}
            _ => {
                db.write(batch(&self.batches[self.written])).unwrap();
                self.written += 1;
                self.db = Some(db);
                return;
            }
        }
        drop(db);
        self.db = Some(Db::open(DIR, options(&self.fs)).unwrap());
    }
}

#[test]
fn whatever_happens_between_two_reads_a_backup_is_a_prefix() {
    const BATCHES: usize = 30;
    let seeds = setting("KVTIMEDB_BACKUP_SEEDS", 150);
    let (mut passes, mut behind) = (0, 0);
    for seed in 0..seeds {
        let fs = SimFs::new(seed);
        let all = batches(BATCHES as i64 + 60);
        let (db, before) = written(&options(&fs), &all[..BATCHES]);
        let rng = Rng::with_seed(seed);
        let busy = Busy {
            fs: fs.clone(),
            db: Some(db),
            batches: all.clone(),
            written: BATCHES,
            rng,
            steps_left: 0,
        };
        let busy = Arc::new(Mutex::new(busy));
        let other = Arc::clone(&busy);
        let meddled = Meddled::new(&fs, move |_| {
            other.lock().unwrap().step();
            Ok(())
        });
        let meddled: Arc<dyn Fs> = Arc::new(meddled);
        let mut least = before.last_seq();
        // The second one goes on where the first one ended, in the midst of it all.
        for number in 0..2 {
            busy.lock().unwrap().steps_left = 19;
            let copied = backup::backup(&meddled, Path::new(DIR), Path::new(COPY), &mut |_| {});
            let copied = copied.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let context = format!("seed {seed}, backup {number}");
            assert!(copied.seq >= least, "{context}: {copied:?}, acknowledged {least}");
            let ops: Vec<Op> = all.concat().into_iter().take(copied.seq as usize).collect();
            assert_holds(&fs.fork(), COPY, &Oracle::of(&ops), &context);
            assert_sound(&fs, COPY);
            passes += copied.passes;
            least = all[..busy.lock().unwrap().written].concat().len() as u64;
            behind += u32::from(copied.seq < least);
        }
        let busy = busy.lock().unwrap();
        let now = Oracle::of(&all[..busy.written].concat());
        now.assert_answers(busy.db.as_ref().unwrap(), "the source");
    }
    assert!(
        u64::from(passes) > 2 * seeds && behind > 10,
        "{passes} passes, {behind} behind: nothing was tested"
    );
}

#[test]
fn a_database_that_never_rests_is_given_up_in_the_end() {
    let fs = SimFs::new(1);
    let (db, _) = written(&options(&fs), &batches(12));
    back_up(&fs).unwrap();
    let (before, tables_before) = (contents(&fs, COPY), tables(&fs, COPY).len());
    let (meddled, writes) = {
        let (db, writes) = (db.clone(), Arc::new(AtomicI64::new(0)));
        let count = Arc::clone(&writes);
        let meddled = Meddled::new(&fs, move |call| {
            if call == "list" {
                db.put(b"busy", count.fetch_add(1, Ordering::Relaxed), b"").unwrap();
                db.flush().unwrap();
            }
            Ok(())
        });
        (meddled, writes)
    };
    let meddled: Arc<dyn Fs> = Arc::new(meddled);
    let error = backup::backup(&meddled, Path::new(DIR), Path::new(COPY), &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(error.to_string().contains("it changed 20 times"), "{error}");
    assert!(writes.load(Ordering::Relaxed) >= 20);
    let after = contents(&fs, COPY);
    // Tables may have been added, for the next one to find, and nothing else.
    assert!(before.iter().all(|file| after.contains(file)));
    assert_eq!(after.len() - before.len(), tables(&fs, COPY).len() - tables_before);
    back_up(&fs).unwrap();
}

/// The same with real threads and files.
#[test]
fn backups_are_prefixes_while_others_write() {
    const WRITERS: usize = 3;
    const BACKUPS: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    let (data, copy) = (dir.path().join("data"), dir.path().join("backup"));
    let options = Options {
        memtable_bytes_max: 64 << 10,
        durability: Durability::Buffered,
        background: Background::Threads,
        ..Options::default()
    };
    let db = Db::open(&data, options.clone()).unwrap();
    let acknowledged: [AtomicI64; WRITERS] = Default::default();
    let done = AtomicBool::new(false);
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    thread::scope(|scope| {
        for (writer, acknowledged) in acknowledged.iter().enumerate() {
            let (db, done) = (&db, &done);
            scope.spawn(move || {
                let key = format!("writer/{writer}");
                for ts in 0.. {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    let value = noise(ts as u64, 100);
                    db.put(key.as_bytes(), ts, ValueRef::octets(&value)).unwrap();
                    acknowledged.store(ts + 1, Ordering::Release);
                    thread::sleep(std::time::Duration::from_micros(100));
                }
            });
        }
        for number in 0..BACKUPS {
            let least: Vec<i64> = acknowledged.iter().map(|n| n.load(Ordering::Acquire)).collect();
            let copied = backup::backup(&fs, &data, &copy, &mut |_| {}).unwrap();
            assert_sound(&RealFs, &copy);
            let restored = dir.path().join(format!("restored-{number}"));
            backup::restore(&fs, &copy, &restored, &mut |_| {}).unwrap();
            let restored = Db::open(&restored, options.clone()).unwrap();
            assert_eq!(restored.visible_seq(), copied.seq);
            let mut ops = 0;
            for (writer, least) in least.into_iter().enumerate() {
                let writes = prefix_of(&restored, format!("writer/{writer}").as_bytes());
                assert!(writes >= least, "writer {writer}: {writes} of {least} acknowledged");
                ops += writes as u64;
            }
            assert_eq!(ops, copied.seq);
        }
        done.store(true, Ordering::Relaxed);
    });
    db.close().unwrap();
    backup::backup(&fs, &data, &copy, &mut |_| {}).unwrap();
    let copy = Db::open(&copy, options).unwrap();
    for (writer, acknowledged) in acknowledged.iter().enumerate() {
        let writes = prefix_of(&copy, format!("writer/{writer}").as_bytes());
        assert_eq!(writes, acknowledged.load(Ordering::Relaxed));
    }
}
