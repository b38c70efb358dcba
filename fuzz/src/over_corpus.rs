//! A fuzz target over its corpus, and over mutations of it from a fixed seed, with the stable toolchain. The tests of the rooms share this file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

const MUTATIONS: usize = 100_000;

/// Flips, cuts, doublings and splices with another input.
fn mutate(random: &mut fastrand::Rng, inputs: &[(String, Vec<u8>)], length_max: usize) -> Vec<u8> {
    let mut bytes = inputs[random.usize(..inputs.len())].1.clone();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..=bytes.len());
        let to = random.usize(at..=bytes.len().min(at + 20));
        match random.u8(..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            1 if at < bytes.len() => bytes[at] = random.u8(..),
            2 => drop(bytes.drain(at..to)),
            3 => {
                let copy = bytes[at..to].to_vec();
                bytes.splice(at..at, copy);
            }
            4 => bytes.splice(at..at, std::iter::repeat_with(|| random.u8(..)).take(4)).for_each(drop),
            _ => {
                let other = &inputs[random.usize(..inputs.len())].1;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[random.usize(..=other.len())..]);
            }
        }
    }
    bytes.truncate(length_max);
    bytes
}

/// Runs the target over `fuzz/corpus/NAME`, and over inputs of at most `length_max` bytes that are made from it.
pub fn over_corpus(name: &str, length_max: usize, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let read = |path: &Path| std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut inputs: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .map(|path| (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), read(&path)))
        .collect();
    inputs.sort();
    assert!(inputs.len() > 5, "{} is nearly empty", folder.display());
    let attempt = |what: &str, bytes: &[u8]| {
        if catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err() {
            panic!("{what}: {}", bytes.escape_ascii());
        }
    };
    inputs.iter().for_each(|(name, bytes)| attempt(name, bytes));
    let mut random = fastrand::Rng::with_seed(20_261_125);
    for number in 0..MUTATIONS {
        attempt(&format!("mutation {number}"), &mutate(&mut random, &inputs, length_max));
    }
}
