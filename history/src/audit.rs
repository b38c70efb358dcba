//! The audit: who or what changed which thing, and from where. A chain of hashes, so that a record that was changed, removed or put in
//! between is found.
//!
//! ```text
//!   hash(n) = SHA-256( "weir audit 1" | hash(n-1) | n | at | each text with its length before it )
//! ```
//!
//! Who can write the file can also write a whole new chain. Against that helps a head that was noted elsewhere: [`Verifier`] says whether it
//! is still in the chain.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::UnixMs;

/// What a hash is begun with; another layout gets another number.
const PREFIX: &[u8] = b"weir audit 1";

/// SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = String;

    fn from_str(text: &str) -> Result<Hash, String> {
        let wrong = || format!("{text:?} is not a hash: 64 hexadecimal digits");
        let bytes = text.as_bytes();
        if bytes.len() != 64 || !bytes.iter().all(u8::is_ascii_hexdigit) {
            return Err(wrong());
        }
        let mut hash = Hash::default();
        for (byte, digits) in hash.0.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(hash)
    }
}

/// A change, or the try of one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Act {
    /// When.
    pub at: UnixMs,
    /// Who or what: `alice@ops-1`, `scaling`.
    pub who: String,
    /// From where: an address, `node`.
    pub origin: String,
    /// What was done: `POST /v1/reload`, `remove machine`.
    pub act: String,
    /// Which thing: a pool, a machine.
    pub subject: String,
    /// What came of it: `done`, or why not.
    pub outcome: String,
    /// Details, such as what was asked for.
    pub detail: String,
}

/// Where a chain ends; at first nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Head {
    /// Number of the last record; the first is 1.
    pub number: u64,
    /// Its hash.
    pub hash: Hash,
}

/// A record of the chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// One more than that of the record before.
    pub number: u64,
    /// What was done.
    pub act: Act,
    /// Over this record and the hash before.
    pub hash: Hash,
}

impl Head {
    /// The next record.
    pub fn seal(&self, act: Act) -> Sealed {
        let number = self.number + 1;
        let mut digest = Sha256::new_with_prefix(PREFIX);
        digest.update(self.hash.0);
        digest.update(number.to_be_bytes());
        digest.update(act.at.0.to_be_bytes());
        let Act { at: _, who, origin, act: verb, subject, outcome, detail } = &act;
        for text in [who, origin, verb, subject, outcome, detail] {
            digest.update((text.len() as u64).to_be_bytes());
            digest.update(text.as_bytes());
        }
        Sealed { number, hash: Hash(digest.finalize().into()), act }
    }
}

impl Sealed {
    /// Where the chain ends with it.
    pub fn head(&self) -> Head {
        Head { number: self.number, hash: self.hash }
    }
}

/// What is wrong with a chain.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Broken {
    /// A record is not there.
    #[error("record {expected} is missing: {found} comes after {}", expected - 1)]
    Missing {
        /// Which.
        expected: u64,
        /// What is there instead.
        found: u64,
    },
    /// A record is not what it was.
    #[error("record {0} was changed after it was written, or one before it")]
    Altered(u64),
    /// The end is gone.
    #[error("the chain ends with record {found}, but record {expected} was written")]
    CutOff {
        /// The last that was written.
        expected: u64,
        /// The last that is there.
        found: u64,
    },
    /// The last record is another one than that which was written last.
    #[error("record {0}, the last one, is another than the one that was written")]
    Replaced(u64),
    /// A head that was noted elsewhere is not part of the chain.
    #[error("record {0} does not have the hash that was noted: the chain was written anew")]
    Rewritten(u64),
}

/// Goes along a chain.
#[derive(Clone, Debug)]
pub struct Verifier {
    /// What was last seen.
    pub head: Head,
    /// Noted elsewhere, and still to be met.
    noted: Option<Head>,
    /// Records that were looked at.
    pub checked: u64,
}

impl Verifier {
    /// Begins behind `anchor`: the last record that was forgotten in order. `noted`: a head that must be met.
    pub fn new(anchor: Head, noted: Option<Head>) -> Verifier {
        // What was forgotten in order can no longer be compared, but for the last of it.
        let noted = noted.filter(|noted| noted.number >= anchor.number.max(1));
        Verifier { head: anchor, noted, checked: 0 }
    }

    /// The next record.
    pub fn check(&mut self, sealed: &Sealed) -> Result<(), Broken> {
        self.meet_noted()?;
        if sealed.number != self.head.number + 1 {
            return Err(Broken::Missing { expected: self.head.number + 1, found: sealed.number });
        }
        if self.head.seal(sealed.act.clone()).hash != sealed.hash {
            return Err(Broken::Altered(sealed.number));
        }
        self.head = sealed.head();
        self.checked += 1;
        self.meet_noted()
    }

    /// There are no more; `written`: the last that was written, as it is kept apart from the chain.
    pub fn finish(self, written: Head) -> Result<Head, Broken> {
        if self.head.number < written.number {
            return Err(Broken::CutOff { expected: written.number, found: self.head.number });
        }
        if self.head != written {
            return Err(Broken::Replaced(self.head.number));
        }
        match self.noted {
            Some(noted) if noted.number > self.head.number => Err(Broken::CutOff { expected: noted.number, found: self.head.number }),
            _ => Ok(self.head),
        }
    }

    fn meet_noted(&self) -> Result<(), Broken> {
        match self.noted {
            Some(noted) if noted.number == self.head.number && noted.hash != self.head.hash => Err(Broken::Rewritten(noted.number)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(number: u64) -> Act {
        let text = |what: &str| format!("{what} {number}");
        Act {
            at: UnixMs(1000 * number),
            who: text("who"),
            origin: text("from"),
            act: text("act"),
            subject: text("subject"),
            outcome: "done".into(),
            detail: String::new(),
        }
    }

    fn chain(length: u64) -> Vec<Sealed> {
        let mut head = Head::default();
        let next = |number| {
            let sealed = head.seal(act(number));
            head = sealed.head();
            sealed
        };
        (1..=length).map(next).collect()
    }

    fn verify(anchor: Head, chain: &[Sealed], written: Head, noted: Option<Head>) -> Result<Head, Broken> {
        let mut verifier = Verifier::new(anchor, noted);
        chain.iter().try_for_each(|sealed| verifier.check(sealed))?;
        verifier.finish(written)
    }

    #[test]
    fn a_whole_chain_holds_and_each_change_breaks_it() {
        let good = chain(5);
        let head = good[4].head();
        assert_eq!(verify(Head::default(), &good, head, None), Ok(head));
        assert_eq!(verify(Head::default(), &[], Head::default(), None), Ok(Head::default()));
        let fields: [fn(&mut Act) -> &mut String; 6] =
            [|a| &mut a.who, |a| &mut a.origin, |a| &mut a.act, |a| &mut a.subject, |a| &mut a.outcome, |a| &mut a.detail];
        for field in fields {
            let mut bad = good.clone();
            field(&mut bad[2].act).push('x');
            assert_eq!(verify(Head::default(), &bad, head, None), Err(Broken::Altered(3)));
        }
        let mut bad = good.clone();
        bad[1].act.at = UnixMs(7);
        assert_eq!(verify(Head::default(), &bad, head, None), Err(Broken::Altered(2)));
        // A text that moves from one field to the next is another record.
        let mut bad = good.clone();
        (bad[0].act.who, bad[0].act.origin) = (String::new(), format!("{}{}", bad[0].act.who, bad[0].act.origin));
        assert_eq!(verify(Head::default(), &bad, head, None), Err(Broken::Altered(1)));
        let mut bad = good.clone();
        bad.remove(2);
        assert_eq!(verify(Head::default(), &bad, head, None), Err(Broken::Missing { expected: 3, found: 4 }));
        let mut bad = good.clone();
        bad.swap(2, 3);
        assert_eq!(verify(Head::default(), &bad, head, None), Err(Broken::Missing { expected: 3, found: 4 }));
        assert_eq!(verify(Head::default(), &good[..3], head, None), Err(Broken::CutOff { expected: 5, found: 3 }));
    }

    #[test]
    fn what_was_forgotten_in_order_is_not_missed() {
        let good = chain(5);
        let head = good[4].head();
        assert_eq!(verify(good[1].head(), &good[2..], head, None), Ok(head));
        assert_eq!(verify(good[1].head(), &good[3..], head, None), Err(Broken::Missing { expected: 3, found: 4 }));
    }

    #[test]
    fn a_chain_that_was_written_anew_is_found_by_a_head_that_was_noted() {
        let good = chain(5);
        let mut head = Head::default();
        let forged: Vec<Sealed> = (1..=5)
            .map(|number| {
                let sealed = head.seal(Act { who: "nobody".into(), ..act(number) });
                head = sealed.head();
                sealed
            })
            .collect();
        assert_eq!(verify(Head::default(), &forged, head, None), Ok(head), "alone it looks well");
        for noted in [&good[0], &good[2], &good[4]] {
            let noted = noted.head();
            assert_eq!(verify(Head::default(), &forged, head, Some(noted)), Err(Broken::Rewritten(noted.number)));
            assert!(verify(Head::default(), &good, good[4].head(), Some(noted)).is_ok());
        }
        let short = verify(Head::default(), &good[..2], good[1].head(), Some(good[4].head()));
        assert_eq!(short, Err(Broken::CutOff { expected: 5, found: 2 }));
        assert_eq!(verify(good[1].head(), &good[2..], good[4].head(), Some(forged[0].head())), Ok(good[4].head()), "too old to compare");
    }

    #[test]
    fn hashes_are_read_as_they_are_written() {
        let hash = chain(1)[0].hash;
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for wrong in ["", "00", &"g".repeat(64), &"0".repeat(63), &"é".repeat(32)] {
            assert!(wrong.parse::<Hash>().is_err(), "{wrong}");
        }
    }
}
