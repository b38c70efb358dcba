//! Typed access to the spanned tree. Errors are collected, reading goes on.
//!
//! A [`Table`] is read against the [`Keys`] that describe it: kinds, ranges and defaults are taken from there. A value that is
//! wrong is reported and read as absent; as one report refuses the file, what stands in for it is never seen.

mod field;

use std::cell::{Cell, RefCell};
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::LazyLock;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Problem, is_secret_name};
use crate::keys::ROOT;
use crate::names::{check_label, join, nearest, place_of};
use crate::spec::{Key, Keys, Kind};
use crate::units::{parse_duration, parse_size};

pub(crate) use field::Field;
use field::example;

/// Problems kept while reading. More than are shown, as they are not yet in the order of the file.
const PROBLEMS_MAX: usize = 10_000;

/// Where problems are collected.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    problems: RefCell<Vec<Problem>>,
    dropped: Cell<usize>,
}

impl Sink {
    pub(crate) fn report(&self, problem: Problem) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < PROBLEMS_MAX {
            problems.push(problem);
        } else {
            self.dropped.set(self.dropped.get() + 1);
        }
    }

    /// The problems, and how many were dropped.
    pub(crate) fn into_problems(self) -> (Vec<Problem>, usize) {
        (self.problems.into_inner(), self.dropped.get())
    }
}

/// One table of the file.
#[derive(Clone, Debug)]
pub(crate) struct Table<'a> {
    sink: &'a Sink,
    keys: &'static Keys,
    entries: &'a DeTable<'a>,
    span: Range<usize>,
    path: String,
}

/// Something that was read, with its place.
#[derive(Clone, Debug)]
pub(crate) struct Placed<T> {
    /// What was read.
    pub(crate) value: T,
    /// Where it is.
    pub(crate) span: Range<usize>,
    /// Its full name.
    pub(crate) path: String,
}

/// One named table, such as `[pool.web]`.
#[derive(Clone, Debug)]
pub(crate) struct Named<'a> {
    /// The name.
    pub(crate) name: &'a str,
    /// The table.
    pub(crate) table: Table<'a>,
}

impl<'a> Table<'a> {
    /// The whole file.
    pub(crate) fn root(sink: &'a Sink, root: &'a Spanned<DeTable<'a>>) -> Table<'a> {
        Table::new(sink, &ROOT, root.get_ref(), 0..0, String::new())
    }

    /// Unknown keys are reported here, once.
    fn new(sink: &'a Sink, keys: &'static Keys, entries: &'a DeTable<'a>, span: Range<usize>, path: String) -> Table<'a> {
        let table = Table { sink, keys, entries, span, path };
        for (name, _) in entries.iter().filter(|(name, _)| keys.find(name.get_ref()).is_none()) {
            sink.report(table.unknown_key(name));
        }
        table
    }

    fn unknown_key(&self, name: &Spanned<std::borrow::Cow<'a, str>>) -> Problem {
        let name_text = name.get_ref().as_ref();
        let of = if self.path.is_empty() { "".into() } else { format!(" in {}", self.keys.place) };
        let what = if self.path.is_empty() { "table or key" } else { "key" };
        let problem = Problem::new(name.span(), join(&self.path, name_text), format!("unknown {what} `{name_text}`{of}"));
        let names = || self.keys.keys.iter().map(|key| key.name);
        if let Some(source) = names().find(|known| is_secret_name(name_text) && known.strip_suffix("_file") == Some(name_text)) {
            return problem.help(format!("a secret must not stand in the file: use `{source}`, which names the file that holds it"));
        }
        if let Some(near) = nearest(name_text, names()) {
            return problem.help(format!("did you mean `{near}`?"));
        }
        match place_of(&ROOT, name_text) {
            Some(place) => problem.help(format!("`{name_text}` belongs in {place}")),
            None => problem.help(format!("valid here: {}", names().collect::<Vec<_>>().join(", "))),
        }
    }

    fn key(&self, name: &str) -> &'static Key {
        self.keys.find(name).unwrap_or_else(|| panic!("{} does not describe `{name}`", self.keys.place))
    }

    /// What is written under this key.
    pub(crate) fn field(&self, name: &str) -> Option<Field<'a>> {
        let key = self.key(name);
        let found = self.entries.get(name);
        let field = found.map(|value| Field { sink: self.sink, key, value, span: self.span_of(name), path: join(&self.path, name) });
        if field.is_none() && key.required {
            let problem = Problem::new(self.span.clone(), join(&self.path, name), format!("`{name}` is missing in {}", self.keys.place));
            self.sink.report(problem.help(format!("add `{name} = {}`", example(key))).needs_whole_file());
        }
        field
    }

    /// Whether something is written under this key.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(self.key(name).name)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        self.field(name).map_or(self.key(name).default, |field| field.text())
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.field(name).map_or(self.key(name).default.map(|text| text == "true"), |field| field.flag())
    }

    pub(crate) fn count(&self, name: &str) -> Option<u64> {
        self.field(name).map_or(self.key(name).default.and_then(|text| text.parse().ok()), |field| field.count())
    }

    /// A count whose range fits.
    pub(crate) fn count_u32(&self, name: &str) -> Option<u32> {
        self.count(name).and_then(|number| u32::try_from(number).ok())
    }

    /// A count; `None` for zero too.
    pub(crate) fn count_non_zero(&self, name: &str) -> Option<NonZeroU32> {
        self.count_u32(name).and_then(NonZeroU32::new)
    }

    pub(crate) fn time(&self, name: &str) -> Option<Duration> {
        self.field(name).map_or(self.key(name).default.and_then(|text| parse_duration(text).ok()), |field| field.time())
    }

    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.field(name).and_then(|field| field.number())
    }

    pub(crate) fn size(&self, name: &str) -> Option<u64> {
        let default = || self.key(name).default.and_then(|text| text.parse().ok().or_else(|| parse_size(text).ok()));
        self.field(name).map_or_else(default, |field| field.size())
    }

    pub(crate) fn choice(&self, name: &str) -> Option<&'static str> {
        self.field(name).map_or(self.key(name).default, |field| field.choice())
    }

    pub(crate) fn table(&self, name: &str) -> Option<Table<'a>> {
        self.field(name).and_then(|field| field.table())
    }

    /// A table, empty where it is not written: so that defaults come from one place.
    pub(crate) fn table_or_empty(&self, name: &str) -> Table<'a> {
        static EMPTY: LazyLock<DeTable<'static>> = LazyLock::new(DeTable::new);
        let empty = || {
            let keys = self.key(name).tables().unwrap_or(&ROOT);
            Table::new(self.sink, keys, &EMPTY, self.span.clone(), join(&self.path, name))
        };
        self.table(name).unwrap_or_else(empty)
    }

    /// The tables under a key that holds them by name. Names that cannot be labels are reported.
    pub(crate) fn named(&self, name: &str) -> Vec<Named<'a>> {
        let Some(field) = self.field(name) else { return Vec::new() };
        let (Kind::NamedTables(keys), DeValue::Table(entries)) = (&field.key.kind, field.value.get_ref()) else {
            field.wrong_type::<()>(&format!("tables by name, such as [{name}.web]"));
            return Vec::new();
        };
        let mut found = Vec::new();
        for (entry_name, value) in entries.iter() {
            let text = entry_name.get_ref().as_ref();
            let path = join(&field.path, text);
            let is_key = keys.find(text).is_some() && !matches!(value.get_ref(), DeValue::Table(_));
            match value.get_ref() {
                DeValue::Table(entries) => {
                    if let Err(why) = check_label(text) {
                        self.sink.report(Problem::new(entry_name.span(), &path, format!("the name {text:?} {why}")));
                    }
                    let span = if value.span().is_empty() { entry_name.span() } else { value.span() };
                    found.push(Named { name: text, table: Table::new(self.sink, keys, entries, span, path) });
                }
                _ if is_key => {
                    let problem = Problem::new(entry_name.span(), path, format!("`{text}` stands outside of any {}", keys.place));
                    self.sink.report(problem.help(format!("each {name} has a name: put it under a header such as [{name}.web]")));
                }
                _ => {
                    let span = value.span();
                    Field { sink: self.sink, key: field.key, value, span, path }
                        .wrong_type::<()>(&format!("a table, written as {}", keys.place));
                }
            }
        }
        found
    }

    /// Where the value under this key is; the table's header if there is none. A table that only exists through a dotted name
    /// has no place of its own, so its name stands for it.
    pub(crate) fn span_of(&self, name: &str) -> Range<usize> {
        let found = self.entries.get_key_value(self.key(name).name);
        found.map_or(self.span.clone(), |(key, value)| if value.span().is_empty() { key.span() } else { value.span() })
    }

    /// Where the key itself is; the table's header if it is not written.
    pub(crate) fn key_span(&self, name: &str) -> Range<usize> {
        self.entries.get_key_value(self.key(name).name).map_or(self.span.clone(), |(name, _)| name.span())
    }

    /// The header.
    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The full name of a key.
    pub(crate) fn path_of(&self, name: &str) -> String {
        join(&self.path, self.key(name).name)
    }

    /// The full name of the table.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// What was read from the value under this key, with its place.
    pub(crate) fn placed<T>(&self, name: &str, value: T) -> Placed<T> {
        Placed { value, span: self.span_of(name), path: self.path_of(name) }
    }

    /// A problem with the value under this key.
    pub(crate) fn problem(&self, name: &str, message: impl Into<String>) -> Problem {
        Problem::new(self.span_of(name), self.path_of(name), message)
    }

    /// Reports keys that have no meaning here.
    pub(crate) fn refuse(&self, names: &[&str], why: &str) {
        for name in names.iter().filter(|name| self.has(name)) {
            self.report(Problem::new(self.key_span(name), self.path_of(name), format!("`{name}` has no meaning {why}")).help("remove it"));
        }
    }

    pub(crate) fn report(&self, problem: Problem) {
        self.sink.report(problem);
    }
}
