//! Session tickets: what a client keeps for us, sealed with keys that change and that a binary upgrade hands on.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, MAX_TAG_LEN, NONCE_LEN, Nonce, RandomizedNonceKey};
use rustls::server::ProducesTickets;
use serde::{Deserialize, Serialize};

/// A key seals for so long, in seconds.
const SEALS_S: u64 = 3600;
/// A key opens what it sealed for so long after it was made, in seconds.
const OPENS_S: u64 = 3 * SEALS_S;
/// What clients are told: a ticket sealed at the last moment of its key can be opened for so long, in seconds.
const LIFETIME_S: u32 = (OPENS_S - SEALS_S) as u32;

const ID_LEN: usize = 16;

/// A key for another process of this node. Never written to disk; its secret is not printed.
#[derive(Clone, Serialize, Deserialize)]
pub struct SavedTicketKey {
    id: [u8; ID_LEN],
    made_s: u64,
    secret: [u8; 32],
}

impl fmt::Debug for SavedTicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SavedTicketKey").field("made_s", &self.made_s).finish_non_exhaustive()
    }
}

struct Key {
    saved: SavedTicketKey,
    cipher: RandomizedNonceKey,
}

impl Key {
    fn new(saved: SavedTicketKey) -> Key {
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, &saved.secret).expect("a secret of 32 bytes is a key of AES-256");
        Key { saved, cipher }
    }

    fn make(now_s: u64) -> Key {
        let mut saved = SavedTicketKey { id: [0; ID_LEN], made_s: now_s, secret: [0; 32] };
        let filled = aws_lc_rs::rand::fill(&mut saved.id).and_then(|()| aws_lc_rs::rand::fill(&mut saved.secret));
        filled.expect("the system has randomness");
        Key::new(saved)
    }
}

/// The node's keys, the newest first.
pub(crate) struct TicketKeys(ArcSwap<Vec<Arc<Key>>>);

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKeys({})", self.0.load().len())
    }
}

impl TicketKeys {
    /// With those of the process before.
    pub(crate) fn new(saved: Vec<SavedTicketKey>, now_s: u64) -> TicketKeys {
        let mut keys: Vec<Arc<Key>> = saved.into_iter().map(|saved| Arc::new(Key::new(saved))).collect();
        keys.sort_by_key(|key| std::cmp::Reverse(key.saved.made_s));
        let keys = TicketKeys(ArcSwap::from_pointee(keys));
        keys.rotate(now_s);
        keys
    }

    /// Makes a new key when it is time, and forgets the old ones. A clock that was set back counts as time.
    pub(crate) fn rotate(&self, now_s: u64) {
        let keys = self.0.load();
        let fresh = |key: &Key, for_s: u64| key.saved.made_s <= now_s && now_s - key.saved.made_s < for_s;
        if keys.first().is_some_and(|key| fresh(key, SEALS_S)) {
            return;
        }
        let mut renewed = vec![Arc::new(Key::make(now_s))];
        renewed.extend(keys.iter().filter(|key| fresh(key, OPENS_S)).cloned());
        self.0.store(Arc::new(renewed));
    }

    /// For another process.
    pub(crate) fn save(&self) -> Vec<SavedTicketKey> {
        self.0.load().iter().map(|key| key.saved.clone()).collect()
    }
}

/// Seals the sessions of one listener: a ticket is opened only where, and as long as, the same clients are let in.
pub(crate) struct Ticketer {
    pub(crate) keys: Arc<TicketKeys>,
    /// A digest of the listener and of what it demands of clients.
    pub(crate) scope: [u8; 32],
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticketer").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_S
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.0.load();
        let key = keys.first()?;
        let mut sealed = Vec::with_capacity(plain.len() + MAX_TAG_LEN);
        sealed.extend_from_slice(plain);
        let nonce = key.cipher.seal_in_place_append_tag(Aad::from(self.scope), &mut sealed).ok()?;
        let mut ticket = Vec::with_capacity(ID_LEN + NONCE_LEN + sealed.len());
        ticket.extend_from_slice(&key.saved.id);
        ticket.extend_from_slice(nonce.as_ref());
        ticket.extend_from_slice(&sealed);
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (id, rest) = ticket.split_at_checked(ID_LEN)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let keys = self.keys.0.load();
        let key = keys.iter().find(|key| key.saved.id == id)?;
        let mut plain = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let length = key.cipher.open_in_place(nonce, Aad::from(self.scope), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticketer(keys: &Arc<TicketKeys>, scope: u8) -> Ticketer {
        Ticketer { keys: Arc::clone(keys), scope: [scope; 32] }
    }

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let keys = Arc::new(TicketKeys::new(Vec::new(), 1000));
        let ours = ticketer(&keys, 1);
        let ticket = ours.encrypt(b"session").expect("sealed");
        assert_eq!(ours.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(ticketer(&keys, 2).decrypt(&ticket), None, "another listener");
        for at in 0..ticket.len() {
            let mut bent = ticket.clone();
            bent[at] ^= 1;
            assert_eq!(ours.decrypt(&bent), None, "byte {at}");
            assert_eq!(ours.decrypt(&ticket[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn keys_change_overlap_and_end() {
        let keys = Arc::new(TicketKeys::new(Vec::new(), 1000));
        let ours = ticketer(&keys, 1);
        let ticket = ours.encrypt(b"session").expect("sealed");
        keys.rotate(1000 + SEALS_S - 1);
        assert_eq!(keys.save().len(), 1);
        keys.rotate(1000 + SEALS_S);
        assert_eq!(keys.save().len(), 2);
        assert!(ours.decrypt(&ticket).is_some());
        keys.rotate(1000 + 2 * SEALS_S);
        keys.rotate(1000 + 3 * SEALS_S);
        assert_eq!(ours.decrypt(&ticket), None);
        assert_eq!(keys.save().len(), 3);
    }

    #[test]
    fn the_next_process_opens_them_and_nothing_prints_the_secret() {
        let keys = Arc::new(TicketKeys::new(Vec::new(), 1000));
        let ticket = ticketer(&keys, 1).encrypt(b"session").expect("sealed");
        let saved = keys.save();
        let words = format!("{saved:?} {keys:?}");
        assert_eq!(words, "[SavedTicketKey { made_s: 1000, .. }] TicketKeys(1)");
        let json = serde_json::to_string(&saved).expect("plain numbers");
        let handed: Vec<SavedTicketKey> = serde_json::from_str(&json).expect("what was written");
        let next = Arc::new(TicketKeys::new(handed, 1001));
        assert!(ticketer(&next, 1).decrypt(&ticket).is_some());
        assert_eq!(next.save().len(), 1, "it goes on with the same key");
    }
}
