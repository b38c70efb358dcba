//! Every sentence of RFC 9568 in which a router MUST or MUST NOT, and the tests that hold it: each test is there, and names the section in its
//! name or in the comment above it. What does not apply to this program says why.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How a rule is held.
enum Held {
    /// By these tests.
    By(&'static [&'static str]),
    /// It asks for nothing here, because...
    Not(&'static str),
}

use Held::{By, Not};

/// Section, what it demands in our words, and who holds it.
const RULES: &[(&str, &str, Held)] = &[
    ("5.1.1.1", "sent from the primary address of the interface", By(&["primary_is_the_first_that_is_no_virtual_one"])),
    (
        "5.1.1.2",
        "packets to 224.0.0.18 are not forwarded",
        Not("packets are heard on packet sockets and end there; the kernel forwards no local group"),
    ),
    ("5.1.1.3", "sent with a time to live of 255", By(&["what_leaves_is_as_the_protocol_wants_it"])),
    ("5.1.1.3", "received with another time to live: discarded", By(&["each_packet_has_its_reaction_and_its_counter"])),
    ("5.1.2.1", "sent from the link-local address of the interface", By(&["primary_is_the_first_that_is_no_virtual_one"])),
    ("5.1.2.2", "packets to ff02::12 are not forwarded", Not("as with IPv4: the group's scope is the link")),
    ("5.1.2.3", "sent with a hop limit of 255", By(&["what_leaves_is_as_the_protocol_wants_it"])),
    ("7.1", "received with another hop limit: discarded", By(&["rfc_9568_section_7_1_time_to_live"])),
    ("5.2.1", "another version is discarded", By(&["every_receive_rule_has_a_name"])),
    ("5.2.2", "an unknown type is discarded", By(&["every_receive_rule_has_a_name", "each_packet_has_its_reaction_and_its_counter"])),
    ("5.2.4", "the owner of the addresses has priority 255", By(&["tracking_changes_the_rank_within_bounds_and_never_an_owners"])),
    ("5.2.4", "all others have 1 to 254", By(&["tracking_changes_the_rank_within_bounds_and_never_an_owners"])),
    ("5.2.5", "an advertisement of no address is ignored (erratum 8299)", By(&["each_packet_has_its_reaction_and_its_counter"])),
    ("5.2.6", "the reserved bits are sent as zero", By(&["what_leaves_is_as_the_protocol_wants_it"])),
    ("5.2.6", "the reserved bits are ignored when received", By(&["each_packet_has_its_reaction_and_its_counter"])),
    ("5.2.7", "the interval is counted in hundredths of a second, of which there is one at least", By(&["intervals_a_version_can_write"])),
    (
        "5.2.8",
        "the checksum covers the message, over IPv6 with a pseudo-header",
        By(&["packets_of_keepalived_are_read_and_written_alike", "every_receive_rule_has_a_name"]),
    ),
    (
        "5.2.9",
        "the first IPv6 address is the virtual router's link-local one",
        By(&["rfc_9568_section_5_2_9_ipv6_begins_with_a_link_local_address"]),
    ),
    (
        "5.2.9",
        "all addresses are of the family of the packet that carries them",
        By(&["rfc_9568_section_5_2_9_ipv6_begins_with_a_link_local_address"]),
    ),
    ("6.1", "skew time and master down interval are computed in this way", By(&["rfc_9568_section_6_1_skew_and_master_down_interval"])),
    ("6.1", "the owner preempts whatever Preempt_Mode says", By(&["rfc_9568_section_6_1_the_owner_preempts_whatever_preempt_mode_says"])),
    (
        "6.1",
        "neighbour discovery is never dropped, whatever Accept_Mode says",
        By(&["without_accept_mode_it_answers_for_the_addresses_and_takes_nothing"]),
    ),
    ("6.4.1", "the owner is master at once, and says so", By(&["rfc_9568_section_6_4_1_owner_becomes_master_at_startup"])),
    (
        "6.4.1",
        "all others listen for the master down interval first",
        By(&["rfc_9568_section_6_4_1_others_listen_for_the_master_down_interval"]),
    ),
    ("6.4.2", "a backup answers no ARP for the addresses", By(&["a_backup_is_not_there"])),
    ("6.4.2", "a backup answers no neighbour solicitation for them", By(&["a_backup_is_not_there"])),
    ("6.4.2", "a backup sends no router advertisement for the virtual router", By(&["a_backup_is_not_there"])),
    ("6.4.2", "a backup discards what is sent to the virtual MAC", By(&["a_backup_is_not_there"])),
    ("6.4.2", "a backup takes nothing that is sent to the addresses", By(&["a_backup_is_not_there"])),
    ("6.4.2", "a backup that is shut down says nothing", By(&["rfc_9568_section_6_4_2_shutdown_sends_nothing"])),
    (
        "6.4.2",
        "a backup whose master is silent advertises, announces and is master",
        By(&[
            "rfc_9568_section_6_4_2_master_down_makes_it_master",
            "gratuitous_arp_asks_everybody_for_itself",
            "neighbour_advertisement_has_flags_and_hardware_address",
        ]),
    ),
    ("6.4.2", "priority 0 makes a backup wait the skew time", By(&["rfc_9568_section_6_4_2_priority_zero_waits_the_skew_time"])),
    (
        "6.4.2",
        "a master of at least the own rank, or any without preemption, is listened to and its interval learnt",
        By(&[
            "rfc_9568_section_6_4_2_a_better_or_equal_master_resets_the_timer_and_teaches_its_interval",
            "rfc_9568_section_6_4_2_without_preemption_a_lower_master_resets_the_timer",
        ]),
    ),
    (
        "6.4.2",
        "with preemption a lower master is not listened to",
        By(&["rfc_9568_section_6_4_2_with_preemption_a_lower_master_is_not_listened_to"]),
    ),
    ("6.4.3", "a master answers ARP for the addresses", By(&["the_virtual_mac_is_used_where_it_is_wanted"])),
    (
        "6.4.3",
        "a master is a member of the solicited-node groups of its IPv6 addresses",
        By(&["the_virtual_mac_is_used_where_it_is_wanted"]),
    ),
    (
        "6.4.3",
        "a master answers neighbour solicitations, with the router flag",
        By(&["solicitations_are_checked_and_answered", "the_virtual_mac_is_used_where_it_is_wanted"]),
    ),
    (
        "6.4.3",
        "a master sends router advertisements for the virtual router",
        Not("the addresses are those of a service, and no host's default route: it is no IPv6 router of the link"),
    ),
    ("6.4.3", "a master forwards what is sent to the virtual MAC", By(&["the_virtual_mac_is_used_where_it_is_wanted"])),
    (
        "6.4.3",
        "a master takes what is sent to the addresses if it owns them or Accept_Mode is on",
        By(&["the_virtual_mac_is_used_where_it_is_wanted"]),
    ),
    ("6.4.3", "and else it does not", By(&["without_accept_mode_it_answers_for_the_addresses_and_takes_nothing"])),
    ("6.4.3", "a master that is shut down says priority 0", By(&["rfc_9568_section_6_4_3_shutdown_sends_priority_zero"])),
    ("6.4.3", "a master advertises every interval", By(&["rfc_9568_section_6_4_3_advertises_every_interval"])),
    ("6.4.3", "a master answers priority 0 at once", By(&["rfc_9568_section_6_4_3_priority_zero_is_answered_at_once"])),
    (
        "6.4.3",
        "a master gives way to a higher rank, or the same one with the greater address",
        By(&["rfc_9568_section_6_4_3_gives_way_to_a_higher_priority_or_the_greater_address"]),
    ),
    ("6.4.3", "a master answers any other one at once", By(&["rfc_9568_section_6_4_3_a_loser_that_speaks_is_answered_at_once"])),
    (
        "7.1",
        "the checks of time to live, version, type, length, checksum, number and interval",
        By(&["every_receive_rule_has_a_name", "each_packet_has_its_reaction_and_its_counter"]),
    ),
    ("7.1", "two owners are said and not discarded (erratum 8298)", By(&["erratum_8298_two_owners_are_said_and_the_greater_address_wins"])),
    ("7.1", "what fails a check is discarded", By(&["nothing_broken_moves_a_backup"])),
    (
        "7.1",
        "other addresses or another interval are no reason to discard",
        By(&["rfc_9568_section_7_1_other_addresses_are_said_and_not_discarded", "each_packet_has_its_reaction_and_its_counter"]),
    ),
    (
        "7.2",
        "the fields are those of the configuration, the checksum is right",
        By(&["what_leaves_is_as_the_protocol_wants_it", "packets_of_keepalived_are_read_and_written_alike"]),
    ),
    ("7.2", "sent from the virtual MAC (where the device has it: `mode`)", By(&["what_leaves_is_as_the_protocol_wants_it"])),
    (
        "7.2",
        "sent from the primary or the link-local address, as protocol 112, to the group",
        By(&["what_leaves_is_as_the_protocol_wants_it"]),
    ),
    (
        "7.3",
        "the virtual MAC is made of family and number",
        By(&["the_virtual_mac_of_section_7_3", "what_leaves_is_as_the_protocol_wants_it"]),
    ),
    ("7.4", "no interface identifier is made of the virtual MAC", By(&["the_virtual_mac_is_used_where_it_is_wanted"])),
    (
        "8.1.2",
        "ARP for the addresses is never answered with the interface's own MAC (where the device has the virtual one)",
        By(&["the_virtual_mac_is_used_where_it_is_wanted"]),
    ),
    ("8.1.2", "no gratuitous ARP before address and virtual MAC are there", By(&["the_virtual_mac_is_used_where_it_is_wanted"])),
    ("8.1.3", "proxy ARP says the virtual MAC", Not("no proxy ARP is done")),
    (
        "8.2.2",
        "solicitations for the addresses are never answered with the interface's own MAC",
        By(&["the_virtual_mac_is_used_where_it_is_wanted"]),
    ),
    ("8.2.2", "no neighbour advertisement before address and virtual MAC are there", By(&["the_virtual_mac_is_used_where_it_is_wanted"])),
    (
        "8.2.2",
        "solicitations sent as virtual router carry the virtual MAC",
        Not("solicitations leave in the name of the interface's own address"),
    ),
    ("8.2.3", "backups are set up for the same router advertisements", Not("none are sent")),
    (
        "8.4.2",
        "a master of both versions advertises both",
        Not("a virtual router speaks one version; speaking both is offered for a change of versions that has to be without a gap"),
    ),
    ("8.4.2", "a backup of both versions times out at the master's rate", Not("as above")),
];

/// All sources that may hold a test of the protocol.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the project").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Each test with its name and the comment above it.
fn tests() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        sources(&root.join(folder), &mut files);
    }
    let mut found = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source");
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for at in lines.iter().enumerate().filter(|(_, line)| **line == "#[test]").map(|(at, _)| at) {
            let name = lines[at + 1..].iter().find_map(|line| line.strip_prefix("fn ")?.split('(').next());
            let comment = lines[..at]
                .iter()
                .rev()
                .take_while(|line| line.starts_with("///"))
                .fold(String::new(), |text, line| format!("{line} {text}"));
            if let Some(name) = name {
                found.insert(name.to_owned(), comment);
            }
        }
    }
    found
}

/// Whether a text names a section: "6.4" is not named by "6.4.3".
fn names(text: &str, section: &str) -> bool {
    text.match_indices(section).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), &text[at + section.len()..]);
        let goes_on = after.starts_with(|c: char| c.is_ascii_digit())
            || after.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        before == Some(' ') && !goes_on
    })
}

#[test]
fn every_rule_has_a_test_that_names_it() {
    let tests = tests();
    let mut wrong = Vec::new();
    for (section, rule, held) in RULES {
        let By(holders) = held else { continue };
        assert!(!holders.is_empty(), "{section} {rule}");
        for holder in *holders {
            let Some(comment) = tests.get(*holder) else {
                wrong.push(format!("{section} ({rule}): there is no test {holder}"));
                continue;
            };
            let by_name = holder.split_once("section_").is_some_and(|(_, rest)| {
                let digits: Vec<&str> = rest.split('_').take_while(|part| part.chars().all(|c| c.is_ascii_digit())).collect();
                digits.join(".") == *section
            });
            if !by_name && !names(comment, section) {
                wrong.push(format!("{section} ({rule}): {holder} does not name the section"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    for (section, rule, held) in RULES {
        assert!(!rule.is_empty() && !matches!(held, Not("")), "{section} says why");
    }
}

/// A test that names a section of the protocol in its name is in the table: so that a rule is not held by a test that nobody finds.
#[test]
fn every_test_that_names_a_section_is_in_the_table() {
    let holders: Vec<&str> = RULES.iter().flat_map(|(_, _, held)| if let By(tests) = held { tests.to_vec() } else { Vec::new() }).collect();
    let missing: Vec<String> =
        tests().into_keys().filter(|name| name.starts_with("rfc_9568_section_") && !holders.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn sections_are_told_apart() {
    assert!(names("/// RFC 9568 sections 6.1, 6.4.2 and 7.1: all", "6.4.2"));
    assert!(names("/// RFC 9568 section 6.4.2.", "6.4.2"));
    assert!(!names("/// RFC 9568 section 6.4.2", "6.4"));
    assert!(!names("/// RFC 9568 section 16.4", "6.4"));
}
