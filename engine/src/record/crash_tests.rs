//! Power failures and full disks at every moment of a log's life, on the simulated file system.
//!
//! It guards the two claims that a log stands on: what was synced is there after any crash, and
//! what else is there is a prefix of what was appended.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::fs::{Fault, FaultKind, Fs, FsOp, SimFs, Survival};

const DATABASE: DatabaseId = DatabaseId(3);
const FILE: FileId = FileId(1);

fn path() -> PathBuf {
    FILE.wal_path(Path::new("db"))
}

const SURVIVALS: [Survival; 3] = [Survival::Synced, Survival::Everything, Survival::Random];

#[derive(Clone, Debug)]
enum Step {
    /// A record of this many bytes.
    Append(usize),
    /// The same on a full disk, with room for a part of it.
    Refused(usize),
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    // Few lengths, so that a refused record is often as long as the one that takes its place.
    let len = || prop::sample::select(vec![0, 5, 200, 491, 700, 2000]);
    prop_oneof![
        5 => len().prop_map(Step::Append),
        1 => len().prop_map(Step::Refused),
        2 => Just(Step::Sync),
    ]
}

/// Takes the steps until one fails because the simulation stopped. Returns the payloads that were
/// appended, how many of them were synced, and the one that was in the making.
fn run(sim: &SimFs, log: &mut RecordWriter, steps: &[Step]) -> (Vec<Vec<u8>>, usize, Vec<u8>) {
    let mut appended = Vec::new();
    let mut synced = 0;
    for (i, step) in steps.iter().enumerate() {
        let payload = |len| vec![i as u8 + 1; len];
        match *step {
            Step::Append(len) => match log.append(RecordType::Batch, &[&payload(len)]) {
                Ok(()) => appended.push(payload(len)),
                Err(_) => return (appended, synced, payload(len)),
            },
            Step::Refused(len) => {
                let op = FsOp::Write;
                sim.inject(Fault { op, pattern: String::new(), nth: 1, kind: FaultKind::Enospc });
                let refused = log.append(RecordType::Batch, &[&payload(len)]);
                sim.clear_faults();
                if !matches!(refused, Err(Error::DiskFull { .. })) {
                    return (appended, synced, payload(len));
                }
            }
            Step::Sync => match log.sync() {
                Ok(()) => synced = appended.len(),
                Err(_) => return (appended, synced, Vec::new()),
            },
        }
    }
    (appended, synced, Vec::new())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn after_a_crash_the_log_is_a_prefix_that_holds_all_that_was_synced(
        steps in vec(step(), 1..16),
        seed: u64,
        calls in 0_u64..40,
        survival in prop::sample::select(&SURVIVALS[..]),
    ) {
        let sim = SimFs::new(seed);
        let fs: Arc<dyn Fs> = Arc::new(sim.clone());
        fs.create_dir_all(Path::new("db")).unwrap();
        let mut log =
            RecordWriter::create(&fs, &path(), LogKind::Wal, DATABASE, FILE, false).unwrap();
        fs.sync_dir(Path::new("db")).unwrap();
        sim.stop_within(sim.mutations() + 1 + calls);
        let (mut appended, synced, unfinished) = run(&sim, &mut log, &steps);
        appended.push(unfinished);
        drop(log);
        sim.crash(survival);

        let opened = RecordReader::open(&sim, &path(), LogKind::Wal, Some(DATABASE), FILE);
        let mut reader = opened.unwrap().expect("its header was durable");
        let mut found = 0;
        while let Some(record) = reader.next().unwrap() {
            prop_assert_eq!(record.payload, &appended[found][..]);
            found += 1;
        }
        prop_assert!(found >= synced, "{} of {} synced records", found, synced);
    }
}
