//! What can go wrong while the lab works on the machine.

use std::io;
use std::path::{Path, PathBuf};

/// Why the lab could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A program that the lab needs is not on this machine.
    #[error("{program} is missing: install the Debian package {package}")]
    Missing {
        /// The program's name.
        program: &'static str,
        /// Who ships it.
        package: &'static str,
    },
    /// The lab works on namespaces and mounts.
    #[error("the lab makes namespaces and mounts, which only root may do")]
    NotRoot,
    /// Another process holds a lab of this name.
    #[error("the lab {name} is up already, held by process {pid}: `lab down` ends it, `--name` makes another beside it")]
    Up {
        /// The lab's name.
        name: String,
        /// Whose it is.
        pid: u32,
    },
    /// No lab of this name.
    #[error("no lab {name} is up")]
    Down {
        /// The lab's name.
        name: String,
    },
    /// A host or node that the lab does not have.
    #[error("the lab has no {what} named {name}")]
    Unknown {
        /// Host or node.
        what: &'static str,
        /// What was asked for.
        name: String,
    },
    /// A program failed, or took longer than its deadline.
    #[error("{command}: {reason}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status and what it wrote, or the deadline that it missed.
        reason: String,
    },
    /// A condition did not come true in time.
    #[error("{what} did not happen within {seconds} s")]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: f64,
    },
    /// A file could not be read or written.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Options that contradict each other or ask for more than there is.
    #[error("{0}")]
    Options(String),
}

impl LabError {
    pub(crate) fn file(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::File { path, source }
    }
}
