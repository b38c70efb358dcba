//! The health protocol of gRPC, `grpc.health.v1.Health/Check`: one small message each way.

use bytes::Bytes;
use http::{HeaderMap, Request};
use tokio::io::{AsyncRead, AsyncWrite};

use super::h2::{Answer, ask};
use super::{Failure, Progress};

const PATH: &str = "/grpc.health.v1.Health/Check";
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u64 = 1;

/// Asks over a connection that was just opened.
pub(super) async fn check<S>(service: &str, scheme: &str, authority: &str, stream: S, progress: &Progress) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = Request::post(format!("{scheme}://{authority}{PATH}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "weir-health")
        .body(())
        .map_err(|error| Failure::Endpoint(format!("its address cannot be asked: {error}")))?;
    judge(service, &ask(request, question(service), stream, progress).await?)
}

/// A message with its prefix: not compressed, its length, and the one field that it has.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        // Field 1, with a length; the file bounds it so that one byte is enough for that.
        message.extend_from_slice(&[0x0a, service.len() as u8]);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

fn judge(service: &str, answer: &Answer) -> Result<(), Failure> {
    if answer.head.status != 200 {
        return Failure::endpoint(format!("status {}, not gRPC", answer.head.status.as_u16()));
    }
    // An answer without a message has its status in the head.
    let of = |fields: &HeaderMap| fields.get("grpc-status").and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    let status = answer.trailers.as_ref().and_then(of).or_else(|| of(&answer.head.headers));
    match status {
        None => return Failure::endpoint("no grpc-status, not gRPC"),
        Some(0) => {}
        Some(5) => return Failure::endpoint(format!("gRPC status 5: it does not know the service {service:?}")),
        Some(12) => return Failure::endpoint("gRPC status 12: it has no grpc.health.v1.Health"),
        Some(status) => return Failure::endpoint(format!("gRPC status {status}")),
    }
    match serving_status(&answer.body) {
        Some(SERVING) => Ok(()),
        Some(0) => Failure::endpoint("it says UNKNOWN, wanted SERVING"),
        Some(2) => Failure::endpoint("it says NOT_SERVING"),
        Some(3) => Failure::endpoint(format!("it does not know the service {service:?}")),
        Some(other) => Failure::endpoint(format!("it says {other}, wanted 1 (SERVING)")),
        None => Failure::endpoint("its answer is no HealthCheckResponse"),
    }
}

/// The `status` of a `HealthCheckResponse` with its prefix; 0 where it is not said. `None`: the bytes are none.
pub fn serving_status(body: &[u8]) -> Option<u64> {
    let (prefix, message) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if prefix[0] != 0 || length != message.len() {
        return None;
    }
    let (mut rest, mut status) = (message, 0);
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let skipped = match tag & 7 {
            0 => {
                let value = varint(&mut rest)?;
                if tag >> 3 == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut rest)?).ok()?,
            5 => 4,
            _ => return None,
        };
        rest = rest.get(skipped..)?;
    }
    Some(status)
}

/// Seven bits a byte, the lowest first.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_messages() {
        assert_eq!(question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(question("a.B")[..], [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
    }

    #[test]
    fn answers_say_a_status() {
        for (bytes, status) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 0], Some(0)),
            // Fields of later versions are passed over, whatever they are.
            (&[0, 0, 0, 0, 9, 0x12, 2, 1, 1, 0x25, 0, 0, 0, 0], Some(0)),
            (&[0, 0, 0, 0, 4, 0x10, 5, 8, 2], Some(2)),
            (&[0, 0, 0, 0, 3, 8, 0x81, 1], Some(129)),
            // Compressed, short, long, cut within a number, and what is no field.
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 3, 8, 1], None),
            (&[0, 0, 0, 0, 1, 8, 1], None),
            (&[0, 0, 0, 0, 2, 8, 0x81], None),
            (&[0, 0, 0, 0, 2, 0x0a, 5], None),
            (&[0, 0, 0, 0, 1, 7], None),
            (&[0, 0], None),
        ] {
            assert_eq!(serving_status(bytes), status, "{bytes:?}");
        }
        let endless = [&[0, 0, 0, 0, 12, 8][..], &[0xff; 11]].concat();
        assert_eq!(serving_status(&endless), None);
    }
}
