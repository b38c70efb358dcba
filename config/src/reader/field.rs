//! One value: its type, its range, and what to say if it has another.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeValue};

use super::{Placed, Sink, Table};
use crate::error::Problem;
use crate::names::nearest;
use crate::spec::{Bounds, Key, Kind};
use crate::units::{format_duration, format_size, parse_duration, parse_size};

/// One value of the file.
#[derive(Clone, Debug)]
pub(crate) struct Field<'a> {
    pub(super) sink: &'a Sink,
    pub(super) key: &'static Key,
    pub(super) value: &'a Spanned<DeValue<'a>>,
    pub(super) span: Range<usize>,
    pub(super) path: String,
}

impl<'a> Field<'a> {
    pub(crate) fn text(&self) -> Option<&'a str> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(text.as_ref()),
            _ => self.wrong_type("a string"),
        }
    }

    pub(super) fn flag(&self) -> Option<bool> {
        match self.value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            _ => self.wrong_type("true or false"),
        }
    }

    pub(super) fn count(&self) -> Option<u64> {
        let Kind::Count(bounds) = self.key.kind else { return None };
        match self.value.get_ref() {
            DeValue::Integer(number) => self.bounded(integer(number), &number.to_string(), bounds, |n| n.to_string()),
            _ => self.wrong_type("a whole number"),
        }
    }

    pub(super) fn number(&self) -> Option<f64> {
        let written = match self.value.get_ref() {
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.as_str().to_owned(),
            _ => return self.wrong_type("a number"),
        };
        let parsed = written.replace('_', "").parse::<f64>().ok().filter(|number| number.is_finite());
        if parsed.is_none() {
            self.report(
                self.problem(format!("`{}` is {written}, which cannot be compared", self.key.name)).help("write a number such as 70.0"),
            );
        }
        parsed
    }

    pub(super) fn time(&self) -> Option<Duration> {
        let Kind::Time(bounds) = self.key.kind else { return None };
        let DeValue::String(text) = self.value.get_ref() else {
            return self.wrong_type("a duration as a string with a unit (ms, s, m, h)");
        };
        let duration = self.checked(parse_duration(text))?;
        let ms = u64::try_from(duration.as_millis()).ok();
        self.bounded(ms, &format!("{text:?}"), bounds, |ms| format_duration(Duration::from_millis(ms))).map(Duration::from_millis)
    }

    pub(super) fn size(&self) -> Option<u64> {
        let Kind::Size(bounds) = self.key.kind else { return None };
        let (bytes, shown) = match self.value.get_ref() {
            DeValue::Integer(number) => (integer(number), number.to_string()),
            DeValue::String(text) => (Some(self.checked(parse_size(text))?), format!("{text:?}")),
            _ => return self.wrong_type("a size with a unit (B, KiB, MiB, GiB, TiB), or a number of bytes"),
        };
        self.bounded(bytes, &shown, bounds, format_size)
    }

    pub(super) fn choice(&self) -> Option<&'static str> {
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

    pub(super) fn table(&self) -> Option<Table<'a>> {
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
            _ => match self.key.kind {
                Kind::Tables(keys) => self.wrong_type(&format!("a list of tables, each written as {}", keys.place)),
                _ => self.wrong_type("a list"),
            },
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

    /// The key.
    pub(crate) fn name(&self) -> &'static str {
        self.key.name
    }

    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// What was read from this value, with its place.
    pub(crate) fn placed<T>(&self, value: T) -> Placed<T> {
        Placed { value, span: self.span(), path: self.path.clone() }
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
            // It may be the secret itself, put into the wrong key.
            _ if crate::error::is_secret_name(self.key.name) => "something else".into(),
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
pub(super) fn example(key: &Key) -> String {
    match key.kind {
        Kind::Choice(words) => format!("{:?}", words.first().map_or("", |word| word.word)),
        _ => key.example.into(),
    }
}
