//! The allocator, and giving memory back.

use libmimalloc_sys::mi_collect;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gives the pages that the calling thread's heap does not use back to the system.
///
/// Left to itself the allocator waits for a second and then for the next allocation, so that a node that rests after a burst would keep what
/// the burst needed. Purging at once is an option of it as well, but costs every new connection some system calls; this costs nothing until
/// it is called.
#[allow(unsafe_code)]
pub(crate) fn reclaim() {
    // SAFETY: it takes no pointer and may be called by any thread at any time; it touches only pages in which nothing is allocated.
    unsafe { mi_collect(true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn what_a_burst_needed_goes_back_to_the_system() {
        const PIECES: usize = 8 * 1024;
        const SIZE: usize = 4 * 1024;
        // What other tests of this process hold at the same time is far less than this burst.
        let held: Vec<Vec<u8>> = (0..PIECES).map(|_| vec![1; SIZE]).collect();
        let before = resident_kib();
        drop(held);
        reclaim();
        let after = resident_kib();
        let burst_kib = (PIECES * SIZE / 1024) as u64;
        assert!(after + burst_kib / 2 < before, "{before} KiB with a burst of {burst_kib} KiB, {after} KiB after it");
    }
}
