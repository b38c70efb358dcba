//! The handshake with an endpoint.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;

use crate::shell::timer::Timers;
use crate::shell::upstream::{self, Destination};

use super::TlsStream;

/// Why there is no connection.
#[derive(Debug)]
pub(in crate::shell) enum Unreached {
    /// Nobody accepted it.
    Connect(io::Error),
    /// It broke.
    Io(io::Error),
    /// The session says so.
    Tls(rustls::Error),
    /// The endpoint closed in the middle of the handshake.
    Closed,
    /// The endpoint has no name that a certificate could be for.
    Nameless,
}

impl From<io::Error> for Unreached {
    fn from(error: io::Error) -> Unreached {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Unreached::Closed;
        }
        match error.downcast::<rustls::Error>() {
            Ok(error) => Unreached::Tls(error),
            Err(error) => Unreached::Io(error),
        }
    }
}

/// Agrees on a session. What is sent first is sent under it.
pub(in crate::shell) async fn connect(
    to: Destination<'_>,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    timers: &Timers,
) -> Result<TlsStream<UnbufferedClientConnection>, Unreached> {
    let tcp = upstream::open(to.address, to.preamble).await.map_err(Unreached::Connect)?;
    let session = UnbufferedClientConnection::new(config, name).map_err(Unreached::Tls)?;
    let stream = TlsStream::new(tcp, session);
    poll_fn(|cx| stream.poll_handshake(timers, cx)).await?;
    Ok(stream)
}
