//! The client of the REST API that most commands are.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{Method, Request, Uri, header};
use ureq::tls::{ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider, parse_pem};

use crate::api::USER_HEADER;
use crate::api::model::ProblemView;

/// Longest wait for an ordinary answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest answer that is read: the status of a hundred thousand endpoints.
const ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Why a command could not be carried out. Each text says what to do next.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The URL is none.
    #[error("`{0}` is not the URL of an API: write http://HOST:PORT or https://HOST:PORT")]
    Url(String),
    /// A file for TLS cannot be used.
    #[error("{0}")]
    Tls(String),
    /// Nobody answers.
    #[error(
        "cannot reach the API at {url}: {reason}\nIs `weir run` running, and is `[api] bind` right? Name another one with --api or WEIR_API"
    )]
    Unreachable {
        /// Where.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The token is missing or wrong.
    #[error("the API at {url} refused the token: name the right one with --token-file, WEIR_TOKEN_FILE or WEIR_TOKEN")]
    Unauthorized {
        /// Where.
        url: String,
    },
    /// The node refused, and says why.
    #[error("{}", .0.detail)]
    Refused(ProblemView),
    /// Somebody answers, but not `weir`.
    #[error("what answers at {url} is not the API of weir (status {status}): is --api right?")]
    NotOurs {
        /// Where.
        url: String,
        /// HTTP status.
        status: u16,
    },
}

impl ClientError {
    /// Whether it may work a moment later: while one process hands over to the next, nobody may answer.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, ClientError::Unreachable { .. })
    }
}

/// Whom a client believes under TLS, and what it shows.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    /// Who may have signed the node's certificate, in PEM; it may be in it itself. Absent: whom the system trusts.
    pub(crate) ca_file: Option<PathBuf>,
    /// A chain in PEM that is shown.
    pub(crate) certificate_file: Option<PathBuf>,
    /// Its key. Absent: it is in the same file.
    pub(crate) key_file: Option<PathBuf>,
}

impl Trust {
    fn read(&self) -> Result<TlsConfig, ClientError> {
        let told = |path: &Path, why: String| ClientError::Tls(format!("{}: {why}", path.display()));
        let read = |path: &Path| std::fs::read(path).map_err(|error| told(path, error.to_string()));
        let certificates = |path: &Path| {
            let all: Vec<_> = parse_pem(&read(path)?)
                .filter_map(|item| if let Ok(PemItem::Certificate(one)) = item { Some(one) } else { None })
                .collect();
            if all.is_empty() { Err(told(path, "there is no certificate in it".into())) } else { Ok(all) }
        };
        let bundle = self.ca_file.clone().or_else(|| SYSTEM_AUTHORITIES.iter().map(PathBuf::from).find(|path| path.exists()));
        let bundle = bundle.ok_or_else(|| {
            ClientError::Tls("this machine has no list of certificate authorities: install ca-certificates, or name a file".into())
        })?;
        let shown = self.certificate_file.as_ref().map(|file| {
            let key_file = self.key_file.as_ref().unwrap_or(file);
            let key = PrivateKey::from_pem(&read(key_file)?).map_err(|error| told(key_file, error.to_string()))?;
            Ok::<_, ClientError>(ClientCert::new_with_certs(&certificates(file)?, key))
        });
        Ok(TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .root_certs(RootCerts::new_with_certs(&certificates(&bundle)?))
            .client_cert(shown.transpose()?)
            .build())
    }
}

/// What a request to a URL needs to know of TLS: nothing, unless it is one of https. It is checked against `ca_file`, or whom the system trusts.
///
/// # Errors
/// In one line for people.
pub(crate) fn tls_for(url: &str, ca_file: Option<PathBuf>) -> Result<TlsConfig, String> {
    if !url.starts_with("https:") {
        return Ok(TlsConfig::default());
    }
    Trust { ca_file, ..Trust::default() }.read().map_err(|error| error.to_string())
}

/// Where systems keep the authorities that they trust: Debian and like, Red Hat and like, SUSE, Alpine.
const SYSTEM_AUTHORITIES: [&str; 4] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];

/// A client of one node.
pub(crate) struct Client {
    agent: ureq::Agent,
    /// `http://HOST:PORT` or with https, without a slash at the end.
    base: String,
    token: Option<String>,
    /// Who uses this program, for the node's events.
    user: String,
}

impl Client {
    /// A client of the API at `url`. Nothing is sent yet.
    pub(crate) fn new(url: &str, token: Option<String>, trust: &Trust) -> Result<Client, ClientError> {
        let base = base(url).ok_or_else(|| ClientError::Url(url.to_owned()))?;
        let tls = if base.starts_with("https:") { trust.read()? } else { TlsConfig::default() };
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // The API is on this machine or near; a proxy from the environment is meant for other things, and must not see the token.
            .proxy(None)
            .tls_config(tls)
            .timeout_connect(Some(Duration::from_secs(5)))
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Client { agent, base, token, user: user() })
    }

    /// Reads.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.send(Method::GET, path, None::<&()>, ANSWER_TIMEOUT)
    }

    /// Reads, when the answer may take `wait` longer.
    pub(crate) fn get_within<T: DeserializeOwned>(&self, path: &str, wait: Duration) -> Result<T, ClientError> {
        self.send(Method::GET, path, None::<&()>, ANSWER_TIMEOUT + wait)
    }

    /// Changes.
    pub(crate) fn change<T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<&impl Serialize>) -> Result<T, ClientError> {
        self.send(method, path, body, ANSWER_TIMEOUT)
    }

    /// One exchange.
    pub(crate) fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        timeout: Duration,
    ) -> Result<T, ClientError> {
        let unreachable = |error: ureq::Error| ClientError::Unreachable { url: self.base.clone(), reason: error.to_string() };
        let wants_body = method == Method::POST || method == Method::PATCH || method == Method::PUT;
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base)).header(header::ACCEPT, "application/json");
        request = request.header(USER_HEADER, &self.user);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let malformed = |_| ClientError::Url(format!("{}{path}", self.base));
        let result = if wants_body {
            let bytes = body.map(|body| serde_json::to_vec(body).expect("requests are plain values")).unwrap_or_default();
            let request = request.body(bytes).map_err(malformed)?;
            self.agent.run(self.agent.configure_request(request).timeout_global(Some(timeout)).build())
        } else {
            let request = request.body(()).map_err(malformed)?;
            self.agent.run(self.agent.configure_request(request).timeout_global(Some(timeout)).build())
        };
        let mut response = result.map_err(unreachable)?;
        let status = response.status().as_u16();
        let answer = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(unreachable)?;
        self.understand(status, &answer)
    }

    /// Reads what is not JSON.
    pub(crate) fn get_bytes(&self, path: &str) -> Result<Vec<u8>, ClientError> {
        let unreachable = |error: ureq::Error| ClientError::Unreachable { url: self.base.clone(), reason: error.to_string() };
        let mut request = Request::builder().uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(()).map_err(|_| ClientError::Url(format!("{}{path}", self.base)))?;
        let request = self.agent.configure_request(request).timeout_global(Some(ANSWER_TIMEOUT)).build();
        let mut response = self.agent.run(request).map_err(unreachable)?;
        let status = response.status().as_u16();
        let answer = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(unreachable)?;
        if (200..300).contains(&status) { Ok(answer) } else { self.understand::<serde_json::Value>(status, &answer).map(|_| answer) }
    }

    fn understand<T: DeserializeOwned>(&self, status: u16, answer: &[u8]) -> Result<T, ClientError> {
        if (200..300).contains(&status)
            && let Ok(value) = serde_json::from_slice(answer)
        {
            return Ok(value);
        }
        match serde_json::from_slice::<ProblemView>(answer) {
            Ok(problem) if problem.status == 401 => Err(ClientError::Unauthorized { url: self.base.clone() }),
            Ok(problem) => Err(ClientError::Refused(problem)),
            Err(_) => Err(ClientError::NotOurs { url: self.base.clone(), status }),
        }
    }
}

/// `USER@HOST`; behind `sudo` the one who called it.
fn user() -> String {
    let names = ["SUDO_USER", "USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
    let name = names.map(|name| plain(&name)).find(|name| !name.is_empty()).unwrap_or_else(|| "weir".into());
    format!("{name}@{}", plain(&std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default()))
}

/// What of a name may stand in a header.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_graphic).take(31).collect()
}

/// `http://HOST[:PORT]` of what the user wrote; the scheme may be left out.
fn base(url: &str) -> Option<String> {
    let url = url.trim();
    let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let uri: Uri = full.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme))?;
    let plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
    let authority = uri.authority().filter(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'))?;
    plain.then(|| format!("{scheme}://{authority}"))
}

/// The path of one endpoint.
pub(crate) fn endpoint_path(pool: &str, endpoint: &str) -> String {
    format!("/v1/pools/{}/endpoints/{}", segment(pool), segment(endpoint))
}

/// One part of a path, percent-encoded.
pub(crate) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (url, expected) in [
            ("http://127.0.0.1:7117", Some("http://127.0.0.1:7117")),
            ("http://127.0.0.1:7117/", Some("http://127.0.0.1:7117")),
            ("10.0.0.1:7117", Some("http://10.0.0.1:7117")),
            ("http://[::1]:7117", Some("http://[::1]:7117")),
            ("lb-a", Some("http://lb-a")),
            ("https://lb-a", Some("https://lb-a")),
            ("ftp://lb-a", None),
            ("http://user:secret@lb-a", None),
            ("http://lb-a/v1", None),
            ("http://", None),
            ("", None),
            ("not a url", None),
        ] {
            assert_eq!(base(url).as_deref(), expected, "{url:?}");
        }
    }

    #[test]
    fn paths() {
        assert_eq!(endpoint_path("web", "10.0.0.1:80"), "/v1/pools/web/endpoints/10.0.0.1:80");
        assert_eq!(endpoint_path("a/b?", "[::1]:80"), "/v1/pools/a%2Fb%3F/endpoints/%5B::1%5D:80");
    }

    #[test]
    fn answers() {
        let client = Client::new("127.0.0.1:1", None, &Trust::default()).expect("a URL");
        let check = |status, answer: &str| client.understand::<u32>(status, answer.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(check(200, "7"), Ok(7));
        let problem = |status: u16| format!(r#"{{"type":"about:blank","title":"t","status":{status},"detail":"no pool `x`"}}"#);
        assert_eq!(check(404, &problem(404)), Err("no pool `x`".into()));
        assert!(check(401, &problem(401)).is_err_and(|text| text.contains("--token-file")));
        assert!(check(200, "<html>").is_err_and(|text| text.contains("not the API of weir")));
        assert!(check(302, "").is_err_and(|text| text.contains("302")));
    }

    #[test]
    fn nobody_answers() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let client = Client::new(&free.to_string(), None, &Trust::default()).expect("a URL");
        let error = client.get::<u32>("/v1/status").expect_err("nobody is there");
        assert!(error.is_unreachable() && error.to_string().contains("is `[api] bind` right"), "{error}");
    }
}
