//! See `kvtimedb_engine::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kvtimedb_engine::fuzzing::run("dictionary", data));
