//! The fuzz target over its corpus, and over mutations of it from a fixed seed, with the stable toolchain.
//!
//! This finds what was found before and the shallow rest; how to search on is told in `fuzz/README.md`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

#[allow(unreachable_pub, reason = "public for the fuzz target, which shares the file")]
#[path = "../../fuzz/src/import.rs"]
mod target;

/// Each is read several times, twice by this room and up to many times by the file's own reader.
const MUTATIONS: usize = 3000;

/// The longest input that is made.
const LENGTH_MAX: usize = 8 * 1024;

/// Lines that a mutation likes to put in.
const LINES: [&str; 24] = [
    "frontend x\n",
    "backend web\n",
    "listen a :80\n",
    "defaults\n mode http\n",
    " bind *:443 ssl crt /a.pem\n",
    " use_backend web if { path_beg /a } !{ src 10.0.0.0/8 }\n",
    " http-request deny if a or !b\n",
    " http-request redirect scheme https unless { ssl_fc }\n",
    " acl a path_reg ^/(a|b)+$\n",
    " acl b hdr_dom(host) -i x.y\n",
    " server s 10.0.0.1:80 check inter 2s weight 3 backup\n",
    " default_backend web\n",
    " http-request set-header a \"b c\"\n",
    " http-request replace-path /a(.*) \\1\n",
    "vrrp_instance A {\n",
    " virtual_ipaddress { 10.0.0.9/24 }\n",
    " priority 255\n nopreempt\n",
    "virtual_server 10.0.0.1 80 {\n",
    " real_server 10.0.0.2 80 { weight 2 }\n",
    "}\n",
    "{ { {\n",
    " timeout client 99999999999d\n",
    "\"\n",
    "\\\n",
];

/// The corpus, and the cases that people have.
fn inputs() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = |folder: PathBuf| {
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
        files.sort();
        files
    };
    let read = |path: &Path| std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut inputs: Vec<Vec<u8>> = files(root.join("../fuzz/corpus/import")).iter().map(|path| read(path)).collect();
    for path in files(root.join("tests/cases")) {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("cfg") => inputs.push([b"0", &read(&path)[..]].concat()),
            Some("conf") => inputs.push([b"1", &read(&path)[..]].concat()),
            _ => {}
        }
    }
    assert!(inputs.len() >= 10);
    inputs
}

/// Lines taken out, doubled, moved and put in; bytes turned; splices.
fn mutate(random: &mut fastrand::Rng, inputs: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = inputs[random.usize(..inputs.len())].clone();
    for _ in 0..random.usize(1..5) {
        let starts: Vec<usize> =
            std::iter::once(1).chain(bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1)).collect();
        let at = starts[random.usize(..starts.len())].min(bytes.len());
        let next = bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |found| at + found + 1);
        match random.u8(..6) {
            0 => drop(bytes.drain(at..next)),
            1 => {
                let line = bytes[at..next].to_vec();
                bytes.splice(at..at, line);
            }
            2 | 3 => {
                let line = LINES[random.usize(..LINES.len())];
                bytes.splice(at..at, line.bytes());
            }
            4 if !bytes.is_empty() => {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            _ => {
                let other = &inputs[random.usize(..inputs.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[random.usize(..=other.len())..]);
            }
        }
    }
    bytes.truncate(LENGTH_MAX);
    bytes
}

#[test]
fn import() {
    let inputs = inputs();
    let attempt = |what: &str, bytes: &[u8]| {
        if catch_unwind(AssertUnwindSafe(|| target::import_file(bytes))).is_err() {
            panic!("{what}: {}", String::from_utf8_lossy(bytes));
        }
    };
    inputs.iter().enumerate().for_each(|(number, bytes)| attempt(&format!("input {number}"), bytes));
    let mut random = fastrand::Rng::with_seed(20_261_126);
    for number in 0..MUTATIONS {
        attempt(&format!("mutation {number}"), &mutate(&mut random, &inputs));
    }
}
