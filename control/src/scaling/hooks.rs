//! Lifecycle hooks: a program, or a webhook.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use weir_config::{Hook, HookAction};

use crate::client::tls_for;
use crate::command;

/// What a hook is told.
#[derive(Clone, Debug, Serialize)]
pub(super) struct About {
    pub(super) hook: &'static str,
    pub(super) pool: String,
    pub(super) machine: String,
    pub(super) address: String,
    pub(super) host: String,
}

/// Runs it to its end, at most for as long as it may take.
///
/// # Errors
/// In one line for people.
pub(super) async fn run(hook: &Hook, about: &About) -> Result<(), String> {
    match &hook.action {
        HookAction::Command(command) => {
            let environment = [
                ("WEIR_HOOK", about.hook.to_owned()),
                ("WEIR_POOL", about.pool.clone()),
                ("WEIR_MACHINE", about.machine.clone()),
                ("WEIR_ADDRESS", about.address.clone()),
                ("WEIR_HOST", about.host.clone()),
            ];
            command::run(command, &environment, hook.timeout).await
        }
        HookAction::Webhook { url, ca_file } => {
            let (url, ca_file, about, timeout) = (url.clone(), ca_file.clone(), about.clone(), hook.timeout);
            let work = tokio::task::spawn_blocking(move || post(&url, ca_file, &about, timeout));
            work.await.unwrap_or_else(|error| Err(format!("it broke off: {error}")))
        }
    }
}

fn post(url: &str, ca_file: Option<PathBuf>, about: &About, timeout: Duration) -> Result<(), String> {
    let tls = tls_for(url, ca_file)?;
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .tls_config(tls)
        .timeout_global(Some(timeout))
        .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent();
    let response = agent.post(url).send_json(about).map_err(|error| format!("{url}: {error}"))?;
    let status = response.status();
    if status.is_success() { Ok(()) } else { Err(format!("{url} answers {}", status.as_u16())) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn about() -> About {
        About { hook: "launch", pool: "web".into(), machine: "web-1".into(), address: "10.0.0.1:80".into(), host: "kvm-a".into() }
    }

    fn hook(action: HookAction, timeout: Duration) -> Hook {
        Hook { action, timeout, continues: false }
    }

    #[tokio::test]
    async fn a_program_knows_what_it_is_about() {
        let run_it = async |script: &str| {
            let command = vec!["/bin/sh".into(), "-c".into(), script.into()];
            run(&hook(HookAction::Command(command), Duration::from_secs(20)), &about()).await
        };
        assert_eq!(
            run_it("test \"$WEIR_HOOK $WEIR_POOL $WEIR_MACHINE $WEIR_ADDRESS $WEIR_HOST\" = 'launch web web-1 10.0.0.1:80 kvm-a'").await,
            Ok(())
        );
        assert_eq!(run_it("echo no >&2; exit 4").await, Err("/bin/sh exits with 4: no".into()));
    }

    #[tokio::test]
    async fn a_webhook_answers_or_not() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/launched", listener.local_addr().expect("bound"));
        let server = std::thread::spawn(move || {
            let mut bodies = Vec::new();
            for answer in ["204 No Content", "503 Service Unavailable"] {
                let (mut stream, _) = listener.accept().expect("a client");
                let mut bytes = Vec::new();
                let mut buffer = [0; 4096];
                while !bytes.ends_with(b"}") {
                    let count = stream.read(&mut buffer).expect("bytes");
                    assert!(count > 0, "it closed early");
                    bytes.extend_from_slice(&buffer[..count]);
                }
                bodies.push(String::from_utf8_lossy(&bytes).into_owned());
                write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").expect("written");
            }
            bodies
        });
        let hook = hook(HookAction::Webhook { url: url.clone(), ca_file: None }, Duration::from_secs(20));
        assert_eq!(run(&hook, &about()).await, Ok(()));
        assert_eq!(run(&hook, &about()).await, Err(format!("{url} answers 503")));
        let bodies = server.join().expect("no panic");
        assert!(bodies[0].starts_with("POST /launched "), "{}", bodies[0]);
        let (_, body) = bodies[0].split_once("\r\n\r\n").expect("a body");
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).expect("JSON")["machine"], "web-1");
    }

    #[tokio::test]
    async fn a_webhook_under_tls_is_believed_by_its_authority_alone() {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, key.cert.pem()).expect("written");
        let secret = rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], secret)
            .expect("they fit");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("https://localhost:{}/launched", listener.local_addr().expect("bound").port());
        let server = std::thread::spawn(move || {
            let config = std::sync::Arc::new(config);
            for _ in 0..2 {
                let (mut socket, _) = listener.accept().expect("a client");
                let mut session = rustls::ServerConnection::new(config.clone()).expect("a session");
                let mut stream = rustls::Stream::new(&mut session, &mut socket);
                let mut buffer = [0; 4096];
                let mut bytes = Vec::new();
                // Who does not believe it leaves.
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    bytes.extend_from_slice(&buffer[..count]);
                    if bytes.ends_with(b"}") {
                        stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").expect("written");
                        stream.conn.send_close_notify();
                        stream.flush().expect("sent");
                        break;
                    }
                }
            }
        });
        let run_it = async |ca_file: Option<PathBuf>| {
            run(&hook(HookAction::Webhook { url: url.clone(), ca_file }, Duration::from_secs(20)), &about()).await
        };
        let stranger = run_it(None).await.expect_err("nobody on this machine knows it");
        assert!(stranger.contains("certificate"), "{stranger}");
        assert_eq!(run_it(Some(ca_file)).await, Ok(()));
        server.join().expect("no panic");
    }
}
