//! The UDP listener: datagrams reach one endpoint and come back, through reload, drain and upgrade.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::rig::{LONG, SOON, STATUS_PATH, Site, Weir, pool, wait_until};

/// Answers every datagram with its own port before it.
fn origin(address: SocketAddr) -> SocketAddr {
    let socket = UdpSocket::bind(address).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let answer = [&address.port().to_be_bytes(), &buffer[..length]].concat();
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

fn site(listen: SocketAddr, endpoints: &[SocketAddr], more: &str) -> String {
    format!("[listener.dns]\nbind = \"{listen}\"\nprotocol = \"udp\"\npool = \"dns\"\n\n{}", pool("dns", endpoints, more))
}

fn client(listen: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::new(listen.ip(), 0)).unwrap();
    socket.connect(listen).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

/// Asks until it is answered, as a client of a lossy network does. The port of who answered.
#[track_caller]
fn ask(socket: &UdpSocket, text: &[u8]) -> u16 {
    let mut buffer = vec![0; 65_536];
    let mut port = 0;
    wait_until("an answer", SOON, || {
        let _ = socket.send(text);
        let Ok(length) = socket.recv(&mut buffer) else { return false };
        port = u16::from_be_bytes([buffer[0], buffer[1]]);
        &buffer[2..length] == text
    });
    port
}

#[test]
fn a_flow_stays_where_it_is_and_flows_are_spread() {
    let place = Site::new();
    let (listen, a, b) = (place.address(), origin(place.address()), origin(place.address()));
    let weir = Weir::start(&place, &site(listen, &[a, b], "balance = \"round-robin\""));
    let clients: Vec<UdpSocket> = (0..20).map(|_| client(listen)).collect();
    let ports: Vec<u16> = clients.iter().map(|client| ask(client, b"hello")).collect();
    for address in [a, b] {
        assert!(ports.iter().filter(|port| **port == address.port()).count() >= 5, "{ports:?}");
    }
    for size in [0, 1, 64, 1400, 9000, 60_000] {
        for (client, port) in clients.iter().zip(&ports) {
            assert_eq!(ask(client, &vec![7; size]), *port);
        }
    }
    // A reload that has nothing to do with them.
    weir.reload(&site(listen, &[a, b], "balance = \"random\""));
    for (client, port) in clients.iter().zip(&ports) {
        assert_eq!(ask(client, b"again"), *port);
    }
    // An endpoint leaves: its flows stay until their time is up.
    let drained = format!("{}\n[listener.dns.timeouts]\nflow_drain = \"300ms\"\n", site(listen, &[b], ""));
    weir.reload(&drained);
    for client in &clients {
        wait_until("the flow to move", SOON, || ask(client, b"moved?") == b.port());
    }
    assert_eq!(weir.api_get(STATUS_PATH)["listeners"][0]["protocol"], "udp");
}

#[test]
fn an_upgrade_takes_the_sockets_over() {
    let place = Site::new();
    let (listen, a) = (place.address(), origin(place.address()));
    let weir = Weir::start(&place, &site(listen, &[a], ""));
    let before = weir.pid();
    let client = client(listen);
    assert_eq!(ask(&client, b"before"), a.port());
    weir.cli_ok(&["upgrade"]);
    wait_until("the new process", LONG, || weir.ready() && weir.pid() != before);
    assert_eq!(ask(&client, b"after"), a.port());
    wait_until("the old process to end", LONG, || weir.exited().is_some());
    assert_eq!(ask(&client, b"long after"), a.port());
}

#[test]
fn many_sources_cost_no_more_than_the_cap() {
    let place = Site::new();
    let (listen, a) = (place.address(), origin(place.address()));
    let text = site(listen, &[a], "").replacen("pool =", "connections_max = 50\npool =", 1);
    let weir = Weir::start(&place, &text);
    for _ in 0..1000 {
        client(listen).send(b"x").unwrap();
    }
    assert!(weir.endpoint("dns", a)["open"]["sessions"].as_u64().unwrap() <= 50);
    // Who comes later gets a place once others have been quiet.
    assert_eq!(ask(&client(listen), b"later"), a.port());
}
