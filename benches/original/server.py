"""The service that KVTimeDB is compatible with, built again to be measured beside it.

    server.py PORT DIR

As the original did, it serves `/` with Flask's own server, a thread for each connection, and keeps
kv(key, timestamp, value) with its primary key and one more index of the same in SQLite: WAL mode,
synchronous NORMAL, ten seconds of patience with locks, one connection for each thread and one transaction
for each request. NORMAL means that an acknowledged write may be lost with the power.
"""

import sqlite3
import sys
import threading
from pathlib import Path

from flask import Flask, jsonify, request

SCHEMA = """
    CREATE TABLE IF NOT EXISTS kv (
        key TEXT, timestamp INTEGER, value TEXT, PRIMARY KEY (key, timestamp)
    );
    CREATE INDEX IF NOT EXISTS kv_by_time ON kv (key, timestamp);
"""
PUT = "INSERT OR REPLACE INTO kv VALUES (?, ?, ?)"
FLOOR = "SELECT value FROM kv WHERE key = ? AND timestamp <= ? ORDER BY timestamp DESC LIMIT 1"

app = Flask(__name__)
of_thread = threading.local()


def connection():
    """This thread's connection."""
    if not hasattr(of_thread, "connection"):
        of_thread.connection = sqlite3.connect(DATABASE, timeout=10)
        of_thread.connection.execute("PRAGMA journal_mode = WAL")
        of_thread.connection.execute("PRAGMA synchronous = NORMAL")
    return of_thread.connection


def fields(*names):
    """What the body says of these, and the refusal if it leaves one out."""
    body = request.get_json()
    if any(name not in body for name in names):
        return None, (jsonify(error=f"Missing required fields: {', '.join(names)}"), 400)
    return [body[name] for name in names], None


@app.errorhandler(ValueError)
@app.errorhandler(TypeError)
def bad_types(error):
    return jsonify(error=f"Invalid data types: {error}"), 400


@app.errorhandler(sqlite3.OperationalError)
def busy(_error):
    return jsonify(error="Database temporarily unavailable, try again"), 503


@app.put("/")
def put():
    said, refusal = fields("key", "value", "timestamp")
    if refusal:
        return refusal
    key, value, timestamp = said
    with connection() as transaction:
        transaction.execute(PUT, (str(key), int(timestamp), str(value)))
    return "", 200


@app.get("/")
def floor():
    said, refusal = fields("key", "timestamp")
    if refusal:
        return refusal
    key, timestamp = said
    with connection() as transaction:
        row = transaction.execute(FLOOR, (str(key), int(timestamp))).fetchone()
    return jsonify(row and row[0])


if __name__ == "__main__":
    DATABASE = Path(sys.argv[2]) / "store.db"
    connection().executescript(SCHEMA)
    app.run(host="127.0.0.1", port=int(sys.argv[1]), threaded=True)
