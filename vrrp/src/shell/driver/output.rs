//! What a router asks for is carried out here.

use std::io;
use std::net::IpAddr;
use std::time::Instant;

use super::{Driver, wall};
use crate::machine::{Destination, Input, LINGER, Output, StateKind, VirtualAddress};
use crate::packet::{Packet, TTL};
use crate::shell::announce::Announcement;
use crate::shell::frame::{self, gratuitous_arp, unsolicited_advertisement};
use crate::shell::guardian::will::{Message, Will};
use crate::shell::handle::{Report, ReportKind};
use crate::shell::kernel::Change;

impl Driver {
    /// Everything that one router asks for, then what its guardian has to know.
    pub(super) fn carry_out(&mut self, index: usize, now: Instant) {
        let mut spoke = false;
        while let Some(output) = self.routers[index].as_mut().and_then(|router| router.instance.poll_output()) {
            match output {
                Output::Send { packet, to } => {
                    spoke = true;
                    self.send(index, &packet, to);
                }
                Output::SendStraysTo(master) => self.send_strays_on(index, master, now),
                Output::AddAddresses(addresses) => self.hold(index, &addresses, now),
                Output::Quiet(addresses) => self.quiet(index, &addresses),
                Output::RemoveAddresses(addresses) => self.let_go(index, &addresses),
                Output::Announce(addresses) => self.announce(index, &addresses, now),
                Output::Transition(transition) => {
                    spoke = true;
                    if transition.to != StateKind::Master {
                        self.announcements.silence(index);
                        self.keep_strays(index);
                    }
                    self.tell(index, ReportKind::Transition(transition));
                }
                Output::Event(event) => self.tell(index, ReportKind::Event(event)),
            }
        }
        if spoke {
            self.write_will(index, now);
        }
    }

    fn tell(&mut self, index: usize, kind: ReportKind) {
        let Some(router) = self.routers[index].as_ref() else { return };
        let report = Report { vip: router.spec.config.name.clone(), family: router.family(), kind };
        self.report(report);
    }

    fn send(&mut self, index: usize, packet: &Packet, to: Destination) {
        let Some(router) = self.routers[index].as_mut() else { return };
        let (Some(footing), Some(source)) = (router.footing, router.told.1) else { return };
        // What is not signed is the same each time.
        if let Some((_, frame)) = router.frame.as_ref().filter(|(last, _)| to == Destination::Everyone && last == packet) {
            let _ = self.sender.frame(footing.ifindex, frame);
            return;
        }
        let mac = router.mac();
        for destination in router.instance.destinations(to) {
            let Some(message) = router.instance.encode(packet, destination, wall()) else { return };
            if destination.is_multicast() {
                let mut bytes = router.frame.take().map(|(_, bytes)| bytes).unwrap_or_default();
                frame::multicast(&mut bytes, mac, source, destination, TTL, &message);
                let _ = self.sender.frame(footing.ifindex, &bytes);
                if router.spec.config.keys.is_none() {
                    router.frame = Some((packet.clone(), bytes));
                }
            } else {
                // A peer that cannot be reached is one that is not there: its silence says so.
                let _ = self.sender.message(footing.ifindex, source, destination, &message);
            }
        }
    }

    /// Has the kernel send strays on to the master before, as long as that keeps the addresses.
    fn send_strays_on(&mut self, index: usize, to: IpAddr, now: Instant) {
        let Some(router) = self.routers[index].as_mut() else { return };
        let Some(footing) = router.footing else { return };
        let Some(device) = self.links.get(&footing.ifindex).map(|link| link.name.clone()) else { return };
        router.strays_until = Some(now + LINGER);
        let addresses = router.spec.config.addresses.iter().map(|address| address.address).collect();
        let change = Change::SendStraysOn { ifindex: footing.ifindex, device, mac: footing.mac, to, addresses };
        match self.kernel.ask(index, change) {
            Ok(()) => router.strays_asked = true,
            Err(error) => self.warn(format!("connections to the master before will end: {error}")),
        }
    }

    /// Sends strays on no more.
    pub(super) fn keep_strays(&mut self, index: usize) {
        let Some(router) = self.routers[index].as_mut() else { return };
        if router.strays_until.take().is_some()
            && let Err(error) = self.kernel.ask(index, Change::KeepStrays)
        {
            self.warn(format!("packets are sent on to the master before for longer than they should: {error}"));
        }
    }

    /// Announces what the kernel has; the rest when it has it.
    pub(super) fn announce(&mut self, index: usize, addresses: &[VirtualAddress], now: Instant) {
        let Some(router) = self.routers[index].as_mut() else { return };
        if !router.is_settled() {
            for address in addresses {
                if !router.unannounced.contains(address) {
                    router.unannounced.push(*address);
                }
            }
            return;
        }
        let Some(footing) = router.footing else { return };
        let mac = router.mac();
        for address in addresses {
            let frame = match address.address {
                IpAddr::V4(address) => gratuitous_arp(address, mac),
                IpAddr::V6(address) => unsolicited_advertisement(address, mac),
            };
            self.announcements.push(Announcement { owner: index, ifindex: footing.ifindex, frame }, now);
        }
    }

    /// Has the guardian know what to say when this process dies now.
    pub(super) fn write_will(&mut self, index: usize, now: Instant) {
        let (Some(guardian), Some(router)) = (self.guardian.as_mut(), self.routers[index].as_mut()) else { return };
        let farewell = router.instance.farewell(now);
        if farewell == router.farewell && (router.spec.config.keys.is_none() || farewell.is_empty()) {
            return;
        }
        router.farewell = farewell;
        if router.will.is_none() && !router.farewell.is_empty() {
            router.will = guardian.reserve();
        }
        let Some(place) = router.will else { return };
        let result = match (router.farewell.is_empty(), router.footing, router.told.1) {
            (false, Some(footing), Some(source)) => {
                let mut will = Will::default();
                for (packet, to) in &router.farewell {
                    for destination in router.instance.destinations(*to) {
                        let Some(payload) = router.instance.encode(packet, destination, wall()) else { continue };
                        if destination.is_multicast() {
                            let mut bytes = Vec::new();
                            frame::multicast(&mut bytes, router.mac(), source, destination, TTL, &payload);
                            will.frames.push((footing.ifindex, bytes));
                        } else {
                            will.messages.push(Message { ifindex: footing.ifindex, source, destination, payload });
                        }
                    }
                }
                let lasting = router.held.iter().filter_map(|(address, held)| Some((*address, held.place?)));
                will.addresses = lasting
                    .filter(|(_, place)| place.lifetime.is_some())
                    .map(|(address, place)| (place.ifindex, address, place.prefix_len))
                    .collect();
                will.links = router.macvlan.into_iter().collect();
                guardian.will(place, &will)
            }
            _ => guardian.revoke(place),
        };
        if let Err(error) = result {
            self.tell_guardian_trouble(index, &error);
        }
    }

    fn tell_guardian_trouble(&mut self, index: usize, error: &io::Error) {
        self.tell(index, ReportKind::Warning(format!("the guardian cannot be told what to say: {error}")));
    }

    /// The safe state of a router whose code failed: it says so to the others, and has no address.
    pub(super) fn fail(&mut self, index: usize, text: String, now: Instant) {
        let Some(router) = self.routers[index].as_mut() else { return };
        router.failed = Some(text.clone());
        let farewell = std::mem::take(&mut router.farewell);
        let held: Vec<VirtualAddress> = router.spec.config.addresses.clone();
        if let (Some(guardian), Some(place)) = (self.guardian.as_mut(), self.routers[index].as_mut().and_then(|router| router.will.take()))
        {
            guardian.release(place);
        }
        self.announcements.silence(index);
        for (packet, to) in farewell {
            self.send(index, &packet, to);
        }
        self.let_go(index, &held);
        let text =
            format!("this virtual router failed and takes no part any more, until it is configured anew or weir is restarted: {text}");
        self.tell(index, ReportKind::Warning(text));
        let _ = now;
    }

    /// An address could not be had.
    pub(super) fn address_failed(&mut self, index: usize, address: IpAddr, error: &io::Error, now: Instant) {
        let reason = error.to_string();
        self.step(index, now, |instance| instance.handle_input(Input::AddressFailed { address, reason }, now));
    }

    /// The last words of a master.
    pub(super) fn say_farewell(&mut self, index: usize, now: Instant) {
        let farewell = self.routers[index].as_ref().map(|router| router.instance.farewell(now)).unwrap_or_default();
        for (packet, to) in farewell {
            self.send(index, &packet, to);
        }
    }
}
