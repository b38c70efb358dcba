//! How a request is signed, as the specification "Standard Webhooks" (version 1) says: HMAC-SHA256 of its id, its time and its body. Whoever
//! has a library for that needs no code of ours. Pure.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::super::{Fault, base64};
use crate::secret::Secret;

/// How secrets of such libraries begin; what follows is base64.
const PREFIX: &[u8] = b"whsec_";

/// The fields that say when it was signed and with what result. The field with the id is sent with every request.
pub(super) fn headers(secret: &Secret, id: &str, now_s: u64, body: &str) -> Result<[(&'static str, String); 2], Fault> {
    let key = match secret.expose().strip_prefix(PREFIX) {
        None => secret.expose().to_vec(),
        Some(encoded) => {
            let wrong = || Fault::permanent("what the webhook is signed with begins with whsec_, but is not followed by base64");
            decode(encoded).filter(|key| !key.is_empty()).ok_or_else(wrong)?
        }
    };
    let key = Secret::from_bytes(key);
    let mut hmac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes a key of any length");
    hmac.update(format!("{id}.{now_s}.{body}").as_bytes());
    let signature = base64(&hmac.finalize().into_bytes());
    Ok([("webhook-timestamp", now_s.to_string()), ("webhook-signature", format!("v1,{signature}"))])
}

/// Base64, with or without padding.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    let (mut out, mut group, mut bits) = (Vec::with_capacity(text.len() * 3 / 4), 0_u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        group = (group << 6 | u32::from(value)) & 0xff_ffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((group >> bits & 0xff) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn as_the_specification_shows_it() {
        let secret = Secret::from_bytes(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_vec());
        let signed = headers(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}").unwrap();
        assert_eq!(signed[1].1, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(headers(&Secret::from_bytes(b"whsec_%%".to_vec()), "", 0, "").is_err());
        assert!(headers(&Secret::from_bytes(b"any bytes".to_vec()), "", 0, "").is_ok());
    }

    #[test]
    fn base64_is_read_back() {
        for length in 0..70 {
            let bytes: Vec<u8> = (0..length).map(|byte| byte * 37).collect();
            assert_eq!(decode(base64(&bytes).as_bytes()).as_deref(), Some(&bytes[..]));
        }
    }
}
