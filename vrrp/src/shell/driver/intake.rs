//! What comes in: frames, news of the network.

use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::time::Instant;

use rustix::event::Timespec;
use rustix::event::epoll;

use super::{Driver, EVENTS_MAX, router::Footing, wall};
use crate::machine::Input;
use crate::packet::{Family, Reception, peek};
use crate::shell::frame::{self, arp_reply, dissect, solicited_advertisement};
use crate::shell::link::{FRAME_MAX, Kind, receive};
use crate::shell::netlink::{self, News};

/// Frames of one socket before the others have their turn.
const FRAMES_MAX: usize = 256;

/// Reads of news in one round.
const NEWS_MAX: usize = 64;

impl Driver {
    pub(super) fn read_sockets(&mut self) {
        let mut ready: [MaybeUninit<epoll::Event>; EVENTS_MAX] = [MaybeUninit::uninit(); EVENTS_MAX];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let Ok((ready, _)) = epoll::wait(&self.events, &mut ready[..], Some(&now)) else { return };
        let mut found: Vec<(Kind, u32)> = Vec::with_capacity(ready.len());
        for event in ready.iter() {
            let data = event.data.u64();
            let kind = [Kind::Vrrp, Kind::Arp, Kind::Solicitation][(data & 3).min(2) as usize];
            found.push((kind, (data >> 8) as u32));
        }
        // Elections before answers.
        found.sort_unstable();
        found.dedup();
        let mut buffer = self.buffer.take().unwrap_or_else(|| Box::new([MaybeUninit::uninit(); FRAME_MAX]));
        for (kind, ifindex) in found {
            self.read_kind(kind, ifindex, &mut buffer);
        }
        self.buffer = Some(buffer);
    }

    fn read_kind(&mut self, kind: Kind, ifindex: u32, buffer: &mut [MaybeUninit<u8>; FRAME_MAX]) {
        let sockets = self.ears.get(&ifindex).map_or(0, |ears| ears.sockets().filter(|(one, _)| *one == kind).count());
        for which in 0..sockets {
            for _ in 0..FRAMES_MAX {
                let Some(ears) = self.ears.get(&ifindex) else { return };
                let Some((_, socket)) = ears.sockets().filter(|(one, _)| *one == kind).nth(which) else { return };
                let Some(frame) = receive(socket, buffer) else { break };
                match kind {
                    Kind::Vrrp => self.vrrp_frame(ifindex, frame),
                    Kind::Arp => self.arp_frame(ifindex, frame),
                    Kind::Solicitation => self.solicitation_frame(ifindex, frame),
                }
            }
        }
    }

    fn vrrp_frame(&mut self, ifindex: u32, frame: &[u8]) {
        let counters = self.counters.entry(ifindex).or_default();
        let Some(received) = dissect(frame) else {
            counters.malformed += 1;
            return;
        };
        let family = Family::of(received.source);
        let vrid = peek(received.payload).map_or(0, |head| head.vrid);
        let Some(index) = self.by_number.get(&(ifindex, family, vrid)).copied() else {
            counters.unknown_vrid += 1;
            return;
        };
        let primary = self.routers[index].as_ref().and_then(|router| router.told.1);
        if received.destination != family.group() && Some(received.destination) != primary {
            counters.not_ours += 1;
            return;
        }
        let reception = Reception { source: received.source, destination: received.destination, ttl: received.ttl, wall: wall() };
        let now = Instant::now();
        self.step(index, now, |instance| instance.handle_packet(received.payload, &reception, now));
    }

    fn arp_frame(&mut self, ifindex: u32, bytes: &[u8]) {
        let Some((asker, target)) = frame::arp_request(bytes) else { return };
        // Our own announcements are requests for ourselves.
        if let Some(mac) = self.ears.get(&ifindex).and_then(|ears| ears.answer(target.into())).filter(|mac| *mac != asker.0) {
            let _ = self.sender.frame(ifindex, &arp_reply(target, mac, asker));
        }
    }

    fn solicitation_frame(&mut self, ifindex: u32, bytes: &[u8]) {
        let Some((asker, target)) = frame::solicitation(bytes) else { return };
        if let Some(mac) = self.ears.get(&ifindex).and_then(|ears| ears.answer(target.into())).filter(|mac| *mac != asker.0) {
            let _ = self.sender.frame(ifindex, &solicited_advertisement(target, mac, asker));
        }
    }

    pub(super) fn read_news(&mut self) {
        for _ in 0..NEWS_MAX {
            let news = self.watch.read();
            if news.is_empty() {
                return;
            }
            for one in news {
                self.take_news(one);
            }
        }
    }

    fn take_news(&mut self, news: News) {
        match news {
            News::Link(link) => {
                let index = link.index;
                if self.links.get(&index) != Some(&link) {
                    self.links.insert(index, link);
                    self.look_at_interfaces();
                }
            }
            News::LinkGone(index) => {
                self.links.remove(&index);
                self.addresses.retain(|address| address.ifindex != index);
                self.ears.remove(&index);
                self.by_number.retain(|(ifindex, ..), _| *ifindex != index);
                self.look_at_interfaces();
            }
            News::Address(address) => {
                let old = self.addresses.iter_mut().find(|old| (old.ifindex, old.address) == (address.ifindex, address.address));
                match old {
                    // A lifetime that was made longer is news too.
                    Some(old) if *old == address => return,
                    Some(old) => *old = address,
                    None => self.addresses.push(address),
                }
                self.look_at_interfaces();
            }
            News::AddressGone(address) => {
                self.addresses.retain(|old| (old.ifindex, old.address) != (address.ifindex, address.address));
                self.address_gone(address.ifindex, address.address, Instant::now());
                self.look_at_interfaces();
            }
            News::Lost => self.ask_for_everything(),
        }
    }

    fn ask_for_everything(&mut self) {
        let (Ok(links), Ok(addresses)) = (self.requests.links(), self.requests.addresses()) else {
            self.warn("the kernel does not tell its interfaces and addresses".into());
            return;
        };
        self.links = links.into_iter().map(|link| (link.index, link)).collect();
        let gone: Vec<(u32, IpAddr)> = self
            .addresses
            .iter()
            .map(|address| (address.ifindex, address.address))
            .filter(|old| !addresses.iter().any(|new| (new.ifindex, new.address) == *old))
            .collect();
        self.addresses = addresses;
        for (ifindex, address) in gone {
            self.address_gone(ifindex, address, Instant::now());
        }
        self.look_at_interfaces();
    }

    /// Tells each router what became of its interface.
    pub(super) fn look_at_interfaces(&mut self) {
        for index in 0..self.routers.len() {
            self.look_at_interface(index, Instant::now());
        }
    }

    /// Finds a router's interface and tells what changed.
    pub(super) fn look_at_interface(&mut self, index: usize, now: Instant) {
        let Some(router) = self.routers.get(index).and_then(Option::as_ref) else { return };
        let (name, family) = (router.spec.config.interface.clone(), router.family());
        let (old_footing, old_told) = (router.footing, router.told);
        let link = self.links.values().find(|link| *link.name == *name);
        let footing = link.map(|link| Footing { ifindex: link.index, mac: link.mac.unwrap_or_default() });
        let running = link.is_some_and(|link| link.running);
        let primary = footing.and_then(|footing| self.primary(index, footing.ifindex, family));
        if footing != old_footing {
            self.stand_on(index, footing, now);
        }
        let told = (running, primary);
        if let Some(router) = self.routers[index].as_mut() {
            router.told = told;
            if told.1 != old_told.1 {
                router.frame = None;
            }
        }
        if told.1 != old_told.1 {
            self.step(index, now, |instance| instance.handle_input(Input::PrimaryAddress(told.1), now));
        }
        if told.0 != old_told.0 {
            self.step(index, now, |instance| instance.handle_input(Input::Interface { up: told.0 }, now));
        }
    }

    fn primary(&self, index: usize, ifindex: u32, family: Family) -> Option<IpAddr> {
        let router = self.routers[index].as_ref()?;
        if let Some(source) = router.spec.source.filter(|source| Family::of(*source) == family) {
            let there = |address: &netlink::Address| (address.ifindex, address.address) == (ifindex, source) && !address.unusable;
            return self.addresses.iter().any(there).then_some(source);
        }
        netlink::primary(&self.addresses, ifindex, family == Family::V4, &self.virtual_addresses())
    }
}
