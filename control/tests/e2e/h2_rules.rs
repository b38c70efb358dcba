//! The rules of RFC 9113 and RFC 7541 as a table: frames in, reaction out, over a real socket. The cases are those that a conformance test of
//! servers looks at, section by section; each says what a client does, and what alone is right then.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::frames::{DATA, Frame, Frames, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, fields};
use crate::origin::{Origin, standard};
use crate::rig::{SOON, Site, Weir, http_site};
use crate::wire;

const PRIORITY: u8 = 2;
const PUSH_PROMISE: u8 = 5;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// A type that nobody has given a meaning.
const UNKNOWN: u8 = 0xfe;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;

/// The bound on streams at once that the listener has in these tests.
const STREAMS_MAX: u32 = 4;

/// What a client does.
enum Do {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Waits for the end of the answer on this stream.
    Answered(u32),
}

/// What alone is right.
#[derive(Clone, Copy, Debug)]
enum Right {
    /// The connection ends with one of these codes.
    Ends(&'static [u32]),
    /// This stream ends with one of these codes, or the whole connection does (RFC 9113 section 5.4.2).
    Resets(u32, &'static [u32]),
    /// The stream is reset with PROTOCOL_ERROR, or answered with 400: nothing of it gets through, and the connection goes on (RFC 9113 section 8.1.1).
    Refuses(u32),
    /// The stream is answered with 200.
    Serves(u32),
    /// Nothing: the connection goes on, and no stream is reset.
    GoesOn,
}

use Do::{Answered, Send};
use Right::{Ends, GoesOn, Refuses, Resets, Serves};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Do {
    Send(Frames::bytes(kind, flags, stream, payload))
}

/// A whole request.
fn get(stream: u32) -> Do {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields("GET", "/who", &[]))
}

/// A request whose answer waits.
fn held(stream: u32) -> Do {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields("GET", "/held", &[]))
}

/// The head of a request whose body follows.
fn open(stream: u32) -> Do {
    frame(HEADERS, END_HEADERS, stream, &fields("POST", "/echo", &[]))
}

fn reset(stream: u32) -> Do {
    frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())
}

fn update(stream: u32, more: u32) -> Do {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

fn setting(number: u16, value: u32) -> Do {
    frame(SETTINGS, 0, 0, &[&number.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

/// A whole request made of these fields alone, none of them compressed.
fn request(names: &[(&str, &str)]) -> Do {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(names))
}

fn block(names: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in names {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend(text.bytes());
        }
    }
    block
}

/// An ordinary request's fields and one more.
fn with(name: &str, value: &str) -> Do {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields("GET", "/who", &[(name, value)]))
}

/// An ordinary request's block and what follows it.
fn then(more: &[u8]) -> Do {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &[&fields("GET", "/who", &[]), more].concat())
}

/// A request of this block whose body is in these pieces and says that it is so long.
fn long(length: &str, pieces: &[&[u8]]) -> Vec<Do> {
    let mut all = vec![frame(HEADERS, END_HEADERS, 1, &fields("POST", "/echo", &[("content-length", length)]))];
    for (number, piece) in pieces.iter().enumerate() {
        all.push(frame(DATA, if number + 1 == pieces.len() { END_STREAM } else { 0 }, 1, piece));
    }
    all
}

fn frames_and_streams() -> Vec<(&'static str, &'static str, Vec<Do>, Right)> {
    let head = || fields("GET", "/who", &[]);
    let cut = head().len() / 2;
    let split = |flags: u8| frame(HEADERS, flags, 1, &head()[..cut]);
    let rest = |flags: u8| frame(CONTINUATION, flags, 1, &head()[cut..]);
    vec![
        ("4.1", "a frame of an unknown type", vec![frame(UNKNOWN, 0xff, 0, &[0; 8]), get(1)], Serves(1)),
        ("4.1", "flags without a meaning", vec![frame(PING, 0x16, 0, &[1; 8])], GoesOn),
        ("4.1", "the reserved bit of a stream's number", vec![frame(HEADERS, 5, 0x8000_0001, &head())], Serves(1)),
        ("4.2", "DATA as long as allowed", vec![open(1), frame(DATA, 0, 1, &[b'x'; 16_384]), frame(DATA, 1, 1, b"y")], Serves(1)),
        ("4.2", "DATA longer than allowed", vec![open(1), frame(DATA, 1, 1, &[b'x'; 16_385])], Resets(1, &[FRAME_SIZE_ERROR])),
        ("4.2", "HEADERS longer than allowed", vec![frame(HEADERS, 5, 1, &[0x82; 16_385])], Ends(&[FRAME_SIZE_ERROR])),
        (
            "4.3",
            "a field block that cannot be read",
            vec![frame(HEADERS, 5, 1, &[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])],
            Ends(&[COMPRESSION_ERROR]),
        ),
        (
            "4.3",
            "PRIORITY within a field block",
            vec![split(1), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 255]), rest(4)],
            Ends(&[PROTOCOL_ERROR]),
        ),
        ("4.3", "HEADERS of another stream within a field block", vec![split(1), get(3)], Ends(&[PROTOCOL_ERROR])),
        ("5.1", "DATA on a stream that is idle", vec![frame(DATA, 1, 1, b"x")], Ends(&[PROTOCOL_ERROR])),
        ("5.1", "RST_STREAM on a stream that is idle", vec![reset(1)], Ends(&[PROTOCOL_ERROR])),
        ("5.1", "WINDOW_UPDATE on a stream that is idle", vec![update(1, 100)], Ends(&[PROTOCOL_ERROR])),
        ("5.1", "CONTINUATION on a stream that is idle", vec![frame(CONTINUATION, 4, 1, &head())], Ends(&[PROTOCOL_ERROR])),
        ("5.1", "PRIORITY on a stream that is idle", vec![frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 255]), get(3)], Serves(3)),
        ("5.1", "DATA behind the end of a request", vec![held(1), frame(DATA, 1, 1, b"x")], Resets(1, &[STREAM_CLOSED])),
        ("5.1", "HEADERS behind the end of a request", vec![held(1), held(1)], Resets(1, &[STREAM_CLOSED])),
        ("5.1", "CONTINUATION behind the end of a request", vec![held(1), frame(CONTINUATION, 4, 1, &head())], Ends(&[PROTOCOL_ERROR])),
        ("5.1", "WINDOW_UPDATE behind the end of a request", vec![get(1), update(1, 100)], Serves(1)),
        ("5.1", "DATA on a stream that was reset", vec![open(1), reset(1), frame(DATA, 1, 1, b"x")], Resets(1, &[STREAM_CLOSED])),
        ("5.1", "HEADERS on a stream that was reset", vec![open(1), reset(1), get(1)], Resets(1, &[STREAM_CLOSED])),
        (
            "5.1",
            "CONTINUATION on a stream that was reset",
            vec![open(1), reset(1), frame(CONTINUATION, 5, 1, &head())],
            Ends(&[PROTOCOL_ERROR]),
        ),
        ("5.1", "DATA on a stream that is over", vec![get(1), Answered(1), frame(DATA, 1, 1, b"x")], Resets(1, &[STREAM_CLOSED])),
        ("5.1", "HEADERS on a stream that is over", vec![get(1), Answered(1), get(1)], Ends(&[STREAM_CLOSED])),
        (
            "5.1",
            "CONTINUATION on a stream that is over",
            vec![get(1), Answered(1), frame(CONTINUATION, 5, 1, &head())],
            Ends(&[PROTOCOL_ERROR]),
        ),
        (
            "5.1",
            "WINDOW_UPDATE and RST_STREAM on a stream that is over",
            vec![get(1), Answered(1), update(1, 1), reset(1), get(3)],
            Serves(3),
        ),
        ("5.1.1", "a stream with an even number", vec![get(2)], Ends(&[PROTOCOL_ERROR])),
        ("5.1.1", "a stream with a number below the last", vec![get(5), Answered(5), get(3)], Ends(&[PROTOCOL_ERROR])),
        (
            "5.1.2",
            "more streams at once than allowed",
            (0..=STREAMS_MAX).map(|n| held(n * 2 + 1)).collect(),
            Resets(STREAMS_MAX * 2 + 1, &[REFUSED_STREAM, PROTOCOL_ERROR]),
        ),
        (
            "5.3.1",
            "HEADERS that depend on themselves",
            vec![frame(HEADERS, 5 | WITH_PRIORITY, 1, &[&[0, 0, 0, 1, 15][..], &head()].concat())],
            Resets(1, &[PROTOCOL_ERROR]),
        ),
        ("5.3.1", "PRIORITY that depends on itself", vec![open(1), frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 15])], Resets(1, &[PROTOCOL_ERROR])),
        ("5.5", "an unknown frame within a field block", vec![split(1), frame(UNKNOWN, 0, 1, &[0; 8]), rest(4)], Ends(&[PROTOCOL_ERROR])),
        ("6.1", "DATA on stream 0", vec![frame(DATA, 0, 0, b"x")], Ends(&[PROTOCOL_ERROR])),
        ("6.1", "DATA that is padded", vec![open(1), frame(DATA, 1 | PADDED, 1, &[2, b'x', 0, 0])], Serves(1)),
        (
            "6.1",
            "DATA with more padding than payload",
            vec![open(1), frame(DATA, 1 | PADDED, 1, &[5, b'x', 0, 0])],
            Ends(&[PROTOCOL_ERROR]),
        ),
        ("6.2", "HEADERS on stream 0", vec![frame(HEADERS, 5, 0, &head())], Ends(&[PROTOCOL_ERROR])),
        ("6.2", "HEADERS that are padded", vec![frame(HEADERS, 5 | PADDED, 1, &[&[3][..], &head(), &[0; 3]].concat())], Serves(1)),
        (
            "6.2",
            "HEADERS with more padding than payload",
            vec![frame(HEADERS, 5 | PADDED, 1, &[&[255][..], &head()].concat())],
            Ends(&[PROTOCOL_ERROR]),
        ),
        (
            "6.2",
            "HEADERS with a priority",
            vec![frame(HEADERS, 5 | WITH_PRIORITY, 1, &[&[0, 0, 0, 0, 15][..], &head()].concat())],
            Serves(1),
        ),
        ("6.3", "PRIORITY on stream 0", vec![frame(PRIORITY, 0, 0, &[0, 0, 0, 1, 15])], Ends(&[PROTOCOL_ERROR])),
        ("6.3", "PRIORITY of another length", vec![open(1), frame(PRIORITY, 0, 1, &[0, 0, 0, 1])], Resets(1, &[FRAME_SIZE_ERROR])),
        ("6.4", "RST_STREAM on stream 0", vec![reset(0)], Ends(&[PROTOCOL_ERROR])),
        ("6.4", "RST_STREAM of another length", vec![open(1), frame(RST_STREAM, 0, 1, &[0, 0, 0])], Ends(&[FRAME_SIZE_ERROR])),
        ("6.5", "an acknowledgement of settings with a payload", vec![frame(SETTINGS, ACK, 0, &[0; 6])], Ends(&[FRAME_SIZE_ERROR])),
        ("6.5", "SETTINGS on a stream", vec![frame(SETTINGS, 0, 1, &[])], Ends(&[PROTOCOL_ERROR])),
        ("6.5", "SETTINGS of another length", vec![frame(SETTINGS, 0, 0, &[0; 3])], Ends(&[FRAME_SIZE_ERROR])),
        ("6.5.2", "a push that is neither on nor off", vec![setting(2, 2)], Ends(&[PROTOCOL_ERROR])),
        ("6.5.2", "a window that is too large", vec![setting(4, 0x8000_0000)], Ends(&[FLOW_CONTROL_ERROR])),
        ("6.5.2", "frames that are too short", vec![setting(5, 16_383)], Ends(&[PROTOCOL_ERROR])),
        ("6.5.2", "frames that are too long", vec![setting(5, 16_777_216)], Ends(&[PROTOCOL_ERROR])),
        ("6.5.2", "a setting without a meaning", vec![setting(0xfe, 7), get(1)], Serves(1)),
        (
            "6.6",
            "PUSH_PROMISE of a client",
            vec![open(1), frame(PUSH_PROMISE, 4, 1, &[&[0, 0, 0, 2][..], &head()].concat())],
            Ends(&[PROTOCOL_ERROR]),
        ),
        ("6.7", "PING on a stream", vec![frame(PING, 0, 1, &[0; 8])], Ends(&[PROTOCOL_ERROR])),
        ("6.7", "PING of another length", vec![frame(PING, 0, 0, &[0; 6])], Ends(&[FRAME_SIZE_ERROR])),
        ("6.7", "an answer to no PING", vec![frame(PING, ACK, 0, b"invented")], GoesOn),
        ("6.8", "GOAWAY on a stream", vec![frame(GOAWAY, 0, 1, &[0; 8])], Ends(&[PROTOCOL_ERROR])),
        ("6.9", "a connection's window that grows by nothing", vec![update(0, 0)], Ends(&[PROTOCOL_ERROR])),
        ("6.9", "a stream's window that grows by nothing", vec![open(1), update(1, 0)], Resets(1, &[PROTOCOL_ERROR])),
        ("6.9", "WINDOW_UPDATE of another length", vec![frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])], Ends(&[FRAME_SIZE_ERROR])),
        (
            "6.9.1",
            "a connection's window beyond the largest",
            vec![update(0, 0x7fff_ffff), update(0, 0x7fff_ffff)],
            Ends(&[FLOW_CONTROL_ERROR]),
        ),
        (
            "6.9.1",
            "a stream's window beyond the largest",
            vec![open(1), update(1, 0x7fff_ffff), update(1, 0x7fff_ffff)],
            Resets(1, &[FLOW_CONTROL_ERROR]),
        ),
        (
            "6.10",
            "a field block in three frames",
            vec![split(1), frame(CONTINUATION, 0, 1, &head()[cut..cut + 3]), frame(CONTINUATION, 4, 1, &head()[cut + 3..])],
            Serves(1),
        ),
        ("6.10", "DATA within a field block", vec![frame(HEADERS, 0, 1, &head()[..cut]), frame(DATA, 1, 1, b"x")], Ends(&[PROTOCOL_ERROR])),
        ("6.10", "CONTINUATION on stream 0", vec![split(1), frame(CONTINUATION, 4, 0, &head()[cut..])], Ends(&[PROTOCOL_ERROR])),
        (
            "6.10",
            "CONTINUATION behind the end of a field block",
            vec![open(1), frame(CONTINUATION, 4, 1, &head())],
            Ends(&[PROTOCOL_ERROR]),
        ),
        (
            "6.10",
            "CONTINUATION behind DATA",
            vec![open(1), frame(DATA, 0, 1, b"x"), frame(CONTINUATION, 4, 1, &head())],
            Ends(&[PROTOCOL_ERROR]),
        ),
        ("7", "RST_STREAM with a code without a meaning", vec![open(1), frame(RST_STREAM, 0, 1, &[0, 0, 0, 0xff]), get(3)], Serves(3)),
    ]
}

fn messages() -> Vec<(&'static str, &'static str, Vec<Do>, Right)> {
    let (method, scheme, path, host) = ((":method", "GET"), (":scheme", "http"), (":path", "/who"), (":authority", "web.test"));
    let trailers = |names: &[(&str, &str)], flags: u8| vec![open(1), frame(DATA, 0, 1, b"x"), frame(HEADERS, flags, 1, &block(names))];
    vec![
        ("8.1", "HEADERS in the middle of a request", trailers(&[("x-test", "ok")], END_HEADERS), Resets(1, &[PROTOCOL_ERROR])),
        ("8.1", "trailers", trailers(&[("x-test", "ok")], END_HEADERS | END_STREAM), Serves(1)),
        ("8.1", "trailers with a pseudo-field", trailers(&[(":method", "GET")], END_HEADERS | END_STREAM), Resets(1, &[PROTOCOL_ERROR])),
        ("8.2.1", "a name in capitals", vec![with("X-TEST", "ok")], Refuses(1)),
        ("8.2.1", "a name with a space", vec![with("x test", "ok")], Refuses(1)),
        ("8.2.1", "a name that is empty", vec![with("", "ok")], Refuses(1)),
        ("8.2.1", "a name with a colon", vec![with("x:test", "ok")], Refuses(1)),
        ("8.2.1", "a value with a line break", vec![with("x-test", "a\r\nb: c")], Refuses(1)),
        ("8.2.1", "a value with a zero", vec![with("x-test", "a\0b")], Refuses(1)),
        ("8.2.2", "a field of the connection", vec![with("connection", "keep-alive")], Refuses(1)),
        ("8.2.2", "a coding of the connection", vec![with("transfer-encoding", "chunked")], Refuses(1)),
        ("8.2.2", "an upgrade", vec![with("upgrade", "h2c")], Refuses(1)),
        ("8.2.2", "keep-alive", vec![with("keep-alive", "timeout=5")], Refuses(1)),
        ("8.2.2", "a proxy's connection", vec![with("proxy-connection", "keep-alive")], Refuses(1)),
        ("8.2.2", "TE with more than trailers", vec![with("te", "trailers, deflate;q=0.5")], Refuses(1)),
        ("8.2.2", "TE with trailers", vec![with("te", "trailers")], Serves(1)),
        ("8.3", "an unknown pseudo-field", vec![request(&[method, scheme, path, host, (":test", "ok")])], Refuses(1)),
        ("8.3", "a pseudo-field of answers", vec![request(&[method, scheme, path, host, (":status", "200")])], Refuses(1)),
        ("8.3", "a pseudo-field behind a field", vec![request(&[method, scheme, path, ("x-test", "ok"), host])], Refuses(1)),
        ("8.3.1", "a path that is empty", vec![request(&[method, scheme, (":path", ""), host])], Refuses(1)),
        ("8.3.1", "no method", vec![request(&[scheme, path, host])], Refuses(1)),
        ("8.3.1", "no scheme", vec![request(&[method, path, host])], Refuses(1)),
        ("8.3.1", "no path", vec![request(&[method, scheme, host])], Refuses(1)),
        ("8.3.1", "two methods", vec![request(&[method, method, scheme, path, host])], Refuses(1)),
        ("8.3.1", "two schemes", vec![request(&[method, scheme, scheme, path, host])], Refuses(1)),
        ("8.3.1", "two paths", vec![request(&[method, scheme, path, path, host])], Refuses(1)),
        ("8.3.1", "two authorities", vec![request(&[method, scheme, path, host, host])], Refuses(1)),
        (
            "8.3.1",
            "an authority that the host contradicts",
            vec![request(&[method, scheme, path, host, ("host", "other.test")])],
            Refuses(1),
        ),
        ("8.3.1", "a host in place of the authority", vec![request(&[method, scheme, path, ("host", "web.test")])], Serves(1)),
        ("8.1.1", "less than its length", long("2", &[b"x"]), Refuses(1)),
        ("8.1.1", "more than its length", long("1", &[b"xy"]), Refuses(1)),
        ("8.1.1", "more than its length in two frames", long("3", &[b"xy", b"zz"]), Refuses(1)),
        ("8.1.1", "its length in two frames", long("4", &[b"xy", b"zz"]), Serves(1)),
    ]
}

fn compression() -> Vec<(&'static str, &'static str, Vec<Do>, Right)> {
    let grow: Vec<u8> = vec![0x3f, 0xe1, 0x5f];
    let block_of = |bytes: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, 1, bytes);
    vec![
        ("HPACK 2.3.3", "an index beyond both tables", vec![then(&[0xc6])], Ends(&[COMPRESSION_ERROR])),
        ("HPACK 2.3.3", "a name's index beyond both tables", vec![then(&[0x7f, 0x07, 0x01, b'x'])], Ends(&[COMPRESSION_ERROR])),
        ("HPACK 4.2", "a table that changes its size behind a field", vec![then(&[0x20])], Ends(&[COMPRESSION_ERROR])),
        (
            "HPACK 4.2",
            "a table that changes its size in front",
            vec![block_of(&[&[0x20][..], &fields("GET", "/who", &[])].concat())],
            Serves(1),
        ),
        (
            "HPACK 5.2",
            "padding of more than seven bits",
            vec![then(&[0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x84, 0x49, 0x50, 0x9f, 0xff])],
            Ends(&[COMPRESSION_ERROR]),
        ),
        (
            "HPACK 5.2",
            "padding that is not of ones",
            vec![then(&[0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x83, 0x49, 0x50, 0x90])],
            Ends(&[COMPRESSION_ERROR]),
        ),
        (
            "HPACK 5.2",
            "the end of strings within one",
            vec![then(&[0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x87, 0x49, 0x51, 0xff, 0xff, 0xff, 0xfa, 0x7f])],
            Ends(&[COMPRESSION_ERROR]),
        ),
        ("HPACK 6.1", "index 0", vec![then(&[0x80])], Ends(&[COMPRESSION_ERROR])),
        (
            "HPACK 6.3",
            "a table larger than allowed",
            vec![block_of(&[&grow[..], &fields("GET", "/who", &[])].concat())],
            Ends(&[COMPRESSION_ERROR]),
        ),
        ("HPACK 6.2.1", "a field that is remembered", vec![then(&[0x40, 0x01, b'x', 0x01, b'y', 0xbe])], Serves(1)),
    ]
}

/// What came of it: a word for the table's right one, or what was seen instead.
fn reaction(client: &mut Frames, right: Right) -> Result<(), String> {
    let code =
        |frame: &Frame, at: usize| frame.payload.get(at..at + 4).map(|code| u32::from_be_bytes(code.try_into().expect("four bytes")));
    let mut status = None;
    loop {
        let Some(frame) = client.receive() else { return Err("the connection ended without a word".into()) };
        match (frame.kind, right) {
            (GOAWAY, Ends(codes)) => {
                let got = code(&frame, 4).unwrap_or(u32::MAX);
                if !codes.contains(&got) {
                    return Err(format!("GOAWAY with {got}"));
                }
                // And then it is over.
                while client.receive().is_some() {}
                return Ok(());
            }
            (RST_STREAM, Resets(stream, codes)) if frame.stream == stream => {
                let got = code(&frame, 0).unwrap_or(u32::MAX);
                return if codes.contains(&got) { Ok(()) } else { Err(format!("RST_STREAM with {got}")) };
            }
            (GOAWAY, Resets(_, codes)) if code(&frame, 4).is_some_and(|got| codes.contains(&got)) => return Ok(()),
            (RST_STREAM, Refuses(stream)) if frame.stream == stream && code(&frame, 0) == Some(PROTOCOL_ERROR) => return Ok(()),
            // 400 is number 12 of the static table.
            (HEADERS, Refuses(stream)) if frame.stream == stream && frame.payload[0] == 0x8c => return Ok(()),
            (HEADERS, Serves(stream)) if frame.stream == stream => {
                status = Some(frame.payload[0]);
                if frame.flags & END_STREAM != 0 {
                    return Err(format!("an answer without a body: {frame:?}"));
                }
            }
            (DATA, Serves(stream)) if frame.stream == stream && frame.flags & END_STREAM != 0 => {
                return if status == Some(0x88) { Ok(()) } else { Err(format!("the status is {status:x?}")) };
            }
            (PING, GoesOn) if frame.flags & ACK != 0 && frame.payload == b"still on" => return Ok(()),
            (PING, GoesOn) if frame.payload == b"invented" => return Err("an answer to an answer".into()),
            (GOAWAY | RST_STREAM, _) => return Err(format!("{frame:?}")),
            (HEADERS, Ends(_) | Resets(..) | Refuses(_))
                if frame.payload[0] == 0x88 && frame.stream > 0 && is_about(right, frame.stream) =>
            {
                return Err("it was answered with 200".into());
            }
            _ => {}
        }
    }
}

/// Whether an answer on this stream is the wrong reaction itself.
fn is_about(right: Right, stream: u32) -> bool {
    matches!(right, Resets(about, _) | Refuses(about) if about == stream)
}

fn try_one(address: SocketAddr, steps: &[Do], right: Right) -> Result<(), String> {
    let mut client = Frames::connect(address);
    for step in steps {
        match step {
            // Its end may be told before the last byte is taken.
            Send(bytes) => drop(client.0.write_all(bytes)),
            Answered(stream) => loop {
                let frame = client.receive().ok_or("the connection ended before an answer")?;
                if frame.stream == *stream && frame.kind == DATA && frame.flags & END_STREAM != 0 {
                    break;
                }
            },
        }
    }
    if matches!(right, GoesOn) {
        client.send(PING, 0, 0, b"still on");
    }
    reaction(&mut client, right)
}

#[test]
fn every_rule_is_obeyed() {
    let site = Site::new();
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let text = http_site("web", address, &[origin.address], "") + &format!("[listener.web.limits]\nstreams_max = {STREAMS_MAX}\n");
    let weir = Weir::start(&site, &text);
    let mut wrong = Vec::new();
    let mut count = 0;
    for (section, what, steps, right) in frames_and_streams().into_iter().chain(messages()).chain(compression()) {
        count += 1;
        if let Err(seen) = try_one(address, &steps, right) {
            wrong.push(format!("{section}, {what}: {right:?} would be right: {seen}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {count} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 100);
    origin.seen.release();
    assert_eq!(wire::get(address, "/who").expect("it serves on").text(), "a", "{}", weir.log());
}

/// RFC 9113 section 3.4: what begins like HTTP/2 must go on like it, with settings.
#[test]
fn a_connection_begins_as_it_must() {
    let site = Site::new();
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let _weir = Weir::start(&site, &http_site("web", address, &[origin.address], ""));
    let wrong_settings = [PREFACE, &Frames::bytes(PING, 0, 0, &[0; 8])].concat();
    for (what, bytes) in [("another preface", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec()), ("no settings first", wrong_settings)] {
        let mut peer = TcpStream::connect(address).expect("a connection");
        peer.set_read_timeout(Some(SOON)).expect("a timeout");
        peer.write_all(&bytes).expect("it is taken");
        let mut client = Frames(peer);
        let mut goodbye = None;
        while let Some(frame) = client.receive() {
            if frame.kind == GOAWAY {
                goodbye = Some(frame.payload[7]);
            }
        }
        // Section 3.4 lets a peer that does not speak HTTP/2 go without a word.
        assert!(goodbye.is_none_or(|code| u32::from(code) == PROTOCOL_ERROR), "{what}: {goodbye:?}");
    }
    let mut client = Frames::connect(address);
    let first = client.receive().expect("its settings");
    assert_eq!((first.kind, first.flags & ACK), (SETTINGS, 0), "settings come first");
    client.until("ours to be acknowledged", |frame| frame.kind == SETTINGS && frame.flags & ACK != 0);
    client.send(PING, 0, 0, b"are you?");
    let answer = client.until("an answer", |frame| frame.kind == PING);
    assert_eq!((answer.flags & ACK, &answer.payload[..]), (ACK, &b"are you?"[..]));
    client.0.shutdown(Shutdown::Write).expect("half of it");
    while client.receive().is_some() {}
}

/// RFC 9113 section 6.9.2: windows that shrink below nothing and grow again.
#[test]
fn windows_are_obeyed() {
    let site = Site::new();
    let (address, origin) = (site.address(), Origin::behaving(&site, "a", standard()));
    let _weir = Weir::start(&site, &http_site("web", address, &[origin.address], ""));
    let window = |client: &mut Frames, bytes: u32| client.send(SETTINGS, 0, 0, &[&[0, 4][..], &bytes.to_be_bytes()].concat());
    let data = |frame: &Frame| frame.kind == DATA && !frame.payload.is_empty();

    let mut client = Frames::connect(address);
    window(&mut client, 1);
    client.send(HEADERS, 5, 1, &fields("GET", "/bytes/10", &[]));
    assert_eq!(client.until("one byte", data).payload.len(), 1);
    // Two values in one frame: the last one holds (section 6.5.3).
    client.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 9, 0, 4, 0, 0, 0, 3]);
    assert_eq!(client.until("two more", data).payload.len(), 2);
    // Three were sent: a window of none is one of minus three, which two more bytes leave closed.
    window(&mut client, 0);
    client.send(WINDOW_UPDATE, 0, 1, &2u32.to_be_bytes());
    client.send(PING, 0, 0, b"nothing?");
    client.until("no data before the answer", |frame| {
        assert!(!data(frame), "{frame:?}");
        frame.kind == PING
    });
    client.send(WINDOW_UPDATE, 0, 1, &8u32.to_be_bytes());
    assert_eq!(client.until("the rest", data).payload.len(), 7);
}
