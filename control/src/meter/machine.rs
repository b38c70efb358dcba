//! What is measured of machines and of their hosts.

use weir_config::Metric;
use weir_hypervisor::{HostState, HostView, MachineView};

pub(super) const METRICS_OF_MACHINE: [Metric; 8] = [
    Metric::Cpu,
    Metric::Memory,
    Metric::DiskRead,
    Metric::DiskWritten,
    Metric::DiskOperations,
    Metric::DiskLatency,
    Metric::NetReceived,
    Metric::NetSent,
];

pub(super) const METRICS_OF_HOST: [Metric; 6] =
    [Metric::Cpu, Metric::Memory, Metric::CpuPressure, Metric::MemoryPressure, Metric::IoPressure, Metric::DiskSpace];

/// All that is known of a machine now.
pub(super) fn values(machine: &MachineView) -> Vec<(Metric, f64)> {
    METRICS_OF_MACHINE.iter().filter_map(|metric| Some((metric.clone(), of_machine(machine, metric)?))).collect()
}

pub(super) fn of_machine(machine: &MachineView, metric: &Metric) -> Option<f64> {
    if machine.unknown_since.is_some() {
        return None;
    }
    let load = machine.load?;
    match metric {
        Metric::Cpu => Some(load.cpu_share * 100.0),
        Metric::Memory => {
            let used = load.memory_used_bytes.or(load.memory_resident_bytes)?;
            (machine.memory_bytes > 0).then(|| used as f64 * 100.0 / machine.memory_bytes as f64)
        }
        Metric::DiskRead => Some(load.disk_read_bytes_per_s),
        Metric::DiskWritten => Some(load.disk_written_bytes_per_s),
        Metric::DiskOperations => Some(load.disk_operations_per_s),
        Metric::DiskLatency => load.disk_latency_s.map(|seconds| seconds * 1000.0),
        Metric::NetReceived => Some(load.net_received_bytes_per_s),
        Metric::NetSent => Some(load.net_sent_bytes_per_s),
        _ => None,
    }
}

pub(super) fn of_host(host: &HostView, metric: &Metric) -> Option<f64> {
    if host.state != HostState::Up {
        return None;
    }
    match metric {
        Metric::Cpu => host.cpu_share.map(|share| share * 100.0),
        Metric::CpuPressure => host.pressure.map(|pressure| pressure.cpu_some.share * 100.0),
        Metric::MemoryPressure => host.pressure.map(|pressure| pressure.memory_some.share * 100.0),
        Metric::IoPressure => host.pressure.map(|pressure| pressure.io_some.share * 100.0),
        Metric::Memory => {
            let free = host.memory_free_bytes?;
            (host.memory_bytes > 0).then(|| host.memory_bytes.saturating_sub(free) as f64 * 100.0 / host.memory_bytes as f64)
        }
        Metric::DiskSpace => {
            let storage = host.storage.as_ref()?;
            (storage.capacity > 0).then(|| storage.capacity.saturating_sub(storage.available) as f64 * 100.0 / storage.capacity as f64)
        }
        _ => None,
    }
}
