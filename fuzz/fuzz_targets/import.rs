//! See `import_file`.
#![no_main]

#[path = "../src/import.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::import_file(data));
