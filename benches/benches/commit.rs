//! Durable puts by many callers, beside a bare group-commit loop on the same disk, in one process.
//! `cargo bench -p kvtimedb-benches --bench commit [-- DIR]`; the directory says which disk.
//!
//! The loop is what any log has to do: callers queue their bytes, and one thread writes all that wait,
//! syncs, and wakes the callers. It has no checksums, no memtable and no bounds.
#![allow(missing_docs)]
#![allow(clippy::disallowed_methods)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use kvtimedb_benches::data::Telemetry;
use kvtimedb_engine::{Db, Options, ValueRef};

const PERIOD: Duration = Duration::from_millis(150);
const ROUNDS: usize = 15;
const VALUE: &[u8] = br#"{"temp":21.53,"humid":40,"press":99871,"status":"ok","n":17}"#;

/// The loop's file is filled with zeros up to here before the first sync, as our log is.
const FILE_BYTES: usize = 8 << 20;

fn main() {
    let dir = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or(".".to_owned());
    println!("callers  bare loop/s     puts/s  ratio");
    for callers in [1, 8, 64] {
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let (bare, ours) =
                (bare_loop(Path::new(&dir), callers), puts(Path::new(&dir), callers));
            println!("{callers:7}  {bare:11.0}  {ours:9.0}  {:5.2}", ours / bare);
            ratios.push(ours / bare);
        }
        ratios.sort_by(f64::total_cmp);
        println!("{callers:7}  median ratio {:.2}", ratios[ROUNDS / 2]);
    }
}

/// Calls of `call`, by so many threads, per second.
fn rate(callers: usize, call: impl Fn(u64, u64) + Sync) -> f64 {
    let begun = Instant::now();
    let calls: u64 = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..callers as u64)
            .map(|caller| {
                let call = &call;
                scope.spawn(move || {
                    let mut calls = 0;
                    while begun.elapsed() < PERIOD {
                        call(caller, calls);
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().expect("a caller ends")).sum()
    });
    calls as f64 / begun.elapsed().as_secs_f64()
}

fn puts(dir: &Path, callers: usize) -> f64 {
    let dir = tempfile::tempdir_in(dir).expect("a directory");
    let db = Db::open(dir.path(), Options::default()).expect("an empty directory");
    let data = Telemetry::new(64, 1);
    rate(callers, |caller, call| {
        db.put(&data.key(caller), call as i64, ValueRef::json(VALUE)).expect("a put");
    })
}

fn bare_loop(dir: &Path, callers: usize) -> f64 {
    let dir = tempfile::tempdir_in(dir).expect("a directory");
    let file = File::create(dir.path().join("log")).expect("a file");
    file.write_all_at(&vec![0; FILE_BYTES], 0).expect("a write");
    file.sync_all().expect("a sync");
    let (queue, waiting) = sync_channel::<(Vec<u8>, SyncSender<()>)>(callers);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut bytes, mut callers, mut offset) = (Vec::new(), Vec::new(), 0);
            while let Ok(first) = waiting.recv() {
                for (put, caller) in std::iter::once(first).chain(waiting.try_iter()) {
                    bytes.extend_from_slice(&put);
                    callers.push(caller);
                }
                file.write_all_at(&bytes, offset).expect("a write");
                file.sync_data().expect("a sync");
                offset = (offset + bytes.len() as u64) % (FILE_BYTES as u64 / 2);
                bytes.clear();
                for caller in callers.drain(..) {
                    caller.send(()).expect("a caller waits");
                }
            }
        });
        let data = Telemetry::new(64, 1);
        let rate = rate(callers, |caller, _| {
            let (done, committed) = sync_channel(1);
            let put = [&data.key(caller), VALUE, &[0; 21]].concat();
            queue.send((put, done)).expect("the loop runs");
            committed.recv().expect("the loop answers");
        });
        drop(queue);
        rate
    })
}
