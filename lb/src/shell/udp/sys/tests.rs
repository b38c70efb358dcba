use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::Duration;

use super::*;

const NOBODY: FlowId = FlowId { index: 0, generation: 0 };

fn to(bytes: &[u8]) -> Outgoing<'_> {
    Outgoing { bytes, segment: 0, to: None, from: None, flow: NOBODY }
}

fn pair() -> (UdpSocket, UdpSocket) {
    let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    a.connect(b.local_addr().unwrap()).unwrap();
    b.connect(a.local_addr().unwrap()).unwrap();
    b.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    (a, b)
}

/// A wildcard socket is asked at one of its addresses and answers from there.
fn check_wildcard(wildcard: &str, asked: IpAddr) {
    let server = UdpSocket::bind(wildcard).unwrap();
    tell_local_address(server.as_fd(), asked.is_ipv4()).unwrap();
    let mut segments = offload(server.as_fd());
    let client = UdpSocket::bind(SocketAddr::new(asked, 0)).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let port = server.local_addr().unwrap().port();
    let texts = ["one", "", "three", "fours", "five"];
    for text in texts {
        client.send_to(text.as_bytes(), SocketAddr::new(asked, port)).unwrap();
    }
    let mut inbox = Inbox::new();
    assert_eq!(inbox.receive(server.as_fd()).unwrap(), texts.len());
    let answers: Vec<Outgoing<'_>> = inbox
        .messages()
        .map(|got| Outgoing { bytes: got.bytes, segment: got.segment, to: got.peer, from: got.local, flow: got.flow })
        .collect();
    assert!(answers.iter().all(|a| a.from == Some(asked) && a.to == client.local_addr().ok()));
    let sent = Outbox::new().send(server.as_fd(), &answers, &mut segments);
    assert_eq!((sent.datagrams, sent.bytes, sent.dropped), (5, 17, [0; Dropped::COUNT]));
    for text in texts {
        let mut buffer = [0; 16];
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (text.as_bytes(), SocketAddr::new(asked, port)));
    }
    inbox.clear();
    assert_eq!(inbox.receive(server.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn answers_leave_from_the_address_that_was_asked() {
    check_wildcard("0.0.0.0:0", Ipv4Addr::new(127, 9, 8, 7).into());
    check_wildcard("[::]:0", Ipv6Addr::LOCALHOST.into());
}

#[test]
fn only_what_goes_the_same_way_in_the_same_size_is_joined() {
    let check = |sizes: &[usize], expected: usize| {
        let bytes = vec![0; 65_536];
        let outgoing: Vec<Outgoing<'_>> = sizes.iter().map(|size| to(&bytes[..*size])).collect();
        assert_eq!(join(&outgoing), expected, "{sizes:?}");
    };
    check(&[], 1);
    check(&[0, 0], 1);
    check(&[5], 1);
    check(&[5, 5, 5], 3);
    check(&[5, 5, 4, 4], 3);
    check(&[5, 5, 0], 2);
    check(&[5, 6], 1);
    check(&[60_000, 60_000], 1);
    check(&[30_000, 30_000, 30_000], 2);
    check(&[1; 100], SEGMENTS_MAX);
    let address = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
    let a = Outgoing { to: address(1), ..to(b"12345") };
    assert_eq!(join(&[a, Outgoing { to: address(2), ..a }]), 1);
    assert_eq!(join(&[a, Outgoing { from: Some(Ipv4Addr::LOCALHOST.into()), ..a }]), 1);
    assert_eq!(join(&[Outgoing { segment: 2, ..a }, a]), 1);
    assert_eq!(join(&[a, Outgoing { segment: 2, ..a }]), 1);
}

/// Any mixture of sizes arrives as it was, one by one, in order; joined or not.
#[test]
fn datagrams_keep_their_bounds() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut outbox = Outbox::new();
    for round in 0..300 {
        let (a, b) = pair();
        let mut segments = offload(a.as_fd()) && round % 3 != 0;
        let payload: Vec<u8> = (0..70_000).map(|_| random.u8(..)).collect();
        let mut sizes = Vec::new();
        while sizes.iter().sum::<usize>() < 40_000 && sizes.len() < 60 {
            let size = random.choice([0, 1, 2, 64, 64, 64, 1200, 1472, 9000]).unwrap();
            sizes.extend(std::iter::repeat_n(size, random.usize(1..6)));
        }
        let outgoing: Vec<Outgoing<'_>> = sizes.iter().map(|size| to(&payload[*size..2 * *size])).collect();
        let sent = outbox.send(a.as_fd(), &outgoing, &mut segments);
        assert_eq!((sent.datagrams, sent.dropped), (sizes.len() as u64, [0; Dropped::COUNT]), "round {round}: {sizes:?}");
        for (index, size) in sizes.iter().enumerate() {
            let mut buffer = [0; 10_000];
            let length = b.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], &payload[*size..2 * *size], "round {round}: datagram {index} of {sizes:?}");
        }
    }
}

/// What comes as one message goes on as one message, and arrives as what it was.
#[test]
fn what_the_kernel_put_together_is_passed_on_whole() {
    let ((a, b), (c, d)) = (pair(), pair());
    let mut segments = offload(a.as_fd());
    offload(b.as_fd());
    assert!(segments, "this kernel is too old for the test");
    let payload: Vec<u8> = (0..10 * 1200 - 100).map(|i| (i % 251) as u8).collect();
    let outgoing: Vec<Outgoing<'_>> = payload.chunks(1200).map(to).collect();
    let mut outbox = Outbox::new();
    outbox.send(a.as_fd(), &outgoing, &mut segments);
    let mut inbox = Inbox::new();
    assert_eq!(inbox.receive(b.as_fd()).unwrap(), 1, "on the loopback it comes as it was sent");
    let got = inbox.messages().next().unwrap();
    assert_eq!((got.bytes, got.segment, datagrams(got.bytes, got.segment)), (&*payload, 1200, 10));
    for mut segments in [true, false] {
        let out = [Outgoing { segment: got.segment, ..to(got.bytes) }];
        let sent = if segments {
            outbox.send(c.as_fd(), &out, &mut segments)
        } else {
            let singles: Vec<Outgoing<'_>> = got.bytes.chunks(got.segment).map(to).collect();
            outbox.send(c.as_fd(), &singles, &mut segments)
        };
        assert_eq!((sent.datagrams, sent.bytes), (10, payload.len() as u64));
        for chunk in payload.chunks(1200) {
            let mut buffer = [0; 2000];
            let length = d.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], chunk);
        }
    }
}

#[test]
fn what_cannot_be_sent_is_counted_by_why_and_the_rest_is_sent() {
    let (a, b) = pair();
    let huge = vec![1; 65_536];
    let outgoing = [to(b"before"), to(&huge), to(b"after")];
    let sent = Outbox::new().send(a.as_fd(), &outgoing, &mut true);
    assert_eq!((sent.datagrams, sent.dropped[Dropped::TooLarge as usize]), (2, 1));
    drop(b);
    let mut outbox = Outbox::new();
    let refused = (0..100).any(|_| outbox.send(a.as_fd(), &[to(b"anybody?")], &mut true).dropped[Dropped::Refused as usize] == 1);
    assert!(refused, "the loopback tells at once that nobody listens");
}

#[test]
fn the_kernel_tells_what_it_had_no_room_for() {
    let (a, b) = pair();
    assert_eq!(receive_drops(b.as_fd()), Some(0));
    for _ in 0..10_000 {
        a.send(&[0; 1000]).unwrap();
    }
    assert!(receive_drops(b.as_fd()).unwrap() > 0);
}
