//! What each machine of ours says of itself, in its domain's XML. Only what carries it is ever changed or deleted.
//!
//! ```text
//!   <metadata>
//!     <weir:machine xmlns:weir="urn:weir:machine:1" template="web" pool="web" base="weir-base-web-0001-…" role="member" phase="ready" …/>
//!   </metadata>
//! ```
//!
//! The phase is the journal of what is being done: a domain is defined as `creating` before anything else of it exists, and is undefined as
//! the last thing of it. Whoever starts later therefore finds every leftover by looking at the domains, on the hosts themselves.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use crate::xml::Element;

/// The namespace. The number changes only when old readers could not live with a new writer.
pub const NAMESPACE: &str = "urn:weir:machine:1";

/// Its prefix.
pub const PREFIX: &str = "weir";

/// What a machine of ours says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Metadata {
    /// The template it was cloned from.
    pub template: String,
    /// The pool it serves.
    pub pool: Option<String>,
    /// The base its disk lies on; `None`: a full or flattened clone.
    pub base: Option<String>,
    /// The base its content came from.
    pub origin: String,
    /// What it is there for.
    pub role: Role,
    /// Where it is in its life.
    pub phase: Phase,
    /// Its number in its pool.
    pub slot: Option<u32>,
    /// Of the plan that made or last changed it.
    pub generation: u64,
    /// The name under which whoever asked for it knows it, when a warm clone was taken.
    pub claim: Option<String>,
    /// The node that works on it.
    pub owner: String,
    /// When its phase began, seconds since 1970.
    pub since_s: u64,
    /// An address that was given out to it.
    pub address: Option<IpAddr>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// What a machine is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Serves a pool, or stands alone.
    Member,
    /// Waits, booted.
    Warm,
}

/// Where a machine is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Being made; after a crash it is removed.
    Creating,
    /// Whole.
    Ready,
    /// Being removed; after a crash that goes on.
    Deleting,
}

impl Role {
    /// `member` or `warm`.
    pub fn word(self) -> &'static str {
        match self {
            Role::Member => "member",
            Role::Warm => "warm",
        }
    }
}

impl Phase {
    /// `creating`, `ready` or `deleting`.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Creating => "creating",
            Phase::Ready => "ready",
            Phase::Deleting => "deleting",
        }
    }
}

impl Metadata {
    /// From now on it is in this phase.
    pub fn enter(&mut self, phase: Phase, now: std::time::SystemTime) {
        self.phase = phase;
        self.since_s = crate::view::unix_s(now) as u64;
    }

    /// The element, as `virDomainSetMetadata` takes it: without the prefix, which libvirt adds.
    pub fn bare(&self) -> Element {
        let mut element = Element::new("machine")
            .with("template", &self.template)
            .with("origin", &self.origin)
            .with("role", self.role.word())
            .with("phase", self.phase.word())
            .with("generation", self.generation)
            .with("owner", &self.owner)
            .with("since", self.since_s);
        let optional = [("pool", &self.pool), ("base", &self.base), ("claim", &self.claim)];
        for (name, value) in optional.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            element.set_attribute(name, value);
        }
        if let Some(address) = self.address {
            element.set_attribute("address", address);
        }
        if let Some(slot) = self.slot {
            element.set_attribute("slot", slot);
        }
        if !self.labels.is_empty() {
            let labels: Vec<_> = self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            element.set_attribute("labels", labels.join(" "));
        }
        element
    }

    /// The element as it stands in a domain's XML.
    pub fn element(&self) -> Element {
        let mut element = self.bare();
        element.name = format!("{PREFIX}:machine");
        element.attributes.insert(0, (format!("xmlns:{PREFIX}"), NAMESPACE.into()));
        element
    }

    /// From a domain's XML; `None`: it is not ours. What looks like ours but cannot be read is not ours either.
    pub fn of_domain(domain: &Element) -> Option<Metadata> {
        let in_our_namespace =
            |element: &&Element| element.attributes.iter().any(|(name, value)| name.starts_with("xmlns") && value == NAMESPACE);
        let element = domain.at(&["metadata"])?.elements().find(in_our_namespace)?;
        let text = |name: &str| element.attribute(name).map(str::to_owned);
        let labels = element.attribute("labels").unwrap_or("").split(' ').filter_map(|label| label.split_once('='));
        Some(Metadata {
            template: text("template")?,
            pool: text("pool"),
            base: text("base"),
            origin: text("origin").unwrap_or_default(),
            role: if element.attribute("role") == Some("warm") { Role::Warm } else { Role::Member },
            phase: match element.attribute("phase")? {
                "creating" => Phase::Creating,
                "ready" => Phase::Ready,
                "deleting" => Phase::Deleting,
                _ => return None,
            },
            slot: element.attribute("slot").and_then(|number| number.parse().ok()),
            generation: element.attribute("generation").and_then(|number| number.parse().ok()).unwrap_or(0),
            claim: text("claim"),
            owner: text("owner").unwrap_or_default(),
            since_s: element.attribute("since").and_then(|number| number.parse().ok()).unwrap_or(0),
            address: element.attribute("address").and_then(|address| address.parse().ok()),
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        })
    }
}

#[cfg(test)]
pub(crate) fn example() -> Metadata {
    Metadata {
        template: "web".into(),
        pool: Some("we\"b".into()),
        base: Some("weir-base-web-0001-0123456789ab".into()),
        origin: "weir-base-web-0001-0123456789ab".into(),
        role: Role::Warm,
        phase: Phase::Creating,
        slot: Some(3),
        generation: 7,
        claim: None,
        owner: "lb-a".into(),
        since_s: 1_700_000_000,
        address: Some("10.0.0.50".parse().expect("an address")),
        labels: BTreeMap::from([("a".into(), "b".into())]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_reads_what_it_writes() {
        let metadata = example();
        let domain = Element::new("domain").child(Element::new("metadata").child(metadata.element()));
        let read = Element::parse(&domain.to_string()).expect("well formed");
        assert_eq!(Metadata::of_domain(&read), Some(metadata));
    }

    #[test]
    fn what_is_foreign_stays_foreign() {
        for text in [
            "<domain/>",
            "<domain><metadata/></domain>",
            "<domain><metadata><weir:machine xmlns:weir=\"urn:other\" template=\"a\" phase=\"ready\"/></metadata></domain>",
            "<domain><metadata><weir:machine xmlns:weir=\"urn:weir:machine:1\" template=\"a\" phase=\"odd\"/></metadata></domain>",
        ] {
            assert_eq!(Metadata::of_domain(&Element::parse(text).expect("well formed")), None, "{text}");
        }
    }
}
