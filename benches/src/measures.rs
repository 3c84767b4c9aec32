//! What is measured: each measure's name in the figures and in the tables, and which figure is better.

/// Which of two figures is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// As of a rate.
    Higher,
    /// As of a duration or a size.
    Lower,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// What figures call it.
    pub id: &'static str,
    /// What tables call it, with its unit.
    pub name: &'static str,
    /// Which figure is the better one.
    pub better: Better,
}

const fn higher(id: &'static str, name: &'static str) -> Measure {
    Measure { id, name, better: Better::Higher }
}

const fn lower(id: &'static str, name: &'static str) -> Measure {
    Measure { id, name, better: Better::Lower }
}

/// Its name says it.
pub const INGEST: Measure = higher("ingest", "ingest, batches of 1,000, not synced, points/s");
/// Its name says it.
pub const INGEST_RESTED: Measure =
    higher("ingest_rested", "the same until the background rests, points/s");
/// Its name says it.
pub const PUT: Measure = higher("put", "ingest, single puts, not synced, points/s");
/// Its name says it.
pub const LOADED_UNIFORM: Measure =
    lower("loaded_uniform", "floor right after the load, uniform in time, µs");
/// Its name says it.
pub const LOADED_RECENT: Measure = lower("loaded_recent", "floor right after the load, recent, µs");
/// Its name says it.
pub const LOADED_MISSING: Measure =
    lower("loaded_missing", "floor right after the load, missing key, µs");
/// Its name says it.
pub const UNIFORM: Measure = lower("uniform", "floor, compacted, uniform in time, µs");
/// Its name says it.
pub const RECENT: Measure = lower("recent", "floor, compacted, recent, µs");
/// Its name says it.
pub const MISSING: Measure = lower("missing", "floor, compacted, missing key, µs");
/// Its name says it.
pub const HELD: Measure =
    lower("held", "floor, compacted, uniform in time, over one held view of theirs, µs");
/// Its name says it.
pub const HISTORY: Measure = lower("history", "history of 100 versions, compacted, µs");
/// Its name says it.
pub const BYTES: Measure = lower("bytes", "bytes a point on disk, compacted");
/// Its name says it.
pub const COMPACTION: Measure = lower("compaction", "compaction, s");
/// Its name says it.
pub const REOPEN: Measure = lower("reopen", "reopen after a clean close, first floor included, ms");
/// Its name says it.
pub const DURABLE: [Measure; 3] = [
    higher("durable_1", "durable puts, 1 thread, a second"),
    higher("durable_8", "durable puts, 8 threads, a second"),
    higher("durable_64", "durable puts, 64 threads, a second"),
];
/// Its name says it.
pub const MIXED_P50: Measure = lower("mixed_p50", "floor under ingest and merges, p50, µs");
/// Its name says it.
pub const MIXED_P99: Measure = lower("mixed_p99", "floor under ingest and merges, p99, µs");
/// Its name says it.
pub const MIXED_P999: Measure = lower("mixed_p999", "floor under ingest and merges, p99.9, µs");
/// Its name says it.
pub const MIXED_RATE: Measure = higher("mixed_rate", "the ingest meanwhile, points/s");
/// Its name says it.
pub const ASOF: Measure = higher("asof", "asof of 1M random probes, probes/s");
/// Its name says it.
pub const MEMORY: Measure = lower("memory", "memory beside memtables and page cache, MiB");
/// Its name says it.
pub const WRITE_AMPLIFICATION: Measure =
    lower("write_amplification", "bytes of tables written for each byte flushed");

/// All of them, in the order of the tables.
pub const ALL: [Measure; 24] = [
    BYTES,
    UNIFORM,
    RECENT,
    MISSING,
    HELD,
    LOADED_UNIFORM,
    LOADED_RECENT,
    LOADED_MISSING,
    HISTORY,
    INGEST,
    INGEST_RESTED,
    PUT,
    DURABLE[0],
    DURABLE[1],
    DURABLE[2],
    MIXED_P50,
    MIXED_P99,
    MIXED_P999,
    MIXED_RATE,
    COMPACTION,
    REOPEN,
    ASOF,
    MEMORY,
    WRITE_AMPLIFICATION,
];
