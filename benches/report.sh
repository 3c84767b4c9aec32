#!/usr/bin/env bash
# Measures everything anew and writes docs/benchmarks.md, its plots, and its figures.
#
#   benches/report.sh [--quick] [--dir DIR]
#
# Builds the other databases first (RocksDB: clang, libclang, ten minutes). Then it takes half an hour or more
# on two cores, during which nothing else should run; DIR is where the databases are made. With --quick
# small sizes, into target/quick-report instead of docs: to see that everything works.
# `cargo run -p kvtimedb-benches --bin report` writes the document again from the figures that are there.
set -euo pipefail
cd "$(dirname "$0")/.."

document=docs/benchmarks.md plots=docs/benchmarks
for argument in "$@"; do
    if [ "$argument" = --quick ]; then
        plots=target/quick-report document=target/quick-report/benchmarks.md
    fi
done

cargo bench -p kvtimedb-benches --features peers --no-run
mkdir -p "$plots"
# Put into place at the end, so that a run that is cut short leaves the old figures.
new=$plots/figures.jsonl.new
: > "$new"
cargo bench -p kvtimedb-benches --features peers --bench peers -- --out "$new" "$@"
benches/asof/run.sh "$new" "$@"
cargo bench -p kvtimedb-benches --bench growth -- --out "$new" "$@"
mv "$new" "$plots/figures.jsonl"
cargo run --release --quiet -p kvtimedb-benches --bin report -- \
    --figures "$plots/figures.jsonl" --out "$document" --plots "$plots"
