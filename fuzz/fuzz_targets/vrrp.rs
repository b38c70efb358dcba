//! See `src/vrrp.rs`.
#![no_main]

#[path = "../src/vrrp.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::vrrp(data));
