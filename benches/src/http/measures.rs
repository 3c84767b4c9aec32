//! What is measured through HTTP.

use crate::measures::{Better, Measure};

/// The server that does nothing.
pub const NOOP: &str = "no-op";
/// Ours by `/v1`; by `/` it has its usual name.
pub const OURS_V1: &str = "KVTimeDB, /v1";
/// Its name says it.
pub const REDIS: &str = "Redis";
/// The service that ours is compatible with.
pub const ORIGINAL: &str = "original";

/// The data set that figures of single requests are filed under.
pub const SINGLES_DATA: &str = "http";

/// One kind of request over so many connections.
#[derive(Clone, Copy, Debug)]
pub struct Single {
    /// How many connections, each with one request at a time.
    pub connections: usize,
    /// Answers a second.
    pub rate: Measure,
    /// The median latency.
    pub p50: Measure,
    /// The latency that one in a hundred exceeds.
    pub p99: Measure,
    /// What the server's process computes for one.
    pub cpu: Measure,
}

const fn measure(id: &'static str, name: &'static str, better: Better) -> Measure {
    Measure { id, name, better }
}

macro_rules! singles {
    ($id:literal, $name:literal) => {
        [
            single!(1, $id, concat!($name, ", 1 connection")),
            single!(8, $id, concat!($name, ", 8 connections")),
            single!(64, $id, concat!($name, ", 64 connections")),
        ]
    };
}

macro_rules! single {
    ($connections:literal, $id:literal, $name:expr) => {
        Single {
            connections: $connections,
            rate: measure(concat!($id, "_", $connections), $name, Better::Higher),
            p50: measure(concat!($id, "_", $connections, "_p50"), $name, Better::Lower),
            p99: measure(concat!($id, "_", $connections, "_p99"), $name, Better::Lower),
            cpu: measure(concat!($id, "_", $connections, "_cpu"), $name, Better::Lower),
        }
    };
}

/// Floors.
pub const GETS: [Single; 3] = singles!("http_get", "GET");
/// Puts that survive the death of the process, but not of the machine.
pub const BUFFERED: [Single; 3] = singles!("http_put", "PUT, buffered");
/// Puts that are on disk when they are acknowledged.
pub const DURABLE: [Single; 3] = singles!("http_durable", "PUT, durable");

/// How many rows travel at once in one format.
#[derive(Clone, Copy, Debug)]
pub struct Bulk {
    /// The parameter of an import.
    pub format: &'static str,
    /// The type of a body.
    pub media_type: &'static str,
    /// Points a second, until the import is acknowledged.
    pub import: Measure,
    /// Points a second, until all is in tables as well and the server has ended.
    pub import_stopped: Measure,
    /// Lookups a second.
    pub asof: Measure,
    /// Points a second.
    pub export: Measure,
}

macro_rules! bulk {
    ($format:literal, $name:literal, $media_type:literal) => {
        Bulk {
            format: $format,
            media_type: $media_type,
            import: measure(
                concat!("http_import_", $format),
                concat!("import, ", $name, ", until it is acknowledged, points/s"),
                Better::Higher,
            ),
            import_stopped: measure(
                concat!("http_import_", $format, "_stopped"),
                concat!("import, ", $name, ", until all is in tables, points/s"),
                Better::Higher,
            ),
            asof: measure(
                concat!("http_asof_", $format),
                concat!("asof, ", $name, ", lookups/s"),
                Better::Higher,
            ),
            export: measure(
                concat!("http_export_", $format),
                concat!("export, ", $name, ", points/s"),
                Better::Higher,
            ),
        }
    };
}

/// One JSON object a line.
pub const NDJSON: Bulk = bulk!("ndjson", "NDJSON", "application/x-ndjson");
/// Record batches.
pub const ARROW: Bulk = bulk!("arrow", "Arrow", "application/vnd.apache.arrow.stream");
