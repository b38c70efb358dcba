//! Virtual IPs for people.

use super::{Screen, add, finish, paint, single_line, table, time};
use crate::api::model::{VipView, VirtualRouterView};

/// All of them, a line for each virtual router.
pub(crate) fn vips(vips: &[VipView], screen: Screen) -> String {
    if vips.is_empty() {
        return "no virtual IPs\n".into();
    }
    let mut table = table(&["VIP", "FAMILY", "STATE", ">PRIORITY", "MASTER", "SINCE", "WHY"], screen);
    for vip in vips {
        if vip.routers.is_empty() {
            add(&mut table, [vip.name.clone(), "-".into(), "off".into(), "-".into(), "-".into(), "-".into(), "the events say why".into()]);
        }
        for router in &vip.routers {
            add(
                &mut table,
                [
                    vip.name.clone(),
                    router.family.clone(),
                    router.state.clone(),
                    priority(router),
                    who(router),
                    time(router.since),
                    single_line(&router.why),
                ],
            );
        }
    }
    finish(&table, screen)
}

/// One, with everything about it.
pub(crate) fn vip(vip: &VipView, screen: Screen) -> String {
    let leader = if vip.leader { ", its master acts for all nodes" } else { "" };
    let mut text = format!("{}: {} on {}, router id {}{leader}\n", vip.name, vip.addresses.join(" "), vip.interface, vip.router_id);
    for router in &vip.routers {
        text.push_str(&format!("\n{}: {} since {}\n  {}\n", router.family, router.state, time(router.since), single_line(&router.why)));
        text.push_str(&format!("  priority {}, master: {}\n", priority(router), who(router)));
        if !router.eligible {
            text.push_str(&format!("  not eligible: {}\n", single_line(&router.ineligible_because)));
        }
        text.push_str(&format!(
            "  advertises every {} ms as master, takes a silent master for dead after {:.1} ms\n",
            router.advertisement_interval_ms, router.master_down_interval_ms
        ));
        text.push_str(&format!("  addresses on: {} ({})\n", router.mode, single_line(&router.mode_because)));
        for peer in &router.peers {
            let eligible = if peer.eligible { "eligible" } else { "not eligible" };
            text.push_str(&format!("  peer {}: priority {}, {eligible}, heard {:.0} ms ago", peer.address, peer.priority, peer.heard_ms));
            match (&peer.shared_sum, peer.differs_since) {
                (Some(sum), Some(since)) => text.push_str(&format!(", serves by another file ({sum}) since {}", time(since))),
                (Some(_), None) => text.push_str(", serves by the same file"),
                (None, _) => {}
            }
            text.push('\n');
        }
        for (reason, count) in &router.discarded {
            text.push_str(&format!("  discarded {count} packets: {reason}\n"));
        }
        for change in &router.transitions {
            text.push_str(&format!("  {} {} -> {}: {}\n", time(change.at), change.from, change.to, single_line(&change.why)));
        }
    }
    paint(text, screen)
}

fn priority(router: &VirtualRouterView) -> String {
    if router.priority == router.priority_configured {
        router.priority.to_string()
    } else {
        format!("{} of {}", router.priority, router.priority_configured)
    }
}

fn who(router: &VirtualRouterView) -> String {
    match &router.heard_master {
        _ if router.state == "master" => "this node".into(),
        Some(master) => format!("{} ({})", master.address, master.priority),
        None => "unknown".into(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::api::model::{MasterView, TransitionView, VipPeerView};

    /// A backup with something in each place.
    pub(crate) fn sample() -> VipView {
        VipView {
            name: "public".into(),
            interface: "eth0".into(),
            router_id: 51,
            master: false,
            leader: true,
            addresses: vec!["10.0.0.100/24".into()],
            routers: vec![VirtualRouterView {
                family: "ipv4".into(),
                state: "backup".into(),
                since: 1_700_000_000.0,
                why: "10.0.0.2 is master with priority 250".into(),
                eligible: false,
                ineligible_because: "interface eth1 is down".into(),
                priority: 225,
                priority_configured: 245,
                mode: "tun".into(),
                mode_because: "eth0 answers for it".into(),
                held: Vec::new(),
                primary_address: Some("10.0.0.3".into()),
                advertisement_interval_ms: 100.0,
                master_down_interval_ms: 312.1,
                skew_time_ms: 12.1,
                heard_master: Some(MasterView {
                    address: "10.0.0.2".into(),
                    priority: 250,
                    advertisement_interval_ms: 100.0,
                    heard_ms: 40.0,
                    since: 1_700_000_000.0,
                    is_weir: true,
                }),
                shared_sum: Some("0a1b2c".into()),
                peers: vec![VipPeerView {
                    address: "10.0.0.2".into(),
                    priority: 250,
                    eligible: true,
                    healthy_endpoints: None,
                    heard_ms: 40.0,
                    shared_sum: Some("ffee01".into()),
                    differs_since: Some(1_700_000_000.0),
                }],
                transitions: vec![TransitionView {
                    at: 1_700_000_000.0,
                    from: "initialize".into(),
                    to: "backup".into(),
                    why: "started".into(),
                }],
                counters: [("advertisement-rcvd".to_string(), 7)].into(),
                discarded: [("ttl".to_string(), 2)].into(),
            }],
        }
    }

    #[test]
    fn a_table_and_all_about_one() {
        let screen = Screen { width: None, color: false };
        let table = vips(&[sample()], screen);
        assert!(table.contains("225 of 245") && table.contains("10.0.0.2 (250)"), "{table}");
        assert_eq!(vips(&[], screen), "no virtual IPs\n");
        let off = vips(&[VipView { routers: Vec::new(), ..sample() }], screen);
        assert!(off.contains("off"), "{off}");
        let text = vip(&sample(), screen);
        for part in [
            "router id 51, its master acts for all",
            "not eligible: interface eth1 is down",
            "discarded 2 packets: ttl",
            "initialize -> backup: started",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    }
}
