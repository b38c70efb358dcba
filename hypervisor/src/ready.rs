//! When a started machine counts as booted: its address, and what its service answers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use weir_config::{AddressSource, Readiness, Template};

use crate::error::{CallError, HypervisorError};
use crate::host::Host;
use crate::names::{MachineId, MachineName};
use crate::protocol::{AddressFrom, Answer, Fault, FaultKind, Request};
use crate::spec::Progress;
use crate::verbs::state_of;

/// Between two questions. The resumption of a warm clone is counted in these.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long one try to reach the service may take.
const TRY_MAX: Duration = Duration::from_secs(1);

/// After so long another connection is tried beside one that has not come: a first packet that a booting guest lost is sent again by our kernel
/// only after a second, and would hide for as long that the guest serves.
const BESIDE: Duration = Duration::from_millis(200);

/// A machine that is off for so long has ended. For a moment it may be, when somebody starts it anew.
const ENDED_AFTER: Duration = Duration::from_secs(2);

/// Whether a machine that was started still runs: one that has ended will not serve, however long it is waited for.
struct Pulse {
    off_since: Option<Instant>,
}

impl Pulse {
    fn check(&mut self, host: &Host, name: &MachineName, id: &MachineId) -> Result<(), HypervisorError> {
        let state = state_of(host, id).filter(|state| !state.is_active());
        let Some(state) = state else {
            self.off_since = None;
            return Ok(());
        };
        if self.off_since.get_or_insert_with(Instant::now).elapsed() < ENDED_AFTER {
            return Ok(());
        }
        let message = format!("{name} is {} again; the end of /var/log/libvirt/qemu/{name}.log on the host may say why", state.word());
        Err(host.failed("the boot", CallError::Fault(Fault { kind: FaultKind::State, message })))
    }
}

/// Waits until the machine is ready; returns its address.
pub(crate) async fn ready(
    host: &Host,
    template: &Template,
    name: &MachineName,
    id: &MachineId,
    mac: &str,
    given: Option<IpAddr>,
    progress: &Progress,
) -> Result<IpAddr, HypervisorError> {
    let until = Instant::now() + template.boot_timeout;
    let mut pulse = Pulse { off_since: None };
    progress.step(format!("waiting for the address of {name}"));
    let address = match given {
        Some(address) => address,
        None => address(host, template, name, id, mac, &mut pulse, until).await?,
    };
    host.remember_address(id, address);
    let Some(port) = template.port.filter(|_| template.readiness != Readiness::Address) else { return Ok(address) };
    progress.step(format!("waiting for {name} to answer on {}", SocketAddr::new(address, port)));
    let mut last = String::from("it was not tried");
    while Instant::now() < until {
        match timeout(TRY_MAX, answers(SocketAddr::new(address, port), &template.readiness)).await {
            Ok(Ok(())) => return Ok(address),
            Ok(Err(why)) => last = why,
            Err(_) => last = "no answer".into(),
        }
        pulse.check(host, name, id)?;
        sleep(LOOK_EVERY).await;
    }
    let after = template.boot_timeout.as_secs();
    Err(HypervisorError::Timeout(format!("{name} on {} does not serve on {address}:{port} after {after} s: {last}", host.name)))
}

async fn address(
    host: &Host,
    template: &Template,
    name: &MachineName,
    id: &MachineId,
    mac: &str,
    pulse: &mut Pulse,
    until: Instant,
) -> Result<IpAddr, HypervisorError> {
    let source = match template.address {
        AddressSource::Agent => AddressFrom::Agent,
        AddressSource::Arp => AddressFrom::Arp,
        AddressSource::Lease | AddressSource::Static(_) => AddressFrom::Lease,
    };
    let mut last = String::new();
    loop {
        match host.call(Request::Addresses { uuid: id.0.to_string(), source }).await {
            Ok(Answer::Addresses(found)) => {
                let ours = found.iter().filter(|entry| entry.mac == mac).filter_map(|entry| entry.address.parse().ok());
                if let Some(address) = best(ours) {
                    return Ok(address);
                }
            }
            Ok(other) => return Err(host.odd(&other)),
            // The agent answers when the guest has booted.
            Err(HypervisorError::Host { source: CallError::Fault(fault), .. })
                if fault.kind != FaultKind::NotFound && fault.kind != FaultKind::Unsupported =>
            {
                last = format!(": {}", fault.message);
            }
            Err(error) => return Err(error),
        }
        pulse.check(host, name, id)?;
        if Instant::now() >= until {
            let (word, after) = (template.address.word(), template.boot_timeout.as_secs());
            return Err(HypervisorError::Timeout(format!(
                "{name} on {} has no address after {after} s, asking by {word}{last}",
                host.name
            )));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// IPv4 first; never one that only its own link knows.
fn best(addresses: impl Iterator<Item = IpAddr>) -> Option<IpAddr> {
    let usable = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    addresses.filter(usable).min_by_key(|address| (!address.is_ipv4(), *address))
}

/// The first connection that comes; the caller has the deadline.
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let mut tries = JoinSet::new();
    loop {
        tries.spawn(TcpStream::connect(address));
        if let Ok(Some(first)) = timeout(BESIDE, tries.join_next()).await {
            return first.map_err(io::Error::other)?;
        }
    }
}

async fn answers(address: SocketAddr, readiness: &Readiness) -> Result<(), String> {
    let mut stream = connect(address).await.map_err(|error| error.to_string())?;
    let Readiness::Http(path) = readiness else { return Ok(()) };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: weir\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.map_err(|error| error.to_string())?;
    match std::str::from_utf8(&head[9..]).ok().and_then(|status| status.parse::<u16>().ok()) {
        Some(200..=399) if head.starts_with(b"HTTP/1.") => Ok(()),
        Some(status) => Err(format!("status {status}")),
        None => Err("what answers does not speak HTTP".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_address_is_one_that_others_can_reach() {
        let check = |addresses: &[&str], expected: Option<&str>| {
            let parsed = addresses.iter().map(|address| address.parse().expect("an address"));
            assert_eq!(best(parsed).map(|address| address.to_string()).as_deref(), expected, "{addresses:?}");
        };
        check(&["fe80::1", "2001:db8::1", "10.0.0.5", "127.0.0.1"], Some("10.0.0.5"));
        check(&["fe80::1", "2001:db8::1"], Some("2001:db8::1"));
        check(&["fe80::1", "169.254.1.1"], None);
    }
}
