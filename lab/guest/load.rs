//! Load on demand: processor time and memory, both really used.

use std::time::{Duration, Instant};

/// No request burns longer or holds more than this.
const CPU_MAX: f64 = 3600.0;
const MEMORY_MIB_MAX: f64 = 65_536.0;
const PAGE: usize = 4096;

/// Holds `memory_mib` of touched memory while it computes for `cpu_s` seconds on one processor.
pub(crate) fn burn(cpu_s: f64, memory_mib: f64) {
    let held = hold(memory_mib);
    let end = Instant::now() + Duration::from_secs_f64(cpu_s.min(CPU_MAX));
    let mut value = 1_u64;
    while Instant::now() < end {
        for _ in 0..20_000 {
            value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
    drop(std::hint::black_box(held));
}

/// Memory of which every page was written.
pub(crate) fn hold(memory_mib: f64) -> Vec<u8> {
    let bytes = (memory_mib.min(MEMORY_MIB_MAX) * 1024.0 * 1024.0) as usize;
    let mut memory = Vec::new();
    // Refused by the kernel is an answer too: then there is nothing to hold.
    if memory.try_reserve_exact(bytes).is_ok() {
        memory.resize(bytes, 0);
        for page in memory.chunks_mut(PAGE) {
            page[0] = 1;
        }
    }
    memory
}
