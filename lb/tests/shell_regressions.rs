//! The data plane against real sockets: mistakes that were made once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use weir_config::Config;
use weir_lb::shell::{DataPlane, Options, Vitality};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Below the range out of which the kernel gives ports to clients and to whoever binds port 0, so that nobody takes it meanwhile.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 200) as u16 * 100;
    loop {
        let address = SocketAddr::from(([127, 0, 0, 1], first + NEXT.fetch_add(1, Ordering::Relaxed) % 100));
        if TcpStream::connect(address).is_err() {
            return address;
        }
    }
}

fn config(text: &str) -> Arc<Config> {
    Arc::new(weir_config::parse(text, "test").unwrap_or_else(|errors| panic!("{}", errors.render(false))))
}

fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
        head.push(byte[0]);
    }
    head
}

/// Answers every request with one letter and closes.
fn letter_server(letter: char) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in socket.incoming().map_while(Result::ok) {
            if !read_head(&mut stream).is_empty() {
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n{letter}");
            }
        }
    });
    address
}

fn client(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One request on a connection that stays open; status and the first byte of the body.
fn ask(stream: &mut TcpStream) -> (u16, char) {
    write!(stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let head = String::from_utf8(read_head(stream)).unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), char::from(byte[0]))
}

#[test]
fn bytes_behind_a_body_survive_a_failed_attempt() {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin_address = origin.local_addr().unwrap();
    let (told, heads) = mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in origin.incoming().map_while(Result::ok) {
            let head = read_head(&mut stream);
            let body = if head.starts_with(b"POST") { 10 } else { 0 };
            if told.send(head).is_err() || stream.read_exact(&mut vec![0; body]).is_err() {
                return;
            }
        }
    });
    let address = free_address();
    let plane = DataPlane::start(
        config(&format!(
            "[node]\nname = \"t\"\nworkers = 1\n[listener.web]\nbind = \"{address}\"\nprotocol = \"http\"\npool = \"web\"\n\
             [pool.web]\nendpoints = [\"{origin_address}\"]\n"
        )),
        Options::default(),
    )
    .unwrap();
    let mut client = client(address);
    write!(client, "POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n").unwrap();
    assert!(heads.recv_timeout(PATIENCE).unwrap().starts_with(b"POST /first "));
    write!(client, "0123456789GET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answers = String::new();
    client.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 502 ").count(), 2, "{answers}");
    assert!(heads.recv_timeout(PATIENCE).unwrap().starts_with(b"GET /second "));
    plane.shutdown(Duration::ZERO);
}

#[test]
fn an_interim_response_does_not_take_the_place_of_an_answer() {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin_address = origin.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in origin.incoming().map_while(Result::ok) {
            read_head(&mut stream);
            let _ = write!(stream, "HTTP/1.1 100 Continue\r\n\r\n").and_then(|()| stream.read_exact(&mut [0; 2]));
        }
    });
    let address = free_address();
    let plane = DataPlane::start(
        config(&format!(
            "[node]\nname = \"t\"\nworkers = 1\n[listener.web]\nbind = \"{address}\"\nprotocol = \"http\"\npool = \"web\"\n\
             [pool.web]\nendpoints = [\"{origin_address}\"]\n"
        )),
        Options::default(),
    )
    .unwrap();
    let mut client = client(address);
    write!(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n").unwrap();
    assert!(read_head(&mut client).starts_with(b"HTTP/1.1 100 "));
    client.write_all(b"ab").unwrap();
    assert!(read_head(&mut client).starts_with(b"HTTP/1.1 502 "));
    plane.shutdown(Duration::ZERO);
}

#[test]
fn nobody_in_the_queue_is_forgotten() {
    let origin = letter_server('a');
    let address = free_address();
    let plane = DataPlane::start(
        config(&format!(
            "[node]\nname = \"t\"\nworkers = 3\n[listener.web]\nbind = \"{address}\"\nprotocol = \"http\"\npool = \"web\"\n\
             [pool.web]\nendpoints = [\"{origin}\"]\n[pool.web.limits]\nconnections_per_endpoint = 2\nqueue_timeout = \"20s\"\n"
        )),
        Options::default(),
    )
    .unwrap();
    let clients = (0..12).map(|_| std::thread::spawn(move || (0..25).map(|_| ask(&mut client(address))).collect::<Vec<_>>()));
    let clients: Vec<_> = clients.collect();
    for client in clients {
        assert!(client.join().unwrap().into_iter().all(|answer| answer == (200, 'a')));
    }
    plane.shutdown(Duration::ZERO);
}

#[test]
fn a_connection_that_outlives_its_listener_reaches_no_other_pool() {
    let (a, b, c) = (letter_server('a'), letter_server('b'), letter_server('c'));
    let (at_a, at_b, at_c) = (free_address(), free_address(), free_address());
    let part = |name: &str, address: SocketAddr, origin: SocketAddr| {
        format!(
            "[listener.{name}]\nbind = \"{address}\"\nprotocol = \"http\"\npool = \"{name}\"\n[pool.{name}]\nendpoints = [\"{origin}\"]\n"
        )
    };
    let whole = |parts: &[String]| config(&format!("[node]\nname = \"t\"\nworkers = 1\n{}", parts.concat()));
    let (part_a, part_b, part_c) = (part("a", at_a, a), part("b", at_b, b), part("c", at_c, c));

    let plane = DataPlane::start(whole(std::slice::from_ref(&part_a)), Options::default()).unwrap();
    let mut old = client(at_a);
    assert_eq!(ask(&mut old), (200, 'a'));
    plane.apply(whole(std::slice::from_ref(&part_b))).unwrap();
    // The worker has seen the change, and lets go of the old truth.
    assert_eq!(ask(&mut client(at_b)), (200, 'b'));
    plane.apply(whole(&[part_b, part_c])).unwrap();
    assert_eq!(ask(&mut client(at_c)), (200, 'c'));
    assert_eq!(ask(&mut old).0, 503);
    plane.shutdown(Duration::ZERO);
}

/// An address of TEST-NET-1 (RFC 5737) is never here. As a virtual IP it may come; as any other address it is a mistake.
#[test]
fn only_an_address_that_moves_can_be_listened_on_before_it_is_here() {
    let port = free_address().port();
    let site = format!("[listener.a]\nbind = \"192.0.2.1:{port}\"\nprotocol = \"tcp\"\npool = \"a\"\n[pool.a]\n");
    let refused = DataPlane::start(config(&site), Options::default()).err().map(|error| error.to_string());
    assert_eq!(refused, Some(format!("listener `a`: cannot listen on 192.0.2.1:{port}")));
    let vip = "[vip.a]\ninterface = \"lo\"\nrouter_id = 1\naddresses = [\"192.0.2.1/24\"]\n";
    let plane = DataPlane::start(config(&format!("{site}{vip}")), Options::default()).expect("it waits for the address");
    let (tell, told) = mpsc::channel();
    let watch = plane.watch(
        Duration::from_millis(10),
        PATIENCE,
        || {},
        move |vitality| {
            let _ = tell.send(vitality);
        },
    );
    let watch = watch.expect("a thread");
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Vitality::Alive));
    plane.shutdown(Duration::ZERO);
    assert!(matches!(told.recv_timeout(PATIENCE), Ok(Vitality::Dead { .. })));
    drop(watch);
}
