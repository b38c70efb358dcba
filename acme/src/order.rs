//! One certificate, from the account to the file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus, RetryPolicy};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use weir_config::{AcmeCertificate, AcmeChallenge, Authority};

use crate::plan::Held;
use crate::{account, store};

/// How long an authority may take to look at our answers, and then to issue.
const PATIENCE: RetryPolicy = RetryPolicy::new().initial_delay(Duration::from_millis(250)).backoff(1.5).timeout(Duration::from_secs(120));

/// Whoever shows what an authority wants to see. Each thing that is expected is forgotten again by the same name.
pub trait Answers: Send + Sync {
    /// This token is answered over HTTP with this text.
    fn expect_http(&self, token: &str, key_authorization: &str);
    /// No longer.
    fn forget_http(&self, token: &str);
    /// This certificate is shown for the name in a handshake for the challenge.
    ///
    /// # Errors
    /// In words.
    fn expect_tls(&self, name: &str, certificate: Vec<u8>, key: PrivateKeyDer<'static>) -> Result<(), String>;
    /// No longer.
    fn forget_tls(&self, name: &str);
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// Something that the file names cannot be used.
    #[error("{0}")]
    Setting(String),
    /// The authority, or the way to it.
    #[error("{0}")]
    Authority(String),
    /// It was asked too often.
    #[error("{0}")]
    Limited(String),
    /// It looked for our answer and did not find it.
    #[error(
        "the authority did not find the answer for {name}: {why}; it must reach {place} of that name, and get there to a node that has this \
         certificate in its file"
    )]
    NotFound {
        /// The name.
        name: String,
        /// What it said.
        why: String,
        /// Where it looks.
        place: &'static str,
    },
    /// It was issued and cannot be kept.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl From<Error> for OrderError {
    fn from(error: Error) -> OrderError {
        match error {
            Error::Api(problem) => {
                let words = problem.to_string().trim_start_matches("API error: ").to_owned();
                match problem.r#type.as_deref() {
                    Some("urn:ietf:params:acme:error:rateLimited") => OrderError::Limited(words),
                    Some("urn:ietf:params:acme:error:externalAccountRequired") => {
                        OrderError::Setting(format!("{words}: set eab_key_id and eab_key_file to what it gave you"))
                    }
                    _ => OrderError::Authority(words),
                }
            }
            Error::Json(error) => OrderError::Authority(format!("what it answers is not ACME ({error}): look at `directory`")),
            error => OrderError::Authority(error.to_string()),
        }
    }
}

/// Orders the certificate, answers the challenges, and writes chain and key into the certificate's file.
///
/// # Errors
/// Why there is none; what was there before still is.
pub async fn issue(
    authority: &Authority,
    certificate: &AcmeCertificate,
    state_dir: &Path,
    answers: Arc<dyn Answers>,
) -> Result<Held, OrderError> {
    let account = account::open(authority, state_dir).await?;
    let mut shown = Shown { answers, certificate, tokens: Vec::new(), names: Vec::new() };
    let (chain, key) = ordered(&account, &mut shown).await?;
    let held = check(&chain, &key, &certificate.names).map_err(OrderError::Authority)?;
    let file = &certificate.file;
    store::write(file, format!("{}\n{key}", chain.trim_end()).as_bytes())
        .map_err(|source| OrderError::Write { path: file.clone(), source })?;
    Ok(held)
}

/// What is expected now, until this is dropped.
struct Shown<'a> {
    answers: Arc<dyn Answers>,
    certificate: &'a AcmeCertificate,
    tokens: Vec<String>,
    names: Vec<String>,
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.tokens.iter().for_each(|token| self.answers.forget_http(token));
        self.names.iter().for_each(|name| self.answers.forget_tls(name));
    }
}

async fn ordered(account: &Account, shown: &mut Shown<'_>) -> Result<(String, String), OrderError> {
    let identifiers: Vec<Identifier> = shown.certificate.names.iter().map(|name| Identifier::Dns(name.clone())).collect();
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    answer_all(&mut order, shown).await?;
    match order.poll_ready(&PATIENCE).await {
        Ok(OrderStatus::Ready | OrderStatus::Valid) => {}
        end => {
            let why = not_found(&mut order, shown.certificate.challenge).await;
            return Err(why.unwrap_or_else(|| match end {
                Err(error) => error.into(),
                Ok(status) => OrderError::Authority(format!("the order is {status:?}")),
            }));
        }
    }
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    Ok((chain, key))
}

/// Shows what each name needs, and then tells the authority that it may look.
async fn answer_all(order: &mut Order, shown: &mut Shown<'_>) -> Result<(), OrderError> {
    let wanted = kind(shown.certificate.challenge);
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            // Known from another order.
            continue;
        }
        let mut challenge = authorization.challenge(wanted.clone()).ok_or_else(|| {
            OrderError::Setting(format!(
                "the authority does not look by {}: choose another `challenge`",
                shown.certificate.challenge.word()
            ))
        })?;
        let name = challenge.identifier().to_string();
        let key_authorization = challenge.key_authorization();
        match shown.certificate.challenge {
            AcmeChallenge::Http01 => {
                shown.answers.expect_http(&challenge.token, key_authorization.as_str());
                shown.tokens.push(challenge.token.clone());
            }
            AcmeChallenge::TlsAlpn01 => {
                let (der, key) =
                    proof(&name, key_authorization.digest().as_ref()).map_err(|error| OrderError::Setting(error.to_string()))?;
                shown.answers.expect_tls(&name, der, key).map_err(OrderError::Setting)?;
                shown.names.push(name);
            }
        }
        challenge.set_ready().await?;
    }
    Ok(())
}

fn kind(challenge: AcmeChallenge) -> ChallengeType {
    match challenge {
        AcmeChallenge::Http01 => ChallengeType::Http01,
        AcmeChallenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}

/// A certificate for the name that says nothing but the digest (RFC 8737 section 3).
fn proof(name: &str, digest: &[u8]) -> Result<(Vec<u8>, PrivateKeyDer<'static>), rcgen::Error> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    Ok((certificate.der().to_vec(), key))
}

/// The first name whose answer was not found, and what the authority says about it.
async fn not_found(order: &mut Order, challenge: AcmeChallenge) -> Option<OrderError> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let state = authorization.refresh().await.ok()?;
        let error = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = error {
            let place = match challenge {
                AcmeChallenge::Http01 => "port 80",
                AcmeChallenge::TlsAlpn01 => "port 443",
            };
            let why = problem.detail.clone().or_else(|| problem.r#type.clone()).unwrap_or_default();
            return Some(OrderError::NotFound { name: state.identifier().to_string(), why, place });
        }
    }
    None
}

/// What was issued must be what was ordered: a wrong file would be refused by whoever serves it.
fn check(chain: &str, key: &str, names: &[String]) -> Result<Held, String> {
    let held = store::of_chain(chain.as_bytes()).ok_or("what it issued is not a certificate")?;
    if !names.iter().all(|name| held.names.contains(name)) {
        return Err(format!("it issued a certificate for {} instead of {}", held.names.join(" "), names.join(" ")));
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
    let certificates = certificates.map_err(|error| format!("its chain is not PEM: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| error.to_string())?;
    CertifiedKey::from_der(certificates, key, &aws_lc_rs::default_provider())
        .map_err(|error| format!("what it issued is for another key: {error}"))?;
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_issued_is_looked_at() {
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let other = KeyPair::generate().unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        assert_eq!(check(&chain, &key, &["a.test".into()]).unwrap().names, ["a.test"]);
        assert_eq!(check(&chain, &key, &["b.test".into()]).unwrap_err(), "it issued a certificate for a.test instead of b.test");
        assert!(check(&chain, &other.serialize_pem(), &["a.test".into()]).unwrap_err().starts_with("what it issued is for another key"));
        assert_eq!(check("", &key, &["a.test".into()]).unwrap_err(), "what it issued is not a certificate");
    }
}
