//! TLS towards endpoints: whom we believe, what we show, and words for what went wrong.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use weir_config::{CertificateFiles, EndpointAddress, EndpointTls, Host, TlsVersion};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::load::{self, LoadProblem, Stamps};

/// Where systems keep the authorities that they trust: Debian and like, Red Hat and like, SUSE, Alpine.
const SYSTEM_AUTHORITIES: [&str; 4] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];
/// As it is agreed on (RFC 9113 section 3.2).
const HTTP2: &[u8] = b"h2";
/// Endpoints of a pool whose sessions are remembered; a pool that has more begins anew now and then.
const REMEMBERED_MAX: usize = 4096;
/// Names whose sessions are remembered for one endpoint: it is asked for one.
const NAMES_MAX: usize = 2;

/// How the endpoints of a pool are spoken to.
#[derive(Debug)]
pub struct Connector {
    settings: EndpointTls,
    now: ArcSwap<Current>,
}

/// What the files say now. Sessions belong to it: one that was agreed on under other authorities is not resumed under these.
#[derive(Debug)]
struct Current {
    config: Arc<ClientConfig>,
    /// For each endpoint a memory of its own: a ticket of another one would be offered in vain.
    endpoints: Mutex<HashMap<SocketAddr, Arc<ClientConfig>>>,
}

impl Current {
    fn new(config: Arc<ClientConfig>) -> Arc<Current> {
        Arc::new(Current { config, endpoints: Mutex::default() })
    }
}

impl Connector {
    pub(super) fn new(settings: EndpointTls, config: Arc<ClientConfig>) -> Connector {
        Connector { settings, now: ArcSwap::new(Current::new(config)) }
    }

    pub(super) fn renew(&self, config: Arc<ClientConfig>) {
        self.now.store(Current::new(config));
    }

    /// For a connection that carries traffic: it may resume a session of this endpoint.
    pub(crate) fn config(&self, address: SocketAddr) -> Arc<ClientConfig> {
        let now = self.now.load();
        let mut endpoints = now.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if endpoints.len() >= REMEMBERED_MAX && !endpoints.contains_key(&address) {
            endpoints.clear();
        }
        let remembering = || {
            let mut config = ClientConfig::clone(&now.config);
            config.resumption = Resumption::in_memory_sessions(NAMES_MAX);
            Arc::new(config)
        };
        Arc::clone(endpoints.entry(address).or_insert_with(remembering))
    }

    /// For a probe: each looks at the certificate again. `http2`: that is to be agreed on, whatever traffic speaks.
    pub(crate) fn probe_config(&self, http2: bool) -> Arc<ClientConfig> {
        let now = self.now.load();
        if !http2 || !now.config.alpn_protocols.is_empty() {
            return Arc::clone(&now.config);
        }
        let mut config = ClientConfig::clone(&now.config);
        config.alpn_protocols = vec![HTTP2.to_vec()];
        Arc::new(config)
    }

    /// The name that this endpoint's certificate must be for. `None`: the endpoint has none that could be in a certificate.
    pub(crate) fn server_name(&self, endpoint: &EndpointAddress) -> Option<ServerName<'static>> {
        server_name(self.settings.server_name.as_deref(), endpoint)
    }

    /// Why there is no connection, and what to do about it. `pool` is for the place in the file.
    pub(crate) fn explain(&self, error: &rustls::Error, pool: &str) -> String {
        explain(error, &self.settings, pool)
    }
}

/// The name asked for: this one, else the endpoint's host.
pub(crate) fn server_name(wanted: Option<&str>, endpoint: &EndpointAddress) -> Option<ServerName<'static>> {
    match (wanted, &endpoint.host) {
        (Some(name), _) => ServerName::try_from(name.to_owned()).ok(),
        (None, Host::Name(name)) => ServerName::try_from(name.to_string()).ok(),
        (None, Host::Ip(ip)) => Some(ServerName::from(*ip)),
    }
}

/// What the files of a pool say.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) config: Arc<ClientConfig>,
    pub(super) stamps: Stamps,
    /// When the certificate that is shown is over, in seconds since 1970.
    pub(super) not_after_s: Option<i64>,
}

/// Reads the files and makes what they say ready for use. `http2`: that is to be agreed on.
pub(super) fn build(tls: &EndpointTls, http2: bool, provider: &Arc<CryptoProvider>) -> Result<Built, Vec<LoadProblem>> {
    // Before they are read: what changes meanwhile is noticed the next time.
    let stamps = stamps(tls);
    let mut problems = Vec::new();
    let verifier = verifier(tls, provider).map_err(|problem| problems.push(problem)).ok();
    let shown = tls.certificate.as_ref().map(|files| load::load(files, provider));
    let shown = shown.transpose().map_err(|problem| problems.push(problem)).unwrap_or_default();
    let Some(verifier) = verifier.filter(|_| problems.is_empty()) else { return Err(problems) };
    let versions: &[&rustls::SupportedProtocolVersion] = match tls.version_min {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(versions);
    let builder = builder.expect("the provider has suites for both versions").dangerous().with_custom_certificate_verifier(verifier);
    let not_after_s = shown.as_ref().map(|loaded| loaded.not_after_s);
    let mut config = match shown {
        Some(loaded) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(loaded.key))),
        None => builder.with_no_client_auth(),
    };
    if http2 {
        config.alpn_protocols = vec![HTTP2.to_vec()];
    }
    config.resumption = Resumption::disabled();
    Ok(Built { config: Arc::new(config), stamps, not_after_s })
}

/// The state of every file that is wanted.
pub(super) fn stamps(tls: &EndpointTls) -> Stamps {
    let EndpointTls { verify, ca_file, certificate, .. } = tls;
    let authorities = verify.then(|| authorities(ca_file.as_deref())).into_iter().flatten();
    let shown = certificate.iter().flat_map(|CertificateFiles { file, key, .. }| [file.clone(), key.clone()]);
    load::stamps_of(authorities.chain(shown))
}

fn authorities(ca_file: Option<&Path>) -> Option<PathBuf> {
    let system = || SYSTEM_AUTHORITIES.iter().map(PathBuf::from).find(|path| path.exists());
    ca_file.map(Path::to_owned).or_else(system)
}

fn verifier(tls: &EndpointTls, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, LoadProblem> {
    if !tls.verify {
        return Ok(Arc::new(AnyCertificate(Arc::clone(provider))));
    }
    let Some(path) = authorities(tls.ca_file.as_deref()) else {
        let reason = "the system has no list of trusted authorities: install ca-certificates, or name a `ca_file`";
        return Err(LoadProblem { path: SYSTEM_AUTHORITIES[0].into(), reason: reason.into() });
    };
    let problem = |reason: String| LoadProblem { path: path.clone(), reason };
    let all = load::certificates(&path)?;
    let mut roots = RootCertStore::empty();
    if tls.ca_file.is_none() {
        // Among many there may be one that cannot be used, which is not for us to mend.
        roots.add_parsable_certificates(all.iter().cloned());
    } else {
        for certificate in &all {
            roots.add(certificate.clone()).map_err(|error| problem(format!("not a certificate that can be trusted: {error}")))?;
        }
    }
    if roots.is_empty() {
        return Err(problem("there is no certificate in it".into()));
    }
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    let chains = chains.map_err(|error| problem(error.to_string()))?;
    let own = if tls.ca_file.is_some() { all } else { Vec::new() };
    Ok(Arc::new(Trusted { chains, own }))
}

/// Accepts what a trusted authority signed, and what is itself in the file: endpoints with certificates that nobody signed are common
/// behind a balancer, and this is the way to believe one of them and no other.
#[derive(Debug)]
struct Trusted {
    chains: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.own.iter().any(|own| own.as_ref() == end_entity.as_ref()) {
            return self.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        let (_, certificate) = X509Certificate::from_der(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        let (validity, now_s) = (certificate.validity(), now.as_secs() as i64);
        match (now_s < validity.not_before.timestamp(), now_s > validity.not_after.timestamp()) {
            (true, _) => Err(CertificateError::NotValidYet.into()),
            (_, true) => Err(CertificateError::Expired.into()),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Accepts any certificate, but not a handshake signature that does not belong to it.
#[derive(Debug)]
pub(crate) struct AnyCertificate(pub(crate) Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn explain(error: &rustls::Error, tls: &EndpointTls, pool: &str) -> String {
    use rustls::AlertDescription as Alert;
    let place = format!("[pool.{pool}.tls]");
    match error {
        rustls::Error::InvalidCertificate(error) => explain_certificate(error, tls, &place),
        rustls::Error::InvalidMessage(_) => format!("it does not speak TLS: correct its port, or remove {place}"),
        rustls::Error::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnknownCA
            | Alert::CertificateUnknown
            | Alert::CertificateExpired
            | Alert::AccessDenied,
        ) if tls.certificate.is_some() => format!("it does not accept our certificate ({error}): see `certificate_file` under {place}"),
        rustls::Error::AlertReceived(Alert::CertificateRequired) => {
            format!("it wants to see a certificate of ours: name one as `certificate_file` under {place}")
        }
        rustls::Error::AlertReceived(Alert::UnrecognisedName) => {
            format!("it does not know the name that it was asked for: set `server_name` under {place}")
        }
        rustls::Error::AlertReceived(Alert::HandshakeFailure | Alert::ProtocolVersion) | rustls::Error::PeerIncompatible(_) => {
            format!("it speaks no version of TLS or no cipher that we do ({error})")
        }
        other => other.to_string(),
    }
}

fn explain_certificate(error: &CertificateError, tls: &EndpointTls, place: &str) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired: renew it there".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: look at the clocks of both machines".into()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => match &tls.ca_file {
            Some(file) => format!("its certificate is signed by nobody in {}: add its authority there", file.display()),
            None => format!("its certificate is signed by nobody whom the system trusts: name its authority as `ca_file` under {place}"),
        },
        CertificateError::NotValidForNameContext { expected, presented } => {
            // As rustls names them: `DnsName("a.test")`, `IpAddress(10.0.0.1)`.
            let plain = |name: &String| name.split_once('(').map_or(&**name, |(_, rest)| rest.trim_matches(['"', ')'])).to_owned();
            let names: Vec<String> = presented.iter().map(plain).collect();
            let names = if names.is_empty() { "no host".into() } else { names.join(", ") };
            format!("its certificate is for {names}, not for {}: set `server_name` under {place}", expected.to_str())
        }
        CertificateError::NotValidForName => format!("its certificate is for another name: set `server_name` under {place}"),
        CertificateError::Revoked => "its certificate was revoked: have another one made".into(),
        other => format!("its certificate cannot be used: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: &str = "[pool.web.tls]";

    fn settings(ca_file: Option<&Path>) -> EndpointTls {
        EndpointTls {
            verify: true,
            ca_file: ca_file.map(Path::to_owned),
            server_name: None,
            certificate: None,
            version_min: TlsVersion::Tls12,
        }
    }

    fn now() -> UnixTime {
        UnixTime::now()
    }

    #[test]
    fn a_certificate_in_the_file_is_believed_for_its_name_and_its_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ca.pem");
        let ours = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate");
        let theirs = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate");
        std::fs::write(&file, ours.cert.pem()).expect("written");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = verifier(&settings(Some(&file)), &provider).expect("it is right");
        let asked = |certificate: &CertificateDer<'_>, name: &str, at: UnixTime| {
            let name = ServerName::try_from(name.to_owned()).expect("a name");
            verifier.verify_server_cert(certificate, &[], &name, &[], at).map(drop)
        };
        assert_eq!(asked(ours.cert.der(), "a.test", now()), Ok(()));
        let words = |result: Result<(), rustls::Error>| explain(&result.expect_err("refused"), &settings(Some(&file)), "web");
        assert_eq!(
            words(asked(ours.cert.der(), "b.test", now())),
            format!("its certificate is for a.test, not for b.test: set `server_name` under {PLACE}")
        );
        let late = UnixTime::since_unix_epoch(std::time::Duration::from_secs(100_000_000_000));
        assert_eq!(words(asked(ours.cert.der(), "a.test", late)), "its certificate has expired: renew it there");
        let early = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1));
        assert!(words(asked(ours.cert.der(), "a.test", early)).contains("not valid yet"));
        assert_eq!(
            words(asked(theirs.cert.der(), "a.test", now())),
            format!("its certificate is signed by nobody in {}: add its authority there", file.display())
        );
    }

    #[test]
    fn every_wrong_file_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("ca.pem"), "").expect("written");
        let mut tls = settings(Some(&path("ca.pem")));
        tls.certificate = Some(CertificateFiles { file: path("none.pem"), key: path("none.pem"), ocsp: None });
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let problems = build(&tls, false, &provider).map(drop).expect_err("both are wrong");
        let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 2, "{text:?}");
        assert!(text[0].ends_with("ca.pem: there is no certificate in it") && text[1].contains("none.pem: cannot read it"), "{text:?}");
        tls.verify = false;
        tls.certificate = None;
        assert!(build(&tls, false, &provider).is_ok(), "nobody is asked who signed it");
    }

    #[test]
    fn sessions_are_remembered_for_each_endpoint_and_forgotten_with_the_files() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = settings(None);
        tls.verify = false;
        let Built { config, .. } = build(&tls, false, &provider).expect("no file is needed");
        let connector = Connector::new(tls, Arc::clone(&config));
        let of = |port: u16| connector.config(SocketAddr::from(([127, 0, 0, 1], port)));
        let first = of(1);
        assert!(Arc::ptr_eq(&first, &of(1)) && !Arc::ptr_eq(&first, &of(2)));
        connector.renew(config);
        assert!(!Arc::ptr_eq(&first, &of(1)));
        for port in 0..u16::MAX {
            of(port);
        }
        assert!(connector.now.load().endpoints.lock().expect("not poisoned").len() <= REMEMBERED_MAX);
    }
}
