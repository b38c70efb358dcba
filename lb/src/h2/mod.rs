//! HTTP/2 in terms of HTTP/1.1, without sockets.
//!
//! A stream's request is written as the HTTP/1.1 request it stands for and read by the parser that reads all others; the answer, which was
//! framed for an HTTP/1.1 client, is taken apart again. So there is one place that decides what a message means: what would be refused
//! from a client of HTTP/1.1 cannot be built from HTTP/2, and every limit, route and timeout holds for both.

pub mod answer;
pub mod flood;
pub mod request;
