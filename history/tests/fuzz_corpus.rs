//! The fuzz target over its corpus, and over mutations of it from a fixed seed, with the stable toolchain.
//!
//! This finds what was found before and the shallow rest; how to search on is told in `fuzz/README.md`.

#[allow(unreachable_pub, reason = "shared between test programs")]
#[path = "../../fuzz/src/over_corpus.rs"]
mod over_corpus;
#[allow(unreachable_pub, reason = "public for the fuzz target, which shares the file")]
#[path = "../../fuzz/src/history.rs"]
mod target;

use over_corpus::over_corpus;

/// The longest input that is made: more than a page has.
const LENGTH_MAX: usize = 2000;

#[test]
fn page() {
    over_corpus("page", LENGTH_MAX, target::page);
}
