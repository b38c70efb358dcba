//! `/v1/docs`: the description of the API as a page for people, made from the document itself. It needs no script and asks nobody else.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::openapi;

/// Nothing runs, nothing is loaded but the style sheet of this node, and nobody may frame it.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Nesting of values that is written out; deeper is named by its type alone.
const DEPTH_MAX: usize = 6;

const STYLE: &str = include_str!("browse.css");

/// The page.
pub(crate) async fn page() -> Response {
    static PAGE: LazyLock<String> = LazyLock::new(|| {
        let document: Value = serde_json::from_str(&openapi::document()).expect("the document is JSON");
        html(&document)
    });
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, PAGE.as_str()).into_response()
}

/// Its style.
pub(crate) async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], STYLE).into_response()
}

/// The whole page, grouped by tags in the order in which they come.
fn html(document: &Value) -> String {
    let mut tags: Vec<(String, String, String)> = Vec::new();
    for (path, operations) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in operations.as_object().into_iter().flatten() {
            let tag = operation["tags"][0].as_str().unwrap_or("others").to_owned();
            let (link, section) = one(document, method, path, operation);
            match tags.iter_mut().find(|(name, ..)| *name == tag) {
                Some((_, links, sections)) => {
                    links.push_str(&link);
                    sections.push_str(&section);
                }
                None => tags.push((tag, link, section)),
            }
        }
    }
    let mut body = String::new();
    let about = document["info"]["description"].as_str().unwrap_or_default();
    let _ = write!(
        body,
        "<header><h1>The API of weir</h1><p>{}</p><p><a href=\"/v1/openapi.json\">The same as an OpenAPI document</a></p></header><nav>",
        escaped(about)
    );
    for (tag, links, _) in &tags {
        let _ = write!(body, "<h2>{}</h2><ul>{links}</ul>", escaped(tag));
    }
    body.push_str("</nav><main>");
    for (tag, _, sections) in &tags {
        let _ = write!(body, "<h2>{}</h2>{sections}", escaped(tag));
    }
    body.push_str("</main>");
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>The API of weir</title><link rel=\"stylesheet\" href=\"/v1/docs.css\"></head><body>{body}</body></html>\n"
    )
}

/// An operation: its line in the list, and all about it.
fn one(document: &Value, method: &str, path: &str, operation: &Value) -> (String, String) {
    let id = format!("{method}{}", path.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
    let (method, path) = (method.to_ascii_uppercase(), escaped(path));
    let summary = escaped(operation["summary"].as_str().unwrap_or_default());
    let link = format!("<li><a href=\"#{id}\"><b>{method}</b> {path}</a></li>");
    let mut text = format!("<section id=\"{id}\"><h3><b>{method}</b> <code>{path}</code></h3><p>{summary}</p>");
    if let Some(more) = operation["description"].as_str() {
        let _ = write!(text, "<p>{}</p>", escaped(more));
    }
    if let Some(parameters) = operation["parameters"].as_array() {
        text.push_str("<h4>Parameters</h4><dl>");
        for parameter in parameters {
            let _ = write!(
                text,
                "<dt><code>{}</code> <i>{}{}, {}</i></dt><dd>{}</dd>",
                escaped(parameter["name"].as_str().unwrap_or_default()),
                escaped(parameter["in"].as_str().unwrap_or_default()),
                if parameter["required"] == true { ", required" } else { "" },
                escaped(&kind(&parameter["schema"])),
                escaped(parameter["description"].as_str().unwrap_or_default())
            );
        }
        text.push_str("</dl>");
    }
    if let Some(body) = content(&operation["requestBody"]) {
        let _ = write!(text, "<h4>Body</h4>{}", schema(document, body, 0));
    }
    text.push_str("<h4>Answers</h4><dl>");
    for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
        let about = escaped(answer["description"].as_str().unwrap_or_default());
        let _ = write!(text, "<dt><b>{}</b> {about}</dt>", escaped(status));
        // Refusals all look alike.
        if let Some(body) = content(answer).filter(|_| status.starts_with('2')) {
            let _ = write!(text, "<dd><details><summary>{}</summary>{}</details></dd>", escaped(&kind(body)), schema(document, body, 0));
        }
    }
    text.push_str("</dl></section>");
    (link, text)
}

/// The schema of a body, whatever its type.
fn content(value: &Value) -> Option<&Value> {
    value["content"].as_object()?.values().next().map(|content| &content["schema"])
}

/// What a schema is, in a few words.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        return name.rsplit('/').next().unwrap_or_default().to_owned();
    }
    let any = ["oneOf", "anyOf"].iter().find_map(|word| schema[*word].as_array());
    if let Some(any) = any {
        return any.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
    }
    let word = |value: &Value| match value.as_str() {
        Some("array") => format!("list of {}", kind(&schema["items"])),
        Some("object") if schema["additionalProperties"].is_object() => format!("{} by name", kind(&schema["additionalProperties"])),
        Some(word) => word.to_owned(),
        None => "anything".to_owned(),
    };
    match schema["type"].as_array() {
        Some(types) => types.iter().map(word).collect::<Vec<_>>().join(" or "),
        None => word(&schema["type"]),
    }
}

/// The fields of a schema, and of what they refer to.
fn schema(document: &Value, value: &Value, depth: usize) -> String {
    if depth > DEPTH_MAX {
        return String::new();
    }
    if let Some(name) = value["$ref"].as_str() {
        return schema(document, &document["components"]["schemas"][name.rsplit('/').next().unwrap_or_default()], depth + 1);
    }
    if let Some(inner) = ["items", "additionalProperties"].iter().map(|word| &value[*word]).find(|inner| inner.is_object()) {
        return schema(document, inner, depth + 1);
    }
    if let Some(any) = ["oneOf", "anyOf"].iter().find_map(|word| value[*word].as_array()) {
        return any.iter().map(|one| schema(document, one, depth + 1)).collect();
    }
    let Some(fields) = value["properties"].as_object() else { return String::new() };
    let required = |name: &str| value["required"].as_array().is_some_and(|required| required.iter().any(|key| key == name));
    let mut text = String::from("<dl>");
    for (name, field) in fields {
        let below = schema(document, field, depth + 1);
        let _ = write!(
            text,
            "<dt><code>{}</code> <i>{}{}</i></dt><dd>{}{}</dd>",
            escaped(name),
            escaped(&kind(field)),
            if required(name) { "" } else { ", may be absent" },
            escaped(field["description"].as_str().unwrap_or_default()),
            if below.is_empty() { below } else { format!("<details><summary>fields</summary>{below}</details>") }
        );
    }
    text.push_str("</dl>");
    text
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_on_the_page() {
        let document: Value = serde_json::from_str(&openapi::document()).expect("JSON");
        let page = html(&document);
        for (path, operations) in document["paths"].as_object().expect("paths") {
            for method in operations.as_object().expect("operations").keys() {
                let line = format!("<b>{}</b> <code>{path}</code>", method.to_ascii_uppercase());
                assert!(page.contains(&line), "{line}");
            }
        }
        // Nothing that the policy would stop, and nothing from elsewhere.
        for word in ["<script", " style=", " src=", "href=\"http", "url("] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.len() < 2 << 20, "{}", page.len());
    }

    #[test]
    fn text_stays_text() {
        let document = serde_json::json!({ "info": {}, "paths": { "/<a>": { "get": { "summary": "<img src=x>", "responses": {} } } } });
        let page = html(&document);
        assert!(!page.contains("<img") && page.contains("/&lt;a&gt;"), "{page}");
    }
}
