//! The link and the programs of the virtual router's own tests.
#![allow(dead_code, unreachable_pub)] // a part of it is for them alone

#[path = "../../../vrrp/tests/support/mod.rs"]
mod support;

#[allow(unused_imports)] // Each test that has this module uses another part of it.
pub use support::{hang, net, node, sniff};
