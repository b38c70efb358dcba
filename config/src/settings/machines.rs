//! `[host.NAME]` and `[template.NAME]` in words.

use super::{NONE, Setting, or_none};
use crate::model::{AddressSource, Attachment, DirectBoot, Readiness, StaticAddresses, Template, TemplateSource, VmHost};
use crate::units::{format_duration, format_size};

pub(crate) fn of_host(host: &VmHost) -> Vec<Setting> {
    let VmHost {
        name: _,
        uri,
        migration_uri,
        labels,
        storage_pool,
        domain_type,
        memory_max,
        memory_reserve,
        vcpus_max,
        machines_max,
        disk_reserve,
        interval,
        timeout,
    } = host;
    vec![
        ("uri", uri.clone()),
        ("migration_uri", migration_uri.clone().unwrap_or("uri".into())),
        ("labels", labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")),
        ("storage_pool", storage_pool.clone()),
        ("domain_type", domain_type.word().into()),
        ("memory_max", memory_max.map_or("what it has".into(), format_size)),
        ("memory_reserve", format_size(*memory_reserve)),
        ("vcpus_max", or_none(*vcpus_max)),
        ("machines_max", or_none(*machines_max)),
        ("disk_reserve", format_size(*disk_reserve)),
        ("interval", format_duration(*interval)),
        ("timeout", format_duration(*timeout)),
    ]
}

pub(crate) fn of_template(template: &Template) -> Vec<Setting> {
    let Template {
        name: _,
        source,
        checksum,
        memory,
        vcpus,
        attachment,
        disk,
        direct_boot,
        port,
        boot_timeout,
        readiness,
        user_data,
        network_config,
        address,
        clone,
        warm,
        warm_mode,
        display,
        shared_storage,
        hosts,
    } = template;
    const MASTERS: &str = "the master's";
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map_or(NONE.into(), |path| path.display().to_string());
    let (master, image) = match source {
        TemplateSource::Master(master) => (master.clone(), NONE.into()),
        TemplateSource::Image(image) => (NONE.into(), image.display().to_string()),
    };
    let (network, bridge) = match attachment {
        None => (MASTERS.into(), MASTERS.into()),
        Some(Attachment::Network(network)) => (network.clone(), NONE.into()),
        Some(Attachment::Bridge(bridge)) => (NONE.into(), bridge.clone()),
    };
    let (kernel, initrd, kernel_args) = match direct_boot {
        None => (NONE.into(), NONE.into(), NONE.into()),
        Some(DirectBoot { kernel, initrd, args }) => (kernel.clone(), initrd.clone().unwrap_or(NONE.into()), args.clone()),
    };
    let mut settings = vec![
        ("master", master),
        ("image", image),
        ("checksum", checksum.map_or(NONE.into(), |digest| digest.iter().map(|byte| format!("{byte:02x}")).collect())),
        ("memory", memory.map_or(MASTERS.into(), format_size)),
        ("vcpus", vcpus.map_or(MASTERS.into(), |vcpus| vcpus.to_string())),
        ("network", network),
        ("bridge", bridge),
        ("disk", disk.map_or("the base's".into(), format_size)),
        ("kernel", kernel),
        ("initrd", initrd),
        ("kernel_args", kernel_args),
        ("port", port.map_or(NONE.into(), |port| port.to_string())),
        ("boot_timeout", format_duration(*boot_timeout)),
        ("ready", readiness.word().into()),
        ("user_data", path(user_data)),
        ("network_config", path(network_config)),
        ("address", address.word().into()),
        ("clone", clone.word().into()),
        ("warm", warm.to_string()),
        ("warm_mode", warm_mode.word().into()),
        ("display", display.to_string()),
        ("shared_storage", shared_storage.to_string()),
        ("hosts", if hosts.is_empty() { "all".into() } else { list(hosts) }),
    ];
    if let Readiness::Http(path) = readiness {
        settings.push(("ready_path", path.clone()));
    }
    if let AddressSource::Static(StaticAddresses { first, last, prefix, gateway, dns }) = address {
        settings.push(("static.first", first.to_string()));
        settings.push(("static.last", last.to_string()));
        settings.push(("static.prefix", prefix.to_string()));
        settings.push(("static.gateway", gateway.map_or(NONE.into(), |gateway| gateway.to_string())));
        settings.push(("static.dns", if dns.is_empty() { NONE.into() } else { list(dns) }));
    }
    settings
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}
