//! What the command-line tools of `KVTimeDB` are made of: each tool is a thin binary over a module.

pub mod kvtool;
pub mod loadtest;
