//! What the server counts of its requests, and the page that shows it beside what the engine counts.
//!
//! *Cost*: a request looks twice at the clock and adds to three relaxed atomics of its operation.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use kvtimedb_engine::{Db, Durability};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use warp::http::{Method, StatusCode};

use crate::routes::Endpoint;

/// The upper bounds of the buckets of latency, in microseconds; one more lies beyond.
const BUCKETS_MICROS: [u64; 15] = [
    25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    10_000_000,
];

/// The page `/metrics`, and what is counted for it.
pub(crate) struct Metrics {
    pub(crate) requests: Arc<Requests>,
    registry: Registry,
}

impl Metrics {
    /// Of this database and these endpoints.
    pub(crate) fn new(db: Db, endpoints: &[Endpoint]) -> Metrics {
        let requests = Arc::new(Requests::new(endpoints));
        let mut registry = Registry::with_prefix("kvtimedb");
        registry.register_collector(Box::new(Scrape { db, requests: Arc::clone(&requests) }));
        Metrics { requests, registry }
    }

    /// The page, in Prometheus's text format 0.0.4.
    pub(crate) fn page(&self) -> String {
        let mut page = String::new();
        // Only memory could fail.
        let _ = prometheus_text::encode(&mut page, &self.registry);
        page
    }
}

/// The requests so far.
#[derive(Debug)]
pub(crate) struct Requests {
    /// Of each endpoint, of each of its methods.
    endpoints: Vec<Vec<Operation>>,
    /// What no endpoint takes, or is not its methods.
    other: Operation,
}

/// The requests of one method of one endpoint.
#[derive(Debug)]
struct Operation {
    endpoint: &'static str,
    method: String,
    /// From the end of the headers to the start of the answer, all together.
    nanos: AtomicU64,
    buckets: [AtomicU64; BUCKETS_MICROS.len() + 1],
    /// By status, from 100 on.
    answers: Box<[AtomicU64]>,
}

impl Operation {
    fn new(endpoint: &'static str, method: String) -> Operation {
        Operation {
            endpoint,
            method,
            nanos: AtomicU64::default(),
            buckets: Default::default(),
            answers: (100..1000).map(|_| AtomicU64::default()).collect(),
        }
    }
}

impl Requests {
    fn new(endpoints: &[Endpoint]) -> Requests {
        let methods = |endpoint: &Endpoint| {
            let operation = |method: &Method| Operation::new(endpoint.path, method.to_string());
            endpoint.methods.iter().map(|(method, _)| operation(method)).collect()
        };
        Requests {
            endpoints: endpoints.iter().map(methods).collect(),
            other: Operation::new("other", "other".to_owned()),
        }
    }

    /// Counts a request of the endpoint at this place, and of the method at this place there.
    pub(crate) fn count(
        &self,
        operation: Option<(usize, usize)>,
        status: StatusCode,
        took: Duration,
    ) {
        let named = operation.and_then(|(at, method)| self.endpoints.get(at)?.get(method));
        let operation = named.unwrap_or(&self.other);
        let bucket = BUCKETS_MICROS.iter().position(|most| took <= Duration::from_micros(*most));
        operation.buckets[bucket.unwrap_or(BUCKETS_MICROS.len())].fetch_add(1, Relaxed);
        operation.nanos.fetch_add(took.as_nanos() as u64, Relaxed);
        operation.answers[usize::from(status.as_u16() - 100)].fetch_add(1, Relaxed);
    }

    fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.endpoints.iter().flatten().chain([&self.other])
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut answered = encoder.encode_descriptor(
            "http_requests",
            "Requests answered, by the status of the answer.",
            None,
            MetricType::Counter,
        )?;
        for Operation { endpoint, method, answers, .. } in self.operations() {
            for (status, count) in (100_u64..).zip(answers) {
                let count = count.load(Relaxed);
                if count > 0 {
                    let status = status.to_string();
                    let name = [
                        ("endpoint", *endpoint),
                        ("method", method.as_str()),
                        ("status", status.as_str()),
                    ];
                    ConstCounter::new(count).encode(answered.encode_family(&name)?)?;
                }
            }
        }
        let mut took = encoder.encode_descriptor(
            "http_request_duration_seconds",
            "From the headers of a request to the start of its answer.",
            None,
            MetricType::Histogram,
        )?;
        for Operation { endpoint, method, nanos, buckets, .. } in self.operations() {
            let bounds = BUCKETS_MICROS.iter().map(|micros| *micros as f64 / 1e6);
            let counts = buckets.iter().map(|count| count.load(Relaxed));
            let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(counts).collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            if count > 0 {
                let sum = nanos.load(Relaxed) as f64 / 1e9;
                let name = [("endpoint", *endpoint), ("method", method.as_str())];
                let mut took = took.encode_family(&name)?;
                took.encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }
}

/// What is read anew each time the page is asked for.
#[derive(Debug)]
struct Scrape {
    db: Db,
    requests: Arc<Requests>,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let db = &self.db;
        for (name, help, value) in db.metrics().all() {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(metric)?;
        }
        for (name, help, value) in gauges(db) {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        let durability = match db.durability() {
            Durability::Sync => "sync",
            Durability::Buffered => "buffered",
        };
        let mut build = encoder.encode_descriptor(
            "build",
            "The server's version, and when it acknowledges a write.",
            None,
            MetricType::Info,
        )?;
        build.encode_info(&[("version", env!("CARGO_PKG_VERSION")), ("durability", durability)])?;
        self.requests.encode(&mut encoder)
    }
}

/// Name, meaning and value of what rises and falls.
fn gauges(db: &Db) -> Vec<(&'static str, &'static str, f64)> {
    let memtables = db.memtable_bytes();
    let tables = db.tables();
    let runs = tables.chunk_by(|a, b| a.rank == b.rank).count();
    let table_bytes: u64 = tables.iter().map(|table| table.file_bytes).sum();
    let flag = |is_so: bool| f64::from(u8::from(is_so));
    let mut gauges = vec![
        (
            "memtables_immutable",
            "Memtables that wait for their flush.",
            memtables.len() as f64 - 1.0,
        ),
        ("memtables_bytes", "Memory that memtables use.", memtables.iter().sum::<usize>() as f64),
        ("runs", "Sources of a read beside the memtables.", runs as f64),
        ("sstables", "Live SSTables.", tables.len() as f64),
        ("sstables_bytes", "The length of all live SSTables.", table_bytes as f64),
        (
            "damaged_parts",
            "Damaged parts of live SSTables that are known.",
            db.damaged_parts() as f64,
        ),
        (
            "visible_seq",
            "The sequence number of the last write that reads show.",
            db.visible_seq() as f64,
        ),
        (
            "writes_refused",
            "1 while writes are refused after a failure.",
            flag(db.poisoned().is_some()),
        ),
        (
            "compaction_stopped",
            "1 once a failure has ended compaction.",
            flag(db.compaction_error().is_some()),
        ),
    ];
    if let Some(amplification) = db.metrics().write_amplification() {
        let help = "Bytes of SSTables written for each byte that flushes wrote, since the open.";
        gauges.push(("write_amplification", help, amplification));
    }
    if let Some(horizon) = db.horizon() {
        gauges.push(("horizon", "The timestamp before which nothing is kept.", horizon as f64));
    }
    gauges
}

#[cfg(test)]
mod tests {
    use kvtimedb_engine::Options;
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn requests_are_counted_where_they_belong() {
        let dir = TempDir::new().unwrap();
        let db = Db::open(dir.path(), Options::default()).unwrap();
        db.put(b"k", 1, b"v").unwrap();
        db.flush().unwrap();
        let endpoints = [
            Endpoint { path: "/a", methods: &[(Method::GET, |_| unreachable!())] },
            Endpoint { path: "/b/{key}", methods: &[(Method::PUT, |_| unreachable!())] },
        ];
        let metrics = Metrics::new(db, &endpoints);
        let micros = Duration::from_micros;
        metrics.requests.count(Some((1, 0)), StatusCode::OK, micros(25));
        metrics.requests.count(Some((1, 0)), StatusCode::OK, micros(26));
        metrics.requests.count(Some((1, 0)), StatusCode::BAD_REQUEST, micros(20_000_000));
        metrics.requests.count(None, StatusCode::NOT_FOUND, micros(1));
        let page = metrics.page();
        for line in [
            "# TYPE kvtimedb_http_requests_total counter",
            r#"kvtimedb_http_requests_total{endpoint="/b/{key}",method="PUT",status="200"} 2"#,
            r#"kvtimedb_http_requests_total{endpoint="/b/{key}",method="PUT",status="400"} 1"#,
            r#"kvtimedb_http_requests_total{endpoint="other",method="other",status="404"} 1"#,
            "# TYPE kvtimedb_http_request_duration_seconds histogram",
            r#"kvtimedb_http_request_duration_seconds_bucket{endpoint="/b/{key}",method="PUT",le="2.5e-05"} 1"#,
            r#"kvtimedb_http_request_duration_seconds_bucket{endpoint="/b/{key}",method="PUT",le="5e-05"} 2"#,
            r#"kvtimedb_http_request_duration_seconds_bucket{endpoint="/b/{key}",method="PUT",le="10"} 2"#,
            r#"kvtimedb_http_request_duration_seconds_bucket{endpoint="/b/{key}",method="PUT",le="+Inf"} 3"#,
            r#"kvtimedb_http_request_duration_seconds_sum{endpoint="/b/{key}",method="PUT"} 20.000051"#,
            r#"kvtimedb_http_request_duration_seconds_count{endpoint="/b/{key}",method="PUT"} 3"#,
            "# HELP kvtimedb_wal_bytes_written_total Bytes appended to the log, framing included.",
            "kvtimedb_ops_committed_total 1",
            "kvtimedb_runs 1.0",
            "kvtimedb_memtables_immutable 0.0",
            r#"kvtimedb_build_info{version="0.1.0",durability="sync"} 1"#,
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("/a"), "what was never asked for");
    }
}
