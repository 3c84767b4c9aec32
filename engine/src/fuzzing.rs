//! Entries for fuzzers: everything in the engine that reads bytes which a disk may have changed, or which
//! somebody made up.
//!
//! Each entry takes any bytes, parses them, reads all of what it parsed, and asserts what must hold
//! whatever the bytes are: nothing panics, what is read in two ways is the same, and what was encoded is
//! decoded to itself. Checksums keep no fuzzer out: an entry puts in the right ones where they stand.
//! `engine/fuzz` runs the entries; the tests here replay what it found.

mod logs;
mod table;
#[cfg(test)]
mod tests;

use crate::codec::fuzzing as codec;
use crate::table::fuzzing as parts;

/// An entry.
pub type Target = fn(&[u8]);

/// All entries, by the names of their fuzz targets.
pub const TARGETS: &[(&str, Target)] = &[
    ("batch", logs::batch),
    ("block", parts::block),
    ("column", codec::column),
    ("current", logs::current),
    ("dictionary", codec::dictionary),
    ("edit", logs::edit),
    ("filter", parts::filter),
    ("footer", parts::footer),
    ("index", parts::index),
    ("manifest", logs::manifest),
    ("properties", parts::properties),
    ("records", parts::records),
    ("table", table::table),
    ("template", codec::template),
    ("wal", logs::wal),
];

/// Runs the entry of this name.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(other, _)| *other == name);
    target.expect("a target of this name").1(data);
}
