//! Whether an endpoint serves: what probes say, what real traffic says, and when to ask again.
//!
//! ```text
//!   monitor ── Probe ──► probe (shell) ── Outcome ──► monitor ── verdict ── Flip ──► director
//!   workers ── failures in a row ──► ejection ── left out for a while ─────────────►
//! ```
//!
//! - [`verdict`]: counts outcomes up to rise or fall (pure).
//! - [`monitor`]: when each endpoint of each pool is probed (pure).
//! - [`ejection`]: leaving out what keeps failing real traffic (pure).
//! - [`probe`]: one probe, carried out (shell).
//!
//! What is deliberately not here: what the operator wishes, and who is picked. *Healthy* is observed, *enabled* is wished, *ejected* is a
//! penalty for a time: three facts, and none of them overwrites another.

pub mod ejection;
pub mod monitor;
pub mod probe;
pub mod verdict;

/// A stable hash (FNV-1a, 64 bits, with a final mix): phases and check fingerprints must be the same in the next process, which the
/// standard library's hashers do not promise.
#[derive(Clone, Copy, Debug)]
pub struct StableHash(u64);

impl Default for StableHash {
    fn default() -> Self {
        StableHash(0xcbf2_9ce4_8422_2325)
    }
}

impl StableHash {
    /// Adds a field. Its length goes in too, so that `("ab", "c")` and `("a", "bc")` differ.
    #[must_use]
    pub fn field(self, bytes: impl AsRef<[u8]>) -> StableHash {
        let bytes = bytes.as_ref();
        let length = (bytes.len() as u64).to_le_bytes();
        StableHash(length.iter().chain(bytes).fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
    }

    /// The hash. The mix makes the high bits depend on every byte; plain FNV is weak there.
    pub fn finish(self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}
