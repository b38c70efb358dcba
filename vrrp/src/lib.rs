//! The virtual router: several nodes, one address that never goes away (VRRP, RFC 9568).
//!
//! ```text
//!   packet    bytes <-> values; every receive rule is a named error
//!   machine   one virtual router of one family on one interface: inputs and time in, outputs out
//!   group     virtual routers that are master together or not at all
//!   router    a `[vip.NAME]` of the file as one or two machines
//!   shell     sockets, addresses, devices, the thread and the guardian: moves bytes, decides nothing
//! ```
//!
//! Words: *master* and *backup* are the RFC's Active and Backup; *rank* is the priority; *eligible* says whether a node may be master at
//! all. A *virtual router* is a number (VRID) and a family on an interface.
//!
//! Not in this room: what is behind the addresses. Whether this node can serve is told to it ([`machine::Input::Eligible`]).

pub mod group;
pub mod machine;
pub mod packet;
#[cfg(target_os = "linux")]
pub mod shell;
