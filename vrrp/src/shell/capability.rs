//! What this process may do, and what to say if it may not.

use rustix::thread::{CapabilitySet, capabilities};

/// What the virtual IPs need, in the words of the manual page, with the reason.
const NEEDED: [(CapabilitySet, &str, &str); 2] = [
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN", "to add addresses and devices"),
    (CapabilitySet::NET_RAW, "CAP_NET_RAW", "to send and receive VRRP and ARP packets"),
];

/// What is missing of what is needed: name and reason.
pub(crate) fn missing() -> Vec<(&'static str, &'static str)> {
    let effective = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    missing_of(effective)
}

fn missing_of(effective: CapabilitySet) -> Vec<(&'static str, &'static str)> {
    NEEDED.iter().filter(|(one, ..)| !effective.contains(*one)).map(|(_, name, reason)| (*name, *reason)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_one_is_named() {
        assert_eq!(missing_of(CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW | CapabilitySet::SYS_NICE), []);
        assert_eq!(missing_of(CapabilitySet::NET_ADMIN), [("CAP_NET_RAW", "to send and receive VRRP and ARP packets")]);
        assert_eq!(missing_of(CapabilitySet::empty()).len(), 2);
    }
}
