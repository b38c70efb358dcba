//! Addresses and devices: what a router holds, and what the kernel says to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use weir_config::VipMode;

use super::Driver;
use super::router::{Footing, Held};
use crate::machine::{Input, VirtualAddress};
use crate::packet::Family;
use crate::shell::device::{self, ALIAS, KEEP_FRESH, Mode, Tun};
use crate::shell::kernel::{Change, Done};
use crate::shell::link::Ears;
use crate::shell::settings::{self, HUSHED};

impl Driver {
    /// All virtual addresses of this node: none of them is ever sent from.
    pub(super) fn virtual_addresses(&self) -> BTreeSet<IpAddr> {
        let routers = self.routers.iter().flatten();
        routers.flat_map(|router| router.spec.config.addresses.iter().map(|address| address.address)).collect()
    }

    fn tun(&mut self) -> Result<u32, String> {
        if self.tun.is_none() {
            let made = Tun::make(&mut self.requests).map_err(|error| format!("no TUN device: {error} (/dev/net/tun)"));
            self.tun = Some(made);
        }
        match self.tun.as_ref() {
            Some(Ok(tun)) => Ok(tun.ifindex),
            Some(Err(error)) => Err(error.clone()),
            None => Err(String::new()),
        }
    }

    /// Decides where a router's addresses live. Kept for its whole life.
    pub(super) fn choose_mode(&mut self, mode: VipMode, accept: bool) -> (Mode, String) {
        if !accept {
            return (Mode::Nowhere, "accept is off: packets to the addresses are not taken".into());
        }
        match mode {
            VipMode::Interface => (Mode::Interface, "as configured".into()),
            VipMode::Auto => match self.tun() {
                Ok(_) => (Mode::Tun, "the kernel removes a TUN device together with this process".into()),
                Err(error) => (Mode::Interface, format!("{error}; addresses outlive a killed process by up to {} s", device::LIFETIME_S)),
            },
            VipMode::Tun | VipMode::Macvlan => {
                let wanted = if mode == VipMode::Tun { Mode::Tun } else { Mode::Macvlan };
                match self.tun() {
                    Ok(_) => (wanted, "as configured".into()),
                    Err(error) => (Mode::Interface, format!("{} was configured, but there is {error}", wanted.word())),
                }
            }
        }
    }

    /// A router's interface came, went or was replaced: opens what has to be heard, makes the macvlan.
    pub(super) fn stand_on(&mut self, index: usize, footing: Option<Footing>, now: Instant) {
        let Some(router) = self.routers[index].as_mut() else { return };
        let (old, family, vrid) = (router.footing, router.family(), router.spec.config.vrid);
        router.footing = footing;
        router.frame = None;
        let (name, group) = (router.spec.config.name.clone(), router.spec.config.peers.is_empty());
        let macvlan = router.mode == Mode::Macvlan && router.macvlan.is_none();
        self.by_number.retain(|_, one| *one != index);
        self.answers_changed.extend(old.map(|old| old.ifindex));
        let Some(footing) = footing else {
            if let Some(router) = self.routers[index].as_mut() {
                router.macvlan = None;
            }
            return;
        };
        self.answers_changed.insert(footing.ifindex);
        self.by_number.insert((footing.ifindex, family, vrid.number()), index);
        let ears = self.ears.entry(footing.ifindex).or_insert_with(|| Ears::new(footing.ifindex));
        match ears.hear(family, group) {
            Ok(_) => self.watch_sockets(footing.ifindex),
            Err(error) => self.warn(format!("{name}: {} packets cannot be heard: {error}", family.word())),
        }
        if family == Family::V4 {
            self.note_settings(footing.ifindex, now);
        }
        if macvlan {
            let link = device::macvlan_name(family == Family::V4, vrid.number(), footing.ifindex);
            let alias = format!("{ALIAS} {name}");
            self.ask(index, Change::Macvlan { parent: footing.ifindex, name: link, alias, mac: vrid.mac(family) }, now);
        }
    }

    fn ask(&mut self, index: usize, change: Change, now: Instant) {
        if let Err(error) = self.kernel.ask(index, change.clone()) {
            self.take_done(Done { owner: index, change, result: Err(error) }, now);
        }
    }

    /// Has addresses. Those that are there already stay.
    pub(super) fn hold(&mut self, index: usize, addresses: &[VirtualAddress], now: Instant) {
        let tun = self.tun.as_ref().and_then(|tun| tun.as_ref().ok()).map(|tun| tun.ifindex);
        let Some(router) = self.routers[index].as_mut() else { return };
        let mut changes = Vec::new();
        if let Some(macvlan) = router.macvlan {
            changes.push(Change::Up { ifindex: macvlan, up: true });
        }
        for VirtualAddress { address, prefix_len } in addresses {
            router.quiet.remove(address);
            let place = device::place(router.mode, *address, *prefix_len, tun, router.own_link());
            let held = router.held.entry(*address).or_insert(Held { place, asked: 0, there: place.is_none() });
            if let (Some(place), false) = (held.place, held.there && held.asked == 0) {
                held.asked += 1;
                let (ifindex, prefix_len, lifetime) = (place.ifindex, place.prefix_len, place.lifetime);
                changes.push(Change::Add { ifindex, address: *address, prefix_len, lifetime });
                if lifetime.is_some() {
                    router.fresh_at = Some(now + KEEP_FRESH);
                }
            }
        }
        let quiet_over = router.quiet.is_empty();
        let virtual_mac = router.mode == Mode::Macvlan && router.family() == Family::V4;
        let footing = router.footing;
        self.answers_changed.extend(router.footing.map(|footing| footing.ifindex));
        for change in changes {
            self.ask(index, change, now);
        }
        if virtual_mac {
            // Else it would answer with the interface's own MAC.
            self.hush_kernel(index);
        }
        if let (true, Some(footing)) = (quiet_over, footing) {
            self.let_kernel_answer(footing.ifindex);
        }
    }

    /// Keeps addresses, but answers for them no more.
    pub(super) fn quiet(&mut self, index: usize, addresses: &[VirtualAddress]) {
        let Some(router) = self.routers[index].as_mut() else { return };
        router.quiet.extend(addresses.iter().map(|address| address.address));
        router.unannounced.clear();
        self.announcements.silence(index);
        self.answers_changed.extend(router.footing.map(|footing| footing.ifindex));
        if router.mode == Mode::Tun && router.family() == Family::V4 {
            self.hush_kernel(index);
        }
    }

    /// The kernel answers ARP on any link for an address on the TUN device, and asks for others in that address's name, which teaches them
    /// the interface's own MAC. With these two it answers and asks for the interface's own addresses alone. Where a process that is
    /// killed leaves it so, the next start puts it back.
    fn hush_kernel(&mut self, index: usize) {
        let Some(footing) = self.routers[index].as_ref().and_then(|router| router.footing) else { return };
        let Some(link) = self.links.get(&footing.ifindex) else { return };
        for (setting, value) in HUSHED {
            if settings::is(&link.name, setting, "0") && self.hushed.insert((footing.ifindex, setting)) {
                let _ = std::fs::write(settings::path(&link.name, setting), value);
            }
        }
    }

    /// Writes down what may be changed of an interface, long before that is done: not while an election waits for it.
    fn note_settings(&mut self, ifindex: u32, now: Instant) {
        let (Some(file), Some(link)) = (self.settings_file.clone(), self.links.get(&ifindex)) else { return };
        let name = link.name.clone();
        let before = self.changeable.len();
        self.changeable.extend(settings::changeable(&name).map(|setting| (name.clone(), setting)));
        if self.changeable.len() > before {
            let settings = self.changeable.iter().cloned().collect();
            self.ask(usize::MAX, Change::NoteSettings { file, settings }, now);
        }
    }

    /// Lets the kernel answer again, once no router of the interface is quiet any more.
    pub(super) fn let_kernel_answer(&mut self, ifindex: u32) {
        let quiet = |router: &super::Router| {
            let virtual_mac = router.mode == Mode::Macvlan && router.family() == Family::V4 && !router.held.is_empty();
            router.footing.is_some_and(|one| one.ifindex == ifindex) && (virtual_mac || !router.quiet.is_empty())
        };
        if !self.routers.iter().flatten().any(quiet) {
            self.unhush_kernel(ifindex);
        }
    }

    /// Puts the settings back as they were.
    pub(super) fn unhush_kernel(&mut self, ifindex: u32) {
        for (setting, _) in HUSHED {
            if let (true, Some(link)) = (self.hushed.remove(&(ifindex, setting)), self.links.get(&ifindex)) {
                let _ = std::fs::write(settings::path(&link.name, setting), "0");
            }
        }
    }

    /// Has addresses no more.
    pub(super) fn let_go(&mut self, index: usize, addresses: &[VirtualAddress]) {
        let now = Instant::now();
        let Some(router) = self.routers[index].as_mut() else { return };
        let mut changes = Vec::new();
        for VirtualAddress { address, .. } in addresses {
            router.quiet.remove(address);
            router.unannounced.retain(|one| one.address != *address);
            if let Some(place) = router.held.remove(address).and_then(|held| held.place) {
                changes.push(Change::Remove { ifindex: place.ifindex, address: *address, prefix_len: place.prefix_len });
            }
        }
        if router.held.is_empty() {
            router.fresh_at = None;
            changes.extend(router.macvlan.map(|ifindex| Change::Up { ifindex, up: false }));
        }
        self.answers_changed.extend(router.footing.map(|footing| footing.ifindex));
        for change in changes {
            self.ask(index, change, now);
        }
        // In this order: an address that is gone already is not answered for.
        self.unhush.insert(index);
    }

    /// Gives addresses with a lifetime a new one.
    pub(super) fn keep_fresh(&mut self, index: usize, now: Instant) {
        let Some(router) = self.routers[index].as_mut() else { return };
        let mut changes = Vec::new();
        for (address, held) in &router.held {
            let Some(place) = held.place.filter(|place| place.lifetime.is_some() && held.there) else { continue };
            changes.push(Change::Add { ifindex: place.ifindex, address: *address, prefix_len: place.prefix_len, lifetime: place.lifetime });
        }
        router.fresh_at = Some(now + KEEP_FRESH);
        for change in changes {
            if let (Change::Add { address, .. }, Some(router)) = (&change, self.routers[index].as_mut()) {
                router.held.entry(*address).and_modify(|held| held.asked += 1);
            }
            self.ask(index, change, now);
        }
    }

    pub(super) fn read_done(&mut self) {
        self.kernel.heard();
        let done: Vec<Done> = std::iter::from_fn(|| self.kernel.done()).collect();
        // The news of a change are there before its result: read after it they could be taken for somebody else's doing.
        self.read_news();
        for one in done {
            self.take_done(one, Instant::now());
        }
    }

    fn take_done(&mut self, done: Done, now: Instant) {
        let index = done.owner;
        match (done.change, done.result) {
            (Change::Add { ifindex, address, .. }, result) => self.added(index, ifindex, address, result, now),
            (Change::Remove { ifindex, address, .. }, Err(error)) => {
                self.warn(format!("{address} could not be removed from interface {ifindex}: {error}"));
                self.finish_quiet(index);
            }
            (Change::Remove { .. }, Ok(())) => self.finish_quiet(index),
            (Change::Macvlan { name, parent, .. }, Ok(())) => {
                if let Some(router) = self.routers.get_mut(index).and_then(Option::as_mut) {
                    let made = self.requests.links().ok().and_then(|links| links.into_iter().find(|link| link.name == name));
                    router.macvlan = made.map(|link| link.index);
                    self.answers_changed.insert(parent);
                }
                self.start_if_ready(index, now);
            }
            (Change::Macvlan { name, .. }, Err(error)) => self.macvlan_failed(index, &name, &error, now),
            (Change::SendStraysOn { to, .. }, result) => {
                if let Err(error) = result {
                    self.warn(format!("connections that {to} has will end, as their packets cannot be sent on: {error}"));
                }
                if let Some(router) = self.routers.get_mut(index).and_then(Option::as_mut) {
                    router.strays_asked = false;
                }
                self.announce_settled(index, now);
            }
            // There is none where sending on did not work either.
            (Change::KeepStrays, Err(_)) => {}
            (change, Err(error)) => self.warn(format!("the kernel refuses {change:?}: {error}")),
            (_, Ok(())) => {}
        }
    }

    fn finish_quiet(&mut self, index: usize) {
        let footing = self.routers.get(index).and_then(Option::as_ref).and_then(|router| router.footing);
        if let (true, Some(footing)) = (self.unhush.remove(&index), footing) {
            self.let_kernel_answer(footing.ifindex);
        }
    }

    fn macvlan_failed(&mut self, index: usize, name: &str, error: &std::io::Error, now: Instant) {
        let Some(router) = self.routers.get_mut(index).and_then(Option::as_mut) else { return };
        router.mode = Mode::Tun;
        router.mode_reason = format!("macvlan was configured, but {name} could not be made: {error}");
        let text = format!("{}: {}; the interface's own MAC is used", router.spec.config.name, router.mode_reason);
        self.warn(text);
        self.start_if_ready(index, now);
    }

    fn added(&mut self, index: usize, ifindex: u32, address: IpAddr, result: std::io::Result<()>, now: Instant) {
        let Some(router) = self.routers.get_mut(index).and_then(Option::as_mut) else { return };
        let held = router.held.get_mut(&address).filter(|held| held.place.is_some_and(|place| place.ifindex == ifindex));
        let Some(held) = held else {
            // Let go of meanwhile; the change that removes it is behind this one.
            return;
        };
        held.asked = held.asked.saturating_sub(1);
        held.there = result.is_ok();
        if let Err(error) = result {
            self.address_failed(index, address, &error, now);
            return;
        }
        self.announce_settled(index, now);
    }

    /// Announces what waited for the kernel, once that owes nothing any more.
    fn announce_settled(&mut self, index: usize, now: Instant) {
        let Some(router) = self.routers.get_mut(index).and_then(Option::as_mut) else { return };
        if router.is_settled() && !router.unannounced.is_empty() {
            let addresses = std::mem::take(&mut router.unannounced);
            self.announce(index, &addresses, now);
        }
    }

    /// An address is on a link no more, by whoever's doing.
    pub(super) fn address_gone(&mut self, ifindex: u32, address: IpAddr, now: Instant) {
        let holder = |router: &super::Router| {
            let held = router.held.get(&address);
            held.is_some_and(|held| held.there && held.asked == 0 && held.place.is_some_and(|place| place.ifindex == ifindex))
        };
        let Some(index) = self.routers.iter().position(|router| router.as_ref().is_some_and(holder)) else { return };
        if let Some(held) = self.routers[index].as_mut().and_then(|router| router.held.get_mut(&address)) {
            held.there = false;
        }
        self.step(index, now, |instance| instance.handle_input(Input::AddressLost(address), now));
    }

    /// Goes over whom is answered for, on each interface where that changed.
    pub(super) fn update_answers(&mut self) {
        for ifindex in std::mem::take(&mut self.answers_changed) {
            let mut answers = BTreeMap::new();
            for router in self.routers.iter().flatten().filter(|router| router.footing.is_some_and(|one| one.ifindex == ifindex)) {
                let mac = router.mac();
                let held = router.held.keys().filter(|address| !router.quiet.contains(address) && device::answers(router.mode, **address));
                answers.extend(held.map(|address| (*address, mac)));
            }
            let Some(ears) = self.ears.get_mut(&ifindex) else { continue };
            match ears.answer_for(answers) {
                Ok(true) => self.watch_sockets(ifindex),
                Ok(false) => {}
                Err(error) => self.warn(format!("addresses on interface {ifindex} cannot be answered for: {error}")),
            }
        }
    }
}
