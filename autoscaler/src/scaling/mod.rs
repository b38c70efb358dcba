//! How many machines a pool wants, and the steps that lead there.
//!
//! ```text
//!   alarms, metrics, clock, forecast ──► wishes ──► decide ──► desired ─┐
//!                                    (cooldown, stabilisation)          ├─► members ──► Plan: steps, refusals, reasons
//!   what the hosts show ────────────────────────────────────────────────┘
//! ```
//!
//! - [`policy`]: what the file says about one pool. [`observation`]: what is seen of it. [`memory`]: what is remembered between two plans.
//! - [`step`], [`target`], [`schedule`], [`predict`]: one kind of policy each. [`mod@decide`]: how their wishes become one number.
//! - [`members`]: from the number to launches and removals. [`refresh`]: a new base. [`placement`]: which host.
//! - [`plan()`]: all of it together.

pub mod decide;
pub mod members;
pub mod memory;
pub mod observation;
pub mod placement;
pub mod plan;
pub mod policy;
pub mod predict;
pub mod refresh;
pub mod schedule;
pub mod step;
pub mod target;

pub use decide::{AlarmSignal, Decision, Opinion, Signals, TargetSignal, Wish, decide};
pub use memory::{Memory, RefreshState, Trend};
pub use observation::{HostRoom, Member, MemberState, Observation};
pub use plan::{HookKind, Plan, Step, plan};
pub use policy::Policy;
