//! How columns of numbers and runs of values become bytes.

pub(crate) mod ints;
pub(crate) mod values;
