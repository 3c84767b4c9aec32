//! Retention: the horizon follows the clock.
//!
//! A horizon never goes back, so a clock that is set far ahead takes what was to be kept. It is the
//! operator who lets the clock decide: without `--retention` nothing here runs.

use std::time::Duration;

use kvtimedb_engine::{Db, Error, Timestamp};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::api::moment::TsUnit;
use crate::complain;

/// The horizon lags by one in so many parts of the time that is kept, between these bounds: each move is a
/// sync of the manifest, for which writers wait.
const LAG_PARTS: u32 = 1000;
const LAG_MIN: Duration = Duration::from_secs(1);
const LAG_MAX: Duration = Duration::from_mins(1);

/// Moves the horizon to `kept` before now, again and again; returns when the database is closed.
pub(crate) async fn follow_clock(db: Db, unit: TsUnit, kept: Duration) {
    let lag = (kept / LAG_PARTS).clamp(LAG_MIN, LAG_MAX);
    let mut last_error = String::new();
    loop {
        let (moved, horizon) = (db.clone(), horizon(unit.now(), unit, kept));
        match spawn_blocking(move || moved.set_horizon(horizon)).await {
            Ok(Err(Error::Closed)) | Err(_) => return,
            Ok(Ok(())) => last_error.clear(),
            Ok(Err(error)) => {
                let text = error.to_string();
                if text != last_error {
                    complain(&format!("the retention horizon could not be moved: {text}"));
                    last_error = text;
                }
            }
        }
        sleep(lag).await;
    }
}

fn horizon(now: Timestamp, unit: TsUnit, kept: Duration) -> Timestamp {
    now.saturating_sub_unsigned(unit.count(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_horizon_is_counted_in_the_unit_of_the_database() {
        let day = Duration::from_hours(24);
        assert_eq!(horizon(100_000, TsUnit::S, day), 13_600);
        assert_eq!(horizon(0, TsUnit::Us, day), -86_400_000_000);
        assert_eq!(horizon(Timestamp::MIN, TsUnit::Ns, day), Timestamp::MIN);
    }

    #[tokio::test]
    async fn it_is_moved_until_the_database_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), kvtimedb_engine::Options::default()).unwrap();
        let kept = Duration::from_hours(1);
        let task = tokio::spawn(follow_clock(db.clone(), TsUnit::S, kept));
        while db.horizon().is_none() {
            sleep(Duration::from_millis(5)).await;
        }
        let age = TsUnit::S.now() - db.horizon().unwrap();
        assert!((3600..3700).contains(&age), "{age} s");
        db.close().unwrap();
        task.await.unwrap();
    }
}
