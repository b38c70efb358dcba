//! Where a guest is found, and how it moves.

use std::time::Duration;

use lab::http_get;
use weir_hypervisor::{Hypervisor, Progress, Verb};

use crate::{Site, clone, domains, run, v4, volumes};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_guest_is_found_by_agent_lease_neighbours_and_what_it_was_given() {
    run(async {
        let site = Site::new(1);
        let (first, last) = (site.lab.addresses().free(0), site.lab.addresses().free(1));
        let given = format!("[template.web.static]\nfirst = \"{first}\"\nlast = \"{last}\"\nprefix = 22\n");
        for more in ["address = \"agent\"", "address = \"lease\"", "address = \"arp\"", &given] {
            let fleet = site.fleet(&site.config(more)).await;
            let machine = clone(&fleet, "web-1").await;
            assert_eq!(http_get(v4(&machine), "/", SOON).expect("it serves").1.trim(), "web-1", "{more}");
            assert!(!more.contains("static") || v4(&machine) == first, "{more}: {machine:?}");
            fleet.act("web-1", Verb::Delete, Progress::default()).await.expect("it is ours");
        }
    });
}

#[test]
fn a_running_guest_moves_to_another_host_and_nothing_stays_behind() {
    run(async {
        let site = Site::new(2);
        let (a, b) = (site.lab.host("kvm-a"), site.lab.host("kvm-b"));
        let fleet = site.fleet(&site.config("")).await;
        fleet.prefetch("web".into(), Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        let before = [(domains(a), volumes(a)), (domains(b), volumes(b))];
        let machine = clone(&fleet, "web-1").await;
        let to = if machine.host == "kvm-a" { "kvm-b" } else { "kvm-a" };
        http_get(v4(&machine), "/mark?value=7", SOON).expect("it serves");
        fleet.migrate("web-1", to.into(), Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        let moved = fleet.machines().into_iter().find(|machine| machine.name == "web-1").expect("it is somewhere");
        assert_eq!((moved.host.as_str(), &moved.id), (to, &machine.id));
        let identity = http_get(v4(&machine), "/identity", SOON).expect("it serves from there").1;
        assert!(identity.contains("\"mark\":\"7\""), "it is another one: {identity}");
        fleet.act("web-1", Verb::Delete, Progress::default()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        assert_eq!([(domains(a), volumes(a)), (domains(b), volumes(b))], before);
    });
}
