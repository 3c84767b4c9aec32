//! Whether a database answers as it should: no figure of one that doesn't means anything.

use std::fmt::Debug;

use kvtimedb_engine::Timestamp;

use crate::data::{Data, EPOCH_US};
use crate::peers::Reader;
use crate::{Result, Rng};

/// How many floors are compared, of each sort.
const FLOORS: u64 = 2_000;

/// How many histories are compared.
const HISTORIES: u64 = 50;

type Version = (Timestamp, Vec<u8>);

/// Compares a sample of answers with what `data` holds; the error names the first that differs.
pub(super) fn check(data: &Data, reader: &mut dyn Reader) -> Result<()> {
    let mut rng = Rng::new(7);
    for i in 0..FLOORS {
        let point = data.points.get(rng.below(data.points.len() as u64) as usize);
        let key = data.any_key(&mut rng);
        let at = match i % 8 {
            0 => Timestamp::MAX,
            1 => EPOCH_US.min(point.ts) - 1,
            2 => point.ts,
            3 => point.ts - 1,
            _ => data.any_time(&mut rng),
        };
        let found = reader.floor(data.key(key), at)?;
        let expected = data.floor((key, at)).map(|point| (point.ts, point.value.to_vec()));
        same(&format!("floor of key {key} at {at}"), &found, &expected)?;
        // Exact, and of a key that surely has it.
        let found = reader.floor(point.key, point.ts)?;
        same("floor at a point", &found, &Some((point.ts, point.value.to_vec())))?;
        let missing = &data.missing()[rng.below(data.missing().len() as u64) as usize];
        same("floor of a missing key", &reader.floor(missing, at)?, &None)?;
    }
    for _ in 0..HISTORIES {
        let key = data.any_key(&mut rng);
        let history = data.model.history(key);
        let versions = history.iter().map(|i| data.points.get(*i as usize));
        let all: Vec<Version> = versions.map(|point| (point.ts, point.value.to_vec())).collect();
        let parts = [all.as_slice(), &all[all.len() / 3..all.len() - all.len() / 4]];
        for expected in parts.into_iter().filter(|part| !part.is_empty()) {
            let (from, to) = (expected[0].0, expected[expected.len() - 1].0);
            let mut found = Vec::new();
            reader.history(data.key(key), from, to, &mut |ts, value| {
                found.push((ts, value.to_vec()));
            })?;
            found.sort();
            same(&format!("history of key {key}"), found.as_slice(), expected)?;
        }
    }
    Ok(())
}

fn same<T: Debug + PartialEq + ?Sized>(what: &str, found: &T, expected: &T) -> Result<()> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: got {found:?}, expected {expected:?}").into())
    }
}
