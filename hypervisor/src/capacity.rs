//! Which host takes a machine, and why the others do not. Pure.
//!
//! What is promised counts, not what is used: a host is full when the memory that its running and paused machines may claim reaches its
//! limit, whatever they claim just now. Machines that are off count with their disks alone; a warm clone that is paused counts like one that
//! runs, one that is saved like one that is off.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use weir_config::{HostName, VmHost, format_size};

use crate::error::Refusal;

/// More clones than any plan asks of one host.
const MORE_MAX: u32 = 1000;

/// What is known of a host when a machine is placed.
#[derive(Clone, Debug)]
pub struct Room {
    /// Its limits.
    pub host: HostName,
    /// `Err`: it cannot be used, and why.
    pub usable: Result<(), String>,
    /// Bytes that machines may be promised, less the reserve.
    pub memory_limit: u64,
    /// Bytes promised, what is being made included.
    pub memory_promised: u64,
    /// Virtual processors that may be promised.
    pub vcpus_limit: Option<u32>,
    /// And are.
    pub vcpus_promised: u32,
    /// Machines that may run.
    pub machines_limit: Option<u32>,
    /// And do.
    pub machines: u32,
    /// Bytes of disk that may be taken, less the reserve; `None`: not known.
    pub disk_free: Option<u64>,
    /// Machines of the same pool, or of the same template where there is no pool, that it has already.
    pub siblings: u32,
}

/// What a machine needs.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// Bytes.
    pub memory: u64,
    /// Virtual processors.
    pub vcpus: u32,
    /// Bytes of disk at the start.
    pub disk: u64,
}

impl Room {
    /// The limits of a host that has `memory_total` bytes.
    pub fn of(config: &VmHost, memory_total: u64) -> Room {
        Room {
            host: config.name.clone(),
            usable: Ok(()),
            memory_limit: config.memory_max.unwrap_or(memory_total).min(memory_total).saturating_sub(config.memory_reserve),
            memory_promised: 0,
            vcpus_limit: config.vcpus_max.map(Into::into),
            vcpus_promised: 0,
            machines_limit: config.machines_max.map(Into::into),
            machines: 0,
            disk_free: None,
            siblings: 0,
        }
    }

    /// How many of these it takes, one after the other, and why not one more. It is counted no further than `MORE_MAX`.
    pub fn more(&self, want: Want) -> (u32, String) {
        let mut room = self.clone();
        for more in 0..MORE_MAX {
            if let Some(why) = room.refusal(want) {
                return (more, why);
            }
            room.memory_promised = room.memory_promised.saturating_add(want.memory);
            room.vcpus_promised = room.vcpus_promised.saturating_add(want.vcpus);
            room.machines += 1;
            room.disk_free = room.disk_free.map(|free| free.saturating_sub(want.disk));
        }
        (MORE_MAX, "more are not counted".into())
    }

    /// Why this host cannot take it.
    fn refusal(&self, want: Want) -> Option<String> {
        if let Err(why) = &self.usable {
            return Some(why.clone());
        }
        let memory_free = self.memory_limit.saturating_sub(self.memory_promised);
        if want.memory > memory_free {
            return Some(format!("{} wanted, {} free below the reserve", size(want.memory), size(memory_free)));
        }
        if let Some(limit) = self.vcpus_limit
            && self.vcpus_promised.saturating_add(want.vcpus) > limit
        {
            return Some(format!("{} vCPUs wanted, {} of {limit} free", want.vcpus, limit.saturating_sub(self.vcpus_promised)));
        }
        if let Some(limit) = self.machines_limit
            && self.machines >= limit
        {
            return Some(format!("it has {} machines of at most {limit}", self.machines));
        }
        match self.disk_free {
            Some(free) if want.disk > free => Some(format!("{} of disk wanted, {} free below the reserve", size(want.disk), size(free))),
            _ => None,
        }
    }
}

/// In MiB or GiB, for people.
fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    let rounded = if bytes >= MIB { bytes - bytes % MIB } else { bytes };
    let text = format_size(rounded);
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    format!("{} {}", &text[..split], &text[split..])
}

/// The host with the fewest siblings, among those the one with the most memory left. The error says for each host why not.
pub fn place(rooms: &[Room], want: Want) -> Result<HostName, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let mut best: Option<&Room> = None;
    let key = |room: &Room| (room.siblings, std::cmp::Reverse(room.memory_limit.saturating_sub(room.memory_promised)));
    for room in rooms {
        match room.refusal(want) {
            Some(why) => refusals.push(Refusal { host: room.host.to_string(), why }),
            None if best.is_none_or(|best| key(room) < key(best)) => best = Some(room),
            None => {}
        }
    }
    best.map(|room| room.host.clone()).ok_or(refusals)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn room(host: &str, change: impl Fn(&mut Room)) -> Room {
        let mut room = Room {
            host: host.into(),
            usable: Ok(()),
            memory_limit: 1024 * MIB,
            memory_promised: 0,
            vcpus_limit: None,
            vcpus_promised: 0,
            machines_limit: None,
            machines: 0,
            disk_free: Some(1000 * MIB),
            siblings: 0,
        };
        change(&mut room);
        room
    }

    #[test]
    fn machines_go_where_there_is_room() {
        let want = Want { memory: 512 * MIB, vcpus: 2, disk: MIB };
        let check = |rooms: &[Room], expected: Result<&str, &[&str]>| {
            let placed = place(rooms, want).map_err(|refusals| refusals.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(
                placed.as_ref().map(|host| &*host.0).map_err(|refusals| refusals.iter().map(String::as_str).collect()),
                expected.map_err(<[_]>::to_vec)
            );
        };
        check(&[room("a", |_| ()), room("b", |b| b.memory_limit *= 2)], Ok("b"));
        check(&[room("a", |_| ()), room("b", |b| (b.memory_limit, b.siblings) = (b.memory_limit * 2, 1))], Ok("a"));
        check(&[room("a", |a| a.memory_promised = 824 * MIB)], Err(&["a: 512 MiB wanted, 200 MiB free below the reserve"]));
        check(&[room("a", |a| (a.vcpus_limit, a.vcpus_promised) = (Some(4), 3))], Err(&["a: 2 vCPUs wanted, 1 of 4 free"]));
        check(&[room("a", |a| (a.machines_limit, a.machines) = (Some(2), 2))], Err(&["a: it has 2 machines of at most 2"]));
        check(&[room("a", |a| a.disk_free = Some(0))], Err(&["a: 1 MiB of disk wanted, 0 B free below the reserve"]));
        check(&[room("a", |a| a.usable = Err("does not answer".into()))], Err(&["a: does not answer"]));
        check(&[], Err(&[]));
        let (more, why) = room("a", |a| a.memory_promised = 100 * MIB).more(Want { memory: 400 * MIB, ..want });
        assert_eq!((more, &*why), (2, "400 MiB wanted, 124 MiB free below the reserve"));
        assert_eq!(room("a", |_| ()).more(Want { memory: 0, vcpus: 1, disk: 0 }).0, MORE_MAX);
    }

    #[test]
    fn limits_come_from_file_and_host() {
        let text = "[host.a]\nuri = \"qemu:///system\"\nmemory_max = \"8GiB\"\nmemory_reserve = \"1GiB\"\nvcpus_max = 4\n";
        let config = weir_config::parse(text, "f").expect("good");
        let host = &config.hosts[&HostName::from("a")];
        assert_eq!(Room::of(host, 16 << 30).memory_limit, 7 << 30);
        assert_eq!(Room::of(host, 4 << 30).memory_limit, 3 << 30);
        assert_eq!(Room::of(host, 4 << 30).vcpus_limit, Some(4));
    }
}
