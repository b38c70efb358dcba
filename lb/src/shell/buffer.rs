//! Buffers of a worker: taken when bytes are there, given back when they are gone, so that a connection that waits owns none.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Size of an ordinary buffer: a request head of the default bound, or a small response, in one read.
pub(super) const SMALL: usize = 16 * 1024;
/// Size of a buffer for bulk: fewer system calls per byte.
pub(super) const LARGE: usize = 128 * 1024;
/// Free small buffers kept per worker: what a burst needs again at once.
const SMALL_KEPT: usize = 64;
/// Free large buffers kept per worker.
const LARGE_KEPT: usize = 8;

/// Large buffers in use per worker. A slow reader can hold one as long as it likes: beyond these, bulk goes through small ones too, so that
/// thousands of slow readers cost eight times less.
const LARGE_USED_MAX: usize = 64;

/// A worker's free buffers.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    small: RefCell<Vec<Box<[u8]>>>,
    large: RefCell<Vec<Box<[u8]>>>,
    large_used: Cell<usize>,
    heads: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    pub(super) fn small(self: &Rc<Self>) -> Buf {
        let data = self.small.borrow_mut().pop().unwrap_or_else(|| vec![0; SMALL].into());
        Buf { data, start: 0, end: 0, is_large: false, home: Rc::clone(self) }
    }

    /// A large one, or a small one while too many large ones are in use.
    pub(super) fn bulk(self: &Rc<Self>) -> Buf {
        if self.large_used.get() < LARGE_USED_MAX { self.large() } else { self.small() }
    }

    fn large(self: &Rc<Self>) -> Buf {
        let data = self.large.borrow_mut().pop().unwrap_or_else(|| vec![0; LARGE].into());
        self.large_used.set(self.large_used.get() + 1);
        Buf { data, start: 0, end: 0, is_large: true, home: Rc::clone(self) }
    }

    /// The smallest one that takes so many bytes, of which there are never more than in a large one.
    pub(super) fn fitting(self: &Rc<Self>, count: usize) -> Buf {
        if count <= SMALL { self.small() } else { self.large() }
    }

    /// An empty vector for a head that is being built.
    pub(super) fn head(self: &Rc<Self>) -> Head {
        Head { bytes: self.heads.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(1024)), home: Rc::clone(self) }
    }
}

/// Bytes that were read and not yet passed on.
#[derive(Debug)]
pub(super) struct Buf {
    data: Box<[u8]>,
    start: usize,
    end: usize,
    /// It was taken as a large one.
    is_large: bool,
    home: Rc<Buffers>,
}

impl Buf {
    pub(super) fn filled(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    pub(super) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.data[self.start..self.end]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Room for more.
    pub(super) fn spare(&mut self) -> &mut [u8] {
        &mut self.data[self.end..]
    }

    /// So many bytes were written into [`Buf::spare`].
    pub(super) fn add(&mut self, count: usize) {
        self.end += count;
        debug_assert!(self.end <= self.data.len());
    }

    /// Copies bytes into the spare room, which must be large enough.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.spare()[..bytes.len()].copy_from_slice(bytes);
        self.add(bytes.len());
    }

    /// So many bytes are done with.
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    pub(super) fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Makes room at the end, by moving the content or, up to `most` bytes in all, by growing. Whether there is room now.
    pub(super) fn make_room(&mut self, most: usize) -> bool {
        if self.start > 0 {
            self.data.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.data.len() && self.data.len() < most {
            let mut grown = vec![0; (self.data.len() * 2).min(most)];
            grown[..self.end].copy_from_slice(&self.data[..self.end]);
            self.data = grown.into();
        }
        self.end < self.data.len()
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        if self.is_large {
            self.home.large_used.set(self.home.large_used.get() - 1);
        }
        let (free, kept) = match self.data.len() {
            SMALL => (&self.home.small, SMALL_KEPT),
            LARGE => (&self.home.large, LARGE_KEPT),
            _ => return,
        };
        let mut free = free.borrow_mut();
        if free.len() < kept {
            free.push(std::mem::take(&mut self.data));
        }
    }
}

/// A head that is being built.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) bytes: Vec<u8>,
    home: Rc<Buffers>,
}

impl Drop for Head {
    fn drop(&mut self) {
        let mut heads = self.home.heads.borrow_mut();
        if heads.len() < SMALL_KEPT && self.bytes.capacity() <= SMALL {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            heads.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_ones_are_bounded_and_come_back() {
        let buffers = Rc::<Buffers>::default();
        let sizes = |all: &[Buf]| all.iter().filter(|buf| buf.data.len() == LARGE).count();
        let mut held: Vec<Buf> = (0..LARGE_USED_MAX + 10).map(|_| buffers.bulk()).collect();
        assert_eq!(sizes(&held), LARGE_USED_MAX);
        held.truncate(1);
        assert_eq!(buffers.large_used.get(), 1);
        assert_eq!(buffers.bulk().data.len(), LARGE);
        assert_eq!(buffers.fitting(SMALL).data.len(), SMALL);
        let mut grown = buffers.fitting(SMALL + 1);
        grown.push(&[7; LARGE]);
        assert!(grown.make_room(2 * LARGE));
        drop(grown);
        assert_eq!((buffers.large_used.get(), buffers.large.borrow().len()), (1, LARGE_KEPT - 1));
    }
}
