//! Messages of SNMP, version 2c (RFC 3416, 1901) and 3 (RFC 3412, 3414): those that we send, and what can be answered. Pure.
//!
//! ```text
//!   version 2c   SEQUENCE { 1, community, PDU }
//!   version 3    SEQUENCE { 3, SEQUENCE { id, size, flags, model }, OCTETS( security ), scoped PDU or its ciphertext }
//! ```

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use super::ber::{self, INTEGER, OCTETS, Reader, SEQUENCE};
use super::usm::Keys;

/// What a PDU asks for.
const GET: u8 = 0xa0;
const RESPONSE: u8 = 0xa2;
pub(super) const INFORM: u8 = 0xa6;
pub(super) const TRAP: u8 = 0xa7;
const REPORT: u8 = 0xa8;
/// The largest message that we could take.
const SIZE_MAX: i32 = 65_507;
/// The user-based security model.
const USM: i32 = 3;
const AUTH: u8 = 1;
const PRIVACY: u8 = 2;
const REPORTABLE: u8 = 4;
/// Names of what an engine counts when it does not take a message (RFC 3414 section 5), without the last two arcs.
const USM_STATS: [u32; 9] = [1, 3, 6, 1, 6, 3, 15, 1, 1];

/// A PDU with these encoded variables.
pub(super) fn pdu(kind: u8, request: i32, variables: &[u8]) -> Vec<u8> {
    ber::tlv(kind, &[&ber::integer(request), &ber::integer(0), &ber::integer(0), &ber::tlv(SEQUENCE, &[variables])])
}

/// A message of version 2c.
pub(super) fn version_2c(community: &[u8], pdu: &[u8]) -> Vec<u8> {
    ber::tlv(SEQUENCE, &[&ber::integer(1), &ber::octets(community), pdu])
}

/// Whose clock counts, and how it stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Engine {
    pub(super) id: Vec<u8>,
    pub(super) boots: i32,
    pub(super) time: i32,
}

/// A message of version 3.
pub(super) struct Version3<'a> {
    pub(super) id: i32,
    pub(super) engine: &'a Engine,
    pub(super) user: &'a str,
    pub(super) keys: Option<&'a Keys>,
    /// Differs for each message that is encrypted with the same key.
    pub(super) salt: [u8; 8],
    /// Whether it is to be answered.
    pub(super) is_reportable: bool,
    pub(super) pdu: &'a [u8],
}

impl Version3<'_> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let Version3 { id, engine, user, keys, salt, is_reportable, pdu } = self;
        let scoped = ber::tlv(SEQUENCE, &[&ber::octets(&engine.id), &ber::octets(b""), pdu]);
        let encrypted = keys.and_then(|keys| keys.encrypt(&scoped, engine.boots, engine.time, *salt));
        let mut flags = if *is_reportable { REPORTABLE } else { 0 };
        if keys.is_some() {
            flags |= AUTH;
        }
        if encrypted.is_some() {
            flags |= PRIVACY;
        }
        let header = ber::tlv(SEQUENCE, &[&ber::integer(*id), &ber::integer(SIZE_MAX), &ber::octets(&[flags]), &ber::integer(USM)]);
        let salt = if encrypted.is_some() { &salt[..] } else { &[] };
        let data = encrypted.map_or(scoped, |bytes| ber::octets(&bytes));
        let whole = |signature: &[u8]| {
            let security = ber::tlv(
                SEQUENCE,
                &[
                    &ber::octets(&engine.id),
                    &ber::integer(engine.boots),
                    &ber::integer(engine.time),
                    &ber::octets(user.as_bytes()),
                    &ber::octets(signature),
                    &ber::octets(salt),
                ],
            );
            ber::tlv(SEQUENCE, &[&ber::integer(3), &header, &ber::octets(&security), &data])
        };
        match keys {
            None => whole(&[]),
            // It is made over the message with zeros in its place.
            Some(keys) => whole(&keys.sign(&whole(&vec![0; keys.signature_length()]))),
        }
    }
}

/// What asks an engine for its id (RFC 3414 section 4).
pub(super) fn discovery(id: i32) -> Vec<u8> {
    let engine = Engine::default();
    let pdu = pdu(GET, id, &[]);
    Version3 { id, engine: &engine, user: "", keys: None, salt: [0; 8], is_reportable: true, pdu: &pdu }.encode()
}

/// What came back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    /// Of version 3: the number of the message, and whose clock counts.
    pub(super) version_3: Option<(i32, Engine)>,
    /// Of version 3: it is signed with our keys.
    pub(super) is_signed: bool,
    /// Response or report.
    pub(super) what: What,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// The receiver took it, or says why not: request and error status.
    Response(i32, i32),
    /// The engine did not even look at it.
    Report(Trouble),
}

/// Why an engine does not take a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    SecurityLevel,
    NotInTimeWindow,
    User,
    EngineId,
    Digest,
    Decryption,
    Other,
}

impl Trouble {
    /// In words for the operator.
    pub(super) fn words(self) -> &'static str {
        match self {
            Trouble::SecurityLevel => {
                "it does not take messages that are signed and encrypted so; compare `auth` and the passwords that are set"
            }
            Trouble::NotInTimeWindow => "its clock and what we know of it differ",
            Trouble::User => "it does not know the user",
            Trouble::EngineId => "it is not the engine that it was",
            Trouble::Digest => "the signature is wrong; compare `auth` and its password",
            Trouble::Decryption => "it cannot decrypt; compare the password of privacy",
            Trouble::Other => "it reports trouble that we do not know",
        }
    }
}

/// Reads an answer. `keys`: with which one of version 3 is checked and decrypted. `None`: it is none, or not for us.
pub(super) fn read(bytes: &[u8], keys: Option<&Keys>) -> Option<Answer> {
    let mut message = Reader(bytes).inside(SEQUENCE)?;
    match message.integer()? {
        1 => {
            message.take(OCTETS)?;
            Some(Answer { version_3: None, is_signed: false, what: read_pdu(&mut message)? })
        }
        3 => read_3(bytes, message, keys),
        _ => None,
    }
}

fn read_3(bytes: &[u8], mut message: Reader<'_>, keys: Option<&Keys>) -> Option<Answer> {
    let mut header = message.inside(SEQUENCE)?;
    let id = header.integer()?;
    header.integer()?;
    let [flags] = header.take(OCTETS)? else { return None };
    if header.integer()? != USM {
        return None;
    }
    let mut security = message.inside(OCTETS)?.inside(SEQUENCE)?;
    let engine = Engine { id: security.take(OCTETS)?.to_vec(), boots: security.integer()?, time: security.integer()? };
    security.take(OCTETS)?;
    let signature = security.take(OCTETS)?;
    let salt = security.take(OCTETS)?;
    let is_signed = flags & AUTH != 0 && keys.is_some_and(|keys| is_signed(bytes, signature, keys));
    let decrypted;
    let mut data = message;
    if flags & PRIVACY != 0 {
        // What is encrypted is signed, too.
        let keys = keys.filter(|_| is_signed)?;
        decrypted = keys.decrypt(message.take(OCTETS)?, engine.boots, engine.time, salt.try_into().ok()?)?;
        data = Reader(&decrypted);
    }
    let mut scoped = data.inside(SEQUENCE)?;
    scoped.take(OCTETS)?;
    scoped.take(OCTETS)?;
    Some(Answer { version_3: Some((id, engine)), is_signed, what: read_pdu(&mut scoped)? })
}

/// Whether the signature, which is a part of the message, is right.
fn is_signed(bytes: &[u8], signature: &[u8], keys: &Keys) -> bool {
    if signature.len() != keys.signature_length() {
        return false;
    }
    // It was cut out of the message, so the distance of both is where it is.
    let at = (signature.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
    let mut unsigned = bytes.to_vec();
    let Some(place) = unsigned.get_mut(at..at.saturating_add(signature.len())) else { return false };
    place.fill(0);
    keys.verify(&unsigned, signature)
}

fn read_pdu(reader: &mut Reader<'_>) -> Option<What> {
    let (kind, content) = reader.any()?;
    let mut pdu = Reader(content);
    let (request, status) = (pdu.integer()?, pdu.integer()?);
    pdu.take(INTEGER)?;
    let mut variables = pdu.inside(SEQUENCE)?;
    match kind {
        RESPONSE => Some(What::Response(request, status)),
        REPORT => {
            let name = variables.inside(SEQUENCE)?.oid()?;
            let trouble = match name.strip_prefix(&USM_STATS[..]) {
                Some([1, 0]) => Trouble::SecurityLevel,
                Some([2, 0]) => Trouble::NotInTimeWindow,
                Some([3, 0]) => Trouble::User,
                Some([4, 0]) => Trouble::EngineId,
                Some([5, 0]) => Trouble::Digest,
                Some([6, 0]) => Trouble::Decryption,
                _ => Trouble::Other,
            };
            Some(What::Report(trouble))
        }
        _ => None,
    }
}

/// The body of the fuzz target: any bytes at all are read or not, with keys and without.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    use weir_config::SnmpAuth;

    let master = crate::secret::Secret::from_bytes(vec![7; 32]);
    let keys = Keys::new(SnmpAuth::Sha256, &master, Some(&master), b"engine");
    for keys in [None, Some(&keys)] {
        if let Some(answer) = read(bytes, keys) {
            assert!(keys.is_some() || !answer.is_signed);
            assert!(answer.version_3.is_some() || !answer.is_signed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::usm::master;
    use super::*;
    use crate::secret::Secret;
    use weir_config::SnmpAuth;

    fn keys(password: &[u8]) -> Keys {
        let master = master(SnmpAuth::Sha256, &Secret::from_bytes(password.to_vec()));
        Keys::new(SnmpAuth::Sha256, &master, Some(&master), b"engine")
    }

    fn answer(keys: Option<&Keys>, kind: u8) -> Vec<u8> {
        let engine = Engine { id: b"engine".to_vec(), boots: 3, time: 77 };
        let name: Vec<u32> = USM_STATS.iter().copied().chain([2, 0]).collect();
        let pdu = pdu(kind, 5, &ber::tlv(SEQUENCE, &[&ber::oid(&name), &ber::gauge(1)]));
        Version3 { id: 9, engine: &engine, user: "weir", keys, salt: [4; 8], is_reportable: false, pdu: &pdu }.encode()
    }

    #[test]
    fn what_is_written_is_read() {
        let keys = keys(b"correct horse");
        let read_back = read(&answer(Some(&keys), RESPONSE), Some(&keys)).unwrap();
        assert!(read_back.is_signed);
        assert_eq!(read_back.what, What::Response(5, 0));
        assert_eq!(read_back.version_3, Some((9, Engine { id: b"engine".to_vec(), boots: 3, time: 77 })));
        let plain = read(&answer(None, REPORT), Some(&keys)).unwrap();
        assert_eq!((plain.is_signed, plain.what), (false, What::Report(Trouble::NotInTimeWindow)));
        let response = version_2c(b"public", &pdu(RESPONSE, 6, &[]));
        assert_eq!(read(&response, None).unwrap().what, What::Response(6, 0));
    }

    #[test]
    fn nothing_of_others_is_taken_for_signed() {
        let (ours, theirs) = (keys(b"correct horse"), keys(b"wrong horse!"));
        assert_eq!(read(&answer(Some(&theirs), RESPONSE), Some(&ours)), None);
        let good = answer(Some(&ours), RESPONSE);
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert!(read(&changed, Some(&ours)).is_none_or(|answer| !answer.is_signed), "byte {at}");
            assert_eq!(read(&good[..at], Some(&ours)), None);
        }
    }
}
