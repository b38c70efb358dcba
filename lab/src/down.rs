//! Taking a lab away by its record, and saying what there is: by its owner, or by anybody else.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::command::wait_for;
use crate::network::{self, Addresses, SWITCH};
use crate::record::{Record, Registry};
use crate::{Fault, LabError, host, process};

/// An owner that was asked to take its lab down has this long; then it is killed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Takes away everything that the record names. May be repeated after a failure at any point.
pub(crate) fn remove(record: &Record) -> Result<(), LabError> {
    for host in &record.hosts {
        for process in [host.boot, host.anchor].into_iter().flatten() {
            process.end();
        }
    }
    for member in record.nodes.iter().chain(record.hosts.iter().map(|host| &host.name)) {
        network::remove(&record.namespace(member))?;
    }
    network::remove(&record.namespace(SWITCH))?;
    network::remove_root_link(record)?;
    record.forget()
}

/// Takes away the labs whose owner is dead.
pub(crate) fn remove_abandoned(registry: &Registry) -> Result<(), LabError> {
    registry.records().iter().filter(|record| !record.owner.alive()).try_for_each(|record| {
        // A command that the owner had just started outlives it for a moment, and could make something after we looked.
        let label = record.root_link();
        wait_for("the end of a dead lab's last commands", PATIENCE, || (!process::mentioned(&label)).then_some(()))?;
        remove(record)
    })
}

/// Takes a lab down: asks its owner if that is the `lab` program, or does it if the owner is dead.
///
/// # Errors
///
/// No such lab; or it belongs to a running process that is not `lab`, which is left alone.
pub fn down(name: &str) -> Result<(), LabError> {
    let record = Record::load(name).ok_or_else(|| LabError::Down { name: name.to_owned() })?;
    if record.owner.alive() {
        if process::name(record.owner.pid) != "lab" {
            return Err(LabError::Up { name: name.to_owned(), pid: record.owner.pid });
        }
        record.owner.signal(Signal::TERM);
        if wait_for("the end of the lab's owner", PATIENCE, || (!record.owner.alive()).then_some(())).is_err() {
            record.owner.end();
        }
    }
    let _registry = Registry::lock()?;
    // Its owner has done it, or has not finished: its last record says more than ours.
    match Record::load(name).filter(|left| left.token == record.token) {
        Some(left) => remove(&left),
        None => Ok(()),
    }
}

/// One lab, for whoever looks at it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LabStatus {
    /// Its name.
    pub name: String,
    /// The process that holds it.
    pub owner: u32,
    /// Whether that process lives; if not, the next lab that starts takes this one away.
    pub held: bool,
    /// Its hosts: name, libvirt URI, and `on`, `off` or `not answering`.
    pub hosts: Vec<(String, String, &'static str)>,
    /// Its nodes: name and address.
    pub nodes: Vec<(String, String)>,
    /// Addresses that nobody has, from the first to the last: for virtual IPs and static guests.
    pub free: (String, String),
    /// The faults of its network that hold now.
    pub faults: Vec<Fault>,
}

/// All labs of this machine.
pub fn status() -> Vec<LabStatus> {
    crate::record::all().iter().map(status_of).collect()
}

fn status_of(record: &Record) -> LabStatus {
    let addresses = Addresses::of_slot(record.slot);
    let hosts = record.hosts.iter().enumerate().map(|(index, one)| {
        let address = addresses.host(index);
        let state = match one.boot {
            Some(boot) if boot.alive() => {
                if host::reachable(address) {
                    "on"
                } else {
                    "not answering"
                }
            }
            _ => "off",
        };
        (one.name.clone(), host::uri(address), state)
    });
    let nodes = record.nodes.iter().enumerate().map(|(index, name)| (name.clone(), addresses.node(index).to_string()));
    LabStatus {
        name: record.name.clone(),
        owner: record.owner.pid,
        held: record.owner.alive(),
        hosts: hosts.collect(),
        nodes: nodes.collect(),
        free: (addresses.free(0).to_string(), addresses.free(Addresses::FREE - 1).to_string()),
        faults: record.faults.clone(),
    }
}

/// A command that runs what is added to it on a host or node of any lab.
///
/// # Errors
///
/// No such lab or member, or a host that is off.
pub fn enter(name: &str, member: &str) -> Result<Command, LabError> {
    let record = Record::load(name).ok_or_else(|| LabError::Down { name: name.to_owned() })?;
    if let Some(found) = record.hosts.iter().find(|host| host.name == member) {
        let boot = found.boot.filter(|boot| boot.alive()).ok_or_else(|| LabError::Down { name: member.to_owned() })?;
        return Ok(host::enter(boot, true));
    }
    if !record.nodes.iter().any(|node| node == member) {
        return Err(LabError::Unknown { what: "host or node", name: member.to_owned() });
    }
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{}", record.namespace(member))).arg("--");
    Ok(command)
}
