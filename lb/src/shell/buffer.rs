//! Buffers of a worker: taken when bytes are there, given back when they are gone, so that a connection that waits owns none.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Size of a buffer for a request's head, which it keeps until the response is there; most are much shorter, few grow out of it.
pub(super) const REQUEST: usize = 4 * 1024;
/// Size of an ordinary buffer: a small response in one read.
pub(super) const SMALL: usize = 16 * 1024;
/// Size of a buffer for bulk: fewer system calls per byte.
pub(super) const LARGE: usize = 128 * 1024;
/// Free small buffers kept per worker: what a burst needs again at once. What was not needed for a second or two goes back to the allocator.
const SMALL_KEPT: usize = 64;
/// The same of those that each request under way holds, for its head and for what is made of it: a few clients over HTTP/2 have hundreds.
const REQUESTS_KEPT: usize = 512;
/// Free large buffers kept per worker.
const LARGE_KEPT: usize = 8;

/// Large buffers in use per worker. A slow reader can hold one as long as it likes: beyond these, bulk goes through small ones too, so that
/// thousands of slow readers cost eight times less.
const LARGE_USED_MAX: usize = 64;

/// A worker's free buffers.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    request: Free<Box<[u8]>>,
    small: Free<Box<[u8]>>,
    large: Free<Box<[u8]>>,
    large_used: Cell<usize>,
    heads: Free<Vec<u8>>,
}

/// Free ones of a kind.
#[derive(Debug)]
struct Free<T> {
    list: RefCell<Vec<T>>,
    /// The fewest there were since the last trim: so many were not needed.
    fewest: Cell<usize>,
}

impl<T> Default for Free<T> {
    fn default() -> Free<T> {
        Free { list: RefCell::default(), fewest: Cell::new(0) }
    }
}

impl<T> Free<T> {
    fn take(&self) -> Option<T> {
        let mut list = self.list.borrow_mut();
        let taken = list.pop();
        self.fewest.set(self.fewest.get().min(list.len()));
        taken
    }

    fn give(&self, item: T, kept: usize) {
        let mut list = self.list.borrow_mut();
        if list.len() < kept {
            list.push(item);
        }
    }

    /// Whether any were given back.
    fn trim(&self) -> bool {
        let mut list = self.list.borrow_mut();
        let unneeded = self.fewest.get();
        let needed = list.len().saturating_sub(unneeded);
        list.truncate(needed);
        if list.is_empty() {
            list.shrink_to_fit();
        }
        self.fewest.set(list.len());
        unneeded > 0
    }
}

fn zeroed(size: usize) -> Box<[u8]> {
    vec![0; size].into()
}

impl Buffers {
    /// For a request's head; it grows on demand.
    pub(super) fn request(self: &Rc<Self>) -> Buf {
        self.buf(self.request.take().unwrap_or_else(|| zeroed(REQUEST)), false)
    }

    pub(super) fn small(self: &Rc<Self>) -> Buf {
        self.buf(self.small.take().unwrap_or_else(|| zeroed(SMALL)), false)
    }

    fn buf(self: &Rc<Self>, data: Box<[u8]>, is_large: bool) -> Buf {
        Buf { data, start: 0, end: 0, is_large, home: Rc::clone(self) }
    }

    /// Gives back what was not needed since the last time. Whether that was anything.
    pub(super) fn trim(&self) -> bool {
        self.request.trim() | self.small.trim() | self.large.trim() | self.heads.trim()
    }

    /// A large one, or a small one while too many large ones are in use.
    pub(super) fn bulk(self: &Rc<Self>) -> Buf {
        if self.large_used.get() < LARGE_USED_MAX { self.large() } else { self.small() }
    }

    fn large(self: &Rc<Self>) -> Buf {
        self.large_used.set(self.large_used.get() + 1);
        self.buf(self.large.take().unwrap_or_else(|| zeroed(LARGE)), true)
    }

    /// The smallest one that takes so many bytes, of which there are never more than in a large one.
    pub(super) fn fitting(self: &Rc<Self>, count: usize) -> Buf {
        if count <= SMALL { self.small() } else { self.large() }
    }

    /// An empty vector for a head that is being built.
    pub(super) fn head(self: &Rc<Self>) -> Head {
        Head { bytes: self.heads.take().unwrap_or_else(|| Vec::with_capacity(1024)), home: Rc::clone(self) }
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
            REQUEST => (&self.home.request, REQUESTS_KEPT),
            SMALL => (&self.home.small, SMALL_KEPT),
            LARGE => (&self.home.large, LARGE_KEPT),
            _ => return,
        };
        free.give(std::mem::take(&mut self.data), kept);
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
        if self.bytes.capacity() <= SMALL {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            self.home.heads.give(bytes, REQUESTS_KEPT);
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
        assert_eq!((buffers.large_used.get(), buffers.large.list.borrow().len()), (1, LARGE_KEPT - 1));
    }

    #[test]
    fn hundreds_of_requests_at_once_need_no_allocator() {
        let buffers = Rc::<Buffers>::default();
        let hold = || -> Vec<(Buf, Head)> { (0..320).map(|_| (buffers.request(), buffers.head())).collect() };
        drop(hold());
        let held = hold();
        assert_eq!((buffers.request.list.borrow().len(), buffers.heads.list.borrow().len()), (0, 0));
        drop(held);
        buffers.trim();
        buffers.trim();
        assert_eq!((buffers.request.list.borrow().len(), buffers.heads.list.borrow().len()), (0, 0), "they are not needed any more");
    }

    #[test]
    fn what_is_not_needed_goes_back() {
        let buffers = Rc::<Buffers>::default();
        let held: Vec<Buf> = (0..10).map(|_| buffers.small()).collect();
        drop(held);
        let free = || buffers.small.list.borrow().len();
        buffers.trim();
        assert_eq!(free(), 10, "all were needed since the last trim");
        drop((buffers.small(), buffers.small(), buffers.small()));
        buffers.trim();
        assert_eq!(free(), 3);
        buffers.trim();
        assert_eq!(free(), 0);
    }
}
