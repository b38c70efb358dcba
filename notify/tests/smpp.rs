//! SMPP against a centre whose PDUs are read and written by a library that is not ours.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{EVIL, PATIENCE, Script, conversation, deliver, free_port};
use weir_notify::channel::FaultKind;
use weir_notify::message::{Kind, Message, Text, sample};

struct Centre(Script);

impl Centre {
    fn start(mode: &str) -> Centre {
        Centre(Script::start("smpp_server.py", tempfile::tempdir().unwrap(), &[mode]))
    }

    fn start_tls() -> Centre {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name).display().to_string());
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Centre(Script::start("smpp_server.py", folder, &["good", &cert, &key]))
    }

    fn lines(&self, password: &str, more: &str) -> String {
        self.lines_at(&format!("smpp://127.0.0.1:{}", self.0.port), password, more)
    }

    fn lines_at(&self, server: &str, password: &str, more: &str) -> String {
        let file = self.0.folder.path().join(format!("password-{}", password.len()));
        std::fs::write(&file, password).unwrap();
        format!("[notify.a.smpp]\nserver = \"{server}\"\nuser = \"weir\"\npassword_file = {file:?}\nfrom = \"weir\"\n{more}\n")
    }

    fn messages(&self) -> Vec<Value> {
        let read = |number: u32| std::fs::read_to_string(self.0.folder.path().join(format!("{number}.json"))).ok();
        (1..).map_while(read).map(|text| serde_json::from_str(&text).unwrap()).collect()
    }
}

fn bytes(message: &Value) -> Vec<u8> {
    let text = message["text"].as_str().unwrap().as_bytes();
    text.as_chunks::<2>().0.iter().map(|pair| weir_config::decoded(*pair).unwrap()).collect()
}

fn message(title: &str) -> Message {
    let mut message = Message { kind: Kind::Opened, ..sample("n.1.a.1", 0) };
    message.texts.insert("en".into(), Text { title: title.into(), text: String::new() });
    message
}

#[tokio::test]
async fn texts_arrive_in_their_alphabet() {
    let centre = Centre::start("good");
    let lines = centre.lines("secret08", "to = \"+15550123\"\nparts_max = 3");
    let (result, transcript) = deliver(&lines, &message("pool web @ 90 % [warning]"), PATIENCE).await;
    let said = conversation(&transcript);
    assert_eq!(result.unwrap_or_else(|fault| panic!("{fault}\n{said}")).said, "taken as id-1");
    for part in ["bind_transmitter as weir", "it calls itself \"centre\"", "enquire_link", "unbind"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!said.contains("secret08"));
    let first = &centre.messages()[0];
    assert!(
        first["from_type"].as_str().unwrap().ends_with("ALPHANUMERIC") && first["to_type"].as_str().unwrap().ends_with("INTERNATIONAL")
    );
    assert_eq!((&first["from"], &first["to"], &first["has_header"]), (&"weir".into(), &"15550123".into(), &false.into()));
    assert_eq!(bytes(first), b"pool web \x00 90 % \x1b<warning\x1b>");

    let korean = "풀 web: 정상 엔드포인트 2개, 필요한 수 3개. ".repeat(4);
    deliver(&lines, &message(&korean), PATIENCE).await.0.unwrap();
    let parts = centre.messages().split_off(1);
    assert_eq!(parts.len(), 2);
    let mut text = Vec::new();
    for (number, part) in (1..).zip(&parts) {
        assert_eq!((&part["has_header"], part["coding"].as_str().unwrap().ends_with("UCS2")), (&true.into(), true));
        let bytes = bytes(part);
        assert_eq!((&bytes[..3], &bytes[4..6]), (&[5, 0, 3][..], &[2, number][..]));
        text.extend(bytes[6..].as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair)));
    }
    assert_eq!(bytes(&parts[0])[3], bytes(&parts[1])[3], "one number for all parts");
    assert_eq!(String::from_utf16(&text).unwrap(), korean.trim());
}

#[tokio::test]
async fn what_goes_wrong_is_told_apart() {
    let one = "to = \"+15550123\"";
    let (good, throttled, lost, slow, refusing) =
        (Centre::start("good"), Centre::start("throttled"), Centre::start("lost"), Centre::start("slow"), Centre::start("refusing"));
    let down = good.lines_at(&format!("smpp://127.0.0.1:{}", free_port()), "secret08", one);
    let user = good.lines("secret08", one).replace("user = \"weir\"", "user = \"wier\"");
    for (what, lines, kind, text) in [
        ("down", down, FaultKind::Temporary, "cannot connect to 127.0.0.1:"),
        ("user", user, FaultKind::Permanent, "refuses the bind: it does not know the name (status 0xf)"),
        (
            "throttled",
            throttled.lines("secret08", one),
            FaultKind::Temporary,
            "refuses the message: too many messages at once (status 0x58)",
        ),
        ("lost", lost.lines("secret08", one), FaultKind::Unknown, "ended"),
        ("slow", slow.lines("secret08", one), FaultKind::Unknown, "too slow"),
        ("refused", refusing.lines("secret08", "to = \"666001\""), FaultKind::Permanent, "the number is not one that it takes"),
        ("too long", refusing.lines("hunter2hunter2", one), FaultKind::Permanent, "is longer than the 8 bytes"),
        ("password", slow.lines("hunter2", one), FaultKind::Permanent, "refuses the bind: the password is wrong (status 0xe)"),
    ] {
        let limit = if what == "slow" { Duration::from_secs(4) } else { PATIENCE };
        let (result, transcript) = deliver(&lines, &sample("k", 0), limit).await;
        let said = conversation(&transcript);
        let fault = result.expect_err(what);
        assert_eq!(fault.kind, kind, "{what}: {fault}\n{said}");
        assert!(fault.text.contains(text), "{what}: {fault}\n{said}");
        assert!(!said.contains("hunter2") && !fault.text.contains("hunter2"), "{said}");
    }
    // Refused for now, then taken: once more.
    for centre in [&throttled, &lost] {
        deliver(&centre.lines("secret08", one), &sample("k", 0), PATIENCE).await.0.unwrap();
        assert_eq!(centre.messages().len(), 2);
    }
    let some = refusing.lines("secret08", "to = [\"+15550123\", \"666001\"]");
    let said = deliver(&some, &sample("k", 0), PATIENCE).await.0.unwrap().said;
    assert!(said.starts_with("taken as id-1; not to 666001: ") && said.contains("(status 0xb)"), "{said}");
}

#[tokio::test]
async fn a_centre_is_trusted_by_its_certificate() {
    let centre = Centre::start_tls();
    let server = format!("smpps://localhost:{}", centre.0.port);
    let trusted = format!("to = \"+15550123\"\nca_file = {:?}", centre.0.folder.path().join("cert.pem"));
    let fault = deliver(&centre.lines_at(&server, "secret08", "to = \"+15550123\""), &sample("k", 0), PATIENCE).await.0.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Permanent);
    assert!(fault.text.contains("is not to be trusted"), "{fault}");
    deliver(&centre.lines_at(&server, "secret08", &trusted), &sample("k", 0), PATIENCE).await.0.unwrap();
}

#[tokio::test]
async fn nothing_from_outside_is_syntax() {
    let centre = Centre::start("good");
    deliver(&centre.lines("secret08", "to = \"+15550123\"\nparts_max = 10"), &message(EVIL), PATIENCE).await.0.unwrap();
    let units: Vec<u16> = centre
        .messages()
        .iter()
        .flat_map(|part| bytes(part)[6..].as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect::<Vec<_>>())
        .collect();
    let text = String::from_utf16(&units).unwrap();
    assert!(text.contains("${node}") && !text.contains(['\0', '\r', '\x1b']), "{text:?}");
}
