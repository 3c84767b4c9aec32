#!/usr/bin/env bash
# Holds a running server to its document: schemathesis makes requests of /openapi.json, sensible ones and
# hostile ones, and looks at each answer. It fails at a 5xx, at a status, type, header or body that the document
# does not tell of, and at a page of metrics that Prometheus's own parser can't read.
#
# KVTIMEDB_SCHEMATHESIS_EXAMPLES: requests an operation in the fuzzing phase; 30 without it. It is a most: an
# operation without parameters has few requests to make.
set -euo pipefail
cd "$(dirname "$0")/.."

examples=${KVTIMEDB_SCHEMATHESIS_EXAMPLES:-30}
packages=(schemathesis==4.32.5 openapi-spec-validator==0.9.0 prometheus-client==0.26.0)
venv=target/schemathesis

if [ "$(cat "$venv/packages" 2> /dev/null)" != "${packages[*]}" ]; then
    rm -rf "$venv"
    { python3 -m venv "$venv" &&
        "$venv/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"; } || {
        echo 'schemathesis can not be installed: this test needs python3 with venv, pip, and a network' >&2
        exit 1
    }
    echo "${packages[*]}" > "$venv/packages"
fi

echo '== the document is OpenAPI 3.1'
"$venv/bin/python" -m openapi_spec_validator server/src/openapi.json

cargo build --quiet --locked --bin kvtimedb
dir=$(mktemp -d)
target/debug/kvtimedb --listen 127.0.0.1:0 --data-dir "$dir/data" --backup-dir "$dir/backups" \
    > "$dir/stdout" 2> "$dir/stderr" &
server=$!
trap 'kill "$server" 2> /dev/null || true; wait "$server" || true; rm -rf "$dir"' EXIT
for _ in $(seq 600); do
    url=$(sed -n 's|.*listening on \(http://[^,]*\),.*|\1|p' "$dir/stdout")
    [ -z "$url" ] || break
    kill -0 "$server" || { cat "$dir/stderr" >&2; exit 1; }
    sleep 0.1
done

echo "== the server keeps to it: $examples examples an operation"
# A watch has no end. The checks left out ask for more than the document says: that all data it allows is
# sensible (a range may end before it begins), and that all other data is refused (`/` takes what the original
# service took).
(cd "$dir" && PYTHONPATH="$OLDPWD/tests" SCHEMATHESIS_HOOKS=schemathesis_hooks \
    "$OLDPWD/$venv/bin/schemathesis" run "$url/openapi.json" \
    --phases examples,coverage,fuzzing --max-examples "$examples" --seed 1 --exclude-path /v1/watch \
    --exclude-checks negative_data_rejection,positive_data_acceptance \
    --request-timeout 20 --suppress-health-check all --warnings off --continue-on-failure --no-color)

echo '== the metrics are what Prometheus reads'
"$venv/bin/python" - "$url/metrics" << 'PYTHON'
import sys, urllib.request
from prometheus_client.parser import text_string_to_metric_families

page = urllib.request.urlopen(sys.argv[1]).read().decode()
families = list(text_string_to_metric_families(page))
assert len(families) > 20, families
answers = sum(s.value for f in families if f.name == "kvtimedb_http_requests" for s in f.samples)
print(f"{len(families)} families, {answers:.0f} requests answered")
PYTHON
kill -0 "$server" || { cat "$dir/stderr" >&2; exit 1; }
