//! Machines on real hosts: libvirtd, QEMU and guests of the lab. What is made is whole, what is removed is gone, whatever dies in between; what
//! is foreign is left alone.

#[path = "../../../tests/support/mod.rs"]
mod support;

mod crash;
mod life;
mod placed;
mod trouble;
mod warm;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lab::{Host, Image, Lab, LabOptions};
use support::config;
use weir_config::Config;
use weir_hypervisor::{CloneSpec, Fleet, Hypervisor, MachineView, Progress, WaitFor};

/// A guest has booted by then, also on a busy machine.
const BOOT: Duration = Duration::from_secs(120);

/// One test at a time: guests in software emulation need the machine, and one of the tests kills children of this process.
static ALONE: Mutex<()> = Mutex::new(());

struct Site {
    lab: Lab,
    folder: tempfile::TempDir,
    /// How long a host is waited for.
    timeout: &'static str,
    _alone: MutexGuard<'static, ()>,
}

impl Site {
    fn new(hosts: usize) -> Site {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let lab = Lab::up(LabOptions { hosts, nodes: vec![], ..LabOptions::default() }).expect("a lab can be made");
        Site { lab, folder: tempfile::tempdir().expect("a folder"), timeout: "60s", _alone: alone }
    }

    /// Hosts, and the template `web` of the lab's guest; `more` are further lines of the template.
    fn config(&self, more: &str) -> Config {
        self.config_of(&self.lab.image().disk.display().to_string(), more)
    }

    fn config_of(&self, image: &str, more: &str) -> Config {
        let Image { kernel, initramfs, .. } = self.lab.image();
        let mut text = format!("[node]\nname = \"lb-a\"\nstate_dir = {:?}\n", self.folder.path());
        for host in self.lab.hosts() {
            text += &format!(
                "[host.{}]\nuri = {:?}\nstorage_pool = \"images\"\ninterval = \"200ms\"\ntimeout = \"{}\"\ndomain_type = \"qemu\"\n",
                host.name(),
                host.uri(),
                self.timeout
            );
        }
        text += &format!(
            "[template.web]\nimage = {image:?}\nmemory = \"96MiB\"\nnetwork = \"lan\"\nkernel = {kernel:?}\ninitrd = {initramfs:?}\n\
             kernel_args = {:?}\nport = 80\nready = \"http\"\nready_path = \"/healthz\"\nboot_timeout = \"10m\"\n{more}\n",
            Image::COMMAND_LINE
        );
        config(&text)
    }

    /// A fleet that has seen all of its hosts.
    async fn fleet(&self, config: &Config) -> Fleet {
        let fleet = Fleet::start(config, PathBuf::from(env!("CARGO_BIN_EXE_weir-libvirt")));
        assert!(fleet.settled(Duration::from_secs(30)).await, "not all hosts answer: {:?}", fleet.hosts());
        fleet
    }

    /// A domain that is not weir's, with a name that looks as if it were, and a volume of the same kind.
    fn make_foreign(&self) {
        for host in self.lab.hosts() {
            let disk = host.path("/var/lib/libvirt/images/web-foreign.disk.img");
            std::fs::write(&disk, b"foreign").expect("the disk has room");
            let xml = host.path("/var/lib/libvirt/foreign.xml");
            std::fs::write(
                &xml,
                "<domain type='qemu'><name>web-foreign</name><memory unit='MiB'>32</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>\
                 <devices><disk type='file'><source file='/var/lib/libvirt/images/web-foreign.disk.img'/><target dev='vda' bus='virtio'/></disk>\
                 </devices></domain>",
            )
            .expect("the disk has room");
            host.virsh(&["define", &xml.display().to_string()]).expect("it is well formed");
        }
    }

    fn check_foreign(&self) {
        for host in self.lab.hosts() {
            assert!(domains(host).contains("web-foreign"), "the foreign domain on {} is gone", host.name());
            let content = std::fs::read(host.path("/var/lib/libvirt/images/web-foreign.disk.img")).expect("the foreign disk is there");
            assert_eq!(content, b"foreign");
        }
    }
}

fn domains(host: Host<'_>) -> BTreeSet<String> {
    host.virsh(&["list", "--all", "--name"]).expect("libvirtd answers").split_whitespace().map(str::to_owned).collect()
}

/// What lies in a host's storage pool, by name.
fn volumes(host: Host<'_>) -> BTreeSet<String> {
    let entries = std::fs::read_dir(host.path("/var/lib/libvirt/images")).expect("the pool has a folder");
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// On the test's own thread, while another one drives all that was spawned: what the test waits for, such as `virsh` or a guest's page, must not
/// hold up the calls whose time is counted.
fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let handle = runtime.handle().clone();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || runtime.block_on(ended));
        // Dropped also when the test fails, and then the other thread ends.
        let _end = end;
        handle.block_on(work);
    });
}

/// Makes a machine and waits until it serves.
async fn clone(fleet: &Fleet, name: &str) -> MachineView {
    let spec = CloneSpec { wait: WaitFor::Ready, ..support::spec(name) };
    fleet.clone_machine(spec, Progress::default()).await.unwrap_or_else(|error| panic!("{name}: {error:?}"))
}

fn v4(machine: &MachineView) -> std::net::Ipv4Addr {
    match machine.address {
        Some(IpAddr::V4(address)) => address,
        other => panic!("{} has no IPv4 address: {other:?}", machine.name),
    }
}
