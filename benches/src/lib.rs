//! Benchmarks: the data they measure on, the other databases, the measures, and the report.

pub mod arguments;
pub mod data;
pub mod figures;
pub mod http;
pub mod machine;
pub mod measures;
pub mod ours;
#[cfg(feature = "peers")]
pub mod peers;
pub mod report;
mod rng;
#[cfg(feature = "peers")]
pub mod run;

pub use rng::Rng;

/// Operations per batch of a load.
pub const BATCH_OPS: usize = 1000;

/// What may go wrong in a benchmark: anything that the databases may answer.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
