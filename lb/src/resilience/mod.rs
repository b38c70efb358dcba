//! Keeping trouble small (pure): how much may be sent again, how much a pool takes, and who is worse than the others.
//!
//! - [`budget`]: retries, as a share of requests, so that a pool in trouble does not get its load doubled.
//! - [`gate`]: what a pool takes at once: fixed bounds, or one that follows its latency ([`gradient`]).
//! - [`outlier`]: endpoints that answer worse than the rest of their pool.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod budget;
pub mod gate;
pub mod gradient;
pub mod outlier;
