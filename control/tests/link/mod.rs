//! The link and the programs of the virtual router's own tests.
#![allow(dead_code, unreachable_pub)] // a part of it is for them alone

#[path = "../../../vrrp/tests/support/net.rs"]
pub mod net;
#[path = "../../../vrrp/tests/support/node.rs"]
pub mod node;
