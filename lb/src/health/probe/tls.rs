//! A handshake, by the pool's settings or without looking at the certificate.

use std::io;
use std::sync::{Arc, LazyLock};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Failure, LINGER, Phase, Progress, Subject, connect};
use crate::tls::client::{AnyCertificate, server_name};

/// What the HTTP or gRPC of a probe runs over.
pub(super) async fn connect_as_traffic(subject: Subject<'_>, http2: bool, progress: &Progress) -> Result<TlsStream<TcpStream>, Failure> {
    let Some(connector) = subject.tls else { return Err(Failure::Local("the pool's TLS is not there yet".into())) };
    let stream = shake(subject, connector.probe_config(http2), connector.server_name(subject.endpoint), progress).await?;
    if http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Failure::endpoint("it does not agree on HTTP/2 under TLS");
    }
    Ok(stream)
}

/// A handshake that is completed is all this probe asks for. Where the pool has TLS the certificate is looked at, as traffic does it. Where
/// it has none, whom the certificate names, who signed it and whether it has expired is not the point: traffic is passed to the endpoint
/// without looking at it, and an expired certificate must not take a pool down.
pub(super) async fn tls(name: Option<&str>, subject: Subject<'_>, progress: &Progress) -> Result<(), Failure> {
    let of_probe = name.and_then(|name| ServerName::try_from(name.to_owned()).ok());
    let (config, name) = match subject.tls {
        Some(connector) => (connector.probe_config(subject.http2), of_probe.or_else(|| connector.server_name(subject.endpoint))),
        None => (Arc::clone(&BLIND), of_probe.or_else(|| server_name(None, subject.endpoint))),
    };
    let mut stream = shake(subject, config, name, progress).await?;
    progress.enter(Phase::Closing);
    let _ = timeout(LINGER, stream.shutdown()).await;
    Ok(())
}

async fn shake(
    subject: Subject<'_>,
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
    progress: &Progress,
) -> Result<TlsStream<TcpStream>, Failure> {
    let Some(name) = name else { return Failure::endpoint("the server name is not valid") };
    let stream = connect(subject).await?;
    progress.enter(Phase::Handshaking);
    TlsConnector::from(config).connect(name, stream).await.map_err(|error| failure(subject, &error))
}

fn failure(subject: Subject<'_>, error: &io::Error) -> Failure {
    match (error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()), subject.tls) {
        (Some(reason), Some(connector)) => Failure::Endpoint(connector.explain(reason, subject.pool)),
        _ => Failure::io("TLS handshake", error),
    }
}

static BLIND: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Arc::new(config)
});
