//! `http-request`, `http-response`, `redirect` and their like: what a rule does, as ours.

use super::words::Statement;
use crate::draft::{Block, Draft};
use crate::note::Place;
use crate::rules::Action;
use crate::text::{self, text};

/// Fields that frame a message: weir writes them itself.
const FRAMING: [&str; 8] = ["connection", "content-length", "expect", "host", "keep-alive", "te", "transfer-encoding", "upgrade"];

/// What one line does, and the condition behind it.
pub(super) enum Done<'a> {
    /// The request ends here.
    Ends(Action, &'a [String], Option<&'static str>),
    /// Something is changed on its way.
    Edits(Edit, &'a [String]),
    /// It happens by itself.
    NotNeeded(&'static str),
    /// It has no counterpart.
    Unknown(String),
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Edit {
    pub(super) kind: Kind,
    pub(super) place: Place,
}

/// What is changed. A field has a name and a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    SetRequest(String, String),
    AddRequest(String, String),
    RemoveRequest(String),
    SetResponse(String, String),
    AddResponse(String, String),
    RemoveResponse(String),
    /// A regular expression and what comes in its place.
    Path(String, String),
    /// What we say of the client is said.
    Forwarded,
}

/// Changes of the routes to one pool, as they are written.
pub(super) fn write(edits: &[&Edit], path: &[&str], draft: &mut Draft) {
    let pair = |name: &str, value: &str| format!("{{ name = {}, value = {} }}", text(name), text(value));
    let mut request = (Vec::new(), Vec::new(), Vec::new());
    let mut response = (Vec::new(), Vec::new(), Vec::new());
    let mut rewrite = None;
    for Edit { kind, place } in edits {
        match kind {
            Kind::RemoveRequest(name) => request.0.push((text(name), *place)),
            Kind::SetRequest(name, value) => request.1.push((pair(name, value), *place)),
            Kind::AddRequest(name, value) => request.2.push((pair(name, value), *place)),
            Kind::RemoveResponse(name) => response.0.push((text(name), *place)),
            Kind::SetResponse(name, value) => response.1.push((pair(name, value), *place)),
            Kind::AddResponse(name, value) => response.2.push((pair(name, value), *place)),
            Kind::Path(from, to) => rewrite = Some((from, to, *place)),
            Kind::Forwarded => {}
        }
    }
    if let Some((from, to, place)) = rewrite {
        let mut table = Block::table(&[path, &["rewrite_regex"]].concat(), place);
        table.set_vital("match", text(from), place);
        table.set_vital("to", text(to), place);
        draft.add(table);
    }
    for (name, (remove, set, add)) in [("request", request), ("response", response)] {
        let Some((_, first)) = remove.first().or(set.first()).or(add.first()) else { continue };
        let mut table = Block::table(&[path, &[name]].concat(), *first);
        for (key, items) in [("remove", remove), ("set", set), ("add", add)] {
            if !items.is_empty() {
                let place = items[0].1;
                table.set_list(key, items, place);
            }
        }
        draft.add(table);
    }
}

/// Reads a line.
pub(super) fn read(statement: &Statement, place: Place) -> Done<'_> {
    let edit = |kind, rest| Done::Edits(Edit { kind, place }, rest);
    match (statement.word(0), statement.word(1)) {
        ("http-request", "redirect") => redirect(statement.from(2)),
        ("redirect", _) => redirect(statement.from(1)),
        ("http-request", "deny" | "tarpit") | ("block", _) => {
            let skip = if statement.word(0) == "block" { 1 } else { 2 };
            let (status, rest) = options(statement.from(skip), &["deny_status", "status"]);
            let status = status.first().and_then(|(_, value)| value.parse().ok()).unwrap_or(403);
            let changed = (statement.word(1) == "tarpit").then_some("the client is answered at once");
            Done::Ends(Action::Answer { status, body: None, content_type: None }, rest, changed)
        }
        ("http-request", "return") => answer(statement.from(2)),
        ("http-request", "allow") => Done::Unknown("a rule that ends the others; order the routes instead".into()),
        ("http-request", "set-header" | "add-header") => field(statement, |name, value, adds| {
            edit(if adds { Kind::AddRequest(name, value) } else { Kind::SetRequest(name, value) }, statement.from(4))
        }),
        ("http-response" | "http-after-response", "set-header" | "add-header") => field(statement, |name, value, adds| {
            edit(if adds { Kind::AddResponse(name, value) } else { Kind::SetResponse(name, value) }, statement.from(4))
        }),
        ("http-request", "del-header") => removed(statement, Kind::RemoveRequest, place),
        ("http-response", "del-header") => removed(statement, Kind::RemoveResponse, place),
        ("http-request", "replace-path") => match (statement.word(2), template(statement.word(3))) {
            ("", _) => Done::Unknown("it has no regular expression".into()),
            (_, None) => Done::Unknown("its replacement is computed".into()),
            // The whole path is compared there.
            (from, Some(to)) => {
                rewritten(&format!("^(?:{})$", from.trim_start_matches('^').trim_end_matches('$')), to, statement.from(4), place)
            }
        },
        ("http-request", "set-path") => match template(statement.word(2)) {
            Some(to) => edit(Kind::Path("^.*$".into(), to), statement.from(3)),
            None => regsub(statement.word(2)).map_or_else(
                || Done::Unknown("the new path is computed".into()),
                |(from, to)| rewritten(&from, to, statement.from(3), place),
            ),
        },
        ("rspadd", _) => match statement.word(1).split_once(':') {
            Some((name, value)) => edit(Kind::AddResponse(name.into(), value.trim().into()), statement.from(2)),
            None => Done::Unknown("it is not a header field".into()),
        },
        ("reqadd", _) => match statement.word(1).split_once(':') {
            Some((name, value)) => edit(Kind::AddRequest(name.into(), value.trim().into()), statement.from(2)),
            None => Done::Unknown("it is not a header field".into()),
        },
        ("reqrep" | "reqirep" | "reqdel" | "reqidel" | "rspdel" | "rspidel", _) => {
            Done::Unknown("it edits the raw message; write rewrite_regex, request or response of a route".into())
        }
        ("http-request", "capture") => Done::NotNeeded("the access log has its own fields"),
        ("http-request", action) if action.starts_with("track-sc") => Done::NotNeeded("a rate limit counts by itself"),
        ("http-request", "auth") => Done::Unknown("weir asks nobody for a password".into()),
        ("http-request", "replace-uri") => Done::Unknown("write it as http-request replace-path: weir rewrites the path alone".into()),
        (word, action) => Done::Unknown(format!("weir has no counterpart of {word} {action:?}")),
    }
}

/// The path is changed, if weir takes the regular expression.
fn rewritten<'a>(from: &str, to: String, rest: &'a [String], place: Place) -> Done<'a> {
    match text::regex(from) {
        Some(from) => Done::Edits(Edit { kind: Kind::Path(from, to), place }, rest),
        None => Done::Unknown(format!("{from:?} is not a regular expression that weir takes (no look-around, no references)")),
    }
}

/// Options with a value in front of the condition.
fn options<'a>(mut rest: &'a [String], names: &[&str]) -> (Vec<(&'a str, &'a str)>, &'a [String]) {
    let mut found = Vec::new();
    while let [name, value, after @ ..] = rest {
        if !names.contains(&name.as_str()) {
            break;
        }
        found.push((name.as_str(), value.as_str()));
        rest = after;
    }
    (found, rest)
}

fn field<'a>(statement: &'a Statement, make: impl FnOnce(String, String, bool) -> Done<'a>) -> Done<'a> {
    let (name, value) = (statement.word(2), statement.word(3));
    if FRAMING.contains(&name.to_ascii_lowercase().as_str()) {
        return Done::Unknown(format!("{name} frames the message, and weir writes it by itself"));
    }
    match name.to_ascii_lowercase().as_str() {
        "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" => {
            return Done::Edits(Edit { kind: Kind::Forwarded, place: Place::default() }, statement.from(4));
        }
        "x-request-id" | "x-unique-id" => return Done::NotNeeded("each request gets an id, see request_id"),
        _ => {}
    }
    if value.contains('%') {
        let why = match value {
            "%[src]" | "%ci" => "its value is the client's address, which X-Forwarded-For has",
            _ => "its value is computed",
        };
        return Done::Unknown(why.into());
    }
    make(name.to_owned(), value.to_owned(), statement.word(1) == "add-header")
}

fn removed(statement: &Statement, kind: fn(String) -> Kind, place: Place) -> Done<'_> {
    if statement.word(3) == "-m" {
        return Done::Unknown("names are compared whole".into());
    }
    Done::Edits(Edit { kind: kind(statement.word(2).to_owned()), place }, statement.from(3))
}

/// `return status 200 content-type text/plain string "ok"`.
fn answer(words: &[String]) -> Done<'_> {
    let (options, rest) =
        options(words, &["status", "content-type", "string", "lf-string", "hdr", "file", "errorfile", "default-errorfiles"]);
    let mut answer = (200, None, None);
    for (name, value) in options {
        match name {
            "status" => answer.0 = value.parse().unwrap_or(200),
            "content-type" => answer.2 = Some(value.to_owned()),
            "string" => answer.1 = Some(value.to_owned()),
            "lf-string" if !value.contains('%') => answer.1 = Some(value.to_owned()),
            _ => return Done::Unknown(format!("an answer cannot have {name:?}")),
        }
    }
    let (status, body, content_type) = answer;
    Done::Ends(Action::Answer { status, body, content_type }, rest, None)
}

fn redirect(words: &[String]) -> Done<'_> {
    let [kind, to, rest @ ..] = words else { return Done::Unknown("it leads nowhere".into()) };
    let (mut status, mut changed, mut rest) = (302, None, rest);
    loop {
        match rest {
            [name, code, after @ ..] if name == "code" => {
                status = code.parse().unwrap_or(302);
                rest = after;
            }
            [name, after @ ..] if matches!(name.as_str(), "drop-query" | "append-slash" | "ignore-empty" | "keep-query") => {
                if name == "drop-query" {
                    changed = Some("the query is kept");
                }
                rest = after;
            }
            [name, _, after @ ..] if matches!(name.as_str(), "set-cookie" | "clear-cookie") => {
                changed = Some("no cookie is set");
                rest = after;
            }
            _ => break,
        }
    }
    let target = match kind.as_str() {
        "scheme" => match to.as_str() {
            "https" => Some((Some("https"), None, None, None)),
            "http" => Some((Some("http"), None, None, None)),
            _ => None,
        },
        "location" | "prefix" => url(to, kind == "prefix"),
        _ => None,
    };
    match target {
        Some((scheme, host, port, path)) => {
            if kind == "location" && !to.contains('%') {
                changed = changed.or(Some("the query is kept"));
            }
            Done::Ends(Action::Redirect { status, scheme, host, port, path }, rest, changed)
        }
        None => Done::Unknown(format!("weir's redirects cannot lead to {to:?}")),
    }
}

type Target = (Option<&'static str>, Option<String>, Option<u16>, Option<String>);

/// Where a redirect leads: what is not named stays as the client asked for it.
fn url(text: &str, is_prefix: bool) -> Option<Target> {
    let (scheme, rest) = match text.split_once("://") {
        Some(("https", rest)) => (Some("https"), rest),
        Some(("http", rest)) => (Some("http"), rest),
        Some(_) => return None,
        None => (None, text),
    };
    let whole = ["%[capture.req.uri]", "%[url]", "%[pathq]", "%[path]"];
    let (rest, keeps_path) = match whole.iter().find_map(|sample| rest.strip_suffix(sample)) {
        Some(rest) => (rest, true),
        None => (rest, is_prefix),
    };
    if scheme.is_none() {
        let is_path = rest.starts_with('/') && !rest.contains(['%', '?', '#']);
        return (is_path && !keeps_path).then(|| (None, None, None, Some(rest.to_owned())));
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, Some(port.parse().ok()?)),
        _ => (authority, None),
    };
    let host = match host.to_ascii_lowercase().as_str() {
        "%[hdr(host)]" | "%[req.hdr(host)]" => None,
        host if host.contains('%') || host.is_empty() => return None,
        host => Some(host.to_owned()),
    };
    let path = match (keeps_path, path) {
        (true, "" | "/") => None,
        (true, _) => return None,
        (false, "") => Some("/".to_owned()),
        (false, path) if path.contains(['%', '?', '#']) => return None,
        (false, path) => Some(path.to_owned()),
    };
    Some((scheme, host, port, path))
}

/// `\1` as `${1}`; `None`: something is computed.
fn template(text: &str) -> Option<String> {
    if text.is_empty() || text.contains("%[") {
        return None;
    }
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek().copied()) {
            ('\\', Some(digit)) if digit.is_ascii_digit() => {
                chars.next();
                out.push_str(&format!("${{{digit}}}"));
            }
            ('$', _) => out.push_str("$$"),
            (c, _) => out.push(c),
        }
    }
    Some(out)
}

/// `%[path,regsub(^/api/,/)]`, without flags and commas.
fn regsub(text: &str) -> Option<(String, String)> {
    let inner = text.strip_prefix("%[path,regsub(")?.strip_suffix(")]")?;
    let (from, to) = inner.split_once(',')?;
    let unquoted = |text: &str| text.trim_matches(|c| c == '"' || c == '\'').to_owned();
    (!to.contains(',')).then(|| Some((unquoted(from), template(&unquoted(to))?)))?
}

#[cfg(test)]
mod tests {
    use super::super::words::statement;
    use super::*;

    fn ends(text: &str) -> Option<Action> {
        match read(&statement(text, 1).expect("a line"), Place::default()) {
            Done::Ends(action, _, _) => Some(action),
            _ => None,
        }
    }

    fn edits(text: &str) -> Option<Kind> {
        match read(&statement(text, 1).expect("a line"), Place::default()) {
            Done::Edits(edit, _) => Some(edit.kind),
            _ => None,
        }
    }

    #[test]
    fn requests_that_end() {
        let to = |status, scheme, host: Option<&str>, port, path: Option<&str>| {
            let (host, path) = (host.map(str::to_owned), path.map(str::to_owned));
            Some(Action::Redirect { status, scheme, host, port, path })
        };
        let answered = |status| Some(Action::Answer { status, body: None, content_type: None });
        for (text, expected) in [
            ("http-request redirect scheme https code 301 unless { ssl_fc }", to(301, Some("https"), None, None, None)),
            ("redirect scheme https if !{ ssl_fc }", to(302, Some("https"), None, None, None)),
            ("redirect prefix https://www.example.com code 308", to(308, Some("https"), Some("www.example.com"), None, None)),
            ("redirect location /login", to(302, None, None, None, Some("/login"))),
            ("redirect location https://a.b:8443/c", to(302, Some("https"), Some("a.b"), Some(8443), Some("/c"))),
            ("http-request redirect location https://%[hdr(host)]%[capture.req.uri]", to(302, Some("https"), None, None, None)),
            ("redirect location https://%[hdr(host),regsub(a,b)]/", None),
            ("redirect prefix https://a.b/c", None),
            ("http-request deny", answered(403)),
            ("http-request deny deny_status 429 if x", answered(429)),
            ("block if x", answered(403)),
            ("http-request auth realm x", None),
        ] {
            assert_eq!(ends(text), expected, "{text}");
        }
        let ok = Action::Answer { status: 200, body: Some("ok".into()), content_type: Some("text/plain".into()) };
        assert_eq!(ends("http-request return status 200 content-type text/plain string ok if x"), Some(ok));
    }

    #[test]
    fn requests_that_are_changed() {
        for (text, expected) in [
            ("http-request set-header X-Team a", Some(Kind::SetRequest("X-Team".into(), "a".into()))),
            ("http-response add-header Vary b", Some(Kind::AddResponse("Vary".into(), "b".into()))),
            ("http-request del-header X-Debug if x", Some(Kind::RemoveRequest("X-Debug".into()))),
            ("http-request set-header X-Forwarded-Proto https if { ssl_fc }", Some(Kind::Forwarded)),
            ("http-request set-header Host x", None),
            ("http-request set-header X-Real-IP %[src]", None),
            (r"http-request replace-path /api(/.*)? \1", Some(Kind::Path("^(?:/api(/.*)?)$".into(), "${1}".into()))),
            ("http-request set-path %[path,regsub(^/api/,/)]", Some(Kind::Path("^/api/".into(), "/".into()))),
            (
                r"rspadd Strict-Transport-Security:\ max-age=1",
                Some(Kind::AddResponse("Strict-Transport-Security".into(), "max-age=1".into())),
            ),
        ] {
            assert_eq!(edits(text), expected, "{text}");
        }
    }
}
