//! TLS apart from the bytes. Towards clients: files, certificates by name, tickets. Towards endpoints: whom we believe.
//!
//! ```text
//!   PEM files ──► load (parallel) ──► names ──► rustls config ──► workers (once a connection)
//!       ▲                                            ▲
//!       └── store: looks for changes ── ticket keys ─┘
//! ```
//!
//! - `names`: which certificate a name gets (pure). `ticket`: sealing sessions so that they can be resumed.
//! - `load`: files to certificates. `store`: what the listeners use now, and keeping it so.
//! - `client`: how the endpoints of a pool are spoken to. `connectors`: the same for all pools, and keeping it so.
//! - `challenge`: what an authority wants to see before it issues a certificate.
//! - `due`: when the end of a certificate is told (pure).
//! - `hello`: the name that a client asks for, where TLS is passed on (pure).
//!
//! What is deliberately not here: sockets, which are the shell's.

pub(crate) mod challenge;
pub(crate) mod client;
mod connectors;
mod due;
pub mod hello;
mod load;
mod names;
mod store;
mod ticket;

pub use challenge::Challenges;
pub use client::Connector;
pub use connectors::ShownCertificate;
pub use load::{LoadProblem, TlsErrors};
pub use store::{Acceptor, CertificateStatus, TlsStore};
pub use ticket::SavedTicketKey;
