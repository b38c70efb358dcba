//! The whole program with a libvirtd and QEMU of the tests' own.
//!
//! As root, with the packages that `scripts/test` installs, and `weir-libvirt` built: `cargo build --workspace`.

#[path = "../../../hypervisor/libvirt/tests/real/daemon.rs"]
mod daemon;
#[path = "../link/mod.rs"]
mod link;
#[path = "../port/mod.rs"]
mod port;

mod commands;
mod copy;
mod death;
mod leader;
mod relay;
mod rig;
mod silence;
