//! Integration tests of `KVTimeDB`, through the interfaces that users have.

mod cli;
mod common;
mod http;
mod kill9;
mod nyc2013;
mod shutdown;
mod tidy;
