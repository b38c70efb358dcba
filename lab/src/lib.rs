//! A datacentre on one machine, for tests and for trying things out: virtual hosts with a real libvirtd each, real guests, client and
//! balancer nodes, one switch, and faults. Never shipped.
//!
//! ```text
//!  Lab::up ──► switch ◄── nodes            network namespaces
//!                ▲ ▲
//!                │ └───── host: libvirtd ── guests      network, mount and PID namespace
//!                └─────── host: ...
//! ```
//!
//! - `image`: the guest, built from Debian packages and `guest/`. [`Guest`]: a machine without weir, started by `virsh` alone.
//! - [`Load`]: clients that keep account of every request.
//! - `network`: namespaces, cables, addresses. `host`: what makes a host one. [`Fault`]: what is done to the cables.
//! - `record`: what was made, written down first. `down`: taking it away, by whatever process.
//!
//! Three things take a lab down: its `Drop`; the pipe that its processes read, which ends with the owner; and the next lab that starts.
//!
//! What is deliberately not here: anything that knows weir.

mod command;
mod down;
mod error;
mod fault;
mod guest;
mod handle;
mod host;
mod image;
mod kernel;
mod load;
mod network;
mod process;
mod record;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

pub use command::wait_for;
pub use error::LabError;
pub use fault::Fault;
pub use guest::{Guest, GuestOptions, http_get, wait_http};
pub use handle::{Host, Node};
pub use image::Image;
pub use load::{Asked, Load};
pub use network::Addresses;

use host::{Held, Plan};
use process::Identity;
use record::{HostRecord, Record, Registry};

pub use crate::down::{LabStatus, down, enter, status};

/// What a lab shall have.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// Labs of different names live beside each other. Letters, digits and dashes.
    pub name: String,
    /// Virtual hosts: `kvm-a`, `kvm-b` and so on; at most 12.
    pub hosts: usize,
    /// Namespaces with a cable into the switch; at most 40. Names of at most 12 letters, digits and dashes.
    pub nodes: Vec<String>,
    /// Size of each host's disk, in MiB. It is memory, taken as it is used.
    pub disk_mib: u32,
}

impl Default for LabOptions {
    /// One host, one node `lb-a`, 2 GiB of disk, and a name that no other process takes.
    fn default() -> Self {
        let number = fastrand::u32(..0x100_0000);
        Self { name: format!("test-{}-{number:06x}", std::process::id()), hosts: 1, nodes: vec!["lb-a".to_owned()], disk_mib: 2048 }
    }
}

/// A running lab; taken down when it is dropped.
#[derive(Debug)]
pub struct Lab {
    record: Mutex<Record>,
    plans: Vec<Plan>,
    held: Mutex<Vec<Held>>,
    image: Image,
    addresses: Addresses,
}

impl Lab {
    /// Makes it. Labs whose owner is dead are taken down first.
    ///
    /// # Errors
    ///
    /// Whatever is missing or failed; what had been made by then is gone again.
    pub fn up(options: LabOptions) -> Result<Self, LabError> {
        check(&options)?;
        let image = Image::get()?;
        let record = {
            let registry = Registry::lock()?;
            down::remove_abandoned(&registry)?;
            let record = plan_record(&options, &registry)?;
            record.save()?;
            record
        };
        let plans = (0..options.hosts).map(|index| Plan::new(&record, index, options.disk_mib)).collect();
        let held = Mutex::new((0..options.hosts).map(|_| Held::default()).collect());
        let addresses = Addresses::of_slot(record.slot);
        // From here on, dropping it takes away what there is.
        let lab = Self { record: Mutex::new(record), plans, held, image, addresses };
        lab.make()?;
        Ok(lab)
    }

    fn make(&self) -> Result<(), LabError> {
        let record = self.record().clone();
        network::make_switch(&record)?;
        for (index, node) in record.nodes.iter().enumerate() {
            network::make_member(&record, node)?;
            let address = self.addresses.node(index);
            network::ip(&record.namespace(node), &format!("address add {address}/{} dev eth0\n", Addresses::PREFIX))?;
        }
        // Each host waits mostly for its own libvirtd.
        let made: Vec<Result<(), LabError>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.plans.len()).map(|index| scope.spawn(move || self.make_host(index))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a host's thread does not panic")).collect()
        });
        made.into_iter().collect::<Result<(), LabError>>()?;
        if let (Some(plan), Some(anchor)) = (self.plans.first(), self.record().hosts.first().and_then(|host| host.anchor)) {
            host::keep_capabilities(plan, anchor);
        }
        Ok(())
    }

    fn make_host(&self, index: usize) -> Result<(), LabError> {
        let plan = &self.plans[index];
        network::make_member(&self.record().clone(), &plan.name)?;
        let (child, anchor) = plan.make()?;
        self.held()[index].anchor = Some(child);
        self.change_host(index, |host| host.anchor = Some(anchor))?;
        self.power_on(index)
    }

    fn power_on(&self, index: usize) -> Result<(), LabError> {
        let plan = &self.plans[index];
        let anchor = self.record().hosts[index].anchor.ok_or_else(|| LabError::Down { name: plan.name.clone() })?;
        let (child, boot) = plan.boot(anchor)?;
        self.held()[index].boot = Some(child);
        self.change_host(index, |host| host.boot = Some(boot))?;
        host::start(plan, boot)
    }

    fn power_off(&self, index: usize) -> Result<(), LabError> {
        if let Some(boot) = self.record().hosts[index].boot {
            boot.end();
        }
        if let Some(mut child) = self.held()[index].boot.take() {
            let _ = child.wait();
        }
        self.change_host(index, |host| host.boot = None)
    }

    fn change_host(&self, index: usize, change: impl FnOnce(&mut HostRecord)) -> Result<(), LabError> {
        let mut record = self.record();
        change(&mut record.hosts[index]);
        record.save()
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lab's name.
    pub fn name(&self) -> String {
        self.record().name.clone()
    }

    /// All hosts, in the order of their names.
    pub fn hosts(&self) -> Vec<Host<'_>> {
        (0..self.plans.len()).map(|index| Host { lab: self, index }).collect()
    }

    /// A host by its name.
    ///
    /// # Panics
    ///
    /// If the lab has none of this name: a mistake of the test.
    pub fn host(&self, name: &str) -> Host<'_> {
        let index = self.plans.iter().position(|plan| plan.name == name);
        Host { lab: self, index: index.unwrap_or_else(|| panic!("the lab has no host {name}")) }
    }

    /// A node by its name.
    ///
    /// # Panics
    ///
    /// If the lab has none of this name: a mistake of the test.
    pub fn node(&self, name: &str) -> Node {
        let record = self.record();
        let index = record.nodes.iter().position(|node| node == name).unwrap_or_else(|| panic!("the lab has no node {name}"));
        Node { name: name.to_owned(), namespace: record.namespace(name), address: self.addresses.node(index) }
    }

    /// The guest image, at the same path on every host and outside: the machine's own file system, not the hosts' disks.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Who has which address.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Lets a fault begin. It holds until [`Self::end`].
    ///
    /// # Errors
    ///
    /// An unknown member, a number out of range, or what `nft` or `tc` says.
    pub fn begin(&self, fault: Fault) -> Result<(), LabError> {
        fault::begin(&mut self.record(), fault)
    }

    /// Ends a fault; one that does not hold is no error.
    ///
    /// # Errors
    ///
    /// What `nft` or `tc` says.
    pub fn end(&self, fault: &Fault) -> Result<(), LabError> {
        fault::end(&mut self.record(), fault)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let record = self.record().clone();
        if let Err(error) = down::remove(&record) {
            eprintln!("lab {}: {error}", record.name);
        }
        for held in self.held().iter_mut() {
            for mut child in [held.anchor.take(), held.boot.take()].into_iter().flatten() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

fn check(options: &LabOptions) -> Result<(), LabError> {
    if !rustix::process::geteuid().is_root() {
        return Err(LabError::NotRoot);
    }
    for (program, package) in [
        ("libvirtd", "libvirt-daemon-system"),
        ("virsh", "libvirt-clients"),
        ("virtlogd", "libvirt-daemon-system"),
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("qemu-img", "qemu-utils"),
        ("dnsmasq", "dnsmasq-base"),
        ("busybox", "busybox-static"),
        ("nft", "nftables"),
        ("ip", "iproute2"),
        ("genisoimage", "genisoimage"),
        ("mke2fs", "e2fsprogs"),
    ] {
        if !["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|folder| std::path::Path::new(folder).join(program).exists()) {
            return Err(LabError::Missing { program, package });
        }
    }
    let fits = |name: &str, length: usize| {
        (1..=length).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if !fits(&options.name, 40) {
        return Err(LabError::Options(format!("{:?} is no name for a lab: 1 to 40 small letters, digits and dashes", options.name)));
    }
    if options.hosts > Addresses::HOSTS || options.nodes.len() > Addresses::NODES {
        return Err(LabError::Options(format!("a lab has room for {} hosts and {} nodes", Addresses::HOSTS, Addresses::NODES)));
    }
    let mut names: Vec<&str> = options.nodes.iter().map(String::as_str).collect();
    if let Some(wrong) = names.iter().find(|name| !fits(name, 12) || ["switch", "root"].contains(name) || name.starts_with("kvm-")) {
        return Err(LabError::Options(format!(
            "{wrong:?} is no name for a node: 1 to 12 small letters, digits and dashes; not switch, root, kvm-..."
        )));
    }
    names.sort_unstable();
    names.dedup();
    if names.len() < options.nodes.len() {
        return Err(LabError::Options("two nodes have the same name".to_owned()));
    }
    Ok(())
}

fn plan_record(options: &LabOptions, registry: &Registry) -> Result<Record, LabError> {
    if let Some(other) = registry.records().into_iter().find(|record| record.name == options.name) {
        return Err(LabError::Up { name: other.name, pid: other.owner.pid });
    }
    let hosts =
        (b'a'..).take(options.hosts).map(|letter| HostRecord { name: format!("kvm-{}", char::from(letter)), anchor: None, boot: None });
    Ok(Record {
        name: options.name.clone(),
        token: (0..6).map(|_| fastrand::lowercase()).collect(),
        slot: registry.free_slot()?,
        owner: Identity::of(std::process::id()).expect("this process is alive"),
        hosts: hosts.collect(),
        nodes: options.nodes.clone(),
        faults: Vec::new(),
    })
}
