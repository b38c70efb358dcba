//! Who asks: for the events that say who did what.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use super::access::Who;

/// Where a client says who uses it. Nobody proves it; whoever may ask at all is trusted to say who he is.
pub(crate) const USER_HEADER: &str = "weir-user";

/// Longest name that is believed.
const USER_BYTES_MAX: usize = 64;

/// The address of a connection's other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// `alice@ops-1 from 10.0.0.7`, as far as it is known.
pub(crate) struct Caller(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, Infallible> {
        Ok(Caller(caller(parts)))
    }
}

/// Who asks, as far as it is known: the name of a token is proved, what a client says of itself stands in brackets after it.
pub(super) fn user(parts: &Parts) -> String {
    named(&parts.headers, parts.extensions.get::<Who>().and_then(|who| who.name.as_deref()))
}

/// The same, and from where.
pub(super) fn caller(parts: &Parts) -> String {
    told(user(parts), parts.extensions.get::<Peer>().copied())
}

fn named(headers: &HeaderMap, name: Option<&str>) -> String {
    let plain = |name: &&str| !name.is_empty() && name.len() <= USER_BYTES_MAX && name.bytes().all(|b| b.is_ascii_graphic());
    let said = headers.get(USER_HEADER).and_then(|value| value.to_str().ok()).filter(plain);
    match (name, said) {
        (Some(name), Some(said)) => format!("{name} ({said})"),
        (Some(name), None) => name.to_owned(),
        (None, said) => said.unwrap_or("somebody").to_owned(),
    }
}

fn told(user: String, peer: Option<Peer>) -> String {
    match peer {
        Some(Peer(address)) => format!("{user} from {}", address.to_canonical()),
        None => user,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_said_as_far_as_it_is_known() {
        let peer = Some(Peer("::ffff:10.0.0.7".parse().expect("an address")));
        for (user, expected) in [
            (None, "somebody from 10.0.0.7"),
            (Some("alice@ops-1"), "alice@ops-1 from 10.0.0.7"),
            (Some("a b"), "somebody from 10.0.0.7"),
            (Some(""), "somebody from 10.0.0.7"),
            (Some(&*"x".repeat(65)), "somebody from 10.0.0.7"),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(user) = user {
                headers.insert(USER_HEADER, user.parse().expect("a value"));
            }
            assert_eq!(told(named(&headers, None), peer), expected);
        }
        assert_eq!(told(named(&HeaderMap::new(), None), None), "somebody");
        assert_eq!(told(named(&HeaderMap::new(), Some("kim")), peer), "kim from 10.0.0.7");
        let mut headers = HeaderMap::new();
        headers.insert(USER_HEADER, "alice@ops-1".parse().expect("a value"));
        assert_eq!(told(named(&headers, Some("kim")), peer), "kim (alice@ops-1) from 10.0.0.7");
    }
}
