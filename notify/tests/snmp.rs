//! SNMP against Debian's snmptrapd, and the MIB against its snmptranslate.

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use support::{EVIL, PATIENCE, conversation, deliver};
use weir_notify::channel::FaultKind;
use weir_notify::message::{Message, Text, sample};

const ENGINE: &str = "80007ed9046c622d61";

/// A receiver, ended with the test.
struct Receiver {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
    lines: mpsc::Receiver<String>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // An error: it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn modules() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    format!("{}:{}", root.parent().unwrap().join("packaging/mibs").display(), root.join("tests/mibs").display())
}

impl Receiver {
    fn start() -> Receiver {
        Receiver::reading(&modules())
    }

    /// With the MIB of these folders.
    fn reading(modules: &str) -> Receiver {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "authCommunity log secret-community\n\
             createUser -e 0x{ENGINE} trapper SHA-256 \"correct horse\" AES \"battery staple\"\n\
             createUser informer SHA-256 \"correct horse\" AES \"battery staple\"\n\
             createUser informer1 SHA \"correct horse\" AES \"battery staple\"\n\
             createUser informer5 SHA-512 \"correct horse\"\n\
             authUser log trapper\nauthUser log informer\nauthUser log informer1\nauthUser log informer5 auth\n\
             format1 %V\nformat2 %v END\\n\n"
        );
        std::fs::write(folder.path().join("snmptrapd.conf"), config).unwrap();
        for name in ["password", "privacy", "wrong", "community"] {
            let secret = match name {
                "password" => "correct horse",
                "privacy" => "battery staple",
                "wrong" => "hunter2hunter2",
                _ => "secret-community",
            };
            std::fs::write(folder.path().join(name), secret).unwrap();
        }
        // Somebody else may take the port before it does: then it ends at once, and another one is tried.
        for _ in 0..5 {
            let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut command = Command::new("/usr/sbin/snmptrapd");
            command.args(["-f", "-Lo", "-C", "-n", "-m", "WEIR-MIB", "-M", modules, "-c"]).arg(folder.path().join("snmptrapd.conf"));
            command.arg(format!("udp:127.0.0.1:{port}")).env("SNMP_PERSISTENT_DIR", folder.path());
            let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
            let mut child = spawned.expect("snmptrapd runs: is it installed?");
            let (sender, lines) = mpsc::channel();
            let stdout = BufReader::new(child.stdout.take().unwrap());
            std::thread::spawn(move || {
                for line in stdout.split(b'\n').map_while(Result::ok) {
                    let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
                }
            });
            // It says first which folders it makes; it ends where it cannot listen.
            if std::iter::from_fn(|| lines.recv_timeout(PATIENCE).ok()).any(|line: String| line.contains("NET-SNMP version")) {
                return Receiver { child, port, folder, lines };
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("snmptrapd does not start");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lines(&self, more: &str) -> String {
        format!("[notify.a.snmp]\nto = \"127.0.0.1:{}\"\n{more}", self.port)
    }

    fn user(&self, user: &str, auth: &str, password: &str, privacy: bool) -> String {
        let more = if privacy { format!("privacy_password_file = {:?}\n", self.file("privacy")) } else { String::new() };
        self.lines(&format!(
            "version = \"3\"\nuser = \"{user}\"\nauth = \"{auth}\"\nauth_password_file = {:?}\n{more}",
            self.file(password)
        ))
    }

    /// Waits for a notification that has this in it.
    fn wait_for(&self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        let mut record = String::new();
        loop {
            let line = self.lines.recv_timeout(until.saturating_duration_since(Instant::now()));
            record.push_str(&line.unwrap_or_else(|_| panic!("snmptrapd does not print {text:?}")));
            if record.ends_with(" END") {
                if record.contains(text) {
                    return record;
                }
                record.clear();
            }
        }
    }
}

#[tokio::test]
async fn traps_arrive() {
    let receiver = Receiver::start();
    // What it confirms it listens for; a trap before that would be lost unseen.
    let inform = receiver.lines(&format!("community_file = {:?}", receiver.file("community")));
    deliver(&inform, &sample("key-ready", 0), PATIENCE).await.0.unwrap();
    let community = format!("inform = false\ncommunity_file = {:?}", receiver.file("community"));
    let user = format!("{}inform = false\nengine_id = \"{ENGINE}\"\n", receiver.user("trapper", "sha256", "password", true));
    for (lines, key) in [(receiver.lines(&community), "key-2c"), (user.clone(), "key-3"), (user, "key-3-again")] {
        let (result, transcript) = deliver(&lines, &sample(key, 1_767_571_200_000), PATIENCE).await;
        let said = result.unwrap_or_else(|fault| panic!("{fault}\n{}", conversation(&transcript))).said;
        assert!(said.ends_with("a trap is never confirmed"), "{said}");
        let line = receiver.wait_for(key);
        for part in [
            "snmpModules.1.1.4.1.0 = OID: WEIR-MIB::weirTest",
            "WEIR-MIB::weirSeverity.0 = INTEGER: warning(2)",
            "WEIR-MIB::weirState.0 = INTEGER: open(1)",
            "WEIR-MIB::weirTitle.0 = STRING: [test] pool web",
            "WEIR-MIB::weirStartedAt.0 = STRING: 2026-1-4,23:59:0.0,+0:0",
            "WEIR-MIB::weirAlarmCount.0 = Gauge32: 1",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(!conversation(&transcript).contains("secret-community"));
    }
}

#[tokio::test]
async fn informs_are_confirmed() {
    let receiver = Receiver::start();
    let community = receiver.lines(&format!("community_file = {:?}", receiver.file("community")));
    for (lines, key) in [
        (community, "key-2c"),
        (receiver.user("informer", "sha256", "password", true), "key-256"),
        (receiver.user("informer1", "sha1", "password", true), "key-1"),
        (receiver.user("informer5", "sha512", "password", false), "key-512"),
    ] {
        let (result, transcript) = deliver(&lines, &sample(key, 0), PATIENCE).await;
        let said = result.unwrap_or_else(|fault| panic!("{key}: {fault}\n{}", conversation(&transcript))).said;
        assert_eq!(said, format!("confirmed by 127.0.0.1:{}", receiver.port));
        assert!(receiver.wait_for(key).contains("WEIR-MIB::weirTitle.0 = STRING: [test] pool web"));
    }
}

/// Whoever has a number of their own says so in the file, and in one line of the MIB.
#[tokio::test]
async fn names_stand_below_an_arc_of_yours() {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mib = std::fs::read_to_string(root.parent().unwrap().join("packaging/mibs/WEIR-MIB.txt")).unwrap();
    let line = "example OBJECT IDENTIFIER ::= { enterprises 32473 }";
    assert_eq!(mib.matches(line).count(), 1);
    let mib = mib.replace(line, "example OBJECT IDENTIFIER ::= { enterprises 4711 8 }");
    std::fs::write(folder.path().join("WEIR-MIB.txt"), mib).unwrap();
    let receiver = Receiver::reading(&format!("{}:{}", folder.path().display(), root.join("tests/mibs").display()));
    let arc = format!("arc = \"1.3.6.1.4.1.4711.8.1\"\ncommunity_file = {:?}", receiver.file("community"));
    deliver(&receiver.lines(&arc), &sample("key-arc", 0), PATIENCE).await.0.unwrap();
    let told = receiver.wait_for("key-arc");
    assert!(told.contains("OID: WEIR-MIB::weirTest") && told.contains("WEIR-MIB::weirTitle.0 = STRING: [test] pool web"), "{told}");
}

#[tokio::test]
async fn what_goes_wrong_is_told_apart() {
    let receiver = Receiver::start();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = |port: u16| format!("[notify.a.snmp]\nto = \"127.0.0.1:{port}\"\n");
    let gone = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (what, lines, kind, text) in [
        ("password", receiver.user("informer", "sha256", "wrong", false), FaultKind::Permanent, "the signature is wrong"),
        ("user", receiver.user("nobody", "sha256", "password", false), FaultKind::Permanent, "does not know the user"),
        ("privacy", receiver.user("informer5", "sha512", "password", true), FaultKind::Permanent, "does not take the message"),
        ("secret", receiver.user("informer", "sha256", "none", false), FaultKind::Permanent, "cannot read the secret in"),
        ("down", to(gone), FaultKind::Temporary, "nobody takes it at 127.0.0.1:"),
        // Version 2c has no answer for it (RFC 3584): it looks like a receiver that does not answer.
        ("community", receiver.lines(&format!("community_file = {:?}", receiver.file("wrong"))), FaultKind::Unknown, "too slow"),
        ("silent", to(silent.local_addr().unwrap().port()), FaultKind::Unknown, "too slow"),
    ] {
        let limit = if matches!(what, "silent" | "community") { Duration::from_secs(6) } else { PATIENCE };
        let (result, transcript) = deliver(&lines, &sample("k", 0), limit).await;
        let said = conversation(&transcript);
        let fault = result.expect_err(what);
        assert_eq!(fault.kind, kind, "{what}: {fault}\n{said}");
        assert!(fault.text.contains(text), "{what}: {fault}\n{said}");
        assert!(!said.contains("hunter2") && !fault.text.contains("hunter2"));
    }
    // It was sent twice, the same to the byte: the receiver can tell.
    let mut datagrams = [[0; 4096]; 2];
    let lengths = [0, 1].map(|number| silent.recv(&mut datagrams[number]).unwrap());
    assert_eq!(datagrams[0][..lengths[0]], datagrams[1][..lengths[1]]);
}

#[tokio::test]
async fn nothing_from_outside_is_syntax() {
    let receiver = Receiver::start();
    let lines = receiver.lines(&format!("community_file = {:?}", receiver.file("community")));
    let mut message = sample("key-evil", 0);
    message.labels.insert("pool".into(), EVIL.into());
    message.texts.insert("en".into(), Text { title: EVIL.into(), text: "x".into() });
    deliver(&lines, &Message { node: EVIL.into(), ..message }, PATIENCE).await.0.unwrap();
    let line = receiver.wait_for("key-evil");
    assert!(line.contains("WEIR-MIB::weirAlarmCount.0 = Gauge32: 1") && !line.contains(['\x1b', '\0', '\r']), "{line}");
}

#[test]
fn the_mib_is_accepted() {
    let translate = |arguments: &[&str]| {
        let mut command = Command::new("snmptranslate");
        let output = command
            .args(["-Pew", "-M", &modules(), "-m", "WEIR-MIB"])
            .args(arguments)
            .output()
            .expect("snmptranslate runs: is snmp installed?");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("WEIR-MIB"), "{arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(translate(&["-On", "WEIR-MIB::weirIncidentOpened"]), ".1.3.6.1.4.1.32473.1.0.1");
    assert_eq!(translate(&["-On", "WEIR-MIB::weirAlarmCount.0"]), ".1.3.6.1.4.1.32473.1.1.10.0");
    assert_eq!(translate(&["1.3.6.1.4.1.32473.1.0.7"]), "WEIR-MIB::weirTest");
}
