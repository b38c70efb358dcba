//! Clients that come back, to two nodes, over reloads and upgrades of their connections.

use std::net::SocketAddr;

use crate::origin::Origin;
use crate::rig::{SOON, Site, Weir, pool, wait_until};
use crate::wire::{self, Peer, Response};

fn ask(address: SocketAddr, fields: &str) -> Response {
    wire::send(address, "GET", &format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).expect("an answer")
}

/// The cookie that a response sets, as a field that brings it back.
fn cookie(response: &Response) -> Option<String> {
    let set = response.head.field("set-cookie")?;
    Some(format!("Cookie: other=1; {}\r\n", set.split(';').next().unwrap_or_default()))
}

fn site_text(listen: SocketAddr, origins: &[&Origin], session: &str) -> String {
    let endpoints: Vec<SocketAddr> = origins.iter().map(|origin| origin.address).collect();
    format!("[listener.web]\nbind = \"{listen}\"\npool = \"web\"\n{}[pool.web.session]\n{session}\n", pool("web", &endpoints, ""))
}

#[test]
fn a_cookie_is_understood_by_both_nodes() {
    let (site, other) = (Site::new(), Site::new());
    let origins: Vec<Origin> = ["a", "b", "c"].map(|name| Origin::start(&site, name)).into();
    let all: Vec<&Origin> = origins.iter().collect();
    let reversed: Vec<&Origin> = origins.iter().rev().collect();
    let keys = site.write("keys", &("a secret of this test".repeat(2) + "\n"));
    let (here, there) = (site.address(), other.address());
    let session = |gone: &str| format!("type = \"cookie\"\nkey_file = {keys:?}\ngone = \"{gone}\"\n");
    let one = Weir::start(&site, &site_text(here, &all, &session("rebalance")));
    let _two = Weir::start(&other, &site_text(there, &reversed, &session("rebalance")));

    let first = ask(here, "");
    let set = first.head.field("set-cookie").expect("a client that is new is told").to_owned();
    assert!(set.starts_with("weir-session=") && set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
    let back = cookie(&first).unwrap();
    for at in [here, there, here, there, here, there] {
        let again = ask(at, &back);
        assert_eq!((again.text(), again.head.field("set-cookie")), (first.text(), None));
    }
    // A cookie that was not made here leads nowhere, and is replaced.
    let forged = ask(here, "Cookie: weir-session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n");
    assert!(forged.status == 200 && forged.head.field("set-cookie").is_some());
    // Of a connection that is upgraded, too.
    let mut peer = Peer::connect(there).unwrap();
    let upgrade = format!("GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{back}\r\n");
    let own = origins.iter().find(|origin| origin.seen.name == first.text()).unwrap();
    let before = own.requests();
    peer.send(upgrade).unwrap();
    assert_eq!(peer.response("GET").unwrap().status, 101);
    assert_eq!(own.requests(), before + 1);
    drop(peer);

    // Drained: its clients go elsewhere, for good.
    one.cli_ok(&["drain", &own.address.to_string()]);
    let moved = ask(here, &back);
    assert!(moved.status == 200 && moved.text() != first.text());
    let next = cookie(&moved).expect("it is told of the other");
    assert_eq!(ask(here, &next).text(), moved.text());
    // Or they fail, where no other will do; whoever is new is served.
    one.reload(&site_text(here, &all, &session("fail")));
    assert_eq!(ask(here, &back).status, 503);
    assert_eq!((ask(here, &next).text(), ask(here, "").status), (moved.text(), 200));
    let gone = "weir_listener_requests_total{listener=\"web\",cause=\"session-gone\"} 1";
    wait_until(gone, SOON, || wire::get(one.api(), "/metrics").unwrap().text().lines().any(|line| line == gone));
    // Removed from the pool it is still known to have been one of it.
    let left: Vec<&Origin> = all.iter().copied().filter(|origin| origin.address != own.address).collect();
    one.reload(&site_text(here, &left, &session("fail")));
    assert_eq!(ask(here, &back).status, 503);

    // Another key first: sessions of the old one stay, signed anew.
    let old = std::fs::read_to_string(&keys).unwrap();
    site.write("keys", &format!("{}\n{old}", "another secret of it".repeat(2)));
    one.cli_ok(&["reload"]);
    let renewed = ask(here, &next);
    assert_eq!(renewed.text(), moved.text());
    assert!(cookie(&renewed).is_some_and(|cookie| cookie != next));
    // A file that cannot be used leaves everything as it was, and says why.
    site.write("keys", "short\n");
    let refused = one.cli(&["reload"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("fewer than 32 characters") && told.contains("openssl rand"), "{told}");
    assert_eq!(ask(here, &next).text(), moved.text());
}

#[test]
fn a_source_stays_where_it_was() {
    let site = Site::new();
    let origins: Vec<Origin> = ["a", "b", "c", "d"].map(|name| Origin::start(&site, name)).into();
    let all: Vec<&Origin> = origins.iter().collect();
    let listen = site.address();
    let raw = site.address();
    let session = "type = \"source\"\nexpiry = \"1h\"\n";
    let tcp = format!("[listener.raw]\nbind = \"{raw}\"\nprotocol = \"tcp\"\npool = \"web\"\n");
    let weir = Weir::start(&site, &(tcp.clone() + &site_text(listen, &all, session)));
    let first = ask(listen, "");
    assert!(first.head.field("set-cookie").is_none());
    for _ in 0..10 {
        assert_eq!((ask(listen, "").text(), ask(raw, "").text()), (first.text(), first.text()));
    }
    // What did not change is kept over a reload.
    weir.reload(&(tcp + &site_text(listen, &all, session).replace("[pool.web.session]", "min_healthy = 2\n[pool.web.session]")));
    assert_eq!(ask(listen, "").text(), first.text());
    let own = origins.iter().find(|origin| origin.seen.name == first.text()).unwrap();
    weir.cli_ok(&["drain", &own.address.to_string()]);
    let moved = ask(listen, "").text();
    assert_ne!(moved, first.text());
    weir.cli_ok(&["undrain", &own.address.to_string()]);
    wait_until("the endpoint to be ready again", SOON, || weir.endpoint("web", own.address)["state"] == "ready");
    assert_eq!((ask(listen, "").text(), ask(raw, "").text()), (moved.clone(), moved));
}
