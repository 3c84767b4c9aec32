//! What the tests share.

pub(crate) mod binaries;
pub(crate) mod document;
pub(crate) mod ledger;
pub(crate) mod load;
pub(crate) mod server;

use std::str::FromStr;

/// A number from the environment.
pub(crate) fn setting<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")),
        Err(_) => default,
    }
}
