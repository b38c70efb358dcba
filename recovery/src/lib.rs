//! Healing before people are called: what the file's recoveries try when something is ill, one attempt after the other.
//!
//! ```text
//!            ┌──────────── ill again before `stable` ────────────┐
//!            ▼                                                   │
//!   ill ──► waiting ──► acting ──► checking ──► gone? ──► healed ┴─ for `stable` ──► forgotten
//!            ▲  (brake, turn)          │ still there
//!            └─── the next attempt ────┴── none left ──► given up
//! ```
//!
//! - [`case`]: one thing that is ill, from the first sign to the end. It is kept as it is there.
//! - [`healer`]: all of them, pure: what is seen and the time go in, what is to be done, kept and told comes out.
//! - [`store`]: the cases in a file. All outputs of one input are kept in one transaction before anything of it is done: a kill at any line
//!   leaves a case that says how far it was.
//!
//! Not here: how a machine is reset, what makes it ill, and who is told. It is a room of its own because it knows neither machines nor people,
//! and so that a node heals without any channel in the file.

pub mod case;
pub mod healer;
pub mod store;
