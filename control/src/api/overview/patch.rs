//! The difference of two documents as a merge patch (RFC 7396). Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, to_value};

/// What changes `before` into `after`; `None`: nothing. Exact for documents whose `null` means the same as absence, which is all that a merge
/// patch can say (RFC 7396 section 1).
pub(super) fn difference(before: &Value, after: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        return (before != after).then(|| after.clone());
    };
    let mut patch = Map::new();
    for (key, value) in new {
        match old.get(key) {
            // What is new is added whole; its `null`s do no harm.
            None if value.is_null() => {}
            None => drop(patch.insert(key.clone(), value.clone())),
            Some(before) => {
                if let Some(change) = difference(before, value) {
                    patch.insert(key.clone(), change);
                }
            }
        }
    }
    for (key, value) in old {
        if !value.is_null() && !new.contains_key(key) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// The same for what has names, and of which most is as it was: that is compared and not written.
///
/// # Errors
/// Something has no form in JSON.
pub(super) fn difference_of_named<T: PartialEq + Serialize>(
    before: &BTreeMap<String, T>,
    after: &BTreeMap<String, T>,
) -> Result<Option<Value>, serde_json::Error> {
    let mut patch = Map::new();
    for (name, value) in after {
        let change = match before.get(name) {
            Some(before) if before == value => None,
            Some(before) => difference(&to_value(before)?, &to_value(value)?),
            None => Some(to_value(value)?),
        };
        patch.extend(change.map(|change| (name.clone(), change)));
    }
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    patch.extend(gone.map(|name| (name.clone(), Value::Null)));
    Ok((!patch.is_empty()).then_some(Value::Object(patch)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// RFC 7396 section 2.
    fn apply(target: &mut Value, patch: &Value) {
        let Value::Object(patch) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        let fields = target.as_object_mut().expect("made one");
        for (key, value) in patch {
            if value.is_null() {
                fields.remove(key);
            } else {
                apply(fields.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }

    fn without_nulls(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                Value::Object(fields.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), without_nulls(v))).collect())
            }
            other => other.clone(),
        }
    }

    #[test]
    fn a_patch_makes_one_of_the_other() {
        let documents = [
            json!({}),
            json!({"a": 1}),
            json!({"a": null, "b": [1, null]}),
            json!({"a": {"b": {"c": 1, "d": null}}, "e": 2}),
            json!({"a": {"b": {"c": 2}, "f": {}}, "e": null}),
            json!({"a": {"b": 3}}),
            json!({"a": [], "e": {"x": {"y": null}}}),
        ];
        for before in &documents {
            assert_eq!(difference(before, before), None, "{before}");
            for after in &documents {
                let mut target = before.clone();
                if let Some(patch) = difference(before, after) {
                    apply(&mut target, &patch);
                }
                assert_eq!(without_nulls(&target), without_nulls(after), "{before} to {after}");
            }
        }
    }

    #[test]
    fn only_what_changed_is_said() {
        let before = json!({"pools": {"a": {"n": 1, "m": 2}, "b": {"n": 1}}, "at": 1});
        let after = json!({"pools": {"a": {"n": 1, "m": 3}}, "at": 2});
        assert_eq!(difference(&before, &after), Some(json!({"pools": {"a": {"m": 3}, "b": null}, "at": 2})));
    }

    #[test]
    fn what_has_names_is_told_alike() {
        type Named = BTreeMap<String, BTreeMap<String, Option<u32>>>;
        let states =
            [json!({}), json!({"a": {"n": 1, "m": null}}), json!({"a": {"n": 2, "m": 3}, "b": {}}), json!({"b": {"n": 1}, "c": {}})];
        for before in &states {
            for after in &states {
                let named = |state: &Value| serde_json::from_value::<Named>(state.clone()).expect("named");
                let told = difference_of_named(&named(before), &named(after)).expect("JSON");
                assert_eq!(told, difference(before, after), "{before} to {after}");
            }
        }
    }
}
