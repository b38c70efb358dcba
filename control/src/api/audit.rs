//! Every change that somebody asks for over the API becomes a record of the audit, whatever came of it.
//!
//! It is done around all requests, so that none can be forgotten. What was asked for is noted where it is read ([`Note`]), why it was refused
//! where the refusal is written ([`Refusal`]).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde_json::Value;
use weir_history::audit::Act;

use super::caller::{Peer, user};
use crate::history;

/// What is kept of a body.
const BODY_CHARS_MAX: usize = 2000;

/// Where secrets may stand.
const SECRET_WORDS: [&str; 5] = ["token", "password", "secret", "passphrase", "key"];

/// Collections whose next part of the path names a thing.
const NO_THINGS: [&str; 2] = ["actions", "garbage"];

/// The body of a request, for the audit; filled by whoever reads it.
#[derive(Clone, Debug, Default)]
pub(super) struct Note(Arc<Mutex<String>>);

impl Note {
    pub(super) fn set(&self, body: &[u8]) {
        let text = match serde_json::from_slice::<Value>(body) {
            Ok(value) if value == Value::Object(serde_json::Map::new()) => String::new(),
            Ok(mut value) => {
                mask(&mut value);
                value.to_string()
            }
            Err(_) => format!("{} bytes that are no JSON", body.len()),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text.chars().take(BODY_CHARS_MAX).collect();
    }

    fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Why a request was refused, beside the answer that says it.
#[derive(Clone, Debug)]
pub(super) struct Refusal(pub(super) String);

/// A change that is under way.
pub(super) struct Asked {
    act: Act,
    note: Note,
}

/// The beginning of a record; `None`: nothing is to be changed. What is read of the body will be noted.
pub(super) fn begin(parts: &mut Parts) -> Option<Asked> {
    // What is only tried changes nothing.
    if matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) || parts.uri.path() == "/v1/alarms/preview" {
        return None;
    }
    let note = Note::default();
    // A secret may stand in the file; what changed is in the events.
    if parts.uri.path() != "/v1/config/file" {
        parts.extensions.insert(note.clone());
    }
    Some(Asked {
        act: asked(&parts.method, parts.uri.path(), parts.uri.query(), user(parts), parts.extensions.get::<Peer>().copied()),
        note,
    })
}

fn asked(method: &Method, path: &str, query: Option<&str>, user: String, peer: Option<Peer>) -> Act {
    // The link in a message is a secret.
    let is_link = path.starts_with("/ack/");
    let shown = if is_link { "/ack/..." } else { path };
    let thing = path.strip_prefix("/v1/").and_then(|rest| rest.split('/').nth(1)).filter(|thing| !NO_THINGS.contains(thing));
    Act {
        at: history::moment(SystemTime::now()),
        who: if is_link { "whoever has the link".into() } else { user },
        origin: peer.map_or_else(|| "somewhere".into(), |Peer(address)| address.to_canonical().to_string()),
        act: format!("{method} {shown}"),
        subject: if is_link { String::new() } else { thing.unwrap_or_default().to_owned() },
        outcome: String::new(),
        detail: query.map(|query| format!("?{query}")).unwrap_or_default(),
    }
}

impl Asked {
    /// The whole record.
    pub(super) fn end(self, response: &Response) -> Act {
        let Asked { mut act, note } = self;
        let body = note.take();
        if !body.is_empty() {
            act.detail = format!("{} {body}", act.detail).trim_start().to_owned();
        }
        act.outcome = outcome(response.status(), response.extensions().get::<Refusal>());
        act
    }
}

fn outcome(status: StatusCode, refusal: Option<&Refusal>) -> String {
    match refusal {
        _ if status.is_success() => "done".into(),
        Some(Refusal(why)) => format!("{}: {}", status.as_u16(), why.chars().take(BODY_CHARS_MAX).collect::<String>()),
        None => status.to_string(),
    }
}

/// Takes out what may be a secret.
fn mask(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let key = key.to_ascii_lowercase();
                if SECRET_WORDS.iter().any(|word| key.contains(word)) { *value = "***".into() } else { mask(value) }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_what_and_from_where() {
        let peer = Some(Peer("::ffff:10.0.0.7".parse().expect("an address")));
        let act = asked(&Method::PUT, "/v1/scaling/web/desired", Some("a=1"), "alice@ops".into(), peer);
        assert_eq!((&*act.who, &*act.origin, &*act.act, &*act.subject), ("alice@ops", "10.0.0.7", "PUT /v1/scaling/web/desired", "web"));
        assert_eq!(asked(&Method::POST, "/v1/machines/actions", None, "alice@ops".into(), peer).subject, "");
        assert_eq!(asked(&Method::POST, "/v1/reload", None, "alice@ops".into(), peer).subject, "");
        let link = asked(&Method::POST, "/ack/s3cret", None, "alice@ops".into(), peer);
        assert!(!format!("{link:?}").contains("s3cret"), "{link:?}");
    }

    #[test]
    fn what_was_asked_for_is_kept_without_secrets() {
        for (body, expected) in [
            (r#"{"desired": 4}"#, r#"{"desired":4}"#),
            (r#"{"login": {"Token": "s3cret", "by": "ann"}}"#, r#"{"login":{"Token":"***","by":"ann"}}"#),
            (r#"[{"api_key": ["s3cret"]}]"#, r#"[{"api_key":"***"}]"#),
            ("{}", ""),
            ("token=s3cret", "12 bytes that are no JSON"),
        ] {
            let note = Note::default();
            note.set(body.as_bytes());
            assert_eq!(note.take(), expected);
        }
    }

    #[test]
    fn what_came_of_it() {
        assert_eq!(outcome(StatusCode::CREATED, None), "done");
        assert_eq!(outcome(StatusCode::CONFLICT, Some(&Refusal("another node leads".into()))), "409: another node leads");
        assert_eq!(outcome(StatusCode::NOT_FOUND, None), "404 Not Found");
    }
}
