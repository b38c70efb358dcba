//! The guardian: a second process, of the same program, that outlives the first by a few milliseconds and says its last words.
//!
//! ```text
//!   weir run ── will of each master (shared memory) ──► guardian
//!      │                                                    ▲
//!      └── dies for any reason: lifeline and thread end ────┘   priority 0 to the peers, addresses and links removed
//! ```
//!
//! Without it the backup waits for three intervals of silence, with it for the skew time alone. What it is to do is written beforehand by
//! the living process ([`will`]); it decides nothing, holds no secret, and does nothing as long as the process lives. It is in a session of
//! its own and ignores the signals that end a service, so that it is still there when the process goes. When the whole control group is
//! killed it goes too: then the kernel takes the addresses, and the peers wait.

mod keep;
mod process;
pub(crate) mod will;

pub(crate) use keep::{Guardian, Place};
pub use process::guardian;

/// The hidden first argument by which the program knows that it is the guardian: see [`guardian()`].
pub const GUARDIAN_ARGUMENT: &str = "--vrrp-guardian";
