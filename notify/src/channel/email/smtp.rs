//! A session with a mail server (RFC 5321, 3207, 4954), as it is told to the operator.
//!
//! Our own, and small: what `weir notify test` shows is each line of the conversation, and whether a message may have arrived is known only to
//! who sends its last line.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use weir_config::{EmailChannel, MailSecurity};

use super::super::{Fault, base64};
use crate::secret::Secret;
use crate::tls;
use crate::transcript::Transcript;

/// RFC 5321 section 4.5.3.1.5 allows 512; some servers say more.
const LINE_BYTES_MAX: usize = 2048;
const LINES_MAX: usize = 100;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A session that is ready for mails.
pub(super) struct Session<'t> {
    stream: Box<dyn Stream>,
    transcript: &'t mut Transcript,
    read: Vec<u8>,
    server: String,
    capabilities: Vec<String>,
}

struct Reply {
    code: u16,
    text: String,
    lines: Vec<String>,
}

impl<'t> Session<'t> {
    /// Connects, protects the connection and logs in, as the channel says.
    pub(super) async fn open(settings: &EmailChannel, transcript: &'t mut Transcript) -> Result<Session<'t>, Fault> {
        let EmailChannel { host, port, security, login, ca_file, .. } = settings;
        let server = format!("{host}:{port}");
        let login = match login {
            Some((user, source)) => {
                let secret = Secret::read(source).map_err(|error| Fault::permanent(error.to_string()))?;
                transcript.hide(&secret);
                Some((user.as_str(), secret))
            }
            None => None,
        };
        // Before anybody is bothered with a connection.
        let tls = match security {
            MailSecurity::None => None,
            _ => Some(tls::client_config(ca_file.as_deref()).map_err(Fault::permanent)?),
        };
        transcript.note(format!("connecting to {server}"));
        let stream = TcpStream::connect((host.as_str(), *port)).await;
        let stream = stream.map_err(|error| Fault::temporary(format!("cannot connect to {server}: {error}")))?;
        let me = stream.local_addr().map_or("[127.0.0.1]".to_owned(), |address| match address.ip().to_canonical() {
            std::net::IpAddr::V4(v4) => format!("[{v4}]"),
            std::net::IpAddr::V6(v6) => format!("[IPv6:{v6}]"),
        });
        let mut session = Session { stream: Box::new(stream), transcript, read: Vec::new(), server, capabilities: Vec::new() };
        if let (MailSecurity::Tls, Some(tls)) = (security, &tls) {
            session = session.encrypt(host, tls).await?;
        }
        session.expect("the greeting", 220).await?;
        session.hello(&me).await?;
        if let (MailSecurity::StartTls, Some(tls)) = (security, &tls) {
            session.require("STARTTLS", "use smtps:// or another port")?;
            session.command("STARTTLS", 220).await?;
            if !session.read.is_empty() {
                // RFC 3207 section 6: what somebody slipped in before the handshake would be taken for the server's.
                return Err(Fault::permanent(format!("{} speaks on before TLS begins", session.server)));
            }
            session = session.encrypt(host, tls).await?;
            session.hello(&me).await?;
        }
        if let Some((user, secret)) = login {
            session.log_in(user, &secret).await?;
        }
        Ok(session)
    }

    async fn encrypt(self, host: &str, config: &Arc<rustls::ClientConfig>) -> Result<Session<'t>, Fault> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Fault::permanent(format!("{host:?} is no name for a certificate")))?;
        let handshake = TlsConnector::from(config.clone()).connect(name, self.stream).await;
        let stream = handshake.map_err(|error| tls::fault(&self.server, &error))?;
        let (_, connection) = stream.get_ref();
        let version = connection.protocol_version().map_or("?".to_owned(), |version| format!("{version:?}"));
        self.transcript.note(format!("{version} with {}", self.server));
        Ok(Session { stream: Box::new(stream), capabilities: Vec::new(), ..self })
    }

    async fn hello(&mut self, me: &str) -> Result<(), Fault> {
        let reply = self.command(&format!("EHLO {me}"), 250).await?;
        self.capabilities = reply.lines.iter().skip(1).map(|line| line.to_ascii_uppercase()).collect();
        Ok(())
    }

    fn require(&self, capability: &str, advice: &str) -> Result<(), Fault> {
        let offered = self.capabilities.iter().any(|line| line.split(' ').next() == Some(capability));
        if offered { Ok(()) } else { Err(Fault::permanent(format!("{} offers no {capability}: {advice}", self.server))) }
    }

    async fn log_in(&mut self, user: &str, secret: &Secret) -> Result<(), Fault> {
        self.require("AUTH", "remove `user`, or use the port for submission")?;
        let mechanisms: Vec<&str> =
            self.capabilities.iter().filter_map(|line| line.strip_prefix("AUTH ")).flat_map(|line| line.split(' ')).collect();
        if mechanisms.contains(&"PLAIN") {
            let response = Secret::from_bytes([b"\0", user.as_bytes(), b"\0", secret.expose()].concat());
            self.transcript.us("AUTH PLAIN ***");
            self.write(format!("AUTH PLAIN {}\r\n", base64(response.expose())).as_bytes()).await?;
        } else if mechanisms.contains(&"LOGIN") {
            self.command("AUTH LOGIN", 334).await?;
            self.command(&base64(user.as_bytes()), 334).await?;
            self.transcript.us("***");
            self.write(format!("{}\r\n", base64(secret.expose())).as_bytes()).await?;
        } else {
            return Err(Fault::permanent(format!("{} offers neither AUTH PLAIN nor LOGIN, but {}", self.server, mechanisms.join(" "))));
        }
        self.expect("the login", 235).await.map(drop)
    }

    /// Sends one mail to these recipients; returns what the server said, and who was refused.
    pub(super) async fn send(&mut self, from: &str, to: &[&str], mail: &str) -> Result<(String, Vec<String>), Fault> {
        self.command(&format!("MAIL FROM:<{from}>"), 250).await?;
        let (mut refused, mut last) = (Vec::new(), None);
        for recipient in to {
            // 251: the server forwards it.
            match self.command(&format!("RCPT TO:<{recipient}>"), 25).await {
                Ok(_) => {}
                Err(fault) if self.transcript.handed_over() || fault.text.contains("ended") => return Err(fault),
                Err(fault) => {
                    refused.push(fault.text.clone());
                    last = Some(fault);
                }
            }
        }
        if let (true, Some(fault)) = (refused.len() == to.len(), last) {
            return Err(fault);
        }
        self.command("DATA", 354).await?;
        self.transcript.us(format!("(the mail, {} bytes)", mail.len()));
        let stuffed = mail.split_inclusive("\r\n").map(|line| if line.starts_with('.') { format!(".{line}") } else { line.to_owned() });
        self.write(stuffed.collect::<String>().as_bytes()).await?;
        self.transcript.hand_over();
        let reply = self.command(".", 250).await?;
        Ok((reply.text, refused))
    }

    /// Says goodbye; whether the server hears it changes nothing.
    pub(super) async fn quit(&mut self) {
        let _ = self.command("QUIT", 221).await;
    }

    async fn command(&mut self, command: &str, wanted: u16) -> Result<Reply, Fault> {
        self.transcript.us(command);
        self.write(format!("{command}\r\n").as_bytes()).await?;
        let said = command.split(':').next().unwrap_or_default().to_owned();
        self.expect(if command == "." { "the mail" } else { &said }, wanted).await
    }

    /// Reads a reply; one with another code is a fault of its class. `wanted` below 100: any code that begins with it.
    async fn expect(&mut self, what: &str, wanted: u16) -> Result<Reply, Fault> {
        let reply = self.reply().await?;
        if reply.code == wanted || reply.code / 10 == wanted {
            return Ok(reply);
        }
        let text = self.transcript.clean(format!("{} refuses {what}: {} {}", self.server, reply.code, reply.text));
        Err(if reply.code >= 500 { Fault::permanent(text) } else { Fault::temporary(text) })
    }

    async fn reply(&mut self) -> Result<Reply, Fault> {
        let mut lines: Vec<String> = Vec::new();
        loop {
            let line = self.line().await?;
            self.transcript.them(&line);
            let code = line.get(..3).and_then(|code| code.parse::<u16>().ok()).filter(|code| (200..600).contains(code));
            let (Some(code), is_last) = (code, !line[3.min(line.len())..].starts_with('-')) else {
                let text = format!("{} does not speak SMTP: {}", self.server, self.transcript.clean(&line));
                return Err(Fault::broken(self.transcript, text));
            };
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if is_last {
                return Ok(Reply { code, text: lines.join(" "), lines });
            }
            if lines.len() >= LINES_MAX {
                return Err(Fault::broken(self.transcript, format!("{} answers without end", self.server)));
            }
        }
    }

    async fn line(&mut self) -> Result<String, Fault> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.read.len() > LINE_BYTES_MAX {
                return Err(Fault::broken(self.transcript, format!("{} answers without end", self.server)));
            }
            let mut buffer = [0; 1024];
            match self.stream.read(&mut buffer).await {
                Ok(0) => return Err(Fault::broken(self.transcript, format!("{} ended the conversation", self.server))),
                Ok(length) => self.read.extend(&buffer[..length]),
                Err(error) => return Err(self.lost(&error)),
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let written = match self.stream.write_all(bytes).await {
            Ok(()) => self.stream.flush().await,
            error => error,
        };
        written.map_err(|error| self.lost(&error))
    }

    fn lost(&self, error: &io::Error) -> Fault {
        if tls::is_certificate(error) {
            return tls::fault(&self.server, error);
        }
        Fault::broken(self.transcript, format!("the conversation with {} ended: {error}", self.server))
    }
}
