//! HTTP/1.1 framing: the one place that decides where a message begins and ends.
//!
//! ```text
//!   bytes ──► lines: CRLF only, bounded ──► request / response: fields, body length ──► forwarded head
//!                                                      └──► body, chunked: how far the message reaches
//! ```
//!
//! Strict on purpose: what two parsers could read differently is refused, never repaired and passed on (RFC 9112 sections 2.2, 5, 6,
//! 7.1 and 11.2). There is no lenient switch. Everything here is pure: it works on slices and says complete, partial or a named error.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod body;
pub mod chunked;
pub mod edit;
mod fields;
pub mod forwarded;
mod lines;
pub mod relocate;
pub mod reply;
pub mod request;
pub mod response;

pub use body::{Advance, Body};
pub(crate) use fields::decimal;
pub use lines::{Bounds, HeadError, Scanner};
