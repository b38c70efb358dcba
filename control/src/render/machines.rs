//! Hosts, machines and templates for people. They come as JSON, as the API shows them.

use std::time::Duration;

use serde_json::Value;

use super::{Screen, add, bytes, duration, finish, paint, single_line, table, time};

/// All of them.
pub(crate) fn fleet(fleet: &Value, now: f64, screen: Screen) -> String {
    let leads = match (fleet["leads"].as_bool(), fleet["leader"].as_str()) {
        (Some(true), _) => "this node acts on machines\n".into(),
        (_, Some(leader)) => format!("this node only watches: {} acts on machines\n", single_line(leader)),
        (_, None) => "this node only watches, and no other is known that acts on machines\n".into(),
    };
    let list = |name: &str| fleet[name].as_array().cloned().unwrap_or_default();
    let parts = [hosts(&list("hosts"), now, screen), machines(&list("machines"), now, screen), templates(&list("templates"), screen)];
    format!("{leads}\n{}", parts.join("\n"))
}

/// The hosts.
fn hosts(hosts: &[Value], now: f64, screen: Screen) -> String {
    if hosts.is_empty() {
        return "no hosts\n".into();
    }
    let header = ["HOST", "STATE", ">CPUS", ">CPU", ">MEMORY", ">FREE", ">PROMISED", ">DISK FREE", ">WAITING", ">MACHINES", "WHY"];
    let mut table = table(&header, screen);
    for host in hosts {
        let state = match (text(&host["state"]).as_str(), host["since"].as_f64()) {
            ("unknown", Some(since)) => format!("unknown since {}, {}", time(since), age(now, since)),
            (state, _) => state.to_owned(),
        };
        let worst = ["cpu_some", "memory_some", "io_some"].iter().filter_map(|kind| host["pressure"][kind]["share"].as_f64());
        add(
            &mut table,
            [
                text(&host["name"]),
                state,
                text(&host["cpus"]),
                percent(&host["cpu_share"]),
                size(&host["memory_bytes"]),
                size(&host["memory_free_bytes"]),
                size(&host["memory_promised_bytes"]),
                size(&host["storage"]["available_bytes"]),
                worst.reduce(f64::max).map_or("-".into(), |share| format!("{:.0}%", share * 100.0)),
                text(&host["machines"]),
                text(if host["why"].is_null() { &host["storage_error"] } else { &host["why"] }),
            ],
        );
    }
    finish(&table, screen)
}

/// The machines. Those that are not ours have no template.
fn machines(machines: &[Value], now: f64, screen: Screen) -> String {
    if machines.is_empty() {
        return "no machines\n".into();
    }
    let header = ["MACHINE", "HOST", "POOL", "TEMPLATE", "STATE", ">AGE", ">BASE", ">CPU", ">USED", ">MEMORY", "ADDRESS"];
    let mut table = table(&header, screen);
    for machine in machines {
        add(
            &mut table,
            [
                text(&machine["name"]),
                text(&machine["host"]),
                text(&machine["metadata"]["pool"]),
                text(&machine["metadata"]["template"]),
                state(machine, now),
                machine["since"].as_f64().map_or("-".into(), |since| age(now, since)),
                text(&machine["base_generation"]),
                percent(&machine["load"]["cpu_share"]),
                size(&machine["load"]["memory_used_bytes"]),
                size(&machine["memory_bytes"]),
                text(&machine["address"]),
            ],
        );
    }
    finish(&table, screen)
}

/// What a machine does, as far as it is known, and what it is when that is not a plain member.
fn state(machine: &Value, now: f64) -> String {
    let mut words = vec![text(&machine["state"])];
    let (role, phase) = (machine["metadata"]["role"].as_str(), machine["metadata"]["phase"].as_str());
    words.extend(phase.filter(|phase| *phase != "ready").map(str::to_owned));
    words.extend(role.filter(|role| *role == "warm").map(str::to_owned));
    if machine["metadata"].is_null() {
        words.push("foreign".into());
    }
    if let Some(since) = machine["unknown_since"].as_f64() {
        return format!("unknown for {}, was {}", age(now, since), words.join(" "));
    }
    words.join(" ")
}

/// The templates.
fn templates(templates: &[Value], screen: Screen) -> String {
    if templates.is_empty() {
        return "no templates\n".into();
    }
    let mut table = table(&["TEMPLATE", "SOURCE", ">BASE", "GENERATIONS", ">MACHINES", ">WARM", ">MADE", ">FAILED", "ERROR"], screen);
    for template in templates {
        let generation = |view: &Value| format!("{}: {}", text(&view["generation"]), text(&view["machines"]));
        let generations: Vec<String> = template["generations"].as_array().into_iter().flatten().map(generation).collect();
        add(
            &mut table,
            [
                text(&template["name"]),
                text(&template["source"]),
                text(&template["base_generation"]),
                if generations.is_empty() { "-".into() } else { generations.join(", ") },
                text(&template["machines"]),
                format!("{} of {}", text(&template["warm"]), text(&template["warm_wanted"])),
                text(&template["clones"]["made"]),
                text(&template["clones"]["failed"]),
                text(&template["error"]),
            ],
        );
    }
    finish(&table, screen)
}

/// One machine, with everything about it.
pub(crate) fn machine(machine: &Value, now: f64, screen: Screen) -> String {
    let mut lines = vec![format!("{} on {}: {}", text(&machine["name"]), text(&machine["host"]), state(machine, now))];
    let mut line = |name: &str, value: String| {
        if value != "-" {
            lines.push(format!("  {name}: {}", single_line(&value)));
        }
    };
    line("id", text(&machine["id"]));
    line("template", text(&machine["metadata"]["template"]));
    line("pool", text(&machine["metadata"]["pool"]));
    line("base", text(&machine["metadata"]["origin"]));
    line("so since", machine["since"].as_f64().map_or("-".into(), |since| format!("{}, {}", time(since), age(now, since))));
    line("address", text(&machine["address"]));
    line("MAC", text(&machine["mac"]));
    line("vCPUs", text(&machine["vcpus"]));
    line("memory", size(&machine["memory_bytes"]));
    let load = &machine["load"];
    line("CPU", percent(&load["cpu_share"]));
    line("memory used", size(&load["memory_used_bytes"]));
    line("memory on the host", size(&load["memory_resident_bytes"]));
    let rate = |key: &str| load[key].as_f64().map(|rate| format!("{}/s", bytes(rate as u64)));
    let both = |a: &str, b: &str| Some((rate(a)?, rate(b)?));
    line("disk", both("disk_read_bytes_per_s", "disk_written_bytes_per_s").map_or("-".into(), |(r, w)| format!("{r} read, {w} written")));
    line("disk latency", load["disk_latency_s"].as_f64().map_or("-".into(), |s| format!("{:.1} ms", s * 1000.0)));
    line(
        "network",
        both("net_received_bytes_per_s", "net_sent_bytes_per_s").map_or("-".into(), |(r, s)| format!("{r} received, {s} sent")),
    );
    paint(lines.join("\n") + "\n", screen)
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn size(value: &Value) -> String {
    value.as_u64().map_or("-".into(), bytes)
}

fn percent(value: &Value) -> String {
    value.as_f64().map_or("-".into(), |share| format!("{:.0}%", share * 100.0))
}

fn age(now: f64, since: f64) -> String {
    duration(Duration::from_secs_f64((now - since).clamp(0.0, 1e9)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PLAIN: Screen = Screen { width: None, color: false };

    #[test]
    fn what_is_not_known_says_since_when() {
        let view = json!({
            "leads": true,
            "hosts": [
                {"name": "kvm-a", "state": "up", "cpus": 8, "cpu_share": 0.25, "memory_bytes": 1073741824, "machines": 1,
                 "pressure": {"cpu_some": {"share": 0.02}, "io_some": {"share": 0.5}}},
                {"name": "kvm-b", "state": "unknown", "since": 1000.0, "why": "no\nroute", "machines": 1},
            ],
            "machines": [
                {"name": "web-1", "host": "kvm-a", "state": "running", "since": 940, "base_generation": 3, "memory_bytes": 1024,
                 "metadata": {"pool": "web", "template": "web", "role": "member", "phase": "ready"}, "load": {"cpu_share": 0.5}},
                {"name": "old", "host": "kvm-b", "state": "paused", "unknown_since": 1000.0, "metadata": null},
            ],
            "templates": [{"name": "web", "source": "image /web.img", "base_generation": 3, "warm": 1, "warm_wanted": 2, "machines": 2,
                "generations": [{"generation": 2, "machines": 1}, {"generation": 3, "machines": 1}]}],
        });
        let shown = fleet(&view, 1060.0, PLAIN);
        for expected in
            ["this node acts on machines", "kvm-a", "25%", "50%", "unknown since 1970-01-01T00:16:40", "no route", "2: 1, 3: 1", "1 of 2"]
        {
            assert!(shown.contains(expected), "no {expected:?} in\n{shown}");
        }
        assert!(shown.contains("unknown for 1m 0s, was paused foreign"), "{shown}");
        assert!(fleet(&json!({}), 0.0, PLAIN).contains("no hosts"));
        let one = machine(&view["machines"][0], 1060.0, PLAIN);
        assert!(one.starts_with("web-1 on kvm-a: running\n") && one.contains("  CPU: 50%\n") && !one.contains("address"), "{one}");
    }
}
