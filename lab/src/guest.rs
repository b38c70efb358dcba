//! A guest by `virsh` alone, without weir: to test the lab, and to compare with.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::command::{run, wait_for, words};
use crate::network::Addresses;
use crate::{Host, Image, LabError};

/// What a guest shall be.
#[derive(Debug, Clone)]
pub struct GuestOptions {
    /// Its domain's name and its hostname.
    pub name: String,
    /// In MiB.
    pub memory_mib: u32,
    /// A static address from [`Addresses::free`], by a seed; else DHCP without a seed.
    pub address: Option<Ipv4Addr>,
}

impl GuestOptions {
    /// A guest with as much memory as it needs, and DHCP.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), memory_mib: 96, address: None }
    }
}

/// A running guest.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Its domain's name.
    pub name: String,
    /// Its network card.
    pub mac: String,
    /// Its overlay, on the host.
    pub disk: String,
}

impl Host<'_> {
    /// Starts a guest on an overlay of the lab's image, with `virsh create`: it is gone when it ends.
    ///
    /// # Errors
    ///
    /// What `qemu-img`, `genisoimage` or `virsh` says.
    pub fn start_guest(&self, options: &GuestOptions) -> Result<Guest, LabError> {
        let image = self.lab.image();
        let name = &options.name;
        let disk = format!("/var/lib/libvirt/images/{name}.qcow2");
        let mut overlay = words("qemu-img create -q -f qcow2 -F qcow2 -b");
        run(overlay.arg(&image.disk).arg(self.path(&disk)))?;
        let mut seed = String::new();
        if let Some(address) = options.address {
            let path = format!("/var/lib/libvirt/images/{name}.seed");
            self.make_seed(name, address, &path)?;
            seed = disk_xml(&path, "raw", "vdb", "<readonly/>");
        }
        let mac = format!("52:54:00:{:02x}:{:02x}:{:02x}", fastrand::u8(..), fastrand::u8(..), fastrand::u8(..));
        let xml = domain_xml(options, image, &format!("{}{seed}", disk_xml(&disk, "qcow2", "vda", "")), &mac);
        let file = self.path(format!("/var/lib/libvirt/{name}.xml"));
        fs::write(&file, xml).map_err(LabError::file(&file))?;
        let created = self.virsh(&["create", &file.display().to_string()]);
        let _ = fs::remove_file(&file);
        created?;
        Ok(Guest { name: name.clone(), mac, disk })
    }

    fn make_seed(&self, name: &str, address: Ipv4Addr, to: &str) -> Result<(), LabError> {
        let folder = self.path(format!("/var/lib/libvirt/seed-{name}"));
        fs::create_dir_all(&folder).map_err(LabError::file(&folder))?;
        let gateway = self.address();
        for (file, text) in [
            ("meta-data", format!("instance-id: {name}\nlocal-hostname: {name}\n")),
            ("user-data", "#cloud-config\n".to_owned()),
            (
                "network-config",
                format!("version: 2\nethernets:\n  eth0:\n    addresses: [{address}/{}]\n    gateway4: {gateway}\n", Addresses::PREFIX),
            ),
        ] {
            fs::write(folder.join(file), text).map_err(LabError::file(&folder))?;
        }
        run(words("genisoimage -quiet -V CIDATA -J -r -o").arg(self.path(to)).arg(&folder))?;
        fs::remove_dir_all(&folder).map_err(LabError::file(&folder))
    }

    /// What a guest of [`Self::start_guest`] wrote to its console.
    pub fn console(&self, name: &str) -> String {
        let bytes = fs::read(self.path(format!("/var/log/libvirt/{name}.console"))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits for the address that the host's DHCP gave to a network card.
    ///
    /// # Errors
    ///
    /// None within `deadline`.
    pub fn lease(&self, mac: &str, deadline: Duration) -> Result<Ipv4Addr, LabError> {
        wait_for(&format!("a lease for {mac}"), deadline, || {
            let leases = self.virsh(&["net-dhcp-leases", "lan", mac]).ok()?;
            leases.split_ascii_whitespace().find_map(|word| word.split_once('/')?.0.parse().ok())
        })
    }

    /// Ends a guest of [`Self::start_guest`] and removes its files.
    ///
    /// # Errors
    ///
    /// What `virsh` says.
    pub fn remove_guest(&self, guest: &Guest) -> Result<(), LabError> {
        self.virsh(&["destroy", &guest.name])?;
        let disk = self.path(&guest.disk);
        let _ = fs::remove_file(disk.with_extension("seed"));
        fs::remove_file(&disk).map_err(LabError::file(&disk))
    }
}

fn disk_xml(path: &str, format: &str, device: &str, more: &str) -> String {
    format!(
        "<disk type='file' device='disk'><driver name='qemu' type='{format}'/><source file='{path}'/><target dev='{device}' bus='virtio'/>{more}</disk>"
    )
}

fn domain_xml(options: &GuestOptions, image: &Image, disks: &str, mac: &str) -> String {
    let (kernel, initramfs, line) = (image.kernel.display(), image.initramfs.display(), Image::COMMAND_LINE);
    format!(
        "<domain type='qemu'><name>{0}</name><memory unit='MiB'>{1}</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='q35'>hvm</type><kernel>{kernel}</kernel><initrd>{initramfs}</initrd><cmdline>{line}</cmdline></os>\
         <features><acpi/></features><cpu mode='custom' match='exact'><model>qemu64</model></cpu><clock offset='utc'/>\
         <devices>{disks}\
         <interface type='network'><source network='lan'/><mac address='{mac}'/><model type='virtio'/></interface>\
         <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>\
         <serial type='pty'><log file='/var/log/libvirt/{0}.console'/></serial><console type='pty'/><memballoon model='virtio'><stats period='1'/></memballoon>\
         </devices></domain>",
        options.name, options.memory_mib
    )
}

/// Waits until a guest answers a path with 200, and gives the body.
///
/// # Errors
///
/// No such answer within `deadline`.
pub fn wait_http(address: Ipv4Addr, path: &str, deadline: Duration) -> Result<String, LabError> {
    // Short attempts: while a guest boots, the first packets are lost, and the kernel sends the next one only after a second. Longer ones
    // afterwards, for a guest that answers slowly.
    let mut attempt = Duration::from_millis(200);
    wait_for(&format!("an answer of {address} to {path}"), deadline, || {
        let answer = http_get(address, path, attempt);
        attempt = (attempt * 5 / 4).min(Duration::from_secs(5));
        answer.ok().filter(|(status, _)| *status == 200).map(|(_, body)| body)
    })
}

/// One GET and its answer's status and body; for the machine's own network, where all guests can be reached.
///
/// # Errors
///
/// Whatever the connection says, and an answer that is none.
pub fn http_get(address: Ipv4Addr, path: &str, deadline: Duration) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, 80)), deadline)?;
    stream.set_read_timeout(Some(deadline))?;
    stream.set_write_timeout(Some(deadline))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let answer = text.split_once("\r\n\r\n").and_then(|(head, body)| Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned())));
    answer.ok_or_else(|| std::io::Error::other(format!("no HTTP answer: {text:?}")))
}
