//! The API under TLS (`[api.tls]`), and clients that show who they are.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use weir_config::ApiTls;

/// How the API is served under TLS. Two are the same when their files said the same.
#[derive(Clone)]
pub(crate) struct Tls {
    digest: [u8; 32],
    pub(super) config: Arc<ServerConfig>,
}

impl PartialEq for Tls {
    fn eq(&self, other: &Tls) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(..)")
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be used; the text names it.
    pub(crate) fn read(settings: &ApiTls) -> io::Result<Tls> {
        let ApiTls { certificate_file, key_file, client_ca_file } = settings;
        let wrong = |path: &Path, why: String| io::Error::new(io::ErrorKind::InvalidData, format!("[api.tls] {}: {why}", path.display()));
        let mut digest = Sha256::new();
        let mut read = |path: &Path| {
            let bytes =
                std::fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("[api.tls] {}: {error}", path.display())))?;
            digest.update(bytes.len().to_be_bytes());
            digest.update(&bytes);
            io::Result::Ok(bytes)
        };
        let chain = certificates(certificate_file, &read(certificate_file)?)?;
        let key = PrivateKeyDer::from_pem_slice(&read(key_file)?).map_err(|_| wrong(key_file, "there is no private key in it".into()))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.map_err(io::Error::other)?;
        let builder = match client_ca_file {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path, &read(path)?)? {
                    roots.add(certificate).map_err(|error| wrong(path, format!("not an authority's certificate: {error}")))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| wrong(path, error.to_string()))?)
            }
        };
        let config = builder.with_single_cert(chain, key).map_err(|error| wrong(certificate_file, error.to_string()))?;
        Ok(Tls { digest: digest.finalize().into(), config: Arc::new(config) })
    }
}

fn certificates(path: &Path, bytes: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(bytes).filter_map(Result::ok).collect();
    if all.is_empty() {
        let why = format!("[api.tls] {}: there is no certificate in it", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(all)
}
