//! Hosts and machines.
pub mod protocol;
pub mod xml;
