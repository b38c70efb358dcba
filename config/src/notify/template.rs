//! Texts with fields: `${severity}`. `$$` is a dollar sign.
//!
//! A line all of whose fields are empty is left out, so that a text needs no conditions. What a field is replaced by is never looked at again:
//! a `${` that comes from outside stays what it is.

use crate::names::nearest;

/// The longest template.
const TEMPLATE_CHARS_MAX: usize = 16 * 1024;

/// The fields of titles and texts. `labels.*` stands for any label.
pub const TEXT_FIELDS: &[&str] = &[
    "acknowledge_link",
    "acknowledged_by",
    "alarms",
    "at",
    "channel",
    "count",
    "duration",
    "incident",
    "incidents",
    "kind",
    "labels",
    "labels.*",
    "link",
    "node",
    "recovery",
    "severity",
    "started_at",
    "state",
    "summary",
];

/// The fields of what an alarm says.
pub const ALARM_FIELDS: &[&str] = &["labels.*", "values.*"];

/// A text with fields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextTemplate {
    /// Lines without their line ends.
    lines: Vec<Vec<Piece>>,
}

/// A part of a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// As it is.
    Literal(String),
    /// What is known under this name.
    Field(String),
}

impl TextTemplate {
    /// Reads a template that may use these fields; `labels.*` allows each name that begins with `labels.`.
    ///
    /// # Errors
    ///
    /// An unknown field, with the nearest known one; a `${` that is not closed; too long.
    pub fn parse(text: &str, fields: &[&str]) -> Result<TextTemplate, String> {
        if text.len() > TEMPLATE_CHARS_MAX {
            return Err(format!("the template is longer than {TEMPLATE_CHARS_MAX} bytes"));
        }
        let lines = text.trim_end_matches('\n').split('\n').map(|line| parse_line(line.trim_end_matches('\r'), fields));
        Ok(TextTemplate { lines: lines.collect::<Result<_, _>>()? })
    }

    /// The text with each field replaced by its value.
    pub fn render(&self, mut value: impl FnMut(&str) -> String) -> String {
        let mut out: Vec<String> = Vec::with_capacity(self.lines.len());
        for line in &self.lines {
            let (mut text, mut fields, mut filled) = (String::new(), 0, 0);
            for piece in line {
                match piece {
                    Piece::Literal(literal) => text.push_str(literal),
                    Piece::Field(name) => {
                        let value = value(name);
                        fields += 1;
                        filled += usize::from(!value.is_empty());
                        text.push_str(&value);
                    }
                }
            }
            let is_dropped = fields > 0 && filled == 0;
            // Of a paragraph that is left out its empty line goes too.
            let is_second_gap = text.is_empty() && out.last().is_none_or(|last| last.is_empty());
            if !is_dropped && !is_second_gap {
                out.push(text);
            }
        }
        while out.last().is_some_and(|last| last.is_empty()) {
            out.pop();
        }
        out.join("\n")
    }

    /// The text with each field replaced by its value, and no line left out: for what a program reads.
    pub fn fill(&self, mut value: impl FnMut(&str) -> String) -> String {
        let mut piece = |piece: &Piece| match piece {
            Piece::Literal(literal) => literal.clone(),
            Piece::Field(name) => value(name),
        };
        let lines = self.lines.iter().map(|line| line.iter().map(&mut piece).collect::<String>());
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The fields that it has.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().flatten().filter_map(|piece| match piece {
            Piece::Field(name) => Some(name.as_str()),
            Piece::Literal(_) => None,
        })
    }

    /// Its lines.
    pub fn lines(&self) -> &[Vec<Piece>] {
        &self.lines
    }
}

fn parse_line(line: &str, fields: &[&str]) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('$') {
        literal.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            literal.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some(end) = after.find('}') else { return Err("`${` is not closed; write `${field}`, or `$$` for a dollar sign".into()) };
            let name = &after[..end];
            check_field(name, fields)?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Field(name.into()));
            rest = &after[end + 1..];
        } else {
            literal.push('$');
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

fn check_field(name: &str, fields: &[&str]) -> Result<(), String> {
    let wildcard = |field: &str| field.strip_suffix('*').is_some_and(|prefix| name.len() > prefix.len() && name.starts_with(prefix));
    if fields.iter().any(|field| *field == name || wildcard(field)) {
        return Ok(());
    }
    let shown: String = name.chars().take(40).collect();
    Err(match nearest(name, fields.iter().copied()) {
        Some(near) => format!("there is no field `${{{shown}}}`; did you mean `${{{near}}}`?"),
        None => format!("there is no field `${{{shown}}}`; the fields are: {}", fields.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, values: &[(&str, &str)]) -> String {
        let template = TextTemplate::parse(template, &["a", "b", "labels.*"]).unwrap();
        template.render(|name| values.iter().find(|(field, _)| *field == name).map_or(String::new(), |(_, value)| (*value).to_owned()))
    }

    #[test]
    fn fields_are_replaced_once() {
        for (template, want) in [
            ("x ${a} y", "x 1 y"),
            ("$$${a} $5", "$1 $5"),
            ("${b}", "${a}"),
            ("${labels.pool}", "web"),
            ("one\n\ngone ${c}\n\ntwo", "one\n\ntwo"),
            ("${a} ${c}", "1 "),
            ("\n\n${c}\nend\n\n", "end"),
        ] {
            let values = [("a", "1"), ("b", "${a}"), ("labels.pool", "web")];
            let template = template.replace("${c}", "${labels.none}");
            assert_eq!(render(&template, &values), want, "{template:?}");
        }
    }

    #[test]
    fn unknown_fields_name_the_nearest() {
        for (template, want) in [
            ("${sumary}", "there is no field `${sumary}`; did you mean `${summary}`?"),
            ("${label.pool}", "there is no field `${label.pool}`; the fields are"),
            ("${labels.}", "there is no field `${labels.}`; did you mean `${labels}`?"),
            ("${}", "there is no field `${}`; the fields are"),
            ("x ${a", "`${` is not closed"),
        ] {
            let error = TextTemplate::parse(template, TEXT_FIELDS).unwrap_err();
            assert!(error.starts_with(want), "{template}: {error}");
        }
        assert!(TextTemplate::parse(&"x".repeat(TEMPLATE_CHARS_MAX + 1), TEXT_FIELDS).is_err());
    }
}
