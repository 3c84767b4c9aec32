#!/usr/bin/env bash
# The standard load profile: starts a server of this tree on a directory and a port of its own,
# measures puts, floors and a mix of both, prints a table, and keeps a line of JSON for each run.
#
#   tools/load-profile.sh [FILE]        JSON lines go to FILE (default: load-profile.jsonl)
#
# Settings, from the environment: DURATION=10s WARMUP=2s KEYS=100000 VERSIONS=10 VALUE_BYTES=100
# RATE=5000 (requests per second of the open loop) TMPDIR (where the data directory goes).
# Exit code: 0, or 1 if a run had failed requests or the server did not start.
set -euo pipefail

results=$(realpath -m "${1:-load-profile.jsonl}")
duration=${DURATION:-10s} warmup=${WARMUP:-2s} keys=${KEYS:-100000} versions=${VERSIONS:-10}
value_bytes=${VALUE_BYTES:-100} rate=${RATE:-5000}

cd "$(dirname "$0")/.."
cargo build --release --quiet -p kvtimedb-server -p kvtimedb-tools
bin=${CARGO_TARGET_DIR:-target}/release

work=$(mktemp -d)
server=
clean_up() {
    if [[ -n $server ]]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

port=$((20000 + RANDOM % 10000))
while listening "$port"; do port=$((port + 1)); done

"$bin/kvtimedb" --data-dir "$work/data" --listen "127.0.0.1:$port" >"$work/log" 2>&1 &
server=$!
for ((tries = 0; ; tries++)); do
    listening "$port" && break
    if ((tries == 300)) || ! kill -0 "$server" 2>/dev/null; then
        echo "the server did not start; it said:" >&2
        cat "$work/log" >&2
        exit 1
    fi
    sleep 0.1
done

loadtest() {
    "$bin/loadtest" --url "http://127.0.0.1:$port" --keys "$keys" --versions "$versions" \
        --value-bytes "$value_bytes" "$@"
}

# The line of JSON has one object for each kind of operation, told apart by its "kind".
print_rows() {
    awk '
        function field(text, name) {
            if (!match(text, "\"" name "\":[^,}]*")) return ""
            text = substr(text, RSTART, RLENGTH)
            sub(/^[^:]*:/, "", text)
            gsub(/"/, "", text)
            return text
        }
        {
            parts = split($0, part, /\{"kind":/)
            for (i = 2; i <= parts; i++) {
                row = "\"kind\":" part[i]
                # With one kind of operation, the total of all says the same again.
                if (parts == 3 && i == 3) continue
                printf "%-7s %-8s %-6s %5d  %-6s %10d %9.0f %9.1f %9.1f %9.1f %9.1f %9.1f %9.1f %7d\n",
                    field($0, "workload"), field($0, "distribution"), field($0, "loop"),
                    field($0, "connections"), field(row, "kind"), field(row, "count"),
                    field(row, "rate"), field(row, "mean_us"), field(row, "p50_us"),
                    field(row, "p90_us"), field(row, "p99_us"), field(row, "p999_us"),
                    field(row, "max_us"), field(row, "failed")
            }
        }'
}

status=0
measure() {
    # Exit code 1 is a report with failed requests: it counts, and the other runs go on.
    local code=0
    loadtest --quiet --warmup "$warmup" --duration "$duration" -o json "$@" >"$work/line" || code=$?
    if ((code > 1)); then exit "$code"; fi
    if ((code == 1)); then status=1; fi
    cat "$work/line" >>"$results"
    print_rows <"$work/line"
}

: >"$results"
loadtest --preload --operations 0 --connections 64 >/dev/null

echo
echo "latency in µs: closed loop, service time; open loop ($rate/s), from the intended start"
printf '%-7s %-8s %-6s %5s  %-6s %10s %9s %9s %9s %9s %9s %9s %9s %7s\n' \
    workload keys loop conns kind count rate/s mean p50 p90 p99 p99.9 max failed
# Puts of one run lie above those of the run before, so that none replaces a version.
first=$versions
for workload in put floor mixed; do
    for distribution in uniform zipf; do
        for connections in 1 8 64; do
            measure --workload "$workload" --distribution "$distribution" \
                --connections "$connections" --first-version "$first"
            first=$((first + 10000000))
        done
    done
done
measure --workload mixed --distribution zipf --connections 64 --first-version "$first" --rate "$rate"
echo
echo "JSON lines: $results"
exit "$status"
