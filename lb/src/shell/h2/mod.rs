//! HTTP/2. A client's connection: its streams are served as so many connections over HTTP/1.1 with one request each. To endpoints, in
//! `links` and `call`, where a library moves the frames, it is the same the other way round.
//!
//! ```text
//!   socket ◄──► client ◄──► machine (frames, windows, compression) ◄──► stream ◄──► exchange
//! ```
//!
//! One task drives the connection; each stream has one, which serves the next stream afterwards. What the streams' tasks write in one turn of
//! the worker is sent at its end, in one piece.

mod call;
mod client;
mod links;
mod session;
mod stream;
mod wire;

pub(super) use self::call::{Call, CallFault};
pub(super) use self::client::serve;
pub(super) use self::links::Links;
