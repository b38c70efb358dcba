//! The configuration file of `weir` as a value.
//!
//! ```text
//!   text ──► spanned tree ──► Config ──► diff(old, new)
//!             reader, parse/    check        │
//!                  ▲                         └─► one line for each change
//!   keys, spec ────┴──► JSON Schema
//! ```
//!
//! Text becomes a [`Config`] in which no wrong value can exist, or a list of every error found with its place in the file.
//!
//! - [`model`]: what the file means. `words`: how its choices are written.
//! - `spec`, `keys`: every key with its kind, range, default and meaning. Both the parser and the schema are driven by it.
//! - `reader`: typed, error-collecting access to the spanned tree. `parse`: one file for each kind of table.
//! - `check`: what concerns several tables. `warnings`: what is allowed, but likely not meant.
//! - [`Metric`], [`Severity`]: words that several tables share.
//! - `secret`: where secrets are. `shared`: what the nodes of a cluster have alike.
//! - `error`: the errors and their rendering. `units`, `address`, `names`: values in strings.
//! - `notify`: telling people, a room of its own.
//! - `diff`: what a reload changes. `schema`: JSON Schema for editors.
//!
//! What is deliberately not here: sockets, clocks, and any file. The caller reads the file; its name serves messages only.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod model;

mod address;
mod calendar;
mod check;
mod diff;
mod error;
mod keys;
mod metric;
mod names;
mod notify;
mod parse;
mod reader;
mod schema;
mod secret;
mod settings;
mod severity;
mod shared;
mod spec;
mod units;
mod url_path;
mod warnings;
mod words;

pub use address::{parse_bind_address, parse_endpoint_address};
pub use calendar::{Calendar, parse_time};
pub use diff::{Change, Place, diff, share_unchanged};
pub use error::{ConfigError, ConfigErrors, ERRORS_MAX, Note};
pub use metric::{Metric, Scopes, Statistic};
pub use model::*;
pub use notify::*;
pub use parse::parse;
pub use schema::json_schema;
pub use secret::SecretSource;
pub use severity::Severity;
pub use units::{format_duration, format_size, parse_duration, parse_size};
pub use url_path::{PathError, decoded, normal_path};
pub use warnings::warnings;
