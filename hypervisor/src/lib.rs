//! Hosts and machines: templates, linked clones, warm clones, verbs and statistics, through libvirt.
//!
//! ```text
//!   control ──► Hypervisor ──► make, remove, verbs, warm, base: rows of steps, each of which can be repeated
//!                                  │ protocol: one step on one host
//!                                Driver ──► agent ══ pipe ══ weir-libvirt ──► libvirt ──► libvirtd of the host
//!                                    └────► memory: plays a host, for tests and simulations
//! ```
//!
//! - [`spec`]: what the rest of the product sees and may ask for. [`view`]: hosts, machines and their load as plain values.
//! - [`fleet`]: all hosts together; `host`: one, watched; `lanes`: one task for each machine that is worked on.
//! - `make`, `remove`, `verbs`, `warm`, `base`, `ready`, `detect`: what is done, step by step.
//! - [`metadata`], [`names`]: how what is ours is told from what is not. They are the journal: there is no other.
//! - [`event`]: what happens, for whoever listens.
//! - [`capacity`], [`domain`], [`pressure`], [`seed`], [`xml`]: pure.
//! - [`protocol`], [`agent`]: the process in which libvirt runs, and why it is one.
//!
//! The hosts are the database of what exists: nothing here remembers a machine that a host does not show. What is deliberately not here: when
//! to scale, and what a pool is.

pub mod agent;
pub mod capacity;
pub mod domain;
pub mod driver;
pub mod error;
pub mod event;
pub mod fleet;
pub mod memory;
pub mod metadata;
pub mod names;
pub mod pressure;
pub mod protocol;
pub mod seed;
pub mod spec;
pub mod view;
pub mod xml;

mod base;
mod detect;
mod host;
mod lanes;
mod make;
mod memo;
mod ready;
mod remove;
mod verbs;
mod warm;

pub use error::{HypervisorError, Refusal};
pub use event::RoomEvent;
pub use fleet::Fleet;
pub use names::MachineName;
pub use pressure::Pressure;
pub use spec::{
    CloneCounts, CloneSpec, GenerationView, Hypervisor, Leftover, Progress, RoomView, Step, TemplateView, Verb, WaitFor, WarmUse,
};
pub use view::{HostLoad, HostState, HostView, Load, MachineState, MachineView, Totals};
