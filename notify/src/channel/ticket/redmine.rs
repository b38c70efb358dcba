//! Redmine, its REST API in JSON. Pure.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use hyper::Method;
use serde_json::{Value, json};
use weir_config::{TicketChannel, percent_encoded};

use super::super::http::Ask;
use super::{Story, ask, get};

/// The field that holds an API key.
pub(super) const TOKEN_HEADER: &str = "X-Redmine-API-Key";
/// The longest subject.
const SUBJECT_CHARS_MAX: usize = 250;

pub(super) fn open(settings: &TicketChannel, story: &Story) -> Ask {
    let subject: String = story.title.chars().take(SUBJECT_CHARS_MAX).collect();
    let mut issue = json!({ "project_id": settings.project, "subject": subject, "description": text(story) });
    if let Some(number) = settings.issue_type.as_deref().and_then(|text| text.parse::<u64>().ok()) {
        issue["tracker_id"] = number.into();
    }
    ask(Method::POST, "/issues.json".into(), &json!({ "issue": issue }))
}

/// The number of the ticket that was made.
pub(super) fn opened(answer: &Value) -> Option<String> {
    answer["issue"]["id"].as_u64().map(|id| id.to_string())
}

/// Asks for the ticket that an earlier attempt may have made.
pub(super) fn find(story: &Story) -> Ask {
    get(format!("/search.json?q={}&issues=1&limit=1", percent_encoded(&story.mark)))
}

pub(super) fn found(answer: &Value) -> Option<String> {
    let first = &answer["results"][0];
    first["id"].as_u64().map(|id| id.to_string())
}

/// Asks for how the ticket stands.
pub(super) fn read(id: &str) -> Ask {
    get(format!("/issues/{}.json?include=journals", percent_encoded(id)))
}

/// Whether a note has this mark, and whether the ticket is closed.
pub(super) fn stands(answer: &Value, mark: &str) -> (bool, bool) {
    let notes = answer["issue"]["journals"].as_array();
    let has = notes.is_some_and(|notes| notes.iter().any(|note| note["notes"].as_str().is_some_and(|note| note.contains(mark))));
    let issue = &answer["issue"];
    (has, issue["status"]["is_closed"] == true || issue["closed_on"].is_string())
}

pub(super) fn comment(id: &str, story: &Story) -> Ask {
    ask(Method::PUT, path(id), &json!({ "issue": { "notes": text(story) } }))
}

/// Asks which statuses there are.
pub(super) fn ways() -> Ask {
    get("/issue_statuses.json".into())
}

/// The first status that closes; or the names of all.
pub(super) fn way(answer: &Value) -> Result<String, String> {
    let all = answer["issue_statuses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = all.iter().find(|status| status["is_closed"] == true).and_then(|status| status["id"].as_u64());
    let names = || all.iter().filter_map(|status| status["name"].as_str()).collect::<Vec<_>>().join(", ");
    found.map(|id| id.to_string()).ok_or_else(names)
}

pub(super) fn close(id: &str, status: &str) -> Ask {
    ask(Method::PUT, path(id), &json!({ "issue": { "status_id": status.parse::<u64>().unwrap_or_default() } }))
}

fn path(id: &str) -> String {
    format!("/issues/{}.json", percent_encoded(id))
}

/// In a block in which nothing is markup, in Textile and in Markdown alike; a text cannot end it. Our own links stand below it.
fn text(story: &Story) -> String {
    let text = story.text.replace('<', "<\u{200b}");
    let links: String = story.links.iter().map(|link| format!("\n\n{link}")).collect();
    format!("<pre>\n{text}\n</pre>{links}\n\n{}", story.mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_that_closes() {
        let statuses =
            json!({ "issue_statuses": [{ "id": 1, "name": "New", "is_closed": false }, { "id": 5, "name": "Closed", "is_closed": true }] });
        assert_eq!(way(&statuses), Ok("5".into()));
        assert_eq!(way(&Value::Null), Err(String::new()));
    }

    #[test]
    fn a_text_cannot_end_its_block() {
        let story = Story { text: "</pre> !http://evil/x.png! {{include(x)}}".into(), ..Story::default() };
        assert_eq!(text(&story).matches("</pre>").count(), 1);
    }
}
