//! What the documents show is true: their examples are files that are taken, and what they measure exists.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use support::repository;
use weir_config::parse;

/// All pages for people: those of `docs/`, and the front page.
fn pages() -> Vec<PathBuf> {
    let mut found = vec![repository().join("README.md")];
    found.extend(files(&repository().join("docs")).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The TOML of a page as whole files: blocks go on where the one before ended, unless they begin with the name of a file.
fn examples(page: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for block in page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()) {
        let begins = block.lines().next().is_some_and(|line| line.starts_with("# ") && line.ends_with(".toml"));
        match found.last_mut() {
            Some(file) if !begins => *file += block,
            _ => found.push(block.to_owned()),
        }
    }
    found
}

#[test]
fn every_example_is_taken() {
    let mut count = 0;
    for page in pages() {
        for text in examples(&read(&page)) {
            count += 1;
            if let Err(errors) = parse(&text, &page.display().to_string()) {
                panic!("{}\n{text}", errors.render(false));
            }
        }
    }
    assert!(count >= 3);
}

/// Links between pages lead to files that are there.
#[test]
fn links_lead_somewhere() {
    for page in pages() {
        let text = read(&page);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let is_ours = !file.is_empty() && !file.contains("://") && !file.contains(' ');
            assert!(!is_ours || page.parent().unwrap().join(file).exists(), "{}: {target}", page.display());
        }
    }
}

#[test]
fn dashboards_and_rules_ask_for_metrics_that_exist() {
    let reference = read(&repository().join("docs/metrics.md"));
    let known: BTreeSet<&str> =
        reference.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|line| line.split('`').next()).collect();
    let mut seen = 0;
    for folder in ["docs/prometheus", "docs/grafana"] {
        for path in files(&repository().join(folder)) {
            let text = read(&path);
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("weir_"));
            for word in words {
                seen += 1;
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix)).unwrap_or(word);
                assert!(known.contains(word) || known.contains(base), "{}: there is no metric {word}", path.display());
            }
        }
    }
    assert!(seen > 40);
    // And it is JSON.
    let dashboard: serde_json::Value = serde_json::from_str(&read(&repository().join("docs/grafana/weir.json"))).unwrap();
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() >= 12));
}
