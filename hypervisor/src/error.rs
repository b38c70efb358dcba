//! What can go wrong, a variant for each thing that a caller would treat differently.

use std::fmt;
use std::time::Duration;

use weir_config::{HostName, TemplateName};

use crate::protocol::{Fault, FaultKind};

/// Why one call to one host failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// The host answered that it cannot.
    #[error("{}", .0.message)]
    Fault(Fault),
    /// It did not answer in time. Whether it did what was asked is not known.
    #[error("{what} took longer than {} s", .after.as_secs_f32())]
    Timeout {
        /// The call.
        what: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// There is no connection to it.
    #[error("not connected: {0}")]
    Down(String),
}

impl CallError {
    /// The kind of fault, if the host answered.
    pub fn kind(&self) -> Option<FaultKind> {
        match self {
            CallError::Fault(fault) => Some(fault.kind),
            CallError::Timeout { .. } | CallError::Down(_) => None,
        }
    }
}

/// Why something that was asked of the hypervisors was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HypervisorError {
    /// No such host, template or machine; the text names what there is.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken, or the machine is not one of ours.
    #[error("{0}")]
    Conflict(String),
    /// No host can take the machine.
    #[error("no host can take it: {}", Refusals(.0))]
    NoCapacity(Vec<Refusal>),
    /// The template cannot be cloned as it is.
    #[error("template {template}: {why}")]
    Template {
        /// The template.
        template: TemplateName,
        /// What is wrong and what to do about it.
        why: String,
    },
    /// A host did not do a step.
    #[error("{host}: {step}")]
    Host {
        /// The host.
        host: HostName,
        /// The step.
        step: String,
        /// What it said.
        #[source]
        source: CallError,
    },
    /// It took longer than it may.
    #[error("{0}")]
    Timeout(String),
    /// Too many things are asked of this machine at once.
    #[error("machine {0} is busy")]
    Busy(String),
    /// Something on this node.
    #[error("{0}")]
    Local(String),
}

impl HypervisorError {
    /// The whole chain as one line.
    pub fn chain(&self) -> String {
        match self {
            HypervisorError::Host { source, .. } => format!("{self}: {source}"),
            other => other.to_string(),
        }
    }
}

/// Why one host cannot take a machine.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Refusal {
    /// The host.
    pub host: String,
    /// Which constraint failed, with numbers.
    pub why: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.host, self.why)
    }
}

struct Refusals<'a>(&'a [Refusal]);

impl fmt::Display for Refusals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("there is none");
        }
        for (at, refusal) in self.0.iter().enumerate() {
            write!(f, "{}{refusal}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}
