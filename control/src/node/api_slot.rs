//! The API's listener, which can be moved to another address, or get another token, while the node runs.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{info, warn};
use weir_config::Api;

use super::Node;
use crate::api::{self, SavedSessions, Sessions};

/// The API as it is served now.
#[derive(Debug, Default)]
pub(crate) struct ApiSlot {
    serving: Option<Serving>,
    /// The server that was stopped, until it has answered what was under way.
    ending: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Serving {
    identity: Identity,
    listener: TcpListener,
    /// Who is signed in. They end with the server: a token that was taken away opens nothing any more.
    sessions: Arc<Sessions>,
    /// Dropping it ends the server in order.
    _stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// What makes a new server necessary.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Identity {
    bind: SocketAddr,
    access: api::Access,
    tls: Option<api::Tls>,
}

/// A change that can no longer fail.
pub(crate) enum Prepared {
    /// No API from now on.
    Off,
    /// Another server.
    On(Box<Next>),
}

/// A server that is not started yet.
pub(crate) struct Next {
    identity: Identity,
    listener: TcpListener,
    sessions: Arc<Sessions>,
}

impl Prepared {
    /// Lets the sessions of the process before go on.
    pub(crate) fn restore(&self, saved: &SavedSessions) {
        if let Prepared::On(next) = self {
            next.sessions.restore(saved, &next.identity.access, Instant::now());
        }
    }
}

impl ApiSlot {
    /// Everything that can fail about serving these settings. `None`: they are served already. `inherited`: a socket of the process before.
    pub(crate) fn prepare(&self, settings: Option<&Api>, inherited: Option<TcpListener>) -> io::Result<Option<Prepared>> {
        let Some(settings) = settings else {
            return Ok(self.serving.is_some().then_some(Prepared::Off));
        };
        // Once, so that what is compared is what is served.
        let identity = Identity {
            bind: settings.bind,
            access: api::Access::read(settings)?,
            tls: settings.tls.as_ref().map(api::Tls::read).transpose()?,
        };
        let listener = match (&self.serving, inherited) {
            (Some(serving), _) if serving.identity == identity => return Ok(None),
            (Some(serving), _) if serving.identity.bind == identity.bind => serving.listener.try_clone()?,
            (_, Some(inherited)) if inherited.local_addr().is_ok_and(|address| address == identity.bind) => inherited,
            _ => TcpListener::bind(identity.bind)
                .map_err(|error| io::Error::new(error.kind(), format!("the API cannot listen on {}: {error}", identity.bind)))?,
        };
        listener.set_nonblocking(true)?;
        Ok(Some(Prepared::On(Box::new(Next { identity, listener, sessions: Arc::default() }))))
    }

    /// Ends the old server in order and starts the new one.
    pub(crate) fn commit(&mut self, prepared: Prepared, node: &Node, runtime: &tokio::runtime::Handle) {
        self.serving = match prepared {
            Prepared::Off => None,
            Prepared::On(next) => match start(*next, node, runtime) {
                Ok(serving) => Some(serving),
                Err(error) => {
                    // Two copies of a descriptor: out of descriptors. Traffic goes on.
                    warn!(%error, "the API could not be started");
                    None
                }
            },
        };
    }

    /// Address and a copy of the socket, for the next process.
    pub(crate) fn socket(&self) -> io::Result<Option<(SocketAddr, TcpListener)>> {
        self.serving.as_ref().map(|serving| Ok((serving.identity.bind, serving.listener.try_clone()?))).transpose()
    }

    /// Who is signed in, for the next process.
    pub(crate) fn sessions(&self) -> Option<SavedSessions> {
        self.serving.as_ref().map(|serving| serving.sessions.save(&serving.identity.access, Instant::now()))
    }

    /// Accepts nothing more; what is under way is answered.
    pub(crate) fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            self.ending = Some(serving.task);
        }
    }

    /// The server that was stopped; done when everything is answered.
    pub(crate) fn ending(&mut self) -> Option<JoinHandle<()>> {
        self.ending.take()
    }
}

fn start(next: Next, node: &Node, runtime: &tokio::runtime::Handle) -> io::Result<Serving> {
    let Next { identity, listener, sessions } = next;
    let _guard = runtime.enter();
    let serving = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async move {
        // Dropped, which is the signal.
        let _ = stopped.await;
    };
    let (node, tls) = (node.clone(), identity.tls.clone());
    let door = api::Door { bind: identity.bind, access: identity.access.clone(), sessions: sessions.clone() };
    let task = runtime.spawn(async move {
        if let Err(error) = api::serve(serving, node, door, tls, stopped).await {
            warn!(%error, "the API ended");
        }
    });
    info!(bind = %identity.bind, "the API listens");
    Ok(Serving { identity, listener, sessions, _stop: stop, task })
}
