//! Ours beside other databases, in one run: `cargo bench -p kvtimedb-benches --features peers --bench
//! peers -- [--data NAME,...] [--only NAME,...] [--rounds N] [--points N] [--out FILE] [--dir DIR]
//! [--quick]`.
//!
//! Without `--data` all data sets, without `--only` all databases. Figures are appended to `--out`;
//! `benches/report.sh` makes the whole report.

fn main() -> kvtimedb_benches::Result<()> {
    kvtimedb_benches::run::run()
}
