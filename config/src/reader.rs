//! Typed access to the spanned tree. Errors are collected, reading goes on.
//!
//! A [`Table`] is read against the [`Keys`] that describe it: kinds, ranges and defaults are taken from there. A value that is
//! wrong is reported and read as absent; as one report refuses the file, what stands in for it is never seen.

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::LazyLock;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use crate::error::Problem;
use crate::keys::ROOT;
use crate::spec::{Bounds, Key, Keys, Kind};
use crate::units::{format_duration, format_size, parse_duration, parse_size};

/// Names longer than this are not compared with others: the comparison takes the product of both lengths.
const NEAREST_CHARS_MAX: usize = 64;

/// Where problems are collected.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    problems: RefCell<Vec<Problem>>,
}

impl Sink {
    pub(crate) fn report(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
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

/// One value of the file.
#[derive(Clone, Debug)]
pub(crate) struct Field<'a> {
    sink: &'a Sink,
    key: &'static Key,
    value: &'a Spanned<DeValue<'a>>,
    span: Range<usize>,
    path: String,
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

impl<'a> Field<'a> {
    pub(crate) fn text(&self) -> Option<&'a str> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(text.as_ref()),
            _ => self.wrong_type("a string"),
        }
    }

    fn flag(&self) -> Option<bool> {
        match self.value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            _ => self.wrong_type("true or false"),
        }
    }

    fn count(&self) -> Option<u64> {
        let Kind::Count(bounds) = self.key.kind else { return None };
        match self.value.get_ref() {
            DeValue::Integer(number) => self.bounded(integer(number), &number.to_string(), bounds, |n| n.to_string()),
            _ => self.wrong_type("a whole number"),
        }
    }

    fn time(&self) -> Option<Duration> {
        let Kind::Time(bounds) = self.key.kind else { return None };
        let DeValue::String(text) = self.value.get_ref() else {
            return self.wrong_type("a duration as a string with a unit (ms, s, m, h)");
        };
        let duration = self.checked(parse_duration(text))?;
        let ms = u64::try_from(duration.as_millis()).ok();
        self.bounded(ms, &format!("{text:?}"), bounds, |ms| format_duration(Duration::from_millis(ms))).map(Duration::from_millis)
    }

    fn size(&self) -> Option<u64> {
        let Kind::Size(bounds) = self.key.kind else { return None };
        let (bytes, shown) = match self.value.get_ref() {
            DeValue::Integer(number) => (integer(number), number.to_string()),
            DeValue::String(text) => (Some(self.checked(parse_size(text))?), format!("{text:?}")),
            _ => return self.wrong_type("a size with a unit (B, KiB, MiB, GiB, TiB), or a number of bytes"),
        };
        self.bounded(bytes, &shown, bounds, format_size)
    }

    fn choice(&self) -> Option<&'static str> {
        let Kind::Choice(words) = self.key.kind else { return None };
        let all = || words.iter().map(|w| w.word);
        let listed = all().map(|w| format!("{w:?}")).collect::<Vec<_>>().join(", ");
        let DeValue::String(text) = self.value.get_ref() else {
            return self.wrong_type(&format!("one of {listed}"));
        };
        let found = all().find(|word| *word == text);
        if found.is_none() {
            let help = match nearest(text, all()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("write one of {listed}"),
            };
            self.report(self.problem(format!("`{}` cannot be {text:?}", self.key.name)).help(help));
        }
        found
    }

    fn table(&self) -> Option<Table<'a>> {
        let keys = self.key.tables()?;
        match self.value.get_ref() {
            DeValue::Table(entries) => Some(Table::new(self.sink, keys, entries, self.span.clone(), self.path.clone())),
            _ => self.wrong_type(&format!("a table, written as {}", keys.place)),
        }
    }

    /// A table, or the flag that stands for it.
    pub(crate) fn table_or_flag(&self) -> Result<Option<Table<'a>>, bool> {
        match self.value.get_ref() {
            DeValue::Boolean(flag) => Err(*flag),
            DeValue::Table(_) => Ok(self.table()),
            _ => Ok(self.wrong_type("a table, or false")),
        }
    }

    /// The values of a list.
    pub(crate) fn items(&self) -> Option<Vec<Field<'a>>> {
        match self.value.get_ref() {
            DeValue::Array(items) => {
                let item = |(index, value)| Field { value, span: value.span(), path: format!("{}[{index}]", self.path), ..self.clone() };
                Some(items.iter().enumerate().map(item).collect())
            }
            _ => self.wrong_type("a list"),
        }
    }

    /// The values of a list, or the one value that stands for a list of one.
    pub(crate) fn one_or_many(&self) -> Vec<Field<'a>> {
        match self.value.get_ref() {
            DeValue::Array(_) => self.items().unwrap_or_default(),
            _ => vec![self.clone()],
        }
    }

    /// The tables of a list.
    pub(crate) fn tables(&self) -> Vec<Table<'a>> {
        self.items().unwrap_or_default().iter().filter_map(Field::table).collect()
    }

    /// The value as a table, if it is one.
    pub(crate) fn as_table(&self) -> Option<Table<'a>> {
        matches!(self.value.get_ref(), DeValue::Table(_)).then(|| self.table()).flatten()
    }

    /// The value as a string, if it is one.
    pub(crate) fn as_text(&self) -> Option<&'a str> {
        self.value.get_ref().as_str()
    }

    /// The value as a whole number, if it is one; a number that is too large is the largest.
    pub(crate) fn as_integer(&self) -> Option<u64> {
        self.value.get_ref().as_integer().map(|number| integer(number).unwrap_or(u64::MAX))
    }

    /// Reports what is wrong with a parsed value.
    pub(crate) fn checked<T>(&self, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|reason| self.report(split_help(self.problem(""), &reason))).ok()
    }

    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// A problem with this value.
    pub(crate) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::new(self.span.clone(), &self.path, message)
    }

    pub(crate) fn report(&self, problem: Problem) {
        self.sink.report(problem);
    }

    /// Reports the type that was found and the one that is wanted. The returned `None` is for the caller to return.
    pub(crate) fn wrong_type<T>(&self, want: &str) -> Option<T> {
        let found = match self.value.get_ref() {
            DeValue::String(text) if text.chars().count() <= 40 => format!("the string {text:?}"),
            DeValue::String(_) => "a string".into(),
            DeValue::Integer(number) => format!("the number {number}"),
            DeValue::Float(number) => format!("the fraction {number}"),
            DeValue::Boolean(flag) => flag.to_string(),
            DeValue::Datetime(_) => "a date or time".into(),
            DeValue::Array(_) => "a list".into(),
            DeValue::Table(_) => "a table".into(),
        };
        let problem = self.problem(format!("`{}` wants {want}, found {found}", self.key.name));
        let help = match (&self.key.kind, self.value.get_ref()) {
            (Kind::Time(_), DeValue::Integer(number)) => format!("write `{} = \"{number}s\"` or `\"{number}ms\"`", self.key.name),
            (Kind::Table(keys) | Kind::TableOrFlag(keys) | Kind::NamedTables(keys) | Kind::Tables(keys), _) => {
                format!("its keys: {}", keys.keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", "))
            }
            _ => format!("for example `{} = {}`", self.key.name, example(self.key)),
        };
        self.report(problem.help(help));
        None
    }

    fn bounded(&self, number: Option<u64>, shown: &str, bounds: Bounds, write: impl Fn(u64) -> String) -> Option<u64> {
        if let Some(number) = number.filter(|number| bounds.accept(*number)) {
            return Some(number);
        }
        let zero = bounds.zero.map_or(String::new(), |means| format!(", or {} ({means})", self.zero()));
        let name = self.key.name;
        let message = match number {
            Some(0) => format!("`{name}` cannot be zero; it must be {} to {}", write(bounds.min), write(bounds.max)),
            _ => format!("`{name}` is {shown}, out of range; it must be {} to {}{zero}", write(bounds.min), write(bounds.max)),
        };
        let problem = self.problem(message);
        self.report(match self.key.default {
            Some(default) => problem.help(format!("without the key it is {default}")),
            None => problem,
        });
        None
    }

    fn zero(&self) -> &'static str {
        if matches!(self.key.kind, Kind::Time(_)) { "\"0s\"" } else { "0" }
    }
}

/// A number as TOML spells it; `None` if negative or too large.
fn integer(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str().trim_start_matches('+'), number.radix()).ok()
}

/// A reason of the form "what; how to write it" becomes message and help.
fn split_help(problem: Problem, reason: &str) -> Problem {
    match reason.split_once("; ") {
        Some((message, help)) => Problem { message: message.into(), ..problem }.help(help),
        None => Problem { message: reason.into(), ..problem },
    }
}

/// An example of the key's value as TOML.
fn example(key: &Key) -> String {
    match key.kind {
        Kind::Choice(words) => format!("{:?}", words.first().map_or("", |word| word.word)),
        _ => key.example.into(),
    }
}

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
fn place_of(keys: &'static Keys, name: &str) -> Option<&'static str> {
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
