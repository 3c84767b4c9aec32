//! `SQLite` with the plain schema that such a service begins with.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kvtimedb_engine::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::{Kind, Peer, Reader, Result, Setup, Writes};
use crate::data::Part;

pub(super) const KIND: Kind = Kind {
    name: "SQLite",
    packages: &["rusqlite", "libsqlite3-sys"],
    settings: "kv(key TEXT, timestamp INTEGER, value TEXT, PRIMARY KEY(key, timestamp)); WAL; cache \
               512 MiB, mmap 1 GiB; synchronous OFF for buffered writes and FULL for durable ones; \
               statements prepared once; one connection behind a lock. Compacted by VACUUM. The held \
               view is one read transaction.",
    merges: false,
    kept_log: "",
    open,
};

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA cache_size = -524288;
    PRAGMA mmap_size = 1073741824;
    PRAGMA temp_store = MEMORY;
    CREATE TABLE IF NOT EXISTS kv (
        key TEXT, timestamp INTEGER, value TEXT, PRIMARY KEY (key, timestamp)
    );";
const PUT: &str = "INSERT OR REPLACE INTO kv (key, timestamp, value) VALUES (?1, ?2, ?3)";
const FLOOR: &str = "SELECT timestamp, value FROM kv WHERE key = ?1 AND timestamp <= ?2 \
                     ORDER BY timestamp DESC LIMIT 1";
const HISTORY: &str = "SELECT timestamp, value FROM kv WHERE key = ?1 AND timestamp BETWEEN ?2 AND ?3 \
                       ORDER BY timestamp";

fn open(dir: &Path, setup: Setup) -> Result<Box<dyn Peer>> {
    let connection = Connection::open(dir.join("points.sqlite"))?;
    connection.execute_batch(SCHEMA)?;
    connection.execute_batch(match setup.writes {
        Writes::Buffered => "PRAGMA synchronous = OFF",
        Writes::Durable => "PRAGMA synchronous = FULL",
    })?;
    Ok(Box::new(Sqlite(Mutex::new(connection))))
}

struct Sqlite(Mutex<Connection>);

impl Sqlite {
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer for Sqlite {
    fn write(&self, points: &Part<'_>) -> Result<()> {
        let mut connection = self.connection();
        let txn = connection.transaction()?;
        let mut put = txn.prepare_cached(PUT)?;
        for point in points.iter() {
            let (key, value) = (str::from_utf8(point.key)?, str::from_utf8(point.value)?);
            put.execute((key, point.ts, value))?;
        }
        drop(put);
        Ok(txn.commit()?)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(SqliteReader { connection: self.connection(), held: false }))
    }

    fn held_view(&self) -> Result<Option<Box<dyn Reader + '_>>> {
        let connection = self.connection();
        connection.execute_batch("BEGIN")?;
        Ok(Some(Box::new(SqliteReader { connection, held: true })))
    }

    fn compact(self: Box<Self>) -> Result<Box<dyn Peer>> {
        self.connection().execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")?;
        Ok(self)
    }

    fn close(self: Box<Self>) -> Result<()> {
        let connection = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        connection.close().map_err(|(_, error)| error.into())
    }
}

struct SqliteReader<'db> {
    connection: MutexGuard<'db, Connection>,
    held: bool,
}

impl Reader for SqliteReader<'_> {
    fn floor(&mut self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Vec<u8>)>> {
        let mut floor = self.connection.prepare_cached(FLOOR)?;
        let found = floor.query_row((str::from_utf8(key)?, at), |row| {
            Ok((row.get(0)?, row.get_ref(1)?.as_bytes()?.to_vec()))
        });
        Ok(found.optional()?)
    }

    fn history(
        &mut self,
        key: &[u8],
        from: Timestamp,
        to: Timestamp,
        visit: &mut dyn FnMut(Timestamp, &[u8]),
    ) -> Result<()> {
        let mut history = self.connection.prepare_cached(HISTORY)?;
        let mut rows = history.query((str::from_utf8(key)?, from, to))?;
        while let Some(row) = rows.next()? {
            visit(row.get(0)?, row.get_ref(1)?.as_bytes()?);
        }
        Ok(())
    }
}

impl Drop for SqliteReader<'_> {
    fn drop(&mut self) {
        if self.held {
            // It only read: there is nothing to lose.
            let _ = self.connection.execute_batch("COMMIT");
        }
    }
}
