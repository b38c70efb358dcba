//! The domain of a machine as libvirt's XML, made anew for an image or changed from the master's. Pure.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use weir_config::{Attachment, DirectBoot, Template};

use crate::metadata::Metadata;
use crate::names::{MachineId, MachineName};
use crate::xml::Element;

/// What QEMU's guest agent opens.
const AGENT_CHANNEL: &str = "org.qemu.guest_agent.0";

/// Namespace of what libvirt lets one say about its driver of QEMU.
const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

/// What makes libvirt ask a new QEMU for each of some four hundred features of its processor, one after the other; without it, libvirt asks for
/// all of them at once, as it did before, and knows the same afterwards. QEMU reads what it is asked byte by byte: the questions are two thirds
/// of a start.
const SURVEY: &str = "cpu-unavailable-features";

/// Everything that makes a clone's domain.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// Its name.
    pub name: &'a MachineName,
    /// Its UUID.
    pub id: &'a MachineId,
    /// Its MAC.
    pub mac: &'a str,
    /// `kvm` or `qemu`.
    pub domain_type: &'a str,
    /// Folder of the storage pool on the host.
    pub folder: &'a str,
    /// Bytes of memory.
    pub memory: u64,
    /// Virtual processors.
    pub vcpus: u32,
    /// The template.
    pub template: &'a Template,
    /// The master's domain; `None`: made anew.
    pub master: Option<&'a Element>,
    /// What it says of itself.
    pub metadata: &'a Metadata,
}

impl Plan<'_> {
    fn path(&self, volume: &str) -> String {
        format!("{}/{volume}", self.folder)
    }

    /// The domain.
    pub fn domain(&self) -> Element {
        let mut domain = match self.master {
            Some(master) => self.like_master(master),
            None => self.anew(),
        };
        domain.set_attribute("type", self.domain_type);
        domain.make(&["name"]).set_text(self.name);
        domain.make(&["uuid"]).set_text(self.id);
        for name in ["memory", "currentMemory"] {
            let memory = domain.make(&[name]);
            memory.set_attribute("unit", "KiB");
            memory.set_text(self.memory / 1024);
        }
        domain.make(&["vcpu"]).set_text(self.vcpus);
        domain.make(&["metadata"]).remove(|child| child.attributes.iter().any(|(_, value)| value == crate::metadata::NAMESPACE));
        domain.make(&["metadata"]).children.push(crate::xml::Node::Element(self.metadata.element()));
        let devices = domain.make(&["devices"]);
        devices.children.push(crate::xml::Node::Element(seed_disk(&self.path(&self.name.seed()), devices)));
        // What the guest writes to its console is kept where its disk is: there it can be read from afar, also after a crash.
        let console = Element::new("log").with("file", self.path(&self.name.console())).with("append", "on");
        if devices.at(&["serial"]).is_none() {
            devices.make(&["serial"]).set_attribute("type", "pty");
        }
        let serial = devices.make(&["serial"]);
        serial.remove(|child| child.name == "log");
        serial.children.push(crate::xml::Node::Element(console));
        domain
    }

    /// Everything of the master that is not its own self.
    fn like_master(&self, master: &Element) -> Element {
        let mut domain = master.clone();
        domain.attributes.retain(|(name, _)| name != "id");
        domain.remove(|child| ["title", "genid", "resource", "seclabel"].contains(&child.name.as_str()));
        // Its firmware variables are its own; libvirt copies fresh ones from the template.
        domain.make(&["os"]).remove(|child| child.name == "nvram");
        if let Some(sysinfo) = domain.elements_mut().find(|child| child.name == "sysinfo") {
            for system in sysinfo.elements_mut().filter(|child| child.name == "system") {
                system.remove(|entry| matches!(entry.attribute("name"), Some("uuid" | "serial")));
            }
        }
        let disk = self.path(&self.name.disk());
        let devices = domain.make(&["devices"]);
        let mut first = true;
        // The first disk is the one that was sealed; the others are not ours to share.
        devices
            .remove(|child| child.name == "disk" && (child.attribute("device").unwrap_or("disk") != "disk" || !std::mem::take(&mut first)));
        for found in devices.elements_mut().filter(|child| child.name == "disk") {
            found.set_attribute("type", "file");
            found.remove(|child| ["source", "backingStore", "driver", "readonly", "serial", "mirror"].contains(&child.name.as_str()));
            found.children.push(crate::xml::Node::Element(
                Element::new("driver").with("name", "qemu").with("type", "qcow2").with("discard", "unmap"),
            ));
            found.children.push(crate::xml::Node::Element(Element::new("source").with("file", &disk)));
        }
        devices.remove(|child| child.name == "channel" && child.attribute("type") == Some("pty"));
        let mut first = true;
        devices.remove(|child| child.name == "interface" && !std::mem::take(&mut first));
        for interface in devices.elements_mut().filter(|child| child.name == "interface") {
            interface.remove(|child| ["mac", "target", "alias"].contains(&child.name.as_str()));
            interface.children.insert(0, crate::xml::Node::Element(Element::new("mac").with("address", self.mac)));
            if let Some(attachment) = &self.template.attachment {
                interface.remove(|child| child.name == "source");
                plug(interface, attachment);
            }
        }
        if let Some(attachment) = self.template.attachment.as_ref().filter(|_| devices.at(&["interface"]).is_none()) {
            devices.children.push(crate::xml::Node::Element(self.interface(attachment)));
        }
        domain
    }

    fn interface(&self, attachment: &Attachment) -> Element {
        let mut interface = Element::new("interface").child(Element::new("mac").with("address", self.mac));
        plug(&mut interface, attachment);
        // Nothing boots from the network: the firmware need not run the card's own program.
        interface.child(Element::new("model").with("type", "virtio")).child(Element::new("rom").with("enabled", "no"))
    }

    fn anew(&self) -> Element {
        let mut os =
            Element::new("os").child(Element { ..Element::new("type").with("arch", std::env::consts::ARCH).with("machine", "q35") });
        os.make(&["type"]).set_text("hvm");
        match &self.template.direct_boot {
            Some(DirectBoot { kernel, initrd, args }) => {
                os = os.text_child("kernel", kernel);
                if let Some(initrd) = initrd {
                    os = os.text_child("initrd", initrd);
                }
                os = os.text_child("cmdline", args);
            }
            None => os = os.child(Element::new("boot").with("dev", "hd")),
        }
        let cpu = match self.domain_type {
            "kvm" => Element::new("cpu").with("mode", "host-passthrough").with("migratable", "on"),
            _ => Element::new("cpu").with("mode", "custom").with("match", "exact").text_child("model", "qemu64"),
        };
        // The hardware clock goes on with the host's while a warm clone is paused, so that the guest can find the time again.
        let timer = Element::new("timer").with("name", "rtc").with("tickpolicy", "catchup").with("track", "wall");
        let clock = Element::new("clock").with("offset", "utc").child(timer);
        let disk = Element::new("disk")
            .with("type", "file")
            .with("device", "disk")
            .child(Element::new("driver").with("name", "qemu").with("type", "qcow2").with("discard", "unmap"))
            .child(Element::new("source").with("file", self.path(&self.name.disk())))
            .child(Element::new("target").with("dev", "vda").with("bus", "virtio"));
        let agent =
            Element::new("channel").with("type", "unix").child(Element::new("target").with("type", "virtio").with("name", AGENT_CHANNEL));
        let mut devices = Element::new("devices").child(disk);
        if let Some(attachment) = &self.template.attachment {
            devices = devices.child(self.interface(attachment));
        }
        let devices = devices
            .child(Element::new("serial").with("type", "pty").child(Element::new("target").with("port", 0)))
            .child(Element::new("console").with("type", "pty").child(Element::new("target").with("type", "serial").with("port", 0)))
            .child(agent)
            .child(Element::new("memballoon").with("model", "virtio").child(Element::new("stats").with("period", 1)))
            .child(Element::new("rng").with("model", "virtio").child(Element {
                name: "backend".into(),
                attributes: vec![("model".into(), "random".into())],
                children: vec![crate::xml::Node::Text("/dev/urandom".into())],
            }))
            // Said, or libvirt adds one; each is a device that QEMU makes, the firmware asks and the guest waits for.
            .child(Element::new("controller").with("type", "usb").with("model", "none"));
        let video = |model: &str| Element::new("video").child(Element::new("model").with("type", model));
        let devices = match self.template.display {
            true => devices
                .child(Element::new("graphics").with("type", "vnc").with("port", -1).with("autoport", "yes").with("listen", "127.0.0.1"))
                .child(video("vga")),
            false => devices.child(video("none")),
        };
        Element::new("domain")
            .text_child("name", self.name)
            .child(os)
            .child(Element::new("features").child(Element::new("acpi")).child(Element::new("apic")))
            .child(cpu)
            .child(clock)
            .text_child("on_poweroff", "destroy")
            .text_child("on_reboot", "restart")
            .text_child("on_crash", "destroy")
            .child(devices)
    }
}

/// The same domain, to be started without libvirt's survey of its processor. `None`: its owner has decided otherwise.
pub fn without_survey(domain: &Element) -> Option<Element> {
    let says = |name: &str, value: &str| domain.attribute(name) == Some(value);
    let owned = domain.at(&["qemu:capabilities"]).is_some() || domain.at(&["cpu"]).and_then(|cpu| cpu.attribute("check")) == Some("full");
    let renamed = domain.attributes.iter().any(|(name, value)| value == QEMU_NAMESPACE && name != "xmlns:qemu");
    if owned || renamed || !(says("type", "kvm") || says("type", "qemu")) {
        return None;
    }
    let survey = Element::new("qemu:del").with("capability", SURVEY);
    Some(domain.clone().with("xmlns:qemu", QEMU_NAMESPACE).child(Element::new("qemu:capabilities").child(survey)))
}

fn plug(interface: &mut Element, attachment: &Attachment) {
    let (kind, name) = match attachment {
        Attachment::Network(name) => ("network", name),
        Attachment::Bridge(name) => ("bridge", name),
    };
    interface.set_attribute("type", kind);
    interface.children.push(crate::xml::Node::Element(Element::new("source").with(kind, name)));
}

/// A name with this prefix that no disk has.
fn free_target(devices: &Element, prefix: &str) -> String {
    let taken = |target: &str| {
        devices
            .elements()
            .filter(|child| child.name == "disk")
            .any(|disk| disk.at(&["target"]).and_then(|t| t.attribute("dev")) == Some(target))
    };
    ('a'..='z').map(|letter| format!("{prefix}{letter}")).find(|target| !taken(target)).unwrap_or(format!("{prefix}zz"))
}

/// The seed, where the guest will find it: a machine whose disk is virtio can read another of that kind, but may know nothing of SATA; Debian's
/// cloud kernels, for one, have no driver for it. cloud-init takes any disk with the label.
fn seed_disk(path: &str, devices: &Element) -> Element {
    let virtio = devices
        .elements()
        .any(|child| child.name == "disk" && child.at(&["target"]).and_then(|target| target.attribute("bus")) == Some("virtio"));
    let (device, bus, prefix) = if virtio { ("disk", "virtio", "vd") } else { ("cdrom", "sata", "sd") };
    Element::new("disk")
        .with("type", "file")
        .with("device", device)
        .child(Element::new("driver").with("name", "qemu").with("type", "raw"))
        .child(Element::new("source").with("file", path))
        .child(Element::new("target").with("dev", free_target(devices, prefix)).with("bus", bus))
        .child(Element::new("readonly"))
}

/// An overlay on a base, or an empty disk that is to become a copy.
pub fn disk_volume(name: &str, capacity: u64, backing: Option<(&str, &str)>) -> Element {
    let mut volume = volume(name, capacity, "qcow2", "0600");
    if let Some((path, format)) = backing {
        volume = volume.child(Element::new("backingStore").text_child("path", path).child(Element::new("format").with("type", format)));
    }
    volume
}

/// A volume of plain bytes. `mode`: its permissions on the host.
pub fn plain_volume(name: &str, capacity: u64, mode: &str) -> Element {
    volume(name, capacity, "raw", mode)
}

fn volume(name: &str, capacity: u64, format: &str, mode: &str) -> Element {
    let permissions = Element::new("permissions").text_child("mode", mode);
    let target = Element::new("target").child(Element::new("format").with("type", format)).child(permissions);
    let mut size = Element::new("capacity").with("unit", "bytes");
    size.set_text(capacity);
    let mut allocation = Element::new("allocation").with("unit", "bytes");
    allocation.set_text(0);
    Element::new("volume").text_child("name", name).child(size).child(allocation).child(target)
}

/// What a domain's XML says that we need.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// MAC of the first interface.
    pub mac: Option<String>,
    /// Source files of all disks.
    pub disks: Vec<String>,
    /// The file of the first disk that is not a CD-ROM, and its target.
    pub main_disk: Option<(String, String)>,
    /// It has a screen.
    pub display: bool,
    /// It has a channel over which a guest's agent can be spoken with.
    pub agent_channel: bool,
    /// Bytes of memory.
    pub memory: u64,
    /// Virtual processors.
    pub vcpus: u32,
}

impl Facts {
    /// Reads them.
    pub fn of(domain: &Element) -> Facts {
        let text = |path: &[&str]| domain.at(path).map(Element::text);
        let unit = match domain.at(&["memory"]).and_then(|memory| memory.attribute("unit")).unwrap_or("KiB") {
            "b" | "bytes" => 1,
            "MiB" | "M" => 1 << 20,
            "GiB" | "G" => 1 << 30,
            _ => 1 << 10,
        };
        let devices = domain.at(&["devices"]);
        let disks = || devices.into_iter().flat_map(Element::elements).filter(|child| child.name == "disk");
        let source = |disk: &Element| disk.at(&["source"])?.attribute("file").or(disk.at(&["source"])?.attribute("dev")).map(str::to_owned);
        let main = disks().find(|disk| disk.attribute("device").unwrap_or("disk") == "disk");
        let target = |disk: &Element| disk.at(&["target"]).and_then(|target| target.attribute("dev")).unwrap_or("vda").to_owned();
        let agent = |channel: &Element| channel.at(&["target"]).and_then(|target| target.attribute("name")) == Some(AGENT_CHANNEL);
        let screen = |video: &Element| video.at(&["model"]).and_then(|model| model.attribute("type")) != Some("none");
        Facts {
            display: devices.into_iter().flat_map(Element::elements).any(|child| child.name == "video" && screen(child)),
            agent_channel: devices.into_iter().flat_map(Element::elements).any(|child| child.name == "channel" && agent(child)),
            mac: devices
                .and_then(|devices| devices.at(&["interface", "mac"]))
                .and_then(|mac| mac.attribute("address"))
                .map(str::to_ascii_lowercase),
            disks: disks().filter_map(source).collect(),
            main_disk: main.and_then(|disk| Some((source(disk)?, target(disk)))),
            memory: text(&["memory"]).and_then(|memory| memory.parse::<u64>().ok()).unwrap_or(0).saturating_mul(unit),
            vcpus: text(&["vcpu"]).and_then(|vcpus| vcpus.parse().ok()).unwrap_or(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::example;

    fn template(text: &str) -> Template {
        let text = format!("[host.a]\nuri = \"qemu:///system\"\n[template.web]\n{text}\n");
        let config = weir_config::parse(&text, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        Template::clone(&config.templates[&weir_config::TemplateName::from("web")])
    }

    fn plan<'a>(
        template: &'a Template,
        name: &'a MachineName,
        id: &'a MachineId,
        metadata: &'a Metadata,
        master: Option<&'a Element>,
    ) -> Plan<'a> {
        Plan {
            name,
            id,
            mac: "52:54:00:00:00:09",
            domain_type: "qemu",
            folder: "/pool",
            memory: 256 << 20,
            vcpus: 2,
            template,
            master,
            metadata,
        }
    }

    #[test]
    fn an_image_makes_a_new_domain() {
        let template = template("image = \"/a\"\nmemory = \"256MiB\"\nbridge = \"br0\"\nkernel = \"/k\"\nkernel_args = \"a=<b>\"");
        let (name, id, metadata) = ("web-1".parse().expect("good"), MachineId("u-1".into()), example());
        let domain = plan(&template, &name, &id, &metadata, None).domain();
        let read = Element::parse(&domain.to_string()).expect("well formed");
        let facts = Facts::of(&read);
        assert_eq!(facts.disks, ["/pool/weir-web-1.disk.img", "/pool/weir-web-1.seed.iso"]);
        assert_eq!((facts.memory, facts.vcpus, facts.mac.as_deref()), (256 << 20, 2, Some("52:54:00:00:00:09")));
        assert_eq!(Metadata::of_domain(&read), Some(metadata));
        let seed = read.at(&["devices"]).expect("it has devices").elements().filter(|child| child.name == "disk").nth(1).expect("the seed");
        assert_eq!(
            seed.at(&["target"]).map(|target| (target.attribute("dev"), target.attribute("bus"))),
            Some((Some("vdb"), Some("virtio")))
        );
        assert_eq!(read.at(&["os", "cmdline"]).map(Element::text).as_deref(), Some("a=<b>"));
        assert_eq!((facts.display, facts.agent_channel), (false, true));
        assert!(!domain.to_string().contains("graphics"), "{domain}");
        assert_eq!(read.at(&["devices", "serial", "log"]).and_then(|log| log.attribute("file")), Some("/pool/weir-web-1.console.log"));
    }

    #[test]
    fn the_survey_of_the_processor_is_left_out_unless_somebody_wants_it() {
        let quick = |text: &str| without_survey(&Element::parse(text).expect("well formed")).map(|domain| domain.to_string());
        let taken = format!("<qemu:capabilities><qemu:del capability=\"{SURVEY}\"/></qemu:capabilities></domain>");
        for ours in [
            "<domain type='kvm'><cpu mode='host-model' check='partial'/></domain>",
            &format!("<domain type='qemu' xmlns:qemu='{QEMU_NAMESPACE}'><qemu:commandline/></domain>"),
        ] {
            let text = quick(ours).expect("it is");
            assert!(text.ends_with(&taken), "{text}");
            assert_eq!(text.matches(QEMU_NAMESPACE).count(), 1, "{text}");
            assert_eq!(quick(&text), None, "once");
        }
        for theirs in [
            "<domain type='kvm'><cpu check='full'/></domain>",
            "<domain type='test'/>",
            &format!("<domain type='kvm' xmlns:q='{QEMU_NAMESPACE}'><q:capabilities/></domain>"),
        ] {
            assert_eq!(quick(theirs), None, "{theirs}");
        }
    }

    #[test]
    fn a_screen_is_there_when_it_is_asked_for() {
        let template = template("image = \"/a\"\nmemory = \"256MiB\"\nbridge = \"br0\"\ndisplay = true");
        let (name, id, metadata) = ("web-1".parse().expect("good"), MachineId("u-1".into()), example());
        let domain = plan(&template, &name, &id, &metadata, None).domain();
        assert!(Facts::of(&domain).display);
        assert_eq!(domain.at(&["devices", "graphics"]).and_then(|graphics| graphics.attribute("listen")), Some("127.0.0.1"));
    }

    #[test]
    fn a_master_gives_everything_but_itself() {
        let master = Element::parse(
            "<domain type='kvm' id='3'><name>m</name><uuid>u</uuid><title>t</title><memory unit='MiB'>1</memory><vcpu>8</vcpu>\
             <metadata><weir:machine xmlns:weir='urn:weir:machine:1' template='x' phase='ready'/><other:x xmlns:other='urn:o'/></metadata>\
             <os><type machine='pc'>hvm</type><nvram>/n</nvram></os><cpu mode='host-model'/><devices><emulator>/q</emulator>\
             <disk type='block' device='disk'><source dev='/dev/v'/><target dev='sda' bus='sata'/></disk>\
             <disk type='file' device='disk'><source file='/second'/><target dev='vdb'/></disk>\
             <disk type='file' device='cdrom'><source file='/iso'/><target dev='hda'/></disk>\
             <interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/><model type='e1000'/></interface></devices></domain>",
        )
        .expect("well formed");
        let template = template("master = \"m\"");
        let (name, id, metadata) = ("web-1".parse().expect("good"), MachineId("u-1".into()), example());
        let domain = plan(&template, &name, &id, &metadata, Some(&master)).domain();
        let facts = Facts::of(&domain);
        assert_eq!(facts.disks, ["/pool/weir-web-1.disk.img", "/pool/weir-web-1.seed.iso"]);
        assert_eq!(facts.main_disk.as_ref().map(|(_, target)| target.as_str()), Some("sda"));
        assert_eq!((facts.memory, facts.vcpus, facts.mac.as_deref()), (256 << 20, 2, Some("52:54:00:00:00:09")));
        let text = domain.to_string();
        for gone in ["<title>", "nvram", "id=\"3\"", "/second", "/iso", "52:54:00:00:00:01", "template=\"x\""] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
        for kept in
            ["<emulator>/q</emulator>", "<other:x xmlns:other=\"urn:o\"/>", "<model type=\"e1000\"/>", "network=\"default\"", "dev=\"sdb\""]
        {
            assert!(text.contains(kept), "{kept}: {text}");
        }
    }
}
