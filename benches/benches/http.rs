//! Speed through HTTP: `cargo bench -p kvtimedb-benches --bench http -- --server FILE [--redis FILE]
//! [--python FILE] [--only singles|bulk] [--rounds N] [--out FILE] [--dir DIR] [--quick]`.
//!
//! `benches/http-report.sh` builds the server, installs Redis and the original's packages, and runs it.

use std::time::Duration;

use kvtimedb_benches::arguments::Arguments;
use kvtimedb_benches::figures::{Recorder, Who};
use kvtimedb_benches::http::servers::Programs;
use kvtimedb_benches::http::{bulk, measures, noop, singles};
use kvtimedb_benches::machine::{machine, said, version_of};
use kvtimedb_benches::{Result, ours};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("--noop") {
        return noop::serve(arguments.next().ok_or("--noop: a port is missing")?.parse()?);
    }
    let arguments = Arguments::parse(&[
        "--server", "--redis", "--python", "--only", "--rounds", "--out", "--dir",
    ])?;
    let programs = Programs {
        kvtimedb: arguments.path("--server").ok_or("--server: where is it?")?,
        redis: arguments.path("--redis"),
        python: arguments.path("--python"),
    };
    let quick = arguments.quick;
    let rounds = arguments.number("--rounds")?;
    let only = arguments.text("--only");
    let dir = tempfile::tempdir_in(arguments.dir())?;
    let mut recorder = Recorder::new(arguments.path("--out").as_deref())?;
    recorder.run("http", &machine())?;
    for who in who(&programs) {
        recorder.who(&who)?;
    }
    if only.is_none_or(|only| only == "singles") {
        let millis = |full, short| Duration::from_millis(if quick { short } else { full });
        let effort = singles::Effort {
            rounds: rounds.unwrap_or(if quick { 1 } else { 5 }),
            duration: millis(1_000, 200),
            warmup: millis(200, 50),
        };
        singles::run(&programs, dir.path(), effort, &mut recorder)?;
    }
    if only.is_none_or(|only| only == "bulk") {
        let effort = bulk::Effort {
            rounds: rounds.unwrap_or(if quick { 1 } else { 3 }),
            points: if quick { 20_000 } else { 1_000_000 },
            probes: if quick { 20_000 } else { 1_000_000 },
        };
        bulk::run(&programs, dir.path(), effort, &mut recorder)?;
    }
    Ok(())
}

fn who(programs: &Programs) -> Vec<Who> {
    let who = |name: &str, versions: String, settings: &str| Who {
        name: name.to_owned(),
        versions,
        settings: settings.to_owned(),
    };
    let packages =
        ["warp", "hyper", "tokio"].map(|package| format!("{package} {}", version_of(package)));
    let mut all = vec![
        who(
            measures::NOOP,
            packages.join(", "),
            "answers GET with a constant of 91 bytes and PUT with nothing, once the body is read",
        ),
        who(
            ours::NAME,
            format!("kvtimedb-server {}", version_of("kvtimedb-server")),
            "`/`, and beside it `/v1/kv`; GETs from tables; buffered and durable puts to a server \
             of their own each; imports with `--durability sync`",
        ),
    ];
    if let Some(redis) = &programs.redis {
        all.push(who(
            measures::REDIS,
            said(redis, &["--version"]),
            "a sorted set a key: `ZREVRANGEBYSCORE key T -inf LIMIT 0 1` and `ZADD`, over its own \
             protocol; all data in memory; appendonly with appendfsync everysec, and always for \
             durable puts",
        ));
    }
    if let Some(python) = &programs.python {
        all.push(who(
            measures::ORIGINAL,
            said(python, &["--version"]),
            "`benches/original`: Flask's own server, SQLite with WAL and synchronous NORMAL, so \
             its puts are never durable; asked for 200 keys, the others for 10,000",
        ));
    }
    all
}
