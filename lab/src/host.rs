//! A virtual host: a network namespace, a mount namespace with a disk of its own, and, while it is on, a PID namespace with libvirtd in it.
//!
//! ```text
//!  anchor (mounts: the host's disk)          lives as long as the lab
//!   └─ boot (PID 1 of the host)              lives while the host is on; all its processes die with it
//!       ├─ virtlogd
//!       ├─ libvirtd ── dnsmasq               the network `lan`, whose bridge has the host's address
//!       └─ qemu ...                          guests
//! ```
//!
//! Anchor and boot read from a pipe that the lab's owner holds, and end with it: no guest outlives the lab, however it ended.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::command::{run, wait_for, words};
use crate::network::{Addresses, inside};
use crate::process::{self, Identity, Namespace};
use crate::record::Record;
use crate::{LabError, image};

/// A host must be up by then.
const BOOT: Duration = Duration::from_secs(120);
/// Where libvirtd listens.
pub(crate) const LIBVIRT_PORT: u16 = 16509;
/// Mounts the host's disk over libvirt's folders and then only waits. The arguments are the folder to mount on and the size in MiB.
const ANCHOR: &str = r#"
set -e
mount -t tmpfs -o "size=$2m,mode=755" disk "$1"
for pair in /var/lib/libvirt:lib /etc/libvirt:etc /var/cache/libvirt:cache /var/log/libvirt:log; do
    mkdir -p "${pair%:*}" "$1/${pair#*:}"
    mount --bind "$1/${pair#*:}" "${pair%:*}"
done
mount -t sysfs sysfs /sys
echo ready
exec cat >/dev/null
"#;

/// The first process of a host: collects the orphans' ends, and ends with its standard input. `/run` is the host's own, for libvirt's helpers lock
/// files there, too.
const INIT: &str = r#"
set -e
mount -t tmpfs -o mode=755 run /run
mkdir /run/libvirt /run/lock
exec 3<&0
cat <&3 >/dev/null &
waited=$!
echo ready
while kill -0 $waited 2>/dev/null; do wait $waited; done
"#;

/// What a host is made of.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) index: usize,
    pub(crate) namespace: String,
    pub(crate) addresses: Addresses,
    pub(crate) disk_mib: u32,
    /// An empty folder of the lab, for the host's disk to be mounted on.
    pub(crate) folder: PathBuf,
    /// Differs for every host of every lab.
    pub(crate) uuid: String,
}

/// The processes that hold a host.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) anchor: Option<Child>,
    pub(crate) boot: Option<Child>,
}

impl Plan {
    pub(crate) fn new(record: &Record, index: usize, disk_mib: u32) -> Self {
        let name = record.hosts[index].name.clone();
        let uuid = format!("{:08x}-{:04x}-4000-8000-{:012x}", fastrand::u32(..), fastrand::u16(..), fastrand::u64(..1 << 48));
        Self {
            namespace: record.namespace(&name),
            folder: Record::folder(&record.name).join(&name),
            addresses: Addresses::of_slot(record.slot),
            name,
            index,
            disk_mib,
            uuid,
        }
    }

    pub(crate) fn address(&self) -> Ipv4Addr {
        self.addresses.host(self.index)
    }

    /// Starts the process that holds the mounts, and furnishes the disk.
    pub(crate) fn make(&self) -> Result<(Child, Identity), LabError> {
        fs::create_dir_all(&self.folder).map_err(LabError::file(&self.folder))?;
        let mut command = inside(&self.namespace, "unshare");
        command.args(["--mount", "--propagation", "private", "busybox", "sh", "-c", ANCHOR, "anchor"]);
        let child = ready(command.arg(&self.folder).arg(self.disk_mib.to_string()))?;
        let anchor = identity(child.id())?;
        self.furnish(anchor)?;
        Ok((child, anchor))
    }

    /// Writes the configuration that a machine of its own would have.
    fn furnish(&self, anchor: Identity) -> Result<(), LabError> {
        let disk = seen_from(anchor, &self.folder);
        let write = |path: &str, text: &str| {
            let path = disk.join(path);
            let folder = path.parent().expect("a file is in a folder");
            fs::create_dir_all(folder).map_err(LabError::file(folder))?;
            fs::write(&path, text).map_err(LabError::file(&path))
        };
        let uuid = &self.uuid;
        write(
            "etc/libvirtd.conf",
            &format!(
                "host_uuid = \"{uuid}\"\nlisten_tls = 0\nlisten_tcp = 1\nauth_tcp = \"none\"\nauth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\n"
            ),
        )?;
        write(
            "etc/qemu.conf",
            "user = \"root\"\ngroup = \"root\"\nsecurity_driver = \"none\"\ncgroup_controllers = []\nnamespaces = []\nremember_owner = 0\n",
        )?;
        write("etc/virtlogd.conf", "")?;
        let (first, last) = self.addresses.leases(self.index);
        // Without no-ping, dnsmasq would wait three seconds before it offers an address, in case somebody has it.
        write(
            "etc/qemu/networks/lan.xml",
            &format!(
                "<network xmlns:dnsmasq='http://libvirt.org/schemas/network/dnsmasq/1.0'><name>lan</name><forward mode='open'/><bridge name='lan0' stp='off' delay='0'/>\
                 <ip address='{}' prefix='{}'><dhcp><range start='{first}' end='{last}'/></dhcp></ip>\
                 <dnsmasq:options><dnsmasq:option value='no-ping'/></dnsmasq:options></network>\n",
                self.address(),
                Addresses::PREFIX
            ),
        )?;
        write(
            "etc/storage/images.xml",
            "<pool type='dir'><name>images</name><target><path>/var/lib/libvirt/images</path></target></pool>\n",
        )?;
        fs::create_dir_all(disk.join("lib/images")).map_err(LabError::file(disk.join("lib/images")))?;
        for (link, target) in [
            ("etc/qemu/networks/autostart/lan.xml", "/etc/libvirt/qemu/networks/lan.xml"),
            ("etc/storage/autostart/images.xml", "/etc/libvirt/storage/images.xml"),
        ] {
            let link = disk.join(link);
            fs::create_dir_all(link.parent().expect("a link is in a folder")).map_err(LabError::file(&link))?;
            symlink(target, &link).map_err(LabError::file(&link))?;
        }
        // libvirt makes the bridge; the cable into the switch is plugged in when it is there. DHCP stays at home: each host has its own range.
        write(
            "etc/hooks/network",
            "#!/bin/sh\n[ \"$1 $2\" = \"lan started\" ] || exit 0\n\
             ip link set lan0 type bridge mcast_snooping 0\n\
             ip link set eth0 master lan0\n\
             exec nft -f - <<'EOF'\n\
             table bridge lab\ndelete table bridge lab\n\
             table bridge lab {\n\
             chain forward {\ntype filter hook forward priority 0; policy accept;\noifname \"eth0\" udp dport 67 drop\niifname \"eth0\" udp dport 67 drop\n}\n\
             chain input {\ntype filter hook input priority 0; policy accept;\niifname \"eth0\" udp dport 67 drop\n}\n\
             }\nEOF\n",
        )?;
        let hook = disk.join("etc/hooks/network");
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).map_err(LabError::file(&hook))?;
        restore_capabilities(&disk.join("cache/qemu/capabilities"));
        Ok(())
    }

    /// Turns the host on.
    pub(crate) fn boot(&self, anchor: Identity) -> Result<(Child, Identity), LabError> {
        // What a machine loses with its power: the bridge that its libvirt made.
        if run(inside(&self.namespace, "ip").args(["link", "show", "lan0"])).is_ok() {
            run(inside(&self.namespace, "ip").args(["link", "delete", "lan0"]))?;
        }
        let mut command = enter(anchor, false);
        command.args(["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"]);
        let child = ready(command.args(["busybox", "sh", "-c", INIT, "init"]))?;
        let first = process::child(child.id()).and_then(Identity::of);
        let first =
            first.ok_or_else(|| LabError::Command { command: "unshare".to_owned(), reason: "its child ended at once".to_owned() })?;
        Ok((child, first))
    }

    /// Until libvirtd answers and the network is plugged in.
    pub(crate) fn wait_up(&self) -> Result<(), LabError> {
        let address = SocketAddr::from((self.address(), LIBVIRT_PORT));
        let namespace = format!("--net=/run/netns/{}", self.namespace);
        // From inside: the fault of a test may have cut the cable.
        let what = format!("libvirtd of {} at {address}", self.name);
        wait_for(&what, BOOT, || {
            let mut probe = Command::new("nsenter");
            probe.arg(&namespace).args(["virsh", "-q", "-c", &uri(self.address()), "net-info", "lan"]);
            run(&mut probe).ok().filter(|text| text.contains("Active:         yes")).map(drop)
        })
    }
}

/// The URI by which a host's libvirtd is reached from everywhere in the lab.
pub(crate) fn uri(address: Ipv4Addr) -> String {
    format!("qemu+tcp://{address}/system")
}

/// Whether somebody listens at a host's libvirt port.
pub(crate) fn reachable(address: Ipv4Addr) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((address, LIBVIRT_PORT)), Duration::from_millis(300)).is_ok()
}

/// A path of the host as the machine sees it.
pub(crate) fn seen_from(anchor: Identity, path: &Path) -> PathBuf {
    Path::new("/proc").join(anchor.pid.to_string()).join("root").join(path.strip_prefix("/").unwrap_or(path))
}

/// A command that will run inside a host: in its network and mounts, and among its processes if it is the running host that is entered.
pub(crate) fn enter(process: Identity, processes: bool) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--target={}", process.pid)).args(["--mount", "--net"]);
    if processes {
        command.arg("--pid");
    }
    command.arg("--");
    command
}

/// What the host's init system would start.
pub(crate) fn start(plan: &Plan, boot: Identity) -> Result<(), LabError> {
    run(enter(boot, true).args(["virtlogd", "--daemon", "--pid-file", "/run/libvirt/virtlogd.pid"]))?;
    start_libvirtd(boot)?;
    plan.wait_up()
}

pub(crate) fn start_libvirtd(boot: Identity) -> Result<(), LabError> {
    run(enter(boot, true).args(["libvirtd", "--daemon", "--listen", "--pid-file", "/run/libvirt/libvirtd.pid"])).map(drop)
}

/// The host's libvirtd: the one of this name that is not the child of another.
pub(crate) fn libvirtd(boot: Identity) -> Option<Identity> {
    let namespace = Namespace::of(boot.pid, "pid")?;
    let found: Vec<u32> = namespace.members("pid").into_iter().filter(|pid| process::name(*pid) == "libvirtd").collect();
    found.into_iter().min().and_then(Identity::of)
}

/// Stops or continues everything on a host, also what is started meanwhile.
pub(crate) fn signal_all(boot: Identity, signal: Signal) {
    let Some(namespace) = Namespace::of(boot.pid, "pid") else { return };
    for _ in 0..10 {
        let members: Vec<u32> = namespace.members("pid");
        let left = members.iter().filter(|pid| process::stopped(**pid) != (signal == Signal::STOP)).count();
        if left == 0 {
            return;
        }
        for pid in members {
            process::send(pid, signal);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Starts a script of this module and waits until it says that it is ready.
fn ready(command: &mut Command) -> Result<Child, LabError> {
    let line = words_of(command);
    let failed = |reason: String| LabError::Command { command: line.clone(), reason };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let mut said = String::new();
    let read = BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut said);
    if read.is_ok() && said.trim() == "ready" {
        return Ok(child);
    }
    let _ = child.kill();
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    Err(failed(format!("{said}{}", String::from_utf8_lossy(&output.stderr)).trim().to_owned()))
}

/// The command without the script that it carries.
fn words_of(command: &Command) -> String {
    let line = crate::command::line(command);
    line.lines().next().unwrap_or_default().to_owned()
}

fn identity(pid: u32) -> Result<Identity, LabError> {
    Identity::of(pid).ok_or_else(|| LabError::Command { command: format!("process {pid}"), reason: "it ended at once".to_owned() })
}

/// libvirtd asks each QEMU for what it can do and remembers that; a host that is new every time would ask every time.
fn restore_capabilities(to: &Path) {
    copy_files(&image::home().join("capabilities"), to);
}

/// Keeps what a host's libvirtd found out, for the hosts of later labs.
pub(crate) fn keep_capabilities(plan: &Plan, anchor: Identity) {
    let kept = image::home().join("capabilities");
    if fs::read_dir(&kept).is_ok_and(|mut entries| entries.next().is_some()) {
        return;
    }
    if run(words("virsh -q -c").arg(uri(plan.address())).args(["domcapabilities", "--virttype", "qemu"])).is_ok() {
        copy_files(&seen_from(anchor, Path::new("/var/cache/libvirt/qemu/capabilities")), &kept);
    }
}

/// A cache: what cannot be copied is found out again.
fn copy_files(from: &Path, to: &Path) {
    let _ = fs::create_dir_all(to);
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let draft = to.join(format!(".{}.{}", entry.file_name().to_string_lossy(), std::process::id()));
        let _ = fs::copy(entry.path(), &draft).and_then(|_| fs::rename(&draft, to.join(entry.file_name())));
    }
}
