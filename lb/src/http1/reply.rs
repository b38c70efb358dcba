//! Answers of our own: small, in JSON or text by what the client accepts.

use crate::cause::Cause;

/// What shapes an answer.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// Why.
    pub cause: Cause,
    /// What to tell people; a plain sentence without quotes.
    pub detail: &'a str,
    /// JSON instead of text.
    pub json: bool,
    /// No body: the request was `HEAD`.
    pub head_only: bool,
    /// We close after it.
    pub close: bool,
    /// The client speaks HTTP/1.0.
    pub http10: bool,
    /// `Retry-After` in seconds; only sent with 429 and 503.
    pub retry_after_s: u32,
    /// Request id; may be empty. Must be printable ASCII.
    pub request_id: &'a [u8],
}

/// The reason phrase of the statuses we send.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        // A reason phrase may be empty (RFC 9112 section 4).
        _ => "",
    }
}

/// Whether a client that sent this `Accept` wants JSON rather than text.
pub fn wants_json(accept: Option<&[u8]>) -> bool {
    let Some(accept) = accept else { return false };
    let place = |what: &[u8]| accept.windows(what.len()).position(|window| window.eq_ignore_ascii_case(what));
    match (place(b"json"), place(b"text/")) {
        (Some(json), Some(text)) => json < text,
        (json, None) => json.is_some(),
        (None, Some(_)) => false,
    }
}

/// Appends the whole answer.
pub fn write(reply: &Reply<'_>, out: &mut Vec<u8>) {
    let status = reply.cause.status();
    let mut digits = itoa::Buffer::new();
    let mut body = Vec::with_capacity(256);
    if reply.json {
        body.extend_from_slice(b"{\"status\":");
        body.extend_from_slice(digits.format(status).as_bytes());
        for (key, value) in [
            (&b"title"[..], reason(status).as_bytes()),
            (b"cause", reply.cause.word().as_bytes()),
            (b"detail", reply.detail.as_bytes()),
            (b"request_id", reply.request_id),
        ] {
            body.extend_from_slice(b",\"");
            body.extend_from_slice(key);
            body.extend_from_slice(b"\":\"");
            body.extend(value.iter().filter(|byte| !matches!(byte, b'"' | b'\\')));
            body.push(b'"');
        }
        body.extend_from_slice(b"}\n");
    } else {
        body.extend_from_slice(digits.format(status).as_bytes());
        for part in [" ", reason(status), "\n", reply.detail, "\ncause: ", reply.cause.word(), "\n"] {
            body.extend_from_slice(part.as_bytes());
        }
        if !reply.request_id.is_empty() {
            body.extend_from_slice(b"request id: ");
            body.extend_from_slice(reply.request_id);
            body.push(b'\n');
        }
    }

    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(digits.format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\nContent-Type: ");
    out.extend_from_slice(if reply.json { b"application/json" } else { b"text/plain; charset=utf-8" });
    out.extend_from_slice(b"\r\nCache-Control: no-store\r\nContent-Length: ");
    out.extend_from_slice(digits.format(body.len()).as_bytes());
    if matches!(status, 429 | 503) {
        out.extend_from_slice(b"\r\nRetry-After: ");
        out.extend_from_slice(digits.format(reply.retry_after_s).as_bytes());
    }
    if reply.close {
        out.extend_from_slice(b"\r\nConnection: close");
    } else if reply.http10 {
        out.extend_from_slice(b"\r\nConnection: keep-alive");
    }
    out.extend_from_slice(b"\r\n\r\n");
    if !reply.head_only {
        out.extend_from_slice(&body);
    }
}

/// What shapes an answer that a route gives.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// The status.
    pub status: u16,
    /// No body: the request was `HEAD`.
    pub head_only: bool,
    /// We close after it.
    pub close: bool,
    /// The client speaks HTTP/1.0.
    pub http10: bool,
}

/// Appends an answer with this body; neither a type nor a length where the status has no body.
pub fn write_answer(own: &Own, content_type: &str, body: &[u8], out: &mut Vec<u8>) {
    begin_own(own, out);
    if !matches!(own.status, 204 | 304) {
        if !body.is_empty() {
            out.extend_from_slice(b"\r\nContent-Type: ");
            out.extend_from_slice(content_type.as_bytes());
        }
        out.extend_from_slice(b"\r\nContent-Length: ");
        out.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
    }
    end_own(own, out);
    if !own.head_only {
        out.extend_from_slice(body);
    }
}

/// Appends an answer that sends the client to another place, which `write` appends.
pub fn write_location(own: &Own, write: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    begin_own(own, out);
    out.extend_from_slice(b"\r\nLocation: ");
    write(out);
    out.extend_from_slice(b"\r\nContent-Length: 0");
    end_own(own, out);
}

fn begin_own(own: &Own, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(own.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(own.status).as_bytes());
}

fn end_own(own: &Own, out: &mut Vec<u8>) {
    if own.close {
        out.extend_from_slice(b"\r\nConnection: close");
    } else if own.http10 {
        out.extend_from_slice(b"\r\nConnection: keep-alive");
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Writes a 308 to the same place by HTTPS (RFC 9110 section 15.4.9): the host as asked for, the path and query of the target.
pub fn write_redirect(host: &[u8], port: u16, path: &[u8], target: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 308 Permanent Redirect\r\nlocation: https://");
    out.extend_from_slice(host);
    if port != 443 {
        out.push(b':');
        out.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
    }
    // `*` has no path.
    out.extend_from_slice(if path.is_empty() { b"/" } else { path });
    if let Some(query) = memchr::memchr(b'?', target) {
        out.extend_from_slice(&target[query..]);
    }
    out.extend_from_slice(b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_chooses_the_format() {
        for (accept, json) in [
            (None, false),
            (Some("*/*"), false),
            (Some("application/json"), true),
            (Some("application/problem+json"), true),
            (Some("text/html,application/xhtml+xml"), false),
            (Some("text/html, application/json"), false),
            (Some("application/json, text/plain, */*"), true),
        ] {
            assert_eq!(wants_json(accept.map(str::as_bytes)), json, "{accept:?}");
        }
    }

    #[test]
    fn length_fits_the_body() {
        for json in [true, false] {
            let mut out = Vec::new();
            let reply = Reply {
                cause: Cause::NoEndpoint,
                detail: "no endpoint of the pool is available",
                json,
                head_only: false,
                close: true,
                http10: false,
                retry_after_s: 1,
                request_id: b"abc",
            };
            write(&reply, &mut out);
            let text = String::from_utf8(out).expect("text");
            let (head, body) = text.split_once("\r\n\r\n").expect("an empty line");
            assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
            assert!(head.contains("Retry-After: 1") && head.ends_with("Connection: close"), "{head}");
            assert!(body.contains("no-endpoint") && body.contains("abc"), "{body}");
        }
    }

    #[test]
    fn redirects_keep_host_path_and_query() {
        for (host, port, path, target, location) in [
            ("a.example", 443, "/x", "/x?q=1", "https://a.example/x?q=1"),
            ("a.example", 8443, "/", "/", "https://a.example:8443/"),
            ("[::1]", 443, "/x", "http://[::1]/x?q", "https://[::1]/x?q"),
            ("a.example", 443, "", "*", "https://a.example/"),
        ] {
            let mut out = Vec::new();
            write_redirect(host.as_bytes(), port, path.as_bytes(), target.as_bytes(), &mut out);
            let text = String::from_utf8(out).expect("ascii");
            assert!(text.contains(&format!("\r\nlocation: {location}\r\n")), "{text}");
        }
    }
}
