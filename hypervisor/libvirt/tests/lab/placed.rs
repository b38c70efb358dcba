//! Where a guest is found, and how it moves.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lab::http_get;
use weir_hypervisor::{CloneSpec, Hypervisor, Progress, Verb, WaitFor};

use crate::support::spec;
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

#[test]
fn ten_at_once_are_spread_over_two_hosts_and_all_serve() {
    run(async {
        let site = Site::new(2);
        let hosts = [site.lab.host("kvm-a"), site.lab.host("kvm-b")];
        let fleet = site.fleet(&site.config("")).await;
        let began = Instant::now();
        let names: Vec<String> = (1..=10).map(|number| format!("web-{number}")).collect();
        let wish = |name: &String| CloneSpec { wait: WaitFor::Ready, ..spec(name) };
        let clones: Vec<_> = names.iter().map(|name| tokio::spawn(fleet.clone_machine(wish(name), Progress::default()))).collect();
        let (mut addresses, mut machines) = (BTreeSet::new(), BTreeSet::new());
        for clone in clones {
            let machine = clone.await.expect("no panic").unwrap_or_else(|error| panic!("{}", error.chain()));
            assert_eq!(http_get(v4(&machine), "/", SOON).expect("it serves").1.trim(), machine.name);
            assert!(addresses.insert(v4(&machine)), "two have {}", v4(&machine));
            machines.insert((machine.host, machine.name));
        }
        println!("ten serve after {:?}", began.elapsed());
        for host in hosts {
            assert_eq!(machines.iter().filter(|(on, _)| on == host.name()).count(), 5, "{machines:?}");
            // The base came once, and every disk lies on it.
            let bases: Vec<String> = volumes(host).into_iter().filter(|name| name.contains("base")).collect();
            assert_eq!(bases.len(), 2, "a base and its seal: {bases:?}");
        }
        let deletions: Vec<_> = names.iter().map(|name| tokio::spawn(fleet.act(name, Verb::Delete, Progress::default()))).collect();
        for deletion in deletions {
            deletion.await.expect("no panic").unwrap_or_else(|error| panic!("{}", error.chain()));
        }
        assert!(hosts.iter().all(|host| domains(*host).is_empty()));
        assert_eq!(fleet.collect_garbage(true).await.expect("they answer"), []);
    });
}
