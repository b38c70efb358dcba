//! Which host gets the next machine: where the fewest of the pool are, then where a warm clone waits, then where most room is.

use std::collections::BTreeMap;

use super::memory::Memory;
use super::observation::{HostRoom, Observation};

/// Where machines of one plan go, one after the other.
#[derive(Clone, Debug)]
pub struct Placement {
    hosts: Vec<HostRoom>,
    by_group: BTreeMap<String, u32>,
    by_host: BTreeMap<String, u32>,
}

/// Where a machine goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The host.
    pub host: String,
    /// A warm clone waits there.
    pub warm: bool,
}

impl Placement {
    /// With what is there already. Hosts on which launches failed are left out, unless there is no other.
    pub fn new(observation: &Observation, memory: &Memory) -> Placement {
        let mut placement = Placement { hosts: Vec::new(), by_group: BTreeMap::new(), by_host: BTreeMap::new() };
        for member in observation.members.iter().filter(|member| !member.state.is_going()) {
            placement.count(&member.host, &member.group);
        }
        let good = |host: &&HostRoom| !memory.bad_hosts.contains_key(&host.host);
        let has_room = |host: &&HostRoom| host.more > 0 || host.warm > 0;
        let any_good = observation.hosts.iter().filter(has_room).any(|host| good(&host));
        placement.hosts = observation.hosts.iter().filter(|host| !any_good || good(host)).cloned().collect();
        placement
    }

    fn count(&mut self, host: &str, group: &str) {
        *self.by_host.entry(host.to_owned()).or_default() += 1;
        *self.by_group.entry(group.to_owned()).or_default() += 1;
    }

    /// The next one. `Err`: no host takes it, and why, for each.
    pub fn choose(&mut self) -> Result<Place, String> {
        let in_group = |host: &HostRoom| self.by_group.get(&host.group).copied().unwrap_or(0);
        let on_host = |host: &HostRoom| self.by_host.get(&host.host).copied().unwrap_or(0);
        let key = |host: &HostRoom| (in_group(host), on_host(host), host.warm == 0, std::cmp::Reverse(host.more));
        let chosen = self.hosts.iter().enumerate().filter(|(_, host)| host.more > 0 || host.warm > 0).min_by_key(|(_, host)| key(host));
        let Some((at, _)) = chosen else { return Err(refusal(&self.hosts)) };
        let host = &mut self.hosts[at];
        let warm = host.warm > 0;
        if warm {
            host.warm -= 1;
        } else {
            host.more -= 1;
        }
        let (name, group) = (host.host.clone(), host.group.clone());
        self.count(&name, &group);
        Ok(Place { host: name, warm })
    }
}

fn refusal(hosts: &[HostRoom]) -> String {
    if hosts.is_empty() {
        return "there is no host for it".into();
    }
    let each: Vec<String> = hosts.iter().take(10).map(|host| format!("{}: {}", host.host, host.why)).collect();
    format!("no host takes one more: {}", each.join("; "))
}
