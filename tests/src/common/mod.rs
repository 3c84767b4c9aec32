//! What the tests share.

pub(crate) mod binaries;
pub(crate) mod server;
