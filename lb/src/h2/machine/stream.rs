//! A request on its way in: the head, then the body as it comes, as HTTP/1.1.

use super::Reset;
use crate::h2::answer::Answer;
use crate::h2::request::{Carried, Written, write_key};
use crate::http1::chunked::write_chunk;

/// What was read is taken out of the buffer once it is so much.
const READ_MAX: usize = 32 * 1024;
/// A buffer that grew beyond this goes when it is empty: most requests are a head.
const KEPT_MAX: usize = 4 * 1024;

/// A slot.
#[derive(Debug)]
pub(super) struct Stream {
    /// 0: nobody has the slot.
    pub(super) id: u32,
    pub(super) reset: Option<Reset>,
    /// It counts among the streams at once.
    pub(super) counts: bool,
    /// The client says nothing more.
    pub(super) remote_ended: bool,
    /// What the client still may send, and what of it was read and not said so.
    pub(super) room: i64,
    pub(super) owed: usize,
    /// What the client takes.
    pub(super) window: i64,
    pub(super) answer: Answer,
    /// Bytes that were written in this turn.
    pub(super) turn: u32,
    pub(super) queued: usize,
    /// It waits for room.
    pub(super) waits: bool,
    pub(super) trailers: Vec<u8>,
    carried: Carried,
    /// What the body still must have.
    length_left: Option<u64>,
    /// The request, from `at` on.
    ready: Vec<u8>,
    at: usize,
    /// Bytes of the head in it.
    head_left: usize,
    /// Bytes of the body that were not read yet.
    held: usize,
    /// Of a body in chunks: what is in none yet. Of a tunnel: what came before its head was complete.
    raw: Vec<u8>,
    /// The head is complete.
    whole: bool,
    /// The last chunk was written.
    closed: bool,
}

impl Default for Stream {
    fn default() -> Stream {
        Stream {
            id: 0,
            reset: None,
            counts: false,
            remote_ended: false,
            room: 0,
            owed: 0,
            window: 0,
            answer: Answer::new(false, false),
            turn: 0,
            queued: 0,
            waits: false,
            trailers: Vec::new(),
            carried: Carried::Plain,
            length_left: None,
            ready: Vec::new(),
            at: 0,
            head_left: 0,
            held: 0,
            raw: Vec::new(),
            whole: false,
            closed: false,
        }
    }
}

impl Stream {
    /// Where the head is written to.
    pub(super) fn text(&mut self) -> &mut Vec<u8> {
        &mut self.ready
    }

    /// Its head was written.
    pub(super) fn open(&mut self, id: u32, written: Written, ended: bool, room: i64, window: i64) {
        let Written { carried, head_only, length } = written;
        self.id = id;
        self.reset = None;
        self.counts = true;
        self.remote_ended = ended;
        self.room = room;
        self.owed = 0;
        self.window = window;
        self.answer = Answer::new(head_only, carried == Carried::Tunnel);
        self.queued = 0;
        self.trailers.clear();
        self.carried = carried;
        self.length_left = length;
        self.at = 0;
        self.head_left = self.ready.len();
        self.held = 0;
        self.raw.clear();
        self.whole = carried != Carried::Tunnel;
        self.closed = false;
    }

    /// Completes the head of a tunnel; what came meanwhile goes behind it.
    pub(super) fn complete(&mut self, nonce: [u8; 16]) {
        if !std::mem::replace(&mut self.whole, true) {
            write_key(nonce, &mut self.ready);
            self.head_left = self.ready.len() - self.at;
            self.ready.append(&mut self.raw);
        }
    }

    /// The slot is free.
    pub(super) fn leave(&mut self) {
        self.id = 0;
        self.ready.clear();
        self.forget_large();
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.carried == Carried::Tunnel
    }

    /// Whether so much more of the body, and perhaps its end, is what `Content-Length` says.
    pub(super) fn takes(&mut self, count: u64, ended: bool) -> bool {
        let Some(left) = self.length_left else { return true };
        self.length_left = left.checked_sub(count);
        self.length_left.is_some_and(|left| !ended || left == 0)
    }

    /// A piece of the body came.
    pub(super) fn push(&mut self, data: &[u8]) {
        self.held += data.len();
        if self.at >= READ_MAX {
            self.ready.drain(..self.at);
            self.at = 0;
        }
        match self.carried {
            Carried::Chunks => self.raw.extend_from_slice(data),
            Carried::Tunnel if !self.whole => self.raw.extend_from_slice(data),
            Carried::Plain | Carried::Tunnel => self.ready.extend_from_slice(data),
        }
    }

    /// Whether something can be read, or the end was reached.
    pub(super) fn is_readable(&self) -> bool {
        self.at < self.ready.len() || !self.raw.is_empty() || self.remote_ended
    }

    /// Copies what is there: how much, and how many bytes of the body that were.
    pub(super) fn take(&mut self, room: &mut [u8]) -> (usize, usize) {
        if self.carried == Carried::Chunks {
            write_chunk(&self.raw, &mut self.ready);
            self.raw.clear();
            if self.remote_ended && !std::mem::replace(&mut self.closed, true) {
                self.ready.extend_from_slice(b"0\r\n");
                self.ready.extend_from_slice(&self.trailers);
                self.ready.extend_from_slice(b"\r\n");
            }
        }
        let left = &self.ready[self.at..];
        let count = left.len().min(room.len());
        room[..count].copy_from_slice(&left[..count]);
        self.at += count;
        let of_head = count.min(self.head_left);
        self.head_left -= of_head;
        // Of chunks the framing counts for data, which lets go of some bytes of it early; all of it when all was read.
        let is_empty = self.at == self.ready.len();
        let of_body = if is_empty { self.held } else { self.held.min(count - of_head) };
        self.held -= of_body;
        if is_empty {
            self.ready.clear();
            self.at = 0;
            self.forget_large();
        }
        (count, of_body)
    }

    /// Bytes of the body that nobody will read.
    pub(super) fn unread(&mut self) -> usize {
        std::mem::take(&mut self.held)
    }

    fn forget_large(&mut self) {
        if self.ready.capacity() > KEPT_MAX {
            self.ready = Vec::new();
        }
        if self.raw.capacity() > KEPT_MAX {
            self.raw = Vec::new();
        }
        if self.id == 0 {
            self.trailers = Vec::new();
        }
    }
}
