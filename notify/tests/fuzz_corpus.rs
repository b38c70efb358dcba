//! The fuzz targets over their corpus, and over mutations of it from a fixed seed, with the stable toolchain.
//!
//! This finds what was found before and the shallow rest; how to search on is told in `fuzz/README.md`.

#[allow(unreachable_pub, reason = "shared between test programs")]
#[path = "../../fuzz/src/over_corpus.rs"]
mod over_corpus;
#[allow(unreachable_pub, reason = "public for the fuzz target, which shares the file")]
#[path = "../../fuzz/src/notify.rs"]
mod target;

use over_corpus::over_corpus;

/// The longest input that is made: more than an answer has.
const LENGTH_MAX: usize = 1600;

#[test]
fn snmp() {
    over_corpus("snmp", LENGTH_MAX, target::snmp);
}

#[test]
fn smpp() {
    over_corpus("smpp", LENGTH_MAX, target::smpp);
}
