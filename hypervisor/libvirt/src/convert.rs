//! libvirt's errors and counters as the protocol has them.

use virt::error::{Error, ErrorNumber};
use weir_hypervisor::protocol::{Fault, FaultKind, InterfaceAddress, RawDisk, RawDomain, RawNet};

/// What a caller would treat differently, and libvirt's words.
pub(crate) fn fault(error: Error) -> Fault {
    let message = error.message().to_owned();
    let known = [
        ErrorNumber::NoDomain,
        ErrorNumber::NoStoragePool,
        ErrorNumber::NoStorageVolume,
        ErrorNumber::NoDomainMetadata,
        ErrorNumber::NoSupport,
        ErrorNumber::OperationUnsupported,
        ErrorNumber::DomExist,
        ErrorNumber::StorageVolExist,
        ErrorNumber::OperationInvalid,
        ErrorNumber::AgentUnresponsive,
        ErrorNumber::AuthFailed,
        ErrorNumber::AccessDenied,
        ErrorNumber::NoConnect,
        ErrorNumber::Rpc,
        ErrorNumber::NoMemory,
    ]
    .into_iter()
    .find(|number| error.code().is_known_and(|code| code == *number));
    let kind = match known {
        Some(ErrorNumber::NoDomain | ErrorNumber::NoStoragePool | ErrorNumber::NoStorageVolume | ErrorNumber::NoDomainMetadata) => {
            FaultKind::NotFound
        }
        Some(ErrorNumber::NoSupport | ErrorNumber::OperationUnsupported) => FaultKind::Unsupported,
        Some(ErrorNumber::DomExist | ErrorNumber::StorageVolExist) => FaultKind::Exists,
        Some(ErrorNumber::AgentUnresponsive) => FaultKind::NoAgent,
        Some(ErrorNumber::AuthFailed | ErrorNumber::AccessDenied) => FaultKind::Denied,
        Some(ErrorNumber::NoConnect | ErrorNumber::Rpc) => FaultKind::Connection,
        Some(ErrorNumber::NoMemory) => FaultKind::Exhausted,
        _ => by_message(&message, known),
    };
    Fault { kind, message }
}

/// libvirt has no number of its own for these.
fn by_message(message: &str, known: Option<ErrorNumber>) -> FaultKind {
    let lower = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if says(&["no space left", "cannot allocate memory", "disk quota"]) {
        FaultKind::Exhausted
    } else if says(&["already exists with uuid", "already defined with uuid", "already exists"]) {
        FaultKind::Exists
    } else if says(&["guest agent is not connected", "guest agent is not configured", "qemu guest agent"]) {
        FaultKind::NoAgent
    } else if says(&["client socket is closed", "connection closed", "end of file while reading", "cannot recv data"]) {
        FaultKind::Connection
    } else if known == Some(ErrorNumber::OperationInvalid) {
        FaultKind::State
    } else {
        FaultKind::Other
    }
}

/// Puts one of libvirt's typed parameters where it belongs. Unknown ones are left out: newer versions bring more.
pub(crate) fn put(domain: &mut RawDomain, field: &str, value: i128) {
    const KIB: u64 = 1024;
    let count = u64::try_from(value).unwrap_or(0);
    let small = || i32::try_from(value).unwrap_or(0);
    match field {
        "state.state" => domain.state = small(),
        "state.reason" => domain.reason = small(),
        "cpu.time" => domain.cpu_time_ns = Some(count),
        "vcpu.current" => domain.vcpus = u32::try_from(value).unwrap_or(0),
        "balloon.current" => domain.memory_current = Some(count * KIB),
        "balloon.maximum" => domain.memory_max = Some(count * KIB),
        "balloon.usable" => domain.memory_available = Some(count * KIB),
        // Guests with an old balloon driver know only what is unused, which leaves out what caches would give back.
        "balloon.unused" => _ = domain.memory_available.get_or_insert(count * KIB),
        "balloon.available" => domain.memory_visible = Some(count * KIB),
        "balloon.rss" => domain.memory_resident = Some(count * KIB),
        _ => put_device(&mut domain.disk, &mut domain.net, field, count),
    }
}

/// `block.0.rd.bytes`, `net.1.tx.errs`: summed over the devices.
fn put_device(disk: &mut RawDisk, net: &mut RawNet, field: &str, count: u64) {
    let mut parts = field.splitn(3, '.');
    let (Some(kind), Some(_number), Some(what)) = (parts.next(), parts.next(), parts.next()) else { return };
    let sum = match (kind, what) {
        ("block", "rd.bytes") => &mut disk.read_bytes,
        ("block", "wr.bytes") => &mut disk.written_bytes,
        ("block", "rd.reqs") => &mut disk.reads,
        ("block", "wr.reqs") => &mut disk.writes,
        ("block", "rd.times" | "wr.times") => &mut disk.busy_ns,
        // What libvirt calls allocation is how far a guest has written.
        ("block", "physical") => &mut disk.allocation,
        // libvirt counts as the host sees it, but names the directions as the guest does.
        ("net", "rx.bytes") => &mut net.received_bytes,
        ("net", "tx.bytes") => &mut net.sent_bytes,
        ("net", "rx.errs" | "rx.drop" | "tx.errs" | "tx.drop") => &mut net.errors,
        _ => return,
    };
    *sum = sum.saturating_add(count);
}

/// The table of `/proc/net/arp`, IPv4 alone: address, type, flags, MAC, mask and device in columns, under a line of headings. Only entries
/// that were answered are somebody's.
pub(crate) fn neighbours(table: &str) -> Vec<InterfaceAddress> {
    const COMPLETE: u32 = 0x2;
    let entry = |line: &str| {
        let mut columns = line.split_ascii_whitespace();
        let (address, _kind, flags, mac) = (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
        let flags = u32::from_str_radix(flags.strip_prefix("0x")?, 16).ok()?;
        (flags & COMPLETE != 0).then(|| InterfaceAddress { mac: mac.to_ascii_lowercase(), address: address.to_owned() })
    };
    table.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_that_answered_are_read() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     10.67.0.9        0x1         0x2         52:54:00:AA:bb:01     *        weirbr0\n\
                     10.67.0.10       0x1         0x0         00:00:00:00:00:00     *        weirbr0\n\
                     10.67.0.11       0x1         0x6         52:54:00:aa:bb:02     *        weirbr0\nodd\n";
        let found = neighbours(table).into_iter().map(|entry| (entry.mac, entry.address)).collect::<Vec<_>>();
        let expected = [("52:54:00:aa:bb:01", "10.67.0.9"), ("52:54:00:aa:bb:02", "10.67.0.11")];
        assert_eq!(found, expected.map(|(mac, address)| (mac.to_owned(), address.to_owned())));
    }

    #[test]
    fn parameters_find_their_place() {
        let mut domain = RawDomain::default();
        for (field, value) in [
            ("state.state", 1),
            ("cpu.time", 5),
            ("balloon.current", 2),
            ("balloon.unused", 3),
            ("balloon.usable", 4),
            ("block.count", 2),
            ("block.0.rd.bytes", 10),
            ("block.1.rd.bytes", 20),
            ("block.0.name", 99),
            ("net.0.rx.errs", 1),
            ("net.0.tx.drop", 2),
            ("something.new", 7),
        ] {
            put(&mut domain, field, value);
        }
        assert_eq!((domain.state, domain.cpu_time_ns, domain.memory_current), (1, Some(5), Some(2048)));
        assert_eq!((domain.memory_available, domain.disk.read_bytes, domain.net.errors), (Some(4096), 30, 3));
        put(&mut domain, "balloon.unused", 1);
        assert_eq!(domain.memory_available, Some(4096), "what is usable says more than what is unused");
    }
}
