//! What the task of a client's connection and those of its streams share.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::h2::machine::Machine;

/// A connection, as its tasks know it.
#[derive(Debug)]
pub(super) struct Session {
    machine: RefCell<Machine>,
    seats: RefCell<Vec<Seat>>,
    /// Wakes the connection's task.
    driver: RefCell<Option<Waker>>,
    /// It was woken to send, and did not yet.
    told: Cell<bool>,
    over: Cell<bool>,
    /// It is under TLS.
    pub(super) secure: bool,
    /// What the client asked for in its TLS handshake.
    pub(super) server_name: Option<Rc<str>>,
    /// Our end of it.
    pub(super) local: Option<SocketAddr>,
}

/// The task that serves a slot, again and again: it is as large as an exchange, and would be made and moved anew for each.
#[derive(Debug, Default)]
struct Seat {
    /// `None`: there is no task.
    waker: Option<Waker>,
    /// A request waits for it.
    opened: bool,
    /// It had one since the last look.
    used: bool,
    /// It is not needed any more.
    dismissed: bool,
}

impl Session {
    pub(super) fn new(machine: Machine, secure: bool, server_name: Option<Rc<str>>, local: Option<SocketAddr>) -> Session {
        Session {
            machine: RefCell::new(machine),
            seats: RefCell::default(),
            driver: RefCell::default(),
            told: Cell::new(false),
            over: Cell::new(false),
            secure,
            server_name,
            local,
        }
    }

    /// For the connection's task, which sees by itself what there is to send.
    pub(super) fn drive<R>(&self, act: impl FnOnce(&mut Machine) -> R) -> R {
        act(&mut self.machine.borrow_mut())
    }

    /// For the others: the connection's task is woken if there is something to send, or nothing left to do.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Machine) -> R) -> R {
        let mut machine = self.machine.borrow_mut();
        let done = act(&mut machine);
        if !self.told.get()
            && (!machine.unsent().is_empty() || machine.is_over())
            && let Some(driver) = &*self.driver.borrow()
        {
            self.told.set(true);
            driver.wake_by_ref();
        }
        done
    }

    /// The connection's task looks at everything now.
    pub(super) fn begin_turn(&self, cx: &Context<'_>) {
        self.told.set(false);
        let mut driver = self.driver.borrow_mut();
        if !driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            *driver = Some(cx.waker().clone());
        }
    }

    /// Wakes the tasks of slots that have something new; `spawn` makes those that are missing. How many requests there were.
    pub(super) fn dispatch(&self, mut spawn: impl FnMut(u32)) -> u32 {
        let (mut machine, mut seats) = (self.machine.borrow_mut(), self.seats.borrow_mut());
        let mut count = 0;
        machine.take_opened(|slot| {
            count += 1;
            let index = slot as usize;
            if seats.len() <= index {
                seats.resize_with(index + 1, Seat::default);
            }
            let seat = &mut seats[index];
            seat.opened = true;
            seat.used = true;
            match &seat.waker {
                Some(waker) => waker.wake_by_ref(),
                None => spawn(slot),
            }
        });
        machine.take_woken(|slot| {
            if let Some(waker) = seats.get(slot as usize).and_then(|seat| seat.waker.as_ref()) {
                waker.wake_by_ref();
            }
        });
        count
    }

    /// Waits for a slot's next request. `false`: there is none for this task.
    pub(super) fn poll_request(&self, slot: u32, cx: &Context<'_>) -> Poll<bool> {
        let mut seats = self.seats.borrow_mut();
        let seat = &mut seats[slot as usize];
        if std::mem::take(&mut seat.opened) {
            seat.dismissed = false;
        } else if seat.dismissed || self.over.get() {
            *seat = Seat::default();
            return Poll::Ready(false);
        } else {
            return Poll::Pending;
        }
        if !seat.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            seat.waker = Some(cx.waker().clone());
        }
        Poll::Ready(true)
    }

    /// Lets the tasks go that had nothing to do since the last time.
    pub(super) fn dismiss_idle(&self) {
        let machine = self.machine.borrow();
        for (slot, seat) in self.seats.borrow_mut().iter_mut().enumerate() {
            if !std::mem::take(&mut seat.used)
                && machine.is_free(slot as u32)
                && let Some(waker) = &seat.waker
            {
                seat.dismissed = true;
                waker.wake_by_ref();
            }
        }
    }

    /// The connection is over.
    pub(super) fn close(&self) {
        self.over.set(true);
        self.machine.borrow_mut().abandon();
        self.seats.borrow().iter().filter_map(|seat| seat.waker.as_ref()).for_each(Waker::wake_by_ref);
    }
}
