//! Each fault does what it says, to whom it says, and is undone.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use lab::{Fault, GuestOptions, Host, Lab, LabOptions, Node, http_get, wait_for, wait_http};

const BOOT: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_secs(1);

fn lab(hosts: usize) -> Lab {
    Lab::up(LabOptions { hosts, nodes: vec!["lb-a".to_owned(), "client".to_owned()], ..LabOptions::default() }).unwrap()
}

/// Whether a connection to a host's libvirtd can be made from here.
fn connects(address: Ipv4Addr) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((address, 16509)), MOMENT).is_ok()
}

/// Its libvirtd answers, however long that takes.
fn works(host: Host<'_>) -> bool {
    host.virsh(&["list"]).is_ok()
}

/// Whether a host's libvirtd does not only take the connection, but answers.
fn answers(host: Host<'_>) -> bool {
    let mut command = std::process::Command::new("timeout");
    command.args(["1", "virsh", "-q", "-c", &host.uri(), "list"]).output().unwrap().status.success()
}

/// How many of `count` datagrams arrive.
fn arrive(from: &Node, to: &Node, count: u32) -> u32 {
    let receiver = to.within(|| UdpSocket::bind((to.address(), 0))).unwrap();
    receiver.set_read_timeout(Some(MOMENT)).unwrap();
    let sender = from.within(|| UdpSocket::bind((from.address(), 0))).unwrap();
    let mut got = 0;
    for _ in 0..count {
        sender.send_to(b"x", receiver.local_addr().unwrap()).unwrap();
    }
    while receiver.recv(&mut [0; 8]).is_ok() {
        got += 1;
    }
    got
}

/// How long a transfer takes.
fn transfer(from: &Node, to: &Node, bytes: usize) -> Duration {
    let listener = to.within(|| TcpListener::bind((to.address(), 0))).unwrap();
    let address = listener.local_addr().unwrap();
    let mut sender = from.within(|| TcpStream::connect(address)).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    let began = Instant::now();
    let writer = std::thread::spawn(move || sender.write_all(&vec![0; bytes]));
    let mut got = Vec::new();
    receiver.read_to_end(&mut got).unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(got.len(), bytes);
    began.elapsed()
}

#[test]
fn hosts_are_machines_of_their_own() {
    let lab = lab(2);
    let [a, b] = [lab.host("kvm-a"), lab.host("kvm-b")];
    let address = lab.addresses().free(0);
    a.start_guest(&GuestOptions { address: Some(address), ..GuestOptions::new("one") }).unwrap();
    assert!(a.virsh(&["list", "--name"]).unwrap().contains("one"));
    assert!(!b.virsh(&["list", "--all", "--name"]).unwrap().contains("one"));
    assert!(a.path("/var/lib/libvirt/images/one.qcow2").exists() && !b.path("/var/lib/libvirt/images/one.qcow2").exists());
    let uuid = |host: Host<'_>| host.virsh(&["capabilities"]).unwrap().lines().find(|line| line.contains("<uuid>")).map(str::to_owned);
    assert_ne!(uuid(a).expect("a host has an id"), uuid(b).expect("a host has an id"));
    // The guest is reached from everywhere: the machine, a node, the other host.
    wait_http(address, "/", BOOT).unwrap();
    lab.node("client").within(|| http_get(address, "/", SOON)).unwrap();
    b.within(|| http_get(address, "/", SOON)).unwrap();
    // Nobody else's processes are on a host.
    let seen = a.command("busybox").unwrap().args(["ps", "-o", "args"]).output().unwrap();
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(seen.contains("guest=one") && seen.matches("libvirtd --daemon").count() == 1, "{seen}");
}

#[test]
fn power_freeze_and_disk() {
    let lab = lab(2);
    let [a, b] = [lab.host("kvm-a"), lab.host("kvm-b")];
    let address = lab.addresses().free(0);
    a.start_guest(&GuestOptions { address: Some(address), ..GuestOptions::new("one") }).unwrap();
    wait_http(address, "/", BOOT).unwrap();

    a.freeze().unwrap();
    assert!(http_get(address, "/", MOMENT).is_err() && !answers(a) && works(b));
    a.thaw().unwrap();
    assert!(works(a));
    wait_http(address, "/", SOON).unwrap();

    a.fill_disk(1).unwrap();
    assert!(std::fs::write(a.path("/var/lib/libvirt/images/big"), vec![1; 2 << 20]).is_err());
    std::fs::remove_file(a.path("/var/lib/libvirt/images/big")).unwrap();
    a.free_disk().unwrap();
    std::fs::write(a.path("/var/lib/libvirt/images/big"), vec![1; 2 << 20]).unwrap();

    // Everything that runs dies at once; the disk stays.
    a.power_off().unwrap();
    assert!(!connects(a.address()) && http_get(address, "/", MOMENT).is_err() && works(b));
    assert!(a.command("true").is_err());
    assert!(a.path("/var/lib/libvirt/images/one.qcow2").exists());
    a.power_on().unwrap();
    assert!(works(a));
    assert_eq!(a.virsh(&["list", "--all", "--name"]).unwrap().trim(), "", "a transient guest is gone with its host");
    assert!(a.path("/var/lib/libvirt/images/big").exists());
}

#[test]
fn libvirtd_stops_hangs_and_comes_back() {
    let lab = lab(1);
    let host = lab.host("kvm-a");
    let address = lab.addresses().free(0);
    host.start_guest(&GuestOptions { address: Some(address), ..GuestOptions::new("one") }).unwrap();
    wait_http(address, "/", BOOT).unwrap();

    host.hang_libvirtd().unwrap();
    assert!(connects(host.address()) && !answers(host), "the kernel accepts, nobody answers");
    host.resume_libvirtd().unwrap();
    assert!(works(host));

    for stop in [Host::stop_libvirtd, Host::kill_libvirtd] {
        stop(&host).unwrap();
        assert!(!connects(host.address()));
        assert!(stop(&host).is_err(), "nothing to stop");
        http_get(address, "/", SOON).expect("guests go on without libvirtd");
        host.start_libvirtd().unwrap();
        assert_eq!(host.virsh(&["domstate", "one"]).unwrap().trim(), "running");
    }
}

#[test]
fn faults_of_the_network() {
    let lab = lab(1);
    let (lb, client) = (lab.node("lb-a"), lab.node("client"));
    let name = |node: &Node| node.name().to_owned();
    assert_eq!(arrive(&lb, &client, 50), 50);

    let cut = Fault::Cut { member: "kvm-a".to_owned() };
    lab.begin(cut.clone()).unwrap();
    assert!(!connects(lab.host("kvm-a").address()));
    assert_eq!(arrive(&lb, &client, 50), 50, "others do not notice");
    lab.end(&cut).unwrap();
    wait_for("the cable back", SOON, || connects(lab.host("kvm-a").address()).then_some(())).unwrap();

    let one_way = Fault::OneWay { from: name(&lb), to: name(&client) };
    lab.begin(one_way.clone()).unwrap();
    assert_eq!((arrive(&lb, &client, 50), arrive(&client, &lb, 50)), (0, 50));
    lab.end(&one_way).unwrap();
    assert_eq!(arrive(&lb, &client, 50), 50);

    let loss = Fault::Loss { member: name(&client), percent: 30 };
    lab.begin(loss.clone()).unwrap();
    let got = arrive(&lb, &client, 200);
    assert!((95..=180).contains(&got), "{got} of 200 arrived");
    lab.end(&loss).unwrap();
    assert_eq!(arrive(&lb, &client, 200), 200);

    // 1 MiB at 8 Mbit/s takes a second, in either direction.
    let slow = Fault::Slow { member: name(&client), kbit_per_s: 8000 };
    lab.begin(slow.clone()).unwrap();
    for took in [transfer(&lb, &client, 1 << 20), transfer(&client, &lb, 1 << 20)] {
        assert!((Duration::from_millis(800)..Duration::from_secs(60)).contains(&took), "{took:?}");
    }
    lab.end(&slow).unwrap();
    let is_fast = || (transfer(&lb, &client, 1 << 20) < Duration::from_millis(500)).then_some(());
    wait_for("full speed", SOON, is_fast).unwrap();
}

#[test]
fn mistakes_are_told() {
    let lab = lab(1);
    for (fault, expected) in [
        (Fault::Cut { member: "nobody".to_owned() }, "no host or node named nobody"),
        (Fault::Loss { member: "lb-a".to_owned(), percent: 0 }, "1 to 100 percent"),
        (Fault::Slow { member: "lb-a".to_owned(), kbit_per_s: 1 }, "at least 8 kbit/s"),
    ] {
        let error = lab.begin(fault).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = Lab::up(LabOptions { name: lab.name(), ..LabOptions::default() }).unwrap_err().to_string();
    assert!(error.contains("is up already"), "{error}");
    for (name, nodes) in [("", vec![]), ("a_b", vec![]), ("fine", vec!["a b"]), ("fine", vec!["kvm-a"]), ("fine", vec!["a", "a"])] {
        let nodes = nodes.into_iter().map(str::to_owned).collect();
        assert!(Lab::up(LabOptions { name: name.to_owned(), nodes, ..LabOptions::default() }).is_err());
    }
}
