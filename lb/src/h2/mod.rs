//! HTTP/2 in terms of HTTP/1.1, without sockets.
//!
//! A stream's request is written as the HTTP/1.1 request it stands for and read by the parser that reads all others; the answer, which was
//! framed for an HTTP/1.1 client, is taken apart again. So there is one place that decides what a message means: what would be refused
//! from a client of HTTP/1.1 cannot be built from HTTP/2, and every limit, route and timeout holds for both. Towards endpoints it is the
//! same the other way round.
//!
//! - From clients: [`machine`] is a connection, with [`frame`] and [`hpack`] for its bytes; [`request`] and [`answer`] for what they mean, and
//!   [`flood`] for how many there may be.
//! - To endpoints, where a library moves the frames: [`ask`] and [`told`]. [`unframe`]: a body out of its framing, for both.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod answer;
pub mod ask;
pub mod flood;
pub mod frame;
pub mod hpack;
pub mod machine;
pub mod request;
pub mod told;
pub mod unframe;
