#!/usr/bin/env bash
# Many floors at once: ours, then DuckDB's ASOF JOIN and polars' join_asof over the same points.
#
#   benches/asof/run.sh FILE [ARGUMENT...]
#
# Figures are appended to FILE; arguments go to the bench (--quick, --rounds N, --dir DIR). The Python
# packages are installed into an environment of their own below target/, or taken from there.
# PYTHON names the interpreter (default: python3).
set -euo pipefail

[ $# -ge 1 ] || { sed -n '4p' "$0" >&2; exit 2; }
figures=$(realpath -m "$1")
shift
cd "$(dirname "$0")/../.."

venv=${CARGO_TARGET_DIR:-target}/asof-venv
if ! "$venv/bin/python" -c 'import duckdb, numpy, polars, pyarrow' 2>/dev/null; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet --requirement benches/asof/requirements.txt
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo bench -p kvtimedb-benches --bench asof -- --out "$figures" --export "$work" "$@"
"$venv/bin/python" benches/asof/asof_peers.py "$work" --out "$figures"
