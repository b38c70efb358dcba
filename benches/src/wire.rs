//! A client's end of a connection: plain bytes, or bytes under TLS. The client checks nothing: what it costs is not measured.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, ClientConnection, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, HandshakeKind, SignatureScheme};

/// How a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(crate) enum Security {
    /// Without TLS.
    #[default]
    None,
    /// TLS 1.3, each connection with a full handshake.
    Full,
    /// TLS 1.3, resuming the session of an earlier connection where there is one.
    Resumed,
}

/// The settings that all connections of a generator share, with the sessions they resume.
pub(crate) type Secure = Option<Arc<ClientConfig>>;

/// Settings for `security`. X25519 alone: the older peers know no hybrid exchange, and like is to be compared with like.
pub(crate) fn secure(security: Security) -> Secure {
    if security == Security::None {
        return None;
    }
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let provider = Arc::new(provider);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&rustls::version::TLS13]);
    let builder = builder.expect("the provider has suites for TLS 1.3");
    let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(Believes(provider))).with_no_client_auth();
    config.resumption = if security == Security::Full { Resumption::disabled() } else { Resumption::in_memory_sessions(64) };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Some(Arc::new(config))
}

/// A connection.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(TcpStream, Box<ClientConnection>),
}

impl Wire {
    /// Over a socket, which may still be connecting.
    pub(crate) fn new(stream: TcpStream, secure: &Secure) -> Wire {
        let Some(config) = secure else { return Wire::Plain(stream) };
        let name = ServerName::try_from("bench.example").expect("a name");
        Wire::Tls(stream, Box::new(ClientConnection::new(Arc::clone(config), name).expect("the settings are complete")))
    }

    /// Whether the handshake, if there was one, resumed an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        matches!(self, Wire::Tls(_, tls) if tls.handshake_kind() == Some(HandshakeKind::Resumed))
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Wire::Plain(stream) | Wire::Tls(stream, _) => stream.as_fd(),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let (stream, tls) = match self {
            Wire::Plain(stream) => return stream.read(room),
            Wire::Tls(stream, tls) => (stream, tls),
        };
        loop {
            match tls.reader().read(room) {
                // nothing yet
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // An end without a word is one too; who waits for more sees that it is missing.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            tls.read_tls(stream)?;
            tls.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            flush(stream, tls)?;
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.write(bytes),
            Wire::Tls(stream, tls) => {
                // Before the handshake is done it is kept and sent after it.
                let taken = tls.writer().write(bytes)?;
                flush(stream, tls)?;
                Ok(taken)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Requests and handshakes fit a socket buffer; what does not is an error.
fn flush(stream: &mut TcpStream, tls: &mut ClientConnection) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(stream)?;
    }
    Ok(())
}

/// Takes any certificate and any signature.
#[derive(Debug)]
struct Believes(Arc<CryptoProvider>);

impl ServerCertVerifier for Believes {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
