//! Bodies of requests, written by the operator: a text with fields, in a syntax that decides how what comes from outside is made harmless.

use super::template::TextTemplate;
use crate::reader::Table;
use crate::spec::{Key, Word, word};

/// The fields of bodies. `labels.*` stands for any label.
pub const BODY_FIELDS: &[&str] = &[
    "acknowledge_link",
    "at",
    "count",
    "incident",
    "key",
    "kind",
    "labels",
    "labels.*",
    "link",
    "node",
    "resolved_at",
    "severity",
    "started_at",
    "state",
    "text",
    "title",
];

/// Those that are numbers: they may stand outside of quotes.
const NUMBERS: &[&str] = &["count"];

/// A body with fields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BodyTemplate {
    /// How it is written.
    pub syntax: BodySyntax,
    /// What is written. Its lines are never left out.
    pub template: TextTemplate,
}

/// How a body is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BodySyntax {
    /// RFC 8259: fields stand inside strings.
    #[default]
    Json,
    /// Names and values as HTML forms send them: fields are encoded with percent signs.
    Form,
    /// Fields are text or values of attributes.
    Xml,
    /// Without a syntax.
    Text,
}

impl BodySyntax {
    /// How it is written in the file.
    pub fn word(self) -> &'static str {
        match self {
            BodySyntax::Json => "json",
            BodySyntax::Form => "form",
            BodySyntax::Xml => "xml",
            BodySyntax::Text => "text",
        }
    }

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            BodySyntax::Json => "application/json",
            BodySyntax::Form => "application/x-www-form-urlencoded",
            BodySyntax::Xml => "application/xml; charset=utf-8",
            BodySyntax::Text => "text/plain; charset=utf-8",
        }
    }

    /// The value of a field, so that nothing in it is syntax.
    pub fn escape(self, value: &str) -> String {
        match self {
            BodySyntax::Json => {
                let quoted = serde_json::Value::from(value).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            }
            BodySyntax::Form => percent_encoded(value),
            BodySyntax::Xml => value.chars().fold(String::with_capacity(value.len()), |mut out, c| {
                match c {
                    '&' => out.push_str("&amp;"),
                    '<' => out.push_str("&lt;"),
                    '>' => out.push_str("&gt;"),
                    '"' => out.push_str("&quot;"),
                    '\'' => out.push_str("&#39;"),
                    '\n' => out.push_str("&#10;"),
                    // Most others cannot even be written in XML 1.0.
                    c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
                    c => out.push(c),
                }
                out
            }),
            BodySyntax::Text => value.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect(),
        }
    }
}

impl BodyTemplate {
    /// Reads one. It may hold a secret that was typed into it: no error repeats more of it than the name of a field.
    ///
    /// # Errors
    ///
    /// An unknown field, with the nearest known one; no JSON; a field that is not inside a string of JSON.
    pub fn parse(text: &str, syntax: BodySyntax, fields: &[&str]) -> Result<BodyTemplate, String> {
        let template = TextTemplate::parse(text, fields)?;
        let body = BodyTemplate { syntax, template };
        if syntax == BodySyntax::Json {
            // With numbers everything that can be JSON is; with letters only what keeps them inside strings.
            let is_json = |letter: &str| {
                let filled = body.template.fill(|name| if NUMBERS.contains(&name) { "1".into() } else { letter.into() });
                serde_json::from_str::<serde::de::IgnoredAny>(&filled).map_err(|error| (error.line(), error.column()))
            };
            if let Err((line, column)) = is_json("1") {
                return Err(format!(
                    "with its fields filled in this is no JSON, from line {line}, column {column} on; put fields between quotes"
                ));
            }
            if let Err((line, _)) = is_json("x") {
                return Err(format!("a field in line {line} stands outside of quotes; write \"${{field}}\""));
            }
        }
        Ok(body)
    }

    /// The body with each field replaced by its escaped value.
    pub fn render(&self, mut value: impl FnMut(&str) -> String) -> String {
        self.template.fill(|name| self.syntax.escape(&value(name)))
    }
}

/// All but what RFC 3986 leaves as it is.
pub fn percent_encoded(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

const SYNTAXES: &[Word] = &[
    word("json", "fields stand inside strings"),
    word("form", "name=value&name=value; fields are encoded"),
    word("xml", "fields are text or values of attributes"),
    word("text", "plain"),
];

pub(super) const BODY: Key = Key::text(
    "body",
    "'{ \"text\": \"${title}\" }'",
    "What is sent, with fields such as ${title}, ${text}, ${severity}, ${state}, ${labels.pool} and ${key}.",
);
pub(super) const BODY_TYPE: Key =
    Key::choice("body_type", SYNTAXES, "The syntax of `body`: what is in a field is never part of it.").default("json");

/// `body` and `body_type`; `None`: not written, or wrong.
pub(super) fn body(table: &Table<'_>, fields: &[&str]) -> Option<BodyTemplate> {
    let syntax = match table.choice("body_type") {
        Some("form") => BodySyntax::Form,
        Some("xml") => BodySyntax::Xml,
        Some("text") => BodySyntax::Text,
        _ => BodySyntax::Json,
    };
    let field = table.field("body")?;
    field.checked(BodyTemplate::parse(field.text()?, syntax, fields))
}

/// How a body is shown. What is typed between the fields may be a secret: only a mark of it is.
pub(super) fn shown(body: &BodyTemplate) -> String {
    let text = body.template.fill(|name| format!("${{{name}}}"));
    let mark = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("own {} of {} bytes ({:08x})", body.syntax.word(), text.len(), mark >> 32 ^ mark & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "\"}, \"x\": \"\\ ${title} </b>&amp;'\r\n\0&to=+1 %00 $(reboot) `id`\u{2028}";

    #[test]
    fn what_is_in_a_field_is_never_syntax() {
        let json = BodyTemplate::parse("{\n\"text\": \"${title}\",\n\"count\": ${count}\n}", BodySyntax::Json, BODY_FIELDS).unwrap();
        let value = |name: &str| if name == "count" { "3".to_owned() } else { EVIL.to_owned() };
        let read: serde_json::Value = serde_json::from_str(&json.render(value)).unwrap();
        assert_eq!(read, serde_json::json!({ "text": EVIL, "count": 3 }));

        let form = BodyTemplate::parse("to=1&text=${title}", BodySyntax::Form, BODY_FIELDS).unwrap().render(value);
        assert_eq!(form.matches('&').count(), 1);
        assert!(form.bytes().all(|byte| byte.is_ascii_graphic()), "{form}");

        let xml = BodyTemplate::parse("<t a=\"${title}\">${title}</t>", BodySyntax::Xml, BODY_FIELDS).unwrap().render(value);
        assert_eq!((xml.matches('<').count(), xml.matches('"').count()), (2, 2), "{xml}");
        assert!(!xml.contains('\0'));

        let text = BodyTemplate::parse("${title}", BodySyntax::Text, BODY_FIELDS).unwrap().render(value);
        assert!(text.contains("${title}") && !text.contains(['\0', '\r']));
    }

    #[test]
    fn wrong_bodies_are_told_without_repeating_them() {
        for (body, want) in [
            ("{ \"hunter2\": \"${titel}\" }", "there is no field `${titel}`; did you mean `${title}`?"),
            ("{ \"hunter2\": ${title} }", "a field in line 1 stands outside of quotes"),
            ("{\n\"hunter2\": \"${title}\",\n}", "with its fields filled in this is no JSON, from line 3"),
            ("hunter2", "with its fields filled in this is no JSON"),
            ("{ \"hunter2\": \"${title\" }", "`${` is not closed"),
        ] {
            let error = BodyTemplate::parse(body, BodySyntax::Json, BODY_FIELDS).unwrap_err();
            assert!(error.starts_with(want) && !error.contains("hunter2"), "{body}: {error}");
        }
        assert!(BodyTemplate::parse("{ \"n\": ${count}, \"s\": \"${count}\" }", BodySyntax::Json, BODY_FIELDS).is_ok());
        let body = |text: &str| shown(&BodyTemplate::parse(text, BodySyntax::Text, BODY_FIELDS).unwrap());
        assert!(body("hunter2").starts_with("own text of 7 bytes (") && body("hunter2") != body("hunter3"));
    }
}
