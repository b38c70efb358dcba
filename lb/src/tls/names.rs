//! Which certificate a name gets: the one that has exactly it, else the one with a wildcard for its first label (RFC 6125 section 6.4.3).

use std::collections::HashMap;

/// Certificates by name; `T` stands for one.
#[derive(Debug)]
pub(crate) struct Names<T> {
    exact: HashMap<Box<str>, T>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, T>,
}

impl<T> Default for Names<T> {
    fn default() -> Names<T> {
        Names { exact: HashMap::new(), wildcard: HashMap::new() }
    }
}

impl<T> Names<T> {
    /// Adds a name as a certificate has it. The first one to have a name keeps it.
    pub(crate) fn add(&mut self, name: &str, value: T) {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        match name.strip_prefix("*.") {
            Some(rest) if !rest.is_empty() => drop(self.wildcard.entry(rest.into()).or_insert(value)),
            Some(_) => {}
            None => drop(self.exact.entry(name.into()).or_insert(value)),
        }
    }

    /// For the name a client asks for, which is in lower case.
    pub(crate) fn find(&self, name: &str) -> Option<&T> {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.exact.get(name).or_else(|| {
            let (label, rest) = name.split_once('.')?;
            if label.is_empty() { None } else { self.wildcard.get(rest) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_before_wildcard_and_one_label_only() {
        let mut names = Names::default();
        for (name, value) in
            [("*.Example.com", "wild"), ("www.example.com", "www"), ("WWW.example.com", "late"), ("*.", "nothing"), ("example.org.", "org")]
        {
            names.add(name, value);
        }
        for (name, found) in [
            ("www.example.com", Some("www")),
            ("api.example.com", Some("wild")),
            ("api.example.com.", Some("wild")),
            ("a.b.example.com", None),
            ("example.com", None),
            (".example.com", None),
            ("example.org", Some("org")),
            ("com", None),
            ("", None),
        ] {
            assert_eq!(names.find(name).copied(), found, "{name}");
        }
    }
}
