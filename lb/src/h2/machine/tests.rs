use super::*;
use crate::h2::hpack::decode::Decoder as Reader;

const LIMITS: Limits = Limits { streams_max: 4, head_bytes_max: 1024, secure: false };

/// A client beside its connection.
struct Client {
    machine: Machine,
    reader: Reader,
}

/// A frame that the client got: its fields as lines, where it has a block.
#[derive(PartialEq, Eq, Debug)]
struct Got {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::push(kind, flags, stream, payload, &mut out);
    out
}

/// A field block with nothing in any table.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.extend([&[0, name.len() as u8][..], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat());
    }
    block
}

fn request(method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    block(&[&[(":method", method), (":scheme", "http"), (":path", "/"), (":authority", "a.test")], more].concat())
}

fn get(stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &request("GET", &[]))
}

fn post(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS, stream, &request("POST", more))
}

fn settings(number: u16, value: u32) -> Vec<u8> {
    frame(kind::SETTINGS, 0, 0, &[&number.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

fn update(stream: u32, more: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

impl Client {
    /// One that has begun.
    fn begun() -> Client {
        let mut client = Client { machine: Machine::new(LIMITS), reader: Reader::default() };
        client.sends(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat());
        let kinds: Vec<_> = client.got().iter().map(|got| (got.kind, got.flags)).collect();
        assert_eq!(kinds, [(kind::SETTINGS, 0), (kind::WINDOW_UPDATE, 0), (kind::SETTINGS, flag::ACK)]);
        client
    }

    #[track_caller]
    fn sends(&mut self, bytes: &[u8]) {
        assert_eq!(self.machine.receive(bytes, 0), Ok(()));
    }

    fn got(&mut self) -> Vec<Got> {
        let bytes = self.machine.unsent().to_vec();
        self.machine.flushed(bytes.len());
        let (mut rest, mut all) = (&bytes[..], Vec::new());
        while let Some((head, more)) = rest.split_first_chunk() {
            let Head { len, kind, flags, stream } = Head::read(head);
            let mut payload = more[..len].to_vec();
            rest = &more[len..];
            if kind == kind::HEADERS {
                let mut lines = Vec::new();
                self.reader.decode(&payload, |field| lines.extend_from_slice(field.line)).expect("a block");
                payload = lines;
            }
            all.push(Got { kind, flags, stream, payload });
        }
        assert!(rest.is_empty());
        all
    }

    fn opened(&mut self) -> Vec<u32> {
        let mut slots = Vec::new();
        self.machine.take_opened(|slot| slots.push(slot));
        slots
    }

    fn woken(&mut self) -> Vec<u32> {
        let mut slots = Vec::new();
        self.machine.take_woken(|slot| slots.push(slot));
        slots
    }

    /// What of a request can be read now, by pieces of this size.
    fn read(&mut self, slot: u32, size: usize) -> String {
        let (mut text, mut room) = (Vec::new(), vec![0; size]);
        while let Some(count) = self.machine.read(slot, &mut room).expect("it is not reset") {
            if count == 0 {
                text.extend_from_slice(b"|end");
                break;
            }
            text.extend_from_slice(&room[..count]);
        }
        String::from_utf8(text).expect("ASCII")
    }

    /// Of what the client gets: kind, flags and stream of each frame.
    fn heads(&mut self) -> Vec<(u8, u8, u32)> {
        self.got().iter().map(|got| (got.kind, got.flags, got.stream)).collect()
    }
}

fn got(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Got {
    Got { kind, flags, stream, payload: payload.to_vec() }
}

fn code(code: Code) -> [u8; 4] {
    (code as u32).to_be_bytes()
}

#[test]
fn a_request_is_read_and_answered() {
    let mut client = Client::begun();
    client.sends(&get(1));
    assert_eq!(client.opened(), [0]);
    assert_eq!(client.read(0, 7), "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n|end");
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(client.machine.write(0, answer), Ok(answer.len()));
    let fields = b":status: 200\r\ncontent-length: 5\r\n";
    assert_eq!(client.got(), [got(1, 4, 1, fields), got(0, 1, 1, b"hello")]);
    client.machine.finish(0, false);
    assert_eq!((client.machine.used(), client.got()), (0, vec![]));
    // The slot is used again.
    client.sends(&get(3));
    assert_eq!((client.opened(), client.read(0, 1000).len()), (vec![0], 36));
    assert_eq!(client.machine.write(0, b"HTTP/1.1 204 No Content\r\n\r\n"), Ok(27));
    assert_eq!(client.got(), [got(1, 5, 3, b":status: 204\r\n")]);
}

#[test]
fn bodies_come_in_whatever_pieces() {
    let data = |flags: u8, data: &[u8]| frame(kind::DATA, flags, 1, data);
    let trailers = frame(kind::HEADERS, 5, 1, &block(&[("x-sum", "1")]));
    let unknown = [post(1, &[]), data(0, b"hello"), data(flag::PADDED, b"\x02!\0\0"), trailers].concat();
    let known = [post(1, &[("content-length", "6")]), data(0, b"hello"), data(1, b"!")].concat();
    let chunked = "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n6\r\nhello!\r\n0\r\nx-sum: 1\r\n\r\n|end";
    let plain = "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 6\r\n\r\nhello!|end";
    for (bytes, expected) in [(unknown, chunked), (known, plain)] {
        for size in [1, 2, 5, 10, 1000] {
            let mut client = Client::begun();
            bytes.chunks(size).for_each(|piece| client.sends(piece));
            assert_eq!((client.opened(), client.read(0, size)), (vec![0], expected.to_owned()), "by {size}");
        }
    }
}

#[test]
fn chunks_are_taken_out_of_their_framing() {
    for size in [1, 3, 1000] {
        let mut client = Client::begun();
        client.sends(&get(1));
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.machine.write(0, answer).expect("a head");
        for piece in b"5\r\nhello\r\n0\r\n\r\n".chunks(size) {
            assert_eq!(client.machine.write(0, piece), Ok(piece.len()));
        }
        let got = client.got();
        let data: Vec<u8> = got.iter().filter(|got| got.kind == kind::DATA).flat_map(|got| got.payload.clone()).collect();
        assert_eq!(data, b"hello");
        let ends: Vec<bool> = got.iter().map(|got| got.flags & flag::END_STREAM != 0).collect();
        assert_eq!(ends.iter().filter(|end| **end).count(), 1);
        assert_eq!(ends.last(), Some(&true), "on the last frame of data, without one of its own");
        assert!(got.last().is_some_and(|got| !got.payload.is_empty()));
    }
}

#[test]
fn answers_have_trailers() {
    let mut client = Client::begun();
    client.sends(&get(1));
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nGrpc-Status: 0\r\n\r\n";
    assert_eq!(client.machine.write(0, answer), Ok(answer.len()));
    assert_eq!(client.got()[1..], [got(0, 0, 1, b"x"), got(1, 5, 1, b"grpc-status: 0\r\n")]);
}

#[test]
fn windows_are_obeyed_and_shared() {
    let mut client = Client::begun();
    client.sends(&[get(1), get(3)].concat());
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
    for slot in [0, 1] {
        client.machine.write(slot, head).expect("a head");
    }
    client.got();
    let body = vec![b'x'; 100_000];
    // Its share of what may wait; the other one has its own.
    assert_eq!(client.machine.write(0, &body), Ok(32 * 1024));
    assert!(!client.machine.is_writable(0));
    assert_eq!(client.machine.write(1, &body), Ok(32 * 1024 - 1), "the connection's window is at its end");
    assert!(!client.machine.is_writable(1));
    client.woken();
    client.got();
    assert_eq!(client.woken(), [0, 1], "all was sent");
    assert!(!client.machine.is_writable(0) && !client.machine.is_writable(1));
    client.sends(&update(0, 50_000));
    assert_eq!(client.woken(), [0, 1]);
    assert_eq!(client.machine.write(0, &body), Ok(32 * 1024 - 1));
    client.got();
    assert!(!client.machine.is_writable(0), "the window of its own");
    assert_eq!(client.machine.write(1, &body), Ok(50_000 - 32 * 1024 + 1));
    client.sends(&update(1, 10));
    client.sends(&update(0, 5));
    client.got();
    assert_eq!(client.machine.write(0, &body), Ok(5));
}

#[test]
fn who_had_nothing_goes_first() {
    let mut client = Client::begun();
    client.sends(&settings(setting::INITIAL_WINDOW_SIZE, 1 << 30));
    client.sends(&[get(1), get(3)].concat());
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
    for slot in [0, 1] {
        client.machine.write(slot, head).expect("a head");
    }
    client.got();
    let body = vec![b'x'; 100_000];
    assert_eq!(client.machine.write(0, &body), Ok(32 * 1024));
    client.got();
    assert_eq!(client.machine.write(0, &body), Ok(32 * 1024 - 1), "the rest of the connection's window");
    assert_eq!(client.machine.write(1, &body), Ok(0));
    client.woken();
    client.sends(&update(0, 10));
    assert_eq!(client.woken(), [1, 0]);
}

#[test]
fn what_was_read_may_be_sent_again() {
    let mut client = Client::begun();
    client.sends(&post(1, &[]));
    client.opened();
    client.read(0, 1000);
    let data = vec![b'x'; 16_000];
    for _ in 0..4 {
        client.sends(&frame(kind::DATA, 0, 1, &data));
    }
    assert_eq!(client.got(), []);
    client.read(0, 1000);
    // A thousand at a time: once when half of the window was read, and what is less than that is owed.
    assert_eq!(client.got(), [got(kind::WINDOW_UPDATE, 0, 1, &33_000u32.to_be_bytes())]);
    // More than the window takes.
    for _ in 0..4 {
        client.sends(&frame(kind::DATA, 0, 1, &data));
    }
    client.sends(&frame(kind::DATA, 0, 1, &data));
    assert_eq!(client.got(), [got(kind::RST_STREAM, 0, 1, &code(Code::FlowControl))]);
    client.machine.finish(0, false);
    // What nobody read counts as read for the connection.
    assert_eq!(client.heads(), [(kind::WINDOW_UPDATE, 0, 0)]);
}

#[test]
fn no_more_streams_than_allowed() {
    let mut client = Client::begun();
    (0..4).for_each(|n| client.sends(&get(n * 2 + 1)));
    client.sends(&get(9));
    assert_eq!(client.got(), [got(kind::RST_STREAM, 0, 9, &code(Code::RefusedStream))]);
    assert_eq!(client.opened(), [0, 1, 2, 3]);
    // Those that the client resets do not count, but their slots do until they are free.
    for n in 0..8 {
        client.sends(&frame(kind::RST_STREAM, 0, n * 2 + 1, &code(Code::Cancel)));
        client.sends(&get(n * 2 + 11));
    }
    assert_eq!(client.machine.used(), 8);
    assert_eq!(client.opened(), [4, 5, 6, 7]);
    let refused = [19, 21, 23, 25].map(|id| got(kind::RST_STREAM, 0, id, &code(Code::RefusedStream)));
    assert_eq!(client.got(), refused);
    assert!(client.machine.is_gone(0) && client.machine.read(0, &mut [0]) == Err(Unanswerable::Reset));
    assert_eq!(client.machine.write(0, b"HTTP/1.1 204 \r\n\r\n"), Err(Unanswerable::Reset));
    client.machine.finish(0, false);
    client.sends(&get(27));
    assert_eq!((client.got(), client.opened()), (vec![], vec![0]), "there is room again");
}

#[test]
fn what_we_reset_may_still_be_spoken_of() {
    let mut client = Client::begun();
    client.sends(&post(1, &[]));
    client.machine.write(0, b"HTTP/1.1 204 \r\n\r\n").expect("an answer");
    client.machine.finish(0, false);
    assert_eq!(client.got()[1..], [got(kind::RST_STREAM, 0, 1, &code(Code::NoError))]);
    client.sends(&frame(kind::DATA, 0, 1, b"late"));
    client.sends(&frame(kind::HEADERS, 5, 1, &block(&[("x", "y")])));
    client.sends(&update(1, 5));
    assert_eq!(client.got(), []);
}

#[test]
fn numbers_are_used_once() {
    for (used, again, expected) in [
        (&[1][..], 1, Code::StreamClosed),
        (&[5], 3, Code::Protocol),
        (&[5], 1, Code::Protocol),
        (&[1, 5], 1, Code::StreamClosed),
        (&[1, 129], 127, Code::Protocol),
        (&[1, 1001], 1, Code::StreamClosed),
        (&[], 2, Code::Protocol),
    ] {
        let mut client = Client::begun();
        for id in used {
            client.sends(&get(*id));
            client.machine.write(0, b"HTTP/1.1 204 \r\n\r\n").expect("an answer");
            client.machine.finish(0, false);
        }
        assert_eq!(client.machine.receive(&get(again), 0), Err(expected.into()), "{used:?}, {again}");
    }
}

#[test]
fn a_goodbye_has_two_steps() {
    let mut client = Client::begun();
    client.sends(&get(1));
    client.machine.leave();
    client.machine.leave();
    let told = client.got();
    assert_eq!(told[0].payload, [STREAM_MAX.to_be_bytes(), code(Code::NoError)].concat());
    assert_eq!((told[1].kind, told.len()), (kind::PING, 2));
    client.sends(&get(3));
    client.sends(&frame(kind::PING, flag::ACK, 0, &told[1].payload));
    assert_eq!(client.got()[0].payload, [3u32.to_be_bytes(), code(Code::NoError)].concat());
    // One that crossed the goodbye is not looked at.
    client.sends(&[post(5, &[]), frame(kind::DATA, 1, 5, b"x"), update(5, 1)].concat());
    assert_eq!((client.opened(), client.got()), (vec![0, 1], vec![]));
    for slot in [0, 1] {
        client.machine.write(slot, b"HTTP/1.1 204 \r\n\r\n").expect("an answer");
        client.machine.finish(slot, false);
    }
    assert!(!client.machine.is_over(), "the answers are not sent");
    client.got();
    assert!(client.machine.is_over());
}

#[test]
fn a_broken_connection_is_told_why() {
    let cut = frame(kind::HEADERS, 0, 1, &request("GET", &[])[..9]);
    let table: [(&[u8], Code, Flood); 6] = [
        (&frame(kind::PING, 0, 1, &[0; 8]), Code::Protocol, Flood::Protocol),
        (&frame(kind::HEADERS, 5, 1, &[0x80]), Code::Compression, Flood::Protocol),
        (&settings(setting::INITIAL_WINDOW_SIZE, 1 << 31), Code::FlowControl, Flood::Protocol),
        (&[0, 0x40, 1, 0, 0, 0, 0, 0, 1], Code::FrameSize, Flood::Protocol),
        (&[cut.clone(), frame(9, 0, 1, &[0; 16_000]), frame(9, 0, 1, &[0; 2_000])].concat(), Code::EnhanceYourCalm, Flood::Continuations),
        (&[cut, frame(9, 0, 1, &[]).repeat(33)].concat(), Code::EnhanceYourCalm, Flood::Continuations),
    ];
    for (bytes, expected, flood) in table {
        let mut client = Client::begun();
        client.sends(&post(7, &[]));
        let bytes: Vec<u8> = bytes.to_vec();
        assert_eq!(client.machine.receive(&bytes, 0), Err(Broken { code: expected, flood }));
        let goodbye = client.got();
        assert_eq!(goodbye, [got(kind::GOAWAY, 0, 0, &[7u32.to_be_bytes(), code(expected)].concat())]);
        assert!(client.machine.is_gone(0) && client.woken().contains(&0));
        client.sends(b"whatever");
    }
}

#[test]
fn a_client_that_reads_nothing_is_not_listened_to() {
    let mut client = Client::begun();
    let ping = frame(kind::PING, 0, 0, &[0; 8]);
    for now_s in 0.. {
        if client.machine.is_deaf() {
            break;
        }
        assert!(now_s < 1000 && client.machine.unsent().len() < 3 * OUT_MAX);
        assert_eq!(client.machine.receive(&ping.repeat(500), now_s * 10_000), Ok(()));
    }
    client.got();
    assert!(!client.machine.is_deaf());
}

#[test]
fn a_smaller_table_is_agreed_to_once() {
    let mut client = Client::begun();
    client.sends(&settings(setting::HEADER_TABLE_SIZE, 0));
    client.got();
    for (stream, first) in [(1, 0x20), (3, 0x89)] {
        client.sends(&get(stream));
        let slot = client.opened()[0];
        client.machine.write(slot, b"HTTP/1.1 204 \r\n\r\n").expect("an answer");
        assert_eq!(client.machine.unsent()[HEAD], first);
        client.got();
        client.sends(&settings(setting::HEADER_TABLE_SIZE, 100));
        client.got();
    }
}

#[test]
fn an_idle_connection_keeps_little() {
    let mut client = Client::begun();
    client.sends(&get(1));
    assert_eq!(client.opened(), [0]);
    client.machine.rest();
    assert_eq!(client.machine.slots.len(), 1, "it is at work");
    client.machine.write(0, b"HTTP/1.1 204 \r\n\r\n").expect("an answer");
    client.machine.finish(0, false);
    client.got();
    client.machine.rest();
    assert_eq!((client.machine.slots.capacity(), client.machine.out.capacity()), (0, 0));
    client.sends(&get(3));
    assert_eq!((client.opened(), client.read(0, 1000).len()), (vec![0], 36));
}

#[test]
fn trailers_must_be_some() {
    for (fields, flags) in
        [(block(&[("x", "y")]), 4), (block(&[(":method", "GET")]), 5), (block(&[("X", "y")]), 5), (block(&[("te", "x")]), 5)]
    {
        let mut client = Client::begun();
        client.sends(&[post(1, &[]), frame(kind::HEADERS, flags, 1, &fields)].concat());
        assert_eq!(client.got(), [got(kind::RST_STREAM, 0, 1, &code(Code::Protocol))], "{fields:?}");
        assert_eq!(client.machine.active, 0);
    }
}

#[test]
fn what_comes_before_the_head_of_a_tunnel_is_complete_goes_behind_it() {
    let mut client = Client::begun();
    let fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/"), (":authority", "a.test")];
    let connect = frame(kind::HEADERS, flag::END_HEADERS, 1, &block(&fields));
    client.sends(&[connect, frame(kind::DATA, 0, 1, b"x-evil: 1\r\n\r\nGET /")].concat());
    assert!(client.machine.wants_nonce(0));
    client.machine.give_nonce(0, *b"the sample nonce");
    client.sends(&frame(kind::DATA, 0, 1, b" more"));
    let text = client.read(0, 7);
    let (head, rest) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.ends_with("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="), "{head}");
    assert_eq!(rest, "x-evil: 1\r\n\r\nGET / more");
}

#[test]
fn the_last_window_of_a_frame_counts_and_wakes_who_was_shut() {
    let mut client = Client::begun();
    client.sends(&settings(setting::INITIAL_WINDOW_SIZE, 0));
    client.sends(&get(1));
    client.machine.write(0, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n").expect("a head");
    assert_eq!(client.machine.write(0, b"123456789"), Ok(0));
    client.got();
    // What is no use to it does not wake it.
    client.woken();
    client.sends(&update(0, 1));
    assert_eq!(client.woken(), [0; 0]);
    let entry = |value: u32| [&setting::INITIAL_WINDOW_SIZE.to_be_bytes()[..], &value.to_be_bytes()].concat();
    client.sends(&frame(kind::SETTINGS, 0, 0, &[entry(1 << 30), entry(0), entry(5)].concat()));
    assert_eq!(client.woken(), [0]);
    assert_eq!(client.machine.write(0, b"123456789"), Ok(5));
    // Below nothing.
    client.sends(&frame(kind::SETTINGS, 0, 0, &entry(2)));
    assert_eq!(client.machine.write(0, b"6789"), Ok(0));
    client.sends(&update(1, 3));
    assert_eq!(client.machine.write(0, b"6789"), Ok(0));
    client.sends(&update(1, 4));
    assert_eq!(client.machine.write(0, b"6789"), Ok(4));
    let refused = client.machine.receive(&frame(kind::SETTINGS, 0, 0, &[entry(1 << 31), entry(5)].concat()), 0);
    assert_eq!(refused, Err(Code::FlowControl.into()));
}

#[test]
fn windows_that_are_too_large_end_what_they_belong_to_and_nothing_else() {
    let most = u32::MAX >> 1;
    for (frames, code) in [
        (update(0, most), Some(Code::FlowControl)),
        (update(0, 0), Some(Code::Protocol)),
        ([update(1, most - 65_535), settings(setting::INITIAL_WINDOW_SIZE, 70_000)].concat(), Some(Code::FlowControl)),
        // Who is gone has no window.
        (
            [update(1, most - 65_535), frame(kind::RST_STREAM, 0, 1, &code(Code::Cancel)), settings(setting::INITIAL_WINDOW_SIZE, 70_000)]
                .concat(),
            None,
        ),
    ] {
        let mut client = Client::begun();
        client.sends(&get(1));
        assert_eq!(client.machine.receive(&frames, 0).err().map(|broken| broken.code), code);
    }
    let mut client = Client::begun();
    client.sends(&get(1));
    client.sends(&update(1, most));
    assert_eq!(client.got(), [got(kind::RST_STREAM, 0, 1, &code(Code::FlowControl))]);
}

#[test]
fn bodies_that_nobody_reads_leave_the_others_a_way() {
    let mut client = Client::begun();
    (0..4).for_each(|n| client.sends(&post(n * 2 + 1, &[])));
    client.opened();
    let mut sent = 0;
    // Stalled uploads take three quarters of the connection's window.
    let piece = vec![b'x'; 13_107];
    client.read(3, 1000);
    for _ in 0..5 {
        for stream in [1, 3, 5] {
            client.sends(&frame(kind::DATA, 0, stream, &piece));
        }
    }
    let mut room = 262_144 - 15 * 13_107_i64;
    for _ in 0..100 {
        let updates = client.got().into_iter().filter(|got| got.kind == kind::WINDOW_UPDATE && got.stream == 0);
        room += updates.map(|got| i64::from(u32::from_be_bytes(got.payload.try_into().expect("four bytes")))).sum::<i64>();
        let count = room.min(8000);
        assert!(count > 0, "after {sent} bytes the client may send no more");
        client.sends(&frame(kind::DATA, 0, 7, &piece[..count as usize]));
        client.read(3, 100_000);
        room -= count;
        sent += count;
    }
}

#[test]
fn trailers_agree_to_a_smaller_table_too() {
    let mut client = Client::begun();
    client.sends(&get(1));
    client.machine.write(0, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").expect("a head");
    client.sends(&settings(setting::HEADER_TABLE_SIZE, 0));
    client.got();
    client.machine.write(0, b"0\r\nx: y\r\n\r\n").expect("trailers");
    assert_eq!(client.machine.unsent()[HEAD], 0x20);
    assert_eq!(client.got(), [got(kind::HEADERS, 5, 1, b"x: y\r\n")]);
}

#[test]
fn nothing_in_a_wrapping_is_counted_as_nothing() {
    let mut client = Client::begun();
    client.sends(&post(1, &[]));
    let wrapped = frame(kind::DATA, 8, 1, &[0]);
    let passed = (0..2000).take_while(|_| client.machine.receive(&wrapped, 0).is_ok()).count();
    assert_eq!(passed, 1000);
}

#[test]
fn nothing_follows_an_answer_that_is_whole() {
    let mut client = Client::begun();
    client.sends(&get(1));
    client.machine.write(0, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx").expect("an answer");
    assert!(matches!(client.machine.write(0, b"y"), Err(Unanswerable::Unframed(_))));
}

#[test]
fn who_does_not_hear_that_it_is_to_leave_gets_no_further_stream_after_a_while() {
    let mut client = Client::begun();
    client.sends(&get(1));
    client.machine.leave();
    client.sends(&get(3));
    client.machine.take_no_more();
    client.machine.take_no_more();
    client.sends(&get(5));
    assert_eq!(client.opened(), [0, 1]);
    let last: Vec<_> = client.got().into_iter().filter(|got| got.kind == kind::GOAWAY).map(|got| got.payload[3]).collect();
    assert_eq!(last, [0xff, 3]);
}
