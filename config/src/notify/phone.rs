//! Short messages: numbers, and how long a message may be. What gateways over HTTP and over SMPP have in common.

use crate::reader::Table;
use crate::spec::{Key, Kind};

/// People on one channel. More are better served by an on-call schedule.
const NUMBERS_MAX: usize = 20;

pub(super) const FROM: Key =
    Key::text("from", "\"+15550100\"", "The sender: a number, or up to 11 letters and digits where the network allows that.");
pub(super) const TO: Key =
    Key { example: "[\"+15550123\"]", ..Key::new("to", Kind::TextOrTexts, "The numbers of those who are told, in international form.") }
        .required();
pub(super) const PARTS_MAX: Key = Key::count(
    "parts_max",
    1,
    10,
    "1",
    "So many parts a message may have, each 160 characters (70 where it has others than those of GSM 03.38); what is longer is cut after a word.",
)
.default("1");

/// `to`; never empty.
pub(super) fn numbers(table: &Table<'_>) -> Option<Vec<String>> {
    let field = table.field("to")?;
    let mut found = Vec::new();
    let mut good = true;
    for item in &field.one_or_many() {
        match item.text().and_then(|text| item.checked(parse_number(text))) {
            Some(number) if found.contains(&number) => item.report(item.problem(format!("{number} is here twice"))),
            Some(number) => found.push(number),
            None => good = false,
        }
    }
    if good && found.is_empty() {
        field.report(field.problem("`to` names nobody").help("for example `to = [\"+15550123\"]`"));
    }
    if found.len() > NUMBERS_MAX {
        field.report(field.problem(format!("`to` names more than {NUMBERS_MAX} people")).help("make more channels"));
    }
    (good && !found.is_empty()).then_some(found)
}

pub(super) fn sender(table: &Table<'_>) -> Option<String> {
    table.field("from").and_then(|field| field.checked(parse_sender(field.text()?)))
}

/// A number in international form (E.164), with or without its plus sign.
fn parse_number(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let good = (3..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if good { Ok(text.to_owned()) } else { Err(format!("{text:?} is not a number; write it as \"+15550123\", digits only")) }
}

fn parse_sender(text: &str) -> Result<String, String> {
    let is_name =
        !text.is_empty() && text.len() <= 11 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b' ') && text.trim() == text;
    if is_name {
        Ok(text.to_owned())
    } else {
        parse_number(text).map_err(|_| format!("{text:?} cannot be a sender; write a number, or up to 11 letters and digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_senders() {
        for (text, number, sender) in [
            ("+15550123", true, true),
            ("4930123456", true, true),
            ("112", true, true),
            ("weir ops", false, true),
            ("12", false, true),
            ("+1 555", false, false),
            ("", false, false),
            ("+1\r\n2", false, false),
            ("1234567890123456", false, false),
            ("twelve chars", false, false),
        ] {
            assert_eq!((parse_number(text).is_ok(), parse_sender(text).is_ok()), (number, sender), "{text}");
        }
    }
}
