//! See `weir_fuzz::grpc_health`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::grpc_health(data));
