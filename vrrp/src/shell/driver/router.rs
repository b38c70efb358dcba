//! One virtual router and what belongs to it on this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use crate::machine::{Destination, Instance, StateKind, VirtualAddress};
use crate::packet::{Family, Packet};
use crate::shell::device::{Mode, Place};
use crate::shell::guardian;
use crate::shell::handle::{RouterSpec, RouterStatus};

/// An address this node shall have now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Held {
    /// Where; `None`: nowhere, it is only answered for.
    pub(super) place: Option<Place>,
    /// Changes that the kernel has not answered yet.
    pub(super) asked: u32,
    /// The kernel has it.
    pub(super) there: bool,
}

/// An interface, as one router sees it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Footing {
    pub(super) ifindex: u32,
    pub(super) mac: [u8; 6],
}

/// One virtual router at work.
#[derive(Debug)]
pub(super) struct Router {
    pub(super) spec: RouterSpec,
    pub(super) instance: Instance,
    /// Where it stands; `None`: the interface is not there.
    pub(super) footing: Option<Footing>,
    pub(super) mode: Mode,
    pub(super) mode_reason: String,
    /// The device that takes frames to the virtual MAC.
    pub(super) macvlan: Option<u32>,
    pub(super) will: Option<guardian::Place>,
    /// The last words that the guardian knows.
    pub(super) farewell: Vec<(Packet, Destination)>,
    pub(super) held: BTreeMap<IpAddr, Held>,
    /// Held, but not answered for any more.
    pub(super) quiet: BTreeSet<IpAddr>,
    /// To be announced when the kernel has them.
    pub(super) unannounced: Vec<VirtualAddress>,
    /// The last message to the group and its frame, to be sent again as it is.
    pub(super) frame: Option<(Packet, Vec<u8>)>,
    /// When the driver has to look at it.
    pub(super) due: Option<Instant>,
    /// When addresses with a lifetime get a new one.
    pub(super) fresh_at: Option<Instant>,
    /// The kernel does not send them on yet, though it was asked to.
    pub(super) strays_asked: bool,
    /// Until when packets of connections that began elsewhere are sent on.
    pub(super) strays_until: Option<Instant>,
    pub(super) told: (bool, Option<IpAddr>),
    pub(super) started: bool,
    pub(super) stopping: bool,
    pub(super) failed: Option<String>,
}

impl Router {
    pub(super) fn new(spec: RouterSpec, now: Instant) -> Router {
        Router {
            instance: Instance::new(spec.config.clone(), now),
            spec,
            footing: None,
            mode: Mode::Nowhere,
            mode_reason: String::new(),
            macvlan: None,
            will: None,
            farewell: Vec::new(),
            held: BTreeMap::new(),
            quiet: BTreeSet::new(),
            unannounced: Vec::new(),
            frame: None,
            due: None,
            fresh_at: None,
            strays_asked: false,
            strays_until: None,
            told: (false, None),
            started: false,
            stopping: false,
            failed: None,
        }
    }

    pub(super) fn family(&self) -> Family {
        self.spec.config.family
    }

    /// The hardware address that its addresses have for the neighbours.
    pub(super) fn mac(&self) -> [u8; 6] {
        match (self.mode, self.footing) {
            (Mode::Macvlan, _) => self.spec.config.vrid.mac(self.family()),
            (_, Some(footing)) => footing.mac,
            (_, None) => [0; 6],
        }
    }

    /// Where addresses go that cannot live on the TUN device.
    pub(super) fn own_link(&self) -> u32 {
        self.macvlan.or(self.footing.map(|footing| footing.ifindex)).unwrap_or(0)
    }

    /// Whether the kernel owes it nothing any more, so that the network may be told.
    pub(super) fn is_settled(&self) -> bool {
        !self.strays_asked && self.held.values().all(|held| held.there && held.asked == 0)
    }

    /// Whether what is configured anew is the same router still.
    pub(super) fn is(&self, spec: &RouterSpec) -> bool {
        let (old, new) = (&self.spec.config, &spec.config);
        self.failed.is_none()
            && (&old.name, &old.interface, old.vrid, old.family, old.version)
                == (&new.name, &new.interface, new.vrid, new.family, new.version)
            && (self.spec.mode, self.spec.accept) == (spec.mode, spec.accept)
    }

    /// Whether it stands in the way of another one with the same number.
    pub(super) fn collides(&self, spec: &RouterSpec) -> bool {
        let (old, new) = (&self.spec.config, &spec.config);
        (&old.interface, old.vrid, old.family) == (&new.interface, new.vrid, new.family)
    }

    /// Nothing is left of it.
    pub(super) fn is_gone(&self) -> bool {
        self.stopping && (self.failed.is_some() || self.instance.is_stopped()) && self.held.is_empty()
    }

    pub(super) fn is_master(&self) -> bool {
        self.failed.is_none() && self.instance.state() == StateKind::Master
    }

    pub(super) fn status(&self, now: Instant) -> RouterStatus {
        RouterStatus {
            machine: self.instance.status(now),
            mode: self.mode,
            mode_reason: self.mode_reason.clone(),
            held: self.held.iter().filter(|(_, held)| held.there).map(|(address, _)| *address).collect(),
            failed: self.failed.clone(),
        }
    }
}
