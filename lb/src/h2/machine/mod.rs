//! A client's connection over HTTP/2, without its socket (RFC 9113).
//!
//! ```text
//!   bytes ──► frames ──► field blocks ──► a slot: request as HTTP/1.1 ──► read ─────► exchange
//!                   └──► bodies, windows, resets ──► slots that were woken               │
//!   bytes ◄── unsent ◄── frames, as windows and room allow ◄── answer as HTTP/1.1 ◄── write
//! ```
//!
//! - This file: the connection, and the bytes of frames. `frames`: what each of the client's means. `stream`: a request on its way in. `send`:
//!   answers on their way out.
//!
//! A stream has a slot from its first frame until its exchange is over ([`Machine::finish`]), also when it was reset long before. Who serves the
//! slots is told which were opened and which have something new, and asks for it.
//!
//! Bounded are: streams at once, and slots; a field block in bytes and in frames; what a client may send of bodies, by windows that grow as it
//! is read; what waits for the socket, by `OUT_MAX` and each stream's share of it.

mod frames;
mod send;
mod stream;

use super::flood::{Flood, PREFACE, Watch};
use super::frame::{self, Code, HEAD, Head, PAYLOAD_MAX, STREAM_MAX, flag, kind, setting};
use super::hpack::decode::Decoder;
use super::request::HeadWriter;

use self::stream::Stream;

pub use self::send::Unanswerable;

/// What a client may send of a body before we ask for more: of one stream, and of all together.
const STREAM_WINDOW: u32 = 64 * 1024 - 1;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// What both sides begin with (RFC 9113 section 6.9.2).
const FIRST_WINDOW: u32 = 64 * 1024 - 1;
/// Bytes that may wait for the socket before answers have to. A head that is begun is written whole.
const OUT_MAX: usize = 128 * 1024;
/// Beyond so many the client is not listened to: what it says may need an answer.
const DEAF_AT: usize = 2 * OUT_MAX;
/// Frames of one field block besides the first. Each may have 16 KiB; the longest head that can be allowed needs sixteen.
const CONTINUATIONS_MAX: u32 = 32;
/// Numbers of streams that we reset, which a client may not have heard of yet. Beyond these its frames are taken for a mistake of its own.
const RESETS_KNOWN: usize = 128;
/// Asks whether the client has heard that it is to leave.
const LEAVE_PING: &[u8; 8] = b"leaving?";

/// What a connection is held to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams at once.
    pub streams_max: u32,
    /// Bytes of a head.
    pub head_bytes_max: usize,
    /// The connection is under TLS.
    pub secure: bool,
}

/// Why a connection ends before its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken {
    /// What the client is told.
    pub code: Code,
    /// What it did.
    pub flood: Flood,
}

impl From<Code> for Broken {
    fn from(code: Code) -> Broken {
        Broken { code, flood: Flood::Protocol }
    }
}

impl From<Flood> for Broken {
    fn from(flood: Flood) -> Broken {
        Broken { code: Code::EnhanceYourCalm, flood }
    }
}

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Preface,
    /// The first frame has settings (RFC 9113 section 3.4).
    Settings,
    Open,
    Over,
}

/// How far it is in going (RFC 9113 section 6.8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leaving {
    No,
    /// The client was told, and is asked whether it has heard.
    Told,
    /// No further stream is taken.
    Last,
}

/// A field block whose end is to come.
#[derive(Clone, Copy, Debug)]
struct Block {
    stream: u32,
    ended: bool,
    /// It says that the stream depends on itself.
    circular: bool,
    frames: u32,
}

/// A client's connection.
#[derive(Debug)]
pub struct Machine {
    limits: Limits,
    stage: Stage,
    leaving: Leaving,
    /// The client opens no further stream.
    client_leaves: bool,
    watch: Watch,
    /// The beginning of a frame whose end is to come.
    partial: Vec<u8>,
    block: Option<Block>,
    block_bytes: Vec<u8>,
    decoder: Decoder,
    head: HeadWriter,
    slots: Vec<Stream>,
    /// The number of the stream in each slot; 0: nobody has it. Apart, so that looking for one is quick.
    ids: Vec<u32>,
    free: Vec<u32>,
    /// Streams that count against the limit.
    active: u32,
    /// The last stream that was opened, and which of those before it were, from the last one on.
    last: u32,
    used_numbers: u64,
    reset_by_us: [u32; RESETS_KNOWN],
    resets: usize,
    /// What the client still may send, and what of it was read and not said so.
    room: i64,
    owed: usize,
    /// What the client takes: of all streams, and of a new one.
    window: i64,
    stream_window: i64,
    /// The client wants a smaller table than it began with: it must be said that ours has none of it. And that it was said.
    tell_no_table: bool,
    told_no_table: bool,
    /// Frames for the client, from `sent` on.
    out: Vec<u8>,
    sent: usize,
    /// Times that all of it was sent.
    turn: u32,
    /// Slots that wait for room: those that had none of it this turn, and those that had.
    starved: Vec<u32>,
    served: Vec<u32>,
    /// Where the last frame of data begins and ends, if nothing follows it.
    tail: Option<(u32, usize, usize)>,
    opened: Vec<u32>,
    woken: Vec<u32>,
}

impl Machine {
    /// One that is about to begin.
    pub fn new(limits: Limits) -> Machine {
        let mut out = Vec::with_capacity(64);
        let settings = [
            (setting::MAX_CONCURRENT_STREAMS, limits.streams_max),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (setting::MAX_HEADER_LIST_SIZE, limits.head_bytes_max as u32),
            (setting::ENABLE_CONNECT_PROTOCOL, 1),
        ];
        frame::push_head(settings.len() * 6, kind::SETTINGS, 0, 0, &mut out);
        for (number, value) in settings {
            out.extend_from_slice(&number.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        frame::push(kind::WINDOW_UPDATE, 0, 0, &(CONNECTION_WINDOW - FIRST_WINDOW).to_be_bytes(), &mut out);
        Machine {
            limits,
            stage: Stage::Preface,
            leaving: Leaving::No,
            client_leaves: false,
            watch: Watch::default(),
            partial: Vec::new(),
            block: None,
            block_bytes: Vec::new(),
            // One that is too long can be answered as long as it is not much too long.
            decoder: Decoder::bounded(2 * (limits.head_bytes_max + PAYLOAD_MAX)),
            head: HeadWriter::default(),
            slots: Vec::new(),
            ids: Vec::new(),
            free: Vec::new(),
            active: 0,
            last: 0,
            used_numbers: 0,
            reset_by_us: [0; RESETS_KNOWN],
            resets: 0,
            room: i64::from(CONNECTION_WINDOW),
            owed: 0,
            window: i64::from(FIRST_WINDOW),
            stream_window: i64::from(FIRST_WINDOW),
            tell_no_table: false,
            told_no_table: false,
            out,
            sent: 0,
            turn: 0,
            starved: Vec::new(),
            served: Vec::new(),
            tail: None,
            opened: Vec::new(),
            woken: Vec::new(),
        }
    }

    /// Takes what the client sent. When that ends the connection, it is told so.
    ///
    /// # Errors
    /// The client broke a rule or passed a bound. Nothing more of it is listened to, and all its streams are gone.
    pub fn receive(&mut self, bytes: &[u8], now_ms: u64) -> Result<(), Broken> {
        if self.stage == Stage::Over {
            return Ok(());
        }
        self.watch.at(now_ms);
        self.units(bytes).inspect_err(|broken| {
            self.stage = Stage::Over;
            let payload = [self.last.to_be_bytes(), (broken.code as u32).to_be_bytes()].concat();
            frame::push(kind::GOAWAY, 0, 0, &payload, &mut self.out);
            self.abandon();
        })
    }

    /// The client is gone: so are all its streams.
    pub fn abandon(&mut self) {
        self.stage = Stage::Over;
        for (slot, stream) in self.slots.iter_mut().enumerate().filter(|(_, stream)| stream.id != 0) {
            stream.reset = Some(Reset::ByClient);
            self.woken.push(slot as u32);
        }
    }

    /// Whether the client has begun as it must.
    pub fn has_begun(&self) -> bool {
        !matches!(self.stage, Stage::Preface | Stage::Settings)
    }

    /// The slots that were opened since this was asked last.
    pub fn take_opened(&mut self, mut take: impl FnMut(u32)) {
        self.opened.drain(..).for_each(&mut take);
    }

    /// The slots that have something new since this was asked last.
    pub fn take_woken(&mut self, mut take: impl FnMut(u32)) {
        self.woken.drain(..).for_each(&mut take);
    }

    /// Whether a slot's request asks for another protocol. Its head is complete once a nonce was given for it.
    pub fn wants_nonce(&self, slot: u32) -> bool {
        self.slots[slot as usize].is_tunnel()
    }

    /// Random bytes, for `Sec-WebSocket-Key`.
    pub fn give_nonce(&mut self, slot: u32, nonce: [u8; 16]) {
        self.slots[slot as usize].complete(nonce);
    }

    /// Whether nobody has the slot.
    pub fn is_free(&self, slot: u32) -> bool {
        self.ids.get(slot as usize).is_none_or(|id| *id == 0)
    }

    /// Slots in use.
    pub fn used(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Asks the client to make another connection: it is told first, and once it must have heard, no further stream is taken.
    pub fn leave(&mut self) {
        if self.leaving == Leaving::No && self.stage != Stage::Over {
            self.leaving = Leaving::Told;
            let payload = [STREAM_MAX.to_be_bytes(), (Code::NoError as u32).to_be_bytes()].concat();
            frame::push(kind::GOAWAY, 0, 0, &payload, &mut self.out);
            frame::push(kind::PING, 0, 0, LEAVE_PING, &mut self.out);
        }
    }

    /// No further stream is taken, whether the client has heard that it is to leave or not. What it asked for is still answered.
    pub fn take_no_more(&mut self) {
        if self.leaving == Leaving::Told && self.stage != Stage::Over {
            self.leaving = Leaving::Last;
            let payload = [self.last.to_be_bytes(), (Code::NoError as u32).to_be_bytes()].concat();
            frame::push(kind::GOAWAY, 0, 0, &payload, &mut self.out);
        }
    }

    /// Nothing more can come of the connection, and all is sent.
    pub fn is_over(&self) -> bool {
        let no_more = self.leaving == Leaving::Last || self.client_leaves || self.stage == Stage::Over;
        no_more && self.used() == 0 && self.unsent().is_empty()
    }

    /// Gives back what an idle connection does not need.
    pub fn rest(&mut self) {
        if self.used() == 0 && self.unsent().is_empty() {
            self.out = Vec::new();
            self.sent = 0;
            self.tail = None;
            self.slots = Vec::new();
            self.ids = Vec::new();
            self.free = Vec::new();
            self.decoder.rest();
            self.head.rest();
            if self.partial.is_empty() {
                self.partial = Vec::new();
            }
            if self.block.is_none() {
                self.block_bytes = Vec::new();
            }
        }
    }

    /// Takes the preface and frames, of which the last may be incomplete.
    fn units(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.partial.is_empty() {
                let need = self.need(rest)?;
                if rest.len() < need {
                    self.partial.extend_from_slice(rest);
                    break;
                }
                let (unit, more) = rest.split_at(need);
                rest = more;
                self.unit(unit)?;
                continue;
            }
            let need = self.need(&self.partial)?;
            let (more, behind) = rest.split_at(rest.len().min(need - self.partial.len()));
            self.partial.extend_from_slice(more);
            rest = behind;
            // A head that is complete says how much more is needed.
            if self.partial.len() == need && self.need(&self.partial)? == need {
                let unit = std::mem::take(&mut self.partial);
                self.unit(&unit)?;
                self.partial = unit;
                self.partial.clear();
            }
        }
        Ok(())
    }

    /// How many bytes there must be of what begins so: of a frame's head first, then of the frame.
    fn need(&self, begin: &[u8]) -> Result<usize, Broken> {
        if self.stage == Stage::Preface {
            let seen = begin.len().min(PREFACE.len());
            return if begin[..seen] == PREFACE[..seen] { Ok(PREFACE.len()) } else { Err(Code::Protocol.into()) };
        }
        let Some(head) = begin.first_chunk() else { return Ok(HEAD) };
        let head = Head::read(head);
        // Of no use to anybody, so it is one for the connection always (RFC 9113 section 4.2).
        if head.len > PAYLOAD_MAX { Err(Code::FrameSize.into()) } else { Ok(HEAD + head.len) }
    }

    fn unit(&mut self, unit: &[u8]) -> Result<(), Broken> {
        if self.stage == Stage::Preface {
            self.stage = Stage::Settings;
            return Ok(());
        }
        let (head, payload) = unit.split_first_chunk().expect("a frame has a head");
        let head = Head::read(head);
        self.watch.frame(&head)?;
        if self.stage == Stage::Settings {
            if head.kind != kind::SETTINGS || head.has(flag::ACK) {
                return Err(Code::Protocol.into());
            }
            self.stage = Stage::Open;
        }
        // Nothing may come in the middle of a field block (RFC 9113 section 4.3).
        if self.block.is_some_and(|block| head.kind != kind::CONTINUATION || head.stream != block.stream) {
            return Err(Code::Protocol.into());
        }
        match head.kind {
            kind::DATA => self.data(head, payload),
            kind::HEADERS => self.headers(head, payload),
            kind::CONTINUATION => self.continuation(head, payload),
            kind::PRIORITY => self.priority(head, payload),
            kind::RST_STREAM => self.rst_stream(head, payload),
            kind::SETTINGS => self.settings(head, payload),
            kind::PING => self.ping(head, payload),
            kind::GOAWAY => self.goaway(head, payload),
            kind::WINDOW_UPDATE => self.window_update(head, payload),
            kind::PUSH_PROMISE => Err(Code::Protocol.into()),
            // RFC 9113 section 4.1.
            _ => Ok(()),
        }
    }

    fn find(&self, id: u32) -> Option<usize> {
        self.ids.iter().position(|used| *used == id)
    }

    /// A stream that was not opened yet.
    fn is_idle(&self, id: u32) -> bool {
        id > self.last || id.is_multiple_of(2)
    }

    /// A stream that a client opened when it had not yet heard that no more are taken. It can try again elsewhere.
    fn is_past_the_last(&self, id: u32) -> bool {
        self.leaving == Leaving::Last && id > self.last && !id.is_multiple_of(2)
    }

    /// A stream that has no slot is answered by a reset, for what the client did.
    fn stray(&mut self, id: u32, code: Code) -> Result<(), Broken> {
        if self.is_past_the_last(id) || self.reset_by_us.contains(&id) {
            return Ok(());
        }
        self.reset(id, code);
        Ok(self.watch.reset()?)
    }

    /// A stream ends by what the client did.
    fn break_stream(&mut self, slot: usize, code: Code) -> Result<(), Broken> {
        self.reset_slot(slot, code);
        self.woken.push(slot as u32);
        Ok(self.watch.reset()?)
    }

    fn reset_slot(&mut self, slot: usize, code: Code) {
        self.close(slot);
        self.slots[slot].reset = Some(Reset::ByUs);
        self.reset(self.slots[slot].id, code);
    }

    fn reset(&mut self, id: u32, code: Code) {
        self.reset_by_us[self.resets % RESETS_KNOWN] = id;
        self.resets += 1;
        frame::push(kind::RST_STREAM, 0, id, &(code as u32).to_be_bytes(), &mut self.out);
    }

    /// The stream does not count any more.
    fn close(&mut self, slot: usize) {
        self.active -= u32::from(std::mem::replace(&mut self.slots[slot].counts, false));
    }

    fn close_if_done(&mut self, slot: usize) {
        let stream = &self.slots[slot];
        if stream.remote_ended && stream.answer.is_done() {
            self.close(slot);
        }
    }
}

/// Who reset a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reset {
    ByClient,
    ByUs,
}

#[cfg(test)]
mod tests;
