//! What fuzzers found, and where they begin: see `engine/fuzz/README.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::batch::WriteBatch;
use crate::coding::put_zigzag;
use crate::fs::{Fs, SimFs};
use crate::iter::Record;
use crate::key::{DatabaseId, FileId, RunRank, Tag, Timestamp, ValueRef, ValueType};
use crate::options::Durability;
use crate::record::{LogKind, RecordType, RecordWriter};
use crate::table::fuzzing::{encode_records, seeds_of_table};
use crate::table::{TableBuilder, TableMeta};
use crate::version::VersionEdit;
use crate::wal::WalWriter;

type Records = BTreeMap<(Vec<u8>, Timestamp), (Tag, Vec<u8>)>;

fn corpus(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(target)
}

/// The files of a directory; none where there is no such directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = crate::fs::RealFs.list(dir).unwrap_or_default();
    entries.iter().map(|name| dir.join(name)).collect()
}

fn read(path: &Path) -> Vec<u8> {
    let file = crate::fs::RealFs.open(path).unwrap();
    crate::fs::read_all(&*file, 1 << 20).unwrap()
}

/// Every input that is committed goes through its entry.
#[test]
fn what_fuzzers_found_is_read() {
    for (name, target) in TARGETS {
        let corpus = files(&corpus("corpus", name));
        assert!(!corpus.is_empty(), "{name} has no corpus");
        for path in corpus.iter().chain(&files(&self::corpus("regressions", name))) {
            println!("{}", path.display());
            target(&read(path));
        }
    }
}

/// No corpus is left behind when a target goes or gets another name.
#[test]
fn every_corpus_has_its_target() {
    for kind in ["corpus", "regressions"] {
        for dir in files(corpus(kind, "").as_path()) {
            let name = dir.file_name().unwrap().to_str().unwrap();
            let is_target = TARGETS.iter().any(|(target, _)| *target == name);
            // The server's, which its own tests replay.
            assert!(is_target || name == "request", "{}", dir.display());
        }
    }
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..len).map(next).collect()
}

/// Small sets of records, of each shape that a table knows how to store.
fn record_sets() -> Vec<Records> {
    let json = |text: String| (Tag::put(ValueType::Json), text.into_bytes());
    let at = |i: i64| 1_700_000_000_000 + i * 1000 + i * 7919 % 13;
    let dense = |value: &dyn Fn(i64) -> (Tag, Vec<u8>), rows: i64| -> Records {
        (0..rows).map(|i| ((b"sensor/7".to_vec(), at(i)), value(i))).collect()
    };
    let words = ["ok", "degraded", "lost"];
    vec![
        dense(
            &|i| {
                json(format!(
                    r#"{{"temp":{}.{:02},"status":"{}"}}"#,
                    20 + i % 5,
                    i % 100,
                    words[i as usize % 3]
                ))
            },
            24,
        ),
        dense(
            &|i| {
                json(if i % 5 == 3 {
                    format!(r#"{{"error":{i}}}"#)
                } else {
                    format!("[{i},{}]", i * i)
                })
            },
            24,
        ),
        dense(&|i| json(format!("\"host-{:x}q.example\"", i * 7919)), 20),
        dense(
            &|i| json(if i % 4 == 0 { "null".to_owned() } else { format!("{:06}.{}", i, i % 10) }),
            20,
        ),
        dense(&|i| (Tag::put(ValueType::Octets), noise(i as u64, 24)), 20),
        dense(&|i| (Tag::put(ValueType::Octets), b"all is quiet, ".repeat(1 + i as usize)), 18),
        dense(&|_| (Tag::put(ValueType::Octets), Vec::new()), 2),
        (0..40).map(|i| ((format!("k/{i:03}").into_bytes(), i * i), json(i.to_string()))).collect(),
        // Keys of few versions, with tombstones, the ends of time, and late data.
        (0..120)
            .map(|i| {
                let key = format!("late/{:02}", i % 30).into_bytes();
                let ts = if i == 7 { i } else { 1_000_000 + i };
                let record = match i % 11 {
                    3 => (Tag::END, Vec::new()),
                    5 => (Tag::ERASE, Vec::new()),
                    _ => json(format!("{{\"n\":{i}}}")),
                };
                ((key, ts), record)
            })
            .chain([
                ((Vec::new(), i64::MIN), json("1".to_owned())),
                ((vec![0xff; 3], i64::MAX), json("2".to_owned())),
            ])
            .collect(),
        // Several blocks.
        (0..900)
            .map(|i| {
                let key = format!("b/{:02}", i / 300).into_bytes();
                ((key, at(i)), (Tag::put(ValueType::Octets), noise(i as u64, 20)))
            })
            .collect(),
    ]
}

fn build(id: u64, records: &Records) -> (Vec<u8>, TableMeta) {
    let (fs, id) = (SimFs::new(0), FileId(id));
    let mut builder = TableBuilder::create(&fs, Path::new(""), DatabaseId(7), id).unwrap();
    for ((key, ts), (tag, value)) in records {
        builder.add(&Record { key, ts: *ts, tag: *tag, value }).unwrap();
    }
    let meta = builder.finish(RunRank(3), (1, records.len() as u64)).unwrap();
    (fs.read_file(id.table_path(Path::new(""))).unwrap(), meta)
}

/// The operations that would write these records.
fn batch(records: &Records) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for ((key, ts), (tag, value)) in records.iter().take(40) {
        match *tag {
            Tag::END => batch.end(key, *ts),
            Tag::ERASE => batch.erase(key, *ts),
            tag => batch.put(key, *ts, ValueRef { value_type: tag.value_type(), bytes: value }),
        }
        .unwrap();
    }
    batch
}

/// All seeds: names of targets and inputs.
fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut edits = Vec::new();
    for (i, records) in record_sets().iter().enumerate() {
        let (file, meta) = build(i as u64 + 3, records);
        seeds.extend(seeds_of_table(&file));
        let of_records = records.iter().map(|((key, ts), (tag, value))| Record {
            key,
            ts: *ts,
            tag: *tag,
            value,
        });
        seeds.push(("records", encode_records(of_records.take(400))));
        seeds.push(("batch", batch(records).encoded().to_vec()));
        let mut column = vec![0];
        let mut last = 0;
        for (_, ts) in records.keys().take(60) {
            put_zigzag(&mut column, ts.wrapping_sub(last));
            last = *ts;
        }
        seeds.push(("column", column));
        let (mut lines, mut stored) = (vec![0], vec![1, 20, 0]);
        for (_, value) in records.values().take(40) {
            lines.extend_from_slice(value);
            lines.push(b'\n');
        }
        seeds.push(("template", lines));
        let times: Vec<i64> = records.keys().take(21).map(|(_, ts)| *ts).collect();
        crate::codec::ints::encode(&mut stored, &times);
        seeds.push(("column", stored));
        seeds.push(("filter", [vec![0], noise(i as u64, 2 * i)].concat()));
        let mut properties = Vec::new();
        meta.properties.encode(&mut properties);
        seeds.push(("properties", properties));
        let edit = VersionEdit {
            next_file: FileId(300),
            flushed_seq: 400,
            oldest_wal: FileId(8),
            horizon: i as i64 - 3,
            removed: edits
                .iter()
                .map(|edit: &VersionEdit| edit.added[0].id)
                .rev()
                .take(1)
                .collect(),
            added: vec![meta],
        };
        seeds.push(("edit", edit.encode()));
        edits.push(edit);
    }
    seeds.push(("current", b"\x00MANIFEST-000001 0123456789abcdef".to_vec()));
    seeds.push(("current", b"\x01MANIFEST-000001 0123456789abcdef 00000000\n".to_vec()));
    seeds.extend(logs(&edits));
    seeds
}

/// A segment and a manifest, with records that are sound, broken, and cut short.
fn logs(edits: &[VersionEdit]) -> Vec<(&'static str, Vec<u8>)> {
    let fs = SimFs::new(0);
    let files: Arc<dyn Fs> = Arc::new(fs.clone());
    let (dir, database, id) = (Path::new(""), DatabaseId(7), FileId(5));
    let mut wal = WalWriter::create(&files, dir, database, id, Durability::Buffered).unwrap();
    let mut seq = 1;
    for records in &record_sets()[5..9] {
        let batch = batch(records);
        let encoded = [batch.encoded()];
        wal.append_group(seq, batch.len(), encoded.into_iter()).unwrap();
        wal.sync().unwrap();
        seq += batch.len() as u64;
    }
    let unsealed = fs.read_file(id.wal_path(dir)).unwrap();
    wal.seal(seq - 1, Some(FileId(6))).unwrap();
    let sealed = fs.read_file(id.wal_path(dir)).unwrap();
    let path = id.manifest_path(dir);
    let mut manifest =
        RecordWriter::create(&files, &path, LogKind::Manifest, database, id, false).unwrap();
    for edit in edits {
        manifest.append(RecordType::Edit, &[&edit.encode()]).unwrap();
    }
    let manifest = fs.read_file(path).unwrap();
    let cut = &sealed[..sealed.len() - 30];
    let zeros = [&unsealed[..], &[0; 64]].concat();
    let mut seeds = Vec::new();
    for head in [[0, 0], [9, 99], [9, 2], [2, 99]] {
        for file in [&sealed[..], cut, &zeros] {
            seeds.push(("wal", [&head[..], file].concat()));
        }
        seeds.push(("manifest", [&head[..], &manifest].concat()));
    }
    seeds
}

/// Where fuzzers begin. Each is read, and `KVTIMEDB_WRITE_SEEDS=dir cargo test -p kvtimedb-engine seeds`
/// writes them: a directory for each target.
#[test]
fn seeds_are_read() {
    let out = std::env::var_os("KVTIMEDB_WRITE_SEEDS").map(PathBuf::from);
    for (number, (name, data)) in seeds().into_iter().enumerate() {
        run(name, &data);
        if let Some(out) = &out {
            let dir = out.join(name);
            crate::fs::RealFs.create_dir_all(&dir).unwrap();
            let path = dir.join(format!("seed-{number:03}"));
            let file = crate::fs::RealFs.create(&path).unwrap();
            file.write_at(0, &data).unwrap();
        }
    }
}
