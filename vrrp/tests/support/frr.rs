//! FRR's zebra and vrrpd in a host. Its routers hold their addresses on a macvlan that somebody else has to make.

use std::path::PathBuf;
use std::time::Duration;

use super::net::{Lab, run, until};
use super::node::Program;

/// What FRR is told.
#[derive(Clone)]
pub struct Frr {
    pub version: u8,
    pub v6: bool,
    pub vrid: u8,
    pub priority: u8,
    pub interval: Duration,
    pub preempt: bool,
    pub addresses: Vec<String>,
}

impl Frr {
    fn folder(lab: &Lab, host: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(lab.space(host));
        std::fs::create_dir_all(&folder).expect("a folder for FRR");
        folder
    }

    fn text(&self) -> String {
        let Frr { version, vrid, priority, .. } = self;
        let family = if self.v6 { "ipv6" } else { "ip" };
        let mut lines = vec![format!("vrrp {vrid} version {version}"), format!("vrrp {vrid} priority {priority}")];
        lines.push(format!("vrrp {vrid} advertisement-interval {}", self.interval.as_millis()));
        if !self.preempt {
            lines.push(format!("no vrrp {vrid} preempt"));
        }
        let bare = self.addresses.iter().filter_map(|address| address.split('/').next());
        lines.extend(bare.map(|address| format!("vrrp {vrid} {family} {address}")));
        format!("interface eth0\n {}\n", lines.join("\n "))
    }

    /// The device that its addresses are on, unless it is there from an earlier start.
    fn make_device(&self, lab: &Lab, host: &str) {
        let (space, kind) = (lab.space(host), if self.v6 { 6 } else { 4 });
        let device = format!("vrrp{kind}-2-{}", self.vrid);
        if run(&format!("ip -n {space} -o link")).contains(&device) {
            return;
        }
        run(&format!("ip -n {space} link add name {device} link eth0 type macvlan mode bridge"));
        run(&format!("ip -n {space} link set dev {device} address 00:00:5e:00:{:02x}:{:02x}", if self.v6 { 2 } else { 1 }, self.vrid));
        run(&format!("ip -n {space} link set dev {device} addrgenmode none"));
        if self.v6 {
            // It sends from the first link-local address of this device: the interface's own, so that equal ranks are told apart by it.
            let own = run(&format!("ip -n {space} -6 -o addr show dev eth0 scope link"));
            let own = own.split_whitespace().find(|word| word.starts_with("fe80:")).expect("every host has one");
            run(&format!("ip -n {space} addr add {own} dev {device} nodad"));
        }
        for address in &self.addresses {
            let nodad = if self.v6 { " nodad" } else { "" };
            run(&format!("ip -n {space} addr add {address} dev {device}{nodad}"));
        }
        run(&format!("ip -n {space} link set dev {device} up"));
    }

    fn daemon(lab: &Lab, host: &str, name: &str) -> Program {
        let folder = Self::folder(lab, host);
        let file = |name: &str| folder.join(name).display().to_string();
        let arguments = ["-f", &file(&format!("{name}.conf")), "-i", &file(&format!("{name}.pid")), "-z", &file("zserv")];
        let arguments = arguments.into_iter().map(str::to_owned).chain(["--vty_socket".to_owned(), folder.display().to_string()]);
        let arguments: Vec<String> = arguments.chain(["-A".to_owned(), "127.0.0.1".to_owned()]).collect();
        Program::in_real_time(lab, host, &format!("/usr/lib/frr/{name}"), &arguments)
    }

    /// Starts zebra, which all starts of vrrpd in this host share.
    pub fn zebra(lab: &Lab, host: &str) -> Program {
        let folder = Self::folder(lab, host);
        std::fs::write(folder.join("zebra.conf"), "").expect("its configuration");
        run(&format!("chown -R frr:frr {}", folder.display()));
        let zebra = Self::daemon(lab, host, "zebra");
        until("zebra listens", Duration::from_secs(10), || folder.join("zserv").exists());
        zebra
    }

    /// Starts vrrpd beside zebra.
    pub fn start(&self, lab: &Lab, host: &str) -> Program {
        self.make_device(lab, host);
        let folder = Self::folder(lab, host);
        std::fs::write(folder.join("vrrpd.conf"), self.text()).expect("its configuration");
        // Left by one that was killed; with it it would not start.
        let _ = std::fs::remove_file(folder.join("vrrpd.pid"));
        let _ = std::fs::remove_file(folder.join("vrrpd.vty"));
        run(&format!("chown -R frr:frr {}", folder.display()));
        Self::daemon(lab, host, "vrrpd")
    }
}
