//! A client's connection over HTTP/2: whatever it sends, what comes of it is bounded, does not depend on how it arrived, and is requests that
//! the one strict reader sees the ends of where the client put them.

use std::net::{IpAddr, Ipv4Addr};

use weir_config::{ForwardHeaders, HttpLimits};
use weir_lb::h2::flood::PREFACE;
use weir_lb::h2::frame::{HEAD, Head, flag, kind};
use weir_lb::h2::hpack::decode::Decoder;
use weir_lb::h2::machine::{Broken, Limits, Machine};
use weir_lb::http1::request::{self, Forward};
use weir_lb::http1::{Body, Bounds, Scanner};

const STREAMS_MAX: u32 = 4;
/// How a connection begins: the preface and settings of the client's.
const SETTINGS: [u8; HEAD] = [0, 0, 0, kind::SETTINGS, 0, 0, 0, 0, 0];

/// A connection that got all this in pieces of this size, or ended before.
fn fed(data: &[u8], piece: usize) -> (Machine, Result<(), Broken>, Vec<u32>) {
    let limits = Limits { streams_max: STREAMS_MAX, head_bytes_max: HttpLimits::default().head_bytes_max, secure: false };
    let mut machine = Machine::new(limits);
    let mut opened = Vec::new();
    let bytes = [PREFACE, &SETTINGS, data].concat();
    for piece in bytes.chunks(piece) {
        let taken = machine.receive(piece, 0);
        machine.take_opened(|slot| opened.push(slot));
        machine.take_woken(|slot| assert!(slot < 2 * STREAMS_MAX, "slot {slot}: {}", data.escape_ascii()));
        if taken.is_err() {
            return (machine, taken, opened);
        }
    }
    (machine, Ok(()), opened)
}

/// The first byte chooses the pieces, the rest is what a client sends behind its preface and its settings.
pub fn h2_client(data: &[u8]) {
    let Some((options, data)) = data.split_first() else { return };
    let shown = || data.escape_ascii().to_string();
    let (mut machine, result, opened) = fed(data, usize::MAX >> 1);
    let (in_pieces, result_in_pieces, opened_in_pieces) = fed(data, usize::from(options >> 2) + 1);
    assert_eq!((result, &opened), (result_in_pieces, &opened_in_pieces), "{}", shown());
    assert_eq!(machine.unsent(), in_pieces.unsent(), "{}", shown());
    assert!(machine.used() <= 2 * STREAMS_MAX as usize, "{}", shown());
    assert!(machine.unsent().len() <= 200 + 3 * data.len(), "{} bytes for {}", machine.unsent().len(), shown());

    let mut told = Vec::new();
    for slot in &opened {
        let is_tunnel = machine.wants_nonce(*slot);
        if is_tunnel {
            machine.give_nonce(*slot, [7; 16]);
        }
        read(&mut machine, *slot, usize::from(options & 3) * 100 + 1, &shown);
        let answer: &[u8] = match options & 3 {
            0 => b"HTTP/1.1 204 No Content\r\n\r\n",
            3 if is_tunnel => b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nraw",
            2 => b"HTTP/1.1 103 Early\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n",
            _ => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        };
        // Whoever is gone takes none; who has no window takes a part.
        let written = machine.write(*slot, answer);
        assert!(written.is_ok() || machine.is_gone(*slot), "{written:?}: {}", shown());
        if *slot % 2 == 0 {
            told.extend_from_slice(machine.unsent());
            machine.flushed(machine.unsent().len());
        }
        machine.finish(*slot, false);
    }
    told.extend_from_slice(machine.unsent());
    assert_eq!(machine.used(), 0, "{}", shown());
    look(&told, &shown);
}

/// Reads what came of a request and holds it against the reader of HTTP/1.1.
fn read(machine: &mut Machine, slot: u32, size: usize, shown: &dyn Fn() -> String) {
    let (mut text, mut room, mut ended) = (Vec::new(), vec![0; size], false);
    let is_tunnel = machine.wants_nonce(slot);
    loop {
        match machine.read(slot, &mut room) {
            Ok(Some(0)) => ended = true,
            Ok(Some(count)) => {
                text.extend_from_slice(&room[..count]);
                continue;
            }
            Ok(None) => {}
            Err(_) => return,
        }
        break;
    }
    let Ok(Some(head_len)) = Scanner::default().scan(&text, &Bounds::from(&HttpLimits::default())) else { return };
    let forward = Forward {
        headers: &ForwardHeaders { x_forwarded: true, forwarded: false, via: false, request_id: None, trusted: Vec::new() },
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        scheme: "http",
        node: "weir",
        request_id: 7,
        trusted: false,
    };
    let Ok(read) = request::parse(&text, head_len, &forward, &mut Vec::new()) else { return };
    assert_eq!(read.minor, 1, "{}", shown());
    assert_eq!(read.upgrade, is_tunnel, "{}", shown());
    if is_tunnel {
        return;
    }
    let mut body = read.body;
    let is_chunked = matches!(body, Body::Chunked(_));
    let rest = text.len() - head_len;
    match body.advance(&mut text[head_len..]) {
        Ok(advance) => {
            // Nothing is left that could be taken for another request, and the end is where the client said.
            assert_eq!(advance.consumed, rest, "{}", shown());
            // A length may be reached before the client says so.
            assert!(if is_chunked { body.is_done() == ended } else { body.is_done() || !ended }, "{}", shown());
        }
        // Trailers that may not be some.
        Err(_) => assert!(is_chunked, "{}", shown()),
    }
}

/// What we said is frames that can be read, each stream's up to its end.
fn look(told: &[u8], shown: &dyn Fn() -> String) {
    let (mut rest, mut over, mut reader) = (told, Vec::new(), Decoder::default());
    while let Some((head, more)) = rest.split_first_chunk::<HEAD>() {
        let head = Head::read(head);
        let (payload, more) = more.split_at(head.len);
        rest = more;
        match head.kind {
            kind::HEADERS | kind::DATA => {
                assert!(!over.contains(&head.stream) && head.stream % 2 == 1, "{head:?}: {}", shown());
                if head.kind == kind::HEADERS {
                    reader.decode(payload, |_| {}).unwrap_or_else(|error| panic!("{error}: {}", shown()));
                }
                if head.has(flag::END_STREAM) {
                    over.push(head.stream);
                }
            }
            kind::RST_STREAM => over.push(head.stream),
            kind::SETTINGS | kind::PING | kind::GOAWAY => assert_eq!(head.stream, 0, "{head:?}: {}", shown()),
            kind::WINDOW_UPDATE => {}
            _ => panic!("{head:?}: {}", shown()),
        }
    }
    assert!(rest.is_empty(), "{}", shown());
}
