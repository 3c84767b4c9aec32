//! The HTTP front end of the database: a library, so that a server can also run inside another process.
//!
//! A request goes `serve` (our accept loop and its time limits) → `routes` (which path, which
//! method) → `handlers` (one function an endpoint) → the engine. What goes wrong on the way is one
//! [`Error`], and `reject` alone decides which status it gets. What the endpoints have in common is in
//! `api`; `compat` is what `/` alone does, for the clients of the original service.

mod api;
mod body;
mod compat;
mod config;
mod error;
mod formats;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod handlers;
mod jobs;
mod limits;
mod metrics;
mod query;
mod reject;
mod request;
mod retention;
mod routes;
mod serve;
mod shutdown;
mod socket;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use kvtimedb_engine::{Db, Durability, WAL_SYNC_PERIOD_MS};
use rustix::process::{Resource, getrlimit, setrlimit};

pub use api::moment::TsUnit;
pub use config::Config;
pub use error::{Error, Flaw, Result};
pub use serve::Server;

/// How long reads whose clients are gone may go on once the database is closed. They read snapshots, which the
/// close does not end.
const READS_END: Duration = Duration::from_secs(2);

/// Opens the database, serves it until SIGTERM or SIGINT, and closes it. A second signal ends the
/// process at once, with exit code 130.
pub fn run(config: &Config) -> Result<()> {
    raise_file_limit();
    config.check()?;
    // Alive until the end of this function: it listens for the second signal while we flush.
    let runtime = tokio::runtime::Runtime::new().map_err(Error::Runtime)?;
    runtime.block_on(async { shutdown::survive_file_size_limit() }).map_err(Error::Runtime)?;
    let db = Db::open(&config.data_dir, config.options())?;
    runtime.block_on(async {
        let Config { listen, ts_unit, backup_dir, .. } = config;
        let server = Server::bind(db.clone(), listen, *ts_unit, backup_dir.clone()).await?;
        let stop = shutdown::first_signal().map_err(Error::Runtime)?;
        announce(&server, &config.data_dir, db.durability());
        if let Some(kept) = config.retention {
            tokio::spawn(retention::follow_clock(db.clone(), config.ts_unit, kept));
        }
        server.serve(stop).await;
        Ok::<_, Error>(())
    })?;
    let stopped = stop(&db);
    runtime.shutdown_timeout(READS_END);
    stopped
}

fn stop(db: &Db) -> Result<()> {
    let flushed = db.flush();
    db.close()?;
    flushed?;
    say("kvtimedb stopped: everything acknowledged is on disk");
    Ok(())
}

fn announce(server: &Server, data_dir: &Path, durability: Durability) {
    let address = server.local_addr();
    let data_dir = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned());
    let promise = match durability {
        Durability::Sync => "sync (acknowledged = on disk)".to_owned(),
        Durability::Buffered => {
            format!("buffered (a power loss may take the last {WAL_SYNC_PERIOD_MS} ms)")
        }
    };
    say(&format!(
        "kvtimedb {} listening on http://{address}, data in {}, durability {promise}",
        env!("CARGO_PKG_VERSION"),
        data_dir.display(),
    ));
    if !address.ip().is_loopback() {
        complain(&format!(
            "warning: {address} is open to the network, and there is no authentication"
        ));
    }
}

/// Lets the process have as many files open as it may ask for: connections and tables share them.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // With fewer files the server still works, for fewer clients.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// A line on stdout. A closed stdout must not stop a server, so failure is ignored.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line on stderr for the operator. A closed stderr must not stop a server either.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "kvtimedb: {line}");
}
