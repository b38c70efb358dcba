//! Whatever is in the file: an answer, no panic.

#[path = "support/mod.rs"]
mod support;

use proptest::prelude::*;
use weir_config::{diff, parse, parse_bind_address, parse_duration, parse_endpoint_address, parse_size, warnings};

/// What a mutation writes over the file: pieces of syntax, wrong values, and right ones in wrong places.
const PIECES: [&str; 32] = [
    "",
    "\"",
    "'",
    "[",
    "]",
    "[[",
    "{",
    "}",
    "=",
    ",",
    "\n",
    "\r",
    "\0",
    "\u{feff}",
    "é",
    "#",
    ".",
    "\"\"\"",
    "0",
    "-1",
    "1e9",
    "inf",
    "true",
    "1979-05-27",
    "\"0s\"",
    "\"10.0.0.11:8080\"",
    "[pool.web]\n",
    "[listener.web]\n",
    "pool = \"x\"\n",
    "99999999999999999999",
    "\\u{1}",
    "0x",
];

fn examples() -> Vec<String> {
    let folder = support::repository().join("examples");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// Parses, and looks at all that comes out.
fn exercise(text: &str) {
    match parse(text, "f.toml") {
        Ok(config) => {
            assert!(diff(&config, &config).is_empty());
            warnings(&config);
        }
        Err(errors) => {
            assert!(!errors.items().is_empty());
            let lines = text.split('\n').count();
            assert!(errors.items().iter().all(|error| (1..=lines).contains(&error.line) && error.column >= 1));
            errors.render(true);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn arbitrary_text(text in any::<String>()) {
        exercise(&text);
        let _ = (parse_duration(&text), parse_size(&text), parse_endpoint_address(&text), parse_bind_address(&text));
    }

    #[test]
    fn addresses_read_what_they_write(text in "[a-z0-9.:\\[\\]-]{0,20}:[0-9]{1,5}") {
        if let Ok(address) = parse_endpoint_address(&text) {
            prop_assert_eq!(parse_endpoint_address(&address.to_string()), Ok(address));
        }
    }

    #[test]
    fn mutated_examples(which in any::<prop::sample::Index>(), edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, 0usize..PIECES.len()), 1..4)) {
        let examples = examples();
        let mut text: Vec<char> = which.get(&examples).chars().collect();
        for (at, removed, piece) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, PIECES[piece].chars());
        }
        exercise(&text.into_iter().collect::<String>());
    }

    #[test]
    fn two_mutations_differ_in_the_diff_if_and_only_if_they_differ(a in 0usize..40, b in 0usize..40) {
        let text = |n: usize| format!(
            "[node]\nworkers = {}\n[listener.a]\nbind = \"10.0.0.1:{}\"\npool = \"a\"\n[pool.a]\nmin_healthy = {}\nendpoints = [\"a:{}\"]\n",
            n % 2, 1 + n % 3, n % 5, 1 + n % 7
        );
        let (old, new) = (parse(&text(a), "f").unwrap(), parse(&text(b), "f").unwrap());
        prop_assert_eq!(old == new, diff(&old, &new).is_empty());
    }
}

#[test]
fn hostile_texts() {
    exercise(&"[".repeat(100_000));
    exercise(&format!("a = {}", "[".repeat(100_000)));
    exercise(&"a.".repeat(50_000));
    exercise(&"x = 1\n".repeat(20_000));
    exercise(&(0..20_000).map(|n| format!("[pool.p{n}]\nzebra = 1\n")).collect::<String>());
    exercise(&"[pool.web]\n".repeat(20_000));
    exercise(&"=\n".repeat(20_000));
    exercise(&format!("[pool.{}]", "x".repeat(1_000_000)));
}

/// The size that a node must start with within a second, data plane included; reading it may only be a part of that.
#[test]
fn a_thousand_pools_of_ten_are_read_quickly() {
    let pool = |n: usize| {
        let endpoints: Vec<String> = (0..10).map(|e| format!("\"10.{}.{}.{}:8080\"", n / 256, n % 256, e + 1)).collect();
        format!("[pool.p{n}]\nendpoints = [{}]\n[pool.p{n}.health]\ntype = \"http\"\npath = \"/healthz\"\n", endpoints.join(", "))
    };
    let listener = |n: usize| format!("[listener.l{n}]\nbind = \"10.0.0.1:{}\"\npool = \"p{n}\"\n", n + 1);
    let text: String = (0..1000).map(|n| listener(n) + &pool(n)).collect();
    let start = std::time::Instant::now();
    let config = parse(&text, "f").expect("it is right");
    let taken = start.elapsed();
    assert_eq!((config.pools.len(), config.listeners.len()), (1000, 1000));
    println!("read {} bytes in {taken:?}", text.len());
    // Generous, as the machine that runs this may be busy.
    assert!(taken < std::time::Duration::from_secs(1), "{taken:?}");
}
