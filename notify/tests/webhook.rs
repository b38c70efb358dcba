//! Webhooks against the HTTP server of Python's library: what it gets, and what is made of all that can go wrong.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{EVIL, HttpServer, PATIENCE, conversation, deliver, free_port};
use weir_notify::channel::FaultKind;
use weir_notify::message::{Message, Text, sample};

fn body(request: &Value) -> Value {
    serde_json::from_str(request["body"].as_str().unwrap()).unwrap_or_else(|error| panic!("{error}: {request}"))
}

#[tokio::test]
async fn each_format_arrives() {
    let server = HttpServer::start(json!([{ "body": "thanks" }]));
    let message = sample("n.1.a.1", 1_767_571_200_000);
    for (lines, kind) in [
        ("", "application/json"),
        ("format = \"slack\"", "application/json"),
        ("format = \"mattermost\"", "application/json"),
        ("body = '{ \"summary\": \"${title}\", \"count\": ${count}, \"pool\": \"${labels.pool}\" }'", "application/json"),
        ("body = 'text=${title}'\nbody_type = \"form\"", "application/x-www-form-urlencoded"),
    ] {
        let lines = format!("[notify.a.webhook]\nurl = \"{}\"\n{lines}", server.url("/hook?a=b"));
        let (result, transcript) = deliver(&lines, &message, PATIENCE).await;
        let receipt = result.unwrap_or_else(|fault| panic!("{lines}: {fault}\n{}", conversation(&transcript)));
        assert_eq!(receipt.said, "200 OK: thanks");
        let request = server.requests().pop().unwrap();
        assert_eq!((&request["method"], &request["path"]), (&json!("POST"), &json!("/hook?a=b")));
        assert_eq!((&request["headers"]["content-type"], &request["headers"]["webhook-id"]), (&json!(kind), &json!("n.1.a.1")));
    }
    let requests = server.requests();
    assert_eq!(body(&requests[0])["alerts"][0]["labels"]["pool"], "web");
    assert_eq!(body(&requests[1])["text"], "[test] pool web");
    assert_eq!(body(&requests[3]), json!({ "summary": "[test] pool web", "count": 1, "pool": "web" }));
    assert_eq!(requests[4]["body"], "text=%5Btest%5D%20pool%20web");
}

/// The signature is checked by the library of the specification, whose secrets begin with `whsec_`.
#[tokio::test]
async fn a_signature_is_what_the_library_expects() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let server = HttpServer::start(json!([{ "verify": secret }]));
    for (file, good) in [(secret, true), ("whsec_AAAA", false)] {
        let file = server.file("secret", file);
        let lines = format!("[notify.a.webhook]\nurl = \"{}\"\nsign_secret_file = \"{file}\"", server.url("/"));
        let (result, transcript) = deliver(&lines, &sample("k", 0), PATIENCE).await;
        assert_eq!(result.is_ok(), good, "{result:?}");
        assert!(!conversation(&transcript).contains("MfKQ9r8"));
    }
}

#[tokio::test]
async fn what_goes_wrong_is_told_apart() {
    let answer = |status: u16, headers: Value| {
        HttpServer::start(json!([{ "status": status, "headers": headers, "body": "no, token hunter2hunter2" }]))
    };
    let (wrong, busy, gone) = (answer(401, json!({})), answer(503, json!({ "Retry-After": "120" })), answer(404, json!({})));
    let elsewhere = answer(307, json!({ "Location": "http://127.0.0.1:1/evil" }));
    let (slow, lost) = (HttpServer::start(json!([{ "do": "slow" }])), HttpServer::start(json!([{ "do": "lost", "times": 1 }, {}])));
    let good = HttpServer::start_tls(json!([{}]), "localhost");
    let other_name = HttpServer::start_tls(json!([{}]), "elsewhere.example.com");
    let expired = HttpServer::start_tls_until(json!([{}]), "localhost", 2020);
    let token = format!("token_file = \"{}\"", wrong.file("token", "hunter2hunter2\n"));
    let trusted = |server: &HttpServer| format!("ca_file = \"{}\"", server.file("cert.pem", ""));
    let down = format!("http://127.0.0.1:{}/", free_port());
    let (other_trusted, expired_trusted) = (trusted(&other_name), trusted(&expired));
    for (what, url, more, kind, text) in [
        (
            "token",
            wrong.url("/"),
            token.as_str(),
            FaultKind::Permanent,
            "refuses us: 401 Unauthorized: no, token ***; check what to log in with",
        ),
        ("busy", busy.url("/"), "", FaultKind::Temporary, "503 Service Unavailable"),
        ("gone", gone.url("/"), "", FaultKind::Permanent, "404 Not Found"),
        (
            "redirect",
            elsewhere.url("/"),
            "",
            FaultKind::Permanent,
            "sends us elsewhere (307 Temporary Redirect to http://127.0.0.1:1/evil)",
        ),
        ("slow", slow.url("/"), "", FaultKind::Unknown, "too slow"),
        ("lost", lost.url("/"), "", FaultKind::Unknown, "ended"),
        ("down", down, "", FaultKind::Temporary, "cannot connect to 127.0.0.1:"),
        ("authority", good.url("/"), "", FaultKind::Permanent, "is not to be trusted"),
        ("name", other_name.url("/"), other_trusted.as_str(), FaultKind::Permanent, "is not to be trusted"),
        ("expired", expired.url("/"), expired_trusted.as_str(), FaultKind::Permanent, "certificate expired"),
        ("no secret", good.url("/"), "token_file = \"/nonexistent\"", FaultKind::Permanent, "cannot read the secret in /nonexistent"),
    ] {
        let limit = if what == "slow" { Duration::from_millis(500) } else { PATIENCE };
        let (result, transcript) = deliver(&format!("[notify.a.webhook]\nurl = \"{url}\"\n{more}"), &sample("k", 0), limit).await;
        let fault = result.expect_err(what);
        assert_eq!(fault.kind, kind, "{what}: {fault}");
        assert!(fault.text.contains(text), "{what}: {fault}");
        assert_eq!(fault.retry_after, (what == "busy").then_some(Duration::from_secs(120)), "{what}");
        if what == "token" {
            assert!(!conversation(&transcript).contains("hunter2"), "{}", conversation(&transcript));
        }
    }
    assert!([&good, &other_name, &expired].iter().all(|server| server.requests().is_empty()), "nothing is told to whom we do not trust");

    // The answer was lost: the same key again.
    let again = Message { attempt: 2, ..sample("k", 0) };
    let (result, _) = deliver(&format!("[notify.a.webhook]\nurl = \"{}\"", lost.url("/")), &again, PATIENCE).await;
    assert!(result.is_ok());
    let ids: Vec<Value> = lost.requests().iter().map(|request| request["headers"]["webhook-id"].clone()).collect();
    assert_eq!(ids, ["k", "k"]);
}

#[tokio::test]
async fn over_tls_and_logged_in() {
    let server = HttpServer::start_tls(json!([{}]), "localhost");
    let (ca, password) = (server.file("cert.pem", ""), server.file("password", "correct horse\n"));
    let url = server.file("url", &server.url("/services/T0/hunter2hunter2"));
    for (login, header, value) in [
        (format!("user = \"weir\"\npassword_file = \"{password}\""), "authorization", "Basic d2Vpcjpjb3JyZWN0IGhvcnNl"),
        (format!("token_file = \"{password}\""), "authorization", "Bearer correct horse"),
        (format!("token_file = \"{password}\"\ntoken_header = \"X-Api-Key\""), "x-api-key", "correct horse"),
    ] {
        let lines = format!("[notify.a.webhook]\nurl_file = \"{url}\"\nca_file = \"{ca}\"\n{login}");
        let (result, transcript) = deliver(&lines, &sample("k", 0), PATIENCE).await;
        let said = conversation(&transcript);
        result.unwrap_or_else(|fault| panic!("{fault}\n{said}"));
        assert_eq!(server.requests().pop().unwrap()["headers"][header], value);
        assert!(said.contains("TLSv1_3 with localhost") && !said.contains("correct horse") && !said.contains("hunter2"), "{said}");
    }
    assert_eq!(server.requests()[0]["path"], "/services/T0/hunter2hunter2");
}

/// Whatever stands in labels and texts: the same request with the same shape.
#[tokio::test]
async fn nothing_from_outside_is_syntax() {
    let server = HttpServer::start(json!([{}]));
    let mut evil = sample("k", 0);
    evil.labels.insert("pool".into(), EVIL.into());
    evil.alarms[0].labels = evil.labels.clone();
    evil.alarms[0].summary = EVIL.into();
    evil.node = EVIL.into();
    evil.texts.insert("en".into(), Text { title: EVIL.into(), text: EVIL.into() });
    let own = "body = '{ \"a\": \"${title} ${text}\", \"b\": \"${labels.pool}\", \"c\": \"${labels} ${node}\" }'";
    for format in ["", "format = \"slack\"", "format = \"mattermost\"", own, "body = 'a=${title}&b=${labels.pool}'\nbody_type = \"form\""] {
        let mut shapes = Vec::new();
        for message in [&sample("k", 0), &evil] {
            let lines = format!("[notify.a.webhook]\nurl = \"{}\"\n{format}", server.url("/"));
            deliver(&lines, message, PATIENCE).await.0.unwrap();
            let request = server.requests().pop().unwrap();
            let names: Vec<String> = request["headers"].as_object().unwrap().keys().cloned().collect();
            let text = request["body"].as_str().unwrap();
            let inner = if format.contains("form\"") { text.matches(['&', '=']).count().to_string() } else { shape(&body(&request)) };
            shapes.push((names, inner));
        }
        assert_eq!(shapes[0], shapes[1], "{format}");
    }
}

/// The value without its strings.
fn shape(value: &Value) -> String {
    match value {
        Value::Object(entries) => entries.iter().map(|(name, value)| format!("{name}:{};", shape(value))).collect(),
        Value::Array(items) => items.iter().map(|value| format!("[{}]", shape(value))).collect(),
        Value::String(_) => "text".into(),
        other => other.to_string(),
    }
}
