//! Who we are and who they are: the user-based security model (RFC 3414), signed as RFC 7860 says and encrypted as RFC 3826 does. Pure.

use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{constant_time, digest, hmac};
use weir_config::SnmpAuth;

use crate::secret::Secret;

/// Passwords are repeated to this length (RFC 3414 section A.2).
const EXPANDED: usize = 1 << 20;
/// Bytes of a key of AES-128.
const PRIVACY_KEY: usize = 16;
/// Shorter passwords are refused (RFC 3414 section 11.2).
pub(super) const PASSWORD_BYTES_MIN: usize = 8;

/// Keys of a user at one engine.
pub(super) struct Keys {
    auth: SnmpAuth,
    auth_key: Secret,
    privacy_key: Option<Secret>,
}

impl Keys {
    /// Made of passwords for the engine of this id.
    pub(super) fn new(auth: SnmpAuth, auth_master: &Secret, privacy_master: Option<&Secret>, engine_id: &[u8]) -> Keys {
        let localized = |master: &Secret| Secret::from_bytes(localized(auth, master, engine_id));
        Keys { auth, auth_key: localized(auth_master), privacy_key: privacy_master.map(localized) }
    }

    /// Bytes of a signature.
    pub(super) fn signature_length(&self) -> usize {
        match self.auth {
            SnmpAuth::Sha1 => 12,
            SnmpAuth::Sha224 => 16,
            SnmpAuth::Sha256 => 24,
            SnmpAuth::Sha384 => 32,
            SnmpAuth::Sha512 => 48,
        }
    }

    /// The signature of a message in which zeros stand for it.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let algorithm = match self.auth {
            SnmpAuth::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            SnmpAuth::Sha224 => hmac::HMAC_SHA224,
            SnmpAuth::Sha256 => hmac::HMAC_SHA256,
            SnmpAuth::Sha384 => hmac::HMAC_SHA384,
            SnmpAuth::Sha512 => hmac::HMAC_SHA512,
        };
        let tag = hmac::sign(&hmac::Key::new(algorithm, self.auth_key.expose()), message);
        tag.as_ref()[..self.signature_length()].to_vec()
    }

    /// Whether this is the signature.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.sign(message), signature).is_ok()
    }

    /// Encrypts; `None`: there is no key for that.
    pub(super) fn encrypt(&self, plain: &[u8], boots: i32, time: i32, salt: [u8; 8]) -> Option<Vec<u8>> {
        let mut bytes = plain.to_vec();
        let key = EncryptingKey::cfb128(self.privacy()?).ok()?;
        key.less_safe_encrypt(&mut bytes, EncryptionContext::Iv128(FixedLength::from(iv(boots, time, salt)))).ok()?;
        Some(bytes)
    }

    /// Decrypts; `None`: there is no key for that.
    pub(super) fn decrypt(&self, secret: &[u8], boots: i32, time: i32, salt: [u8; 8]) -> Option<Vec<u8>> {
        let mut bytes = secret.to_vec();
        let key = DecryptingKey::cfb128(self.privacy()?).ok()?;
        let plain = key.decrypt(&mut bytes, DecryptionContext::Iv128(FixedLength::from(iv(boots, time, salt)))).ok()?.to_vec();
        Some(plain)
    }

    fn privacy(&self) -> Option<UnboundCipherKey> {
        UnboundCipherKey::new(&AES_128, self.privacy_key.as_ref()?.expose().get(..PRIVACY_KEY)?).ok()
    }
}

/// RFC 3826 section 3.1.2.1.
fn iv(boots: i32, time: i32, salt: [u8; 8]) -> [u8; 16] {
    let mut iv = [0; 16];
    iv[..4].copy_from_slice(&boots.to_be_bytes());
    iv[4..8].copy_from_slice(&time.to_be_bytes());
    iv[8..].copy_from_slice(&salt);
    iv
}

fn hash(auth: SnmpAuth) -> &'static digest::Algorithm {
    match auth {
        SnmpAuth::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        SnmpAuth::Sha224 => &digest::SHA224,
        SnmpAuth::Sha256 => &digest::SHA256,
        SnmpAuth::Sha384 => &digest::SHA384,
        SnmpAuth::Sha512 => &digest::SHA512,
    }
}

/// The key of a password, equal for all engines (RFC 3414 section A.2.2): what costs time, and is done once for a password.
pub(super) fn master(auth: SnmpAuth, password: &Secret) -> Secret {
    let password = password.expose();
    let mut context = digest::Context::new(hash(auth));
    let block: Vec<u8> = password.iter().copied().cycle().take(64 * password.len()).collect();
    let mut left = if password.is_empty() { 0 } else { EXPANDED };
    while left > 0 {
        let length = left.min(block.len());
        context.update(&block[..length]);
        left -= length;
    }
    Secret::from_bytes(context.finish().as_ref().to_vec())
}

/// The key at one engine (RFC 3414 section 2.6).
fn localized(auth: SnmpAuth, master: &Secret, engine_id: &[u8]) -> Vec<u8> {
    let mut context = digest::Context::new(hash(auth));
    for part in [master.expose(), engine_id, master.expose()] {
        context.update(part);
    }
    context.finish().as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 3414 section A.3.2.
    #[test]
    fn a_password_becomes_the_key_of_the_example() {
        let key = master(SnmpAuth::Sha1, &Secret::from_bytes(b"maplesyrup".to_vec()));
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(key.expose()), "9fb5cc0381497b3793528939ff788d5d79145211");
        let engine = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
        assert_eq!(hex(&localized(SnmpAuth::Sha1, &key, &engine)), "6695febc9288e36282235fc7151f128497b38f3f");
    }

    #[test]
    fn what_is_encrypted_is_read_again_and_what_is_changed_is_noticed() {
        let password = Secret::from_bytes(b"correct horse".to_vec());
        for auth in [SnmpAuth::Sha1, SnmpAuth::Sha224, SnmpAuth::Sha256, SnmpAuth::Sha384, SnmpAuth::Sha512] {
            let master = master(auth, &password);
            let keys = Keys::new(auth, &master, Some(&master), b"engine-1");
            let secret = keys.encrypt(b"hello, this is longer than a block", 7, 9, [1; 8]).unwrap();
            assert_eq!(keys.decrypt(&secret, 7, 9, [1; 8]).as_deref(), Some(&b"hello, this is longer than a block"[..]));
            assert_ne!(keys.decrypt(&secret, 8, 9, [1; 8]), keys.decrypt(&secret, 7, 9, [1; 8]));
            let signature = keys.sign(&secret);
            assert_eq!(signature.len(), keys.signature_length());
            assert!(keys.verify(&secret, &signature) && !keys.verify(&secret[1..], &signature) && !keys.verify(&secret, &signature[1..]));
        }
    }
}
