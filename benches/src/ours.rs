//! Ours, as it is measured: the one place that knows how it is opened and asked for many versions.

use std::path::Path;

use kvtimedb_engine::{AsOf, Db, Durability, Options, Order, Timestamp};

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
    let mut history = db.history(key, from, to, Order::Ascending)?;
    while let Some(entry) = history.next()? {
        visit(entry.ts, entry.value);
    }
    Ok(())
}

/// The floors of many lookups, in their order.
pub fn asof(db: &Db, lookups: &[(&[u8], Timestamp)]) -> Result<AsOf> {
    Ok(db.asof(lookups)?)
}
