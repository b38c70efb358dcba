//! Names: which are allowed, how they are written, and which one was likely meant.

use crate::spec::{Key, Keys};

/// Names longer than this are not compared with others: the comparison takes the product of both lengths.
const NEAREST_CHARS_MAX: usize = 64;

/// The name of a key below a path, quoted where TOML would quote it.
pub(crate) fn join(path: &str, name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let name = if bare { name.to_string() } else { format!("{name:?}") };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

/// Names become labels of metrics and parts of URLs.
pub(crate) fn check_label(name: &str) -> Result<(), String> {
    const CHARS_MAX: usize = 64;
    match name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '.' | '-')) {
        Some(c) => Err(format!("has {c:?} in it; letters, digits, hyphen, underscore and dot are possible")),
        None if name.is_empty() => Err("is empty".into()),
        None if name.len() > CHARS_MAX => Err(format!("is longer than {CHARS_MAX} characters")),
        None => Ok(()),
    }
}

/// The name most likely meant, if one is near.
pub(crate) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    if name.chars().count() > NEAREST_CHARS_MAX {
        return None;
    }
    let name = name.to_ascii_lowercase().replace('-', "_");
    names
        .map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.to_ascii_lowercase().replace('-', "_")), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count().min(name.chars().count()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The table where a key of this name exists.
pub(crate) fn place_of(keys: &'static Keys, name: &str) -> Option<&'static str> {
    let below = || keys.keys.iter().filter_map(Key::tables).find_map(|keys| place_of(keys, name));
    if keys.find(name).is_some() { Some(keys.place) } else { below() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found() {
        let names = ["interval", "fast_interval", "timeout", "rise", "fall", "port"];
        for (name, near) in [
            ("intervall", Some("interval")),
            ("fast-interval", Some("fast_interval")),
            ("Timeout", Some("timeout")),
            ("time_out", Some("timeout")),
            ("raise", Some("rise")),
            ("prot", Some("port")),
            ("threshold", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, names.into_iter()), near, "{name}");
        }
    }

    #[test]
    fn paths_quote_what_toml_quotes() {
        assert_eq!(join(&join("", "pool"), "a.b"), "pool.\"a.b\"");
    }
}
