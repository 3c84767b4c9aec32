"""The joins of others over the points that `cargo bench --bench asof -- --export DIR` left in DIR.

    asof_peers.py DIR [--rounds N] [--out FILE]

First the points and the probes become Parquet files, the points in order of time. What is timed is one
query from those files to a table in memory with the timestamp and the value for each probe: reading the
Parquet is in it, writing it is not. The order of the answers is left to the database, which is the
quicker; for the comparison with the checksums, before the timing, they are sorted by probe.
"""

import argparse
import json
import os
import platform
import sys
import time
import zlib
from pathlib import Path

THREADS = 2
os.environ["POLARS_MAX_THREADS"] = str(THREADS)

import duckdb  # noqa: E402
import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
import pyarrow as pa  # noqa: E402
from pyarrow import csv, parquet  # noqa: E402


def to_parquet(directory, name, columns):
    """Reads `name`.tsv, whose columns are named and typed by `columns`, and writes `name`.parquet."""
    table = csv.read_csv(
        directory / f"{name}.tsv",
        read_options=csv.ReadOptions(column_names=list(columns)),
        parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=csv.ConvertOptions(column_types=columns),
    )
    if name == "probes":
        table = table.add_column(0, "probe", pa.array(np.arange(len(table), dtype=np.int64)))
    parquet.write_table(table, directory / f"{name}.parquet", compression="zstd")
    return len(table)


def of_duckdb(directory):
    connection = duckdb.connect()
    connection.execute(f"SET threads = {THREADS}")
    query = f"""
        SELECT probe, points.ts AS ts, value
        FROM '{directory}/probes.parquet' AS probes
        ASOF LEFT JOIN '{directory}/points.parquet' AS points
        ON probes.key = points.key AND probes.at >= points.ts
    """
    return lambda: connection.execute(query).to_arrow_table()


def of_polars(directory):
    def ask():
        points = pl.scan_parquet(directory / "points.parquet").set_sorted("ts")
        probes = pl.scan_parquet(directory / "probes.parquet").sort("at")
        joined = probes.join_asof(
            points.with_columns(found=pl.col("ts")),
            left_on="at",
            right_on="ts",
            by="key",
            check_sortedness=False,
        )
        return joined.select("probe", pl.col("found").alias("ts"), "value").collect()

    return ask


def sums(answers):
    """What all answers come to, in the order of the probes."""
    if isinstance(answers, pl.DataFrame):
        answers = answers.to_arrow()
    answers = answers.sort_by("probe")
    timestamps = answers["ts"].drop_null().to_numpy().astype("<i8")
    values = answers["value"].drop_null().to_pylist()
    return {
        "found": len(timestamps),
        "timestamps": zlib.crc32(timestamps.tobytes()),
        "values": zlib.crc32("".join(values).encode()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    directory = arguments.dir
    expected = json.loads((directory / "expected.json").read_text())
    to_parquet(directory, "points", {"key": pa.string(), "ts": pa.int64(), "value": pa.string()})
    count = to_parquet(directory, "probes", {"key": pa.string(), "at": pa.int64()})
    python = f"Python {platform.python_version()}, pyarrow {pa.__version__}"
    settings = f"{THREADS} threads; Parquet with zstd, in order of time, read within the timing"
    peers = {
        "DuckDB": (of_duckdb, f"duckdb {duckdb.__version__}", f"ASOF LEFT JOIN; {settings}"),
        "polars": (
            of_polars,
            f"polars {pl.__version__}",
            f"join_asof by key, the probes sorted within the timing; {settings}",
        ),
    }
    lines = []
    asked = {}
    for name, (make, version, how) in peers.items():
        lines.append({"kind": "who", "name": name, "versions": f"{version}, {python}", "settings": how})
        asked[name] = make(directory)
        found = sums(asked[name]())
        if found != expected:
            sys.exit(f"{name}: got {found}, expected {expected}")
    for round_ in range(1, arguments.rounds + 1):
        for name, ask in asked.items():
            began = time.perf_counter()
            ask()
            rate = count / (time.perf_counter() - began)
            figure = {"kind": "figure", "round": round_, "data": "telemetry", "measure": "asof"}
            lines.append(figure | {"who": name, "value": rate})
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    sys.stderr.write(text)
    if arguments.out:
        with arguments.out.open("a") as out:
            out.write(text)


main()
