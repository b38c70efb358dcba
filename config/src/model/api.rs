//! The API, and who may ask it what.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// `[api]`
#[derive(Clone, PartialEq, Debug)]
pub struct Api {
    /// Where the REST API, the console and `/metrics` listen. Default `127.0.0.1:7117`.
    pub bind: SocketAddr,
    /// A file holding a bearer token that may do everything.
    pub token_file: Option<PathBuf>,
    /// `[api.token.NAME]`, by name. Without these and `token_file` nobody is asked for a token, which only a loopback address allows, or clients
    /// that show certificates.
    pub tokens: BTreeMap<Arc<str>, ApiToken>,
    /// `[api.tls]`; absent: HTTP without TLS.
    pub tls: Option<ApiTls>,
}

/// `[api.tls]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiTls {
    /// `certificate_file`: the chain in PEM, the node's own certificate first.
    pub certificate_file: PathBuf,
    /// `key_file`: its key in PEM. Default: in the same file.
    pub key_file: PathBuf,
    /// `client_ca_file`: who must have signed the certificate that each client shows, in PEM; `None`: clients are not asked.
    pub client_ca_file: Option<PathBuf>,
}

/// `[api.token.NAME]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiToken {
    /// `role`
    pub role: Role,
    /// `token_sha256`: its SHA-256. It is 256 random bits, so that nobody finds it by its digest and no slower one is needed.
    pub digest: [u8; 32],
}

/// What somebody may ask of the API. Each may what those before it may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// Look.
    Read,
    /// Also what operators do every day: drain, scale, acknowledge, work on machines.
    Operate,
    /// Everything: also apply the file, start another binary, remove what was left behind.
    Admin,
}

impl Role {
    /// All of them, from the one that may least.
    pub const ALL: [Role; 3] = [Role::Read, Role::Operate, Role::Admin];

    /// How the file and the API write it.
    pub fn word(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Operate => "operate",
            Role::Admin => "admin",
        }
    }

    /// Reads what [`Role::word`] writes.
    pub fn from_word(word: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.word() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
