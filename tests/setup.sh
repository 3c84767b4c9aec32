#!/usr/bin/env bash
# Installs the tools that the tests use: curl for the examples of the pages, the others for
# tests/src/world. Those are skipped by `cargo test` where they can't be installed, which it says.
set -euo pipefail

packages=(curl e2fsprogs xfsprogs strace util-linux faketime)

missing=()
for tool in curl mkfs.ext4 mkfs.xfs xfs_io strace losetup faketime; do
    PATH="$PATH:/sbin:/usr/sbin" command -v "$tool" > /dev/null || missing+=("$tool")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo 'all tools of the tests are there'
elif [ "$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then
    echo "tests that need ${missing[*]} will be skipped: to install takes root and apt-get"
elif ! { apt-get update -q && apt-get install -q -y --no-install-recommends "${packages[@]}"; }; then
    echo "tests that need ${missing[*]} will be skipped: they can't be installed"
fi
