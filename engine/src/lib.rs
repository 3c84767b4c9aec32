//! KVTimeDB's storage engine.
#![allow(dead_code)]

mod batch;
mod coding;
mod error;
mod iter;
mod key;
mod metrics;

pub use batch::WriteBatch;
pub use error::{Error, Result};
pub use key::{Entry, SeqNo, Timestamp, ValueRef, ValueType};
