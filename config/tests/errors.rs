//! Each file in `errors/` is wrong in the way its first line says; beside it lies what a person is told.

#[path = "support/mod.rs"]
mod support;

use support::{bless, repository};
use weir_config::parse;

#[test]
fn errors_read_as_expected() {
    let folder = repository().join("config/tests/errors");
    let mut scenarios = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        scenarios += 1;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let shown = parse(&text, &name).expect_err(&name).render(false);
        assert!(!shown.contains("hunter2"), "{name} tells a secret:\n{shown}");
        let expected = path.with_extension("stderr");
        if bless() {
            std::fs::write(&expected, &shown).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != shown {
            wrong.push(format!("{name} reads:\n{shown}"));
        }
    }
    assert!(scenarios > 10);
    assert!(wrong.is_empty(), "{}\nIf this is meant, run with WEIR_BLESS=1 and review the difference.", wrong.join("\n"));
}

#[test]
fn errors_as_data() {
    let errors = parse("[pool.web]\nendpoints = [\"a:1\", \"b\"]\nbalanse = 1\n", "weir.toml").unwrap_err();
    let items = serde_json::to_value(errors.items()).unwrap();
    assert_eq!(items[0]["path"], "pool.web.endpoints[1]");
    assert_eq!((&items[0]["line"], &items[0]["column"]), (&2.into(), &21.into()));
    assert_eq!(items[1]["path"], "pool.web.balanse");
    assert_eq!(items[1]["message"], "unknown key `balanse` in [pool.NAME]");
    assert_eq!(items[1]["help"], "did you mean `balance`?");
    assert_eq!(errors.items()[1].to_string(), "3:1: unknown key `balanse` in [pool.NAME] (did you mean `balance`?)");
}

#[test]
fn colour_only_adds_escapes() {
    let errors = parse("[nod]\n", "weir.toml").unwrap_err();
    let mut plain = errors.render(true);
    for escape in ["\x1b[1;31m", "\x1b[1;32m", "\x1b[1;34m", "\x1b[1m", "\x1b[0m"] {
        plain = plain.replace(escape, "");
    }
    assert_eq!(plain, errors.render(false));
    assert_ne!(plain, errors.render(true));
}
