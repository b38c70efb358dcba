//! Where the virtual routers meet the machine: sockets, addresses, devices, the thread and the guardian. Moves bytes, decides nothing.
//!
//! ```text
//!             commands                     frames
//!   Handle ────────────► weir-vrrp thread ◄──────► packet sockets        guardian: a process that says priority 0
//!          ◄──────────── (driver)                                        when this one dies (guardian)
//!            reports        │  ▲ done, news
//!                           ▼  │
//!                        weir-vrrp-net thread ───► addresses, links (kernel)
//! ```
//!
//! The thread is one of the operating system's own, with real-time priority where that is allowed, so that no load of the rest of the
//! program delays an advertisement. It never waits for anything but its poll set: what may wait (the kernel's lock on the network) has
//! another thread.
//!
//! Linux only.

mod announce;
mod capability;
mod device;
mod driver;
mod filter;
mod frame;
mod guardian;
mod handle;
mod kernel;
mod link;
mod netlink;
mod send;
mod settings;
mod strays;
mod sys;

pub use device::Mode;
pub use guardian::{GUARDIAN_ARGUMENT, guardian};
pub use handle::{Handle, LinkCounters, NodeStatus, Options, Report, ReportKind, RouterSpec, RouterStatus, StartError, start};
pub use sys::be_urgent;
