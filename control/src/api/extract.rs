//! Reading requests: bounded, in time, and refused as problems.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use super::audit::Note;
use super::problem::Problem;

/// Largest request body. The largest that makes sense is some hundred bytes.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;

/// How long a client may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON body. An absent one is read as `{}`.
pub(crate) struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, Problem> {
        let note = request.extensions().get::<Note>().cloned();
        let content_type = request.headers().get(header::CONTENT_TYPE).cloned();
        let body = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, state))
            .await
            .map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the request body did not come in time"))?
            .map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than this request takes"),
                _ => Problem::new(StatusCode::BAD_REQUEST, "the request body could not be read"),
            })?;
        note.into_iter().for_each(|note| note.set(if body.is_empty() { b"{}" } else { &body }));
        if !body.is_empty() && !content_type.is_some_and(|value| is_json(value.as_bytes())) {
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send `Content-Type: application/json`"));
        }
        parse(if body.is_empty() { b"{}" } else { &body }).map(Body)
    }
}

fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|b| *b == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let status = if error.is_data() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
        Problem::new(status, format!("the body is not what this request takes: {error}"))
    })
}

/// The parameters after `?`.
pub(crate) struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Params<T>, Problem> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(params)| Params(params))
            .map_err(|rejection| Problem::new(StatusCode::BAD_REQUEST, rejection.body_text()))
    }
}

/// The names in the path.
pub(crate) struct Names<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Names<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Names<T>, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(names)) => Ok(Names(names)),
            Err(rejection) => Err(Problem::new(StatusCode::BAD_REQUEST, rejection.body_text())),
        }
    }
}

/// The revision a change is based on, from `If-Match: "REVISION"`; `None`: any.
pub(crate) struct BasedOn(pub Option<u64>);

impl<S: Send + Sync> FromRequestParts<S> for BasedOn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<BasedOn, Problem> {
        based_on(&parts.headers).map(BasedOn)
    }
}

fn based_on(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let bytes = value.as_bytes().trim_ascii();
    if bytes == b"*" {
        return Ok(None);
    }
    let revision = bytes.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).and_then(|digits| std::str::from_utf8(digits).ok());
    match (revision.and_then(|digits| digits.parse().ok()), values.next()) {
        (Some(revision), None) => Ok(Some(revision)),
        _ => Err(Problem::new(StatusCode::BAD_REQUEST, "`If-Match` must be one revision in quotes, as `ETag` has it")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{EndpointPatch, NewEndpoint};
    use super::*;

    #[test]
    fn bodies() {
        let status = |body: &str| parse::<EndpointPatch>(body.as_bytes()).map_err(|problem| problem.status.as_u16());
        assert_eq!(status("{}"), Ok(EndpointPatch::default()));
        assert_eq!(status(r#"{"weight": 3}"#).map(|patch| patch.weight), Ok(Some(3)));
        assert_eq!(status(r#"{"wieght": 3}"#), Err(422));
        assert_eq!(status(r#"{"state": "gone"}"#), Err(422));
        assert_eq!(status(r#"{"weight": -1}"#), Err(422));
        assert_eq!(status(r#"{"weight": 3"#), Err(400));
        assert!(parse::<NewEndpoint>(b"{}").is_err_and(|problem| problem.detail.contains("address")));
    }

    #[test]
    fn content_types() {
        for (value, expected) in [("application/json", true), ("Application/JSON; charset=utf-8", true), ("text/plain", false), ("", false)]
        {
            assert_eq!(is_json(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn revisions() {
        let check = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, value.parse().expect("a header value"));
            based_on(&headers).map_err(|problem| problem.status.as_u16())
        };
        assert_eq!(based_on(&HeaderMap::new()), Ok(None));
        assert_eq!(check("\"12\""), Ok(Some(12)));
        assert_eq!(check("*"), Ok(None));
        for wrong in ["12", "\"\"", "\"x\"", "W/\"12\"", "\"1\", \"2\"", "\"99999999999999999999\"", "\""] {
            assert_eq!(check(wrong), Err(400), "{wrong}");
        }
    }
}
