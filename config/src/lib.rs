//! The configuration file of `weir` as a value.
//!
//! Text becomes a [`Config`] in which no wrong value can exist, or a list of every error found with its place in the file.
//! What is deliberately not here: sockets, and any file other than the one the caller read.

pub mod model;

pub use model::*;
