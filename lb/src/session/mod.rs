//! Sessions (pure): a client stays on the endpoint that it had before.
//!
//! ```text
//!   cookie ──► seal looked up ──┐                        ┌── still there ──► that endpoint
//!                               ├──► endpoint's identity ┤
//!   source ──► table ───────────┘                        └── gone ──► another, which is told or remembered | 503
//! ```
//!
//! An endpoint is known by a hash of its address as it is written, so that all nodes, and the next process, mean the same by it. What a cookie says
//! is the same for all clients of an endpoint, and is computed once: a request costs a lookup.
//!
//! - `cookie`: seals and keys. `table`: who was where.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod cookie;
mod table;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use weir_config::{EndpointAddress, PoolName, Session, SessionGone, SessionMemory};

pub use self::cookie::{Keys, KeysError, SEAL_BYTES, Seal};
pub use self::table::Sources;
use crate::health::StableHash;
use crate::limit;

/// The identity of an endpoint, for clients to come back to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EndpointId(pub u64);

impl EndpointId {
    /// Of the address as it is written in the configuration.
    pub fn of(address: &EndpointAddress) -> EndpointId {
        EndpointId(StableHash::default().field(address.to_string()).finish())
    }
}

/// How a pool remembers its clients; kept over reloads as long as the settings stay.
#[derive(Clone, Debug)]
pub enum Memory {
    /// By a cookie, signed with these.
    Cookie(Arc<Keys>),
    /// By a table.
    Source(Arc<Sources>),
}

/// The sessions of a pool, as its part of a snapshot has them.
#[derive(Debug)]
pub struct Sessions {
    gone: SessionGone,
    memory: Memory,
    /// By the endpoint's index in the selector.
    seats: Vec<Seat>,
    /// The indexes of those that may be picked.
    by_id: HashMap<EndpointId, u32>,
    /// What a cookie says, for all members, those that cannot be picked included.
    by_seal: HashMap<Seal, Sealed>,
    cookie: Option<Box<str>>,
}

#[derive(Debug)]
struct Seat {
    id: EndpointId,
    /// Whole `Set-Cookie` fields, for clients without TLS and with it.
    lines: [Box<[u8]>; 2],
}

#[derive(Clone, Copy, Debug)]
struct Sealed {
    id: EndpointId,
    /// Signed with the key that signs now.
    current: bool,
}

/// What is known of a client before it gets an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Known {
    /// The endpoint that it had.
    pub id: Option<EndpointId>,
    /// Nothing else will do.
    pub strict: bool,
    /// Its cookie says so in the way it would be said now.
    pub current: bool,
}

impl Sessions {
    /// Builds the part of a snapshot. `members`: all endpoints, with their index in the selector if they may be picked.
    pub fn new(pool: &PoolName, session: &Session, memory: &Memory, members: &[(EndpointId, Option<u32>)]) -> Sessions {
        let mut picked: Vec<(u32, EndpointId)> = members.iter().filter_map(|(id, index)| Some(((*index)?, *id))).collect();
        picked.sort_unstable_by_key(|(index, _)| *index);
        let mut by_seal = HashMap::new();
        let mut cookie = None;
        let mut seats = Vec::with_capacity(picked.len());
        if let (SessionMemory::Cookie(settings), Memory::Cookie(keys)) = (&session.memory, memory) {
            cookie = Some(settings.name.as_str().into());
            for (id, _) in members {
                for (number, seal) in keys.seals(pool, *id).enumerate() {
                    by_seal.insert(seal, Sealed { id: *id, current: number == 0 });
                }
            }
            let line = |seal: &Seal, secure| cookie::line(settings, seal, secure).into_bytes().into();
            for (_, id) in &picked {
                let seal = keys.seal(pool, *id);
                seats.push(Seat { id: *id, lines: [line(&seal, false), line(&seal, true)] });
            }
        } else {
            seats.extend(picked.iter().map(|(_, id)| Seat { id: *id, lines: Default::default() }));
        }
        let by_id = picked.iter().map(|(index, id)| (*id, *index)).collect();
        Sessions { gone: session.gone, memory: memory.clone(), seats, by_id, by_seal, cookie }
    }

    /// The name of the cookie, where clients are known by one.
    pub fn cookie_name(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    /// Whom a client's cookie names. One that was not signed here names nobody.
    pub fn by_cookie(&self, pool: &PoolName, value: &[u8]) -> Known {
        let strict = self.gone == SessionGone::Fail;
        let Ok(seal) = Seal::try_from(value) else { return Known::default() };
        if let Some(sealed) = self.by_seal.get(&seal) {
            return Known { id: Some(sealed.id), strict, current: sealed.current };
        }
        // Of an endpoint that left the pool, whose seal only the keys can tell from one made up. It matters only if its clients are to fail.
        match &self.memory {
            Memory::Cookie(keys) if strict => {
                keys.open(pool, &seal).map_or_else(Known::default, |id| Known { id: Some(id), strict, current: true })
            }
            _ => Known::default(),
        }
    }

    /// Where a client of this address was last, if that is remembered here.
    pub fn by_source(&self, source: IpAddr, now_ms: u64) -> Known {
        let Memory::Source(table) = &self.memory else { return Known::default() };
        let id = table.find(limit::source(source), now_ms).map(EndpointId);
        Known { id, strict: self.gone == SessionGone::Fail && id.is_some(), current: true }
    }

    /// The index of an endpoint that may be picked.
    pub fn index_of(&self, id: EndpointId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// A client got the endpoint of this index: it is remembered, or the field is returned that tells the client.
    pub fn settle(&self, index: u32, known: Known, secure: bool, source: IpAddr, now_ms: u64) -> Option<&[u8]> {
        let seat = self.seats.get(index as usize)?;
        if known.id == Some(seat.id) && known.current {
            return None;
        }
        match &self.memory {
            Memory::Cookie(_) => Some(&seat.lines[usize::from(secure)]),
            Memory::Source(table) => {
                table.put(limit::source(source), seat.id.0, now_ms);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use weir_config::{CookieSecure, SameSite, SessionCookie};

    use super::*;

    fn id(text: &str) -> EndpointId {
        let address: std::net::SocketAddr = text.parse().unwrap();
        EndpointId::of(&address.into())
    }

    fn by_cookie(gone: SessionGone) -> Session {
        let cookie = SessionCookie {
            name: "s".into(),
            key_file: "/k".into(),
            path: "/".into(),
            domain: None,
            max_age: None,
            secure: CookieSecure::Auto,
            same_site: SameSite::Lax,
        };
        Session { memory: SessionMemory::Cookie(cookie), gone }
    }

    fn keys(lines: &[&str]) -> Memory {
        Memory::Cookie(Arc::new(Keys::parse(&lines.iter().map(|line| line.repeat(32) + "\n").collect::<String>()).unwrap()))
    }

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    /// What a client sends back of the field that it got.
    fn value(line: &[u8]) -> Vec<u8> {
        let text = std::str::from_utf8(line).unwrap();
        text.strip_prefix("Set-Cookie: s=").unwrap().split(';').next().unwrap().as_bytes().to_vec()
    }

    #[test]
    fn a_cookie_leads_back_on_every_node_until_the_endpoint_goes() {
        let pool = PoolName::from("p");
        let (a, b) = (id("10.0.0.1:80"), id("10.0.0.2:80"));
        let session = by_cookie(SessionGone::Rebalance);
        let here = Sessions::new(&pool, &session, &keys(&["x"]), &[(a, Some(0)), (b, Some(1))]);
        let there = Sessions::new(&pool, &session, &keys(&["x"]), &[(b, Some(0)), (a, Some(1))]);
        let first = here.settle(1, Known::default(), false, SOURCE, 0).expect("a client is told once");
        assert!(!first.ends_with(b"; Secure\r\n") && here.settle(1, Known::default(), true, SOURCE, 0).unwrap().ends_with(b"; Secure\r\n"));
        let known = there.by_cookie(&pool, &value(first));
        assert_eq!((known.id, known.strict, known.current), (Some(b), false, true));
        assert_eq!(there.index_of(b), Some(0));
        assert_eq!(there.settle(0, known, false, SOURCE, 0), None, "it knows");
        assert!(there.settle(1, known, false, SOURCE, 0).is_some(), "it is told of another");
        // Down: known, but not to be had. Of another pool, or made up: nobody.
        let down = Sessions::new(&pool, &session, &keys(&["x"]), &[(a, Some(0)), (b, None)]);
        assert_eq!(down.by_cookie(&pool, &value(first)).id.and_then(|id| down.index_of(id)), None);
        let other = Sessions::new(&PoolName::from("q"), &session, &keys(&["x"]), &[(b, Some(0))]);
        assert_eq!(other.by_cookie(&PoolName::from("q"), &value(first)), Known::default());
        for forged in [&b""[..], b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", b"10.0.0.1:80"] {
            assert_eq!(here.by_cookie(&pool, forged), Known::default());
        }
    }

    #[test]
    fn keys_change_without_losing_sessions() {
        let pool = PoolName::from("p");
        let a = id("10.0.0.1:80");
        let session = by_cookie(SessionGone::Fail);
        let of = |lines: &[&str]| Sessions::new(&pool, &session, &keys(lines), &[(a, Some(0))]);
        let cookie = value(of(&["x"]).settle(0, Known::default(), false, SOURCE, 0).unwrap());
        let both = of(&["y", "x"]);
        let known = both.by_cookie(&pool, &cookie);
        assert_eq!((known.id, known.current), (Some(a), false));
        let renewed = value(both.settle(0, known, false, SOURCE, 0).expect("it is signed anew"));
        assert_eq!(of(&["y"]).by_cookie(&pool, &renewed).id, Some(a));
        assert_eq!(of(&["y"]).by_cookie(&pool, &cookie), Known::default());
        // An endpoint that left the pool is still known to have been one, where its clients are to fail.
        let left = Sessions::new(&pool, &session, &keys(&["x"]), &[]);
        assert_eq!(left.by_cookie(&pool, &cookie), Known { id: Some(a), strict: true, current: true });
        assert_eq!(left.by_cookie(&pool, &renewed).id, None);
    }

    #[test]
    fn a_source_is_remembered_until_it_was_quiet_for_long() {
        let pool = PoolName::from("p");
        let (a, b) = (id("10.0.0.1:80"), id("10.0.0.2:80"));
        let expiry = Duration::from_secs(10);
        let memory = SessionMemory::Source { expiry, clients_max: NonZeroU32::new(100).unwrap() };
        let session = Session { memory, gone: SessionGone::Fail };
        let table = Memory::Source(Arc::new(Sources::new(expiry, 100)));
        let sessions = Sessions::new(&pool, &session, &table, &[(a, Some(0)), (b, Some(1))]);
        assert_eq!(sessions.by_source(SOURCE, 0), Known { id: None, strict: false, current: true }, "whoever is new goes anywhere");
        assert_eq!(sessions.settle(1, sessions.by_source(SOURCE, 0), false, SOURCE, 0), None);
        assert_eq!(sessions.by_source(SOURCE, 9_000), Known { id: Some(b), strict: true, current: true });
        // It was seen at 9 s; the next snapshot has the same table.
        let next = Sessions::new(&pool, &session, &table, &[(a, Some(0)), (b, None)]);
        assert_eq!(next.by_source(SOURCE, 18_999).id, Some(b));
        assert_eq!(next.by_source(SOURCE, 28_999).id, None);
    }
}
