//! Who asks: for the events that say who did what.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

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
        Ok(Caller(caller(&parts.headers, parts.extensions.get::<Peer>().copied())))
    }
}

/// Who, as the client says.
pub(super) fn user(headers: &HeaderMap) -> &str {
    let plain = |name: &&str| !name.is_empty() && name.len() <= USER_BYTES_MAX && name.bytes().all(|b| b.is_ascii_graphic());
    headers.get(USER_HEADER).and_then(|value| value.to_str().ok()).filter(plain).unwrap_or("somebody")
}

fn caller(headers: &HeaderMap, peer: Option<Peer>) -> String {
    let user = user(headers);
    match peer {
        Some(Peer(address)) => format!("{user} from {}", address.to_canonical()),
        None => user.to_owned(),
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
            assert_eq!(caller(&headers, peer), expected);
        }
        assert_eq!(caller(&HeaderMap::new(), None), "somebody");
    }
}
