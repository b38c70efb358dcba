//! How a machine's address is found. The guest is played: what answers under its MAC is a DHCP client, or an entry of the neighbour table.

use std::time::Duration;

use weir_hypervisor::{CloneSpec, Fleet, Hypervisor, HypervisorError, MachineView, Progress, WaitFor};

use crate::daemon::Daemon;
use crate::support::{ours, spec, until};
use crate::{fleet, real, run};

const NETWORK: &str = "<network xmlns:dnsmasq='http://libvirt.org/schemas/network/dnsmasq/1.0'><name>lan</name><forward mode='open'/>\
                       <bridge name='lan0' stp='off' delay='0'/><ip address='10.66.0.1' prefix='24'><dhcp><range start='10.66.0.10' \
                       end='10.66.0.19'/></dhcp></ip><dnsmasq:options><dnsmasq:option value='no-ping'/></dnsmasq:options></network>";

async fn settled(daemon: &Daemon, template: &str, bridge: &str) -> Fleet {
    let fleet = fleet(&real(daemon, template).replace("bridge = \"weirbr0\"", bridge));
    assert!(fleet.settled(Duration::from_secs(20)).await, "{:?}", fleet.hosts());
    fleet
}

fn waiting(name: &str) -> CloneSpec {
    CloneSpec { wait: WaitFor::Ready, ..spec(name) }
}

/// Makes a machine, and lets `guest` play it as soon as its MAC is known.
async fn made(fleet: &Fleet, name: &str, guest: impl FnOnce(&str)) -> Result<MachineView, HypervisorError> {
    let clone = tokio::spawn(fleet.clone_machine(waiting(name), Progress::default()));
    let mac = || ours(fleet).into_iter().find(|machine| machine.name == name).and_then(|machine| machine.mac);
    until("its MAC", || mac().is_some()).await;
    guest(&mac().expect("it has one"));
    clone.await.expect("no panic")
}

#[test]
fn a_lease_of_libvirts_dhcp_server_is_found() {
    let daemon = Daemon::start();
    let file = daemon.folder.path().join("lan.xml");
    std::fs::write(&file, NETWORK).expect("written");
    assert!(daemon.virsh(&["net-define", &file.display().to_string()]) && daemon.virsh(&["net-start", "lan"]), "{}", daemon.log());
    run(async {
        let fleet = settled(&daemon, "address = \"lease\"\nboot_timeout = \"120s\"", "network = \"lan\"").await;
        let machine = made(&fleet, "web-1", |mac| {
            daemon.inside("ip link add guest type veth peer name plug");
            daemon.inside("ip link set plug master lan0 up");
            daemon.inside(&format!("ip link set guest address {mac} up"));
            daemon.inside("busybox udhcpc -i guest -n -q -t 20 -T 1 -s /bin/true");
        });
        let machine = machine.await.unwrap_or_else(|error| panic!("{}", error.chain()));
        let address = machine.address.expect("it was waited for").to_string();
        assert!(address.starts_with("10.66.0.1"), "{address}");
        assert_eq!(ours(&fleet)[0].address.map(|address| address.to_string()), Some(address), "it is remembered");
    });
}

#[test]
fn an_address_in_the_neighbour_table_is_found() {
    let daemon = Daemon::start();
    run(async {
        let fleet = settled(&daemon, "address = \"arp\"\nboot_timeout = \"120s\"", "bridge = \"weirbr0\"").await;
        let machine = made(&fleet, "web-1", |mac| {
            // A bridge with an address of its own keeps it, and its neighbours, when a machine is plugged in.
            daemon.inside("ip link set weirbr0 address 02:00:00:00:00:01");
            daemon.inside("ip address add 10.67.0.1/24 dev weirbr0");
            daemon.inside(&format!("ip neigh replace 10.67.0.9 lladdr {mac} dev weirbr0 nud permanent"));
        });
        let machine = machine.await.unwrap_or_else(|error| panic!("{}", error.chain()));
        assert_eq!(machine.address.map(|address| address.to_string()).as_deref(), Some("10.67.0.9"));
    });
}

#[test]
fn addresses_that_are_given_out_are_known_at_once() {
    let daemon = Daemon::start();
    run(async {
        let pool = "[template.web.static]\nfirst = \"10.68.0.10\"\nlast = \"10.68.0.11\"\nprefix = 24\n";
        let fleet = settled(&daemon, pool, "bridge = \"weirbr0\"").await;
        for (name, expected) in [("web-1", "10.68.0.10"), ("web-2", "10.68.0.11")] {
            let machine = fleet.clone_machine(waiting(name), Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
            assert_eq!(machine.address.map(|address| address.to_string()).as_deref(), Some(expected));
        }
        let refused = fleet.clone_machine(waiting("web-3"), Progress::default()).await.expect_err("there is no third");
        assert!(refused.to_string().contains("widen [template.web.static]"), "{refused}");
    });
}

#[test]
fn without_an_address_in_time_nothing_is_left() {
    let daemon = Daemon::start();
    run(async {
        for word in ["agent", "arp", "lease"] {
            let fleet = settled(&daemon, &format!("address = \"{word}\"\nboot_timeout = \"2s\""), "bridge = \"weirbr0\"").await;
            let refused = fleet.clone_machine(waiting("web-1"), Progress::default()).await.expect_err("nobody has an address");
            let expected = format!("web-1 on a has no address after 2 s, asking by {word}");
            assert!(matches!(&refused, HypervisorError::Timeout(why) if why.starts_with(&expected)), "{word}: {}", refused.chain());
            assert_eq!(ours(&fleet).len(), 0, "{word}");
            assert_eq!(fleet.collect_garbage(true).await.expect("it answers"), [], "{word}");
        }
    });
}
