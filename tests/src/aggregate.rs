//! Aggregates against the plainest way to reckon them: a floor at each single timestamp.

use fastrand::Rng;
use kvtimedb_engine::fs::SimFs;
use kvtimedb_engine::{Db, Entry, Error, Timestamp, ValueRef, Window, WriteBatch};

use crate::oracle::{DIR, Op, Oracle, batch, options};

const KEY: &[u8] = b"sensor/7";

fn value(entry: &Entry) -> f64 {
    str::from_utf8(&entry.value).unwrap().parse().unwrap()
}

fn windows(db: &Db, from: Timestamp, to: Timestamp, every: u64) -> Vec<Window> {
    let mut aggregate = db.snapshot().unwrap().aggregate(KEY, from, to, every).unwrap();
    std::iter::from_fn(|| aggregate.next().unwrap()).collect()
}

fn is_near(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0),
        (a, b) => a == b,
    }
}

fn assert_right(window: &Window, oracle: &Oracle) {
    let values: Vec<f64> = oracle.history(KEY, window.from, window.to).iter().map(value).collect();
    assert_eq!(window.count, values.len() as u64, "{window:?}");
    assert!(is_near(Some(window.sum), Some(values.iter().sum())), "{window:?}");
    assert_eq!(window.last, values.last().copied(), "{window:?}");
    assert_eq!(window.min, values.iter().copied().reduce(f64::min), "{window:?}");
    assert_eq!(window.max, values.iter().copied().reduce(f64::max), "{window:?}");
    let in_force: Vec<f64> =
        (window.from..=window.to).filter_map(|at| Some(value(&oracle.floor(KEY, at)?))).collect();
    let average = in_force.iter().sum::<f64>() / in_force.len() as f64;
    assert!(is_near(window.twa, (!in_force.is_empty()).then_some(average)), "{window:?} {average}");
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    assert!(is_near(window.mean(), (!values.is_empty()).then_some(mean)), "{window:?}");
}

#[test]
fn windows_hold_what_floors_at_each_timestamp_come_to() {
    for seed in 0..40 {
        let mut rng = Rng::with_seed(seed);
        let db = Db::open(DIR, options(&SimFs::new(seed))).unwrap();
        let mut oracle = Oracle::default();
        for _ in 0..rng.usize(0..60) {
            let ts = rng.i64(-50..150);
            let op = match rng.u8(..10) {
                0 => Op::end(KEY, ts),
                1 => Op::erase(KEY, ts),
                _ => Op::json(KEY, ts, format!("{}.{}", rng.i32(-99..99), rng.u8(..10))),
            };
            db.write(batch(std::slice::from_ref(&op))).unwrap();
            oracle.apply(&[op]);
            if rng.u8(..10) == 0 {
                db.flush().unwrap();
            }
        }
        let (from, every) = (rng.i64(-60..100), rng.u64(1..70));
        let to = from + rng.i64(0..120);
        let windows = windows(&db, from, to, every);
        assert_eq!(windows.len() as u64, (to - from) as u64 / every + 1);
        let mut next = from;
        for window in &windows {
            assert_eq!(window.from, next, "seed {seed}");
            assert_eq!(window.to, to.min(next + every as i64 - 1), "seed {seed}");
            assert_right(window, &oracle);
            next = window.to + 1;
        }
    }
}

#[test]
fn windows_reach_the_ends_of_time() {
    let db = Db::open(DIR, options(&SimFs::new(0))).unwrap();
    db.put(KEY, Timestamp::MIN, ValueRef::json(b"1e300")).unwrap();
    db.put(KEY, Timestamp::MAX, ValueRef::json(b"-3")).unwrap();
    let all = windows(&db, Timestamp::MIN, Timestamp::MAX, u64::MAX);
    assert_eq!(all.len(), 2);
    assert_eq!((all[0].twa, all[0].count, all[0].to), (Some(1e300), 1, Timestamp::MAX - 1));
    assert_eq!((all[1].twa, all[1].last, all[1].to), (Some(-3.0), Some(-3.0), Timestamp::MAX));
    assert_eq!(windows(&db, 5, 4, 1), []);
}

#[test]
fn what_is_not_a_number_is_told_with_its_timestamp() {
    let not_numbers: [ValueRef<'_>; 6] = [
        ValueRef::json(b"\"21.5\""),
        ValueRef::json(b"null"),
        ValueRef::json(b"true"),
        ValueRef::json(b"{\"t\":1}"),
        ValueRef::json(b"1e999"),
        ValueRef::octets(b"21.5"),
    ];
    for value in not_numbers {
        let db = Db::open(DIR, options(&SimFs::new(0))).unwrap();
        let mut batch = WriteBatch::new();
        batch.put(KEY, 100, ValueRef::json(b"1")).unwrap();
        batch.put(KEY, 150, value).unwrap();
        db.write(batch).unwrap();
        let snapshot = db.snapshot().unwrap();
        let in_the_second = |aggregate: kvtimedb_engine::Result<_>| {
            let mut aggregate: kvtimedb_engine::Aggregate = aggregate?;
            while aggregate.next()?.is_some() {}
            Ok(())
        };
        for from in [100, 160] {
            let told: kvtimedb_engine::Result<()> =
                in_the_second(snapshot.aggregate(KEY, from, 199, 50));
            assert!(matches!(told, Err(Error::NotNumeric { ts: 150 })), "{value:?}: {told:?}");
        }
        assert_eq!(windows(&db, 100, 149, 50).len(), 1, "what is not asked about does no harm");
    }
    let db = Db::open(DIR, options(&SimFs::new(0))).unwrap();
    let none = db.snapshot().unwrap().aggregate(KEY, 0, 10, 0).unwrap_err();
    assert!(none.to_string().contains("every is at least 1"), "{none}");
}
