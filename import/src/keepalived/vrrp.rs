//! `vrrp_instance` with what it names: a virtual IP of ours.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::tree::Node;
use super::{command, seconds};
use crate::draft::{Block, Draft};
use crate::note::Notes;
use crate::text::{Names, text, time};

/// Programs whose life weir has not to watch, as it takes their place.
const REPLACED: [&str; 2] = ["haproxy", "nginx"];

/// What instances share.
pub(super) struct Instances<'a> {
    /// Our name of each.
    names: BTreeMap<&'a str, String>,
    scripts: BTreeMap<&'a str, &'a Node>,
    /// The group of each instance.
    groups: BTreeMap<&'a str, &'a str>,
    global: Option<&'a Node>,
}

impl<'a> Instances<'a> {
    pub(super) fn read(nodes: &'a [Node], notes: &mut Notes) -> Instances<'a> {
        let named = |word: &'a str| nodes.iter().filter(move |node| node.word(0) == word);
        let mut fresh = Names::default();
        let mut names = BTreeMap::new();
        for node in named("vrrp_instance") {
            names.entry(node.word(1)).or_insert_with(|| fresh.fresh(&node.word(1).to_ascii_lowercase()));
        }
        let mut groups = BTreeMap::new();
        for group in named("vrrp_sync_group") {
            for child in &group.children {
                match child.word(0) {
                    "group" => {
                        let members = child.items().flat_map(|(_, words)| words);
                        // The words live in the tree, as the items only borrow from it.
                        for member in members {
                            if let Some((name, _)) = names.get_key_value(member) {
                                groups.insert(*name, group.word(1));
                            }
                        }
                    }
                    _ => note_group(child, notes),
                }
            }
        }
        let scripts = named("vrrp_script").map(|node| (node.word(1), node)).collect();
        Instances { names, scripts, groups, global: named("global_defs").next() }
    }

    /// The first is the one whose master acts for all.
    pub(super) fn leader(&self, draft: &mut Draft) {
        let found = self.names.values().filter_map(|name| Some((draft.vip(name)?, name))).min();
        if let Some((place, name)) = found {
            draft.once("cluster", place).set("leader_vip", text(name), place);
        }
    }

    pub(super) fn convert(&self, node: &Node, draft: &mut Draft, notes: &mut Notes) {
        let Some(name) = self.names.get(node.word(1)).filter(|name| draft.vip(name).is_none()) else {
            return notes.not_converted(node.line, &node.shown(), "there is an instance of that name above");
        };
        let place = notes.place(node.line);
        let mut table = Block::table(&["vip", name], place);
        let global = |word: &str| self.global.and_then(|global| global.value(word));
        let set = |table: &mut Block, key: &str, word: &str, make: &dyn Fn(&str) -> Option<String>, notes: &mut Notes| {
            let Some(child) = node.child(word) else { return };
            match make(child.word(1)) {
                Some(value) => table.set(key, value, notes.place(child.line)),
                None => notes.not_converted(child.line, &child.shown(), "its value could not be read"),
            }
        };
        let number = |text: &str| text.parse::<u32>().ok().map(|number| number.to_string());
        let string = |value: &str| Some(text(value));
        set(&mut table, "interface", "interface", &string, notes);
        set(&mut table, "router_id", "virtual_router_id", &number, notes);
        self.addresses(node, &mut table, notes);
        let version = node.value("version").or_else(|| global("vrrp_version")).unwrap_or("2");
        let has_ipv6 = node
            .child("virtual_ipaddress")
            .is_some_and(|block| block.items().any(|(_, words)| words.first().is_some_and(|w| w.contains(':'))));
        let is_v2 = version == "2" && !has_ipv6;
        let tracks = self.tracks(node, name, notes);
        let raised: u32 = tracks.iter().map(|track| track.1).sum();
        let priority = node.value("priority").and_then(|value| value.parse::<u32>().ok()).unwrap_or(100);
        table.set(
            "priority",
            priority.saturating_add(raised).clamp(1, 255).to_string(),
            node.child("priority").map_or(place, |c| notes.place(c.line)),
        );
        let interval = node.value("advert_int").and_then(seconds).unwrap_or(Duration::from_secs(1));
        let interval_place = node.child("advert_int").map_or(place, |child| notes.place(child.line));
        table.set("advertisement_interval", time(interval), interval_place);
        if is_v2 {
            table.set("version", "2", place);
            notes.changed(
                node.line,
                &node.shown(),
                "it speaks version 2, so that the other node may still be keepalived; when both are weir, take out `version` and write \
                 advertisement_interval = \"100ms\"",
            );
        }
        if let Some(child) = node.child("nopreempt") {
            table.set("preempt", "false", notes.place(child.line));
        } else {
            set(&mut table, "preempt_delay", "preempt_delay", &|value| seconds(value).map(time), notes);
        }
        if let Some(child) = node.child("no_accept") {
            table.set("accept", "false", notes.place(child.line));
        }
        if let Some(child) = node.child("use_vmac") {
            table.set("mode", text("macvlan"), notes.place(child.line));
        }
        set(&mut table, "source", "unicast_src_ip", &string, notes);
        if let Some(child) = node.child("unicast_peer") {
            let peers: Vec<_> = child.items().filter_map(|(line, words)| Some((text(words.first()?), notes.place(line)))).collect();
            if !peers.is_empty() {
                table.set_list("peers", peers, notes.place(child.line));
            }
        }
        if let Some(group) = self.groups.get(node.word(1)) {
            table.set("sync_group", text(&Names::default().fresh(group)), place);
        }
        draft.add(table);
        self.announce(node, name, draft, notes);
        tracks.into_iter().for_each(|(block, _)| draft.add(block));
        rest(node, notes);
    }

    fn addresses(&self, node: &Node, table: &mut Block, notes: &mut Notes) {
        let mut addresses = Vec::new();
        for block in node.children.iter().filter(|child| matches!(child.word(0), "virtual_ipaddress" | "virtual_ipaddress_excluded")) {
            for (line, words) in block.items() {
                let Some(first) = words.first() else { continue };
                let address = match first.split_once('/') {
                    Some(_) => (*first).to_owned(),
                    None => format!("{first}/{}", if first.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) { 128 } else { 32 }),
                };
                addresses.push((text(&address), notes.place(line)));
                let device = words.iter().position(|word| *word == "dev").and_then(|at| words.get(at + 1));
                if let Some(device) = device.filter(|device| node.value("interface") != Some(**device)) {
                    notes.changed(
                        line,
                        &words.join(" "),
                        format!("addresses are used on the interface on which the nodes hear each other, not on {device}"),
                    );
                }
            }
        }
        table.set_list("addresses", addresses, notes.place(node.line));
    }

    /// What is watched, each with what the priority is raised by beforehand: keepalived may raise it while all is well, weir only lowers.
    fn tracks(&self, node: &Node, name: &str, notes: &mut Notes) -> Vec<(Block, u32)> {
        let mut found = Vec::new();
        for block in node.children.iter().filter(|child| matches!(child.word(0), "track_interface" | "track_script" | "track_file")) {
            for (line, words) in block.items() {
                let weight = words
                    .iter()
                    .position(|word| *word == "weight")
                    .and_then(|at| words.get(at + 1))
                    .and_then(|value| value.parse::<i32>().ok());
                let Some(subject) = words.first() else { continue };
                let place = notes.place(line);
                let mut track = Block::in_list(&["vip", name, "track"], place).goes_with(3);
                let weight = match block.word(0) {
                    "track_interface" => {
                        track.set("interface", text(subject), place);
                        weight
                    }
                    "track_script" => match self.script(subject, line, &mut track, notes) {
                        Some(own) => weight.or(own),
                        None => continue,
                    },
                    _ => {
                        notes.not_converted(line, &words.join(" "), "write the path of the file as `file` under [[vip.NAME.track]]");
                        continue;
                    }
                };
                let weight = weight.unwrap_or(0).clamp(-253, 253);
                if weight != 0 {
                    track.set("lower", weight.unsigned_abs().to_string(), place);
                }
                if weight > 0 {
                    notes.changed(line, &words.join(" "), "the priority is higher by its weight, and lower by it while this is not well");
                }
                found.push((track, weight.max(0).unsigned_abs()));
            }
        }
        found
    }

    /// Writes the command of a script; `None`: it is not watched. Its own weight, if it has one.
    fn script(&self, name: &str, line: usize, track: &mut Block, notes: &mut Notes) -> Option<Option<i32>> {
        let Some(script) = self.scripts.get(name) else {
            notes.not_converted(line, name, "there is no vrrp_script of that name");
            return None;
        };
        let program = script.child("script").map(|child| child.words[1..].join(" ")).unwrap_or_default();
        let is_about = |other: &&&str| {
            program.contains(**other) && ["killall", "pidof", "pgrep", "systemctl", "service"].iter().any(|word| program.contains(word))
        };
        if let Some(other) = REPLACED.iter().find(is_about) {
            notes.not_needed(
                script.line,
                &script.shown(),
                format!("weir takes the place of {other}, and gives its addresses up by itself when it cannot serve"),
            );
            return None;
        }
        let place = notes.place(script.line);
        let words = command(&program);
        if words.is_empty() {
            notes.not_converted(script.line, &script.shown(), "it names no program");
            return None;
        }
        track.set("command", format!("[{}]", words.iter().map(|word| text(word)).collect::<Vec<_>>().join(", ")), place);
        let interval = script.value("interval").and_then(seconds).unwrap_or(Duration::from_secs(1));
        track.set("interval", time(interval), place);
        let timeout = script.value("timeout").and_then(seconds).unwrap_or(interval);
        track.set("timeout", time(timeout.min(interval)), place);
        for key in ["rise", "fall"] {
            if let Some(number) = script.value(key).and_then(|value| value.parse::<u32>().ok()) {
                track.set(key, number.to_string(), place);
            }
        }
        if let Some(user) = script.child("user") {
            notes.not_converted(user.line, &user.shown(), "programs run as weir does; write setpriv or sudo into the command");
        }
        Some(script.value("weight").and_then(|value| value.parse().ok()))
    }

    fn announce(&self, node: &Node, name: &str, draft: &mut Draft, notes: &mut Notes) {
        let mut table = Block::table(&["vip", name, "announce"], notes.place(node.line));
        let found = |own: &str, of_all: &str| node.child(own).or_else(|| self.global.and_then(|global| global.child(of_all)));
        if let Some(child) = found("garp_master_repeat", "vrrp_garp_master_repeat") {
            table.set("count", child.word(1).to_owned(), notes.place(child.line));
        }
        let times = [
            ("interval", "garp_interval", "vrrp_garp_interval"),
            ("repeat", "garp_master_delay", "vrrp_garp_master_delay"),
            ("refresh", "garp_master_refresh", "vrrp_garp_master_refresh"),
        ];
        for (key, own, of_all) in times {
            if let Some(child) = found(own, of_all)
                && let Some(value) = seconds(child.word(1))
            {
                table.set(key, time(value), notes.place(child.line));
            }
        }
        draft.add_unless_empty(table);
    }
}

fn note_group(child: &Node, notes: &mut Notes) {
    notes.not_converted(child.line, &child.shown(), "write `notify` under each [vip.NAME] of the group");
}

/// What of an instance has no place of its own.
fn rest(node: &Node, notes: &mut Notes) {
    for child in &node.children {
        let why = match child.word(0) {
            "interface"
            | "virtual_router_id"
            | "priority"
            | "advert_int"
            | "virtual_ipaddress"
            | "virtual_ipaddress_excluded"
            | "version"
            | "nopreempt"
            | "preempt_delay"
            | "no_accept"
            | "use_vmac"
            | "unicast_src_ip"
            | "unicast_peer"
            | "track_interface"
            | "track_script"
            | "track_file"
            | "garp_master_repeat"
            | "garp_interval"
            | "garp_master_delay"
            | "garp_master_refresh"
            | "accept"
            | "preempt" => continue,
            "state" => {
                notes.not_needed(child.line, &child.shown(), "the election decides, by the priority");
                continue;
            }
            "dont_track_primary"
            | "vmac_xmit_base"
            | "check_unicast_src"
            | "native_ipv6"
            | "skip_check_adv_addr"
            | "strict_mode"
            | "debug"
            | "linkbeat_use_polling"
            | "garp_lower_prio_delay"
            | "garp_lower_prio_repeat"
            | "lower_prio_no_advert"
            | "higher_prio_send_advert" => {
                notes.not_needed(child.line, &child.shown(), "weir does without");
                continue;
            }
            "authentication" => {
                "a password in clear protects nothing (RFC 3768 took it out); take it out of the other node too, and write [vip.NAME.auth] when \
                 both are weir"
            }
            "notify" | "notify_master" | "notify_backup" | "notify_fault" | "notify_stop" | "notify_deleted" => {
                "write one program as `notify` that looks at WEIR_STATE in its environment"
            }
            "smtp_alert" => "moves of a virtual IP are events; write [notify.NAME.email]",
            "virtual_routes" | "virtual_rules" => "write a program as `notify` that sets routes",
            "track_process" | "track_bfd" => "write a command under [[vip.NAME.track]]",
            "mcast_src_ip" => "write it as `source`",
            _ => "weir knows nothing like it",
        };
        notes.not_converted(child.line, &child.shown(), why);
    }
}
