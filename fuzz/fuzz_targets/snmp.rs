//! See `src/notify.rs`.
#![no_main]
#![allow(dead_code, reason = "the file has the bodies of two targets")]

#[path = "../src/notify.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::snmp(data));
