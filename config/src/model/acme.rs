//! `[acme.NAME]` and `[[listener.NAME.tls.acme]]`

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::notify::HttpUrl;

/// The name of an authority, as written in `[acme.NAME]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AuthorityName(pub Arc<str>);

impl fmt::Display for AuthorityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for AuthorityName {
    fn from(name: &str) -> Self {
        AuthorityName(name.into())
    }
}

/// `[acme.NAME]`: an authority that issues certificates over ACME (RFC 8555).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authority {
    /// The table's name.
    pub name: AuthorityName,
    /// `directory`: where its directory is; under TLS, always.
    pub directory: HttpUrl,
    /// `ca_file`: who may have signed the directory's certificate, in PEM. Default: whom the system trusts.
    pub ca_file: Option<PathBuf>,
    /// `contact`: mail addresses that it may write to, without `mailto:`.
    pub contact: Vec<String>,
    /// `account_key_file`: the account's key, the same on all nodes that serve an address in turn. Default: one of this node's own.
    pub account_key_file: Option<PathBuf>,
    /// `eab_key_id` and `eab_key_file`: the account with the authority that ours belongs to (RFC 8555 section 7.3.4).
    pub external: Option<ExternalAccount>,
    /// `renew_before`: so long before its end a certificate is renewed, but never before two thirds of its time are over. Default 30 days.
    pub renew_before: Duration,
}

/// An account with the authority that was made elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExternalAccount {
    /// `eab_key_id`
    pub key_id: String,
    /// `eab_key_file`: the key, as the authority shows it (base64url).
    pub key_file: PathBuf,
}

/// `[[listener.NAME.tls.acme]]`: a certificate that this node has made and renewed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AcmeCertificate {
    /// `authority`
    pub authority: AuthorityName,
    /// `names`, never empty, in lower case.
    pub names: Vec<String>,
    /// `challenge`
    pub challenge: AcmeChallenge,
    /// Where chain and key are kept, below `state_dir`. There is none before the first one was issued.
    pub file: PathBuf,
}

/// How an authority is shown that a name is ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AcmeChallenge {
    /// An answer on port 80 of the name (RFC 8555 section 8.3).
    Http01,
    /// A handshake on port 443 of the name (RFC 8737).
    TlsAlpn01,
}

impl AcmeChallenge {
    /// `http-01` or `tls-alpn-01`.
    pub fn word(self) -> &'static str {
        match self {
            AcmeChallenge::Http01 => "http-01",
            AcmeChallenge::TlsAlpn01 => "tls-alpn-01",
        }
    }
}
