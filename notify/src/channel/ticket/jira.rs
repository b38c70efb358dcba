//! Jira, version 2 of its REST API, in which text is text. Pure.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use hyper::Method;
use serde_json::{Value, json};
use weir_config::{TicketChannel, percent_encoded};

use super::super::http::Ask;
use super::{Story, ask, get};

/// What tickets are where the file does not say.
const ISSUE_TYPE: &str = "Task";
/// The longest summary.
const SUMMARY_CHARS_MAX: usize = 250;

pub(super) fn open(settings: &TicketChannel, story: &Story) -> Ask {
    let summary: String = story.title.chars().take(SUMMARY_CHARS_MAX).collect();
    let body = json!({ "fields": {
        "project": { "key": settings.project },
        "issuetype": { "name": settings.issue_type.as_deref().unwrap_or(ISSUE_TYPE) },
        "summary": summary,
        "description": text(story),
        "labels": ["weir", label(&story.key)],
    }});
    ask(Method::POST, "/rest/api/2/issue".into(), &body)
}

/// The key of the ticket that was made.
pub(super) fn opened(answer: &Value) -> Option<String> {
    answer["key"].as_str().filter(|key| is_key(key)).map(str::to_owned)
}

/// Asks for the ticket that an earlier attempt may have made. Where the desk is Jira's own it has another place for that.
pub(super) fn find(story: &Story, cloud: bool) -> Ask {
    let query = percent_encoded(&format!("labels = \"{}\"", label(&story.key)));
    get(format!("/rest/api/2/search{}?jql={query}&maxResults=1&fields=key", if cloud { "/jql" } else { "" }))
}

pub(super) fn found(answer: &Value) -> Option<String> {
    opened(&answer["issues"][0])
}

/// Asks for how the ticket stands.
pub(super) fn read(key: &str) -> Ask {
    get(format!("/rest/api/2/issue/{}?fields=status,comment", percent_encoded(key)))
}

/// Whether a comment has this mark, and whether the ticket is closed.
pub(super) fn stands(answer: &Value, mark: &str) -> (bool, bool) {
    let comments = answer["fields"]["comment"]["comments"].as_array();
    let has =
        comments.is_some_and(|comments| comments.iter().any(|comment| comment["body"].as_str().is_some_and(|body| body.contains(mark))));
    (has, answer["fields"]["status"]["statusCategory"]["key"] == "done")
}

pub(super) fn comment(key: &str, story: &Story) -> Ask {
    ask(Method::POST, format!("/rest/api/2/issue/{}/comment", percent_encoded(key)), &json!({ "body": text(story) }))
}

/// Asks which transitions there are.
pub(super) fn ways(key: &str) -> Ask {
    get(format!("/rest/api/2/issue/{}/transitions", percent_encoded(key)))
}

/// The transition that closes: the one that is named, or the first that leads to an end; or the names of all.
pub(super) fn way(answer: &Value, named: Option<&str>) -> Result<String, String> {
    let all = answer["transitions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let closes = |way: &&Value| match named {
        Some(name) => way["name"].as_str().is_some_and(|other| other.eq_ignore_ascii_case(name)),
        None => way["to"]["statusCategory"]["key"] == "done",
    };
    let found = all.iter().find(closes).and_then(|way| way["id"].as_str());
    let names = || all.iter().filter_map(|way| way["name"].as_str()).collect::<Vec<_>>().join(", ");
    found.map(str::to_owned).ok_or_else(names)
}

pub(super) fn close(key: &str, way: &str) -> Ask {
    ask(Method::POST, format!("/rest/api/2/issue/{}/transitions", percent_encoded(key)), &json!({ "transition": { "id": way } }))
}

/// A label has no spaces; neither has a message's key.
fn label(key: &str) -> String {
    format!("weir-{}", key.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect::<String>())
}

fn is_key(text: &str) -> bool {
    text.len() <= 100 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// In a block in which nothing is markup; a text cannot end it. Our own links stand below it.
fn text(story: &Story) -> String {
    let text = story.text.replace('{', "{\u{200b}");
    let links: String = story.links.iter().map(|link| format!("\n{link}")).collect();
    format!("{{noformat}}\n{text}\n{{noformat}}{links}\n{}", story.mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_that_closes() {
        let ways = json!({ "transitions": [
            { "id": "11", "name": "In Progress", "to": { "statusCategory": { "key": "indeterminate" } } },
            { "id": "31", "name": "Done", "to": { "statusCategory": { "key": "done" } } },
            { "id": "41", "name": "Won't do", "to": { "statusCategory": { "key": "done" } } },
        ]});
        assert_eq!(way(&ways, None), Ok("31".into()));
        assert_eq!(way(&ways, Some("won't DO")), Ok("41".into()));
        assert_eq!(way(&ways, Some("Close")), Err("In Progress, Done, Won't do".into()));
        assert_eq!(way(&Value::Null, None), Err(String::new()));
    }

    #[test]
    fn a_text_cannot_end_its_block() {
        let story = Story { text: "{noformat} !http://evil/x.png! [x|http://evil]".into(), ..Story::default() };
        assert_eq!(text(&story).matches("{noformat}").count(), 2);
        assert_eq!(opened(&json!({ "key": "OPS-7" })), Some("OPS-7".into()));
        assert_eq!(opened(&json!({ "key": "../../x" })), None);
    }
}
