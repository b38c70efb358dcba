//! What the rest of the program orders.

use std::sync::Arc;
use std::time::Instant;

use super::Driver;
use super::router::Router;
use crate::machine::{Input, VirtualAddress};
use crate::shell::device::Mode;
use crate::shell::handle::{Command, NodeStatus, RouterSpec};
use crate::shell::kernel::Change;

impl Driver {
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Apply(wanted) => {
                self.wanted = wanted;
                self.settle();
            }
            Command::Tell(vip, input) => self.pass_on(&vip, &input),
            Command::Status(reply) => {
                // Whoever asked may have given up.
                let _ = reply.try_send(self.status());
            }
            Command::Stop => self.stop = true,
        }
    }

    fn pass_on(&mut self, vip: &Arc<str>, input: &Input) {
        let now = Instant::now();
        for index in 0..self.routers.len() {
            if self.routers[index].as_ref().is_some_and(|router| router.spec.config.name == *vip) {
                self.step(index, now, |instance| instance.handle_input(input.clone(), now));
            }
        }
        self.remember(vip, input);
    }

    /// What was said about a virtual IP holds for routers of it that are made later: of what can be said again, the last word.
    fn remember(&mut self, vip: &Arc<str>, input: &Input) {
        let said = self.said.entry(vip.clone()).or_default();
        match input {
            Input::Eligible { .. } => said[0] = Some(input.clone()),
            Input::Rank { .. } => said[1] = Some(input.clone()),
            Input::Healthy(_) => said[2] = Some(input.clone()),
            _ => {}
        }
    }

    /// Brings what runs to what is wanted, as far as it can be now: a router whose number another one still holds has to wait for its end.
    pub(super) fn settle(&mut self) {
        let now = Instant::now();
        self.bury();
        let wanted = std::mem::take(&mut self.wanted);
        for index in 0..self.routers.len() {
            let Some(router) = self.routers[index].as_ref() else { continue };
            if !wanted.iter().any(|spec| router.is(spec)) && !router.stopping {
                self.stop_router(index, now);
            }
        }
        for spec in &wanted {
            let same = self.routers.iter().position(|router| router.as_ref().is_some_and(|router| router.is(spec) && !router.stopping));
            match same {
                Some(index) => self.change_router(index, spec, now),
                None if self.routers.iter().flatten().any(|router| router.collides(spec)) => {}
                None => self.start_router(spec.clone(), now),
            }
        }
        self.wanted = wanted;
        let names: Vec<Arc<str>> = self.wanted.iter().map(|spec| spec.config.name.clone()).collect();
        self.said.retain(|name, _| names.contains(name));
        self.bury();
    }

    fn change_router(&mut self, index: usize, spec: &RouterSpec, now: Instant) {
        let Some(router) = self.routers[index].as_mut().filter(|router| router.spec != *spec) else { return };
        router.frame = None;
        router.farewell.clear();
        router.spec = spec.clone();
        let config = Box::new(spec.config.clone());
        self.step(index, now, |instance| instance.handle_input(Input::Config(config), now));
        self.write_will(index, now);
        self.look_at_interface(index, now);
    }

    fn start_router(&mut self, spec: RouterSpec, now: Instant) {
        let (mode, reason) = self.choose_mode(spec.mode, spec.accept);
        let name = spec.config.name.clone();
        if mode == Mode::Interface && spec.mode != weir_config::VipMode::Interface {
            self.warn(format!("{name}: addresses are on the interface itself: {reason}"));
        }
        let mut router = Router::new(spec, now);
        (router.mode, router.mode_reason) = (mode, reason);
        let index = match self.routers.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.routers.push(None);
                self.routers.len() - 1
            }
        };
        self.routers[index] = Some(router);
        self.look_at_interface(index, now);
        for input in self.said.get(&name).cloned().unwrap_or_default().into_iter().flatten() {
            self.step(index, now, |instance| instance.handle_input(input, now));
        }
        self.start_if_ready(index, now);
        // Another address is virtual now.
        self.look_at_interfaces();
    }

    /// Starts a router once its device is there.
    pub(super) fn start_if_ready(&mut self, index: usize, now: Instant) {
        let Some(router) = self.routers[index].as_mut() else { return };
        let waits = router.mode == Mode::Macvlan && router.macvlan.is_none() && router.footing.is_some();
        if waits || router.started || router.stopping {
            return;
        }
        router.started = true;
        self.step(index, now, |instance| instance.handle_input(Input::Start, now));
    }

    fn stop_router(&mut self, index: usize, now: Instant) {
        let Some(router) = self.routers[index].as_mut() else { return };
        router.stopping = true;
        self.step(index, now, |instance| instance.handle_input(Input::Stop, now));
        self.plan(index);
    }

    /// Forgets those that came to their end.
    fn bury(&mut self) {
        for index in 0..self.routers.len() {
            let Some(router) = self.routers[index].take_if(|router| router.is_gone()) else { continue };
            if let Some(due) = router.due {
                self.due.remove(&(due, index));
            }
            if let (Some(guardian), Some(place)) = (self.guardian.as_mut(), router.will) {
                guardian.release(place);
            }
            if let Some(ifindex) = router.macvlan {
                let _ = self.kernel.ask(index, Change::RemoveLink { ifindex });
            }
            self.by_number.retain(|_, one| *one != index);
            self.announcements.silence(index);
            let Some(footing) = router.footing else { continue };
            self.answers_changed.insert(footing.ifindex);
            self.let_kernel_answer(footing.ifindex);
            // The last one on an interface closes its ears.
            if !self.routers.iter().flatten().any(|other| other.footing.is_some_and(|one| one.ifindex == footing.ifindex)) {
                self.ears.remove(&footing.ifindex);
            }
        }
    }

    /// No peer is waited for any more: whoever is master says priority 0, and nothing is held when this returns.
    pub(super) fn let_go_of_everything(&mut self) {
        let now = Instant::now();
        for index in 0..self.routers.len() {
            let Some(router) = self.routers[index].as_ref() else { continue };
            let addresses: Vec<VirtualAddress> = router.spec.config.addresses.clone();
            if router.is_master() {
                self.say_farewell(index, now);
            }
            self.let_go(index, &addresses);
            if let Some(ifindex) = self.routers[index].as_ref().and_then(|router| router.macvlan) {
                let _ = self.kernel.ask(index, Change::RemoveLink { ifindex });
            }
        }
        let hushed: Vec<u32> = self.hushed.iter().map(|(ifindex, _)| *ifindex).collect();
        for ifindex in hushed {
            self.unhush_kernel(ifindex);
        }
        if let Some(file) = self.settings_file.clone() {
            let _ = self.kernel.ask(usize::MAX, Change::NoteSettings { file, settings: Vec::new() });
        }
    }

    fn status(&self) -> NodeStatus {
        let now = Instant::now();
        let name = |ifindex: &u32| self.links.get(ifindex).map_or_else(|| ifindex.to_string(), |link| link.name.clone());
        NodeStatus {
            routers: self.routers.iter().flatten().map(|router| router.status(now)).collect(),
            links: self.counters.iter().map(|(ifindex, counters)| (name(ifindex), *counters)).collect(),
            guardian: self.guardian.as_ref().is_some_and(super::Guardian::is_ready),
            real_time: self.real_time,
            reports_lost: self.reports_lost,
        }
    }
}
