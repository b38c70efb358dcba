//! The PDUs of SMPP 3.4 that a sender of short messages needs. Pure.
//!
//! ```text
//!   0        4        8        12         16
//!   | length | command | status | sequence | body ...        all numbers big-endian; strings end with a zero byte
//! ```

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

/// Bytes of the head.
pub(super) const HEAD: usize = 16;
/// The largest PDU that is read; a centre answers with far less.
pub(super) const LENGTH_MAX: usize = 64 * 1024;
/// SMPP 3.4, as it says which it is.
const VERSION: u8 = 0x34;

/// What a PDU is (section 5.1.2.1).
pub(super) mod command {
    pub(in super::super) const GENERIC_NACK: u32 = 0x8000_0000;
    pub(in super::super) const BIND_TRANSMITTER: u32 = 0x02;
    pub(in super::super) const SUBMIT: u32 = 0x04;
    pub(in super::super) const UNBIND: u32 = 0x06;
    pub(in super::super) const ENQUIRE_LINK: u32 = 0x15;
    pub(in super::super) const RESPONSE: u32 = 0x8000_0000;
}

/// How a text is written (section 5.2.19).
pub(super) const DEFAULT_ALPHABET: u8 = 0;
pub(super) const UCS2: u8 = 8;
/// In the message there is a header, before the text (section 5.2.12).
const HAS_HEADER: u8 = 0x40;

/// A PDU that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pdu {
    pub(super) command: u32,
    pub(super) status: u32,
    pub(super) sequence: u32,
    pub(super) body: Vec<u8>,
}

/// A message for one number.
#[derive(Debug)]
pub(super) struct Submit<'a> {
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    pub(super) coding: u8,
    /// Of several: a number that is the same for all, how many there are, which this is.
    pub(super) part: Option<(u8, u8, u8)>,
    pub(super) text: &'a [u8],
}

pub(super) fn encode(command: u32, status: u32, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEAD + body.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(HEAD + body.len());
    [length, command, status, sequence].iter().for_each(|number| out.extend(number.to_be_bytes()));
    out.extend(body);
    out
}

/// Section 4.1.1.
pub(super) fn bind(user: &str, password: &[u8], system_type: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for text in [user.as_bytes(), password, system_type.as_bytes()] {
        string(&mut body, text);
    }
    // No type of number, no plan, no range of addresses: nothing is received.
    body.extend([VERSION, 0, 0, 0]);
    body
}

/// Section 4.4.1.
pub(super) fn submit(submit: &Submit<'_>) -> Vec<u8> {
    let Submit { from, to, coding, part, text } = submit;
    let mut body = Vec::new();
    string(&mut body, b"");
    for number in [from, to] {
        let (kind, plan, digits) = number_of(number);
        body.extend([kind, plan]);
        string(&mut body, digits.as_bytes());
    }
    // A header (3GPP TS 23.040 section 9.2.3.24.1): its length, "one of several", its length, then the three numbers.
    let header = part.map_or(Vec::new(), |(reference, count, number)| vec![5, 0, 3, reference, count, number]);
    // esm_class, protocol, priority, when (now), how long (as usual), no receipt, no replacement, coding, no canned message.
    body.extend([if header.is_empty() { 0 } else { HAS_HEADER }, 0, 0, 0, 0, 0, 0, *coding, 0]);
    body.push(u8::try_from(header.len() + text.len()).unwrap_or(u8::MAX));
    body.extend(header);
    body.extend(*text);
    body
}

/// Type of number, plan, and the number itself (sections 5.2.5 and 5.2.6).
fn number_of(text: &str) -> (u8, u8, &str) {
    match text.strip_prefix('+') {
        // International, ISDN.
        Some(digits) => (1, 1, digits),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => (0, 1, text),
        // A name.
        None => (5, 0, text),
    }
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    // A zero byte would end it.
    out.extend(text.iter().filter(|byte| **byte != 0));
    out.push(0);
}

/// How long the PDU is that begins so; `None`: nothing that could be one.
pub(super) fn length(head: [u8; 4]) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(head)).ok().filter(|length| (HEAD..=LENGTH_MAX).contains(length))
}

/// Reads one whole PDU.
pub(super) fn read(bytes: &[u8]) -> Option<Pdu> {
    let (head, body) = bytes.split_first_chunk::<HEAD>()?;
    let (numbers, []) = head.as_chunks::<4>() else { return None };
    let [first, command, status, sequence] = [0, 1, 2, 3].map(|at| u32::from_be_bytes(numbers[at]));
    if length(first.to_be_bytes()) != Some(bytes.len()) {
        return None;
    }
    Some(Pdu { command, status, sequence, body: body.to_vec() })
}

impl Pdu {
    /// The string at the beginning of the body.
    pub(super) fn text(&self) -> String {
        let end = self.body.iter().position(|byte| *byte == 0).unwrap_or(self.body.len());
        String::from_utf8_lossy(&self.body[..end.min(100)]).into_owned()
    }
}

/// What a status means, and whether it may pass (section 5.1.3).
pub(super) fn status(status: u32) -> (&'static str, bool) {
    match status {
        0x01 => ("the message is too long", false),
        0x03 => ("it does not know the command", false),
        0x04 => ("not in this state of the connection", true),
        0x05 => ("somebody is bound with this name already", true),
        0x08 => ("it has an error of its own", true),
        0x0a => ("the sender is not one that it takes", false),
        0x0b => ("the number is not one that it takes", false),
        0x0d => ("the bind failed", false),
        0x0e => ("the password is wrong", false),
        0x0f => ("it does not know the name", false),
        0x14 => ("its queue is full", true),
        0x45 => ("the submission failed", true),
        0x53 => ("it does not know the system type", false),
        0x58 => ("too many messages at once", true),
        0x65 => ("the receiver has an error that may pass", true),
        0x66 => ("the receiver has an error that stays", false),
        _ => ("for a reason that only it knows", false),
    }
}

/// The body of the fuzz target.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    if let Some(pdu) = read(bytes) {
        assert_eq!(encode(pdu.command, pdu.status, pdu.sequence, &pdu.body), bytes);
        let _ = pdu.text();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_as_the_specification_shows_it() {
        // Section 3.2.3 shows this one with another command.
        let bytes = encode(command::BIND_TRANSMITTER, 0, 1, &bind("SMPP3TEST", b"secret08", "SUBMIT1"));
        let want: &[u8] = b"\0\0\0\x2f\0\0\0\x02\0\0\0\0\0\0\0\x01SMPP3TEST\0secret08\0SUBMIT1\0\x34\0\0\0";
        assert_eq!(bytes, want);
        assert_eq!(read(&bytes).map(|pdu| pdu.text()).as_deref(), Some("SMPP3TEST"));
    }

    #[test]
    fn only_whole_pdus_are_read() {
        let good = encode(command::UNBIND, 0, 7, b"");
        assert!(read(&good).is_some() && read(&good[..15]).is_none() && read(&[&good[..], &[0]].concat()).is_none());
        for (head, want) in [([0, 0, 0, 16], Some(16)), ([0, 0, 0, 15], None), ([0, 1, 0, 1], None), ([255; 4], None)] {
            assert_eq!(length(head), want);
        }
    }

    #[test]
    fn numbers_and_names_have_types() {
        assert_eq!(number_of("+15550123"), (1, 1, "15550123"));
        assert_eq!(number_of("112"), (0, 1, "112"));
        assert_eq!(number_of("weir"), (5, 0, "weir"));
    }
}
