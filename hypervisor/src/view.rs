//! What the rest of the product sees of hosts and machines: plain values, read from memory without waiting for anybody.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use crate::metadata::Metadata;
use crate::names::MachineId;
use crate::pressure::Pressure;
use crate::protocol::{RawDomain, RawNode, StorageInfo};

/// Points kept of each machine and host: five minutes at the default interval.
pub const POINTS_MAX: usize = 300;

/// A host.
#[derive(Clone, Debug, Serialize)]
pub struct HostView {
    /// `[host.NAME]`
    pub name: String,
    /// Its libvirt URI.
    pub uri: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it answers.
    #[serde(flatten)]
    pub state: HostState,
    /// When it last answered, seconds since 1970; absent: it never has.
    pub answered_at: Option<f64>,
    /// libvirt's driver, such as `QEMU`.
    pub driver: Option<String>,
    /// How machines are virtualised: `kvm` or `qemu`; absent while that is not known.
    pub domain_type: Option<&'static str>,
    /// Processors.
    pub cpus: u32,
    /// Share of its processors in use, 0 to 1.
    pub cpu_share: Option<f64>,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of memory that are free, with what caches would give back.
    pub memory_free_bytes: Option<u64>,
    /// How much its tasks wait for what they lack; absent: its kernel does not say.
    pub pressure: Option<Pressure>,
    /// Bytes that its running and paused machines may use at most, all together.
    pub memory_promised_bytes: u64,
    /// Virtual processors of its running and paused machines.
    pub vcpus_promised: u32,
    /// The storage pool's name.
    pub storage_pool: String,
    /// Space of its storage pool; absent while it was not read.
    #[serde(serialize_with = "storage", rename = "storage")]
    pub storage: Option<StorageInfo>,
    /// Why the storage pool could not be read.
    pub storage_error: Option<String>,
    /// Domains of any kind that it has.
    pub machines: usize,
}

fn storage<S: Serializer>(storage: &Option<StorageInfo>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Space<'a> {
        path: &'a str,
        capacity_bytes: u64,
        available_bytes: u64,
    }
    storage
        .as_ref()
        .map(|storage| Space { path: &storage.path, capacity_bytes: storage.capacity, available_bytes: storage.available })
        .serialize(serializer)
}

/// Whether a host answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum HostState {
    /// It has not answered yet.
    Connecting {
        /// Why not, as far as is known.
        why: String,
    },
    /// It answers.
    Up,
    /// It does not answer any more; what is shown of it was so then.
    Unknown {
        /// When it last answered, seconds since 1970.
        #[serde(serialize_with = "seconds")]
        since: SystemTime,
        /// What went wrong.
        why: String,
    },
}

fn seconds<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(unix_s(*time))
}

/// Seconds since 1970.
pub fn unix_s(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A machine, ours or not.
#[derive(Clone, Debug, Serialize)]
pub struct MachineView {
    /// Name of the domain.
    pub name: String,
    /// UUID of the domain.
    pub id: MachineId,
    /// The host.
    pub host: String,
    /// What it does.
    pub state: MachineState,
    /// Since when it is in its phase, seconds since 1970: a member since it became one. Absent: it is not ours.
    pub since: Option<u64>,
    /// While its host does not answer: since when its state is not known, seconds since 1970.
    pub unknown_since: Option<f64>,
    /// What it says of itself; absent: it is not ours and is left alone.
    pub metadata: Option<Arc<Metadata>>,
    /// Number of the base its content came from.
    pub base_generation: Option<u32>,
    /// MAC of its first interface.
    pub mac: Option<String>,
    /// Its address, as far as it was asked for.
    pub address: Option<IpAddr>,
    /// Where its service listens, by its template.
    pub port: Option<u16>,
    /// Virtual processors.
    pub vcpus: u32,
    /// Bytes of memory it may have at most.
    pub memory_bytes: u64,
    /// What it uses now; absent until it was looked at twice.
    pub load: Option<Load>,
    /// What it used since it was started; absent: its host does not answer.
    pub totals: Option<Totals>,
}

/// What a machine does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// Runs.
    Running,
    /// Frozen.
    Paused,
    /// On its way down.
    ShuttingDown,
    /// Off, and its memory may be saved.
    Off,
    /// Off, because it failed.
    Crashed,
    /// Anything else.
    Other,
}

impl MachineState {
    /// From `virDomainState`.
    pub(crate) fn of(state: i32) -> MachineState {
        match state {
            1 | 2 => MachineState::Running,
            3 | 7 => MachineState::Paused,
            4 => MachineState::ShuttingDown,
            5 => MachineState::Off,
            6 => MachineState::Crashed,
            _ => MachineState::Other,
        }
    }

    /// Whether it holds memory of its host.
    pub fn is_active(self) -> bool {
        matches!(self, MachineState::Running | MachineState::Paused | MachineState::ShuttingDown)
    }

    /// `running`, `paused`, `shutting_down`, `off`, `crashed` or `other`.
    pub fn word(self) -> &'static str {
        match self {
            MachineState::Running => "running",
            MachineState::Paused => "paused",
            MachineState::ShuttingDown => "shutting_down",
            MachineState::Off => "off",
            MachineState::Crashed => "crashed",
            MachineState::Other => "other",
        }
    }
}

/// Rates between the last two looks.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Load {
    /// When, seconds since 1970.
    pub at: f64,
    /// Share of its virtual processors in use, 0 to 1.
    pub cpu_share: f64,
    /// Bytes of memory that its guest uses; absent: the guest has no balloon driver that tells.
    pub memory_used_bytes: Option<u64>,
    /// Bytes that its guest could still use.
    pub memory_available_bytes: Option<u64>,
    /// Bytes of the host's memory it occupies.
    pub memory_resident_bytes: Option<u64>,
    /// Bytes read from its disks a second.
    pub disk_read_bytes_per_s: f64,
    /// Bytes written to its disks a second.
    pub disk_written_bytes_per_s: f64,
    /// Reads and writes a second.
    pub disk_operations_per_s: f64,
    /// Mean time of a read or write, in seconds; absent: there was none.
    pub disk_latency_s: Option<f64>,
    /// Bytes received a second.
    pub net_received_bytes_per_s: f64,
    /// Bytes sent a second.
    pub net_sent_bytes_per_s: f64,
    /// Packets lost or broken a second, both ways.
    pub net_errors_per_s: f64,
}

/// What a machine used since it was started.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Totals {
    /// Seconds of processor time, of all its virtual processors together.
    pub cpu_s: f64,
    /// Bytes read from its disks.
    pub disk_read_bytes: u64,
    /// Bytes written to its disks.
    pub disk_written_bytes: u64,
    /// Reads.
    pub disk_reads: u64,
    /// Writes.
    pub disk_writes: u64,
    /// Seconds that reads and writes took, all together.
    pub disk_busy_s: f64,
    /// Bytes that its disks take on the host.
    pub disk_allocated_bytes: u64,
    /// Bytes received.
    pub net_received_bytes: u64,
    /// Bytes sent.
    pub net_sent_bytes: u64,
    /// Packets lost or broken, both ways.
    pub net_errors: u64,
}

impl From<&RawDomain> for Totals {
    fn from(domain: &RawDomain) -> Totals {
        let RawDomain { disk, net, .. } = domain;
        Totals {
            cpu_s: domain.cpu_time_ns.unwrap_or(0) as f64 / 1e9,
            disk_read_bytes: disk.read_bytes,
            disk_written_bytes: disk.written_bytes,
            disk_reads: disk.reads,
            disk_writes: disk.writes,
            disk_busy_s: disk.busy_ns as f64 / 1e9,
            disk_allocated_bytes: disk.allocation,
            net_received_bytes: net.received_bytes,
            net_sent_bytes: net.sent_bytes,
            net_errors: net.errors,
        }
    }
}

/// Use of a host between the last two looks.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct HostLoad {
    /// When, seconds since 1970.
    pub at: f64,
    /// Share of its processors in use, 0 to 1.
    pub cpu_share: f64,
    /// Bytes of memory in all.
    pub memory_bytes: u64,
    /// Bytes of memory that are free, with what caches would give back; absent: the host does not tell.
    pub memory_free_bytes: Option<u64>,
    /// Bytes of its storage pool that are free, when that was last read.
    pub storage_available_bytes: Option<u64>,
    /// How much its tasks wait for what they lack, when that was last read; absent: its kernel does not say.
    pub pressure: Option<Pressure>,
}

/// Counters of one look, with their time.
#[derive(Clone, Debug)]
pub(crate) struct Counted<T> {
    pub(crate) at_s: f64,
    pub(crate) counters: T,
}

/// Rates of a machine. Counters that went back, because the machine was started again, count from nothing.
pub(crate) fn load(before: &Counted<RawDomain>, now: &Counted<RawDomain>) -> Option<Load> {
    let seconds = now.at_s - before.at_s;
    if seconds <= 0.0 {
        return None;
    }
    let (a, b) = (&before.counters, &now.counters);
    let grown = |before: u64, now: u64| now.checked_sub(before).unwrap_or(now) as f64;
    let rate = |before: u64, now: u64| grown(before, now) / seconds;
    let operations = grown(a.disk.reads, b.disk.reads) + grown(a.disk.writes, b.disk.writes);
    let used = b.memory_visible.zip(b.memory_available).map(|(visible, available)| visible.saturating_sub(available));
    let cpu_ns = a.cpu_time_ns.zip(b.cpu_time_ns).map_or(0.0, |(a, b)| grown(a, b));
    Some(Load {
        at: now.at_s,
        cpu_share: (cpu_ns / 1e9 / seconds / f64::from(b.vcpus.max(1))).clamp(0.0, 1.0),
        memory_used_bytes: used,
        memory_available_bytes: b.memory_available,
        memory_resident_bytes: b.memory_resident,
        disk_read_bytes_per_s: rate(a.disk.read_bytes, b.disk.read_bytes),
        disk_written_bytes_per_s: rate(a.disk.written_bytes, b.disk.written_bytes),
        disk_operations_per_s: operations / seconds,
        disk_latency_s: (operations > 0.0).then(|| grown(a.disk.busy_ns, b.disk.busy_ns) / 1e9 / operations),
        net_received_bytes_per_s: rate(a.net.received_bytes, b.net.received_bytes),
        net_sent_bytes_per_s: rate(a.net.sent_bytes, b.net.sent_bytes),
        net_errors_per_s: rate(a.net.errors, b.net.errors),
    })
}

/// Share of a host's processors in use.
pub(crate) fn node_cpu_share(before: &RawNode, now: &RawNode) -> Option<f64> {
    let busy = now.cpu_busy_ns?.checked_sub(before.cpu_busy_ns?)? as f64;
    let idle = now.cpu_idle_ns?.checked_sub(before.cpu_idle_ns?)? as f64;
    (busy + idle > 0.0).then(|| busy / (busy + idle))
}

/// The last points, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct Ring<T>(VecDeque<T>);

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Ring(VecDeque::new())
    }
}

impl<T: Copy> Ring<T> {
    pub(crate) fn push(&mut self, load: T) {
        if self.0.len() == POINTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(load);
    }

    pub(crate) fn last(&self) -> Option<T> {
        self.0.back().copied()
    }

    pub(crate) fn points(&self) -> Vec<T> {
        self.0.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{RawDisk, RawNet};

    #[test]
    fn rates_come_from_two_looks() {
        let domain = |cpu, reads, busy_ns, sent_bytes| RawDomain {
            vcpus: 2,
            cpu_time_ns: Some(cpu),
            memory_visible: Some(100),
            memory_available: Some(30),
            disk: RawDisk { reads, busy_ns, ..RawDisk::default() },
            net: RawNet { sent_bytes, ..RawNet::default() },
            ..RawDomain::default()
        };
        let before = Counted { at_s: 10.0, counters: domain(0, 5, 0, 1000) };
        let now = Counted { at_s: 12.0, counters: domain(2_000_000_000, 9, 8_000_000, 5000) };
        let load = super::load(&before, &now).expect("time went on");
        assert_eq!((load.cpu_share, load.memory_used_bytes, load.net_sent_bytes_per_s), (0.5, Some(70), 2000.0));
        assert_eq!((load.disk_operations_per_s, load.disk_latency_s), (2.0, Some(0.002)));
        let restarted = Counted { at_s: 13.0, counters: domain(1_000_000_000, 0, 0, 0) };
        let load = super::load(&now, &restarted).expect("time went on");
        assert_eq!((load.cpu_share, load.disk_latency_s, load.net_sent_bytes_per_s), (0.5, None, 0.0));
        assert_eq!(super::load(&now, &now), None);
    }

    #[test]
    fn a_ring_keeps_the_last() {
        let mut ring = Ring::default();
        for at in 0..POINTS_MAX + 5 {
            ring.push(Load { at: at as f64, ..Load::default() });
        }
        let points = ring.points();
        assert_eq!((points.len(), points[0].at), (POINTS_MAX, 5.0));
    }
}
