//! What the calls of `/v1` have in common: parameters, moments, values, cursors and streams.

pub(crate) mod cursor;
pub(crate) mod json;
pub(crate) mod moment;
pub(crate) mod page;
pub(crate) mod params;
pub(crate) mod stream;
pub(crate) mod upload;
pub(crate) mod value;
