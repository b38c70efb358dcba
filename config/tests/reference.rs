//! `docs/configuration.md` is written from the schema, so that it cannot say anything that the parser does not know.

#[path = "support/mod.rs"]
mod support;

use std::fmt::Write as _;

use serde_json::Value;
use support::{bless, repository};
use weir_config::json_schema;

const HEAD: &str = "# The configuration file, key by key

This file is generated from `schema/weir.schema.json`, which `weir schema` prints; [examples/full.toml](../examples/full.toml) shows every key
in its place. `weir check FILE` says every mistake at once, with its line.

Durations are strings with one unit (`\"250ms\"`, `\"2s\"`, `\"1m\"`, `\"1h\"`), sizes too (`\"512B\"`, `\"16KiB\"`, `\"1MiB\"`). `NAME` stands for a name
of yours: letters, digits, hyphen, underscore and dot, at most 64. Unknown keys are errors. A key without a default may be left out unless it is
called required.
";

/// One kind of table: how it is written, and its schema.
type Kind<'a> = (String, &'a Value);

#[test]
fn the_reference_is_checked_in() {
    let path = repository().join("docs/configuration.md");
    let written = reference(&json_schema());
    if bless() {
        std::fs::write(&path, &written).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == written, "docs/configuration.md is out of date; run with WEIR_BLESS=1 and review the difference");
}

#[test]
fn every_key_is_in_it() {
    let written = reference(&json_schema());
    for key in support::schema_keys() {
        let last = key.rsplit('.').next().unwrap();
        assert!(
            last == "*"
                || written.contains(&format!("| `{last}` |"))
                || written.contains(&format!(".{last}]"))
                || written.contains(&format!("[{last}")),
            "{key}"
        );
    }
}

fn reference(schema: &Value) -> String {
    let mut text = HEAD.to_owned();
    let mut tables: Vec<Kind<'_>> = Vec::new();
    for (name, property) in schema["properties"].as_object().unwrap() {
        collect(name, property, &mut tables);
    }
    text.push_str("\nThe tables:\n\n");
    for (place, table) in &tables {
        let about = first_sentence(table["description"].as_str().unwrap_or_default());
        writeln!(text, "- [`{place}`](#{}): {about}", anchor(place)).unwrap();
    }
    for (place, table) in &tables {
        writeln!(text, "\n## `{place}`\n\n{}\n", table["description"].as_str().unwrap_or_default()).unwrap();
        text.push_str("| key | written as | default | meaning |\n|---|---|---|---|\n");
        for (name, property) in table["properties"].as_object().unwrap() {
            writeln!(text, "{}", row(name, property, is_required(table, name))).unwrap();
        }
    }
    text
}

/// The tables below a property, in the order of the schema.
fn collect<'a>(path: &str, property: &'a Value, tables: &mut Vec<Kind<'a>>) {
    let (place, path, table) = match shape(property) {
        Shape::Table(table) => (format!("[{path}]"), path.to_owned(), table),
        Shape::Named(table) => (format!("[{path}.NAME]"), format!("{path}.NAME"), table),
        Shape::List(table) => (format!("[[{path}]]"), path.to_owned(), table),
        Shape::Items(table) => (format!("an item of {path}"), path.to_owned(), table),
        Shape::Value => return,
    };
    tables.push((place, table));
    for (name, below) in table["properties"].as_object().unwrap() {
        collect(&format!("{path}.{name}"), below, tables);
    }
}

enum Shape<'a> {
    Value,
    Table(&'a Value),
    Named(&'a Value),
    List(&'a Value),
    /// A table in a list of values or tables.
    Items(&'a Value),
}

fn shape(property: &Value) -> Shape<'_> {
    let is_table = |value: &Value| value["properties"].is_object();
    if is_table(property) {
        return Shape::Table(property);
    }
    if is_table(&property["additionalProperties"]) {
        return Shape::Named(&property["additionalProperties"]);
    }
    if is_table(&property["items"]) {
        return Shape::List(&property["items"]);
    }
    let one_of = |value: &'_ Value| value["anyOf"].as_array().and_then(|any| any.iter().position(is_table));
    if let Some(at) = one_of(property) {
        return Shape::Table(&property["anyOf"][at]);
    }
    match one_of(&property["items"]) {
        Some(at) => Shape::Items(&property["items"]["anyOf"][at]),
        None => Shape::Value,
    }
}

fn is_required(table: &Value, name: &str) -> bool {
    table["required"].as_array().is_some_and(|required| required.iter().any(|key| key == name))
}

fn row(name: &str, property: &Value, is_required: bool) -> String {
    let default = match (&property["default"], is_required) {
        (Value::Null, true) => "required".to_owned(),
        (Value::Null, false) => String::new(),
        (default, _) => format!("`{default}`"),
    };
    let meaning = property["description"].as_str().unwrap_or_default().replace('|', "\\|");
    format!("| `{name}` | {} | {default} | {meaning} |", written_as(property))
}

/// What is written behind the equals sign, or how the table is written.
fn written_as(property: &Value) -> String {
    match shape(property) {
        Shape::Table(_) if property["anyOf"].is_array() => return "table, or `false`".into(),
        Shape::Table(_) => return "table".into(),
        Shape::Named(_) => return "tables by name".into(),
        Shape::List(_) => return "list of tables".into(),
        Shape::Items(_) => return "list of strings or tables".into(),
        Shape::Value => {}
    }
    if let Some(any) = property["anyOf"].as_array() {
        let mut kinds: Vec<String> = any.iter().map(written_as).collect();
        kinds.dedup();
        return kinds.join(" or ");
    }
    if let Some(words) = property["enum"].as_array() {
        return words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    }
    match property["type"].as_str() {
        Some("string") => match property["pattern"].as_str() {
            Some(pattern) if pattern.contains("(ms|s|m|h)") => "duration",
            Some(pattern) if pattern.contains("KiB") => "size",
            Some(_) => "string such as \"300-399\"",
            None => "string",
        },
        Some("boolean") => "`true` or `false`",
        Some("integer") => "number",
        Some("number") => "number with a fraction",
        Some("array") => return format!("list of {}", plural(&written_as(&property["items"]))),
        _ if !property["const"].is_null() => return format!("`{}`", property["const"]),
        _ => "value",
    }
    .into()
}

fn plural(kind: &str) -> String {
    match kind {
        "string" => "strings".into(),
        "number" => "numbers".into(),
        other => other.into(),
    }
}

fn first_sentence(text: &str) -> &str {
    text.split_inclusive(". ").next().unwrap_or_default().trim()
}

/// The anchor that a heading gets: lower case, without punctuation, blanks as hyphens.
fn anchor(place: &str) -> String {
    let kept = place.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}
