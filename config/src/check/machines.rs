//! Hosts and templates against each other.

use std::collections::BTreeMap;

use crate::error::Problem;
use crate::model::{AddressSource, HostName, StaticAddresses};
use crate::names::nearest;
use crate::parse::{ParsedHost, ParsedTemplate};
use crate::reader::{Placed, Table};

pub(crate) fn machines(root: &Table<'_>, hosts: &[ParsedHost], templates: &[ParsedTemplate]) {
    // One libvirtd under two names would be counted, and filled, twice.
    let mut seen: BTreeMap<&str, &Placed<String>> = BTreeMap::new();
    for uri in hosts.iter().filter_map(|host| host.uri.as_ref()) {
        if let Some(first) = seen.get(uri.value.as_str()) {
            let problem = Problem::new(uri.span.clone(), &uri.path, format!("{:?} is a host twice", uri.value));
            root.report(problem.note(first.span.clone(), format!("it is in `{}` already", first.path)).needs_whole_file());
            continue;
        }
        seen.insert(&uri.value, uri);
    }
    let names: Vec<&str> = hosts.iter().map(|parsed| &*parsed.host.name.0).collect();
    for Placed { value: HostName(name), span, path } in templates.iter().flat_map(|template| &template.hosts) {
        if !names.contains(&&**name) {
            let help = match nearest(name, names.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None if names.is_empty() => format!("there is none yet: add [host.{name}]"),
                None => format!("the hosts are: {}", names.join(", ")),
            };
            root.report(Problem::new(span.clone(), path, format!("there is no host {:?}", &**name)).help(help).needs_whole_file());
        }
    }
    if let Some(first) = templates.first().filter(|_| hosts.is_empty()) {
        let problem = Problem::new(first.span.clone(), &first.path, "there is a template, but no host on which its clones could run");
        root.report(problem.help("add `uri = \"qemu:///system\"` under [host.NAME]").needs_whole_file());
    }
    check_addresses(root, templates);
}

/// An address that two templates give out would be given to two machines.
fn check_addresses(root: &Table<'_>, templates: &[ParsedTemplate]) {
    let pool = |parsed: &'_ ParsedTemplate| match parsed.template.as_ref().map(|template| &template.address) {
        Some(AddressSource::Static(addresses)) => Some(addresses.clone()),
        _ => None,
    };
    for (at, parsed) in templates.iter().enumerate() {
        let Some(StaticAddresses { first, last, .. }) = pool(parsed) else { continue };
        let overlapping = |other: &&ParsedTemplate| pool(other).is_some_and(|other| other.first <= last && first <= other.last);
        if let Some(other) = templates[..at].iter().find(overlapping) {
            let problem =
                Problem::new(parsed.span.clone(), format!("{}.static", parsed.path), format!("{first} to {last} is given out twice"));
            root.report(problem.note(other.span.clone(), format!("`{}` gives out some of it too", other.path)).needs_whole_file());
        }
    }
}
