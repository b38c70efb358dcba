//! What can be done to a host from outside, and is undone by taking it off the list.

use serde::{Deserialize, Serialize};

use crate::LabError;
use crate::network::{SWITCH, ip, nft};
use crate::record::Record;

/// A fault of the network. Several may hold at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The cable is pulled: nothing in, nothing out.
    Cut {
        /// Host or node.
        member: String,
    },
    /// Frames go from one to the other no more; the way back stays.
    OneWay {
        /// Who sends in vain.
        from: String,
        /// Who hears nothing.
        to: String,
    },
    /// A share of all frames of a member is lost, in either direction.
    Loss {
        /// Host or node.
        member: String,
        /// 1 to 100.
        percent: u8,
    },
    /// The member's link carries no more than this, in each direction.
    Slow {
        /// Host or node.
        member: String,
        /// At least 8.
        kbit_per_s: u32,
    },
}

impl Fault {
    /// Whose cable it is about.
    fn members(&self) -> Vec<&str> {
        match self {
            Self::Cut { member } | Self::Loss { member, .. } | Self::Slow { member, .. } => vec![member],
            Self::OneWay { from, to } => vec![from, to],
        }
    }

    fn check(&self, record: &Record) -> Result<(), LabError> {
        for member in self.members() {
            if !record.hosts.iter().any(|host| host.name == member) && !record.nodes.iter().any(|node| node == member) {
                return Err(LabError::Unknown { what: "host or node", name: member.to_owned() });
            }
        }
        match self {
            Self::Loss { percent, .. } if !(1..=100).contains(percent) => Err(LabError::Options("a loss is 1 to 100 percent".to_owned())),
            Self::Slow { kbit_per_s, .. } if *kbit_per_s < 8 => Err(LabError::Options("a slow link carries at least 8 kbit/s".to_owned())),
            _ => Ok(()),
        }
    }
}

/// The whole table of the switch: what is dropped between its ports.
fn ruleset(faults: &[Fault]) -> String {
    let mut rules = String::new();
    for fault in faults {
        match fault {
            Fault::Cut { member } => {
                rules.push_str(&format!("iifname \"p-{member}\" drop\noifname \"p-{member}\" drop\n"));
            }
            Fault::OneWay { from, to } => rules.push_str(&format!("iifname \"p-{from}\" oifname \"p-{to}\" drop\n")),
            Fault::Loss { member, percent } => {
                for side in ["iifname", "oifname"] {
                    rules.push_str(&format!("{side} \"p-{member}\" numgen random mod 100 < {percent} drop\n"));
                }
            }
            Fault::Slow { .. } => {}
        }
    }
    // Made, flushed and filled in one transaction.
    format!(
        "table bridge lab\ndelete table bridge lab\ntable bridge lab {{\nchain forward {{\ntype filter hook forward priority 0; policy accept;\n{rules}}}\n}}\n"
    )
}

/// Adds a fault to those that hold.
pub(crate) fn begin(record: &mut Record, fault: Fault) -> Result<(), LabError> {
    fault.check(record)?;
    if record.faults.contains(&fault) {
        return Ok(());
    }
    record.faults.push(fault.clone());
    record.save()?;
    if let Fault::Slow { member, kbit_per_s } = &fault {
        for (namespace, link) in ends(record, member) {
            // A bucket of 20 ms, and a queue as a modem has it.
            let burst = (kbit_per_s * 1000 / 8 / 50).max(1600);
            let line = format!("tc -n {namespace} qdisc replace dev {link} root tbf rate {kbit_per_s}kbit burst {burst} latency 200ms");
            crate::command::run(&mut crate::command::words(&line))?;
        }
    }
    nft(&record.namespace(SWITCH), &ruleset(&record.faults))
}

/// Takes a fault away; one that does not hold is no error.
pub(crate) fn end(record: &mut Record, fault: &Fault) -> Result<(), LabError> {
    if !record.faults.contains(fault) {
        return Ok(());
    }
    if let Fault::Slow { member, .. } = fault {
        for (namespace, link) in ends(record, member) {
            crate::command::run(&mut crate::command::words(&format!("tc -n {namespace} qdisc delete dev {link} root")))?;
        }
    }
    record.faults.retain(|held| held != fault);
    nft(&record.namespace(SWITCH), &ruleset(&record.faults))?;
    // A cut cable leaves the switch with old knowledge of where everybody is; a real one notices the link.
    ip(&record.namespace(SWITCH), "link set sw type bridge fdb_flush\n")?;
    record.save()
}

/// Both ends of a member's cable.
fn ends(record: &Record, member: &str) -> [(String, String); 2] {
    [(record.namespace(SWITCH), format!("p-{member}")), (record.namespace(member), "eth0".to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_become_rules_in_their_order() {
        let text = ruleset(&[
            Fault::Cut { member: "a".to_owned() },
            Fault::OneWay { from: "a".to_owned(), to: "b".to_owned() },
            Fault::Loss { member: "b".to_owned(), percent: 30 },
            Fault::Slow { member: "b".to_owned(), kbit_per_s: 100 },
        ]);
        let rules: Vec<&str> = text.lines().filter(|line| line.ends_with("drop")).collect();
        assert_eq!(
            rules,
            [
                "iifname \"p-a\" drop",
                "oifname \"p-a\" drop",
                "iifname \"p-a\" oifname \"p-b\" drop",
                "iifname \"p-b\" numgen random mod 100 < 30 drop",
                "oifname \"p-b\" numgen random mod 100 < 30 drop",
            ]
        );
    }
}
