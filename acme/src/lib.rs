//! Certificates that are ordered from an authority over ACME (RFC 8555), and renewed in time.
//!
//! ```text
//!   [acme.NAME] ──► account (state folder, or a key that several nodes have)
//!                      │
//!   names ──► order ──► challenge: `Answers` shows it ──► authority looks ──► chain and key in one file
//!               ▲                                                               │
//!               └──────────── plan: when it is due, when to try again ◄─────────┘
//! ```
//!
//! - `plan`: when (pure). `order`: one certificate, from the account to the file. `account`: whose orders they are.
//! - `http`: one request to the authority. `store`: files that nobody else may read. `base64url`: RFC 4648 section 5 (pure).
//!
//! What is deliberately not here: who answers the challenges, which node orders, and what is done with the file. The protocol itself is that of
//! the crate `instant-acme`.

mod account;
mod base64url;
mod http;
mod order;
pub mod plan;
mod store;

pub use account::thumbprint;
pub use order::{Answers, OrderError, issue};
pub use store::held;
