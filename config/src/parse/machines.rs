//! `[host.NAME]` and `[template.NAME]`

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::Problem;
use crate::model::{
    AddressSource, Attachment, CloneMode, DirectBoot, DomainType, HostName, Readiness, StaticAddresses, Template, TemplateSource, VmHost,
    WarmMode,
};
use crate::reader::{Named, Placed, Table};

/// A host with what is checked against other tables.
#[derive(Debug)]
pub(crate) struct ParsedHost {
    /// The host.
    pub(crate) host: VmHost,
    /// Its URI with its place, if it could be read.
    pub(crate) uri: Option<Placed<String>>,
}

/// A template with what is checked against other tables.
#[derive(Debug)]
pub(crate) struct ParsedTemplate {
    /// The template; `None`: a problem was reported.
    pub(crate) template: Option<Template>,
    /// The hosts it names, with their places.
    pub(crate) hosts: Vec<Placed<HostName>>,
    /// Its header.
    pub(crate) span: Range<usize>,
    /// Its full name.
    pub(crate) path: String,
}

pub(super) fn host(named: &Named<'_>) -> ParsedHost {
    let table = &named.table;
    let text = |name: &str| {
        let field = table.field(name)?;
        field.checked(parse_uri(field.text()?))
    };
    let uri = text("uri");
    let host = VmHost {
        name: named.name.into(),
        uri: uri.clone().unwrap_or_default(),
        migration_uri: text("migration_uri"),
        labels: labels(table),
        storage_pool: plain(table, "storage_pool").unwrap_or("default".into()),
        domain_type: match table.choice("domain_type") {
            Some("kvm") => DomainType::Kvm,
            Some("qemu") => DomainType::Qemu,
            _ => DomainType::Auto,
        },
        memory_max: table.size("memory_max"),
        memory_reserve: table.size("memory_reserve").unwrap_or(0),
        vcpus_max: table.count_non_zero("vcpus_max"),
        machines_max: table.count_non_zero("machines_max"),
        disk_reserve: table.size("disk_reserve").unwrap_or(0),
        interval: table.time("interval").unwrap_or(Duration::from_secs(1)),
        timeout: table.time("timeout").unwrap_or(Duration::from_secs(10)),
    };
    ParsedHost { host, uri: uri.map(|uri| table.placed("uri", uri)) }
}

/// Only the shape: libvirt knows more drivers and transports than we do.
fn parse_uri(text: &str) -> Result<String, String> {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.'));
    let rest = text.get(scheme.len() + 1..).unwrap_or("");
    if !is_scheme || !rest.starts_with("//") || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("{text:?} is not a libvirt URI; for example \"qemu:///system\" or \"qemu+ssh://root@kvm-a/system\""));
    }
    let user = rest[2..].split('/').next().and_then(|authority| authority.rsplit_once('@')).map_or("", |(user, _)| user);
    if user.contains(':') {
        return Err("a password must not stand in the URI; use TLS certificates or SSH keys".into());
    }
    Ok(text.to_owned())
}

fn labels(table: &Table<'_>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for item in table.field("labels").and_then(|field| field.items()).unwrap_or_default() {
        let Some(text) = item.text() else { continue };
        let word =
            |text: &str| !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-/".contains(&b));
        let Some((key, value)) = text.split_once('=').filter(|(key, value)| word(key) && word(value)) else {
            item.checked::<()>(Err(format!("{text:?} is not a label; write \"key=value\" with letters, digits and - _ . /")));
            continue;
        };
        if found.insert(key.to_owned(), value.to_owned()).is_some() {
            item.report(item.problem(format!("the label {key:?} is given twice")));
        }
    }
    found
}

/// A name for libvirt, or a path, which becomes part of its XML.
fn plain(table: &Table<'_>, name: &str) -> Option<String> {
    let Some(field) = table.field(name) else { return table.text(name).map(str::to_owned) };
    let text = field.text()?;
    let good = !text.is_empty() && text.len() <= 4096 && !text.chars().any(char::is_control);
    field.checked(if good { Ok(text.to_owned()) } else { Err(format!("{text:?} must not be empty or hold control characters")) })
}

fn path(table: &Table<'_>, name: &str) -> Option<PathBuf> {
    let text = plain(table, name)?;
    if !text.starts_with('/') {
        table.report(table.problem(name, format!("{text:?} is not an absolute path")));
        return None;
    }
    Some(text.into())
}

pub(super) fn template(named: &Named<'_>) -> ParsedTemplate {
    let table = &named.table;
    let hosts = hosts(table);
    let source = source(table, named.name);
    let is_image = matches!(source, Some(TemplateSource::Image(_)));
    let is_master = matches!(source, Some(TemplateSource::Master(_)));
    if is_master {
        table.refuse(&["checksum", "kernel", "initrd", "kernel_args", "display"], "with a master, only with an image");
    }
    let attachment = attachment(table, named.name, is_image);
    let memory = table.size("memory");
    if is_image && !table.has("memory") {
        let problem = Problem::new(table.span(), table.path_of("memory"), "`memory` is missing: an image does not say how much it needs");
        table.report(problem.help("add `memory = \"2GiB\"`").needs_whole_file());
    }
    let port = table.count("port").and_then(|port| u16::try_from(port).ok());
    let readiness = readiness(table, port);
    let address = address(table, named.name);
    let warm_mode = if table.choice("warm_mode") == Some("saved") { WarmMode::Saved } else { WarmMode::Paused };
    let template = source.map(|source| Template {
        name: named.name.into(),
        source,
        checksum: checksum(table),
        memory,
        vcpus: table.count_u32("vcpus").and_then(NonZeroU32::new),
        attachment,
        disk: table.size("disk"),
        direct_boot: direct_boot(table),
        port,
        boot_timeout: table.time("boot_timeout").unwrap_or(Duration::from_secs(300)),
        readiness,
        user_data: path(table, "user_data"),
        network_config: path(table, "network_config"),
        address: address.unwrap_or(AddressSource::Lease),
        clone: if table.choice("clone") == Some("full") { CloneMode::Full } else { CloneMode::Linked },
        warm: table.count_u32("warm").unwrap_or(0),
        warm_mode,
        display: table.flag("display").unwrap_or(false),
        shared_storage: table.flag("shared_storage").unwrap_or(false),
        hosts: hosts.iter().map(|host| host.value.clone()).collect(),
    });
    ParsedTemplate { template, hosts, span: table.span(), path: table.path().into() }
}

fn source(table: &Table<'_>, name: &str) -> Option<TemplateSource> {
    match (table.has("master"), table.has("image")) {
        (true, true) => {
            let problem = Problem::new(table.key_span("image"), table.path_of("image"), "a template has a master or an image, not both");
            table.report(problem.note(table.span_of("master"), "the master is named here").needs_whole_file());
            None
        }
        (true, false) => {
            let field = table.field("master")?;
            let text = field.text()?;
            let good = !text.is_empty() && text.len() <= 255 && !text.contains('/') && !text.chars().any(char::is_control);
            let master = field.checked(if good { Ok(text.to_owned()) } else { Err(format!("{text:?} is not a machine's name")) })?;
            Some(TemplateSource::Master(master))
        }
        (false, true) => path(table, "image").map(TemplateSource::Image),
        (false, false) => {
            let problem = Problem::new(table.span(), table.path(), "a template needs a master or an image");
            let help = format!("add `master = \"{name}-master\"`, a machine on one of the hosts, or `image = \"/path/to/{name}.qcow2\"`");
            table.report(problem.help(help).needs_whole_file());
            None
        }
    }
}

fn checksum(table: &Table<'_>) -> Option<[u8; 32]> {
    let field = table.field("checksum")?;
    let text = field.text()?;
    let parse = |digits: &str| {
        let mut digest = [0; 32];
        if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        for (at, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(digest)
    };
    let digest = text.strip_prefix("sha256:").and_then(parse);
    field.checked(
        digest.ok_or_else(|| format!("{text:?} is not a checksum; write \"sha256:\" and 64 hexadecimal digits, as sha256sum prints them")),
    )
}

fn attachment(table: &Table<'_>, name: &str, needed: bool) -> Option<Attachment> {
    match (table.has("network"), table.has("bridge")) {
        (true, true) => {
            let problem = Problem::new(table.key_span("bridge"), table.path_of("bridge"), "a clone has a network or a bridge, not both");
            table.report(problem.note(table.span_of("network"), "the network is named here").needs_whole_file());
            None
        }
        (true, false) => plain(table, "network").map(Attachment::Network),
        (false, true) => plain(table, "bridge").map(Attachment::Bridge),
        (false, false) => {
            if needed {
                let problem = Problem::new(table.span(), table.path(), "a template of an image needs a network or a bridge");
                table.report(
                    problem.help(format!("add `network = \"default\"` or `bridge = \"br0\"` under [template.{name}]")).needs_whole_file(),
                );
            }
            None
        }
    }
}

fn direct_boot(table: &Table<'_>) -> Option<DirectBoot> {
    if !table.has("kernel") {
        table.refuse(&["initrd", "kernel_args"], "without `kernel`");
        return None;
    }
    let text = |name: &str| path(table, name).map(|path| path.display().to_string());
    let initrd = if table.has("initrd") { text("initrd") } else { None };
    let args = if table.has("kernel_args") { plain(table, "kernel_args") } else { None };
    Some(DirectBoot { kernel: text("kernel")?, initrd, args: args.unwrap_or_default() })
}

fn readiness(table: &Table<'_>, port: Option<u16>) -> Readiness {
    let word = table.choice("ready").unwrap_or("address");
    if word != "http" {
        table.refuse(&["ready_path"], &format!("with ready = {word:?}, only with \"http\""));
    }
    if word != "address" && port.is_none() && !table.has("port") {
        table.report(
            table.problem("ready", format!("ready = {word:?} needs to know the port")).help("add `port = 8080`").needs_whole_file(),
        );
    }
    match word {
        "tcp" => Readiness::Tcp,
        "http" => {
            let text = table.text("ready_path").unwrap_or("/");
            let good = text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic());
            if !good {
                table.report(table.problem("ready_path", format!("{text:?} is not a path; begin with a slash, without spaces")));
            }
            Readiness::Http(text.to_owned())
        }
        _ => Readiness::Address,
    }
}

fn address(table: &Table<'_>, name: &str) -> Option<AddressSource> {
    let word = if table.has("address") {
        table.choice("address")?
    } else if table.has("static") {
        "static"
    } else {
        "lease"
    };
    if word != "static" {
        table.refuse(&["static"], &format!("with address = {word:?}"));
    }
    match word {
        "agent" => Some(AddressSource::Agent),
        "arp" => Some(AddressSource::Arp),
        "static" if table.has("static") => static_addresses(&table.table("static")?).map(AddressSource::Static),
        "static" => {
            let problem = table.problem("address", "no addresses to give out are named");
            table.report(problem.help(format!("add `first`, `last` and `prefix` under [template.{name}.static]")).needs_whole_file());
            None
        }
        _ => Some(AddressSource::Lease),
    }
}

fn static_addresses(table: &Table<'_>) -> Option<StaticAddresses> {
    let ip = |name: &str| {
        let field = table.field(name)?;
        let text = field.text()?;
        field.checked(text.parse::<IpAddr>().map_err(|_| format!("{text:?} is not an IP address")))
    };
    let (first, last, prefix) = (ip("first"), ip("last"), table.count("prefix"));
    let gateway = if table.has("gateway") { ip("gateway") } else { None };
    let items = table.field("dns").and_then(|field| field.items()).unwrap_or_default();
    let server = |item: crate::reader::Field<'_>| {
        let text = item.text()?;
        item.checked(text.parse::<IpAddr>().map_err(|_| format!("{text:?} is not an IP address")))
    };
    let dns = items.into_iter().filter_map(server).collect();
    let (first, last, prefix) = (first?, last?, u8::try_from(prefix?).ok()?);
    let bits = if first.is_ipv4() { 32 } else { 128 };
    if first.is_ipv4() != last.is_ipv4() || last < first {
        let problem = table.problem("last", format!("{last} does not come after {first}"));
        table.report(problem.note(table.span_of("first"), "the first address").needs_whole_file());
        return None;
    }
    if prefix > bits {
        table.report(table.problem("prefix", format!("a prefix has at most {bits} bits here")));
        return None;
    }
    if !same_network(first, last, prefix) {
        table.report(table.problem("last", format!("{first} and {last} are not in one network with a prefix of {prefix} bits")));
        return None;
    }
    Some(StaticAddresses { first, last, prefix, gateway, dns })
}

fn same_network(a: IpAddr, b: IpAddr, prefix: u8) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let ((a, width), (b, _)) = (bits(a), bits(b));
    (a ^ b).checked_shr(width - u32::from(prefix)).unwrap_or(0) == 0
}

fn hosts(table: &Table<'_>) -> Vec<Placed<HostName>> {
    let items = table.field("hosts").and_then(|field| field.items()).unwrap_or_default();
    items.iter().filter_map(|item| Some(item.placed(HostName::from(item.text()?)))).collect()
}
