//! Short messages through gateways over HTTP: what each gateway gets, and what its answers mean.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{EVIL, HttpServer, PATIENCE, channel, conversation, deliver, free_port};
use weir_notify::channel::{FaultKind, build};
use weir_notify::message::{Kind, Message, Text, sample};
use weir_notify::transcript::Transcript;

const PASSWORD: &str = "hunter2/hunter2+";

fn lines(server: &HttpServer, gateway: &str) -> String {
    let password = server.file("password", PASSWORD);
    format!(
        "[notify.a.sms]\ngateway = \"{gateway}\"\nurl = \"{}\"\nuser = \"AC1\"\npassword_file = \"{password}\"\nfrom = \"+15550100\"\nto = \"+15550123\"\n",
        server.url("")
    )
}

/// Fields of a form by name.
fn form(request: &Value) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            match (byte, after.split_first_chunk::<2>()) {
                (b'%', Some((digits, after))) => {
                    bytes.push(weir_config::decoded(*digits).expect("two digits"));
                    rest = after;
                }
                _ => bytes.push(*byte),
            }
        }
        String::from_utf8(bytes).unwrap()
    };
    let body = request["body"].as_str().unwrap();
    body.split('&').filter_map(|field| field.split_once('=')).map(|(name, value)| (name.to_owned(), decode(value))).collect()
}

#[tokio::test]
async fn each_gateway_is_asked_as_it_wants() {
    for (gateway, answer, path, said) in [
        ("twilio", json!({ "sid": "SM42" }), "/2010-04-01/Accounts/AC1/Messages.json", "taken as SM42"),
        ("vonage", json!({ "messages": [{ "status": "0", "message-id": "42" }] }), "/sms/json", "taken as 42"),
        ("sinch", json!({ "id": "01FC" }), "/xms/v1/AC1/batches", "taken as 01FC"),
    ] {
        let server = HttpServer::start(json!([{ "body": answer }]));
        let (result, transcript) = deliver(&lines(&server, gateway), &sample("k", 0), PATIENCE).await;
        let shown = conversation(&transcript);
        assert_eq!(result.unwrap_or_else(|fault| panic!("{gateway}: {fault}\n{shown}")).said, said);
        assert!(!shown.contains("hunter2"), "{shown}");
        let request = server.requests().pop().unwrap();
        assert_eq!(request["path"], path);
        let authorization = request["headers"]["authorization"].as_str();
        match gateway {
            "twilio" => {
                assert_eq!(authorization, Some("Basic QUMxOmh1bnRlcjIvaHVudGVyMis="));
                let want = [("To", "+15550123"), ("From", "+15550100"), ("Body", "[test] pool web")];
                assert_eq!(form(&request), want.map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
            "vonage" => {
                assert_eq!(authorization, None);
                let fields = form(&request);
                for want in
                    [("api_key", "AC1"), ("api_secret", PASSWORD), ("to", "15550123"), ("type", "text"), ("text", "[test] pool web")]
                {
                    assert!(fields.contains(&(want.0.to_owned(), want.1.to_owned())), "{want:?} in {fields:?}");
                }
            }
            _ => {
                assert_eq!(authorization, Some("Bearer hunter2/hunter2+"));
                let body: Value = serde_json::from_str(request["body"].as_str().unwrap()).unwrap();
                assert_eq!(
                    (&body["to"], &body["body"], &body["client_reference"]),
                    (&json!(["15550123"]), &json!("[test] pool web"), &json!("k"))
                );
            }
        }
    }
}

#[tokio::test]
async fn another_gateway_is_asked_by_template() {
    let server = HttpServer::start(json!([{ "body": "ERR 7" , "times": 1 }, { "body": "OK 42" }]));
    let password = server.file("password", PASSWORD);
    let lines = format!(
        "[notify.a.sms]\ngateway = \"own\"\nurl = \"{}\"\nuser = \"me\"\npassword_file = \"{password}\"\nto = [\"+15550123\", \"+15550124\"]\n\
         body = 'u=${{user}}&p=${{password}}&to=${{to}}&text=${{message}}&id=${{key}}'\nbody_type = \"form\"\nmethod = \"get\"\nsuccess = \"OK\"\n",
        server.url("/send?v=1")
    );
    let (result, transcript) = deliver(&lines, &sample("k", 0), PATIENCE).await;
    // The first number was refused, the second was told.
    let said = result.unwrap().said;
    assert!(said.starts_with("200 OK: OK 42; not to +15550123: 127.0.0.1:") && said.contains("does not say \"OK\""), "{said}");
    assert!(!conversation(&transcript).contains("hunter2"), "{}", conversation(&transcript));
    let request = server.requests().pop().unwrap();
    assert_eq!((&request["method"], &request["headers"]["authorization"]), (&json!("GET"), &Value::Null));
    assert_eq!(request["path"], "/send?v=1&u=me&p=hunter2%2Fhunter2%2B&to=%2B15550124&text=%5Btest%5D%20pool%20web&id=k");
}

#[tokio::test]
async fn answers_are_told_apart() {
    let vonage = |status: &str| json!({ "messages": [{ "status": status, "error-text": "because" }] });
    for (gateway, status, answer, kind, text) in [
        ("twilio", 401, json!({ "code": 20003, "message": "Authenticate" }), FaultKind::Permanent, "refuses us: Authenticate (code 20003)"),
        ("twilio", 400, json!({ "code": 21211, "message": "Invalid 'To'" }), FaultKind::Permanent, "Invalid 'To' (code 21211)"),
        ("twilio", 429, json!({ "code": 20429, "message": "Too Many Requests" }), FaultKind::Temporary, "Too Many Requests"),
        ("vonage", 200, vonage("1"), FaultKind::Temporary, "for now: because (status 1)"),
        ("vonage", 200, vonage("4"), FaultKind::Permanent, "because (status 4)"),
        ("vonage", 200, json!("<html>"), FaultKind::Permanent, "does not answer like Vonage"),
        ("sinch", 401, json!({ "text": "no such plan" }), FaultKind::Permanent, "refuses us: no such plan"),
        ("sinch", 503, json!(""), FaultKind::Temporary, "503 Service Unavailable"),
    ] {
        let server = HttpServer::start(json!([{ "status": status, "body": answer }]));
        let fault = deliver(&lines(&server, gateway), &sample("k", 0), PATIENCE).await.0.expect_err(gateway);
        assert_eq!(fault.kind, kind, "{gateway}: {fault}");
        assert!(fault.text.contains(text), "{gateway}: {fault}");
    }
    let lost = HttpServer::start(json!([{ "do": "lost" }]));
    assert_eq!(deliver(&lines(&lost, "twilio"), &sample("k", 0), PATIENCE).await.0.unwrap_err().kind, FaultKind::Unknown);
    let stranger = HttpServer::start_tls(json!([{}]), "localhost");
    let fault = deliver(&lines(&stranger, "twilio"), &sample("k", 0), PATIENCE).await.0.unwrap_err();
    assert!(fault.kind == FaultKind::Permanent && fault.text.contains("is not to be trusted"), "{fault}");
    assert!(stranger.requests().is_empty(), "nothing is told to whom we do not trust");
    let server = HttpServer::start(json!([{ "do": "slow" }]));
    let (result, _) = deliver(&lines(&server, "twilio"), &sample("k", 0), Duration::from_millis(500)).await;
    assert_eq!(result.unwrap_err().kind, FaultKind::Unknown);
    let down = lines(&server, "twilio").replace(&server.url(""), &format!("http://127.0.0.1:{}", free_port()));
    assert_eq!(deliver(&down, &sample("k", 0), PATIENCE).await.0.unwrap_err().kind, FaultKind::Temporary);
}

/// Who was told is not told again when another one's attempt is repeated.
#[tokio::test]
async fn an_attempt_goes_on_where_the_last_one_ended() {
    let server = HttpServer::start(json!([{ "times": 1 }, { "do": "lost", "times": 1 }, {}]));
    let built = build(&channel(&lines(&server, "twilio").replace("to = \"+15550123\"", "to = [\"+1555001\", \"+1555002\", \"+1555003\"]")));
    let message = sample("k", 0);
    assert_eq!(built.deliver(&message, &mut Transcript::new()).await.unwrap_err().kind, FaultKind::Unknown);
    built.deliver(&Message { attempt: 2, ..message }, &mut Transcript::new()).await.unwrap();
    let told: Vec<String> = server.requests().iter().map(|request| form(request)[0].1.clone()).collect();
    assert_eq!(told, ["+1555001", "+1555002", "+1555002", "+1555003"]);
}

#[tokio::test]
async fn nothing_from_outside_is_syntax() {
    for gateway in ["twilio", "vonage", "sinch"] {
        let server = HttpServer::start(json!([{ "body": { "messages": [{ "status": "0" }] } }]));
        let mut message = Message { kind: Kind::Opened, ..sample("k", 0) };
        message.texts.insert("en".into(), Text { title: EVIL.into(), text: EVIL.into() });
        message.labels.insert("pool".into(), EVIL.into());
        deliver(&lines(&server, gateway), &message, PATIENCE).await.0.unwrap();
        let request = server.requests().pop().unwrap();
        if gateway == "sinch" {
            let body: Value = serde_json::from_str(request["body"].as_str().unwrap()).unwrap();
            assert_eq!(body.as_object().unwrap().len(), 4);
        } else {
            let count = if gateway == "twilio" { 3 } else { 6 };
            assert_eq!(form(&request).len(), count, "{request}");
        }
    }
}
