//! What goes to the client: answers as the windows allow, and what it is told of streams and windows.

use super::stream::Stream;
use super::{CONNECTION_WINDOW, Code, DEAF_AT, Machine, OUT_MAX, STREAM_WINDOW};
use crate::h2::answer::Begun;
use crate::h2::frame::{self, HEAD, PAYLOAD_MAX, flag, kind};
use crate::h2::hpack::encode::push_no_table;
use crate::h2::unframe::Unframed;

/// Bytes of a stream's answer that may wait for the socket, so that others find room beside it.
const UNSENT_MAX: usize = 32 * 1024;
/// What was sent is taken out of the buffer once it is so much.
const SENT_MAX: usize = 64 * 1024;

/// An answer gets no further.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unanswerable {
    /// The stream was reset.
    #[error("the stream was reset")]
    Reset,
    /// What was written is no answer.
    #[error(transparent)]
    Unframed(#[from] Unframed),
}

impl Machine {
    /// Frames that are to be sent.
    pub fn unsent(&self) -> &[u8] {
        &self.out[self.sent..]
    }

    /// So many bytes of them were.
    pub fn flushed(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
            self.tail = None;
            self.turn = self.turn.wrapping_add(1);
            if self.out.capacity() > OUT_MAX {
                self.out = Vec::new();
            }
            self.wake_waiting();
        } else if self.sent >= SENT_MAX {
            self.out.drain(..self.sent);
            self.sent = 0;
            self.tail = None;
        }
    }

    /// So much waits for the client to read it that it is not listened to.
    pub fn is_deaf(&self) -> bool {
        self.unsent().len() >= DEAF_AT
    }

    /// Whether a request's next piece, or its end, can be read, or it is gone.
    pub fn is_readable(&self, slot: u32) -> bool {
        let stream = &self.slots[slot as usize];
        stream.reset.is_some() || stream.is_readable()
    }

    /// Reads of a request; 0: it is at its end. `None`: nothing now.
    ///
    /// # Errors
    /// The stream was reset.
    pub fn read(&mut self, slot: u32, room: &mut [u8]) -> Result<Option<usize>, Unanswerable> {
        let stream = &mut self.slots[slot as usize];
        if stream.reset.is_some() {
            return Err(Unanswerable::Reset);
        }
        let (count, of_body) = stream.take(room);
        if of_body > 0 {
            self.give_back(slot as usize, of_body);
        }
        let ended = self.slots[slot as usize].remote_ended;
        Ok(if count > 0 || ended { Some(count) } else { None })
    }

    /// Writes of an answer; how much of the piece was taken.
    ///
    /// # Errors
    /// The stream was reset, or that is no answer.
    pub fn write(&mut self, slot: u32, piece: &[u8]) -> Result<usize, Unanswerable> {
        let index = slot as usize;
        let mut taken = 0;
        while taken < piece.len() {
            let is_full = self.unsent().len() >= OUT_MAX;
            let Machine { slots, out, window, turn, tell_no_table, told_no_table, tail, .. } = self;
            let stream = &mut slots[index];
            if stream.reset.is_some() {
                return Err(Unanswerable::Reset);
            }
            if stream.answer.is_done() {
                // Whoever writes on would be told for ever that there is room.
                if taken == 0 {
                    return Err(Unframed.into());
                }
                break;
            }
            let rest = &piece[taken..];
            if !stream.answer.is_begun() {
                if is_full {
                    self.wait(index);
                    break;
                }
                let at = out.len();
                out.resize(at + HEAD, 0);
                if *tell_no_table {
                    push_no_table(out);
                }
                let (count, begun) = stream.answer.head(rest, out).inspect_err(|_| out.truncate(at))?;
                *told_no_table |= std::mem::take(tell_no_table);
                frame::finish_block(at, if begun == Begun::Whole { flag::END_STREAM } else { 0 }, stream.id, out);
                taken += count;
                if begun == Begun::Whole {
                    self.close_if_done(index);
                }
                continue;
            }
            let data = stream.answer.data(rest.len());
            if data > 0 {
                let share = if is_full { 0 } else { stream.share(*turn) };
                let windows = stream.window.min(*window).max(0) as usize;
                let count = data.min(PAYLOAD_MAX).min(share).min(windows);
                if count == 0 {
                    self.wait(index);
                    break;
                }
                let ended = stream.answer.passed(count);
                let at = out.len();
                frame::push(kind::DATA, if ended { flag::END_STREAM } else { 0 }, stream.id, &rest[..count], out);
                *tail = Some((stream.id, at, out.len()));
                stream.queued += count;
                stream.window -= count as i64;
                *window -= count as i64;
                taken += count;
                if ended {
                    self.close_if_done(index);
                }
                continue;
            }
            taken += stream.answer.framing(rest)?;
            if stream.answer.is_done() {
                let at = out.len();
                out.resize(at + HEAD, 0);
                if *tell_no_table {
                    push_no_table(out);
                }
                if stream.answer.write_trailers(out).inspect_err(|_| out.truncate(at))? {
                    *told_no_table |= std::mem::take(tell_no_table);
                    frame::finish_block(at, flag::END_STREAM, stream.id, out);
                } else {
                    out.truncate(at);
                    self.end_data(index);
                }
                self.close_if_done(index);
            }
        }
        Ok(taken)
    }

    /// Whether [`Machine::write`] may take something. If not, the slot is woken when it may.
    pub fn is_writable(&mut self, slot: u32) -> bool {
        let is_full = self.unsent().len() >= OUT_MAX;
        let stream = &mut self.slots[slot as usize];
        let has_window = !stream.answer.is_begun() || (stream.share(self.turn) > 0 && stream.window.min(self.window) > 0);
        let may = stream.reset.is_some() || stream.answer.is_done() || (has_window && !is_full);
        if !may {
            self.wait(slot as usize);
        }
        may
    }

    /// The client gave the stream up before its answer was complete.
    pub fn is_gone(&self, slot: u32) -> bool {
        let stream = &self.slots[slot as usize];
        stream.reset.is_some() && !stream.answer.is_done()
    }

    /// The other protocol's bytes are at their end.
    pub fn end(&mut self, slot: u32) {
        let stream = &mut self.slots[slot as usize];
        if stream.reset.is_none() && stream.answer.is_begun() && !stream.answer.is_done() {
            stream.answer.finish();
            self.end_data(slot as usize);
            self.close_if_done(slot as usize);
        }
    }

    /// Makes the client see that what it got is not the whole.
    pub fn abort(&mut self, slot: u32) {
        if self.slots[slot as usize].reset.is_none() {
            self.reset_slot(slot as usize, Code::Internal);
        }
    }

    /// The exchange of a slot is over. `cut`: it was broken off.
    pub fn finish(&mut self, slot: u32, cut: bool) {
        let index = slot as usize;
        let stream = &self.slots[index];
        if stream.reset.is_none() {
            if !stream.answer.is_done() {
                self.reset_slot(index, if cut || stream.answer.is_begun() { Code::Internal } else { Code::Cancel });
            } else if !stream.remote_ended {
                // RFC 9113 section 8.1: the answer stands, the rest of the request is of no interest.
                self.reset_slot(index, Code::NoError);
            }
        }
        self.close(index);
        let stream = &mut self.slots[index];
        if std::mem::take(&mut stream.waits) {
            self.starved.retain(|waiting| *waiting != slot);
            self.served.retain(|waiting| *waiting != slot);
        }
        let unread = stream.unread();
        stream.leave();
        self.ids[index] = 0;
        self.owe(unread);
        self.free.push(slot);
    }

    /// Data of a request was read: as much may be sent again.
    pub(super) fn give_back(&mut self, slot: usize, count: usize) {
        self.owe(count);
        let stream = &mut self.slots[slot];
        stream.owed += count;
        if stream.owed >= STREAM_WINDOW as usize / 2 && !stream.remote_ended {
            let owed = std::mem::take(&mut stream.owed);
            stream.room += owed as i64;
            frame::push(kind::WINDOW_UPDATE, 0, stream.id, &(owed as u32).to_be_bytes(), &mut self.out);
        }
    }

    /// The same of the connection alone.
    pub(super) fn owe(&mut self, count: usize) {
        self.owed += count;
        // Little by little where others' bodies, which nobody reads, hold the rest.
        if self.owed >= CONNECTION_WINDOW as usize / 2 || (self.owed > 0 && self.owed as i64 >= self.room) {
            let owed = std::mem::take(&mut self.owed);
            self.room += owed as i64;
            frame::push(kind::WINDOW_UPDATE, 0, 0, &(owed as u32).to_be_bytes(), &mut self.out);
        }
    }

    /// The end of a stream's data: on its last frame, if that is the last of all.
    fn end_data(&mut self, slot: usize) {
        let id = self.slots[slot].id;
        match self.tail {
            Some((stream, at, end)) if stream == id && end == self.out.len() && at >= self.sent => self.out[at + 4] |= flag::END_STREAM,
            _ => frame::push(kind::DATA, flag::END_STREAM, id, &[], &mut self.out),
        }
    }

    fn wait(&mut self, slot: usize) {
        let stream = &mut self.slots[slot];
        // Its own window wakes it; others would in vain.
        if stream.answer.is_begun() && stream.window <= 0 {
            return;
        }
        if !std::mem::replace(&mut stream.waits, true) {
            let had = stream.turn == self.turn && stream.queued > 0;
            if had { &mut self.served } else { &mut self.starved }.push(slot as u32);
        }
    }

    /// There is room: those that had none go first.
    pub(super) fn wake_waiting(&mut self) {
        let Machine { starved, served, woken, slots, .. } = self;
        for slot in starved.drain(..).chain(served.drain(..)) {
            slots[slot as usize].waits = false;
            woken.push(slot);
        }
    }
}

impl Stream {
    /// What it may write in this turn.
    fn share(&mut self, turn: u32) -> usize {
        if self.turn != turn {
            self.turn = turn;
            self.queued = 0;
        }
        UNSENT_MAX.saturating_sub(self.queued)
    }
}
