//! What an authority wants to see before it issues a certificate (ACME): answers over HTTP, and certificates in handshakes. Whoever orders
//! puts them here and takes them away; the workers look, and only where the configuration orders certificates at all.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// Where the challenge `http-01` is answered (RFC 8555 section 8.3); the token follows.
const HTTP_PATH: &[u8] = b"/.well-known/acme-challenge/";
/// What is agreed on in the handshake of the challenge `tls-alpn-01`, and nothing else (RFC 8737 section 3).
pub(crate) const PROTOCOL: &[u8] = b"acme-tls/1";
/// Characters of a token: at least the 128 random bits of RFC 8555 section 8.1, and not the whole head of a request.
const TOKEN_CHARS: std::ops::RangeInclusive<usize> = 16..=256;

/// The answers that are expected now.
#[derive(Debug, Default)]
pub struct Challenges {
    answers: ArcSwap<Answers>,
    answered: [AtomicU64; 2],
}

#[derive(Clone, Debug, Default)]
struct Answers {
    /// Key authorizations by token.
    http: HashMap<Box<str>, Box<str>>,
    /// By name, in lower case.
    tls: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// The thumbprint of an account that other nodes have, too. With it a token is answered that another node was given.
    thumbprint: Option<Box<str>>,
}

impl Challenges {
    /// Answers this token with this text, until [`Challenges::forget_http`].
    pub fn expect_http(&self, token: &str, key_authorization: &str) {
        self.change(|answers| drop(answers.http.insert(token.into(), key_authorization.into())));
    }

    /// Answers the token no longer.
    pub fn forget_http(&self, token: &str) {
        self.change(|answers| drop(answers.http.remove(token)));
    }

    /// Answers every token by an account that other nodes order with, too: whichever has the address then answers for all of them. What is
    /// answered tells nothing but whose account it is.
    pub fn answer_for(&self, thumbprint: Option<&str>) {
        if self.answers.load().thumbprint.as_deref() != thumbprint {
            self.change(|answers| answers.thumbprint = thumbprint.map(Into::into));
        }
    }

    /// Shows this certificate to who wants to see the challenge for the name, until [`Challenges::forget_tls`].
    ///
    /// # Errors
    /// The key cannot be used.
    pub fn expect_tls(&self, name: &str, certificate: Vec<u8>, key: PrivateKeyDer<'static>) -> Result<(), rustls::Error> {
        let key = aws_lc_rs::default_provider().key_provider.load_private_key(key)?;
        // Not looked at: what it says is in an extension that nobody else knows, and that nobody may pass over.
        let key = Arc::new(CertifiedKey::new(vec![CertificateDer::from(certificate)], key));
        self.change(|answers| drop(answers.tls.insert(name.to_ascii_lowercase().into(), Arc::clone(&key))));
        Ok(())
    }

    /// Shows the certificate no longer.
    pub fn forget_tls(&self, name: &str) {
        self.change(|answers| drop(answers.tls.remove(&*name.to_ascii_lowercase())));
    }

    /// Challenges that were answered: over HTTP, in handshakes.
    pub fn answered(&self) -> [u64; 2] {
        [&self.answered[0], &self.answered[1]].map(|count| count.load(Ordering::Relaxed))
    }

    /// What a request for this path gets, if it is for a challenge that is answered here.
    pub(crate) fn http(&self, path: &[u8]) -> Option<String> {
        let token = path.strip_prefix(HTTP_PATH)?;
        let is_token = TOKEN_CHARS.contains(&token.len()) && token.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte));
        let token = std::str::from_utf8(token).ok().filter(|_| is_token)?;
        let answers = self.answers.load();
        let answer = match (answers.http.get(token), &answers.thumbprint) {
            (Some(known), _) => known.to_string(),
            (None, Some(thumbprint)) => format!("{token}.{thumbprint}"),
            (None, None) => return None,
        };
        self.answered[0].fetch_add(1, Ordering::Relaxed);
        Some(answer)
    }

    /// What is shown in the handshake for this name.
    pub(crate) fn tls(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let found = self.answers.load().tls.get(&*name.to_ascii_lowercase()).cloned();
        if found.is_some() {
            self.answered[1].fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    fn change(&self, change: impl Fn(&mut Answers)) {
        self.answers.rcu(|answers| {
            let mut answers = Answers::clone(answers);
            change(&mut answers);
            answers
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_answered_and_nothing_else() {
        let challenges = Challenges::default();
        let ask = |token: &str| challenges.http(&[HTTP_PATH, token.as_bytes()].concat());
        let known = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
        assert_eq!(ask(known), None);
        challenges.expect_http(known, "LoqX.thumb");
        assert_eq!(ask(known).as_deref(), Some("LoqX.thumb"));
        assert_eq!(challenges.http(known.as_bytes()), None);
        let other = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ";
        assert_eq!(ask(other), None);
        challenges.answer_for(Some("9jg46WB3rR"));
        assert_eq!(ask(other), Some(format!("{other}.9jg46WB3rR")));
        for not_one in ["", "short", "evaGxfADs6pSRb2LAv9IZf17/../../x", "evaGxfADs6pSRb2LAv9IZf17%0d%0a", &"a".repeat(257)] {
            assert_eq!(ask(not_one), None, "{not_one}");
        }
        challenges.forget_http(known);
        challenges.answer_for(None);
        assert_eq!((ask(known), ask(other)), (None, None));
        assert_eq!(challenges.answered(), [2, 0]);
    }

    #[test]
    fn a_name_is_shown_its_own_certificate() {
        let challenges = Challenges::default();
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        challenges.expect_tls("A.test", made.cert.der().to_vec(), key).expect("it fits");
        assert!(challenges.tls("a.TEST").is_some_and(|shown| shown.cert[0] == *made.cert.der()));
        assert!(challenges.tls("b.test").is_none());
        challenges.forget_tls("a.test");
        assert!(challenges.tls("a.test").is_none());
    }
}
