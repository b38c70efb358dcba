//! Metrics of hosts, machines and templates.
//!
//! Only machines of ours have series. What was last seen of a host that does not answer is not said again and again as if it were so: then there
//! is `weir_host_up` 0, and nothing of its machines.

use std::fmt::Display;

use weir_hypervisor::{HostState, HostView, Load, MachineState, MachineView, TemplateView, Totals};

use super::{Family, Kind, Prepared, Samples, label};

/// The labels of a machine of ours.
pub(super) fn labelled(machine: MachineView) -> Option<(String, MachineView)> {
    let metadata = machine.metadata.as_ref()?;
    let pool = metadata.pool.as_deref().unwrap_or("");
    let labels = [("host", &*machine.host), ("vm", &machine.name), ("pool", pool), ("template", &metadata.template)];
    let text: Vec<String> = labels.iter().map(|(key, value)| label(key, value)).collect();
    (machine.unknown_since.is_none()).then(|| (text.join(","), machine))
}

fn hosts<T: Display>(p: &Prepared<'_>, s: &mut Samples<'_>, value: impl Fn(&HostView) -> Option<T>) {
    for (labels, host) in &p.hosts {
        if let Some(value) = value(host) {
            s.with(labels, value);
        }
    }
}

/// Of hosts that answer.
fn up<T: Display>(p: &Prepared<'_>, s: &mut Samples<'_>, value: impl Fn(&HostView) -> Option<T>) {
    hosts(p, s, |host| value(host).filter(|_| host.state == HostState::Up));
}

fn machines<T: Display>(p: &Prepared<'_>, s: &mut Samples<'_>, value: impl Fn(&MachineView) -> Option<T>) {
    for (labels, machine) in &p.machines {
        if let Some(value) = value(machine) {
            s.with(labels, value);
        }
    }
}

fn loads<T: Display>(p: &Prepared<'_>, s: &mut Samples<'_>, value: impl Fn(&Load) -> Option<T>) {
    machines(p, s, |machine| value(machine.load.as_ref()?));
}

fn totals<T: Display>(p: &Prepared<'_>, s: &mut Samples<'_>, value: impl Fn(&Totals) -> T) {
    machines(p, s, |machine| machine.totals.as_ref().map(&value));
}

fn templates<T: Display>(p: &Prepared<'_>, s: &mut Samples<'_>, value: impl Fn(&TemplateView) -> Option<T>) {
    for (labels, template) in &p.templates {
        if let Some(value) = value(template) {
            s.with(labels, value);
        }
    }
}

type Write = fn(&Prepared<'_>, &mut Samples<'_>);

const fn family(kind: Kind, name: &'static str, unit: &'static str, labels: &'static str, help: &'static str, samples: Write) -> Family {
    Family { name, kind, unit, labels, help, samples }
}

const fn host(name: &'static str, unit: &'static str, help: &'static str, samples: Write) -> Family {
    family(Kind::Gauge, name, unit, "host", help, samples)
}

const fn gauge(name: &'static str, unit: &'static str, help: &'static str, samples: Write) -> Family {
    family(Kind::Gauge, name, unit, "host, vm, pool, template", help, samples)
}

const fn counter(name: &'static str, unit: &'static str, help: &'static str, samples: Write) -> Family {
    family(Kind::Counter, name, unit, "host, vm, pool, template", help, samples)
}

const fn template(name: &'static str, unit: &'static str, help: &'static str, samples: Write) -> Family {
    family(Kind::Gauge, name, unit, "template", help, samples)
}

pub(super) const FAMILIES: &[Family] = &[
    host("weir_host_up", "0 or 1", "Whether the host answers.", |p, s| {
        hosts(p, s, |host| Some(u8::from(host.state == HostState::Up)));
    }),
    host("weir_host_answered_timestamp_seconds", "seconds", "When the host last answered, since the Unix epoch.", |p, s| {
        hosts(p, s, |host| host.answered_at);
    }),
    host("weir_host_cpus", "processors", "Processors of the host.", |p, s| up(p, s, |host| Some(host.cpus))),
    host("weir_host_cpu_utilization_ratio", "0 to 1", "Share of its processors in use.", |p, s| up(p, s, |host| host.cpu_share)),
    host("weir_host_memory_bytes", "bytes", "Memory of the host.", |p, s| up(p, s, |host| Some(host.memory_bytes))),
    host("weir_host_memory_free_bytes", "bytes", "Memory that is free, with what caches would give back.", |p, s| {
        up(p, s, |host| host.memory_free_bytes);
    }),
    host("weir_host_memory_promised_bytes", "bytes", "Memory that its running and paused machines may use at most.", |p, s| {
        up(p, s, |host| Some(host.memory_promised_bytes));
    }),
    host("weir_host_vcpus_promised", "processors", "Virtual processors of its running and paused machines.", |p, s| {
        up(p, s, |host| Some(host.vcpus_promised));
    }),
    host("weir_host_storage_bytes", "bytes", "Size of its storage pool.", |p, s| {
        up(p, s, |host| host.storage.as_ref().map(|storage| storage.capacity));
    }),
    host("weir_host_storage_free_bytes", "bytes", "Of that, free.", |p, s| {
        up(p, s, |host| host.storage.as_ref().map(|storage| storage.available));
    }),
    host("weir_host_machines", "machines", "Machines of any kind that it has.", |p, s| up(p, s, |host| Some(host.machines))),
    family(
        Kind::Gauge,
        "weir_host_pressure_ratio",
        "0 to 1",
        "host, resource, who",
        "Share of the last ten seconds in which some or all tasks waited for a resource.",
        |p, s| pressure(p, s, |stall| stall.share),
    ),
    family(
        Kind::Counter,
        "weir_host_pressure_seconds_total",
        "seconds",
        "host, resource, who",
        "Time in which some or all tasks waited for a resource, since the host started.",
        |p, s| pressure(p, s, |stall| stall.stalled_s),
    ),
    gauge("weir_vm_running", "0 or 1", "Whether the machine runs; 0 also when it is paused.", |p, s| {
        machines(p, s, |machine| Some(u8::from(machine.state == MachineState::Running)));
    }),
    gauge("weir_vm_warm", "0 or 1", "Whether it is a warm clone that waits.", |p, s| {
        machines(p, s, |machine| machine.metadata.as_ref().map(|metadata| u8::from(metadata.role.word() == "warm")));
    }),
    gauge("weir_vm_phase_timestamp_seconds", "seconds", "Since when it is what it is: a member, warm, being made or removed.", |p, s| {
        machines(p, s, |machine| machine.since);
    }),
    gauge("weir_vm_base_generation", "1", "Number of the base its content came from.", |p, s| {
        machines(p, s, |machine| machine.base_generation);
    }),
    gauge("weir_vm_vcpus", "processors", "Its virtual processors.", |p, s| machines(p, s, |machine| Some(machine.vcpus))),
    gauge("weir_vm_cpu_utilization_ratio", "0 to 1", "Share of its virtual processors in use.", |p, s| {
        loads(p, s, |load| Some(load.cpu_share));
    }),
    counter("weir_vm_cpu_seconds_total", "seconds", "Processor time, since it was started.", |p, s| totals(p, s, |totals| totals.cpu_s)),
    gauge("weir_vm_memory_bytes", "bytes", "Memory it may have at most.", |p, s| machines(p, s, |machine| Some(machine.memory_bytes))),
    gauge("weir_vm_memory_used_bytes", "bytes", "Memory its guest uses; absent without a balloon driver that tells.", |p, s| {
        loads(p, s, |load| load.memory_used_bytes);
    }),
    gauge("weir_vm_memory_available_bytes", "bytes", "Memory its guest could still use.", |p, s| {
        loads(p, s, |load| load.memory_available_bytes);
    }),
    gauge("weir_vm_memory_resident_bytes", "bytes", "Memory of the host it occupies.", |p, s| {
        loads(p, s, |load| load.memory_resident_bytes)
    }),
    counter("weir_vm_disk_read_bytes_total", "bytes", "Bytes read from its disks.", |p, s| totals(p, s, |totals| totals.disk_read_bytes)),
    counter("weir_vm_disk_written_bytes_total", "bytes", "Bytes written to its disks.", |p, s| {
        totals(p, s, |totals| totals.disk_written_bytes);
    }),
    counter("weir_vm_disk_reads_total", "operations", "Reads from its disks.", |p, s| totals(p, s, |totals| totals.disk_reads)),
    counter("weir_vm_disk_writes_total", "operations", "Writes to its disks.", |p, s| totals(p, s, |totals| totals.disk_writes)),
    counter("weir_vm_disk_busy_seconds_total", "seconds", "Time its reads and writes took, all together.", |p, s| {
        totals(p, s, |totals| totals.disk_busy_s);
    }),
    gauge(
        "weir_vm_disk_latency_seconds",
        "seconds",
        "Mean time of a read or write between the last two looks; absent without one.",
        |p, s| {
            loads(p, s, |load| load.disk_latency_s);
        },
    ),
    gauge("weir_vm_disk_allocated_bytes", "bytes", "Bytes that its disks take on the host.", |p, s| {
        totals(p, s, |totals| totals.disk_allocated_bytes);
    }),
    counter("weir_vm_network_received_bytes_total", "bytes", "Bytes received.", |p, s| totals(p, s, |totals| totals.net_received_bytes)),
    counter("weir_vm_network_sent_bytes_total", "bytes", "Bytes sent.", |p, s| totals(p, s, |totals| totals.net_sent_bytes)),
    counter("weir_vm_network_errors_total", "packets", "Packets lost or broken, both ways.", |p, s| {
        totals(p, s, |totals| totals.net_errors)
    }),
    template("weir_template_machines", "machines", "Machines of the template, warm ones included.", |p, s| {
        templates(p, s, |template| Some(template.machines));
    }),
    template("weir_template_warm", "machines", "Warm clones that wait.", |p, s| templates(p, s, |template| Some(template.warm))),
    template("weir_template_warm_wanted", "machines", "Warm clones that are wanted.", |p, s| {
        templates(p, s, |template| Some(template.warm_wanted));
    }),
    template("weir_template_base_generation", "1", "Number of the base that new clones get; absent while it is not known.", |p, s| {
        templates(p, s, |template| template.base_generation);
    }),
    template("weir_template_failing", "0 or 1", "Whether the last try to keep its warm clones failed.", |p, s| {
        templates(p, s, |template| Some(u8::from(template.error.is_some())));
    }),
    family(
        Kind::Counter,
        "weir_template_clones_total",
        "machines",
        "template, result",
        "Clones of the template: made (warm ones included), warm (a warm one was taken) or failed.",
        |p, s| {
            for (labels, template) in &p.templates {
                let counts = template.clones;
                for (result, count) in [("made", counts.made), ("warm", counts.warm_taken), ("failed", counts.failed)] {
                    s.with_more(labels, "result", result, count);
                }
            }
        },
    ),
];

fn pressure(p: &Prepared<'_>, s: &mut Samples<'_>, value: impl Fn(weir_hypervisor::pressure::Stall) -> f64) {
    for (labels, host) in p.hosts.iter().filter(|(_, host)| host.state == HostState::Up) {
        for (resource, who, stall) in host.pressure.iter().flat_map(|pressure| pressure.each()) {
            s.with(&format!("{labels},resource=\"{resource}\",who=\"{who}\""), value(stall));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use weir_hypervisor::driver::Driver;
    use weir_hypervisor::memory::MemoryHost;
    use weir_hypervisor::{CloneSpec, Fleet, Hypervisor, Progress, WaitFor};

    use super::super::super::view::tests::sample_status;
    use super::super::tests::text_with;

    #[test]
    fn hosts_machines_and_templates_have_series() {
        let folder = tempfile::tempdir().expect("a folder");
        let image = folder.path().join("web.img");
        std::fs::write(&image, vec![7; 10_000]).expect("written");
        let text = format!(
            "[node]\nname = \"lb-a\"\nstate_dir = {:?}\n[host.a]\nuri = \"memory:///\"\ninterval = \"100ms\"\ndomain_type = \"qemu\"\n\
             [template.web]\nimage = {image:?}\nmemory = \"64MiB\"\nnetwork = \"default\"\n",
            folder.path()
        );
        let config = weir_config::parse(&text, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        let memory = MemoryHost::default();
        let host = memory.clone();
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(async {
            let fleet = Fleet::with_drivers(&config, Box::new(move |_| -> Arc<dyn Driver> { Arc::new(host.clone()) }));
            assert!(fleet.settled(Duration::from_secs(10)).await);
            let spec = CloneSpec {
                pool: Some("we\"b".into()),
                name: Some("web-1".parse().expect("a name")),
                wait: WaitFor::Running,
                ..CloneSpec::new("web".into())
            };
            fleet.clone_machine(spec, Progress::default()).await.expect("there is room");
            let render = || text_with(&sample_status(vec![]), &fleet);
            let deadline = Instant::now() + Duration::from_secs(10);
            while !render().contains("weir_vm_cpu_utilization_ratio{") {
                assert!(Instant::now() < deadline, "{}", render());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let shown = render();
            for line in [
                "weir_host_up{host=\"a\"} 1",
                "weir_host_pressure_ratio{host=\"a\",resource=\"memory\",who=\"full\"} 0.01",
                "weir_vm_running{host=\"a\",vm=\"web-1\",pool=\"we\\\"b\",template=\"web\"} 1",
                "weir_vm_base_generation{host=\"a\",vm=\"web-1\",pool=\"we\\\"b\",template=\"web\"} 1",
                "weir_template_machines{template=\"web\"} 1",
                "weir_template_clones_total{template=\"web\",result=\"made\"} 1",
            ] {
                assert!(shown.lines().any(|shown| shown == line), "no line {line} in\n{shown}");
            }
            memory.set_down(Some("its power is out"));
            while !render().contains("weir_host_up{host=\"a\"} 0") {
                assert!(Instant::now() < deadline + Duration::from_secs(10));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(!render().contains("weir_vm_running{") && !render().contains("weir_host_cpus{"), "what is not known is not said");
        });
    }
}
