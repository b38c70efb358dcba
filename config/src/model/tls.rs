//! `[listener.NAME.tls]` and `[pool.NAME.tls]`

use std::num::NonZeroU32;
use std::path::PathBuf;

use super::AcmeCertificate;

/// `[listener.NAME.tls]`: how a listener ends TLS. Files are named here; whoever serves reads them, and again when they change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerTls {
    /// Whether HTTP/2 is offered: the listener's `http2`.
    pub http2: bool,
    /// `[[listener.NAME.tls.certificate]]`, empty only where `folder` or `acme` is there. The first is the default one.
    pub certificates: Vec<CertificateFiles>,
    /// `folder`: every `NAME.pem` in it is a certificate as well, with its key inside or in `NAME.key`, and `NAME.ocsp` where there is one.
    pub folder: Option<PathBuf>,
    /// `[[listener.NAME.tls.acme]]`: those that are ordered. Each is in use as soon as its file is there.
    pub acme: Vec<AcmeCertificate>,
    /// `unknown_name`: what a client gets that names no host, or one that no certificate is for. Default: the default certificate.
    pub unknown_name: UnknownName,
    /// `version_min`: the oldest version spoken. Default 1.2.
    pub version_min: TlsVersion,
    /// `tickets`: sessions can be resumed. Default true.
    pub tickets: bool,
    /// `handshakes_max`: handshakes under way per worker, from the client's first byte; more are cut. Default 4096.
    pub handshakes_max: NonZeroU32,
    /// `client_certificates` and its files; `None` (written none): clients are not asked.
    pub clients: Option<ClientCertificates>,
}

/// `[pool.NAME.tls]`: how the endpoints of a pool are spoken to under TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointTls {
    /// `verify`: their certificates are looked at. Default true; false believes whoever answers.
    pub verify: bool,
    /// `ca_file`: who may have signed them, in PEM; a certificate of an endpoint itself may be in it too. Default: whom the system trusts.
    pub ca_file: Option<PathBuf>,
    /// `server_name`: the name asked for, and the one that the certificate must be for. Default: the endpoint's host.
    pub server_name: Option<String>,
    /// `certificate_file` and `key_file`: what we show to endpoints that ask for it. Default: nothing.
    pub certificate: Option<CertificateFiles>,
    /// `version_min`: the oldest version spoken. Default 1.2.
    pub version_min: TlsVersion,
}

/// A chain with its key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CertificateFiles {
    /// `file`: the chain in PEM, the certificate of the host first.
    pub file: PathBuf,
    /// `key`: the key in PEM. Default: in `file`.
    pub key: PathBuf,
    /// `ocsp`: a response in DER to staple (RFC 6066 section 8).
    pub ocsp: Option<PathBuf>,
}

/// What a client gets whose name no certificate is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnknownName {
    /// The default certificate.
    Default,
    /// An alert, and no connection.
    Refuse,
}

/// A version of TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsVersion {
    /// RFC 5246, with forward secret suites alone.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Certificates that clients show.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientCertificates {
    /// `client_certificates = "required"`: without one there is no connection. Else one is checked when it is shown.
    pub required: bool,
    /// `client_ca_file`: who may have signed them, in PEM.
    pub ca_file: PathBuf,
    /// `client_crl_file`: revocation lists in PEM; a certificate whose issuer has no list here is not refused for that.
    pub crl_file: Option<PathBuf>,
}

impl UnknownName {
    /// `default` or `refuse`.
    pub fn word(self) -> &'static str {
        match self {
            UnknownName::Default => "default",
            UnknownName::Refuse => "refuse",
        }
    }
}

impl TlsVersion {
    /// `1.2` or `1.3`.
    pub fn word(self) -> &'static str {
        match self {
            TlsVersion::Tls12 => "1.2",
            TlsVersion::Tls13 => "1.3",
        }
    }
}
