//! One request over HTTP and its answer, as it is told to the operator. What channels over HTTP have in common.
//!
//! Each request has a connection of its own: messages are few, and whether one may have arrived is then known for sure. Redirects are not
//! followed, for they would carry the message, and what it is signed and logged in with, to somebody whom the file does not name.

mod answer;

use std::path::Path;
use std::pin::pin;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use weir_config::{HttpAddress, HttpLogin, HttpUrl};

use super::{Fault, base64};
use crate::secret::Secret;
use crate::tls;
use crate::transcript::Transcript;
pub(super) use answer::Answer;

/// Of an answer's body; what channels read of it is far smaller.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Of an answer's head.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Lines of a body that are shown.
const LINES_SHOWN: usize = 40;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A server, and how to log in there. Its secrets are read and hidden.
pub(super) struct Server {
    url: HttpUrl,
    tls: Option<std::sync::Arc<rustls::ClientConfig>>,
    login: Option<(HeaderName, HeaderValue)>,
}

/// What is asked.
#[derive(Debug, Default)]
pub(super) struct Ask {
    /// How.
    pub(super) method: Method,
    /// Behind the server's own path; empty: that path itself.
    pub(super) path: String,
    /// More header fields.
    pub(super) headers: Vec<(&'static str, String)>,
    /// The media type of the body.
    pub(super) media_type: &'static str,
    /// What is sent.
    pub(super) body: String,
    /// Whether the message itself is in it: a lost answer then leaves open whether it arrived.
    pub(super) hands_over: bool,
}

impl Server {
    /// Reads what is needed to speak to it, and hides its secrets. Nothing is opened yet.
    pub(super) fn new(
        address: &HttpAddress,
        login: &HttpLogin,
        ca_file: Option<&Path>,
        transcript: &mut Transcript,
    ) -> Result<Server, Fault> {
        let read = |source, transcript: &mut Transcript| {
            let secret = Secret::read(source).map_err(|error| Fault::permanent(error.to_string()))?;
            transcript.hide(&secret);
            Ok::<_, Fault>(secret)
        };
        let url = match address {
            HttpAddress::Url(url) => url.clone(),
            HttpAddress::Secret(source) => {
                let secret = read(source, transcript)?;
                let wrong = |error: &str| Fault::permanent(format!("cannot use the secret in {source}: {error}"));
                let text = secret.expose_text().map_err(|error| wrong(&error.to_string()))?;
                let url = HttpUrl::parse(text).map_err(|error| wrong(&error))?;
                transcript.hide(&Secret::from_bytes(url.path.clone().into_bytes()));
                url
            }
        };
        let login = match login {
            HttpLogin::None => None,
            HttpLogin::Password(user, source) => {
                let password = read(source, transcript)?;
                let both = Secret::from_bytes([user.as_bytes(), b":", password.expose()].concat());
                Some((hyper::header::AUTHORIZATION, format!("Basic {}", base64(both.expose())).into_bytes()))
            }
            HttpLogin::Token(None, source) => {
                let token = read(source, transcript)?;
                Some((hyper::header::AUTHORIZATION, [b"Bearer ", token.expose()].concat()))
            }
            HttpLogin::Token(Some(name), source) => {
                let name = HeaderName::try_from(name.as_str()).map_err(|_| Fault::permanent(format!("{name:?} is not a header field")))?;
                Some((name, read(source, transcript)?.expose().to_vec()))
            }
        };
        let login = login.map(|(name, bytes)| {
            let mut value = HeaderValue::from_bytes(&bytes).map_err(|_| Fault::permanent("what to log in with has control characters"))?;
            value.set_sensitive(true);
            Ok::<_, Fault>((name, value))
        });
        let tls = if url.tls { Some(tls::client_config(ca_file).map_err(Fault::permanent)?) } else { None };
        Ok(Server { url, tls, login: login.transpose()? })
    }

    /// How it is called in errors.
    pub(super) fn name(&self) -> String {
        self.url.authority()
    }

    /// Asks once. Any status is an answer.
    pub(super) async fn ask(&self, ask: Ask, transcript: &mut Transcript) -> Result<Answer, Fault> {
        let name = self.name();
        let path = self.path(&ask.path);
        let mut request = Request::builder().method(&ask.method).uri(&path).header("host", &name).header("connection", "close");
        request = request.header("user-agent", concat!("weir/", env!("CARGO_PKG_VERSION"))).header("accept", "application/json, */*");
        if !ask.body.is_empty() {
            request = request.header("content-type", ask.media_type);
        }
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if let Some((name, value)) = &self.login {
            request = request.header(name, value);
        }
        let wrong = |error: hyper::http::Error| Fault::permanent(format!("this cannot be asked over HTTP: {error}"));
        let request = request.body(Full::new(Bytes::from(ask.body.clone()))).map_err(wrong)?;

        let stream = self.connect(&name, transcript).await?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(|error| Fault::temporary(format!("no HTTP with {name}: {error}")))?;
        show_request(&request, &ask.body, transcript);
        if ask.hands_over {
            transcript.hand_over();
        }
        let exchange = async {
            let response = sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            Ok::<_, hyper::Error>((head, Limited::new(body, ANSWER_BYTES_MAX).collect().await))
        };
        let (mut exchange, mut connection) = (pin!(exchange), pin!(connection));
        let mut is_open = true;
        let exchanged = loop {
            tokio::select! {
                exchanged = &mut exchange => break exchanged,
                // How it ends is told by the exchange.
                _ = &mut connection, if is_open => is_open = false,
            }
        };
        let lost = |text: String, transcript: &Transcript| Fault::broken(transcript, transcript.clean(text));
        let (head, body) = exchanged.map_err(|error| lost(format!("the conversation with {name} ended: {}", chain(&error)), transcript))?;
        let body = body.map_err(|error| lost(format!("the answer of {name} is too long or cut short: {error}"), transcript))?.to_bytes();
        answer::show(&head, &body, transcript);
        Ok(Answer::new(&head, &body))
    }

    fn path(&self, more: &str) -> String {
        match more {
            "" => self.url.path.clone(),
            more if more.starts_with('?') => {
                format!("{}{}{}", self.url.path, if self.url.path.contains('?') { "&" } else { "?" }, &more[1..])
            }
            more => format!("{}{more}", self.url.path.trim_end_matches('/')),
        }
    }

    async fn connect(&self, name: &str, transcript: &mut Transcript) -> Result<Box<dyn Stream>, Fault> {
        let HttpUrl { host, port, .. } = &self.url;
        transcript.note(format!("connecting to {host}:{port}"));
        let stream = TcpStream::connect((host.as_str(), *port)).await;
        let stream = stream.map_err(|error| Fault::temporary(format!("cannot connect to {host}:{port}: {error}")))?;
        let Some(config) = &self.tls else { return Ok(Box::new(stream)) };
        let server = ServerName::try_from(host.clone()).map_err(|_| Fault::permanent(format!("{host:?} is no name for a certificate")))?;
        let handshake = TlsConnector::from(config.clone()).connect(server, stream).await;
        let stream = handshake.map_err(|error| tls::fault(name, &error))?;
        let version = stream.get_ref().1.protocol_version().map_or("?".to_owned(), |version| format!("{version:?}"));
        transcript.note(format!("{version} with {name}"));
        Ok(Box::new(stream))
    }
}

/// An error of hyper says where, its cause says what.
fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or(error.to_string(), |cause| format!("{error}: {cause}"))
}

fn show_request(request: &Request<Full<Bytes>>, body: &str, transcript: &mut Transcript) {
    transcript.us(format!("{} {} HTTP/1.1", request.method(), request.uri()));
    for (name, value) in request.headers() {
        match value.is_sensitive() {
            true => transcript.us(format!("{name}: ***")),
            false => transcript.us([name.as_str().as_bytes(), b": ", value.as_bytes()].concat()),
        }
    }
    if !body.is_empty() {
        transcript.us("");
    }
    body.lines().take(LINES_SHOWN).for_each(|line| transcript.us(line));
}
