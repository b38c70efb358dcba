//! Frames that cost us more than they cost their sender (RFC 9113 section 10.5).
//!
//! Only the frames' heads are looked at. What a client may need now and then is not a flood: counted is what comes within a window, and resets
//! only where most streams are reset.

use super::frame::{Head, flag, kind};

/// How long frames are counted, in milliseconds.
const WINDOW_MS: u64 = 10_000;
/// The most of each kind in a window. An ordinary client sends a handful; one that downloads with small windows sends many updates, which
/// are not counted: each wakes at most those whose own window is open.
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
    window_ms: u64,
    opened: u32,
    resets: u32,
    settings: u32,
    pings: u32,
    priorities: u32,
    empty_data: u32,
}

/// The connection preface (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Watch {
    /// Bytes came at this time.
    pub fn at(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.window_ms) >= WINDOW_MS {
            *self = Watch { window_ms: now_ms, ..Watch::default() };
        }
    }

    /// Counts a frame.
    ///
    /// # Errors
    /// There are too many of its kind.
    pub fn frame(&mut self, head: &Head) -> Result<(), Flood> {
        match head.kind {
            kind::DATA if head.len == 0 && !head.has(flag::END_STREAM) => self.empty_data(),
            kind::PRIORITY => count(&mut self.priorities, PRIORITIES_MAX, Flood::Priorities),
            kind::RST_STREAM => self.reset(),
            // An acknowledgement answers one of ours.
            kind::SETTINGS if !head.has(flag::ACK) => count(&mut self.settings, SETTINGS_MAX, Flood::Settings),
            kind::PING if !head.has(flag::ACK) => count(&mut self.pings, PINGS_MAX, Flood::Pings),
            _ => Ok(()),
        }
    }

    /// Counts `DATA` without data.
    ///
    /// # Errors
    /// There is too much of it.
    pub fn empty_data(&mut self) -> Result<(), Flood> {
        count(&mut self.empty_data, EMPTY_DATA_MAX, Flood::EmptyData)
    }

    /// Counts a stream that was served. Trailers, and what was refused, are none: they would allow for more resets.
    pub fn opened(&mut self) {
        self.opened = self.opened.saturating_add(1);
    }

    /// Counts a stream that was reset: by the client, or for what it did (CVE-2025-8671).
    ///
    /// # Errors
    /// There are too many of them.
    pub fn reset(&mut self) -> Result<(), Flood> {
        count(&mut self.resets, RESETS_MAX.max(self.opened / 2), Flood::Resets)
    }
}

fn count(counter: &mut u32, most: u32, flood: Flood) -> Result<(), Flood> {
    *counter = counter.saturating_add(1);
    if *counter > most { Err(flood) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, len: usize) -> Head {
        Head { len, kind, flags, stream: 1 }
    }

    /// How many of these frames are let through, if all HEADERS open a stream.
    fn passed(watch: &mut Watch, frames: impl Iterator<Item = Head>, now_ms: u64) -> (usize, Option<Flood>) {
        let mut count = 0;
        watch.at(now_ms);
        for head in frames {
            if head.kind == kind::HEADERS {
                watch.opened();
            }
            match watch.frame(&head) {
                Ok(()) => count += 1,
                Err(flood) => return (count, Some(flood)),
            }
        }
        (count, None)
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
        for (head, most, flood) in table {
            assert_eq!(passed(&mut Watch::default(), (0..5000).map(|_| head), 1), (most, Some(flood)));
        }
    }

    #[test]
    fn what_makes_progress_is_no_flood() {
        for head in [frame(0, 0, 100), frame(0, 1, 0), frame(1, 4, 20), frame(4, 1, 0), frame(6, 1, 8), frame(8, 0, 4), frame(200, 0, 3)] {
            assert_eq!(passed(&mut Watch::default(), (0..20_000).map(|_| head), 1), (20_000, None), "type {}", head.kind);
        }
    }

    #[test]
    fn a_client_that_resets_few_of_many_is_let_through() {
        let sent = (0..30_000).map(|index| if index % 3 == 2 { frame(3, 0, 4) } else { frame(1, 5, 30) });
        assert_eq!(passed(&mut Watch::default(), sent, 1), (30_000, None));
        let sent = (0..30_000).map(|index| if index % 2 == 1 { frame(3, 0, 4) } else { frame(1, 5, 30) });
        assert_eq!(passed(&mut Watch::default(), sent, 1).1, Some(Flood::Resets));
    }

    #[test]
    fn the_window_moves_on() {
        let mut watch = Watch::default();
        for second in 0..1000 {
            assert_eq!(passed(&mut watch, (0..9).map(|_| frame(4, 0, 6)), second * 1000), (9, None));
        }
    }
}
