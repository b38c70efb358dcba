//! What an answer over HTTP means for a message.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderMap, LOCATION, RETRY_AFTER};
use hyper::http::response::Parts;

use super::super::{Fault, FaultKind};
use super::LINES_SHOWN;
use crate::message::UnixMs;
use crate::transcript::Transcript;

/// The longest wait that a server may ask for: an outbox must not be put to sleep by a slip of somebody else's finger.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// Characters of a body in an error.
const EXCERPT_CHARS: usize = 200;

/// An answer.
#[derive(Debug)]
pub(in super::super) struct Answer {
    /// Its status.
    pub(in super::super) status: StatusCode,
    /// Its body.
    pub(in super::super) body: Vec<u8>,
    retry_after: Option<Duration>,
    location: Option<String>,
}

impl Answer {
    pub(super) fn new(head: &Parts, body: &[u8]) -> Answer {
        let location = head.headers.get(LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Answer { status: head.status, body: body.to_vec(), retry_after: retry_after(&head.headers, now()), location }
    }

    /// The body as JSON; null where it is none.
    pub(in super::super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The beginning of the body, as one line.
    pub(in super::super) fn excerpt(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        words.chars().take(EXCERPT_CHARS).collect()
    }

    /// What the server said, for the log.
    pub(in super::super) fn said(&self) -> String {
        let excerpt = self.excerpt();
        if excerpt.is_empty() { self.status.to_string() } else { format!("{}: {excerpt}", self.status) }
    }

    /// It, if it is a success; otherwise the fault that its status is.
    ///
    /// 408, 425, 429 and 5xx may pass, and the server may say when (RFC 9110 section 10.2.3); all else will be as it is until somebody changes
    /// something.
    pub(in super::super) fn good(self, server: &str, transcript: &Transcript) -> Result<Answer, Fault> {
        let status = self.status;
        if status.is_success() {
            return Ok(self);
        }
        Err(self.fault(server, &self.said(), transcript))
    }

    /// The fault that its status is, with these words.
    pub(in super::super) fn fault(&self, server: &str, said: &str, transcript: &Transcript) -> Fault {
        let may_pass = self.status.is_server_error() || matches!(self.status.as_u16(), 408 | 425 | 429);
        let text = match (self.status.as_u16(), &self.location) {
            (300..=399, Some(location)) => {
                format!("{server} sends us elsewhere ({} to {location}); where that is right, write it as `url`", self.status)
            }
            (401 | 403 | 407, _) => format!("{server} refuses us: {said}; check what to log in with"),
            _ => format!("{server} refuses the message: {said}"),
        };
        let kind = if may_pass { FaultKind::Temporary } else { FaultKind::Permanent };
        Fault { kind, text: transcript.clean(text), retry_after: self.retry_after.filter(|_| may_pass) }
    }
}

/// Seconds or a date (RFC 9110 section 10.2.3), at most an hour.
fn retry_after(headers: &HeaderMap, now: UnixMs) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_millisecond();
            Duration::from_millis(u64::try_from(at).ok()?.saturating_sub(now))
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

pub(super) fn show(head: &Parts, body: &[u8], transcript: &mut Transcript) {
    transcript.them(format!("HTTP/1.1 {}", head.status));
    for (name, value) in &head.headers {
        transcript.them([name.as_str().as_bytes(), b": ", value.as_bytes()].concat());
    }
    if !body.is_empty() {
        transcript.them("");
    }
    body.split(|byte| *byte == b'\n').take(LINES_SHOWN).filter(|line| !line.is_empty()).for_each(|line| transcript.them(line));
}

fn now() -> UnixMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)]) -> Answer {
        let mut response = hyper::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        Answer::new(&response.body(()).unwrap().into_parts().0, b"busy\r\n\x1b[2J")
    }

    #[test]
    fn statuses_are_faults_of_their_kind() {
        for (status, kind) in [
            (302, FaultKind::Permanent),
            (400, FaultKind::Permanent),
            (401, FaultKind::Permanent),
            (404, FaultKind::Permanent),
            (408, FaultKind::Temporary),
            (429, FaultKind::Temporary),
            (500, FaultKind::Temporary),
            (503, FaultKind::Temporary),
        ] {
            let fault = answer(status, &[("location", "https://evil/"), ("retry-after", "7")]).good("srv", &Transcript::new()).unwrap_err();
            assert_eq!(fault.kind, kind, "{status}");
            assert_eq!(fault.retry_after.is_some(), kind == FaultKind::Temporary, "{status}");
            assert!(!fault.text.contains('\x1b'), "{fault}");
        }
        assert!(answer(204, &[]).good("srv", &Transcript::new()).is_ok());
    }

    #[test]
    fn a_wait_is_seconds_or_a_date_and_bounded() {
        let wait = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            retry_after(&headers, 1_445_412_480_000 - 30_000).map(|wait| wait.as_secs())
        };
        for (text, want) in [
            ("7", Some(7)),
            ("99999999", Some(3600)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(30)),
            ("Wed, 21 Oct 2010 07:28:00 GMT", Some(0)),
            ("Wed, 21 Oct 2095 07:28:00 GMT", Some(3600)),
            ("-1", None),
            ("soon", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(wait(text), want, "{text}");
        }
    }
}
