//! The life of machines when nothing goes wrong.

use std::time::Duration;

use lab::http_get;
use weir_hypervisor::{Hypervisor, Progress, Verb};

use crate::{Site, clone, domains, run, support, v4, volumes};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn the_contract_holds_on_real_hosts() {
    run(async {
        let site = Site::new(1);
        site.make_foreign();
        let fleet = site.fleet(&site.config("")).await;
        support::contract(&fleet).await;
        site.check_foreign();
    });
}

#[test]
fn clones_leave_base_and_siblings_alone_and_nothing_behind() {
    run(async {
        let site = Site::new(1);
        site.make_foreign();
        let host = site.lab.host("kvm-a");
        let before = (domains(host), volumes(host));
        let fleet = site.fleet(&site.config("")).await;
        let (one, two) = tokio::join!(clone(&fleet, "web-1"), clone(&fleet, "web-2"));
        let base = volumes(host).difference(&before.1).find(|name| name.contains("base")).cloned().expect("a base");
        let base = host.path("/var/lib/libvirt/images").join(base);
        let content = std::fs::read(&base).expect("it can be read");
        for machine in [&one, &two] {
            let (_, identity) = http_get(v4(machine), "/identity", SOON).expect("it serves");
            for (key, value) in
                [("hostname", &machine.name), ("instance_id", &machine.id.to_string()), ("machine_id", &machine.id.machine_id())]
            {
                assert!(identity.contains(&format!("\"{key}\":\"{value}\"")), "{key} {value}: {identity}");
            }
            assert_eq!(http_get(v4(machine), "/", SOON).expect("it serves").1.trim(), machine.name);
        }
        http_get(v4(&one), "/mark?value=7", SOON).expect("it serves");
        assert!(http_get(v4(&one), "/identity", SOON).expect("it serves").1.contains("\"mark\":\"7\""));
        assert!(http_get(v4(&two), "/identity", SOON).expect("it serves").1.contains("\"mark\":\"\""), "a sibling changed");
        assert!(std::fs::read(&base).expect("it can be read") == content, "the base changed");

        let base = one.metadata.as_ref().and_then(|metadata| metadata.base.clone()).expect("it is linked");
        for name in ["web-1", "web-2"] {
            fleet.act(name, Verb::Delete, Progress::default()).await.expect("it is ours");
        }
        fleet.remove_base(&base).await.expect("nobody lies on it");
        assert_eq!((domains(host), volumes(host)), before);
        site.check_foreign();
    });
}
