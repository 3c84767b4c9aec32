#!/usr/bin/env bash
# Runs the fuzz targets one after the other, each for a number of executions.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: engine/fuzz/run.sh [--asan] [EXECUTIONS] [TARGET...]

Builds the fuzz targets once and runs each, one process at a time, until it has executed EXECUTIONS
inputs (10,000,000 unless told), from its committed corpus on. Overflow checks and debug assertions are
on; an input may take 10 s and 64 MiB in one allocation. Prints a line per target:

    target  executions  seconds  executions/s  crashes

The exit code is 1 if a target crashed. What crashed it is then in engine/fuzz/artifacts/TARGET; the way
to see why is `RUSTC_BOOTSTRAP=1 cargo fuzz run -s none TARGET FILE`, in engine.

What a run adds to a corpus stays in engine/fuzz/target/corpus; `cargo fuzz cmin` makes a small one of it.

  --asan  with the address sanitizer: several times slower, and finds what is wrong in unsafe code and C
  --help  this text

TARGET is one of: (all unless told)
USAGE
    sed -n 's/^name = "\(.*\)"$/    \1/p' Cargo.toml | grep -v kvtimedb-fuzz
}

cd "$(dirname "$0")"
sanitizer=none
executions=10000000
targets=()
for argument in "$@"; do
    case "$argument" in
    -h | --help) usage && exit 0 ;;
    --asan) sanitizer=address ;;
    *[!0-9]*) targets+=("$argument") ;;
    *) executions=$argument ;;
    esac
done
if [ ${#targets[@]} = 0 ]; then
    mapfile -t targets < <(usage | sed -n 's/^    \([a-z]*\)$/\1/p')
fi

# Longer inputs are slower, and hold no more kinds of things.
length_max() {
    case "$1" in
    current | filter | footer | properties) echo 256 ;;
    table) echo 1024 ;;
    template) echo 256 ;;
    *) echo 384 ;;
    esac
}

cargo fuzz --version > /dev/null 2>&1 || cargo install cargo-fuzz --locked
# The compiler is a stable one; coverage is what it hides behind this. Comparisons are not traced: it takes
# most of the time in crcs, and checksums and magic numbers are put in by the targets.
RUSTC_BOOTSTRAP=1 cargo fuzz build --sanitizer "$sanitizer" --no-trace-compares >&2

crashed=0
printf '%-12s %12s %8s %12s %8s\n' target executions seconds per-second crashes
for target in "${targets[@]}"; do
    grown=target/corpus/$target
    artifacts=artifacts/$target
    log=target/$target.log
    mkdir -p "$grown" "$artifacts"
    start=$(date +%s)
    if target/*/release/"$target" "$grown" "corpus/$target" -runs="$executions" \
        -max_len="$(length_max "$target")" -artifact_prefix="$artifacts/" -timeout=10 \
        -rss_limit_mb=1024 -malloc_limit_mb=64 -verbosity=0 -print_final_stats=1 > "$log" 2>&1; then
        crashes=0
    else
        crashes=1
        crashed=1
    fi
    seconds=$(($(date +%s) - start))
    executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    printf '%-12s %12s %8s %12s %8s\n' "$target" "${executed:-?}" "$seconds" \
        "$((${executed:-0} / (seconds > 0 ? seconds : 1)))" "$crashes"
done
exit "$crashed"
