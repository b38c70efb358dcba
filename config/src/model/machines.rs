//! Hosts and templates: what the file says about virtual machines.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The name of a host, as written in `[host.NAME]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostName(pub Arc<str>);

/// The name of a template, as written in `[template.NAME]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TemplateName(pub Arc<str>);

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TemplateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for HostName {
    fn from(name: &str) -> Self {
        HostName(name.into())
    }
}

impl From<&str> for TemplateName {
    fn from(name: &str) -> Self {
        TemplateName(name.into())
    }
}

/// `[host.NAME]`: a machine that runs virtual machines.
#[derive(Clone, PartialEq, Debug)]
pub struct VmHost {
    /// The table's name.
    pub name: HostName,
    /// `uri`: a libvirt URI.
    pub uri: String,
    /// `migration_uri`: how other hosts reach it for a migration. Default: `uri`.
    pub migration_uri: Option<String>,
    /// `labels`, written `"key=value"`.
    pub labels: BTreeMap<String, String>,
    /// `storage_pool`: the libvirt storage pool that holds bases and clones. Default `default`.
    pub storage_pool: String,
    /// `domain_type`. Default auto.
    pub domain_type: DomainType,
    /// `memory_max`: bytes that all machines together may be promised; `None` (absent): what the host has.
    pub memory_max: Option<u64>,
    /// `memory_reserve`: bytes that stay free for the host itself. Default 512 MiB.
    pub memory_reserve: u64,
    /// `vcpus_max`: virtual processors that all running machines together may have; `None` (written 0): no bound. Default none.
    pub vcpus_max: Option<NonZeroU32>,
    /// `machines_max`: machines that may run; `None` (written 0): no bound. Default none.
    pub machines_max: Option<NonZeroU32>,
    /// `disk_reserve`: bytes of the storage pool that stay free. Default 1 GiB.
    pub disk_reserve: u64,
    /// `interval`: between two looks at its counters. Default 1 s.
    pub interval: Duration,
    /// `timeout`: how long one call may take before the host counts as not answering. Default 10 s.
    pub timeout: Duration,
}

/// How machines of a host are virtualised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DomainType {
    /// KVM if a machine that was really started with it lives, else emulation.
    Auto,
    /// By the processor.
    Kvm,
    /// By software.
    Qemu,
}

/// `[template.NAME]`: what clones are made of.
#[derive(Clone, PartialEq, Debug)]
pub struct Template {
    /// The table's name.
    pub name: TemplateName,
    /// `master` or `image`.
    pub source: TemplateSource,
    /// `checksum`: SHA-256 that the image must have.
    pub checksum: Option<[u8; 32]>,
    /// `memory`: bytes. `None`: what the master has.
    pub memory: Option<u64>,
    /// `vcpus`. `None`: what the master has.
    pub vcpus: Option<NonZeroU32>,
    /// `network` or `bridge`. `None`: what the master has.
    pub attachment: Option<Attachment>,
    /// `disk`: size of a clone's disk in bytes; `None`: that of the base.
    pub disk: Option<u64>,
    /// `kernel`, `initrd`, `kernel_args`: direct boot.
    pub direct_boot: Option<DirectBoot>,
    /// `port`: where the service of a machine listens.
    pub port: Option<u16>,
    /// `boot_timeout`: from the start to ready. Default 5 min.
    pub boot_timeout: Duration,
    /// `ready`: when a started machine counts as booted. Default address.
    pub readiness: Readiness,
    /// `user_data`: a file handed to cloud-init as it is.
    pub user_data: Option<PathBuf>,
    /// `network_config`: a file handed to cloud-init as it is, instead of the one that is made.
    pub network_config: Option<PathBuf>,
    /// `address`: where a machine's address comes from.
    pub address: AddressSource,
    /// `clone`. Default linked.
    pub clone: CloneMode,
    /// `warm`: clones that wait booted and paused. Default 0.
    pub warm: u32,
    /// `warm_mode`. Default paused.
    pub warm_mode: WarmMode,
    /// `display`: clones of an image have a screen. Default false.
    pub display: bool,
    /// `shared_storage`: the hosts' storage pools are one and the same place. Default false.
    pub shared_storage: bool,
    /// `hosts`: where clones may run; empty: everywhere.
    pub hosts: Vec<HostName>,
}

/// Where the base's content comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TemplateSource {
    /// `master`: a machine on one of the hosts.
    Master(String),
    /// `image`: a file on this node.
    Image(PathBuf),
}

/// Where the network interface is plugged in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attachment {
    /// `network`: of libvirt.
    Network(String),
    /// `bridge`: of the host.
    Bridge(String),
}

/// A kernel that is started without boot loader. The paths are those of the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectBoot {
    /// `kernel`
    pub kernel: String,
    /// `initrd`
    pub initrd: Option<String>,
    /// `kernel_args`
    pub args: String,
}

/// When a started machine counts as booted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// Its address is known.
    Address,
    /// Its port takes a connection.
    Tcp,
    /// Its port answers `GET` of this path with 200 to 399.
    Http(String),
}

/// Where a machine's address comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AddressSource {
    /// The DHCP server of libvirt's network.
    Lease,
    /// The guest's agent.
    Agent,
    /// The host's ARP table.
    Arp,
    /// Given out by us, and written into the seed.
    Static(StaticAddresses),
}

/// `[template.NAME.static]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StaticAddresses {
    /// `first` of the range.
    pub first: IpAddr,
    /// `last` of the range, of the same family and not before the first.
    pub last: IpAddr,
    /// `prefix`: length of the network's prefix.
    pub prefix: u8,
    /// `gateway`
    pub gateway: Option<IpAddr>,
    /// `dns`
    pub dns: Vec<IpAddr>,
}

/// How a clone's disk is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloneMode {
    /// An overlay on the base.
    Linked,
    /// A copy of its own.
    Full,
}

/// How a warm clone waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WarmMode {
    /// In memory.
    Paused,
    /// With its memory on disk.
    Saved,
}

impl DomainType {
    /// `auto`, `kvm` or `qemu`.
    pub fn word(self) -> &'static str {
        match self {
            DomainType::Auto => "auto",
            DomainType::Kvm => "kvm",
            DomainType::Qemu => "qemu",
        }
    }
}

impl CloneMode {
    /// `linked` or `full`.
    pub fn word(self) -> &'static str {
        match self {
            CloneMode::Linked => "linked",
            CloneMode::Full => "full",
        }
    }
}

impl WarmMode {
    /// `paused` or `saved`.
    pub fn word(self) -> &'static str {
        match self {
            WarmMode::Paused => "paused",
            WarmMode::Saved => "saved",
        }
    }
}

impl AddressSource {
    /// `lease`, `agent`, `arp` or `static`.
    pub fn word(&self) -> &'static str {
        match self {
            AddressSource::Lease => "lease",
            AddressSource::Agent => "agent",
            AddressSource::Arp => "arp",
            AddressSource::Static(_) => "static",
        }
    }
}

impl Readiness {
    /// `address`, `tcp` or `http`.
    pub fn word(&self) -> &'static str {
        match self {
            Readiness::Address => "address",
            Readiness::Tcp => "tcp",
            Readiness::Http(_) => "http",
        }
    }
}
