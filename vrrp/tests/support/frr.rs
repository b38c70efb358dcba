//! FRR's zebra and vrrpd in a host. Its backups hold their addresses on a macvlan that somebody else has to make.

use super::net::{Lab, run, until};
use super::node::Program;
use std::time::Duration;

/// Its two daemons.
pub struct Frr {
    pub vrrpd: Program,
    _zebra: Program,
}

impl Frr {
    /// Version 3 over IPv4 at 100 ms, with 10.9.0.100; `number` is the host's.
    pub fn start(lab: &Lab, host: &str, vrid: u8, priority: u8) -> Frr {
        let space = lab.space(host);
        let device = format!("vrrp4-2-{vrid}");
        run(&format!("ip -n {space} link add name {device} link eth0 type macvlan mode bridge"));
        run(&format!("ip -n {space} link set dev {device} address 00:00:5e:00:01:{vrid:02x}"));
        run(&format!("ip -n {space} link set dev {device} addrgenmode random"));
        run(&format!("ip -n {space} addr add 10.9.0.100/24 dev {device}"));
        run(&format!("ip -n {space} link set dev {device} up"));
        let folder = std::env::temp_dir().join(&space);
        std::fs::create_dir_all(&folder).expect("a folder for FRR");
        let file = |name: &str| folder.join(name).display().to_string();
        std::fs::write(folder.join("zebra.conf"), "").expect("its configuration");
        let text = format!(
            "interface eth0\n vrrp {vrid} version 3\n vrrp {vrid} priority {priority}\n vrrp {vrid} advertisement-interval 100\n vrrp {vrid} ip 10.9.0.100\n"
        );
        std::fs::write(folder.join("vrrpd.conf"), text).expect("its configuration");
        run(&format!("chown -R frr:frr {}", folder.display()));
        let start = |daemon: &str| {
            let arguments = ["-f", &file(&format!("{daemon}.conf")), "-i", &file(&format!("{daemon}.pid")), "-z", &file("zserv")];
            let arguments = arguments.into_iter().map(str::to_owned).chain(["--vty_socket".to_owned(), folder.display().to_string()]);
            let arguments: Vec<String> = arguments.chain(["-A".to_owned(), "127.0.0.1".to_owned()]).collect();
            Program::start(lab, host, format!("/usr/lib/frr/{daemon}"), &arguments)
        };
        let zebra = start("zebra");
        until("zebra listens", Duration::from_secs(10), || folder.join("zserv").exists());
        Frr { vrrpd: start("vrrpd"), _zebra: zebra }
    }
}
