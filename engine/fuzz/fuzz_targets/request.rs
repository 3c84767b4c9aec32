//! See `kvtimedb_server::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kvtimedb_server::fuzzing::request(data));
