//! What each of a client's frames means (RFC 9113 section 6).

use super::{Block, Broken, CONTINUATIONS_MAX, LEAVE_PING, Leaving, Machine, Reset, STREAM_WINDOW, Stream};
use crate::h2::flood::Flood;
use crate::h2::frame::{self, Code, Head, PAYLOAD_MAX, STREAM_MAX, WINDOW_MAX, flag, kind, setting};
use crate::h2::hpack::table::{Kind, SIZE_MAX};

impl Machine {
    pub(super) fn data(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        if head.stream == 0 || (self.find(head.stream).is_none() && self.is_idle(head.stream) && !self.is_past_the_last(head.stream)) {
            return Err(Code::Protocol.into());
        }
        self.room -= payload.len() as i64;
        if self.room < 0 {
            return Err(Code::FlowControl.into());
        }
        // What was read before may be what the client waits for.
        self.owe(0);
        let data = unpadded(head, payload)?;
        if data.is_empty() && !payload.is_empty() && !head.has(flag::END_STREAM) {
            // Nothing in a wrapping is nothing.
            self.watch.empty_data()?;
        }
        let Some(slot) = self.find(head.stream) else {
            self.owe(payload.len());
            return self.stray(head.stream, Code::StreamClosed);
        };
        let stream = &mut self.slots[slot];
        if stream.reset.is_some() || stream.remote_ended {
            let by_us = stream.reset == Some(Reset::ByUs);
            self.owe(payload.len());
            return if by_us { Ok(()) } else { self.break_stream(slot, Code::StreamClosed) };
        }
        stream.room -= payload.len() as i64;
        if stream.room < 0 {
            self.owe(payload.len());
            return self.break_stream(slot, Code::FlowControl);
        }
        let ended = head.has(flag::END_STREAM);
        if !stream.takes(data.len() as u64, ended) {
            self.owe(payload.len());
            return self.break_stream(slot, Code::Protocol);
        }
        stream.push(data);
        stream.remote_ended = ended;
        // Padding is read at once.
        let padding = payload.len() - data.len();
        if padding > 0 {
            self.give_back(slot, padding);
        }
        if ended {
            self.close_if_done(slot);
        }
        self.woken.push(slot as u32);
        Ok(())
    }

    pub(super) fn headers(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        if head.stream.is_multiple_of(2) {
            return Err(Code::Protocol.into());
        }
        let mut fragment = unpadded(head, payload)?;
        let mut circular = false;
        if head.has(flag::PRIORITY) {
            let (on, rest) = fragment.split_first_chunk::<4>().ok_or(Code::FrameSize)?;
            fragment = rest.get(1..).ok_or(Code::FrameSize)?;
            circular = u32::from_be_bytes(*on) & STREAM_MAX == head.stream;
        }
        let block = Block { stream: head.stream, ended: head.has(flag::END_STREAM), circular, frames: 0 };
        if head.has(flag::END_HEADERS) {
            return self.fields(block, fragment);
        }
        self.block = Some(block);
        self.block_bytes.clear();
        self.block_bytes.extend_from_slice(fragment);
        Ok(())
    }

    pub(super) fn continuation(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        let Some(block) = &mut self.block else { return Err(Code::Protocol.into()) };
        block.frames += 1;
        // A block may be longer than the head it stands for only by a little.
        if block.frames > CONTINUATIONS_MAX || self.block_bytes.len() + payload.len() > self.limits.head_bytes_max + PAYLOAD_MAX {
            return Err(Flood::Continuations.into());
        }
        self.block_bytes.extend_from_slice(payload);
        if head.has(flag::END_HEADERS)
            && let Some(block) = self.block.take()
        {
            let bytes = std::mem::take(&mut self.block_bytes);
            self.fields(block, &bytes)?;
            self.block_bytes = bytes;
        }
        Ok(())
    }

    /// Takes a whole field block. Whatever becomes of it, it is read: the next ones build upon it.
    fn fields(&mut self, block: Block, bytes: &[u8]) -> Result<(), Broken> {
        let id = block.stream;
        if id <= self.last
            && let Some(slot) = self.find(id)
        {
            return self.trailers(slot, block, bytes);
        }
        let is_full = self.active >= self.limits.streams_max || self.used() >= 2 * self.limits.streams_max as usize;
        if id <= self.last || self.is_past_the_last(id) || is_full || block.circular {
            self.decoder.decode(bytes, |_| {}).map_err(|_| self.unreadable())?;
            if self.is_past_the_last(id) || self.reset_by_us.contains(&id) {
                return Ok(());
            }
            if id <= self.last {
                // RFC 9113 sections 5.1 and 5.1.1: it is over, or was passed by.
                let was_used = self.used_numbers.checked_shr((self.last - id) / 2).is_none_or(|numbers| numbers & 1 == 1);
                return Err(if was_used { Code::StreamClosed } else { Code::Protocol }.into());
            }
            self.use_number(id);
            if block.circular {
                return self.stray(id, Code::Protocol);
            }
            self.reset(id, Code::RefusedStream);
            return Ok(());
        }
        self.use_number(id);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Stream::default());
            self.ids.push(0);
            self.slots.len() as u32 - 1
        });
        let Machine { decoder, head, slots, limits, .. } = self;
        let stream = &mut slots[slot as usize];
        let text = stream.text();
        head.begin(limits.secure, limits.head_bytes_max);
        let read = decoder.decode(bytes, |field| head.field(field, text));
        let (Ok(()), Ok(written)) = (read, head.finish(block.ended, text)) else {
            stream.leave();
            self.free.push(slot);
            return if read.is_err() { Err(self.unreadable()) } else { self.stray(id, Code::Protocol) };
        };
        stream.open(id, written, block.ended, i64::from(STREAM_WINDOW), self.stream_window);
        self.ids[slot as usize] = id;
        self.active += 1;
        self.opened.push(slot);
        self.watch.opened();
        Ok(())
    }

    /// What a block that was given up does to the connection.
    fn unreadable(&self) -> Broken {
        if self.decoder.is_overdrawn() { Flood::Continuations.into() } else { Code::Compression.into() }
    }

    /// A client takes each number once, in order, and may leave some out.
    fn use_number(&mut self, id: u32) {
        self.used_numbers = self.used_numbers.checked_shl((id - self.last).div_ceil(2)).unwrap_or(0) | 1;
        self.last = id;
    }

    fn trailers(&mut self, slot: usize, block: Block, bytes: &[u8]) -> Result<(), Broken> {
        let stream = &mut self.slots[slot];
        let most = self.limits.head_bytes_max;
        let mut malformed = !block.ended || block.circular;
        let lines = &mut stream.trailers;
        let read = self.decoder.decode(bytes, |field| {
            malformed |=
                matches!(field.kind, Kind::Malformed | Kind::Method | Kind::Scheme | Kind::Authority | Kind::Path | Kind::Protocol);
            malformed |= lines.len() > most;
            if !malformed {
                lines.extend_from_slice(field.line);
            }
        });
        read.map_err(|_| self.unreadable())?;
        let stream = &mut self.slots[slot];
        if stream.reset.is_some() || stream.remote_ended {
            let by_us = stream.reset == Some(Reset::ByUs);
            return if by_us { Ok(()) } else { self.break_stream(slot, Code::StreamClosed) };
        }
        if malformed || !stream.takes(0, true) {
            return self.break_stream(slot, Code::Protocol);
        }
        stream.remote_ended = true;
        self.close_if_done(slot);
        self.woken.push(slot as u32);
        Ok(())
    }

    /// Nobody's order is followed; only its form is looked at.
    pub(super) fn priority(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        let code = match payload.first_chunk::<4>() {
            _ if head.stream == 0 => return Err(Code::Protocol.into()),
            Some(on) if payload.len() == 5 && u32::from_be_bytes(*on) & STREAM_MAX != head.stream => return Ok(()),
            Some(_) if payload.len() == 5 => Code::Protocol,
            _ => Code::FrameSize,
        };
        match self.find(head.stream) {
            Some(slot) => self.break_stream(slot, code),
            // One that is not there cannot be reset.
            None => Err(code.into()),
        }
    }

    pub(super) fn rst_stream(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        if head.stream == 0 || (self.is_idle(head.stream) && !self.is_past_the_last(head.stream)) {
            return Err(Code::Protocol.into());
        }
        if payload.len() != 4 {
            return Err(Code::FrameSize.into());
        }
        if let Some(slot) = self.find(head.stream) {
            self.close(slot);
            self.slots[slot].reset.get_or_insert(Reset::ByClient);
            self.woken.push(slot as u32);
        }
        Ok(())
    }

    pub(super) fn settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        if head.stream != 0 {
            return Err(Code::Protocol.into());
        }
        if !payload.len().is_multiple_of(6) || (head.has(flag::ACK) && !payload.is_empty()) {
            return Err(Code::FrameSize.into());
        }
        if head.has(flag::ACK) {
            return Ok(());
        }
        // Only the last one counts, and going over all streams costs something.
        let mut window = self.stream_window;
        for entry in payload.chunks_exact(6) {
            let number = u16::from_be_bytes([entry[0], entry[1]]);
            let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
            match number {
                setting::HEADER_TABLE_SIZE => self.tell_no_table |= !self.told_no_table && (value as usize) < SIZE_MAX,
                setting::ENABLE_PUSH if value > 1 => return Err(Code::Protocol.into()),
                setting::INITIAL_WINDOW_SIZE if i64::from(value) > WINDOW_MAX => return Err(Code::FlowControl.into()),
                setting::INITIAL_WINDOW_SIZE => window = i64::from(value),
                setting::MAX_FRAME_SIZE if !(PAYLOAD_MAX as u32..1 << 24).contains(&value) => return Err(Code::Protocol.into()),
                _ => {}
            }
        }
        if window != self.stream_window {
            self.resize_windows(window)?;
        }
        frame::push(kind::SETTINGS, flag::ACK, 0, &[], &mut self.out);
        Ok(())
    }

    /// RFC 9113 section 6.9.2.
    fn resize_windows(&mut self, window: i64) -> Result<(), Broken> {
        let more = window - std::mem::replace(&mut self.stream_window, window);
        let Machine { slots, woken, .. } = self;
        let is_open = |stream: &Stream| stream.id != 0 && stream.reset.is_none() && !stream.answer.is_done();
        for (slot, stream) in slots.iter_mut().enumerate().filter(|(_, stream)| is_open(stream)) {
            let was_shut = stream.window <= 0;
            stream.window += more;
            if stream.window > WINDOW_MAX {
                return Err(Code::FlowControl.into());
            }
            if was_shut && stream.window > 0 {
                woken.push(slot as u32);
            }
        }
        Ok(())
    }

    pub(super) fn ping(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        if head.stream != 0 {
            return Err(Code::Protocol.into());
        }
        if payload.len() != LEAVE_PING.len() {
            return Err(Code::FrameSize.into());
        }
        if !head.has(flag::ACK) {
            frame::push(kind::PING, flag::ACK, 0, payload, &mut self.out);
        } else if self.leaving == Leaving::Told && payload == LEAVE_PING {
            self.take_no_more();
        }
        Ok(())
    }

    pub(super) fn goaway(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        if head.stream != 0 {
            return Err(Code::Protocol.into());
        }
        if payload.len() < 8 {
            return Err(Code::FrameSize.into());
        }
        self.client_leaves = true;
        Ok(())
    }

    pub(super) fn window_update(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        let Ok(more) = payload.try_into() else { return Err(Code::FrameSize.into()) };
        let more = i64::from(u32::from_be_bytes(more) & STREAM_MAX);
        if head.stream == 0 {
            self.window += more;
            if more == 0 {
                return Err(Code::Protocol.into());
            }
            if self.window > WINDOW_MAX {
                return Err(Code::FlowControl.into());
            }
            self.wake_waiting();
            return Ok(());
        }
        let Some(slot) = self.find(head.stream) else {
            let is_idle = self.is_idle(head.stream) && !self.is_past_the_last(head.stream);
            return if is_idle { Err(Code::Protocol.into()) } else { Ok(()) };
        };
        let stream = &mut self.slots[slot];
        if stream.reset.is_some() {
            return Ok(());
        }
        stream.window += more;
        if more == 0 {
            return self.break_stream(slot, Code::Protocol);
        }
        if stream.window > WINDOW_MAX {
            return self.break_stream(slot, Code::FlowControl);
        }
        self.woken.push(slot as u32);
        Ok(())
    }
}

/// What is left of a payload without its padding (RFC 9113 section 6.1).
fn unpadded(head: Head, payload: &[u8]) -> Result<&[u8], Broken> {
    if !head.has(flag::PADDED) {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or(Code::FrameSize)?;
    // With a priority in front of a field block its five bytes are no padding either, which whoever reads them finds out.
    let len = rest.len().checked_sub(usize::from(*padding)).ok_or(Code::Protocol)?;
    Ok(&rest[..len])
}
