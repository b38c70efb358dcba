//! When a route takes a request: what our routes can say, and what two of them say together.

use weir_config::Pattern;

use crate::draft::Block;
use crate::note::Place;
use crate::text::{one_or_list, text};

/// What the path must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum PathWant {
    Prefix(String),
    Exact(String),
    Regex(String),
}

/// What a field must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Want {
    Present,
    Absent,
    Value(String),
    Regex(String),
}

/// A header field, a cookie or a query parameter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Field {
    /// `header`, `cookie` or `query`.
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) want: Want,
}

/// Everything in it must hold; of a list one is enough; what is empty always holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Condition {
    pub(crate) hosts: Vec<String>,
    pub(crate) path: Option<PathWant>,
    pub(crate) methods: Vec<String>,
    pub(crate) sources: Vec<String>,
    pub(crate) server_names: Vec<String>,
    pub(crate) fields: Vec<Field>,
}

/// Two conditions at once.
#[derive(PartialEq, Debug)]
pub(crate) enum Both {
    /// One condition says it.
    One(Condition),
    /// No request meets both.
    Never,
    /// A route cannot say it.
    Unclear,
}

impl Condition {
    /// Every request.
    pub(crate) fn is_any(&self) -> bool {
        *self == Condition::default()
    }

    pub(crate) fn and(&self, other: &Condition) -> Both {
        let Some(path) = both_paths(self.path.as_ref(), other.path.as_ref()) else { return Both::Unclear };
        let Ok(path) = path else { return Both::Never };
        let Some(sources) = both_sources(&self.sources, &other.sources) else { return Both::Unclear };
        let lists = (
            both_lists(&self.hosts, &other.hosts, covers),
            both_lists(&self.server_names, &other.server_names, covers),
            both_lists(&self.methods, &other.methods, |a, b| a == b),
        );
        let (Some(hosts), Some(server_names), Some(methods)) = lists else { return Both::Never };
        let mut fields = self.fields.clone();
        for field in &other.fields {
            let same = |known: &&Field| known.kind == field.kind && known.name == field.name;
            if let Some(known) = fields.iter().find(same) {
                match (&known.want, &field.want) {
                    (Want::Absent, Want::Absent) => {}
                    (Want::Absent, _) | (_, Want::Absent) => return Both::Never,
                    _ => {}
                }
            }
            if !fields.contains(field) {
                fields.push(field.clone());
            }
        }
        Both::One(Condition { hosts, path, methods, sources, server_names, fields })
    }

    /// Writes it into a route. The lists of fields stand in one line each.
    pub(crate) fn write(&self, route: &mut Block, place: Place) {
        for (name, values) in [("host", &self.hosts), ("method", &self.methods), ("source", &self.sources), ("sni", &self.server_names)] {
            if !values.is_empty() {
                route.set(name, one_or_list(values), place);
            }
        }
        match &self.path {
            Some(PathWant::Prefix(path)) => route.set("path", text(path), place),
            Some(PathWant::Exact(path)) => route.set("path_exact", text(path), place),
            Some(PathWant::Regex(path)) => route.set("path_regex", text(path), place),
            None => {}
        }
        for kind in ["header", "cookie", "query"] {
            let fields: Vec<String> = self.fields.iter().filter(|field| field.kind == kind).map(Field::write).collect();
            if !fields.is_empty() {
                route.set(kind, format!("[{}]", fields.join(", ")), place);
            }
        }
    }
}

impl Field {
    fn write(&self) -> String {
        let name = text(&self.name);
        match &self.want {
            Want::Present => format!("{{ name = {name} }}"),
            Want::Absent => format!("{{ name = {name}, present = false }}"),
            Want::Value(value) => format!("{{ name = {name}, value = {} }}", text(value)),
            Want::Regex(regex) => format!("{{ name = {name}, regex = {} }}", text(regex)),
        }
    }
}

/// Whether a host pattern takes everything that another does.
fn covers(pattern: &str, other: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(below) => other.strip_prefix('*').unwrap_or(other).ends_with(below) && (other.starts_with('*') || other.len() > below.len()),
        None => pattern == other,
    }
}

/// What both lists take; `None`: nothing.
fn both_lists(one: &[String], other: &[String], covers: fn(&str, &str) -> bool) -> Option<Vec<String>> {
    match (one, other) {
        (one, []) => Some(one.to_vec()),
        ([], other) => Some(other.to_vec()),
        _ => {
            let mut both: Vec<String> = one.iter().filter(|a| other.iter().any(|b| covers(b, a))).cloned().collect();
            for b in other.iter().filter(|b| one.iter().any(|a| covers(a, b))) {
                if !both.contains(b) {
                    both.push(b.clone());
                }
            }
            Some(both).filter(|both| !both.is_empty())
        }
    }
}

/// Ranges are compared by their words: which of two holds the other is left to who reads the note.
fn both_sources(one: &[String], other: &[String]) -> Option<Vec<String>> {
    match (one, other) {
        (one, []) => Some(one.to_vec()),
        ([], other) => Some(other.to_vec()),
        (one, other) if one == other => Some(one.to_vec()),
        _ => None,
    }
}

/// `None`: a route cannot say both. `Err`: no path is both.
fn both_paths(one: Option<&PathWant>, other: Option<&PathWant>) -> Option<Result<Option<PathWant>, ()>> {
    use PathWant::{Exact, Prefix, Regex};
    let (one, other) = match (one, other) {
        (None, path) | (path, None) => return Some(Ok(path.cloned())),
        (Some(one), Some(other)) if one == other => return Some(Ok(Some(one.clone()))),
        (Some(one), Some(other)) => (one, other),
    };
    let found = match (one, other) {
        (Prefix(a), Prefix(b)) => match (a.starts_with(b.as_str()), b.starts_with(a.as_str())) {
            (true, _) => Ok(one),
            (_, true) => Ok(other),
            _ => Err(()),
        },
        (Exact(exact), Prefix(prefix)) | (Prefix(prefix), Exact(exact)) => {
            if !exact.starts_with(prefix.as_str()) {
                Err(())
            } else if matches!(one, Exact(_)) {
                Ok(one)
            } else {
                Ok(other)
            }
        }
        (Exact(_), Exact(_)) => Err(()),
        (Exact(exact), Regex(regex)) | (Regex(regex), Exact(exact)) => {
            let is_match = Pattern::new(regex).ok()?.is_match(exact.as_bytes());
            if is_match { Ok(if matches!(one, Exact(_)) { one } else { other }) } else { Err(()) }
        }
        (Regex(_), _) | (_, Regex(_)) => return None,
    };
    Some(found.map(|path| Some(path.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(hosts: &[&str]) -> Condition {
        Condition { hosts: hosts.iter().map(|host| (*host).to_owned()).collect(), ..Condition::default() }
    }

    fn path(path: PathWant) -> Condition {
        Condition { path: Some(path), ..Condition::default() }
    }

    #[test]
    fn two_conditions_at_once() {
        use PathWant::{Exact, Prefix, Regex};
        let prefix = |text: &str| path(Prefix(text.into()));
        let exact = |text: &str| path(Exact(text.into()));
        let regex = |text: &str| path(Regex(text.into()));
        for (one, other, expected) in [
            (host(&["a"]), Condition::default(), Both::One(host(&["a"]))),
            (host(&["a", "b"]), host(&["b", "c"]), Both::One(host(&["b"]))),
            (host(&["*.a"]), host(&["x.a", "b"]), Both::One(host(&["x.a"]))),
            (host(&["*.a"]), host(&["a"]), Both::Never),
            (host(&["*.a"]), host(&["*.b.a"]), Both::One(host(&["*.b.a"]))),
            (prefix("/a"), prefix("/a/b"), Both::One(prefix("/a/b"))),
            (prefix("/a"), prefix("/b"), Both::Never),
            (exact("/a/b"), prefix("/a"), Both::One(exact("/a/b"))),
            (prefix("/c"), exact("/a"), Both::Never),
            (exact("/a1"), regex("/a[0-9]"), Both::One(exact("/a1"))),
            (regex("/a[0-9]"), exact("/ax"), Both::Never),
            (regex("/a.*"), prefix("/a"), Both::Unclear),
        ] {
            assert_eq!(one.and(&other), expected, "{one:?} and {other:?}");
        }
    }
}
