//! `weir token`.

use anyhow::{Context, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::output::Output;
use crate::api::{hex, random};

/// How tokens begin, so that those who look for leaked secrets know one when they see it.
const PREFIX: &str = "weir_";

/// Makes a token and prints it with what belongs into the file.
pub(super) fn token(name: &str, role: &str, output: &Output) -> anyhow::Result<()> {
    let is_label =
        !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    ensure!(is_label, "the name {name:?} must be letters, digits, hyphens, underscores and dots");
    let mut secret = [0; 32];
    random(&mut secret).context("the kernel gives no random numbers")?;
    let token = format!("{PREFIX}{}", hex(&secret));
    let digest = hex(&Sha256::digest(token.as_bytes()));
    let key = if name.contains('.') { format!("{name:?}") } else { name.to_owned() };
    output.either(&json!({ "name": name, "role": role, "token": token, "token_sha256": digest }), || {
        format!(
            "The token of {name}, which is shown only now:\n\n    {token}\n\nIn the file:\n\n    [api.token.{key}]\n    role         = \"{role}\"\n    \
             token_sha256 = \"{digest}\"\n\nSign in to the console with it, or give it to the weir command: --token-file or WEIR_TOKEN.\n"
        )
    })
}
