//! Hosts and nodes as a test has them in its hand.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::run;
use crate::host::{self, Plan};
use crate::process::Identity;
use crate::{Lab, LabError, network};

/// What fills a host's disk.
const FILLER: &str = "/var/lib/libvirt/filler";

/// How long libvirtd may take to end in order.
const STOP: Duration = Duration::from_secs(10);

/// A virtual host.
#[derive(Debug, Clone, Copy)]
pub struct Host<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) index: usize,
}

impl Host<'_> {
    fn plan(&self) -> &Plan {
        &self.lab.plans[self.index]
    }

    fn boot(&self) -> Result<Identity, LabError> {
        let boot = self.lab.record().hosts[self.index].boot.filter(|boot| boot.alive());
        boot.ok_or_else(|| LabError::Down { name: self.name().to_owned() })
    }

    /// `kvm-a` and so on.
    pub fn name(&self) -> &str {
        &self.plan().name
    }

    /// Its address: the one of its bridge, where its libvirtd listens.
    pub fn address(&self) -> Ipv4Addr {
        self.plan().address()
    }

    /// By which its libvirtd is reached, from the nodes, from the other hosts and from the machine itself.
    pub fn uri(&self) -> String {
        host::uri(self.address())
    }

    /// A path on the host as the machine sees it, also while the host is off.
    ///
    /// # Panics
    ///
    /// If the host was never made.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let anchor = self.lab.record().hosts[self.index].anchor.expect("a host has a disk from its first start");
        host::seen_from(anchor, path.as_ref())
    }

    /// A program to be run on the host: in its network, with its disk, among its processes.
    ///
    /// # Errors
    ///
    /// The host is off.
    pub fn command(&self, program: &str) -> Result<Command, LabError> {
        let mut command = host::enter(self.boot()?, true);
        command.arg(program);
        Ok(command)
    }

    /// Runs `act` on a thread in the host's network: sockets that it opens stay there. Also while the host is off.
    ///
    /// # Panics
    ///
    /// If the host's namespace is gone, or if `act` does.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        within(&self.plan().namespace, act)
    }

    /// Runs `virsh` against the host's libvirtd and gives what it printed.
    ///
    /// # Errors
    ///
    /// What `virsh` says.
    pub fn virsh(&self, arguments: &[&str]) -> Result<String, LabError> {
        run(Command::new("virsh").args(["-q", "-c", &self.uri()]).args(arguments))
    }

    /// Takes the power: every process of the host dies at once. Its disk stays.
    ///
    /// # Errors
    ///
    /// The record could not be written.
    pub fn power_off(&self) -> Result<(), LabError> {
        self.lab.power_off(self.index)
    }

    /// Gives the power back and waits for libvirtd. Guests do not start by themselves.
    ///
    /// # Errors
    ///
    /// What libvirtd says, or that it does not answer.
    pub fn power_on(&self) -> Result<(), LabError> {
        if self.boot().is_ok() {
            return Ok(());
        }
        self.lab.power_on(self.index)
    }

    /// Stops every process of the host in its tracks, guests too. The kernel still answers for it, as with a real hang of user space.
    ///
    /// # Errors
    ///
    /// The host is off.
    pub fn freeze(&self) -> Result<(), LabError> {
        host::signal_all(self.boot()?, Signal::STOP);
        Ok(())
    }

    /// Undoes [`Self::freeze`].
    ///
    /// # Errors
    ///
    /// The host is off.
    pub fn thaw(&self) -> Result<(), LabError> {
        host::signal_all(self.boot()?, Signal::CONT);
        Ok(())
    }

    fn signal_libvirtd(&self, signal: Signal) -> Result<Identity, LabError> {
        let found = host::libvirtd(self.boot()?).filter(|daemon| daemon.signal(signal));
        found.ok_or_else(|| LabError::Down { name: format!("libvirtd of {}", self.name()) })
    }

    /// Ends libvirtd in order and waits until it is gone; the guests go on. As an init system does, it kills a libvirtd that will not end: one with
    /// busy clients may wait for them for ever.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn stop_libvirtd(&self) -> Result<(), LabError> {
        let daemon = self.signal_libvirtd(Signal::TERM)?;
        if crate::wait_for("the end of libvirtd", STOP, || (!daemon.alive()).then_some(())).is_err() {
            daemon.end();
        }
        Ok(())
    }

    /// Kills libvirtd and waits until it is gone; the guests go on.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn kill_libvirtd(&self) -> Result<(), LabError> {
        self.signal_libvirtd(Signal::KILL)?.end();
        Ok(())
    }

    /// Starts libvirtd where it was stopped or killed, and waits until it answers.
    ///
    /// # Errors
    ///
    /// What libvirtd says.
    pub fn start_libvirtd(&self) -> Result<(), LabError> {
        host::start_libvirtd(self.boot()?)?;
        self.plan().wait_up()
    }

    /// Stops libvirtd in its tracks: connections are accepted by the kernel, and nobody answers.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn hang_libvirtd(&self) -> Result<(), LabError> {
        self.signal_libvirtd(Signal::STOP).map(drop)
    }

    /// Undoes [`Self::hang_libvirtd`].
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn resume_libvirtd(&self) -> Result<(), LabError> {
        self.signal_libvirtd(Signal::CONT).map(drop)
    }

    /// Fills the host's disk but for `left_mib`.
    ///
    /// # Errors
    ///
    /// There is less left already.
    pub fn fill_disk(&self, left_mib: u64) -> Result<(), LabError> {
        let path = self.path(FILLER);
        let folder = self.path("/var/lib/libvirt");
        let space = statvfs(&folder).map_err(|error| LabError::file(&folder)(error.into()))?;
        let free = space.f_bavail * space.f_frsize;
        let left = left_mib * 1024 * 1024;
        let fill = free.checked_sub(left).filter(|fill| *fill > 0);
        let fill = fill.ok_or_else(|| LabError::Options(format!("{} has only {} MiB left", self.name(), free >> 20)))?;
        let file = File::create(&path).map_err(LabError::file(&path))?;
        fallocate(&file, FallocateFlags::empty(), 0, fill).map_err(|error| LabError::file(&path)(error.into()))
    }

    /// Undoes [`Self::fill_disk`].
    ///
    /// # Errors
    ///
    /// It was not filled.
    pub fn free_disk(&self) -> Result<(), LabError> {
        let path = self.path(FILLER);
        fs::remove_file(&path).map_err(LabError::file(&path))
    }
}

/// A namespace with a cable into the switch: a client, or a machine that balances.
#[derive(Debug, Clone)]
pub struct Node {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) address: Ipv4Addr,
}

impl Node {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on `eth0`.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A program to be run in the node's network. It is the same process that `spawn` gives: to be signalled and waited for as usual.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        network::inside(&self.namespace, program)
    }

    /// Runs `act` on a thread in the node's network: sockets that it opens stay there.
    ///
    /// # Panics
    ///
    /// If the node's namespace is gone, or if `act` does.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        within(&self.namespace, act)
    }
}

fn within<T: Send>(namespace: &str, act: impl FnOnce() -> T + Send) -> T {
    let path = Path::new("/run/netns").join(namespace);
    let enter = move || {
        let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may change its network");
        act()
    };
    // A thread of its own, for its network is its own for ever.
    thread::scope(|scope| scope.spawn(enter).join().expect("the work in the namespace does not panic"))
}
