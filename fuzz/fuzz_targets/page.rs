//! See `src/history.rs`.
#![no_main]

#[path = "../src/history.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::page(data));
