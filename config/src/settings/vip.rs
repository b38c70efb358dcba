//! `[cluster]` and `[vip.NAME]` in words.

use super::{NONE, Setting, or_none_time};
use crate::model::{Cluster, TrackSubject, Vip, VipAnnounce, VipAuth, VipPeer, VipTrack};
use crate::units::format_duration;

pub(crate) fn of_cluster(cluster: &Cluster) -> Vec<Setting> {
    let Cluster { leader_vip } = cluster;
    vec![("leader_vip", leader_vip.to_string())]
}

pub(crate) fn of_vip(vip: &Vip) -> Vec<Setting> {
    let Vip {
        name: _,
        interface,
        router_id,
        addresses,
        priority,
        advertisement_interval,
        version,
        preempt,
        preempt_delay,
        startup_delay,
        accept,
        mode,
        source,
        peers,
        checksum,
        sync_group,
        notify,
        auth,
        announce,
        tracks,
    } = vip;
    let VipAnnounce { count, interval, repeat, refresh } = announce;
    let mut settings = vec![
        ("interface", interface.clone()),
        ("router_id", router_id.to_string()),
        ("addresses", list(addresses.iter().map(ToString::to_string))),
        ("priority", priority.to_string()),
        ("advertisement_interval", format_duration(*advertisement_interval)),
        ("version", version.number().to_string()),
        ("preempt", preempt.to_string()),
        ("preempt_delay", format_duration(*preempt_delay)),
        ("startup_delay", format_duration(*startup_delay)),
        ("accept", accept.to_string()),
        ("mode", mode.word().into()),
        ("source", source.map_or("the interface's".into(), |source| source.to_string())),
        ("peers", if peers.is_empty() { "multicast".into() } else { list(peers.iter().map(peer)) }),
        ("checksum", checksum.word().into()),
        ("sync_group", sync_group.clone().unwrap_or(NONE.into())),
        ("notify", if notify.is_empty() { NONE.into() } else { format!("{notify:?}") }),
        ("announce.count", count.to_string()),
        ("announce.interval", format_duration(*interval)),
        ("announce.repeat", or_none_time(*repeat)),
        ("announce.refresh", or_none_time(*refresh)),
        ("track", if tracks.is_empty() { NONE.into() } else { list(tracks.iter().map(track)) }),
    ];
    if let Some(VipAuth { key_file, replay_window }) = auth {
        settings.push(("auth.key_file", key_file.display().to_string()));
        settings.push(("auth.replay_window", format_duration(*replay_window)));
    }
    settings
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

fn peer(peer: &VipPeer) -> String {
    let VipPeer { address, ttl_min } = peer;
    if *ttl_min == 255 { address.to_string() } else { format!("{address} (ttl from {ttl_min})") }
}

fn track(track: &VipTrack) -> String {
    let VipTrack { subject, lower } = track;
    let subject = match subject {
        TrackSubject::Command { command, interval, timeout, rise, fall } => {
            let (interval, timeout) = (format_duration(*interval), format_duration(*timeout));
            format!("{} ({command:?} every {interval}, timeout {timeout}, rise {rise}, fall {fall})", subject.word())
        }
        TrackSubject::Interface(name) => format!("{} {name}", subject.word()),
        TrackSubject::Listener(name) => format!("{} {name}", subject.word()),
        TrackSubject::Pool(name) => format!("{} {name}", subject.word()),
        TrackSubject::File(path) => format!("{} {}", subject.word(), path.display()),
    };
    lower.map_or(subject.clone(), |lower| format!("{subject} lowers by {lower}"))
}
