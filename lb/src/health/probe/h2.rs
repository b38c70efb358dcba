//! A request over HTTP/2, and what came back.

use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use http::{HeaderMap, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::{Failure, LINGER, Phase, Progress};

/// The head of an answer.
const HEAD_BYTES_MAX: u32 = 16 * 1024;
/// The part of a body that is looked at.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;

/// What an endpoint answered.
pub(super) struct Answer {
    /// Status and fields.
    pub(super) head: http::response::Parts,
    /// The beginning of the body.
    pub(super) body: Vec<u8>,
    /// What came behind it.
    pub(super) trailers: Option<HeaderMap>,
}

/// Asks over a connection that was just opened.
pub(super) async fn ask<S>(request: Request<()>, body: Bytes, stream: S, progress: &Progress) -> Result<Answer, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    progress.enter(Phase::Sending);
    let mut builder = client::Builder::new();
    builder.enable_push(false).max_header_list_size(HEAD_BYTES_MAX);
    let (sender, mut connection) = builder.handshake::<_, Bytes>(stream).await.map_err(|error| failure(&error))?;
    let answer = tokio::select! {
        biased;
        answer = exchange(sender, request, body, progress) => answer?,
        ended = &mut connection => {
            return match ended {
                Ok(()) => Failure::endpoint("closed without an answer"),
                Err(error) => Err(failure(&error)),
            };
        }
    };
    progress.enter(Phase::Closing);
    // Says goodbye, as nobody needs the connection any more.
    let _: Result<_, tokio::time::error::Elapsed> = timeout(LINGER.min(Duration::from_millis(100)), connection).await;
    Ok(answer)
}

async fn exchange(mut sender: SendRequest<Bytes>, request: Request<()>, body: Bytes, progress: &Progress) -> Result<Answer, Failure> {
    let (response, mut sending) = sender.send_request(request, body.is_empty()).map_err(|error| failure(&error))?;
    if !body.is_empty() {
        sending.send_data(body, true).map_err(|error| failure(&error))?;
    }
    progress.enter(Phase::AwaitingHead);
    let (head, mut incoming) = response.await.map_err(|error| failure(&error))?.into_parts();
    progress.enter(Phase::ReadingBody);
    let mut body = Vec::new();
    while let Some(data) = incoming.data().await {
        let data = data.map_err(|error| failure(&error))?;
        let _ = incoming.flow_control().release_capacity(data.len());
        let room = BODY_BYTES_MAX - body.len();
        body.extend_from_slice(&data[..data.len().min(room)]);
        if body.len() == BODY_BYTES_MAX {
            return Ok(Answer { head, body, trailers: None });
        }
    }
    let trailers = incoming.trailers().await.map_err(|error| failure(&error))?;
    Ok(Answer { head, body, trailers })
}

fn failure(error: &h2::Error) -> Failure {
    match error.get_io() {
        Some(io) => Failure::io("HTTP/2", io),
        None => Failure::Endpoint(format!("HTTP/2: {error}")),
    }
}
