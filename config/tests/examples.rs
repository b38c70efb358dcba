//! The examples are what people copy: they parse, and one of them shows every key.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;

use serde_json::Value;
use support::{bless, repository, schema_keys, to_json, validate};
use weir_config::{Config, diff, json_schema, parse, share_unchanged, warnings};

fn examples() -> Vec<(String, String)> {
    let mut found: Vec<_> = std::fs::read_dir(repository().join("examples"))
        .expect("the examples are there")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    found.sort();
    found
}

fn example(name: &str) -> String {
    examples().into_iter().find(|(file, _)| file == name).map(|(_, text)| text).expect("the example is there")
}

fn parsed(text: &str) -> Config {
    parse(text, "example.toml").unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

#[test]
fn every_example_parses_and_fits_the_schema() {
    let schema = json_schema();
    assert!(examples().len() >= 4);
    for (name, text) in examples() {
        let config = parsed(&text);
        assert_eq!(warnings(&config), Vec::<String>::new(), "{name}");
        assert_eq!(diff(&config, &parsed(&text)), [], "{name}");
        validate(&schema, &to_json(&text), &name).unwrap();
    }
}

/// What an editor lets pass is at least shaped like what the parser takes, and what an editor marks the parser refuses.
#[test]
fn the_schema_never_refuses_what_the_parser_takes() {
    let base = "[listener.a]\nbind = \"10.0.0.1:1\"\npool = \"a\"\n[pool.a]\n";
    for (extra, fits) in [
        ("", true),
        ("min_healthy = 0", true),
        ("min_healthy = -1", false),
        ("slow_start = \"90s\"", true),
        ("slow_start = 90", false),
        ("slow_start = \"90\"", false),
        ("ejection = false", true),
        ("ejection = \"no\"", false),
        ("balance = \"maglev\"\nhash = { key = \"source\", load_bound = 0 }", true),
        ("balance = \"maglev\"\nhash = { key = \"source\", load_bound = 50 }", false),
        ("balance = \"maglef\"", false),
        ("endpoints = [\"a:1\", { address = \"b:1\", weight = 1000 }]", true),
        ("endpoints = [{ address = \"b:1\", weight = 0 }]", false),
        ("endpoints = [{ weight = 1 }]", false),
        ("health = { type = \"http\", expect = [200, \"204\", \"300-399\"] }", true),
        ("health = { type = \"http\", expect = 600 }", false),
        ("health = { interval = \"2s\" }", false),
        ("zebra = 1", false),
        ("[listener.a.limits]\nbody_bytes_max = \"1GiB\"", true),
        ("[listener.a.limits]\nbody_bytes_max = 0", true),
        ("[listener.a.limits]\nbody_bytes_max = \"1GB\"", false),
    ] {
        let text = format!("{base}{extra}\n");
        assert_eq!(parse(&text, "f").is_ok(), fits, "parser: {extra}");
        assert_eq!(validate(&json_schema(), &to_json(&text), "f").is_ok(), fits, "schema: {extra}");
    }
}

#[test]
fn the_full_example_sets_every_key() {
    let set = written_keys(&schema_keys(), &to_json(&example("full.toml")));
    let missing: Vec<_> = schema_keys().difference(&set).cloned().collect();
    assert!(missing.is_empty(), "not in full.toml: {missing:?}");
}

/// Every key is read by the parser: with a value of a type that no key accepts, each is reported under its own name.
#[test]
fn the_parser_reads_every_key_of_the_schema() {
    let text = example("full.toml");
    let lines: Vec<&str> = text.lines().collect();
    let mut read = BTreeSet::new();
    for (index, line) in lines.iter().enumerate() {
        let Some((key, _)) = line
            .split_once('=')
            .filter(|(key, _)| key.trim_end().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
        else {
            continue;
        };
        let wrong = format!("{} = 1979-05-27", key.trim());
        let end = if line.trim_end().ends_with('[') { index + lines[index..].iter().position(|line| *line == "]").unwrap() } else { index };
        let text = [&lines[..index], &[wrong.as_str()], &lines[end + 1..]].concat().join("\n");
        let errors = parse(&text, "full.toml").expect_err(line);
        let error = errors.items().iter().find(|error| error.line == index + 1).unwrap_or_else(|| panic!("{line}: {errors}"));
        assert!(error.path.ends_with(key.trim()), "{line}: {}", error.path);
        read.insert(key.trim().to_string());
    }
    for wrong in ["{ address = 1 }", "{ address = \"a:1\", weight = \"1\" }", "{ address = \"a:1\", tier = \"1\" }"] {
        let errors = parse(&format!("[pool.web]\nendpoints = [{wrong}]"), "f").expect_err(wrong);
        read.insert(errors.items()[0].path.rsplit('.').next().unwrap().to_string());
    }
    let peer =
        "[vip.a]\ninterface = \"a\"\nrouter_id = 1\naddresses = [\"10.0.0.1/24\"]\npeers = [{ address = \"10.0.0.2\", ttl_min = \"1\" }]";
    read.insert(parse(peer, "f").expect_err(peer).items()[0].path.rsplit('.').next().unwrap().to_string());
    let leaves: BTreeSet<String> = schema_keys()
        .iter()
        .filter(|key| !schema_keys().iter().any(|other| other.starts_with(&format!("{key}."))) || key.ends_with(".endpoints"))
        .map(|key| key.rsplit('.').next().unwrap().to_string())
        .collect();
    let missing: Vec<_> = leaves.difference(&read).collect();
    assert!(missing.is_empty(), "never read: {missing:?}");
}

/// What the schema says a key is by default is what the parser takes.
#[test]
fn defaults_written_out_change_nothing() {
    let base = "[api]\n[access_log]\n[listener.a]\nbind = \"10.0.0.1:1\"\npool = \"a\"\n[pool.a]\nendpoints = [\"10.0.0.2:1\"]\n";
    let written = "[node]\nname = \"weir\"\nworkers = 0\nstate_dir = \"/var/lib/weir\"\ndrain_timeout = \"30s\"\nprobes_max = 256\n";
    assert_eq!(diff(&parsed(base), &parsed(&format!("{base}{written}"))), []);

    let http = weir_config::HttpLimits::default();
    let config = parsed(base);
    let listener = &config.listeners[&"a".into()];
    let weir_config::Protocol::Http(found) = &listener.protocol else { panic!("http is the default") };
    assert_eq!(found.limits, http);
    assert_eq!(found.headers, Default::default());
    assert_eq!(listener.timeouts, Default::default());
    let pool = &config.pools[&"a".into()];
    assert_eq!(pool.timeouts, Default::default());
    assert_eq!(pool.limits, Default::default());
    assert_eq!(pool.ejection, Some(Default::default()));
}

#[test]
fn the_schema_is_checked_in() {
    let path = repository().join("schema/weir.schema.json");
    if bless() {
        std::fs::write(&path, format!("{}\n", serde_json::to_string_pretty(&json_schema()).unwrap())).unwrap();
    }
    // Compared as values: the order of keys depends on how serde_json was built.
    let stored = std::fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
    assert!(stored == Some(json_schema()), "schema/weir.schema.json is out of date; run with WEIR_BLESS=1 and review the difference");
}

#[test]
fn what_did_not_change_is_shared() {
    let old = parsed(&example("full.toml"));
    let mut new = parsed(&example("full.toml").replace("queue_max                = 1000", "queue_max = 7"));
    share_unchanged(&old, &mut new);
    let shared = |name: &str| std::sync::Arc::ptr_eq(&old.pools[&name.into()], &new.pools[&name.into()]);
    assert!(!shared("web") && shared("api") && shared("mail"));
    assert!(std::sync::Arc::ptr_eq(&old.listeners[&"web".into()], &new.listeners[&"web".into()]));
}

/// The keys of the schema that a file sets, with `*` for names.
fn written_keys(keys: &BTreeSet<String>, file: &Value) -> BTreeSet<String> {
    fn walk(keys: &BTreeSet<String>, path: &str, value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(entries) => {
                for (name, value) in entries {
                    let full = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    let full = if keys.contains(&full) { full } else { format!("{path}.*") };
                    found.insert(full.clone());
                    walk(keys, &full, value, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(keys, path, item, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    walk(keys, "", file, &mut found);
    found
}
