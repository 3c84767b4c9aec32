//! Ours, as it is measured: the one place that knows how it is opened and asked for many versions.

use std::path::Path;

use kvtimedb_engine::{Db, Durability, Entry, Options, Timestamp};

use crate::Result;

/// What tables call it.
pub const NAME: &str = "KVTimeDB";

/// What the figures of floors one at a time are called beside those of [`asof`].
pub const ONE_AT_A_TIME: &str = "KVTimeDB, one floor at a time";

/// Opens it with these settings, otherwise with the defaults.
pub fn open(
    dir: &Path,
    durability: Durability,
    memtable_bytes_max: usize,
    cache_bytes_max: usize,
) -> Result<Db> {
    let options = Options { durability, memtable_bytes_max, cache_bytes_max, ..Options::default() };
    Ok(Db::open(dir, options)?)
}

/// Shows the versions of `key` from `from` to `to`, ascending.
pub fn history(
    db: &Db,
    key: &[u8],
    from: Timestamp,
    to: Timestamp,
    visit: &mut dyn FnMut(Timestamp, &[u8]),
) -> Result<()> {
    for entry in db.history(key, from, to)? {
        let entry = entry?;
        visit(entry.ts, &entry.value);
    }
    Ok(())
}

/// The floors of many lookups, in their order, by one call where there is such a call.
#[derive(Debug)]
pub struct AsOf(Vec<Option<Entry>>);

/// Asks for them.
pub fn asof(db: &Db, lookups: &[(&[u8], Timestamp)]) -> Result<AsOf> {
    let floors = lookups.iter().map(|(key, at)| db.floor(key, *at));
    Ok(AsOf(floors.collect::<std::result::Result<_, _>>()?))
}

impl AsOf {
    /// The `i`-th answer.
    pub fn get(&self, i: usize) -> Option<(Timestamp, &[u8])> {
        self.0[i].as_ref().map(|entry| (entry.ts, entry.value.as_slice()))
    }
}
