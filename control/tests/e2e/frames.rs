//! HTTP/2 as frames made by hand: a client that shares no code with the product, and may break every rule.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::rig::SOON;

/// How a connection begins.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client that makes its frames itself.
pub(crate) struct Frames(pub(crate) TcpStream);

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;

impl Frames {
    pub(crate) fn connect(address: SocketAddr) -> Frames {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        let mut frames = Frames(stream);
        frames.0.write_all(PREFACE).expect("the preface");
        frames.send(SETTINGS, 0, 0, &[]);
        frames
    }

    pub(crate) fn bytes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.0.write_all(&Frames::bytes(kind, flags, stream, payload)).expect("a frame is taken");
    }

    /// `None`: the connection is over.
    pub(crate) fn receive(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, so: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.receive().unwrap_or_else(|| panic!("the connection ended before {what}"));
            if so(&frame) {
                return frame;
            }
        }
    }
}

/// HPACK: `:method`, `:scheme http`, `:path`, `:authority web.test`, more fields, none of it compressed.
pub(crate) fn fields(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x86];
    for (name, value) in [(":method", method), (":path", path), (":authority", "web.test")].iter().chain(more) {
        block.push(0);
        block.push(name.len() as u8);
        block.extend(name.bytes());
        block.push(value.len() as u8);
        block.extend(value.bytes());
    }
    block
}
