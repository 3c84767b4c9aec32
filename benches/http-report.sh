#!/usr/bin/env bash
# Measures speed through HTTP and writes docs/benchmarks/http.md and its figures.
#
#   benches/http-report.sh [--quick] [--only singles|bulk] [--rounds N] [--dir DIR]
#
# Ours beside a server that does nothing, Redis and the original service. Installs Redis with apt-get if it is
# missing (as root), and the original's Python packages into an environment below target/. It takes ten minutes
# on two cores, during which nothing else should run; DIR is where the databases are made. With --quick short
# measurements, into target/quick-report instead of docs: to see that everything works.
# PYTHON names the interpreter (default: python3).
set -euo pipefail
cd "$(dirname "$0")/.."

out=docs/benchmarks
for argument in "$@"; do
    if [ "$argument" = --quick ]; then out=target/quick-report; fi
done
target=${CARGO_TARGET_DIR:-target}

if ! command -v redis-server >/dev/null; then
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends redis-server
fi
venv=$target/http-venv
if ! "$venv/bin/python" -c 'import flask' 2>/dev/null; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet --requirement benches/original/requirements.txt
fi
cargo build --release --quiet -p kvtimedb-server
cargo bench --quiet -p kvtimedb-benches --bench http --no-run

mkdir -p "$out"
# Put into place at the end, so that a run that is cut short leaves the old figures.
new=$out/http.jsonl.new
: > "$new"
cargo bench --quiet -p kvtimedb-benches --bench http -- --server "$target/release/kvtimedb" \
    --redis "$(command -v redis-server)" --python "$venv/bin/python" --out "$new" "$@"
mv "$new" "$out/http.jsonl"
cargo run --release --quiet -p kvtimedb-benches --bin report -- \
    --frame benches/report/http.md --figures "$out/http.jsonl" --out "$out/http.md"
echo "$out/http.md"
