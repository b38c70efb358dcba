//! The fuzz targets over their corpus, and over mutations of it from a fixed seed, with the stable toolchain.
//!
//! This finds what was found before and the shallow rest; how to search on is told in `fuzz/README.md`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

#[allow(unreachable_pub, reason = "public for the fuzz targets, which share the file")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

/// Mutations tried for each decoder.
const MUTATIONS: usize = 400_000;

/// Mutations tried for the file, which takes far longer to read than a head.
const FILE_MUTATIONS: usize = 30_000;

/// The longest input that is made.
const LENGTH_MAX: usize = 32 * 1024;

/// What a mutation likes to put in: the words at which framing turns.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\0",
    b"\t",
    b" ",
    b":",
    b";",
    b",",
    b"\"",
    b"0",
    b"ffffffffffffffff",
    b"0\r\n\r\n",
    b"chunked",
    b"close",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: ",
    b"content-length",
    b"Host: a\r\n",
    b"upgrade",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"x-request-id",
    b"TE: trailers\r\n",
    b"\x7f",
    b"\xff",
    b"=",
    b"\"0s\"",
    b"%2f",
    b"%2E",
    b"/../",
    b"//",
    b"/v1/",
    b"?d=a%20b&",
    b"x-beta: 1\r\n",
    b"Cookie: g=b\r\n",
    b"\x16\x03\x01\0\x05",
    b"\0\0\0\x0a\0\x08\0\0\x05a.tst",
    b"PROXY TCP4 ",
    b"PROXY UNKNOWN\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
    b"\x03\0\x04",
    b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08",
    b"\0\0\x04\x08\0\0\0\0\x01\0\0\0\x08",
    b"\0\0\x01\0\x01\0\0\0\x01x",
    b"\x82\x86\x84\x41\x01a",
    b"[pool.web]\n",
    b"[[listener.web.route]]\n",
];

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus")).join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut inputs: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let path = entry.expect("a readable folder").path();
            let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    inputs
}

/// A few small changes: flips, cuts, doublings, words put in, and splices with another input.
fn mutate(random: &mut fastrand::Rng, inputs: &[(String, Vec<u8>)]) -> (String, Vec<u8>) {
    let (name, bytes) = &inputs[random.usize(..inputs.len())];
    let mut bytes = bytes.clone();
    for _ in 0..random.usize(1..5) {
        let at = random.usize(..=bytes.len());
        let to = random.usize(at..=bytes.len().min(at + 40));
        match random.u8(..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            1 if at < bytes.len() => bytes[at] = random.u8(..),
            2 => drop(bytes.drain(at..to)),
            3 => {
                let copy = bytes[at..to].to_vec();
                bytes.splice(at..at, copy);
            }
            4 => {
                let word = WORDS[random.usize(..WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            _ => {
                let other = &inputs[random.usize(..inputs.len())].1;
                let from = random.usize(..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes.truncate(LENGTH_MAX);
    (name.clone(), bytes)
}

fn run(name: &str, target: fn(&[u8]), mutations: usize) {
    let inputs = corpus(name);
    let attempt = |what: &str, bytes: &[u8]| {
        if catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err() {
            panic!("{name}: {what}: {}", bytes.escape_ascii());
        }
    };
    for (file, bytes) in &inputs {
        attempt(file, bytes);
    }
    let mut random = fastrand::Rng::with_seed(20_261_121);
    for number in 0..mutations {
        let (file, bytes) = mutate(&mut random, &inputs);
        attempt(&format!("mutation {number}, of {file}"), &bytes);
    }
}

#[test]
fn request_head() {
    run("request_head", targets::request_head, MUTATIONS);
}

#[test]
fn response_head() {
    run("response_head", targets::response_head, MUTATIONS);
}

#[test]
fn chunked() {
    run("chunked", targets::chunked, MUTATIONS);
}

#[test]
fn route() {
    run("route", targets::route, MUTATIONS);
}

#[test]
fn grpc_health() {
    run("grpc_health", targets::grpc_health, MUTATIONS);
}

#[test]
fn proxy_protocol() {
    run("proxy_protocol", targets::proxy_protocol, MUTATIONS);
}

#[test]
fn client_hello() {
    run("client_hello", targets::client_hello, MUTATIONS / 4);
}

#[test]
fn cookie() {
    run("cookie", targets::cookie, MUTATIONS / 4);
}

#[test]
fn h2_client() {
    run("h2_client", targets::h2::h2_client, MUTATIONS);
}

#[test]
fn config() {
    run("config", targets::config, FILE_MUTATIONS);
}
