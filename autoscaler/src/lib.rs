//! Alarms and scaling: what is wrong, how many machines a pool wants, and which steps lead there.
//!
//! - [`alarm`]: states of alarms, and whether something is done about them.
//! - [`scaling`]: how many machines a pool wants, and the steps that lead there.
//! - [`readings`]: where metrics come from. [`time`]: the moment everything is decided at.
//! - [`replay`]: what a policy would have done with a load that was. [`recorded`]: what an alarm would have done.
//!
//! Everything here is pure: metrics, the state of the machines and the time come in, decisions come out. What is deliberately not here:
//! libvirt, sockets, files, and the carrying out of a plan.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod alarm;
pub mod readings;
pub mod recorded;
pub mod replay;
pub mod scaling;
pub mod time;

pub use readings::{Query, Readings, Scope};
pub use time::UnixMs;
