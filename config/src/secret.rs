//! Where secrets are. The configuration never holds one: it names a file or a variable of the environment.

use std::fmt;
use std::path::PathBuf;

/// Where a secret is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SecretSource {
    /// The whole file, without line ends at its end. An absolute path.
    File(PathBuf),
    /// A variable of the environment.
    Environment(String),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretSource::File(path) => write!(f, "{}", path.display()),
            SecretSource::Environment(name) => write!(f, "environment variable {name}"),
        }
    }
}
