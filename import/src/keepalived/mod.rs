//! `keepalived.conf`: VRRP instances become virtual IPs, virtual servers become listeners with a pool.
//!
//! - `tree`: the text. `vrrp`: `vrrp_instance`, scripts and groups. `server`: `virtual_server`.

mod server;
mod tree;
mod vrrp;

use std::time::Duration;

use crate::draft::Draft;
use crate::note::Notes;
use tree::Node;

/// Adds what the file says to the draft.
pub(crate) fn convert(text: &str, draft: &mut Draft, notes: &mut Notes) {
    let nodes = tree::parse(text, notes);
    let instances = vrrp::Instances::read(&nodes, notes);
    for node in &nodes {
        match node.word(0) {
            "vrrp_instance" => instances.convert(node, draft, notes),
            "virtual_server" => server::convert(node, &nodes, draft, notes),
            "global_defs" => global(node, draft, notes),
            // Looked at by those that name them.
            "vrrp_script" | "vrrp_sync_group" | "virtual_server_group" => {}
            "static_ipaddress" | "static_routes" | "static_rules" => {
                notes.not_converted(
                    node.line,
                    &node.shown(),
                    "addresses and routes that stay belong to the system's network configuration",
                );
            }
            "vrrp_track_process" => notes.not_converted(node.line, &node.shown(), "write a command under [[vip.NAME.track]]"),
            "bfd_instance" => {
                notes.not_converted(node.line, &node.shown(), "weir's virtual IPs hear each other every few milliseconds instead")
            }
            "include" => notes.not_converted(node.line, &node.shown(), "other files are not read; put them into one"),
            _ => notes.not_converted(node.line, &node.shown(), "weir knows nothing like it"),
        }
    }
    instances.leader(draft);
}

fn global(node: &Node, draft: &mut Draft, notes: &mut Notes) {
    for child in &node.children {
        let place = notes.place(child.line);
        let (needed, why) = match child.word(0) {
            "router_id" => {
                draft.once("node", place).set("name", crate::text::text(child.word(1)), place);
                continue;
            }
            "notification_email" | "notification_email_from" | "smtp_server" | "smtp_connect_timeout" | "smtp_alert" => {
                (true, "write [notify.NAME.email]; moves of a virtual IP are events")
            }
            "vrrp_version" | "vrrp_garp_master_delay" | "vrrp_garp_master_repeat" | "vrrp_garp_master_refresh" | "vrrp_garp_interval" => {
                continue;
            }
            "lvs_sync_daemon" | "lvs_flush" | "lvs_timeouts" => (true, "connections of a node are its own"),
            "vrrp_strict" => (false, "weir keeps to the RFC"),
            "script_user" | "enable_script_security" | "vrrp_skip_check_adv_addr" | "process_names" | "dynamic_interfaces" => {
                (false, "weir runs programs as itself, without a shell")
            }
            word if word.starts_with("vrrp_") && word.contains("priority") => (false, "the thread of the election has real-time priority"),
            "max_auto_priority" | "use_pid_dir" | "nftables" | "vrrp_iptables" | "vrrp_ipsets" | "linkbeat_use_polling" => {
                (false, "weir does without")
            }
            _ => (true, "weir knows nothing like it"),
        };
        if needed { notes.not_converted(child.line, &child.shown(), why) } else { notes.not_needed(child.line, &child.shown(), why) }
    }
}

/// Seconds, whole or with a fraction.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    (seconds.is_finite() && (0.0..=4e9).contains(&seconds)).then(|| Duration::from_millis((seconds * 1000.0).round() as u64))
}

/// A command of the file, as a program and its arguments.
fn command(text: &str) -> Vec<String> {
    let needs_shell = text.contains(['|', '&', ';', '<', '>', '(', ')', '$', '`', '*', '?', '"', '\'', '~']);
    if needs_shell {
        return ["/bin/sh", "-c", text].map(str::to_owned).into();
    }
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(seconds("1"), Some(Duration::from_secs(1)));
        assert_eq!(seconds("0.25"), Some(Duration::from_millis(250)));
        assert_eq!((seconds("-1"), seconds("nan"), seconds("x")), (None, None, None));
        assert_eq!(command("/usr/bin/check -q"), ["/usr/bin/check", "-q"]);
        assert_eq!(command("pidof a && true"), ["/bin/sh", "-c", "pidof a && true"]);
    }
}
