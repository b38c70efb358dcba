//! What a node does to its machine: addresses and devices, their end with the process, the guardian, answers to neighbours.
#![cfg(target_os = "linux")]

#[allow(unreachable_pub)]
mod support;

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::net::{Lab, run, until};
use support::node::Program;
use support::sniff::Sniffer;

/// How long a busy machine may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a connection is waited for that nobody should answer.
const SILENCE: Duration = Duration::from_millis(500);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn master(lab: &Lab, host: &str, arguments: &[&str]) -> Program {
    let node = Program::weir(lab, host, arguments);
    arguments.iter().filter(|argument| argument.contains("vrid=")).fold(0, |from, _| node.wait_line("backup master", from, PATIENCE).0 + 1);
    node
}

/// A TCP connection from one host to an address of another.
fn connects(lab: &Lab, from: &str, to: &str, patience: Duration) -> bool {
    let to: SocketAddr = to.parse().expect("an address");
    Lab::inside(&lab.space(from), || TcpStream::connect_timeout(&to, patience).is_ok())
}

fn listen(lab: &Lab, host: &str) -> TcpListener {
    Lab::inside(&lab.space(host), || TcpListener::bind("[::]:8080").expect("a free port"))
}

const BOTH: &str = "vrid=51,address=10.9.0.100/24,interval=20";
const SIX: &str = "name=six,vrid=51,address=fe80::100/64,address=fd09::100/64,interval=20";

#[test]
fn neighbours_reach_the_addresses_in_every_mode() {
    for mode in ["tun", "macvlan", "interface"] {
        let lab = Lab::new(&["a", "b"]);
        let _server = listen(&lab, "a");
        let mut node = Program::weir(&lab, "a", &[&format!("{BOTH},mode={mode}"), &format!("{SIX},mode={mode}")]);
        node.wait_line("ipv4 backup master", 0, PATIENCE);
        node.wait_line("ipv6 backup master", 0, PATIENCE);
        until(&format!("{mode}: the addresses are there"), PATIENCE, || lab.has("a", "10.9.0.100") && lab.has("a", "fd09::100"));
        for target in ["10.9.0.100:8080", "[fd09::100]:8080"] {
            // Whatever the announcements taught is forgotten: the neighbour has to ask.
            run(&format!("ip -n {} neigh flush all", lab.space("b")));
            assert!(connects(&lab, "b", target, PATIENCE), "{mode}: {target}\n{}", node.status());
        }
        let status = node.status();
        assert_eq!(status.matches(&format!("mode={mode}")).count(), 2, "{status}");
        node.stop();
        until(&format!("{mode}: the addresses are gone"), PATIENCE, || !lab.has("a", "10.9.0.100") && !lab.has("a", "fd09::100"));
        until(&format!("{mode}: it ends"), PATIENCE, || node.has_ended());
        let links = run(&format!("ip -n {} -o link", lab.space("a")));
        assert!(!links.contains("vr4-") && !links.contains("weir-vip"), "{links}");
    }
}

#[test]
fn a_host_that_answers_no_arp_for_other_links_is_answered_for() {
    let lab = Lab::new(&["a", "b"]);
    run(&format!("ip netns exec {} sysctl -qw net.ipv4.conf.all.arp_ignore=1", lab.space("a")));
    let _server = listen(&lab, "a");
    let _node = master(&lab, "a", &[&format!("{BOTH},mode=tun")]);
    run(&format!("ip -n {} neigh flush all", lab.space("b")));
    assert!(connects(&lab, "b", "10.9.0.100:8080", PATIENCE));
}

/// RFC 9568 sections 6.4.2, 6.4.3, 7.2, 7.4, 8.1.2 and 8.2.2: announced, advertised, answered for and reached by the virtual MAC and never by the
/// interface's own, from the first word on; no address is made of it.
#[test]
fn the_virtual_mac_is_used_where_it_is_wanted() {
    let lab = Lab::new(&["a", "b"]);
    let port = Sniffer::new(&lab, "a");
    let began = Instant::now();
    let mut node = Program::weir(&lab, "a", &[&format!("{BOTH},mode=macvlan"), &format!("{SIX},mode=macvlan")]);
    for (target, mac) in [("10.9.0.100", [0, 0, 0x5e, 0, 1, 51]), ("fd09::100", [0, 0, 0x5e, 0, 2, 51])] {
        let announced =
            port.wait("an announcement", began, PATIENCE, |frame| frame.announced().filter(|(address, _)| *address == ip(target)));
        assert_eq!(announced.1, mac, "{target}");
        port.wait_advert("an advertisement from the virtual MAC", began, PATIENCE, |advert| advert.mac == mac);
    }
    run(&format!("ip -n {} neigh flush all", lab.space("b")));
    let _server = listen(&lab, "a");
    for target in ["10.9.0.100:8080", "[fd09::100]:8080"] {
        assert!(connects(&lab, "b", target, PATIENCE), "{target}");
    }
    let neighbours = run(&format!("ip -n {} neigh", lab.space("b")));
    assert!(neighbours.contains("10.9.0.100 dev eth0 lladdr 00:00:5e:00:01:33"), "{neighbours}");
    assert!(neighbours.contains("fd09::100 dev eth0 lladdr 00:00:5e:00:02:33 router"), "{neighbours}");
    let groups = run(&format!("ip -n {} -6 maddr", lab.space("a")));
    assert!(groups.contains("ff02::1:ff00:100"), "the solicited-node group of fd09::100: {groups}");
    let addresses = run(&format!("ip -n {} -6 -o addr", lab.space("a")));
    assert!(!addresses.contains("200:5eff:fe00"), "an address made of the virtual MAC: {addresses}");
    for frame in port.frames(began) {
        let from_virtual = frame.bytes.get(12..14) == Some(&[8, 6]) && frame.bytes.get(28..32) == Some(&[10, 9, 0, 100]);
        assert!(!from_virtual || frame.bytes[22..28] == [0, 0, 0x5e, 0, 1, 51], "ARP with another MAC: {:?}", frame.bytes);
    }

    // Killed with everything: the device stays, but holds nothing; the next start replaces it.
    node.kill_all();
    until("the address is gone", PATIENCE, || !lab.has("a", "10.9.0.100"));
    let again = master(&lab, "a", &[&format!("{BOTH},mode=macvlan")]);
    drop(again);
}

/// RFC 9568 sections 5.1.1.3, 5.1.2.3, 5.2.4, 5.2.6, 7.2 and 7.3: what leaves, byte by byte.
#[test]
fn what_leaves_is_as_the_protocol_wants_it() {
    let lab = Lab::new(&["a"]);
    let port = Sniffer::new(&lab, "a");
    let began = Instant::now();
    let _node = master(&lab, "a", &[&format!("{BOTH},priority=200,mode=macvlan"), &format!("{SIX},priority=200,mode=macvlan")]);
    let first = |group: IpAddr, mac: [u8; 6]| {
        port.wait("an advertisement", began, PATIENCE, |frame| {
            frame.advert().filter(|advert| advert.priority == 200 && advert.mac == mac && advert.source.is_ipv4() == group.is_ipv4())?;
            Some(frame.bytes.clone())
        })
    };
    let four = first(ip("224.0.0.18"), [0, 0, 0x5e, 0, 1, 51]);
    assert_eq!(four[..6], [1, 0, 0x5e, 0, 0, 0x12]);
    assert_eq!((four[14 + 8], four[14 + 9]), (255, 112), "time to live and protocol");
    assert_eq!((&four[26..30], &four[30..34]), (&[10, 9, 0, 1][..], &[224, 0, 0, 18][..]), "source and destination");
    // Version 3 type 1, number, priority, one address, no reserved bit, 2 hundredths of a second, and the address.
    assert_eq!((&four[34..40], &four[42..46]), (&[0x31, 51, 200, 1, 0, 2][..], &[10, 9, 0, 100][..]));
    let six = first(ip("ff02::12"), [0, 0, 0x5e, 0, 2, 51]);
    assert_eq!(six[..6], [0x33, 0x33, 0, 0, 0, 0x12]);
    assert_eq!((six[14 + 6], six[14 + 7]), (112, 255), "next header and hop limit");
    assert_eq!(six[22..38], "fe80::1".parse::<std::net::Ipv6Addr>().expect("an address").octets());
    assert_eq!(six[38..54], "ff02::12".parse::<std::net::Ipv6Addr>().expect("an address").octets());
    assert_eq!(six[54..60], [0x31, 51, 200, 2, 0, 2]);
    assert_eq!(six[62..78], "fe80::100".parse::<std::net::Ipv6Addr>().expect("an address").octets(), "link-local first");
}

/// RFC 9568 section 6.4.2: a backup answers neither ARP nor neighbour solicitations for the addresses, takes nothing that is sent to them or
/// to the virtual MAC, and sends no router advertisement.
#[test]
fn a_backup_is_not_there() {
    for mode in ["tun", "macvlan"] {
        let lab = Lab::new(&["a", "b"]);
        let _server = listen(&lab, "a");
        let port = Sniffer::new(&lab, "a");
        let began = Instant::now();
        // It listens for two minutes before it may be master.
        let node = Program::weir(
            &lab,
            "a",
            &[&format!("{BOTH},interval=30000,priority=1,mode={mode}"), &format!("{SIX},interval=30000,priority=1,mode={mode}")],
        );
        node.wait_line("ipv4 initialize backup", 0, PATIENCE);
        node.wait_line("ipv6 initialize backup", 0, PATIENCE);
        for target in ["10.9.0.100:8080", "[fd09::100]:8080"] {
            assert!(!connects(&lab, "b", target, SILENCE), "{mode}: {target}");
        }
        let space = lab.space("b");
        for (address, mac) in [("10.9.0.100", "00:00:5e:00:01:33"), ("fd09::100", "00:00:5e:00:02:33")] {
            let neighbours = run(&format!("ip -n {space} neigh show to {address}"));
            assert!(!neighbours.contains("lladdr"), "{mode}: somebody answered: {neighbours}");
            run(&format!("ip -n {space} neigh replace {address} lladdr {mac} dev eth0 nud permanent"));
        }
        for target in ["10.9.0.100:8080", "[fd09::100]:8080"] {
            assert!(!connects(&lab, "b", target, SILENCE), "{mode}: {target}, by the virtual MAC");
        }
        assert!(!node.lines().iter().any(|line| line.contains("backup master")), "{mode}: this took too long: {:?}", node.lines());
        let router = |frame: &support::sniff::Frame| frame.bytes.get(12..14) == Some(&[0x86, 0xdd]) && frame.bytes.get(54) == Some(&134);
        assert!(!port.frames(began).iter().any(router), "no router advertisement");
    }
}

/// RFC 9568 sections 6.1 and 6.4.3: without Accept_Mode the addresses are answered for, ARP as well as neighbour solicitations, and nothing that
/// is sent to them is taken.
#[test]
fn without_accept_mode_it_answers_for_the_addresses_and_takes_nothing() {
    let lab = Lab::new(&["a", "b"]);
    let _server = listen(&lab, "a");
    let _node = master(&lab, "a", &[&format!("{BOTH},accept=no"), &format!("{SIX},accept=no")]);
    let space = lab.space("b");
    run(&format!("ip -n {space} neigh flush all"));
    for (target, address) in [("10.9.0.100:8080", "10.9.0.100"), ("[fd09::100]:8080", "fd09::100")] {
        assert!(!connects(&lab, "b", target, SILENCE), "{target}");
        let neighbours = run(&format!("ip -n {space} neigh show to {address}"));
        assert!(neighbours.contains("lladdr"), "nobody answered for {address}: {neighbours}");
    }
}

#[test]
fn what_a_killed_process_left_changed_is_put_back() {
    let lab = Lab::new(&["a"]);
    let file = std::env::temp_dir().join(format!("{}-settings", lab.bridge()));
    let memory = format!("settings:{}", file.display());
    let setting = |name: &str| {
        let text = run(&format!("ip netns exec {} cat /proc/sys/net/ipv4/conf/eth0/{name}", lab.space("a")));
        text.trim().to_owned()
    };
    let both = || (setting("arp_ignore"), setting("arp_announce"));
    let (quiet, usual) = (("1".to_owned(), "2".to_owned()), ("0".to_owned(), "0".to_owned()));
    let mut node = master(&lab, "a", &[&format!("{BOTH},mode=macvlan"), &memory]);
    until("the kernel does not answer for the address", PATIENCE, || both() == quiet);
    node.kill_all();
    assert_eq!(both(), quiet, "nobody is there to put it back");
    let mut node = Program::weir(&lab, "a", &[&format!("{BOTH},mode=tun"), &memory]);
    until("it is put back", PATIENCE, || both() == usual);
    node.stop();
    until("it ends", PATIENCE, || node.has_ended());
    assert!(!file.exists(), "nothing is left to be put back");
}

#[test]
fn an_address_does_not_outlive_its_process() {
    for mode in ["tun", "macvlan", "interface"] {
        let lab = Lab::new(&["a"]);
        let mut node = master(&lab, "a", &[&format!("{BOTH},mode={mode}")]);
        until("the address is there", PATIENCE, || lab.has("a", "10.9.0.100"));
        node.kill_all();
        until(&format!("{mode}: the address is gone"), PATIENCE, || !lab.has("a", "10.9.0.100"));
    }
}

#[test]
fn the_guardian_says_the_last_words() {
    for mode in ["tun", "interface"] {
        let lab = Lab::new(&["a"]);
        let port = Sniffer::new(&lab, "a");
        let mut node = master(&lab, "a", &[&format!("{BOTH},mode={mode},priority=200")]);
        until("the guardian is ready", PATIENCE, || node.status().contains("guardian=true"));
        let at = Instant::now();
        node.signal(Signal::KILL);
        port.wait_advert("priority 0", at, PATIENCE, |advert| advert.priority == 0 && advert.source == ip("10.9.0.1"));
        until(&format!("{mode}: the address is gone"), PATIENCE, || !lab.has("a", "10.9.0.100"));
    }
}

#[test]
fn the_guardian_is_silent_while_all_is_well_and_after_a_clean_end() {
    let lab = Lab::new(&["a"]);
    let port = Sniffer::new(&lab, "a");
    let began = Instant::now();
    let mut node = master(&lab, "a", &[&format!("{BOTH},priority=200")]);
    until("the guardian is ready", PATIENCE, || node.status().contains("guardian=true"));
    // The guardian is replaced when it dies, and says nothing about it.
    let guardian = node.children()[0];
    rustix::process::kill_process(guardian, Signal::KILL).expect("it lives");
    node.wait_line("it is started again", 0, PATIENCE);
    until("there is another one", PATIENCE, || node.status().contains("guardian=true"));
    assert!(port.adverts(began).iter().all(|advert| advert.priority != 0));
    node.stop();
    until("it ends", PATIENCE, || node.has_ended());
    port.wait_advert("its last words", began, PATIENCE, |advert| advert.priority == 0);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(port.adverts(began).iter().filter(|advert| advert.priority == 0).count(), 1, "its own, and none of the guardian");
}

#[test]
fn a_node_that_cannot_serve_says_so_at_once() {
    let lab = Lab::new(&["a"]);
    let port = Sniffer::new(&lab, "a");
    let mut node = master(&lab, "a", &["vrid=51,address=10.9.0.100/24,interval=1000,priority=200"]);
    let at = Instant::now();
    node.say("eligible vip no");
    port.wait_advert("priority 0", at, PATIENCE, |advert| advert.priority == 0);
    until("the address is gone", PATIENCE, || !lab.has("a", "10.9.0.100"));
    node.say("eligible vip yes");
    let (from, _) = node.wait_line("initialize backup", 3, PATIENCE);
    node.wait_line("backup master", from, PATIENCE);
}

#[test]
fn an_address_that_somebody_removes_is_back_at_once() {
    for (mode, device) in [("tun", "weir-vip0"), ("interface", "eth0")] {
        let lab = Lab::new(&["a"]);
        let port = Sniffer::new(&lab, "a");
        let node = master(&lab, "a", &[&format!("{BOTH},mode={mode}")]);
        until("the address is there", PATIENCE, || lab.has("a", "10.9.0.100"));
        let prefix = if mode == "tun" { 32 } else { 24 };
        let at = Instant::now();
        run(&format!("ip -n {} addr del 10.9.0.100/{prefix} dev {device}", lab.space("a")));
        node.wait_line("address-restored", 0, PATIENCE);
        until("the address is back", PATIENCE, || lab.has("a", "10.9.0.100"));
        port.wait("it is announced again", at, PATIENCE, |frame| frame.announced().filter(|(address, _)| *address == ip("10.9.0.100")));
    }
}

#[test]
fn an_address_on_the_interface_is_kept_fresh() {
    let lab = Lab::new(&["a"]);
    let node = master(&lab, "a", &[&format!("{BOTH},mode=interface")]);
    until("the address is there", PATIENCE, || lab.has("a", "10.9.0.100"));
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        assert!(lab.has("a", "10.9.0.100"), "{:?}", node.lines());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_frozen_master_steps_down_before_it_speaks() {
    let lab = Lab::new(&["a"]);
    let port = Sniffer::new(&lab, "a");
    let node = master(&lab, "a", &[&format!("{BOTH},priority=200")]);
    node.signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(200));
    let at = Instant::now();
    node.signal(Signal::CONT);
    node.wait_line("master backup", 0, PATIENCE);
    let first = port.wait_advert("it is master again, as nobody else is", at, PATIENCE, |advert| advert.priority > 0);
    assert!(first.at - at >= Duration::from_millis(40), "it spoke {:?} after it ran again", first.at - at);
}

#[test]
fn single_peers_are_told_and_signatures_are_checked() {
    let lab = Lab::new(&["a", "b"]);
    let folder = std::env::temp_dir().join(format!("{}-keys", lab.bridge()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let key = |name: &str, digit: char| {
        let path = folder.join(name);
        std::fs::write(&path, format!("1 {}\n", digit.to_string().repeat(64))).expect("a key file");
        path.display().to_string()
    };
    let (right, wrong) = (key("right", 'a'), key("wrong", 'b'));
    let ports = [Sniffer::new(&lab, "a"), Sniffer::new(&lab, "b")];
    let began = Instant::now();
    let mut high = master(&lab, "a", &[&format!("{BOTH},priority=200,peer=10.9.0.2,keys={right}")]);
    let mut low = Program::weir(&lab, "b", &[&format!("{BOTH},priority=100,peer=10.9.0.1,keys={right}")]);
    low.wait_line("initialize backup", 0, PATIENCE);
    until("advertisements are heard", PATIENCE, || !low.status().contains("advertisement_rcvd: 0,"));
    assert!(ports[0].adverts(began).iter().all(|advert| !advert.group), "nothing goes to the group");
    until("the guardian is ready", PATIENCE, || high.status().contains("guardian=true"));
    // The guardian's words are signed too.
    high.signal(Signal::KILL);
    low.wait_line("backup master", 0, PATIENCE);
    until("priority 0 was believed", PATIENCE, || low.status().contains("priority_zero_pkts_rcvd: 1,"));
    // Somebody without the key is not.
    let _forger = Program::weir(&lab, "a", &[&format!("{BOTH},priority=250,peer=10.9.0.2,keys={wrong}")]);
    until("forged packets are counted", PATIENCE, || low.status().contains("\"forged\""));
    assert!(low.status().contains("state=master"));
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn a_group_is_master_together() {
    let lab = Lab::new(&["a", "b"]);
    let routers = |priority: u8| [format!("{BOTH},priority={priority},group=g"), format!("{SIX},priority={priority},group=g,follower=yes")];
    let (first, second) = (routers(200), routers(100));
    let high = master(&lab, "a", &first.each_ref().map(String::as_str));
    high.wait_line("six ipv6 backup master", 0, PATIENCE);
    let mut low = Program::weir(&lab, "b", &second.each_ref().map(String::as_str));
    low.wait_line("six ipv6 initialize backup", 0, PATIENCE);
    let mut high = high;
    high.kill_all();
    low.wait_line("vip ipv4 backup master", 0, PATIENCE);
    low.wait_line("six ipv6 backup master", 0, PATIENCE);
    let status = low.status();
    assert_eq!(status.matches("state=master").count(), 2, "{status}");
}

#[test]
fn sixty_reloads_change_nothing() {
    let lab = Lab::new(&["a", "b"]);
    let port = Sniffer::new(&lab, "a");
    let mut high = master(&lab, "a", &[&format!("{BOTH},interval=300,priority=200,mode=tun")]);
    let mut low = Program::weir(&lab, "b", &[&format!("{BOTH},interval=300,priority=100,mode=tun")]);
    low.wait_line("initialize backup", 0, PATIENCE);
    let began = Instant::now();
    for round in 0..60 {
        high.say(&format!("apply {BOTH},interval=300,priority={},mode=tun", 200 + round % 3));
        low.say(&format!("apply {BOTH},interval=300,priority={},mode=tun", 100 + round % 3));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(high.status().contains("master_transitions: 1,"), "{}", high.status());
    assert!(low.status().contains("master_transitions: 0,"), "{}", low.status());
    assert!(port.adverts(began).iter().all(|advert| advert.priority >= 200));
}

#[test]
fn an_interface_may_come_later_and_go() {
    let lab = Lab::new(&["a", "b"]);
    let mut node = Program::weir(&lab, "a", &["interface=late0,vrid=51,address=10.9.0.100/24,interval=20"]);
    until("it says what it waits for", PATIENCE, || node.status().contains("late0"));
    let space = lab.space("a");
    run(&format!("ip -n {space} link add late0 type veth peer name late1"));
    run(&format!("ip -n {space} link set late1 up"));
    run(&format!("ip -n {space} addr add 10.9.7.1/24 dev late0"));
    run(&format!("ip -n {space} link set late0 up"));
    let (from, _) = node.wait_line("backup master", 0, PATIENCE);
    run(&format!("ip -n {space} link del late0"));
    node.wait_line("master initialize", from, PATIENCE);
    until("the address is gone", PATIENCE, || !lab.has("a", "10.9.0.100"));
}

#[test]
fn without_capabilities_it_says_which_are_missing() {
    let mut path = std::env::current_exe().expect("a test has a file");
    path.pop();
    path.pop();
    path.push("examples/vip_node");
    let output = Command::new("setpriv")
        .args(["--bounding-set=-net_raw,-net_admin", "--inh-caps=-all", "--"])
        .arg(path)
        .arg(BOTH)
        .output()
        .expect("setpriv of util-linux");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("CAP_NET_ADMIN") && text.contains("CAP_NET_RAW"), "{text}");
}

#[test]
fn every_packet_of_ours_is_valid_for_tshark() {
    let lab = Lab::new(&["a"]);
    let port = Sniffer::new(&lab, "a");
    let began = Instant::now();
    let mut node = master(
        &lab,
        "a",
        &[
            BOTH,
            SIX,
            "name=two,vrid=52,version=2,interval=1000,address=10.9.0.102/24",
            "name=new,vrid=53,interval=20,checksum=rfc9568,address=10.9.0.103/24",
        ],
    );
    node.wait_line("two ipv4 backup master", 0, PATIENCE);
    port.wait_advert("an advertisement of version 2", began, PATIENCE, |advert| advert.version == 2);
    node.stop();
    until("it ends", PATIENCE, || node.has_ended());
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    let frames = port.frames(began);
    for frame in &frames {
        let at = frame.at - began;
        for number in [at.as_secs() as u32, at.subsec_micros(), frame.bytes.len() as u32, frame.bytes.len() as u32] {
            file.extend_from_slice(&number.to_le_bytes());
        }
        file.extend_from_slice(&frame.bytes);
    }
    let path = std::env::temp_dir().join(format!("{}.pcap", lab.bridge()));
    std::fs::write(&path, file).expect("a capture file");
    let tshark = |filter: &str| {
        let path = path.display().to_string();
        let mut command = Command::new("tshark");
        command.args([
            "-n",
            "-r",
            &path,
            "-o",
            "ip.check_checksum:TRUE",
            "-Y",
            filter,
            "-T",
            "fields",
            "-e",
            "frame.number",
            "-e",
            "_ws.col.Info",
        ]);
        let output = command.output().expect("tshark; scripts/test installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let advertisements = tshark("vrrp").lines().count();
    assert!(advertisements > 100, "{advertisements} advertisements");
    assert!(tshark("vrrp.version == 2").lines().count() > 0);
    // A word between nodes (type 15) is no packet of the protocol: routers discard it, and tshark takes it for a bad advertisement.
    let bad = tshark(
        "((vrrp && !(vrrp.type == 15)) || arp || icmpv6.type == 136) && (_ws.malformed || (_ws.expert.severity >= 0x600000 && !(vrrp.virt_rtr_id == 53)) || ip.checksum.status == 0 || icmpv6.checksum.status == 0 || (vrrp.checksum.status == 0 && !(vrrp.virt_rtr_id == 53)))",
    );
    assert_eq!(bad, "", "tshark finds fault with these");
    let _ = std::fs::remove_file(&path);
}
