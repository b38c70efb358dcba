//! `[cluster]` and `[vip.NAME]`

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

use crate::model::{
    Cluster, ListenerName, PoolName, TrackSubject, Vip, VipAddress, VipAnnounce, VipAuth, VipChecksum, VipMode, VipName, VipPeer, VipTrack,
    VrrpVersion,
};
use crate::names::check_label;
use crate::parse::node::absolute_path;
use crate::reader::{Field, Named, Placed, Table};

/// The longest name of an interface, `IFNAMSIZ` without its zero.
const INTERFACE_CHARS_MAX: usize = 15;

/// The keys of a track of which one says what is watched.
const SUBJECTS: [&str; 5] = ["interface", "listener", "pool", "file", "command"];

/// `[cluster]` with its place.
pub(crate) fn cluster(table: &Table<'_>) -> Option<Placed<Cluster>> {
    let leader_vip = VipName::from(table.field("leader_vip")?.text()?);
    Some(table.placed("leader_vip", Cluster { leader_vip }))
}

/// A virtual IP with what is checked against other tables.
#[derive(Debug)]
pub(crate) struct ParsedVip {
    /// The name of the table.
    pub(crate) name: VipName,
    /// `None` if something it cannot be without was wrong.
    pub(crate) vip: Option<Vip>,
    /// Its addresses with their places.
    pub(crate) addresses: Vec<Placed<VipAddress>>,
    /// Its VRID with its place.
    pub(crate) router_id: Option<Placed<NonZeroU8>>,
    /// Each mention of a listener with its place.
    pub(crate) listeners: Vec<Placed<ListenerName>>,
    /// Each mention of a pool with its place.
    pub(crate) pools: Vec<Placed<PoolName>>,
}

pub(super) fn vip(named: &Named<'_>) -> ParsedVip {
    let table = &named.table;
    let interface = interface(table);
    let router_id = table.count("router_id").and_then(|id| u8::try_from(id).ok()).and_then(NonZeroU8::new);
    let addresses = addresses(table);
    let priority = table.count("priority").and_then(|priority| u8::try_from(priority).ok()).and_then(NonZeroU8::new);
    let version = if table.count("version") == Some(2) { VrrpVersion::V2 } else { VrrpVersion::V3 };
    let families = addresses.iter().map(|address| address.value.ip.is_ipv4()).collect::<Vec<_>>();
    check_version(table, version, &addresses);
    let preempt = table.flag("preempt").unwrap_or(true);
    if !preempt && priority == Some(Vip::OWNER) {
        let problem = table.problem("preempt", "the owner of the addresses always preempts (RFC 9568 section 6.1)");
        table.report(problem.note(table.span_of("priority"), "255 is the owner").help("remove one of them").needs_whole_file());
    }
    if !preempt {
        table.refuse(&["preempt_delay"], "with preempt = false, which takes over from no live master");
    }
    let tracks = table.field("track").map(|field| field.tables()).unwrap_or_default();
    let tracks: Vec<ParsedTrack> = tracks.iter().filter_map(track).collect();
    let (mut listeners, mut pools) = (Vec::new(), Vec::new());
    for ParsedTrack { track, place: Placed { span, path, .. } } in &tracks {
        match &track.subject {
            TrackSubject::Listener(name) => listeners.push(Placed { value: name.clone(), span: span.clone(), path: path.clone() }),
            TrackSubject::Pool(name) => pools.push(Placed { value: name.clone(), span: span.clone(), path: path.clone() }),
            _ => {}
        }
    }
    let peers = peers(table, &families);
    let source = source(table, &families);
    let name = VipName::from(named.name);
    let is_whole = interface.is_some() && router_id.is_some() && !addresses.is_empty();
    let vip = Vip {
        name: name.clone(),
        interface: interface.unwrap_or_default(),
        router_id: router_id.unwrap_or(NonZeroU8::MIN),
        addresses: addresses.iter().map(|address| address.value).collect(),
        priority: priority.unwrap_or(NonZeroU8::MIN),
        advertisement_interval: table.time("advertisement_interval").unwrap_or(Duration::from_millis(100)),
        version,
        preempt,
        preempt_delay: table.time("preempt_delay").unwrap_or(Duration::ZERO),
        startup_delay: table.time("startup_delay").unwrap_or(Duration::ZERO),
        accept: table.flag("accept").unwrap_or(true),
        mode: match table.choice("mode") {
            Some("tun") => VipMode::Tun,
            Some("macvlan") => VipMode::Macvlan,
            Some("interface") => VipMode::Interface,
            _ => VipMode::Auto,
        },
        source,
        peers,
        checksum: if table.choice("checksum") == Some("rfc9568") { VipChecksum::Rfc9568 } else { VipChecksum::PseudoHeader },
        sync_group: sync_group(table),
        notify: command(table, "notify").unwrap_or_default(),
        auth: table.table("auth").and_then(|table| auth(&table)),
        announce: announce(&table.table_or_empty("announce")),
        tracks: tracks.into_iter().map(|parsed| parsed.track).collect(),
    };
    let router_id = router_id.map(|id| table.placed("router_id", id));
    ParsedVip { name, vip: is_whole.then_some(vip), addresses, router_id, listeners, pools }
}

fn interface(table: &Table<'_>) -> Option<String> {
    let field = table.field("interface")?;
    field.checked(parse_interface(field.text()?))
}

/// What the kernel accepts as the name of a device.
fn parse_interface(text: &str) -> Result<String, String> {
    let odd = |c: char| c.is_whitespace() || matches!(c, '/' | '\0' | ':');
    match text {
        "" | "." | ".." => Err(format!("{text:?} is not the name of an interface; for example \"eth0\"")),
        _ if text.len() > INTERFACE_CHARS_MAX => {
            Err(format!("{text:?} is longer than {INTERFACE_CHARS_MAX} bytes, so no interface has that name"))
        }
        _ if text.contains(odd) => Err(format!("{text:?} is not the name of an interface; for example \"eth0\"")),
        _ => Ok(text.into()),
    }
}

fn addresses(table: &Table<'_>) -> Vec<Placed<VipAddress>> {
    let Some(field) = table.field("addresses") else { return Vec::new() };
    let items = field.items().unwrap_or_default();
    if items.is_empty() && field.items().is_some() {
        field.report(field.problem("`addresses` is an empty list").help("for example `addresses = [\"10.0.0.100/24\"]`"));
    }
    if items.len() > Vip::ADDRESSES_MAX {
        let most = Vip::ADDRESSES_MAX;
        field.report(field.problem(format!("{} addresses are too many for one virtual IP, {most} are possible", items.len())));
    }
    let read = |item: &Field<'_>| {
        let address = item.checked(parse_vip_address(item.text()?))?;
        Some(item.placed(address))
    };
    items.iter().filter_map(read).collect()
}

/// An address with its prefix length, such as `10.0.0.100/24`.
fn parse_vip_address(text: &str) -> Result<VipAddress, String> {
    let Some((ip, prefix)) = text.split_once('/') else {
        return Err(format!("{text:?} has no prefix length; write it as the interface's network has it, such as \"{text}/24\""));
    };
    let ip: IpAddr = ip.parse().map_err(|_| format!("{ip:?} is not an IP address; for example \"10.0.0.100/24\""))?;
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.parse::<u8>().ok().filter(|prefix| (1..=longest).contains(prefix));
    let Some(prefix) = prefix else { return Err(format!("the prefix length of {text:?} must be a number from 1 to {longest}")) };
    let useless = ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    if useless || matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some()) {
        return Err(format!("{ip} cannot be moved between nodes"));
    }
    Ok(VipAddress { ip, prefix })
}

/// RFC 3768 knows IPv4 and whole seconds.
fn check_version(table: &Table<'_>, version: VrrpVersion, addresses: &[Placed<VipAddress>]) {
    let interval = table.time("advertisement_interval").unwrap_or(Duration::from_millis(100));
    let refuse = |name: &str, why: &str, help: &str| {
        table.report(table.problem(name, why).note(table.span_of("version"), "the version").help(help).needs_whole_file());
    };
    match version {
        VrrpVersion::V2 => {
            if interval.subsec_millis() != 0 {
                refuse(
                    "advertisement_interval",
                    "version 2 counts whole seconds",
                    "write `advertisement_interval = \"1s\"`, or use version 3 on all nodes",
                );
            }
            if let Some(six) = addresses.iter().find(|address| address.value.ip.is_ipv6()) {
                let problem = crate::error::Problem::new(six.span.clone(), &six.path, "version 2 has no IPv6");
                table.report(problem.note(table.span_of("version"), "the version").help("use version 3").needs_whole_file());
            }
            table.refuse(&["checksum"], "in version 2, which has one way to sum");
            table.refuse(&["auth"], "in version 2, whose neighbours know no signatures");
        }
        VrrpVersion::V3 if !(interval.as_millis()).is_multiple_of(10) => {
            table.report(
                table
                    .problem("advertisement_interval", "an advertisement counts whole hundredths of a second (RFC 9568 section 5.2.7)")
                    .help("for example \"10ms\" or \"100ms\""),
            );
        }
        VrrpVersion::V3 => {}
    }
}

/// The peers; each must speak a family that there is an address of.
fn peers(table: &Table<'_>, families: &[bool]) -> Vec<VipPeer> {
    let Some(field) = table.field("peers") else { return Vec::new() };
    let Some(items) = field.items() else { return Vec::new() };
    if items.is_empty() {
        field.report(field.problem("`peers` is an empty list").help("remove it to use multicast"));
    }
    let mut seen: BTreeMap<IpAddr, std::ops::Range<usize>> = BTreeMap::new();
    let mut peers = Vec::new();
    for item in &items {
        let (text, ttl_min, at) = match (item.as_text(), item.as_table()) {
            (Some(text), _) => (Some(text), Some(255), item.clone()),
            (None, Some(peer)) => {
                let ttl_min = peer.count("ttl_min");
                let Some(at) = peer.field("address") else { continue };
                (at.text(), ttl_min, at)
            }
            (None, None) => {
                item.wrong_type::<()>("addresses as strings, or tables such as { address = \"10.1.0.3\", ttl_min = 254 }");
                continue;
            }
        };
        let Some(address) = text.and_then(|text| at.checked(parse_node_address(text))) else { continue };
        if let Some(first) = seen.get(&address) {
            at.report(at.problem(format!("peer {address} is here twice")).note(first.clone(), "it is here first"));
            continue;
        }
        if !families.is_empty() && !families.contains(&address.is_ipv4()) {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            at.report(
                at.problem(format!("there is no {family} address to tell {address} about")).help("remove the peer").needs_whole_file(),
            );
        }
        seen.insert(address, at.span());
        peers.extend(ttl_min.and_then(|ttl| u8::try_from(ttl).ok()).map(|ttl_min| VipPeer { address, ttl_min }));
    }
    for is_ipv4 in [true, false] {
        if families.contains(&is_ipv4) && !seen.is_empty() && !seen.keys().any(|peer| peer.is_ipv4() == is_ipv4) {
            let family = if is_ipv4 { "IPv4" } else { "IPv6" };
            let problem = table.problem("peers", format!("no peer can be told of the {family} addresses"));
            table.report(problem.help(format!("add the {family} address of a peer, or use multicast")).needs_whole_file());
        }
    }
    peers
}

fn source(table: &Table<'_>, families: &[bool]) -> Option<IpAddr> {
    let field = table.field("source")?;
    let source = field.checked(parse_node_address(field.text()?))?;
    if families.iter().any(|is_ipv4| *is_ipv4 != source.is_ipv4()) {
        let problem = field.problem(format!("{source} cannot be the source for addresses of the other family"));
        field.report(problem.help("split the virtual IP by family, or leave `source` out").needs_whole_file());
    }
    Some(source)
}

/// An address of a node.
fn parse_node_address(text: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = text.parse().map_err(|_| format!("{text:?} is not an IP address; for example \"10.0.0.3\""))?;
    match ip {
        _ if ip.is_unspecified() || ip.is_multicast() => Err(format!("{text:?} is not the address of a node; for example \"10.0.0.3\"")),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Err(format!("{text:?} is this node itself")),
        ip => Ok(ip),
    }
}

fn sync_group(table: &Table<'_>) -> Option<String> {
    let field = table.field("sync_group")?;
    let text = field.text()?;
    if let Err(why) = check_label(text) {
        field.report(field.problem(format!("the name {text:?} {why}")));
    }
    Some(text.into())
}

fn auth(table: &Table<'_>) -> Option<VipAuth> {
    let replay_window = table.time("replay_window");
    table.field("key_file")?;
    let key_file = absolute_path(table, "key_file")?;
    Some(VipAuth { key_file, replay_window: replay_window? })
}

fn announce(table: &Table<'_>) -> VipAnnounce {
    let default = VipAnnounce::default();
    VipAnnounce {
        count: table.count_non_zero("count").unwrap_or(default.count),
        interval: table.time("interval").unwrap_or(default.interval),
        repeat: table.time("repeat").filter(|time| !time.is_zero()),
        refresh: table.time("refresh").filter(|time| !time.is_zero()),
    }
}

/// A track with the place of what it watches.
struct ParsedTrack {
    track: VipTrack,
    place: Placed<()>,
}

fn track(table: &Table<'_>) -> Option<ParsedTrack> {
    let lower = table.count("lower").and_then(|lower| u8::try_from(lower).ok()).and_then(NonZeroU8::new);
    let given: Vec<&str> = SUBJECTS.into_iter().filter(|name| table.has(name)).collect();
    let subject = match given[..] {
        [one] => one,
        [] => {
            let problem = crate::error::Problem::new(table.span(), table.path(), "this track does not say what is watched");
            table.report(problem.help(format!("add one of {}", SUBJECTS.join(", "))).needs_whole_file());
            return None;
        }
        [first, second, ..] => {
            let problem = table.problem(second, format!("a track watches one thing, and this one has `{first}` already"));
            table.report(problem.note(table.key_span(first), "it is here").help("write a [[vip.NAME.track]] for each").needs_whole_file());
            return None;
        }
    };
    if subject != "command" {
        table.refuse(&["interval", "timeout", "rise", "fall"], &format!("for {subject}, which is not run"));
    }
    let text = || table.field(subject).and_then(|field| field.text());
    let subject_value = match subject {
        "interface" => TrackSubject::Interface({
            let field = table.field(subject)?;
            field.checked(parse_interface(field.text()?))?
        }),
        "listener" => TrackSubject::Listener(ListenerName::from(text()?)),
        "pool" => TrackSubject::Pool(PoolName::from(text()?)),
        "file" => TrackSubject::File(absolute_path(table, "file")?),
        _ => tracked_command(table)?,
    };
    Some(ParsedTrack { track: VipTrack { subject: subject_value, lower }, place: table.placed(subject, ()) })
}

fn tracked_command(table: &Table<'_>) -> Option<TrackSubject> {
    let interval = table.time("interval").unwrap_or(Duration::from_secs(1));
    let timeout = table.time("timeout").unwrap_or(Duration::from_secs(1).min(interval));
    if timeout > interval {
        let problem = table.problem("timeout", "`timeout` is longer than `interval`: a run must end before the next one begins");
        let problem = if table.has("interval") {
            problem.note(table.span_of("interval"), "the interval")
        } else {
            problem.help("`interval` is 1s where it is not set")
        };
        table.report(problem.needs_whole_file());
    }
    let two = NonZeroU32::new(2).expect("two is not zero");
    Some(TrackSubject::Command {
        command: command(table, "command")?,
        interval,
        timeout,
        rise: table.count_non_zero("rise").unwrap_or(two),
        fall: table.count_non_zero("fall").unwrap_or(two),
    })
}

/// Program and arguments.
fn command(table: &Table<'_>, name: &str) -> Option<Vec<String>> {
    let field = table.field(name)?;
    let items = field.items()?;
    let command: Vec<String> = items.iter().filter_map(|item| item.text()).map(String::from).collect();
    if !command.first().is_some_and(|program| program.starts_with('/')) {
        let problem = field.problem(format!("`{name}` names no program by its absolute path"));
        field.report(problem.help(format!("for example `{name} = [\"/usr/local/bin/program\", \"--option\"]`")));
    }
    if let Some(item) = items.iter().find(|item| item.as_text().is_some_and(|text| text.contains('\0'))) {
        item.report(item.problem("an argument cannot contain a NUL character"));
    }
    Some(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_prefix() {
        for text in ["10.0.0.100/24", "2001:db8::100/64", "fe80::1/10"] {
            assert_eq!(parse_vip_address(text).map(|address| address.to_string()).as_deref(), Ok(text));
        }
        for (text, reason) in [
            ("10.0.0.100", "\"10.0.0.100/24\""),
            ("10.0.0.100/33", "1 to 32"),
            ("10.0.0.100/0", "1 to 32"),
            ("2001:db8::1/129", "1 to 128"),
            ("web/24", "not an IP address"),
            ("0.0.0.0/24", "cannot be moved"),
            ("127.0.0.1/8", "cannot be moved"),
            ("224.0.0.18/24", "cannot be moved"),
            ("::ffff:10.0.0.1/96", "cannot be moved"),
        ] {
            let error = parse_vip_address(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn interfaces_are_as_the_kernel_names_them() {
        for text in ["eth0", "br-lan.100", "enp0s31f6"] {
            assert_eq!(parse_interface(text).as_deref(), Ok(text));
        }
        for text in ["", "..", "a b", "a/b", "eth0:1", "sixteen-chars-xx"] {
            assert!(parse_interface(text).is_err(), "{text}");
        }
    }
}
