//! Who may ask what: tokens with their roles, and sessions that pages have instead of a token.
//!
//! Only digests are kept, of tokens as of sessions, so that nothing can be printed by mistake and comparing leaks not even a length. Sessions
//! live in memory: they end with a restart, and with a change of `[api]`, so that a token that was taken away opens nothing any more. An upgrade
//! gives them to the next process, digests as they are.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use weir_config::{Api, Role};

use super::guard::Token;
use super::session::hex;

/// Sessions at once; the one that was not used for the longest time makes room.
const SESSIONS_MAX: usize = 1000;

/// A session that nobody uses for so long is over.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(12 * 3600);

/// A session is over after this time in any case: people sign in once a week.
const AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Somebody who may ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Who {
    /// The name of the token; `None`: the node asks for none, or it is the one of `token_file`.
    pub name: Option<Arc<str>>,
    /// What they may.
    pub role: Role,
    /// By a session, which a browser sends by itself.
    pub session: bool,
}

impl Who {
    /// Whoever asks a node that asks nobody.
    pub(super) const ANYBODY: Who = Who { name: None, role: Role::Admin, session: false };
}

/// The tokens.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Access {
    file: Option<(PathBuf, Token)>,
    named: Vec<(Arc<str>, Role, Token)>,
    certificates: bool,
}

impl Access {
    /// What the file wants. Reads the token file.
    pub(crate) fn read(settings: &Api) -> io::Result<Access> {
        let file = settings.token_file.as_ref().map(|path| Ok::<_, io::Error>((path.clone(), Token::read(path)?))).transpose()?;
        let named = settings.tokens.iter().map(|(name, token)| (name.clone(), token.role, Token::of_digest(token.digest)));
        let certificates = settings.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
        Ok(Access { file, named: named.collect(), certificates })
    }

    /// Nobody is asked for a token.
    pub(super) fn is_open(&self) -> bool {
        self.file.is_none() && self.named.is_empty()
    }

    /// Nobody gets this far without a certificate: no page of a browser without one.
    pub(super) fn asks_certificates(&self) -> bool {
        self.certificates
    }

    /// The same only where all tokens are the same, with their names and roles.
    fn fingerprint(&self) -> String {
        let mut digest = Sha256::new();
        let file = self.file.iter().map(|(_, token)| ("", Role::Admin, token));
        for (name, role, token) in file.chain(self.named.iter().map(|(name, role, token)| (&**name, *role, token))) {
            digest.update(format!("{name} {role} {}\n", hex(&token.digest)));
        }
        hex(&digest.finalize())
    }

    /// Whose token this is.
    pub(super) fn find(&self, token: &[u8]) -> Option<Who> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let file = self.file.iter().map(|(_, token)| (None, Role::Admin, token));
        let named = self.named.iter().map(|(name, role, token)| (Some(name), *role, token));
        // All are looked at, so that the time does not say which.
        let mut found = None;
        for (name, role, token) in file.chain(named) {
            if token.is(&digest) {
                found = Some(Who { name: name.cloned(), role, session: false });
            }
        }
        found
    }
}

/// The sessions of a process, for the next one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct SavedSessions {
    /// Of the tokens that they stand for.
    access: String,
    open: Vec<SavedSession>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct SavedSession {
    /// The digest of its secret.
    key: [u8; 32],
    name: Option<String>,
    role: String,
    began_ms_ago: u64,
    used_ms_ago: u64,
}

/// The sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<[u8; 32], Session>>,
}

#[derive(Debug)]
struct Session {
    who: Who,
    began: Instant,
    used: Instant,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.used) > IDLE_MAX || now.duration_since(self.began) > AGE_MAX
    }
}

impl Sessions {
    /// Begins one under `secret`, which only the page knows.
    pub(super) fn begin(&self, secret: &[u8], who: &Who, now: Instant) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, session| !session.is_over(now));
        if open.len() >= SESSIONS_MAX
            && let Some(oldest) = open.iter().min_by_key(|(_, session)| session.used).map(|(key, _)| *key)
        {
            open.remove(&oldest);
        }
        open.insert(Sha256::digest(secret).into(), Session { who: Who { session: true, ..who.clone() }, began: now, used: now });
    }

    /// Whose it is; it counts as used.
    pub(super) fn find(&self, secret: &[u8], now: Instant) -> Option<Who> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let key: [u8; 32] = Sha256::digest(secret).into();
        let session = open.get_mut(&key)?;
        if session.is_over(now) {
            open.remove(&key);
            return None;
        }
        session.used = now;
        Some(session.who.clone())
    }

    /// What the next process needs to let them go on.
    pub(crate) fn save(&self, access: &Access, now: Instant) -> SavedSessions {
        let ms = |moment: Instant| u64::try_from(now.duration_since(moment).as_millis()).unwrap_or(u64::MAX);
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let saved = open.iter().filter(|(_, session)| !session.is_over(now)).map(|(key, session)| SavedSession {
            key: *key,
            name: session.who.name.as_ref().map(ToString::to_string),
            role: session.who.role.to_string(),
            began_ms_ago: ms(session.began),
            used_ms_ago: ms(session.used),
        });
        SavedSessions { access: access.fingerprint(), open: saved.collect() }
    }

    /// Lets those of the process before go on, if they stand for the same tokens.
    pub(crate) fn restore(&self, saved: &SavedSessions, access: &Access, now: Instant) {
        if saved.access != access.fingerprint() {
            return;
        }
        let moment = |ms_ago| now.checked_sub(Duration::from_millis(ms_ago));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for one in saved.open.iter().take(SESSIONS_MAX) {
            let role = Role::ALL.into_iter().find(|role| role.to_string() == one.role);
            let (Some(role), Some(began), Some(used)) = (role, moment(one.began_ms_ago), moment(one.used_ms_ago)) else { continue };
            let who = Who { name: one.name.as_deref().map(Arc::from), role, session: true };
            open.insert(one.key, Session { who, began, used });
        }
    }

    /// Ends it.
    pub(super) fn end(&self, secret: &[u8]) {
        let key: [u8; 32] = Sha256::digest(secret).into();
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
}

impl Token {
    /// Whether this is its digest.
    fn is(&self, digest: &[u8; 32]) -> bool {
        bool::from(digest.ct_eq(&self.digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        let named = |name: &str, role| (Arc::from(name), role, Token::new(name));
        Access {
            file: Some(("/t".into(), Token::new("file"))),
            named: vec![named("kim", Role::Operate), named("wall", Role::Read)],
            certificates: false,
        }
    }

    #[test]
    fn each_token_has_its_role() {
        let access = access();
        let check = |token: &str, expected: Option<(Option<&str>, Role)>| {
            let found = access.find(token.as_bytes());
            assert_eq!(found.as_ref().map(|who| (who.name.as_deref(), who.role)), expected, "{token}");
        };
        check("file", Some((None, Role::Admin)));
        check("kim", Some((Some("kim"), Role::Operate)));
        check("wall", Some((Some("wall"), Role::Read)));
        check("", None);
        check("Kim", None);
        assert!(Access::default().is_open() && !access.is_open());
        assert!(!format!("{access:?}").contains("digest"));
    }

    #[test]
    fn a_session_ends_by_itself() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let who = access().find(b"kim").expect("it is there");
        sessions.begin(b"secret", &who, start);
        let found = sessions.find(b"secret", start + IDLE_MAX).expect("just in time");
        assert!(found.session && found.name == who.name);
        assert_eq!(sessions.find(b"other", start), None);
        assert_eq!(sessions.find(b"secret", start + 2 * IDLE_MAX + Duration::from_secs(1)), None, "not used for too long");
        sessions.begin(b"secret", &who, start);
        let mut now = start;
        while now < start + AGE_MAX {
            assert!(sessions.find(b"secret", now).is_some());
            now += IDLE_MAX;
        }
        assert_eq!(sessions.find(b"secret", start + AGE_MAX + Duration::from_secs(1)), None, "however much it is used");
        sessions.begin(b"secret", &who, start);
        sessions.end(b"secret");
        assert_eq!(sessions.find(b"secret", start), None);
    }

    #[test]
    fn sessions_go_on_in_the_next_process_where_the_tokens_are_the_same() {
        let (before, start) = (Sessions::default(), Instant::now());
        before.begin(b"secret", &access().find(b"kim").expect("it is there"), start);
        let later = start + IDLE_MAX - Duration::from_secs(1);
        let saved = before.save(&access(), later);
        let text = serde_json::to_string(&saved).expect("plain data");
        assert!(!text.contains("secret"), "{text}");
        let saved: SavedSessions = serde_json::from_str(&text).expect("the same");
        let after = Sessions::default();
        after.restore(&saved, &access(), later);
        let found = after.find(b"secret", later).expect("it goes on");
        assert_eq!((found.name.as_deref(), found.role, found.session), (Some("kim"), Role::Operate, true));
        let idle = Sessions::default();
        idle.restore(&saved, &access(), later);
        assert_eq!(idle.find(b"secret", later + Duration::from_secs(2)), None, "nor longer than it would have");
        let other = Access { file: None, ..access() };
        let refused = Sessions::default();
        refused.restore(&saved, &other, later);
        assert_eq!(refused.find(b"secret", later), None, "a token was taken away");
    }

    #[test]
    fn sessions_are_bounded() {
        let sessions = Sessions::default();
        let start = Instant::now();
        for n in 0..SESSIONS_MAX + 1 {
            sessions.begin(n.to_string().as_bytes(), &Who::ANYBODY, start + Duration::from_millis(n as u64));
        }
        let now = start + Duration::from_secs(10);
        assert_eq!(sessions.find(b"0", now), None, "the oldest made room");
        assert!(sessions.find(b"1", now).is_some() && sessions.find(SESSIONS_MAX.to_string().as_bytes(), now).is_some());
    }
}
