//! `kvtool backup` and `kvtool restore`.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use kvtimedb_engine::{Db, Options};
use serde_json::Value;

use super::{database, files, kvtool, rows, text};
use crate::common::server::Server;

/// What a command that copies says of all it did.
fn copied(args: &[&str]) -> Value {
    rows(args, "copy").remove(0)
}

#[test]
fn a_backup_is_made_brought_up_to_date_and_restored() {
    let dir = database();
    let work = tempfile::tempdir().unwrap();
    let (backup, restored) = (work.path().join("made/backup"), work.path().join("restored"));
    let (data, backup, restored) = (text(dir.path()), text(&backup), text(&restored));

    let first = copied(&["backup", data, backup]);
    assert_eq!((&first["command"], &first["tables_copied"]), (&"backup".into(), &2.into()));
    assert_eq!((&first["log_operations"], &first["passes"]), (&3.into(), &1.into()));
    assert_eq!(kvtool(&["verify", "--deep", backup]).code, 0);
    let tables = rows(&["backup", data, backup], "copied");
    assert_eq!(tables.len(), 2);
    assert!(tables.iter().all(|table| table["outcome"] == "already there"), "{tables:?}");

    let table = &files(Path::new(backup), ".sst")[0];
    let mut bytes = fs::read(table).unwrap();
    bytes[100] ^= 1;
    fs::write(table, bytes).unwrap();
    assert_eq!(kvtool(&["restore", backup, restored]).code, 4);
    assert_eq!(kvtool(&["verify", restored]).code, 4);
    assert_eq!(copied(&["backup", data, backup])["tables_replaced"], 1);
    assert_eq!(copied(&["restore", backup, restored])["seq"], first["seq"]);

    let without_file = |mut row: Value| {
        row.as_object_mut().unwrap().remove("file");
        row
    };
    let [data, restored]: [Vec<_>; 2] = [data, restored].map(|dir| {
        let records = rows(&["dump", dir, "--values"], "record");
        records.into_iter().map(without_file).collect()
    });
    // A table of its own has what was in the log.
    let (of_log, of_tables): (Vec<_>, Vec<_>) =
        restored.into_iter().partition(|row| row["key"] == "in the log");
    assert!(data == of_tables && data.len() > 1000 && of_log.len() == 3);
}

#[test]
fn what_can_not_be_copied_is_told() {
    let dir = database();
    let work = tempfile::tempdir().unwrap();
    let backup = work.path().join("backup");
    let (data, backup) = (text(dir.path()), text(&backup));
    let no = work.path().join("no");
    let ended = kvtool(&["backup", text(&no), backup]);
    assert!(ended.code == 1 && !Path::new(backup).exists(), "{}", ended.stderr);
    let ended = kvtool(&["backup", data, backup, "-o", "table"]);
    assert!(ended.code == 0 && ended.stdout.contains("sequence number"), "{}", ended.stdout);

    let ended = kvtool(&["restore", backup, data]);
    assert!(ended.code == 2 && ended.stderr.contains("expected an empty directory"));
    let table = &files(dir.path(), ".sst")[0];
    let mut bytes = fs::read(table).unwrap();
    bytes[100] ^= 1;
    fs::write(table, bytes).unwrap();
    let ended = kvtool(&["backup", data, backup]);
    assert!(ended.code == 4 && ended.stderr.contains(text(table)), "{}", ended.stderr);

    let open = Db::open(backup, Options::default()).unwrap();
    assert_eq!(kvtool(&["backup", data, backup]).code, 5);
    drop(open);
    let ended = kvtool(&["backup", data, backup]);
    assert!(ended.code == 2 && ended.stderr.contains("was opened"), "{}", ended.stderr);
}

/// Connections write all the while: what is restored has what each was told before the backup began,
/// and of each a prefix.
#[test]
fn a_running_server_is_backed_up() {
    const WRITERS: usize = 4;
    const BACKUPS: usize = 3;
    let dir = tempfile::tempdir().unwrap();
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    let server = Server::start(&data, &["--memtable-size", "16KiB"]);
    let acknowledged: [AtomicI64; WRITERS] = Default::default();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for (writer, acknowledged) in acknowledged.iter().enumerate() {
            let (mut client, done) = (server.connect(), &done);
            scope.spawn(move || {
                let key = format!("writer/{writer}");
                for ts in 1.. {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    let answer = client.put(&key, ts, &format!("[{ts}]")).unwrap();
                    if answer.status == 200 {
                        acknowledged.store(ts, Ordering::Release);
                    }
                }
            });
        }
        for number in 0..BACKUPS {
            let wanted = 100 * (number as i64 + 1);
            while acknowledged.iter().any(|writes| writes.load(Ordering::Acquire) < wanted) {
                thread::sleep(std::time::Duration::from_millis(2));
            }
            let least: Vec<i64> = acknowledged.iter().map(|n| n.load(Ordering::Acquire)).collect();
            let copy = copied(&["backup", text(&data), text(&backup)]);
            let restored = dir.path().join(format!("restored-{number}"));
            let made = copied(&["restore", text(&backup), text(&restored)]);
            assert_eq!(made["seq"], copy["seq"]);
            let restored = Server::start(&restored, &[]);
            let mut client = restored.connect();
            for (writer, least) in least.into_iter().enumerate() {
                let key = format!("writer/{writer}");
                let newest = client.floor(&key, i64::MAX);
                let newest: i64 = newest.trim_matches(['[', ']']).parse().unwrap();
                assert!(newest >= least, "{key}: {newest} of {least} acknowledged");
                for ts in 1..=newest {
                    assert_eq!(client.floor(&key, ts), format!("[{ts}]"));
                }
            }
            assert_eq!(restored.stop().code, Some(0));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(server.stop().code, Some(0));
}
