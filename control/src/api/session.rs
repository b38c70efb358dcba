//! Sessions: a page shows a token once and has a cookie from then on, which no script can read and no other site can use.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use sha2::{Digest, Sha256};

use super::Api;
use super::access::{IDLE_MAX, Who};
use super::caller::Peer;
use super::extract::Body;
use super::model::*;
use super::problem::Problem;
use crate::event::ApiEvent;

/// What the cookie's name begins with.
const COOKIE: &str = "weir_session";

/// The cookie's name at a node. Cookies are not apart by port, and two nodes may be behind one address, be it by forwarded ports: each has a name
/// of its own, the same from one process to the next.
pub(super) fn cookie_name(node: &str, bind: SocketAddr) -> String {
    let digest = Sha256::digest(format!("{node} {bind}"));
    format!("{COOKIE}_{}", hex(&digest[..4]))
}

/// A wrong token more than this often is an event each time.
const QUIET_TRIES: u32 = 3;

/// Who asks, and what they may.
#[utoipa::path(get, path = "/v1/session", tag = "about", responses((status = 200, body = SessionView)))]
pub(crate) async fn session(Extension(who): Extension<Who>) -> Json<SessionView> {
    Json(view(&who))
}

fn view(who: &Who) -> SessionView {
    SessionView { name: who.name.as_ref().map(ToString::to_string), role: who.role.into(), session: who.session }
}

/// Begins a session: the answer sets a cookie that stands for the token. With it every change must carry the header `weir-console`.
#[utoipa::path(
    post, path = "/v1/session", tag = "about", request_body = NewSession,
    responses(
        (status = 200, body = SessionView),
        (status = 401, body = ProblemView, content_type = "application/problem+json", description = "No such token"),
        (status = 409, body = ProblemView, content_type = "application/problem+json", description = "This node asks for no token"),
        (status = 429, body = ProblemView, content_type = "application/problem+json", description = "Too many wrong tokens from this address"),
    ),
)]
pub(crate) async fn sign_in(
    State(api): State<Arc<Api>>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    Body(new): Body<NewSession>,
) -> Result<Response, Problem> {
    if api.gate.access.is_open() {
        return Err(Problem::new(StatusCode::CONFLICT, "this node asks for no token: go on without"));
    }
    let who = api.gate.with_token(new.token.trim().as_bytes(), peer, Instant::now()).map_err(|refused| {
        tell_wrong(&api, peer, refused.tries);
        refused.problem
    })?;
    let mut secret = [0; 32];
    random(&mut secret).map_err(|error| {
        tracing::error!(%error, "no random numbers");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "no session could be made: look at the log of the node")
    })?;
    let secret = hex(&secret);
    api.gate.sessions.begin(secret.as_bytes(), &who, Instant::now());
    let name = who.name.as_deref().unwrap_or("token_file").to_owned();
    api.node.record(ApiEvent::SignedIn { name, role: who.role.word(), from: peer.to_canonical().to_string() });
    // A browser says in `Origin` by what it came; where that is TLS, in a proxy before us, the cookie stays within it.
    let by_tls = headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    let mut response = Json(view(&Who { session: true, ..who })).into_response();
    set_cookie(&mut response, (&api.gate.cookie, &secret), IDLE_MAX.as_secs(), by_tls)?;
    Ok(response)
}

/// Ends the session.
#[utoipa::path(delete, path = "/v1/session", tag = "about", responses((status = 200, body = Object)))]
pub(crate) async fn sign_out(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Response, Problem> {
    if let Some(secret) = cookie(&headers, &api.gate.cookie) {
        api.gate.sessions.end(secret.as_bytes());
    }
    let mut response = Json(serde_json::json!({})).into_response();
    set_cookie(&mut response, (&api.gate.cookie, ""), 0, false)?;
    Ok(response)
}

fn set_cookie(response: &mut Response, (name, secret): (&str, &str), age_s: u64, secure: bool) -> Result<(), Problem> {
    let secure = if secure { "; Secure" } else { "" };
    let text = format!("{name}={secret}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict{secure}");
    let value =
        HeaderValue::from_str(&text).map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the cookie could not be made"))?;
    response.headers_mut().insert(header::SET_COOKIE, value);
    Ok(())
}

/// The session's secret, from the cookies (RFC 6265 section 4.2.1).
pub(super) fn cookie<'h>(headers: &'h HeaderMap, wanted: &str) -> Option<&'h str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(name, _)| *name == wanted).map(|(_, secret)| secret)
}

/// Random bytes of the kernel.
pub(crate) fn random(bytes: &mut [u8]) -> std::io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        done += rustix::rand::getrandom(&mut bytes[done..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(())
}

/// As text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Tells of a wrong token, but not of a slip.
pub(super) fn tell_wrong(api: &Api, peer: std::net::IpAddr, tries: Option<u32>) {
    if let Some(tries) = tries.filter(|tries| *tries > QUIET_TRIES) {
        api.node.record(ApiEvent::TokenRefused { from: peer.to_canonical().to_string(), tries });
    }
}

impl From<weir_config::Role> for RoleView {
    fn from(role: weir_config::Role) -> RoleView {
        match role {
            weir_config::Role::Read => RoleView::Read,
            weir_config::Role::Operate => RoleView::Operate,
            weir_config::Role::Admin => RoleView::Admin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others() {
        for (value, expected) in [
            ("weir_session=abc", Some("abc")),
            ("a=b; weir_session=abc; c=d", Some("abc")),
            ("xweir_session=abc", None),
            ("weir_session", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, value.parse().expect("a value"));
            assert_eq!(cookie(&headers, COOKIE), expected, "{value:?}");
        }
    }

    #[test]
    fn each_node_has_a_cookie_of_its_own() {
        let address = |text: &str| text.parse().expect("an address");
        let name = cookie_name("lb-a", address("127.0.0.1:7117"));
        assert!(name.starts_with("weir_session_") && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name}");
        assert_eq!(name, cookie_name("lb-a", address("127.0.0.1:7117")));
        assert_ne!(name, cookie_name("lb-b", address("127.0.0.1:7117")));
        assert_ne!(name, cookie_name("lb-a", address("127.0.0.1:7118")));
    }

    #[test]
    fn random_is_not_the_same_twice() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        random(&mut a).expect("the kernel has some");
        random(&mut b).expect("the kernel has some");
        assert_ne!(a, b);
        assert_eq!(hex(&[0, 0xa1]), "00a1");
    }
}
