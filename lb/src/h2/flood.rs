//! Frames that cost us more than they cost their sender (RFC 9113 section 10.5).
//!
//! Only the frames' heads are looked at, as they pass. What a client may need now and then is not a flood: counted is what comes within a
//! window, and resets only where most streams are reset.

/// How long frames are counted, in milliseconds.
const WINDOW_MS: u64 = 10_000;
/// The most of each kind in a window. An ordinary client sends a handful; one that downloads with small windows sends many updates, which
/// are not counted, since each lets us send something.
const SETTINGS_MAX: u32 = 100;
const PINGS_MAX: u32 = 1000;
const PRIORITIES_MAX: u32 = 1000;
const EMPTY_DATA_MAX: u32 = 1000;
/// The most streams reset by the client in a window; beyond it only while they are less than half of those opened.
const RESETS_MAX: u32 = 200;

/// Why a client's connection over HTTP/2 was given up. The order is that of the counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flood {
    /// Streams opened and reset at once (CVE-2023-44487).
    Resets,
    /// A head in too many frames (CVE-2024-27316).
    Continuations,
    /// `SETTINGS`, each of which must be answered.
    Settings,
    /// `PING`, likewise.
    Pings,
    /// `PRIORITY`, which means nothing any more.
    Priorities,
    /// `DATA` without data.
    EmptyData,
    /// Frames that break the protocol.
    Protocol,
    /// It took no bytes for too long while some were waiting.
    Stalled,
}

impl Flood {
    /// All of them, in the order of their numbers.
    pub const ALL: [Flood; 8] = [
        Flood::Resets,
        Flood::Continuations,
        Flood::Settings,
        Flood::Pings,
        Flood::Priorities,
        Flood::EmptyData,
        Flood::Protocol,
        Flood::Stalled,
    ];

    /// As metrics say it.
    pub fn word(self) -> &'static str {
        match self {
            Flood::Resets => "resets",
            Flood::Continuations => "continuations",
            Flood::Settings => "settings",
            Flood::Pings => "pings",
            Flood::Priorities => "priorities",
            Flood::EmptyData => "empty-data",
            Flood::Protocol => "protocol",
            Flood::Stalled => "stalled",
        }
    }
}

/// Looks at what a client sends after its preface.
#[derive(Debug, Default)]
pub struct Watch {
    /// A frame's head as far as it came.
    head: [u8; 9],
    have: u8,
    /// Bytes of the preface, then of a frame's payload, that are still to pass.
    skip: u32,
    began: bool,
    window_ms: u64,
    opened: u32,
    continuations: u32,
    resets: u32,
    settings: u32,
    pings: u32,
    priorities: u32,
    empty_data: u32,
}

/// The connection preface (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Watch {
    /// Looks at the next bytes.
    ///
    /// # Errors
    /// There are too many frames of one kind.
    pub fn look(&mut self, mut bytes: &[u8], now_ms: u64) -> Result<(), Flood> {
        if !self.began {
            self.began = true;
            self.window_ms = now_ms;
            self.skip = PREFACE.len() as u32;
        }
        if now_ms.saturating_sub(self.window_ms) >= WINDOW_MS {
            let Watch { head, have, skip, began, .. } = *self;
            *self = Watch { head, have, skip, began, window_ms: now_ms, ..Watch::default() };
        }
        while !bytes.is_empty() {
            let skipped = bytes.len().min(self.skip as usize);
            self.skip -= skipped as u32;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                break;
            }
            let have = usize::from(self.have);
            let count = bytes.len().min(9 - have);
            self.head[have..have + count].copy_from_slice(&bytes[..count]);
            self.have += count as u8;
            bytes = &bytes[count..];
            if self.have == 9 {
                self.have = 0;
                self.skip = u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]);
                self.frame(self.head[3], self.head[4])?;
            }
        }
        Ok(())
    }

    /// What there was most of, for who found only that it was too much.
    pub fn suspect(&self) -> Flood {
        let most = [(self.resets, Flood::Resets), (self.continuations, Flood::Continuations), (self.empty_data, Flood::EmptyData)];
        most.into_iter().max_by_key(|(count, _)| *count).map_or(Flood::Protocol, |(_, flood)| flood)
    }

    /// Counts a frame (RFC 9113 section 6 has the types).
    fn frame(&mut self, kind: u8, flags: u8) -> Result<(), Flood> {
        let (counter, most, flood) = match kind {
            // How many make a head too long is known to who reads it.
            9 => (&mut self.continuations, u32::MAX, Flood::Continuations),
            0 if self.skip == 0 && flags & 1 == 0 => (&mut self.empty_data, EMPTY_DATA_MAX, Flood::EmptyData),
            1 => {
                self.opened = self.opened.saturating_add(1);
                return Ok(());
            }
            2 => (&mut self.priorities, PRIORITIES_MAX, Flood::Priorities),
            3 => (&mut self.resets, RESETS_MAX.max(self.opened / 2), Flood::Resets),
            // An acknowledgement answers one of ours.
            4 if flags & 1 == 0 => (&mut self.settings, SETTINGS_MAX, Flood::Settings),
            6 if flags & 1 == 0 => (&mut self.pings, PINGS_MAX, Flood::Pings),
            _ => return Ok(()),
        };
        *counter = counter.saturating_add(1);
        if *counter > most { Err(flood) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![0, (payload >> 8) as u8, payload as u8, kind, flags, 0, 0, 0, 1];
        bytes.resize(9 + payload, 0x55);
        bytes
    }

    /// How many of these frames are let through.
    fn passed(watch: &mut Watch, frames: impl Iterator<Item = Vec<u8>>, now_ms: u64) -> (usize, Option<Flood>) {
        let mut count = 0;
        for frame in frames {
            // In two pieces, wherever the cut is.
            let cut = count % (frame.len() + 1);
            match watch.look(&frame[..cut], now_ms).and_then(|()| watch.look(&frame[cut..], now_ms)) {
                Ok(()) => count += 1,
                Err(flood) => return (count, Some(flood)),
            }
        }
        (count, None)
    }

    fn begun() -> Watch {
        let mut watch = Watch::default();
        watch.look(PREFACE, 0).expect("the preface");
        watch
    }

    #[test]
    fn each_kind_has_its_bound() {
        let table = [
            (frame(0, 0, 0), 1000, Flood::EmptyData),
            (frame(2, 0, 5), 1000, Flood::Priorities),
            (frame(3, 0, 4), 200, Flood::Resets),
            (frame(4, 0, 6), 100, Flood::Settings),
            (frame(6, 0, 8), 1000, Flood::Pings),
        ];
        for (bytes, most, flood) in table {
            let sent = (0..5000).map(|_| bytes.clone());
            assert_eq!(passed(&mut begun(), sent, 1), (most, Some(flood)));
        }
    }

    #[test]
    fn what_makes_progress_is_no_flood() {
        for bytes in [frame(0, 0, 100), frame(0, 1, 0), frame(1, 4, 20), frame(4, 1, 0), frame(6, 1, 8), frame(8, 0, 4), frame(200, 0, 3)] {
            assert_eq!(passed(&mut begun(), (0..20_000).map(|_| bytes.clone()), 1), (20_000, None), "type {}", bytes[3]);
        }
    }

    #[test]
    fn a_client_that_resets_few_of_many_is_let_through() {
        let sent = (0..30_000).map(|index| if index % 3 == 2 { frame(3, 0, 4) } else { frame(1, 5, 30) });
        assert_eq!(passed(&mut begun(), sent, 1), (30_000, None));
        let sent = (0..30_000).map(|index| if index % 2 == 1 { frame(3, 0, 4) } else { frame(1, 5, 30) });
        assert_eq!(passed(&mut begun(), sent, 1).1, Some(Flood::Resets));
    }

    #[test]
    fn the_window_moves_on() {
        let mut watch = begun();
        for second in 0..1000 {
            assert_eq!(passed(&mut watch, (0..9).map(|_| frame(4, 0, 6)), second * 1000), (9, None));
        }
    }
}
