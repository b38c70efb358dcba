//! One end of a session with the bytes that are under way in it: records go through buffers that all connections of a thread share, and what
//! is kept for one alone is only what must be, so that an idle one costs its keys.

use std::cell::RefCell;
use std::fmt;
use std::io;

use rustls::CommonState;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic};

use crate::tls::hello::{self, Hello};

/// Plaintext of one record (RFC 8446 section 5.1).
const RECORD_BYTES_MAX: usize = 16 * 1024;
/// What a record may have besides its plaintext (section 5.2, and RFC 5246 section 6.2.3).
const RECORD_OVERHEAD_MAX: usize = 5 + 2048;
/// Records that are written at once.
const RECORDS_AT_ONCE: usize = 4;
/// The longest handshake message that rustls takes, with the record that follows.
const INCOMING_BYTES: usize = 96 * 1024;

thread_local! {
    /// Where records are received and opened.
    static INCOMING: RefCell<Box<[u8]>> = RefCell::new(vec![0; INCOMING_BYTES].into());
    /// Where records are made.
    static OUTGOING: RefCell<Outgoing> = const { RefCell::new(Outgoing { records: Vec::new(), joined: Vec::new() }) };
}

#[derive(Debug)]
struct Outgoing {
    records: Vec<u8>,
    /// Two pieces that become one record.
    joined: Vec<u8>,
}

/// Our end of a session: with a client or with an endpoint.
pub(in crate::shell) trait Session: Unpin + 'static {
    /// What rustls keeps for this end alone.
    type Data;

    /// The next thing to be done about these records.
    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// What is known of the session.
    fn common(&self) -> &CommonState;

    /// Whether the other end begins, and says whom it wants.
    fn is_asked(&self) -> bool;
}

impl Session for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.process_tls_records(records)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn is_asked(&self) -> bool {
        true
    }
}

impl Session for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.process_tls_records(records)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn is_asked(&self) -> bool {
        false
    }
}

/// Bytes of which the first ones were used up. Holds no memory when it is empty.
#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    from: usize,
}

impl Queue {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.from..]
    }

    fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn use_up(&mut self, count: usize) {
        self.from += count;
        if self.is_empty() {
            *self = Queue::default();
        }
    }
}

/// A session, and what of its bytes is neither here nor there.
pub(super) struct Link<C> {
    session: C,
    /// The beginning of a record of which the rest has not come.
    partial: Vec<u8>,
    /// Opened, and not yet asked for.
    plain: Queue,
    /// Made, and not yet taken by the socket.
    unsent: Queue,
    /// The peer said that no more comes.
    ended: bool,
    /// What is wrong with what the peer sent.
    failed: Option<rustls::Error>,
    /// Whom the other end wants.
    server_name: Option<Box<str>>,
}

impl<C> fmt::Debug for Link<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

impl<C: Session> Link<C> {
    pub(super) fn new(session: C) -> Link<C> {
        let mut link = Link {
            session,
            partial: Vec::new(),
            plain: Queue::default(),
            unsent: Queue::default(),
            ended: false,
            failed: None,
            server_name: None,
        };
        // What has to be said first, if that is ours to do.
        link.digest(&mut [], &mut []);
        link
    }

    pub(super) fn session(&self) -> &C {
        &self.session
    }

    pub(super) fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Whether [`Link::receive`] has something to tell without the socket.
    pub(super) fn has_news(&self) -> bool {
        !self.plain.is_empty() || self.ended || self.failed.is_some()
    }

    /// Plaintext that has come; 0: the peer ended the session in order. `read` reads from the socket.
    pub(super) fn receive(&mut self, room: &mut [u8], mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        loop {
            if !self.plain.is_empty() {
                let count = room.len().min(self.plain.rest().len());
                room[..count].copy_from_slice(&self.plain.rest()[..count]);
                self.plain.use_up(count);
                return Ok(count);
            }
            self.check()?;
            if self.ended {
                return Ok(0);
            }
            let filled = self.fill(room, &mut read)?;
            if filled > 0 {
                return Ok(filled);
            }
        }
    }

    /// Reads once and opens what has come whole; what does not fit into `room` is kept. Says how much of it was filled.
    pub(super) fn fill(&mut self, room: &mut [u8], mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        INCOMING.with_borrow_mut(|incoming| {
            let had = self.partial.len();
            // No more than there is room for, and what it has around it: what is opened has to be put somewhere.
            let wanted = room.len().max(RECORD_BYTES_MAX / 4) + RECORD_OVERHEAD_MAX;
            let end = incoming.len().min(had + wanted);
            // rustls refuses a message that would need more.
            let Some(space) = incoming.get_mut(had..end).filter(|space| !space.is_empty()) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            let count = read(space)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            incoming[..had].copy_from_slice(&self.partial);
            let records = &mut incoming[..had + count];
            if self.session.is_asked()
                && self.session.common().is_handshaking()
                && self.server_name.is_none()
                && let Hello::Named(name) = hello::read(records)
            {
                self.server_name = Some(name.to_ascii_lowercase().into());
            }
            let (used, filled) = self.digest(records, room);
            let left = &records[used..];
            if left.is_empty() {
                self.partial = Vec::new();
            } else {
                self.partial.clear();
                self.partial.extend_from_slice(left);
            }
            Ok(filled)
        })
    }

    /// Opens records, as far as they are whole, and makes those that answer them. Says how many bytes it used up, and how many it put into
    /// `room`.
    fn digest(&mut self, records: &mut [u8], room: &mut [u8]) -> (usize, usize) {
        let (mut used, mut filled) = (0, 0);
        loop {
            let UnbufferedStatus { mut discard, state } = self.session.process(&mut records[used..]);
            let mut is_done = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        discard += record.discard;
                        let fits = record.payload.len().min(room.len() - filled);
                        room[filled..filled + fits].copy_from_slice(&record.payload[..fits]);
                        filled += fits;
                        self.plain.push(&record.payload[fits..]);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.unsent),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                // More has to come, or nothing more will.
                Ok(_) => is_done = true,
                Err(error) => {
                    self.fail(error);
                    is_done = true;
                }
            }
            used += discard;
            if is_done {
                return (used, filled);
            }
        }
    }

    /// The session is over; the peer is told why. rustls must not see another byte of it.
    fn fail(&mut self, error: rustls::Error) {
        self.failed = Some(error);
        while self.session.common().wants_write() {
            let Ok(ConnectionState::EncodeTlsData(alert)) = self.session.process(&mut []).state else { return };
            encode(alert, &mut self.unsent);
        }
    }

    fn check(&self) -> io::Result<()> {
        self.failed.as_ref().map_or(Ok(()), |error| Err(io::Error::new(io::ErrorKind::InvalidData, error.clone())))
    }

    /// What is wrong, or a session that is agreed on: whether there is one.
    pub(super) fn is_agreed(&self) -> io::Result<bool> {
        self.check()?;
        Ok(!self.session.common().is_handshaking())
    }

    /// Hands to the socket what it takes of what was made before. Whether that was all.
    pub(super) fn push(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<bool> {
        while !self.unsent.is_empty() {
            match write(self.unsent.rest()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.unsent.use_up(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Takes plaintext, both pieces in as few records as can be, and hands them to the socket; what that does not take is kept and goes first
    /// the next time. Says how many bytes of plaintext were taken.
    pub(super) fn send(&mut self, first: &[u8], second: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
        if !self.push(&mut write)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        OUTGOING.with_borrow_mut(|Outgoing { records, joined }| {
            joined.clear();
            let (first, second) = match (first.is_empty(), second.is_empty()) {
                (true, _) => (second, first),
                (_, true) => (first, second),
                _ => {
                    let head = first.len().min(RECORD_BYTES_MAX);
                    let tail = second.len().min(RECORD_BYTES_MAX - head);
                    joined.extend_from_slice(&first[..head]);
                    joined.extend_from_slice(&second[..tail]);
                    (&joined[..], if head == first.len() { &second[tail..] } else { &[][..] })
                }
            };
            let first = &first[..first.len().min(RECORDS_AT_ONCE * RECORD_BYTES_MAX)];
            let second = &second[..second.len().min(RECORDS_AT_ONCE * RECORD_BYTES_MAX - first.len())];
            records.resize(RECORDS_AT_ONCE * (RECORD_BYTES_MAX + RECORD_OVERHEAD_MAX), 0);
            let made = self.write_records(|traffic| {
                let mut made = 0;
                for piece in [first, second] {
                    made += make(records, made, |room| traffic.encrypt(piece, room))?;
                }
                Ok(made)
            })?;
            self.hand_over(&records[..made], &mut write)?;
            Ok(first.len() + second.len())
        })
    }

    /// Tells the peer that no more comes.
    pub(super) fn end(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        let mut alert = vec![0; 64];
        let made = self.write_records(|traffic| make(&mut alert, 0, |room| traffic.queue_close_notify(room)))?;
        self.push(&mut write)?;
        self.hand_over(&alert[..made], &mut write)
    }

    /// Records that were just made go to the socket, unless older ones wait.
    fn hand_over(&mut self, mut records: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        while self.unsent.is_empty() && !records.is_empty() {
            match write(records) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => records = &records[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.unsent.push(records);
        Ok(())
    }

    /// Lets `make` make records, once the session can.
    fn write_records(&mut self, mut make: impl FnMut(&mut WriteTraffic<'_, C::Data>) -> io::Result<usize>) -> io::Result<usize> {
        self.check()?;
        loop {
            let UnbufferedStatus { discard, state } = self.session.process(&mut self.partial);
            let made = match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => Some(make(&mut traffic)?),
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(data, &mut self.unsent);
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.ended = true;
                    None
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        self.plain.push(record.payload);
                    }
                    None
                }
                Ok(_) => return Err(io::ErrorKind::NotConnected.into()),
                Err(error) => {
                    self.fail(error);
                    return self.check().map(|()| 0);
                }
            };
            self.partial.drain(..discard);
            if let Some(made) = made {
                return Ok(made);
            }
        }
    }
}

/// A record that rustls made goes behind those that wait.
fn encode<D>(mut data: EncodeTlsData<'_, D>, unsent: &mut Queue) {
    let end = unsent.bytes.len();
    // Told how much room it needs, it does not fail again.
    if let Err(EncodeError::InsufficientSize(needs)) = data.encode(&mut []) {
        unsent.bytes.resize(end + needs.required_size, 0);
        let made = data.encode(&mut unsent.bytes[end..]).unwrap_or_default();
        unsent.bytes.truncate(end + made);
    }
}

/// Has records made at a place of a buffer, which grows when there is too little room.
fn make(records: &mut Vec<u8>, at: usize, mut encrypt: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>) -> io::Result<usize> {
    loop {
        match encrypt(&mut records[at..]) {
            Ok(made) => return Ok(made),
            Err(EncryptError::InsufficientSize(needs)) if needs.required_size > records.len() - at => {
                records.resize(at + needs.required_size, 0);
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use proptest::test_runner::{Config, TestRunner};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore, ServerConfig};

    use super::*;

    /// One direction of a connection that takes and gives a few bytes at a time.
    #[derive(Default)]
    struct Pipe {
        bytes: VecDeque<u8>,
        closed: bool,
    }

    /// How much fits between the two ends.
    const PIPE_BYTES_MAX: usize = 5_000;

    impl Pipe {
        fn write(&mut self, bytes: &[u8], most: usize) -> io::Result<usize> {
            let count = bytes.len().min(most).min(PIPE_BYTES_MAX - self.bytes.len());
            self.bytes.extend(&bytes[..count]);
            if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
        }

        fn read(&mut self, room: &mut [u8], most: usize) -> io::Result<usize> {
            let count = room.len().min(most).min(self.bytes.len());
            for (space, byte) in room.iter_mut().zip(self.bytes.drain(..count)) {
                *space = byte;
            }
            if count == 0 && !self.closed { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
        }
    }

    fn ends(version: &'static rustls::SupportedProtocolVersion) -> (Link<UnbufferedClientConnection>, Link<UnbufferedServerConnection>) {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version]).unwrap();
        let client = Arc::new(client.with_root_certificates(roots).with_no_client_auth());
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let server = Arc::new(server.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap());
        let name = ServerName::try_from("A.test").unwrap();
        (Link::new(UnbufferedClientConnection::new(client, name).unwrap()), Link::new(UnbufferedServerConnection::new(server).unwrap()))
    }

    fn blocks<T>(result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// One turn of one end: what waits goes out, plaintext comes in, more is sent. Whether anything moved.
    fn turn<C: Session>(link: &mut Link<C>, to: &mut Pipe, from: &mut Pipe, most: usize, unsent: &mut &[u8], got: &mut Vec<u8>) -> bool {
        let before = (to.bytes.len(), from.bytes.len(), unsent.len(), got.len());
        let mut room = vec![0; most];
        link.push(|records| to.write(records, most)).unwrap();
        if !link.is_agreed().unwrap() {
            blocks(link.fill(&mut [], |space| from.read(space, most)));
        } else {
            if let Some(count) = blocks(link.receive(&mut room, |space| from.read(space, most))) {
                got.extend(&room[..count]);
            }
            if !unsent.is_empty() {
                let (first, second) = unsent.split_at(unsent.len().min(most / 2));
                if let Some(count) = blocks(link.send(first, second, |records| to.write(records, most))) {
                    *unsent = &unsent[count..];
                }
            }
        }
        before != (to.bytes.len(), from.bytes.len(), unsent.len(), got.len())
    }

    #[test]
    fn bytes_come_through_whole_in_any_pieces_and_leave_no_memory_behind() {
        let mut runner = TestRunner::new(Config { cases: 24, ..Config::default() });
        let sizes = (1_usize..40_000, 0_usize..90_000, 0_usize..90_000, proptest::bool::ANY);
        runner
            .run(&sizes, |(most, up, down, old)| {
                let (mut client, mut server) = ends(if old { &rustls::version::TLS12 } else { &rustls::version::TLS13 });
                let (mut there, mut back) = (Pipe::default(), Pipe::default());
                let up: Vec<u8> = (0..up).map(|at| (at % 251) as u8).collect();
                let down: Vec<u8> = (0..down).map(|at| (at % 241) as u8).collect();
                let (mut up_left, mut down_left) = (&up[..], &down[..]);
                let (mut up_got, mut down_got) = (Vec::new(), Vec::new());
                loop {
                    let a = turn(&mut client, &mut there, &mut back, most, &mut up_left, &mut down_got);
                    let b = turn(&mut server, &mut back, &mut there, most, &mut down_left, &mut up_got);
                    if !a && !b {
                        break;
                    }
                }
                assert!(up_got == up && down_got == down, "{} of {}, {} of {}", up_got.len(), up.len(), down_got.len(), down.len());
                assert_eq!(server.server_name(), Some("a.test"));
                for capacity in [client.partial.capacity(), client.plain.bytes.capacity(), client.unsent.bytes.capacity()] {
                    assert_eq!(capacity, 0);
                }
                for capacity in [server.partial.capacity(), server.plain.bytes.capacity(), server.unsent.bytes.capacity()] {
                    assert_eq!(capacity, 0);
                }
                client.end(|records| there.write(records, most.max(64))).unwrap();
                while !client.push(|records| there.write(records, most)).unwrap() {}
                let mut room = [0; 10];
                while server.receive(&mut room, |space| there.read(space, most)).unwrap_or(1) > 0 {}
                assert!(server.has_news(), "its end is news for as long as it is asked");
                assert_eq!(server.receive(&mut room, |_| panic!("it is over")).unwrap(), 0);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn what_is_no_record_is_answered_with_an_alert_and_stays_an_error() {
        let (_, mut server) = ends(&rustls::version::TLS13);
        let mut garbage: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
        server.fill(&mut [], |space| io::Read::read(&mut garbage, space)).unwrap();
        for _ in 0..2 {
            assert_eq!(server.is_agreed().unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        let mut alert = Vec::new();
        assert!(
            server
                .push(|records| {
                    alert.extend_from_slice(records);
                    Ok(records.len())
                })
                .unwrap()
        );
        assert_eq!(alert.first(), Some(&21), "an alert: {alert:?}");
    }

    #[test]
    fn an_end_that_nobody_announced_is_told_from_one_in_order() {
        let (mut client, _) = ends(&rustls::version::TLS13);
        assert_eq!(client.fill(&mut [], |_| Ok(0)).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
