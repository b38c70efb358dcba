//! Gratuitous ARP and unsolicited neighbour advertisements, one after the other: hundreds at once are what a switch drops.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Frames sent at once...
const BATCH: usize = 16;
/// ...and the time to the next: 16,000 in a second.
const PAUSE: Duration = Duration::from_millis(1);
/// Most frames that wait. More routers than this have addresses at the same moment only where something is wrong; what is left out comes
/// with the next burst.
const WAITING_MAX: usize = 32 * 1024;

/// Frames that wait for their turn.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    waiting: VecDeque<Announcement>,
    due: Option<Instant>,
}

/// One frame for one interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Announcement {
    /// The virtual router it speaks for.
    pub(crate) owner: usize,
    pub(crate) ifindex: u32,
    pub(crate) frame: Vec<u8>,
}

impl Announcements {
    pub(crate) fn push(&mut self, announcement: Announcement, now: Instant) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(announcement);
            self.due.get_or_insert(now);
        }
    }

    /// The router is master no more: what it has not said yet would be wrong.
    pub(crate) fn silence(&mut self, owner: usize) {
        self.waiting.retain(|announcement| announcement.owner != owner);
        if self.waiting.is_empty() {
            self.due = None;
        }
    }

    /// When something is to be sent.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Sends what is due.
    pub(crate) fn send(&mut self, now: Instant, mut each: impl FnMut(Announcement)) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        for announcement in self.waiting.drain(..BATCH.min(self.waiting.len())) {
            each(announcement);
        }
        self.due = (!self.waiting.is_empty()).then_some(now + PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(owner: usize, byte: u8) -> Announcement {
        Announcement { owner, ifindex: 1, frame: vec![byte] }
    }

    #[test]
    fn frames_are_paced_and_in_order() {
        let (mut queue, start) = (Announcements::default(), Instant::now());
        assert_eq!(queue.timeout(), None);
        for byte in 0..40 {
            queue.push(frame(0, byte), start);
        }
        let (mut sent, mut now, mut rounds) = (Vec::new(), start, 0);
        while let Some(due) = queue.timeout() {
            assert!(due <= start + PAUSE * 2);
            now = now.max(due);
            queue.send(now, |one| sent.push(one.frame[0]));
            rounds += 1;
        }
        assert_eq!((sent, rounds), ((0..40).collect(), 3));
    }

    #[test]
    fn a_router_that_is_master_no_more_says_nothing() {
        let (mut queue, now) = (Announcements::default(), Instant::now());
        queue.push(frame(1, 1), now);
        queue.push(frame(2, 2), now);
        queue.silence(1);
        let mut sent = Vec::new();
        queue.send(now, |one| sent.push(one.owner));
        assert_eq!(sent, [2]);
        queue.push(frame(1, 1), now);
        queue.silence(1);
        assert_eq!(queue.timeout(), None);
    }

    #[test]
    fn the_queue_is_bounded() {
        let (mut queue, now) = (Announcements::default(), Instant::now());
        for _ in 0..WAITING_MAX + 10 {
            queue.push(frame(0, 0), now);
        }
        assert_eq!(queue.waiting.len(), WAITING_MAX);
    }
}
