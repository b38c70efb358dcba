//! JSON Schema (draft 2020-12) for editors, printed from the same descriptions that drive the parser.

use serde_json::{Map, Value, json};

use crate::keys::ROOT;
use crate::spec::{Bounds, Key, Keys, Kind};
use crate::units::{format_duration, format_size, parse_size};

/// The names of tables and of the node: they become labels.
const NAME_PATTERN: &str = "^[A-Za-z0-9_.-]{1,64}$";

/// The schema of the file: types, ranges, choices, defaults and descriptions. What concerns several keys at once is left to
/// [`parse`](crate::parse()).
pub fn json_schema() -> Value {
    let mut schema = table(&ROOT);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("weir");
    schema
}

fn table(keys: &Keys) -> Value {
    let properties: Map<String, Value> = keys.keys.iter().map(|key| (key.name.to_string(), property(key))).collect();
    let required: Vec<&str> = keys.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut schema = json!({ "type": "object", "description": keys.about, "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = match key.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 }),
        Kind::TextOrTexts => json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }] }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Number => json!({ "type": "number" }),
        Kind::Count(bounds) => integer(bounds),
        Kind::Time(_) => json!({ "type": "string", "pattern": "^[0-9]+ *(ms|s|m|h|d)$" }),
        Kind::Size(bounds) => json!({ "anyOf": [{ "type": "string", "pattern": "^[0-9]+ *(B|KiB|MiB|GiB|TiB)$" }, integer(bounds)] }),
        Kind::Choice(words) => json!({ "type": "string", "enum": words.iter().map(|word| word.word).collect::<Vec<_>>() }),
        Kind::Table(keys) => table(keys),
        Kind::TableOrFlag(keys) => json!({ "anyOf": [table(keys), { "type": "boolean" }] }),
        Kind::NamedTables(keys) => {
            json!({ "type": "object", "propertyNames": { "pattern": NAME_PATTERN }, "additionalProperties": table(keys) })
        }
        Kind::Tables(keys) => json!({ "type": "array", "items": table(keys) }),
        Kind::Endpoints(keys) => json!({ "type": "array", "items": { "anyOf": [{ "type": "string" }, table(keys)] } }),
        Kind::Statuses => {
            let status = integer(Bounds { min: 200, max: 599, zero: None });
            let range = json!({ "type": "string", "pattern": "^[2-5][0-9]{2}( *- *[2-5][0-9]{2})?$" });
            json!({ "anyOf": [status, range, { "type": "array", "items": { "anyOf": [status, range] }, "minItems": 1 }] })
        }
    };
    schema["description"] = json!(description(key));
    if let Some(default) = key.default {
        schema["default"] = default_value(&key.kind, default);
    }
    schema
}

/// The smallest and the largest; a zero with a meaning of its own lies outside of them.
fn integer(bounds: Bounds) -> Value {
    let range = json!({ "type": "integer", "minimum": bounds.min, "maximum": bounds.max });
    match bounds.zero {
        Some(_) if bounds.min > 1 => json!({ "anyOf": [{ "const": 0 }, range] }),
        Some(_) => json!({ "type": "integer", "minimum": 0, "maximum": bounds.max }),
        None => range,
    }
}

/// The meaning, and what a schema cannot say in its own words.
fn description(key: &Key) -> String {
    let mut text = key.about.to_string();
    match key.kind {
        Kind::Choice(words) => {
            let lines = words.iter().map(|word| format!("{}: {}", word.word, word.about)).collect::<Vec<_>>();
            text.push_str(&format!(" {}.", lines.join("; ")));
        }
        Kind::Time(bounds) => {
            let write = |ms| format_duration(std::time::Duration::from_millis(ms));
            text.push_str(&format!(" A duration, {} to {}{}.", write(bounds.min), write(bounds.max), zero(bounds, "0s")));
        }
        Kind::Size(bounds) => {
            text.push_str(&format!(" A size, {} to {}{}.", format_size(bounds.min), format_size(bounds.max), zero(bounds, "0")));
        }
        Kind::Count(bounds) => text.push_str(&format!(" {} to {}{}.", bounds.min, bounds.max, zero(bounds, "0"))),
        _ => {}
    }
    text
}

fn zero(bounds: Bounds, written: &str) -> String {
    bounds.zero.map_or(String::new(), |means| format!(", or {written}: {means}"))
}

fn default_value(kind: &Kind, default: &str) -> Value {
    match kind {
        Kind::Flag | Kind::TableOrFlag(_) => json!(default == "true"),
        Kind::Count(_) => json!(default.parse::<u64>().unwrap_or_default()),
        Kind::Size(_) if parse_size(default).is_err() => json!(default.parse::<u64>().unwrap_or_default()),
        _ => json!(default),
    }
}
