//! One request to an authority, over a connection of its own: orders are few. Redirects are not followed.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Of an answer's body; chains are some kilobytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// From the name's resolution to the end of the answer.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// Where distributions keep their authorities, by how common they are.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Speaks to an authority.
pub(crate) struct Client {
    tls: Arc<ClientConfig>,
}

impl Client {
    /// `ca_file`: who may have signed the authority's own certificate; absent: whom the system trusts.
    ///
    /// # Errors
    /// The file cannot be used; in words, with what to do.
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Client, String> {
        let bundle = ca_file.map(Path::to_path_buf).or_else(|| BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()));
        let bundle = bundle.ok_or("this machine has no list of certificate authorities: install ca-certificates, or set ca_file")?;
        let certificates = CertificateDer::pem_file_iter(&bundle).map_err(|error| format!("{}: {error}", bundle.display()))?;
        let mut roots = RootCertStore::empty();
        if roots.add_parsable_certificates(certificates.flatten()).0 == 0 {
            return Err(format!("{} holds no usable certificate", bundle.display()));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = builder.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
        Ok(Client { tls: Arc::new(tls) })
    }
}

impl HttpClient for Client {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let tls = Arc::clone(&self.tls);
        Box::pin(async move {
            let server = request.uri().authority().map(ToString::to_string).unwrap_or_default();
            let end = timeout(REQUEST_MAX, ask(tls, request)).await;
            let told = |why: String| Error::Other(format!("{server}: {why}").into());
            match end {
                Ok(answer) => answer.map_err(told),
                Err(_) => Err(told(format!("no answer within {} s", REQUEST_MAX.as_secs()))),
            }
        })
    }
}

async fn ask(tls: Arc<ClientConfig>, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, String> {
    let (mut head, body) = request.into_parts();
    let authority = head.uri.authority().cloned().ok_or("the authority names a place without a host")?;
    if head.uri.scheme_str() != Some("https") {
        return Err("the authority names a place that is not https".into());
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    head.headers.insert("host", authority.as_str().parse().map_err(|_| "its name cannot be sent")?);
    head.uri = path.parse().map_err(|_| "the authority names a place that is none")?;

    let tcp = TcpStream::connect((host.as_str(), authority.port_u16().unwrap_or(443))).await;
    let tcp = tcp.map_err(|error| format!("cannot connect: {error}"))?;
    let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(tls).connect(name, tcp).await.map_err(|error| {
        let help = if error.get_ref().is_some_and(|inner| matches!(inner.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))) {
            "; if it is yours, name its authority in `ca_file`"
        } else {
            ""
        };
        format!("no TLS: {error}{help}")
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| format!("no HTTP: {error}"))?;
    // It ends with the answer, whose end is all that is told.
    tokio::spawn(connection);
    let Ok(body) = body.collect().await;
    let body = body.to_bytes();
    let response = sender.send_request(Request::from_parts(head, Full::new(body))).await.map_err(|error| format!("no answer: {error}"))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| format!("its answer is cut or too long: {error}"))?;
    Ok(BytesResponse { parts: head, body: Box::new(body.to_bytes()) })
}
