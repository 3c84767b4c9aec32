use crate::fs::SimFs;
use crate::{Background, Db, Options, ValueRef, WriteBatch};
use std::sync::Arc;
#[test]
fn smoke() {
    for background in [Background::Inline, Background::Threads] {
        let fs = SimFs::new(1);
        let options = Options {
            fs: Arc::new(fs.clone()),
            memtable_bytes_max: 32 << 10,
            background,
            ..Options::default()
        };
        let db = Db::open("/db", options.clone()).unwrap();
        for i in 0..5000_i64 {
            let key = format!("key{:03}", i % 50);
            db.put(
                key.as_bytes(),
                (i * 7919) % 1000,
                ValueRef::json(format!("{{\"i\":{i}}}").as_bytes()),
            )
            .unwrap();
        }
        let check = |db: &Db| {
            for k in 0..50_i64 {
                let key = format!("key{k:03}");
                for at in [-1, 0, 1, 500, 999, 5000] {
                    let best = (0..5000_i64)
                        .filter(|i| i % 50 == k && (i * 7919) % 1000 <= at)
                        .max_by_key(|i| ((i * 7919) % 1000, *i));
                    let got = db.floor(key.as_bytes(), at).unwrap();
                    assert_eq!(
                        got.map(|e| e.value),
                        best.map(|i| format!("{{\"i\":{i}}}").into_bytes())
                    );
                }
                let h: Vec<_> = db
                    .history(key.as_bytes(), i64::MIN, i64::MAX)
                    .unwrap()
                    .map(|e| e.unwrap().ts)
                    .collect();
                assert!(h.is_sorted_by(|a, b| a < b));
                assert_eq!(h.len(), 20);
            }
        };
        check(&db);
        db.flush().unwrap();
        check(&db);
        db.compact().unwrap();
        check(&db);
        println!("{:?}", db.metrics().all().collect::<Vec<_>>());
        db.close().unwrap();
        drop(db);
        let db = Db::open("/db", options.clone()).unwrap();
        check(&db);
        db.put(b"key000", 5, b"x").unwrap();
        drop(db);
        let db = Db::open("/db", options.clone()).unwrap();
        assert_eq!(db.exact(b"key000", 5).unwrap().unwrap().value, b"x");
        println!("{:?}", fs.file_names());
    }
}
