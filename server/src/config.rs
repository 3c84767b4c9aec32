//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use kvtimedb_engine::{Durability, Options};

use crate::api::moment::TsUnit;
use crate::error::Result;

/// A time-versioned key-value database: ask for a key at a moment, get the newest value written at
/// or before it.
#[derive(Clone, Debug, Parser)]
#[command(name = "kvtimedb", version, after_help = AFTER_HELP)]
pub struct Config {
    /// Where the data is; made if it isn't there. One process at a time
    #[arg(long, env = "KVTIMEDB_DATA_DIR", value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,

    /// Address and port to serve HTTP on; port 0 takes a free one. There is no authentication, so
    /// beware of addresses that others can reach
    #[arg(long, env = "KVTIMEDB_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: String,

    /// When a write is acknowledged
    #[arg(long, env = "KVTIMEDB_DURABILITY", value_name = "MODE", default_value = "sync")]
    pub durability: DurabilityMode,

    /// Writes held in memory before they go to a sorted file, as 4194304, 4096KiB or 4MiB; from
    /// 16KiB to 1GiB
    #[arg(
        long,
        env = "KVTIMEDB_MEMTABLE_SIZE",
        value_name = "SIZE",
        default_value = "64MiB",
        value_parser = parse_bytes
    )]
    pub memtable_size: usize,

    /// Memory for decompressed values; 0 for none
    #[arg(
        long,
        env = "KVTIMEDB_CACHE_SIZE",
        value_name = "SIZE",
        default_value = "64MiB",
        value_parser = parse_bytes
    )]
    pub cache_size: usize,

    /// How much of the log is kept for watchers that resume, on disk; 0 for no more than a restart needs
    #[arg(
        long,
        env = "KVTIMEDB_FEED_SIZE",
        value_name = "SIZE",
        default_value = "256MiB",
        value_parser = parse_bytes
    )]
    pub feed_size: usize,

    /// The unit of timestamps, where a client writes or reads them as dates. It changes nothing that is
    /// stored
    #[arg(long, env = "KVTIMEDB_TS_UNIT", value_name = "UNIT", default_value = "us")]
    pub ts_unit: TsUnit,

    /// Where `POST /v1/admin/backup` may make backups, each in a directory below; without it, nowhere
    #[arg(long, env = "KVTIMEDB_BACKUP_DIR", value_name = "DIR")]
    pub backup_dir: Option<PathBuf>,

    /// Give up what is older than this, as 12h or 30d, and its space. Of each key the newest version that
    /// is as old stays. The clock and the unit of timestamps decide, and what is given up does not come
    /// back; without it everything is kept
    #[arg(
        long,
        env = "KVTIMEDB_RETENTION",
        value_name = "DURATION",
        value_parser = parse_retention
    )]
    pub retention: Option<Duration>,
}

const AFTER_HELP: &str = "\
Try it:
  curl -X PUT localhost:8080 -d '{\"key\": \"user0\", \"value\": \"John Doe\", \"timestamp\": 100}'
  curl 'localhost:8080/?key=user0&timestamp=150'
or open http://localhost:8080/ui in a browser.

SIGTERM or ctrl-c finishes the requests under way, flushes and exits.
Exit codes: 0 stopped, 1 failed, 2 usage, 4 data corrupt, 5 data directory in use, 130 stopped by a
second signal.";

/// `--durability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DurabilityMode {
    /// Acknowledged means on disk: it survives a power loss
    Sync,
    /// Acknowledged means handed to the operating system: faster, survives a crash of the process,
    /// but a power loss may take the last second
    Buffered,
}

impl Config {
    /// Refuses options that don't go together.
    pub(crate) fn check(&self) -> Result<()> {
        let (unit, kept) = (self.ts_unit, self.retention.unwrap_or_default());
        if kept.as_nanos().is_multiple_of(unit.nanos().unsigned_abs()) {
            return Ok(());
        }
        let text = format!(
            "--retention {kept:?} is not a whole number of the unit of timestamps, --ts-unit {unit}"
        );
        Err(kvtimedb_engine::Error::InvalidArgument(text).into())
    }

    /// What the engine is to be opened with.
    pub(crate) fn options(&self) -> Options {
        Options {
            durability: match self.durability {
                DurabilityMode::Sync => Durability::Sync,
                DurabilityMode::Buffered => Durability::Buffered,
            },
            memtable_bytes_max: self.memtable_size,
            cache_bytes_max: self.cache_size,
            feed_bytes_max: self.feed_size as u64,
            ..Options::default()
        }
    }
}

/// `250ms`, `10s`, `5m`, `1h`, `7d`.
fn parse_retention(text: &str) -> Result<Duration, String> {
    let wrong =
        || "a duration is a number with ms, s, m, h or d, such as 30d, and above 0".to_owned();
    if text.ends_with(|c: char| c.is_ascii_digit()) {
        return Err(wrong());
    }
    let nanos = TsUnit::Ns.parse_duration(text).map_err(|_| wrong())?;
    (nanos > 0).then(|| Duration::from_nanos(nanos)).ok_or_else(wrong)
}

/// `1024`, `1024B`, `64KiB`, `64MiB`, `1GiB`.
fn parse_bytes(text: &str) -> Result<usize, String> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "kib" => 10,
        "mib" => 20,
        "gib" => 30,
        _ => return Err("a size is a number of bytes, or one with KiB, MiB or GiB".to_owned()),
    };
    let number: usize = digits.parse().map_err(|_| "a size begins with a number".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "that is more than memory can be".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_has_its_defaults() {
        Config::command().debug_assert();
        let config = Config::parse_from(["kvtimedb"]);
        assert_eq!(config.listen, "127.0.0.1:8080");
        assert_eq!(config.durability, DurabilityMode::Sync);
        assert_eq!(config.ts_unit, TsUnit::Us);
        assert_eq!(config.options().memtable_bytes_max, 64 << 20);
        assert_eq!(config.options().durability, Durability::Sync);
    }

    #[test]
    fn what_is_kept_has_a_unit_and_everything_is_kept_unless_told() {
        assert_eq!(Config::parse_from(["kvtimedb"]).retention, None);
        let config = Config::parse_from(["kvtimedb", "--retention", "30d"]);
        assert_eq!(config.retention, Some(Duration::from_hours(720)));
        for text in ["", "30", "0d", "-1d", "1.5h", "d", "30 d", "30w", "999999999d"] {
            assert!(parse_retention(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_kept_is_a_whole_number_of_units() {
        for (retention, unit, is_fine) in [
            ("500ms", "s", false),
            ("1500ms", "s", false),
            ("999us", "ms", false),
            ("999ns", "us", false),
            ("1s", "s", true),
            ("1ms", "us", true),
            ("1ns", "ns", true),
        ] {
            let args = ["kvtimedb", "--retention", retention, "--ts-unit", unit];
            let checked = Config::parse_from(args).check();
            assert_eq!(checked.is_ok(), is_fine, "{retention} {unit}");
            if let Err(error) = checked {
                let text = error.to_string();
                assert!(text.contains("--retention") && text.contains("--ts-unit"), "{text}");
                assert_eq!(error.exit_code(), 2);
            }
        }
        Config::parse_from(["kvtimedb"]).check().unwrap();
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("17B", 17),
            ("16KiB", 16384),
            ("2mib", 2 << 20),
            ("1 GiB", 1 << 30),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5MiB", "1MB", "99999999999999999999", "17179869184GiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
