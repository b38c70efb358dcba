//! What several tests share.
#![allow(dead_code)] // each test program uses a part of it

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

/// The folder that holds all crates.
pub(crate) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a folder of the repository").to_path_buf()
}

/// Expectations are rewritten instead of compared; the difference is reviewed.
pub(crate) fn bless() -> bool {
    std::env::var_os("WEIR_BLESS").is_some_and(|value| value == "1")
}

/// A TOML file as JSON, the way editors see it.
pub(crate) fn to_json(text: &str) -> Value {
    fn convert(value: toml::Value) -> Value {
        match value {
            toml::Value::String(text) => json!(text),
            toml::Value::Integer(number) => json!(number),
            toml::Value::Float(number) => json!(number),
            toml::Value::Boolean(flag) => json!(flag),
            toml::Value::Datetime(when) => json!(when.to_string()),
            toml::Value::Array(items) => items.into_iter().map(convert).collect(),
            toml::Value::Table(table) => {
                Value::Object(table.into_iter().map(|(name, value)| (name, convert(value))).collect::<Map<_, _>>())
            }
        }
    }
    convert(toml::Value::Table(toml::from_str(text).expect("it is TOML")))
}

/// All keys of the schema, with `*` for names, such as `pool.*.health.type`.
pub(crate) fn schema_keys() -> BTreeSet<String> {
    fn walk(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
        let join = |name: &str| if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            found.insert(join(name));
            walk(property, &join(name), found);
        }
        if schema["additionalProperties"].is_object() {
            found.insert(join("*"));
            walk(&schema["additionalProperties"], &join("*"), found);
        }
        if schema["items"].is_object() {
            walk(&schema["items"], path, found);
        }
        schema["anyOf"].as_array().into_iter().flatten().for_each(|one| walk(one, path, found));
    }
    let mut found = BTreeSet::new();
    walk(&weir_config::json_schema(), "", &mut found);
    found
}

/// The part of JSON Schema that our schema uses. A word it does not know fails, so that nothing goes unchecked.
pub(crate) fn validate(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let fail = |what: &str| Err(format!("{at}: {value} {what}"));
    for (word, rule) in schema.as_object().expect("a schema is an object") {
        match word.as_str() {
            "$schema" | "title" | "description" | "default" | "propertyNames" => {}
            "type" => {
                let fits = match rule.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "number" => value.is_number(),
                    "integer" => value.is_i64() || value.is_u64(),
                    other => panic!("unknown type {other}"),
                };
                if !fits {
                    return fail(&format!("is not of type {rule}"));
                }
            }
            "enum" if !rule.as_array().unwrap().contains(value) => return fail("is none of the choices"),
            "const" if rule != value => return fail("is not the one value"),
            "enum" | "const" => {}
            "pattern" => {
                if !regex::Regex::new(rule.as_str().unwrap()).unwrap().is_match(value.as_str().unwrap_or_default()) {
                    return fail("does not match the pattern");
                }
            }
            "minimum" if value.as_u64() < rule.as_u64() => return fail("is too small"),
            "maximum" if value.as_u64() > rule.as_u64() => return fail("is too large"),
            "minItems" if value.as_array().is_some_and(|items| (items.len() as u64) < rule.as_u64().unwrap()) => {
                return fail("is too short");
            }
            "minimum" | "maximum" | "minItems" => {}
            "anyOf" => {
                let tries: Vec<_> = rule.as_array().unwrap().iter().map(|one| validate(one, value, at)).collect();
                if tries.iter().all(|one| one.is_err()) {
                    return fail(&format!("fits nothing: {tries:?}"));
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    validate(rule, item, &format!("{at}[{index}]"))?;
                }
            }
            "required" => {
                if let Some(name) = rule.as_array().unwrap().iter().find(|name| value.get(name.as_str().unwrap()).is_none()) {
                    return fail(&format!("lacks {name}"));
                }
            }
            "properties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    if let Some(rule) = rule.get(name) {
                        validate(rule, value, &format!("{at}.{name}"))?;
                    }
                }
            }
            "additionalProperties" => {
                for (name, value) in value.as_object().into_iter().flatten().filter(|(name, _)| schema["properties"].get(name).is_none()) {
                    if rule == &json!(false) {
                        return fail(&format!("has the unknown key {name}"));
                    }
                    validate(rule, value, &format!("{at}.{name}"))?;
                }
            }
            other => panic!("the schema uses {other}, which this test does not know"),
        }
    }
    Ok(())
}
