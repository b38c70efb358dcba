//! E-mail against servers that we did not write: aiosmtpd for STARTTLS, TLS, AUTH and faults, OpenSMTPD for delivery into a mailbox.
//! (Debian 12's OpenSMTPD, made for an older OpenSSL, ends every TLS handshake as a server, whoever asks: OpenSMTPD/OpenSMTPD issue 1239.)

#[path = "../../control/tests/port/mod.rs"]
mod port;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use port::free_port;
use weir_config::{EmailChannel, Language, MailSecurity, Recipient, SecretSource};
use weir_notify::channel::email::Email;
use weir_notify::channel::{Channel, Fault, FaultKind, Receipt};
use weir_notify::message::{Message, sample};
use weir_notify::transcript::Transcript;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server, ended with the test.
struct Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error: it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// With a certificate for these names; an empty list: without TLS.
    fn start(mode: &str, names: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("/usr/bin/python3");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail_server.py")).arg(mode).arg(folder.path());
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let made = rcgen::generate_simple_self_signed(names).unwrap();
            std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
            std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
            command.arg(folder.path().join("cert.pem")).arg(folder.path().join("key.pem"));
        }
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.expect("Debian's python3 runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("a port: is python3-aiosmtpd installed?");
        std::fs::write(folder.path().join("password"), "correct horse\n").unwrap();
        Server { child, port, folder }
    }

    fn settings(&self, security: MailSecurity) -> EmailChannel {
        let login = (security != MailSecurity::None).then(|| ("weir".to_owned(), SecretSource::File(self.folder.path().join("password"))));
        EmailChannel {
            host: "localhost".into(),
            port: self.port,
            security,
            from: "weir@example.com".into(),
            to: vec![recipient("ops@example.com", None)],
            login,
            ca_file: (security != MailSecurity::None).then(|| self.folder.path().join("cert.pem")),
            html: true,
            picture: true,
        }
    }

    fn mails(&self) -> Vec<String> {
        let read = |number: u32| std::fs::read_to_string(self.folder.path().join(format!("{number}.eml"))).ok();
        (1..).map_while(read).collect()
    }
}

fn recipient(address: &str, language: Option<&str>) -> Recipient {
    Recipient { address: address.into(), language: language.and_then(Language::find) }
}

async fn deliver(settings: EmailChannel, message: &Message, limit: Duration) -> (Result<Receipt, Fault>, Transcript) {
    let mut transcript = Transcript::new();
    let channel = Email::new(settings, Language::ENGLISH);
    let ended = tokio::time::timeout(limit, channel.deliver(message, &mut transcript)).await;
    let result = ended.unwrap_or_else(|_| Err(Fault::broken(&transcript, "too slow")));
    (result, transcript)
}

fn conversation(transcript: &Transcript) -> String {
    transcript.lines().iter().map(|line| format!("{}\n", line.text)).collect()
}

#[tokio::test]
async fn mail_goes_over_starttls_and_over_tls() {
    for (mode, security) in [("starttls", MailSecurity::StartTls), ("tls", MailSecurity::Tls)] {
        let server = Server::start(mode, &["localhost"]);
        let mut message = sample("n.1.a.1", 1_767_571_200_000);
        message.texts.insert("ko".into(), weir_notify::message::Text { title: "[시험] 풀 web".into(), text: "시험입니다".into() });
        let mut settings = server.settings(security);
        settings.to.push(recipient("kim@example.com", Some("ko")));
        let (result, transcript) = deliver(settings, &message, PATIENCE).await;
        let said = conversation(&transcript);
        let receipt = result.unwrap_or_else(|fault| panic!("{mode}: {fault}\n{said}"));
        assert_eq!((receipt.said.as_str(), receipt.reference.as_deref()), ("2.0.0 taken as 42", Some("<n.1.a.1.en@weir.weir>")), "{mode}");
        assert!(said.contains("TLSv1_3 with localhost") && said.contains("AUTH PLAIN ***") && !said.contains("correct horse"), "{said}");
        let mails = server.mails();
        assert_eq!(mails.len(), 2, "one for each language");
        assert!(mails[0].starts_with("X-Rcpt: ops@example.com") && mails[0].contains("Subject: [test] pool web"));
        assert!(mails[1].starts_with("X-Rcpt: kim@example.com") && mails[1].contains("Subject: =?utf-8?B?"));
        assert!(mails[0].contains("Content-Type: image/png"));
    }
}

#[tokio::test]
async fn what_goes_wrong_is_told_apart() {
    let message = sample("k", 0);
    let server = Server::start("starttls", &["localhost"]);
    let wrong_password = EmailChannel {
        login: Some(("weir".into(), SecretSource::File(server.folder.path().join("wrong")))),
        ..server.settings(MailSecurity::StartTls)
    };
    std::fs::write(server.folder.path().join("wrong"), "hunter2hunter2").unwrap();
    let unknown_authority = EmailChannel { ca_file: None, ..server.settings(MailSecurity::StartTls) };
    let unknown_user = EmailChannel { to: vec![recipient("nobody@example.com", None)], ..server.settings(MailSecurity::StartTls) };
    let no_password =
        EmailChannel { login: Some(("weir".into(), SecretSource::File("/nonexistent".into()))), ..server.settings(MailSecurity::StartTls) };
    let other_name = Server::start("starttls", &["elsewhere.example.com"]);
    let plain = Server::start("plain", &[]);
    let needs_tls =
        EmailChannel { ca_file: Some(server.folder.path().join("cert.pem")), port: plain.port, ..server.settings(MailSecurity::StartTls) };
    let (refuse, hangup, slow) = (Server::start("refuse", &[]), Server::start("hangup", &[]), Server::start("slow", &[]));
    let down = EmailChannel { port: free_port(), ..plain.settings(MailSecurity::None) };
    for (what, settings, kind, text) in [
        ("password", wrong_password, FaultKind::Permanent, "refuses the login: 535"),
        ("authority", unknown_authority, FaultKind::Permanent, "is not to be trusted"),
        ("name", other_name.settings(MailSecurity::StartTls), FaultKind::Permanent, "is not to be trusted"),
        ("recipient", unknown_user, FaultKind::Permanent, "550 5.1.1 no such user"),
        ("secret", no_password, FaultKind::Permanent, "cannot read the secret in /nonexistent"),
        ("no starttls", needs_tls, FaultKind::Permanent, "offers no STARTTLS"),
        ("down", down, FaultKind::Temporary, "cannot connect to localhost:"),
        ("refusing", refuse.settings(MailSecurity::None), FaultKind::Temporary, "refuses the mail: 451"),
        ("hanging up", hangup.settings(MailSecurity::None), FaultKind::Temporary, "ended"),
        ("slow", slow.settings(MailSecurity::None), FaultKind::Temporary, "too slow"),
    ] {
        let limit = if what == "slow" { Duration::from_millis(500) } else { PATIENCE };
        let (result, transcript) = deliver(settings, &message, limit).await;
        let fault = result.expect_err(what);
        assert_eq!(fault.kind, kind, "{what}: {fault}");
        assert!(fault.text.contains(text), "{what}: {fault}");
        let said = conversation(&transcript);
        assert!(!said.contains("hunter2") && !said.contains("aHVudGVyMmh1bnRlcjI") && !fault.text.contains("hunter2"), "{said}");
    }
    assert!([&server, &plain, &refuse].iter().all(|server| server.mails().is_empty()));
}

#[tokio::test]
async fn an_answer_that_is_lost_leaves_it_open_and_the_mail_has_the_same_name_again() {
    let server = Server::start("lost", &[]);
    let message = sample("k-1", 0);
    let (result, _) = deliver(server.settings(MailSecurity::None), &message, PATIENCE).await;
    assert_eq!(result.unwrap_err().kind, FaultKind::Unknown);
    let again = Message { attempt: 2, ..message };
    let (result, _) = deliver(server.settings(MailSecurity::None), &again, PATIENCE).await;
    assert!(result.is_ok());
    let name = |mail: &String| mail.lines().find(|line| line.starts_with("Message-ID: ")).unwrap().to_owned();
    let names: Vec<String> = server.mails().iter().map(name).collect();
    assert_eq!(names, [names[0].clone(), names[0].clone()]);
}

#[tokio::test]
async fn some_of_several_recipients_are_told() {
    let server = Server::start("plain", &[]);
    let to = vec![recipient("ops@example.com", None), recipient("nobody@example.com", None)];
    let (result, _) = deliver(EmailChannel { to, ..server.settings(MailSecurity::None) }, &sample("k", 0), PATIENCE).await;
    assert!(result.unwrap().said.contains("550 5.1.1 no such user"));
    assert!(server.mails()[0].starts_with("X-Rcpt: ops@example.com"));
}

/// Debian's opensmtpd takes a mail and puts it into a mailbox, not root's, to whom it delivers nothing. Needs root.
#[tokio::test]
async fn opensmtpd_delivers() {
    let folder = tempfile::tempdir().unwrap();
    let (port, path) = (free_port(), folder.path());
    for name in ["spool", "mail"] {
        std::fs::create_dir(path.join(name)).unwrap();
    }
    // Delivery runs as the user of the mailbox, who must get there.
    open(path);
    open(&path.join("mail"));
    let config = format!(
        "queue compression\nlisten on 127.0.0.1 port {port}\naction \"box\" maildir \"{}/mail/%{{rcpt.user}}\"\nmatch from any for any action \"box\"\n",
        path.display()
    );
    std::fs::write(path.join("smtpd.conf"), config).unwrap();
    let spawned = Command::new("smtpd")
        .args(["-d", "-f"])
        .arg(path.join("smtpd.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let child = spawned.expect("smtpd runs: is opensmtpd installed?");
    let mut server = Server { child, port, folder };
    let until = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until && server.child.try_wait().unwrap().is_none(), "smtpd does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let settings =
        EmailChannel { host: "127.0.0.1".into(), to: vec![recipient("nobody@localhost", None)], ..server.settings(MailSecurity::None) };
    let (result, transcript) = deliver(settings, &sample("k-opensmtpd", 0), PATIENCE).await;
    result.unwrap_or_else(|fault| panic!("{fault}\n{}", conversation(&transcript)));
    let new = server.folder.path().join("mail/nobody/new");
    let found = || std::fs::read_dir(&new).ok().and_then(|mut files| files.next()).and_then(Result::ok).map(|file| file.path());
    let mail: PathBuf = loop {
        if let Some(mail) = found() {
            break mail;
        }
        assert!(Instant::now() < until, "the mail does not arrive in {}", new.display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let mail = std::fs::read_to_string(mail).unwrap();
    assert!(mail.contains("Message-ID: <k-opensmtpd.en@weir.weir>") && mail.contains("Subject: [test] pool web"), "{mail}");
}

fn open(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
}
