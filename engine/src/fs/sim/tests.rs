//! What the simulated file system keeps, loses and breaks.

use std::io::ErrorKind;

use proptest::prelude::*;

use super::disk::SECTOR;
use super::*;
use crate::fs::tests::kind;

/// A simulation with an empty directory `db`.
fn sim() -> SimFs {
    let fs = SimFs::new(1);
    fs.create_dir_all(Path::new("db")).unwrap();
    fs
}

/// Writes `bytes` to a new file; neither they nor its name are durable.
fn write(fs: &dyn Fs, path: &str, bytes: &[u8]) -> Arc<dyn WritableFile> {
    let file = fs.create(Path::new(path)).unwrap();
    file.write_at(0, bytes).unwrap();
    file
}

fn fault(op: FsOp, pattern: &str, nth: u64, kind: FaultKind) -> Fault {
    Fault { op, pattern: pattern.to_owned(), nth, kind }
}

// What a crash leaves.

#[test]
fn data_and_names_become_durable_apart() {
    let fs = sim();
    write(&fs, "db/nothing", b"1");
    write(&fs, "db/data", b"2").sync().unwrap();
    let after_names = fs.fork();
    after_names.sync_dir(Path::new("db")).unwrap();

    fs.crash(Survival::Synced);
    assert!(fs.file_names().is_empty());
    after_names.crash(Survival::Synced);
    assert_eq!(after_names.read_file("db/nothing").unwrap(), b"");
    assert_eq!(after_names.read_file("db/data").unwrap(), b"2");
}

#[test]
fn removals_and_renames_are_durable_only_with_their_directory() {
    let fs = sim();
    for name in ["a", "b", "c"] {
        fs.put_file(format!("db/{name}"), name);
    }
    fs.remove(Path::new("db/a")).unwrap();
    fs.rename(Path::new("db/b"), Path::new("db/c")).unwrap();
    let synced = fs.fork();
    synced.sync_dir(Path::new("db")).unwrap();

    fs.crash(Survival::Synced);
    assert_eq!(fs.list(Path::new("db")).unwrap(), ["a", "b", "c"]);
    assert_eq!(fs.read_file("db/c").unwrap(), b"c");
    synced.crash(Survival::Synced);
    assert_eq!(synced.list(Path::new("db")).unwrap(), ["c"]);
    assert_eq!(synced.read_file("db/c").unwrap(), b"b");
}

/// A process that dies leaves the page cache behind, and its successor must not take what it reads
/// there for durable.
#[test]
fn what_outlives_the_process_may_still_be_lost_with_the_power() {
    let fs = sim();
    write(&fs, "db/a", b"1").sync().unwrap();
    fs.sync_dir(Path::new("db")).unwrap();
    write(&fs, "db/b", b"2");
    fs.crash(Survival::Everything);
    assert_eq!(fs.read_file("db/b").unwrap(), b"2");
    fs.crash(Survival::Synced);
    assert_eq!(fs.file_names(), [Path::new("db/a")]);
}

#[test]
fn an_unsynced_rename_is_there_or_not() {
    let mut seen = BTreeSet::new();
    for seed in 0..64 {
        let fs = SimFs::new(seed);
        fs.put_file("db/CURRENT", "old");
        fs.put_file("db/CURRENT.tmp", "new");
        fs.rename(Path::new("db/CURRENT.tmp"), Path::new("db/CURRENT")).unwrap();
        fs.crash(Survival::Random);
        let left = (fs.read_file("db/CURRENT").unwrap(), fs.read_file("db/CURRENT.tmp"));
        seen.insert(left);
    }
    let old = (b"old".to_vec(), Some(b"new".to_vec()));
    assert_eq!(seen, BTreeSet::from([old, (b"new".to_vec(), None)]));
}

/// Each name of a file is durable with its own directory, and the file is there while it has one.
#[test]
fn a_link_is_durable_only_with_its_directory() {
    let fs = sim();
    fs.put_file("db/a", "text");
    fs.create_dir_all(Path::new("copy")).unwrap();
    fs.link(Path::new("db/a"), Path::new("copy/a")).unwrap();
    fs.remove(Path::new("db/a")).unwrap();
    fs.sync_dir(Path::new("db")).unwrap();
    let synced = fs.fork();
    synced.sync_dir(Path::new("copy")).unwrap();

    fs.crash(Survival::Synced);
    assert!(fs.file_names().is_empty());
    synced.crash(Survival::Synced);
    assert_eq!(synced.file_names(), [Path::new("copy/a")]);
    assert_eq!(synced.read_file("copy/a").unwrap(), b"text");
    synced.corrupt("copy/a", 0, 1);
    synced.remove(Path::new("copy/a")).unwrap();
    synced.crash(Survival::Synced);
    assert_eq!(synced.read_file("copy/a").unwrap(), b"uext");
}

#[test]
fn names_of_one_directory_survive_apart_and_alike_for_one_seed() {
    let run = |seed| {
        let fs = SimFs::new(seed);
        fs.put_file("db/a", "");
        fs.remove(Path::new("db/a")).unwrap();
        write(&fs, "db/b", b"");
        fs.crash(Survival::Random);
        fs.list(Path::new("db")).unwrap()
    };
    let seen: BTreeSet<_> = (0..64).map(run).collect();
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert!((0..64).all(|seed| run(seed) == run(seed)));
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, Vec<u8>),
    Sync,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let data = (1..=255u8, 0..1500usize).prop_map(|(byte, len)| vec![byte; len]);
    let step = prop_oneof![
        4 => (0..4000usize, data).prop_map(|(offset, data)| Step::Write(offset, data)),
        1 => Just(Step::Sync),
    ];
    proptest::collection::vec(step, 0..12)
}

/// Runs the steps on a file; returns its content at the last sync, and at the end.
fn run(fs: &SimFs, steps: &[Step]) -> (Vec<u8>, Vec<u8>) {
    let (mut durable, mut content) = (Vec::new(), Vec::new());
    let file = fs.create(Path::new("db/f")).unwrap();
    fs.sync_dir(Path::new("db")).unwrap();
    for step in steps {
        match step {
            Step::Write(offset, data) => {
                file.write_at(*offset as u64, data).unwrap();
                let end = offset + data.len();
                if !data.is_empty() {
                    content.resize(content.len().max(end), 0);
                    content[*offset..end].copy_from_slice(data);
                }
            }
            Step::Sync => {
                file.sync().unwrap();
                durable.clone_from(&content);
            }
        }
    }
    (durable, content)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn exactly_what_was_synced_survives(steps in steps()) {
        let fs = sim();
        let (durable, content) = run(&fs, &steps);
        prop_assert_eq!(fs.read_file("db/f").unwrap(), content);
        fs.crash(Survival::Synced);
        prop_assert_eq!(fs.read_file("db/f").unwrap(), durable);
    }

    /// Each sector is the new one or the old one, which is zeros past its end.
    #[test]
    fn unsynced_sectors_survive_whole_or_not_at_all(steps in steps(), seed: u64) {
        let fs = SimFs::new(seed);
        fs.create_dir_all(Path::new("db")).unwrap();
        let (mut old, new) = run(&fs, &steps);
        fs.crash(Survival::Random);
        let left = fs.read_file("db/f").unwrap();
        prop_assert!((old.len()..=new.len()).contains(&left.len()));
        old.resize(new.len(), 0);
        for (i, sector) in left.chunks(SECTOR).enumerate() {
            let range = i * SECTOR..i * SECTOR + sector.len();
            prop_assert!(sector == &old[range.clone()] || sector == &new[range], "sector {}", i);
        }
        // What is left is durable.
        fs.crash(Survival::Synced);
        prop_assert_eq!(fs.read_file("db/f").unwrap(), left);
    }
}

#[test]
fn random_crashes_tear_reorder_keep_and_lose() {
    let (mut kept, mut lost, mut reordered, mut cut) = (0, 0, 0, 0);
    for seed in 0..200 {
        let fs = SimFs::new(seed);
        fs.create_dir_all(Path::new("db")).unwrap();
        run(&fs, &[Step::Write(0, vec![1; 4 * SECTOR])]);
        fs.crash(Survival::Random);
        let left = fs.read_file("db/f").unwrap();
        kept += u32::from(left == [1; 4 * SECTOR]);
        lost += u32::from(left.is_empty());
        reordered += u32::from(left.windows(2).any(|pair| pair == [0, 1]));
        cut += u32::from(!left.len().is_multiple_of(SECTOR));
    }
    assert!(kept > 0 && lost > 0 && reordered > 0 && cut > 0, "{kept} {lost} {reordered} {cut}");
}

#[test]
fn a_crash_kills_handles_and_locks_but_not_maps() {
    let fs = sim();
    fs.put_file("db/f", "text");
    let guard = fs.lock(Path::new("db/LOCK"), "old").unwrap().unwrap();
    let reader = fs.open(Path::new("db/f")).unwrap();
    let map = reader.map().unwrap();
    let writer = write(&fs, "db/g", b"1");
    fs.crash(Survival::Everything);

    let calls = fs.mutations();
    assert!(reader.len().is_err() && reader.map().is_err());
    assert!(reader.read_exact_at(0, &mut [0]).is_err());
    assert!(writer.write_at(0, b"2").is_err() && writer.sync().is_err());
    assert_eq!((fs.mutations(), &*map), (calls, &b"text"[..]));

    let _new = fs.lock(Path::new("db/LOCK"), "new").unwrap().unwrap();
    drop(guard);
    assert_eq!(fs.lock(Path::new("db/LOCK"), "x").unwrap().unwrap_err(), "new");
}

// Stops, traces and forks.

/// Writes a file and installs it: seven calls.
fn install(fs: &dyn Fs) -> io::Result<()> {
    let (tmp, path) = (Path::new("db/f.tmp"), Path::new("db/f"));
    let file = fs.create(tmp)?;
    file.write_at(0, &[7; 1000])?;
    file.write_at(1000, &[8; 1000])?;
    file.sync()?;
    fs.rename(tmp, path)?;
    fs.sync_dir(Path::new("db"))?;
    fs.remove(path)
}

#[test]
fn the_trace_tells_every_mutating_call() {
    let fs = sim();
    install(&fs).unwrap();
    let trace = fs.trace();
    assert_eq!(
        trace,
        [
            "create f.tmp",
            "write f.tmp 0+1000",
            "write f.tmp 1000+1000",
            "sync f.tmp",
            "rename f.tmp f",
            "sync_dir",
            "remove f"
        ]
    );
    assert_eq!((fs.mutations(), fs.take_trace(), fs.trace()), (7, trace, Vec::new()));
}

#[test]
fn a_stop_is_exact_and_ends_with_the_crash() {
    for n in 0..7 {
        let fs = sim();
        fs.stop_after(n);
        install(&fs).unwrap_err();
        assert!(fs.create_dir_all(Path::new("x")).is_err() && fs.lock(Path::new("L"), "").is_err());
        assert_eq!((fs.mutations(), fs.trace().len() as u64), (n, n));
        let name = if n < 5 { "db/f.tmp" } else { "db/f" };
        let written = [None, Some(0), Some(1000), Some(2000)][n.min(3) as usize];
        assert_eq!(fs.read_file(name).map(|content| content.len()), written);

        fs.crash(Survival::Synced);
        let durable = (n == 6).then_some(2000);
        assert_eq!(fs.read_file("db/f").map(|content| content.len()), durable);
        fs.sync_dir(Path::new("db")).unwrap();
    }
}

#[test]
fn a_stop_within_a_call_tears_a_write_and_voids_the_rest() {
    let mut lens = BTreeSet::new();
    for seed in 0..8 {
        let fs = SimFs::new(seed);
        fs.create_dir_all(Path::new("db")).unwrap();
        fs.stop_within(3);
        let error = install(&fs).unwrap_err();
        assert_eq!((fs.mutations(), error.raw_os_error()), (3, None));
        lens.insert(fs.read_file("db/f.tmp").unwrap().len());
    }
    assert!(lens.len() > 1 && lens.iter().all(|len| (1000..2000).contains(len)), "{lens:?}");

    let fs = sim();
    fs.stop_within(4);
    install(&fs).unwrap_err();
    fs.crash(Survival::Everything);
    // The sync that was stopped did nothing, not even forget what it should have written.
    assert_eq!(fs.read_file("db/f.tmp").unwrap().len(), 2000);
    fs.crash(Survival::Synced);
    assert!(fs.file_names().is_empty());
}

#[test]
fn a_fork_lives_its_own_life() {
    let fs = sim();
    let file = write(&fs, "db/a", b"1");
    let guard = fs.lock(Path::new("db/LOCK"), "old").unwrap().unwrap();
    let fork = fs.fork();
    assert_eq!((fork.mutations(), fork.trace()), (2, Vec::new()));
    let _guard = fork.lock(Path::new("db/LOCK"), "fork").unwrap().unwrap();
    drop(guard);
    assert_eq!(fork.lock(Path::new("db/LOCK"), "x").unwrap().unwrap_err(), "fork");
    file.write_at(0, b"2").unwrap();
    fork.remove(Path::new("db/a")).unwrap();
    fork.crash(Survival::Everything);
    assert_eq!(fs.read_file("db/a").unwrap(), b"2");
    assert_eq!(fork.read_file("db/a"), None);
}

#[test]
fn a_watcher_sees_each_call_before_it_is_made_and_may_look_around() {
    let fs = sim();
    let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let (watched, list) = (fs.clone(), Arc::clone(&seen));
    fs.watch(move |call| {
        // On the thread of the caller, and not under a lock.
        let fork = watched.fork();
        fork.crash(Survival::Everything);
        fork.sync_dir(Path::new("db")).unwrap();
        let len = fork.read_file("db/f.tmp").map(|content| content.len());
        list.lock().push((call.to_owned(), watched.mutations(), len));
    });
    install(&fs).unwrap();
    let calls: Vec<_> = seen.lock().iter().map(|(call, ..)| call.clone()).collect();
    assert_eq!(calls, fs.trace());
    let states: Vec<_> = seen.lock().iter().map(|&(_, before, len)| (before, len)).collect();
    let lens = [None, Some(0), Some(1000), Some(2000), Some(2000), None, None];
    assert_eq!(states, (0..7).zip(lens).collect::<Vec<_>>());
    // Neither a call that a stop prevents, nor one after the watch.
    fs.stop_after(fs.mutations());
    install(&fs).unwrap_err();
    fs.crash(Survival::Everything);
    fs.unwatch();
    install(&fs).unwrap();
    assert_eq!(seen.lock().len(), 7);
}

// Faults.

#[test]
fn a_failed_sync_forgets_what_it_should_have_written() {
    let fs = sim();
    let file = write(&fs, "db/f", &[1; 600]);
    fs.sync_dir(Path::new("db")).unwrap();
    fs.inject(fault(FsOp::Sync, "f", 1, FaultKind::Eio));
    assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(5));
    file.write_at(1024, &[2; 10]).unwrap();
    file.sync().unwrap();
    assert_eq!(fs.read_file("db/f").unwrap()[..600], [1; 600]);
    fs.crash(Survival::Synced);
    let left = fs.read_file("db/f").unwrap();
    assert_eq!((&left[..1024], &left[1024..]), (&[0; 1024][..], &[2; 10][..]));
}

#[test]
fn a_sync_that_lies_makes_nothing_durable_and_forgets_nothing() {
    let fs = sim();
    let file = write(&fs, "db/f", &[1; 600]);
    fs.sync_dir(Path::new("db")).unwrap();
    fs.inject(fault(FsOp::Sync, "f", 1, FaultKind::Stale));
    file.sync().unwrap();
    let honest = fs.fork();
    fs.crash(Survival::Synced);
    assert_eq!(fs.read_file("db/f").unwrap(), b"");
    honest.crash(Survival::Everything);
    assert_eq!(honest.read_file("db/f").unwrap(), [1; 600]);
}

#[test]
fn a_fault_strikes_the_nth_matching_call() {
    let fs = sim();
    fs.inject(fault(FsOp::Write, ".wal", 2, FaultKind::Eio));
    fs.inject(fault(FsOp::Rename, "CURRENT", 1, FaultKind::Enospc));
    let (wal, other) = (write(&fs, "db/1.wal", b"1"), write(&fs, "db/1.sst", b"1"));
    other.write_at(1, b"2").unwrap();
    wal.write_at(1, b"2").unwrap_err();
    wal.write_at(1, b"3").unwrap();
    assert_eq!(fs.read_file("db/1.wal").unwrap(), b"13");

    let (from, to) = (Path::new("db/1.sst"), Path::new("db/CURRENT"));
    assert_eq!(kind(fs.rename(from, to)), ErrorKind::StorageFull);
    fs.rename(from, to).unwrap();
}

#[test]
fn a_standing_fault_strikes_until_it_is_cleared() {
    let fs = sim();
    fs.inject(fault(FsOp::Create, "", 0, FaultKind::Enospc));
    for _ in 0..3 {
        assert_eq!(kind(fs.create(Path::new("db/a"))), ErrorKind::StorageFull);
    }
    fs.clear_faults();
    fs.create(Path::new("db/a")).unwrap();
}

#[test]
fn writes_are_cut_flipped_and_dropped() {
    let fs = sim();
    let file = write(&fs, "db/f", &[1; 100]);
    for (kind, os_error) in [(FaultKind::Short, 5), (FaultKind::Enospc, 28)] {
        fs.inject(fault(FsOp::Write, "f", 1, kind));
        let error = file.write_at(0, &[2; 100]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(os_error));
        let content = fs.read_file("db/f").unwrap();
        assert!(content.ends_with(&[1]) && content.is_sorted_by(|a, b| a >= b));
        file.write_at(0, &[1; 100]).unwrap();
    }
    fs.inject(fault(FsOp::Write, "f", 1, FaultKind::BitFlip));
    file.write_at(0, &[1; 100]).unwrap();
    let content = fs.read_file("db/f").unwrap();
    assert_eq!(content.iter().map(|byte| (byte ^ 1).count_ones()).sum::<u32>(), 1);

    fs.inject(fault(FsOp::Write, "f", 1, FaultKind::Stale));
    file.write_at(90, &[3; 20]).unwrap();
    assert_eq!(fs.read_file("db/f").unwrap(), [content, vec![0; 10]].concat());
}

#[test]
fn reads_fail_and_lie_without_harm_to_the_file() {
    let fs = sim();
    fs.put_file("db/f", [0; 64]);
    let file = fs.open(Path::new("db/f")).unwrap();
    let ones = |bytes: &[u8]| bytes.iter().map(|byte| byte.count_ones()).sum::<u32>();
    let mut buf = [0; 64];
    fs.inject(fault(FsOp::Read, "f", 1, FaultKind::BitFlip));
    file.read_exact_at(0, &mut buf).unwrap();
    assert_eq!(ones(&buf), 1);
    fs.inject(fault(FsOp::Read, "f", 1, FaultKind::BitFlip));
    assert_eq!(ones(&file.map().unwrap()), 1);
    fs.inject(fault(FsOp::Read, "f", 1, FaultKind::Eio));
    file.map().unwrap_err();
    file.read_exact_at(0, &mut buf).unwrap();
    assert_eq!(ones(&buf), 0);
}

#[test]
fn misdirected_writes_and_reads_show_another_sector() {
    let sectors: Vec<u8> = (0..8).flat_map(|n| [n; SECTOR]).collect();
    for seed in 0..20 {
        let fs = SimFs::new(seed);
        fs.put_file("db/f", sectors.clone());
        let file = fs.open(Path::new("db/f")).unwrap();
        fs.inject(fault(FsOp::Read, "f", 1, FaultKind::Misdirected));
        let mut buf = vec![0; sectors.len()];
        file.read_exact_at(0, &mut buf).unwrap();
        let wrong = buf.chunks(SECTOR).zip(sectors.chunks(SECTOR)).filter(|(a, b)| a != b);
        assert!(wrong.count() <= 1);

        let file = write(&fs, "db/g", &sectors);
        fs.inject(fault(FsOp::Write, "g", 1, FaultKind::Misdirected));
        file.write_at(0, &[9; SECTOR]).unwrap();
        let content = fs.read_file("db/g").unwrap();
        let landed = content.chunks(SECTOR).position(|sector| sector == [9; SECTOR]);
        let kept = content.chunks(SECTOR).zip(sectors.chunks(SECTOR)).filter(|(a, b)| a == b);
        assert!(kept.count() >= 7 && (landed.is_some() || content == sectors), "{landed:?}");
        assert!(landed != Some(0), "the sector that was meant stays as it was");
    }
}

#[test]
fn every_operation_can_fail() {
    let fs = sim();
    let (dir, path) = (Path::new("db"), Path::new("db/f"));
    let file = write(&fs, "db/f", b"1");
    let calls: [(FsOp, &dyn Fn() -> bool); 12] = [
        (FsOp::CreateDir, &|| fs.create_dir_all(dir).is_ok()),
        (FsOp::Create, &|| fs.create(Path::new("db/g")).is_ok()),
        (FsOp::Open, &|| fs.open(path).is_ok()),
        (FsOp::Read, &|| fs.open(path).unwrap().map().is_ok()),
        (FsOp::Write, &|| file.write_at(0, b"2").is_ok()),
        (FsOp::Sync, &|| file.sync().is_ok()),
        (FsOp::Rename, &|| fs.rename(Path::new("db/g"), Path::new("db/h")).is_ok()),
        (FsOp::Link, &|| fs.link(path, Path::new("db/i")).is_ok()),
        (FsOp::Remove, &|| fs.remove(Path::new("db/h")).is_ok()),
        (FsOp::SyncDir, &|| fs.sync_dir(dir).is_ok()),
        (FsOp::List, &|| fs.list(dir).is_ok()),
        (FsOp::Lock, &|| fs.lock(Path::new("db/LOCK"), "").is_ok()),
    ];
    for (op, call) in calls {
        fs.inject(fault(op, "", 1, FaultKind::Eio));
        assert!(!call(), "{op:?} did not fail");
        assert!(call(), "{op:?} failed twice");
    }
}

#[test]
fn meddling_is_durable_at_once() {
    let fs = sim();
    fs.put_file("other/a", "0123456789");
    fs.put_file("other/b", "x");
    fs.corrupt("other/a", 4, 1);
    fs.truncate("other/a", 6);
    fs.remove_file("other/b");
    fs.crash(Survival::Synced);
    assert_eq!(fs.file_names(), [Path::new("other/a")]);
    assert_eq!(fs.read_file("other/a").unwrap(), b"012355");
    assert_eq!((fs.mutations(), fs.read_file("other/b")), (0, None));
}
