//! What is wrong now, in words, each with the next step. Pure.
//!
//! Looked for in the document itself, so that no problem names a thing that the page does not show. What somebody was told about is an
//! incident; this is what is so at this moment, whether anybody was told or not.

use std::collections::BTreeMap;

use super::super::model::*;

/// Most that are listed: nobody reads more, and the worst come first.
const PROBLEMS_MAX: usize = 200;

/// Names that are listed within one text.
const NAMES_MAX: usize = 3;

/// A certificate is worth a word so many days before it ends.
const CERTIFICATE_DAYS: i64 = 14;

/// A storage pool that is fuller than this leaves no room for a clone that grows.
const STORAGE_SHARE_MIN: f64 = 0.1;

/// A certificate in use.
pub(super) struct Certificate {
    pub listener: String,
    pub file: String,
    /// Seconds since 1970.
    pub not_after_s: i64,
}

const CRITICAL: &str = "critical";
const WARNING: &str = "warning";
const INFO: &str = "info";

/// The problems of this document, the worst first.
pub(super) fn problems(overview: &OverviewView, certificates: &[Certificate]) -> Vec<ProblemItem> {
    let mut found = Vec::new();
    node(overview, &mut found);
    overview.vips.iter().for_each(|(name, vip)| of_vip(name, vip, &mut found));
    overview.pools.iter().for_each(|(name, pool)| of_pool(name, pool, overview.leads, &mut found));
    overview.hosts.iter().for_each(|(name, host)| of_host(name, host, &mut found));
    overview.machines.values().for_each(|machine| of_machine(machine, &mut found));
    overview.alarms.iter().for_each(|(name, alarm)| of_alarm(name, alarm, &mut found));
    overview.channels.iter().for_each(|(name, channel)| of_channel(name, channel, &mut found));
    certificates.iter().for_each(|certificate| of_certificate(certificate, overview.at as i64, &mut found));
    let rank = |problem: &ProblemItem| match problem.severity.as_str() {
        CRITICAL => 0,
        WARNING => 1,
        _ => 2,
    };
    found.sort_by_key(rank);
    found.truncate(PROBLEMS_MAX);
    found
}

/// `kind` and `severity`, `about` and `name`, then the words and what they are made of.
fn problem(
    (kind, severity): (&str, &str),
    (about, name): (&str, &str),
    text: String,
    next: impl Into<String>,
    values: &[(&str, String)],
) -> ProblemItem {
    ProblemItem {
        kind: kind.into(),
        severity: severity.into(),
        about: about.into(),
        name: name.into(),
        text,
        next: next.into(),
        values: values.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect::<BTreeMap<_, _>>(),
    }
}

fn node(overview: &OverviewView, found: &mut Vec<ProblemItem>) {
    let node = &overview.node;
    let about = ("node", node.name.as_str());
    if let Some(error) = node.last_reload.as_ref().and_then(|last| last.error.as_ref()) {
        // The text of a refusal has many lines; the first says what and where.
        let first = error.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned();
        let text = format!("the changed configuration is refused, the old one stays in effect: {first}");
        let next = format!("correct {} until `weir check` has nothing to say; it is then taken by itself", node.config_path);
        found.push(problem(("reload-refused", WARNING), about, text, next, &[("error", first), ("path", node.config_path.clone())]));
    }
    if node.draining {
        let text = format!("this node drains: {} requests and sessions are still under way", node.in_flight);
        let next = "nothing, if a stop or an upgrade is wanted; `weir events` says what began it";
        found.push(problem(("node-draining", WARNING), about, text, next, &[("in_flight", node.in_flight.to_string())]));
    }
}

fn of_vip(name: &str, vip: &VipOverview, found: &mut Vec<ProblemItem>) {
    let about = ("vip", name);
    if vip.routers.is_empty() {
        let text = format!("virtual IP {name} does not work on this node");
        found.push(problem(("vip-unavailable", CRITICAL), about, text, "`weir events` says why, and what the machine lacks", &[]));
    }
    for (family, router) in &vip.routers {
        let values = |why: &str| [("family", family.clone()), ("why", why.to_owned())];
        if router.state != "master" && router.heard_master.is_none() {
            let text = format!("virtual IP {name} ({family}) has no master that this node hears: {}", router.why);
            let next = "look at the other node, and whether advertisements pass between the two on this interface";
            found.push(problem(("vip-no-master", CRITICAL), about, text, next, &values(&router.why)));
        } else if let Some(why) = &router.ineligible_because {
            let text = format!("this node cannot take over virtual IP {name} ({family}): {why}");
            found.push(problem(
                ("vip-ineligible", WARNING),
                about,
                text,
                "mend what is named: until then there is one node less",
                &values(why),
            ));
        }
    }
}

fn of_pool(name: &str, pool: &PoolOverview, leads: bool, found: &mut Vec<ProblemItem>) {
    let about = ("pool", name);
    let is_down = |endpoint: &EndpointOverview| endpoint.state == AdminStateView::Ready && endpoint.health == "unhealthy";
    let down: Vec<(&String, &EndpointOverview)> = pool.endpoints.iter().filter(|(_, endpoint)| is_down(endpoint)).collect();
    let counts = [
        ("healthy", pool.healthy.to_string()),
        ("min_healthy", pool.min_healthy.to_string()),
        ("down", down.len().to_string()),
        ("all", pool.endpoints.len().to_string()),
        ("why", down.first().map(|(address, e)| said(address, e)).unwrap_or_default()),
    ];
    let look = format!("look at what the health checks say: `weir status pool {name}`");
    match pool.state.as_str() {
        "down" => {
            let text = match down.len() {
                0 => format!("pool {name} has no endpoint that may be picked: requests to it fail"),
                _ => format!("pool {name} is down, requests to it fail: {}", listed(&down)),
            };
            let next =
                if down.is_empty() { "end a drain or maintenance, or add an endpoint: `weir undrain HOST:PORT`".to_owned() } else { look };
            found.push(problem(("pool-down", CRITICAL), about, text, next, &counts));
        }
        "below-floor" => {
            let text = format!("pool {name} is below its floor: {} of the wanted {} endpoints are healthy", pool.healthy, pool.min_healthy);
            found.push(problem(("pool-below-floor", CRITICAL), about, text, look, &counts));
        }
        "empty" if pool.scaling.is_none() => {
            let text = format!("pool {name} has no endpoint");
            let next = format!("add one: `weir endpoint add {name} HOST:PORT`, or in the file");
            found.push(problem(("pool-empty", INFO), about, text, next, &counts));
        }
        _ if !down.is_empty() => {
            let text = format!("{} of {} endpoints of pool {name} are down: {}", down.len(), pool.endpoints.len(), listed(&down));
            found.push(problem(("endpoints-down", WARNING), about, text, look, &counts));
        }
        _ => {}
    }
    if pool.waiting > 0 {
        let text = format!("{} requests wait for an endpoint of pool {name}", pool.waiting);
        let next = "it lacks endpoints, or they take less than they could: look at its limits, or let it grow";
        found.push(problem(("pool-waiting", WARNING), about, text, next, &[("waiting", pool.waiting.to_string())]));
    }
    if let Some(scaling) = &pool.scaling {
        of_scaling(name, scaling, leads, found);
    }
}

fn of_scaling(name: &str, scaling: &ScalingOverview, leads: bool, found: &mut Vec<ProblemItem>) {
    let about = ("pool", name);
    if scaling.launch_failures > 0 {
        let text = format!("{} launches of machines for pool {name} failed in a row", scaling.launch_failures);
        let next = format!("`weir events` says what failed; `weir scaling show {name}` what is waited for");
        found.push(problem(("launches-fail", WARNING), about, text, next, &[("failures", scaling.launch_failures.to_string())]));
    }
    if let Some(why) = scaling.refusals.first() {
        let text = format!("pool {name} wants machines that it cannot have: {why}");
        let next = "make room on a host, or lower what is wanted";
        found.push(problem(("scaling-refused", WARNING), about, text, next, &[("why", why.clone())]));
    }
    if scaling.paused && leads {
        let text = format!("scaling of pool {name} is paused, by an operator");
        found.push(problem(("scaling-paused", INFO), about, text, format!("`weir scaling resume {name}` when it may go on"), &[]));
    }
}

fn of_host(name: &str, host: &HostOverview, found: &mut Vec<ProblemItem>) {
    let about = ("host", name);
    if let Some(why) = &host.why {
        let (kind, severity, text) = match host.state.as_str() {
            "unknown" => ("host-lost", CRITICAL, format!("host {name} does not answer any more: {why}")),
            _ => ("host-connecting", WARNING, format!("host {name} has not answered yet: {why}")),
        };
        let next = "look whether it runs, whether its libvirtd does, and whether this node may reach its URI";
        found.push(problem((kind, severity), about, text, next, &[("why", why.clone())]));
    }
    if let (Some(all), Some(free)) = (host.storage_bytes, host.storage_free_bytes)
        && all > 0
        && (free as f64) < all as f64 * STORAGE_SHARE_MIN
    {
        let percent = (free as f64 * 100.0 / all as f64).floor().to_string();
        let text = format!("storage of host {name} is nearly full: {percent} % free");
        let next = "free space, or remove what was left behind: `weir vm gc --dry-run` lists it";
        found.push(problem(("storage-full", WARNING), about, text, next, &[("percent", percent.clone())]));
    }
}

fn of_machine(machine: &MachineOverview, found: &mut Vec<ProblemItem>) {
    if machine.ours && machine.state == "crashed" {
        let text = format!("machine {} on host {} has crashed", machine.name, machine.host);
        let next = format!("look at its console, then `weir vm start {}`", machine.name);
        let values = [("host", machine.host.clone())];
        found.push(problem(("machine-crashed", WARNING), ("machine", &machine.name), text, next, &values));
    }
}

fn of_alarm(name: &str, alarm: &AlarmOverview, found: &mut Vec<ProblemItem>) {
    if alarm.state != "alarm" || !alarm.engaged {
        return;
    }
    let severity = match alarm.severity.as_str() {
        CRITICAL => CRITICAL,
        WARNING => WARNING,
        _ => INFO,
    };
    let value = alarm.value.map(|value| format!(", now {value}")).unwrap_or_default();
    let text = format!("alarm {name} of {}: {}{value}", alarm.watches, alarm.condition);
    let next = match &alarm.acknowledged_by {
        Some(by) => format!("{by} takes care of it"),
        None => format!("`weir alarm ack {name}` says that somebody takes care of it"),
    };
    let values = [
        ("watches", alarm.watches.clone()),
        ("condition", alarm.condition.clone()),
        ("value", alarm.value.map(|value| value.to_string()).unwrap_or_default()),
        ("by", alarm.acknowledged_by.clone().unwrap_or_default()),
    ];
    found.push(problem(("alarm", severity), ("alarm", name), text, next, &values));
}

fn of_channel(name: &str, channel: &ChannelOverview, found: &mut Vec<ProblemItem>) {
    if channel.failing {
        let text = format!("channel {name} does not deliver: {} messages wait", channel.waiting);
        let next = format!("`weir notify test {name}` shows the conversation");
        found.push(problem(("channel-failed", WARNING), ("channel", name), text, next, &[("waiting", channel.waiting.to_string())]));
    } else if channel.dead > 0 {
        let text = format!("{} messages of channel {name} were given up", channel.dead);
        let next = "`weir notify dead` lists them, `weir notify resend` sends them again";
        found.push(problem(("messages-dead", INFO), ("channel", name), text, next, &[("dead", channel.dead.to_string())]));
    }
}

fn of_certificate(certificate: &Certificate, now_s: i64, found: &mut Vec<ProblemItem>) {
    let left = certificate.not_after_s - now_s;
    let days = left.div_euclid(86_400);
    if days > CERTIFICATE_DAYS {
        return;
    }
    let Certificate { listener, file, .. } = certificate;
    let (kind, severity, text) = match left {
        ..=0 => ("certificate-over", CRITICAL, format!("certificate {file} of listener {listener} is over")),
        _ => ("certificate-expires", WARNING, format!("certificate {file} of listener {listener} ends in {days} days")),
    };
    let next = "put a new one in its place: it is taken within seconds, without a reload";
    let values = [("file", file.clone()), ("days", days.to_string())];
    found.push(problem((kind, severity), ("listener", listener), text, next, &values));
}

/// `10.0.0.1:80 (3 of 3: connect refused)`
fn said(address: &str, endpoint: &EndpointOverview) -> String {
    match &endpoint.evidence {
        Some(evidence) => format!("{address} ({evidence})"),
        None => address.to_owned(),
    }
}

fn listed(endpoints: &[(&String, &EndpointOverview)]) -> String {
    let first: Vec<String> = endpoints.iter().take(NAMES_MAX).map(|(address, endpoint)| said(address, endpoint)).collect();
    let more = match endpoints.len().saturating_sub(NAMES_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", first.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    /// Kinds and severities of what is wrong, and the texts.
    fn check(change: impl FnOnce(&mut OverviewView), certificates: &[Certificate], expected: &[(&str, &str)]) -> String {
        let mut overview = sample();
        change(&mut overview);
        let found = problems(&overview, certificates);
        let kinds: Vec<(&str, &str)> = found.iter().map(|problem| (&*problem.kind, &*problem.severity)).collect();
        assert_eq!(kinds, expected);
        assert!(found.iter().all(|problem| !problem.next.is_empty() && !problem.text.contains('\n')), "{found:?}");
        found.into_iter().map(|problem| problem.text).collect::<Vec<_>>().join("\n")
    }

    fn pool(overview: &mut OverviewView) -> &mut PoolOverview {
        overview.pools.get_mut("web").expect("the sample has it")
    }

    fn fail(overview: &mut OverviewView, endpoints: usize) {
        let pool = pool(overview);
        pool.state = if endpoints == pool.endpoints.len() { "down" } else { "degraded" }.into();
        for endpoint in pool.endpoints.values_mut().take(endpoints) {
            (endpoint.health, endpoint.evidence) = ("unhealthy".into(), Some("3 of 3: connect refused".into()));
        }
    }

    #[test]
    fn nothing_is_wrong_with_a_sound_node() {
        assert_eq!(check(|_| {}, &[], &[]), "");
    }

    #[test]
    fn pools() {
        let text = check(|overview| fail(overview, 1), &[], &[("endpoints-down", WARNING)]);
        assert_eq!(text, "1 of 2 endpoints of pool web are down: 10.0.0.1:80 (3 of 3: connect refused)");
        let text = check(|overview| fail(overview, 2), &[], &[("pool-down", CRITICAL)]);
        assert!(text.starts_with("pool web is down, requests to it fail: 10.0.0.1:80 (3 of 3"), "{text}");
        check(|overview| pool(overview).state = "below-floor".into(), &[], &[("pool-below-floor", CRITICAL)]);
        check(
            |overview| {
                pool(overview).endpoints.clear();
                pool(overview).state = "empty".into();
            },
            &[],
            &[("pool-empty", INFO)],
        );
        check(|overview| pool(overview).waiting = 3, &[], &[("pool-waiting", WARNING)]);
    }

    #[test]
    fn the_worst_come_first() {
        let change = |overview: &mut OverviewView| {
            pool(overview).waiting = 3;
            let host = overview.hosts.get_mut("kvm-a").expect("the sample has it");
            (host.state, host.why) = ("unknown".into(), Some("it closed the connection".into()));
        };
        check(change, &[], &[("host-lost", CRITICAL), ("pool-waiting", WARNING)]);
    }

    #[test]
    fn nodes_and_virtual_ips() {
        let refused = |overview: &mut OverviewView| {
            overview.node.last_reload = Some(LastReload { at: 1.0, error: Some("\n  weir.toml:3: no such key\nmore".into()) });
        };
        let text = check(refused, &[], &[("reload-refused", WARNING)]);
        assert!(text.ends_with("stays in effect: weir.toml:3: no such key"), "{text}");
        let silent = |overview: &mut OverviewView| {
            let vip = overview.vips.get_mut("public").expect("the sample has it");
            vip.master = false;
            vip.routers.values_mut().for_each(|router| router.state = "backup".into());
        };
        check(silent, &[], &[("vip-no-master", CRITICAL)]);
        let off = |overview: &mut OverviewView| overview.vips.get_mut("public").expect("the sample has it").routers.clear();
        check(off, &[], &[("vip-unavailable", CRITICAL)]);
    }

    #[test]
    fn certificates() {
        let at = sample().at as i64;
        let certificate = |days: i64| Certificate { listener: "web".into(), file: "/c.pem".into(), not_after_s: at + days * 86_400 + 60 };
        check(|_| {}, &[certificate(15)], &[]);
        let text = check(|_| {}, &[certificate(3)], &[("certificate-expires", WARNING)]);
        assert_eq!(text, "certificate /c.pem of listener web ends in 3 days");
        check(|_| {}, &[certificate(-2)], &[("certificate-over", CRITICAL)]);
    }

    #[test]
    fn the_list_is_bounded() {
        let mut overview = sample();
        let lost = HostOverview { state: "unknown".into(), why: Some("gone".into()), ..overview.hosts["kvm-a"].clone() };
        overview.hosts = (0..PROBLEMS_MAX + 50).map(|n| (format!("kvm-{n}"), lost.clone())).collect();
        assert_eq!(problems(&overview, &[]).len(), PROBLEMS_MAX);
    }
}
