//! Debian's keepalived in a host.

use std::path::PathBuf;
use std::time::Duration;

use super::net::Lab;
use super::node::Program;

const PROGRAM: &str = "/usr/sbin/keepalived";

/// What keepalived is told.
#[derive(Clone)]
pub struct Keepalived {
    pub version: u8,
    pub v6: bool,
    pub vrid: u8,
    pub priority: u8,
    pub interval: Duration,
    pub preempt: bool,
    pub addresses: Vec<String>,
}

impl Keepalived {
    fn text(&self) -> String {
        let addresses = self.addresses.join("\n        ");
        let preempt = if self.preempt { "" } else { "nopreempt" };
        let family = if self.v6 { "native_ipv6" } else { "" };
        let interval = self.interval.as_secs_f64();
        format!(
            "global_defs {{
    vrrp_garp_master_delay 1
    vrrp_version {}
    script_user root
}}
vrrp_instance vip {{
    state BACKUP
    interface eth0
    virtual_router_id {}
    priority {}
    advert_int {interval}
    {preempt}
    {family}
    virtual_ipaddress {{
        {addresses}
    }}
}}
",
            self.version, self.vrid, self.priority
        )
    }

    fn folder(lab: &Lab, host: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(lab.space(host));
        std::fs::create_dir_all(&folder).expect("a folder for keepalived");
        folder
    }

    /// Starts it as Debian does.
    pub fn start(&self, lab: &Lab, host: &str) -> Program {
        Program::start(lab, host, PROGRAM, &self.prepared(lab, host))
    }

    /// Starts it before all other processes, for those who do not compare it with ours.
    pub fn start_in_real_time(&self, lab: &Lab, host: &str) -> Program {
        Program::in_real_time(lab, host, PROGRAM, &self.prepared(lab, host))
    }

    /// Writes its configuration; its arguments.
    fn prepared(&self, lab: &Lab, host: &str) -> Vec<String> {
        let folder = Self::folder(lab, host);
        let file = |name: &str| folder.join(name).display().to_string();
        std::fs::write(folder.join("keepalived.conf"), self.text()).expect("its configuration");
        // Left by one that was killed; with them it would not start.
        for pid in ["pid", "vrrp.pid"] {
            let _ = std::fs::remove_file(folder.join(pid));
        }
        let arguments = ["-n", "-l", "-D", "-P", "-f", &file("keepalived.conf"), "-p", &file("pid"), "-r", &file("vrrp.pid")];
        arguments.map(str::to_owned).to_vec()
    }

    /// Writes the file anew, before a SIGHUP.
    pub fn rewrite(&self, lab: &Lab, host: &str) {
        std::fs::write(Self::folder(lab, host).join("keepalived.conf"), self.text()).expect("its configuration");
    }

    /// One that runs many virtual routers of version 3 at 100 ms, each with one address.
    pub fn crowd(lab: &Lab, host: &str, count: u8) -> Program {
        let folder = Self::folder(lab, host);
        let file = |name: &str| folder.join(name).display().to_string();
        let mut text = String::from("global_defs {\n vrrp_version 3\n script_user root\n}\n");
        for vrid in 1..=count {
            text += &format!(
                "vrrp_instance r{vrid} {{\n state BACKUP\n interface eth0\n virtual_router_id {vrid}\n priority 250\n advert_int 0.1\n \
                 virtual_ipaddress {{\n 10.9.1.{vrid}/24\n }}\n}}\n"
            );
        }
        std::fs::write(folder.join("keepalived.conf"), text).expect("its configuration");
        let arguments = ["-n", "-P", "-f", &file("keepalived.conf"), "-p", &file("pid"), "-r", &file("vrrp.pid")];
        Program::start(lab, host, PROGRAM, &arguments.map(str::to_owned))
    }
}
