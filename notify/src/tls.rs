//! How channels trust servers: by the authorities of the operating system, or by those of one file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::channel::Fault;

/// Where distributions keep their authorities, by how common they are.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Settings for connections to servers. `ca_file`: trust the authorities of this file, and no others.
///
/// # Errors
///
/// The file cannot be read, or holds no certificate; in words, with the file's name.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let bundle = ca_file.map(Path::to_path_buf).or_else(|| BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()));
    let Some(bundle) = bundle else {
        return Err("this machine has no list of certificate authorities; install ca-certificates or set ca_file".into());
    };
    let certificates = CertificateDer::pem_file_iter(&bundle).map_err(|error| format!("{}: {error}", bundle.display()))?;
    let (added, _) = roots.add_parsable_certificates(certificates.flatten());
    if added == 0 {
        return Err(format!("{} holds no usable certificate", bundle.display()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// Whether it is the other end's certificate that is not good.
pub(crate) fn is_certificate(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

/// Why there is no TLS. A certificate that is not good will not be better in five seconds.
pub(crate) fn fault(server: &str, error: &io::Error) -> Fault {
    if is_certificate(error) {
        return Fault::permanent(format!(
            "the certificate of {server} is not to be trusted ({error}); if it is yours, name its authority in `ca_file`"
        ));
    }
    Fault::temporary(format!("no TLS with {server}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "nothing here").unwrap();
        assert!(client_config(Some(&path)).unwrap_err().ends_with("ca.pem holds no usable certificate"));
        assert!(client_config(Some(Path::new("/no/such/file"))).unwrap_err().starts_with("/no/such/file: "));
    }
}
